"""A gateway as a table of what it does, with its own reading and writing of the protocols; and a bench.

It is for what no real gateway does on request: to restart, to lie, to refuse in every way there is.
What real ones do is seen in tests/lab, with miniupnpd.
"""

from __future__ import annotations

import random
import re
import socket
import struct
from dataclasses import dataclass, field

from peerway.core.machine import (
    CloseSocket,
    CloseStream,
    Datagram,
    InterfaceAddress,
    OpenSocket,
    OpenStream,
    StreamWrite,
    Transmit,
    UdpAddress,
)
from peerway.core.portmap.events import PortMappingEvent, PortMappingsGivenBack, RememberLeases
from peerway.core.portmap.mapper import MappedAddressesChanged, PortMapper

GATEWAY_IP = "192.168.1.1"
OUR_IP = "192.168.1.2"
EXTERNAL_IP = "203.1.113.7"
OUR_PORT = 41641
SHARED = UdpAddress("0.0.0.0", OUR_PORT)
ETHERNET = InterfaceAddress("eth0", OUR_IP, 24, 100, GATEWAY_IP)
HTTP_PORT = 5000
MAPPING_SERVER = UdpAddress(GATEWAY_IP, 5351)


@dataclass
class Row:
    """A mapping of the gateway's."""

    client: str
    port: int
    expires: float  # 0: never
    nonce: bytes = b""


@dataclass
class TableGateway:
    """`speaks` are its protocols; `pmp`, `pcp` and `faults` are results it gives instead of success."""

    speaks: tuple[str, ...] = ("pcp", "pmp", "upnp")
    external_ip: str = EXTERNAL_IP
    started: float = 0.0
    rows: dict[int, Row] = field(default_factory=dict)
    reserved: frozenset[int] = frozenset()  # ports it gives to nobody
    longest: int = 3600
    pmp_address_result: int = 0
    pmp_map_result: int = 0
    pcp_result: int = 0
    pcp_error_lifetime: int = 0
    pcp_wrong_nonce: bool = False
    mute: bool = False
    igd: int = 1
    faults: dict[str, list[int]] = field(default_factory=dict)  # action: errors, one a call
    description: bytes | None = None
    location: str = f"http://{GATEWAY_IP}:{HTTP_PORT}/root.xml"
    calls: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def restart(self, now: float) -> None:
        """As after a power cut: nothing is remembered."""
        self.rows.clear()
        self.started = now

    def grant(
        self, wanted: int, client: str, port: int, lifetime: float, now: float, nonce: bytes = b""
    ) -> int:
        """Map at the port wanted or the next that is free; whoever has a mapping already keeps it."""
        self.expire(now)
        mine = [ext for ext, row in self.rows.items() if (row.client, row.port) == (client, port)]
        if mine and wanted not in mine:
            wanted = mine[0]
        while wanted in self.reserved or (wanted in self.rows and wanted not in mine):
            wanted += 1
        self.rows[wanted] = Row(client, port, now + lifetime if lifetime else 0.0, nonce)
        return wanted

    def expire(self, now: float) -> None:
        self.rows = {ext: row for ext, row in self.rows.items() if not row.expires or row.expires > now}

    # --- NAT-PMP and PCP

    def answer(self, data: bytes, client: str, now: float) -> bytes | None:
        """What it says to a datagram on port 5351."""
        if self.mute:
            return None
        epoch = int(now - self.started)
        if data[0] == 0:
            if "pmp" not in self.speaks:
                return struct.pack(">BBBBII12x", 2, 128, 0, 1, 0, epoch) if "pcp" in self.speaks else None
            return self._pmp(data, client, epoch, now)
        if "pcp" not in self.speaks:
            return struct.pack(">BBHI", 0, 128 + data[1], 1, epoch) if "pmp" in self.speaks else None
        return self._pcp(data, client, epoch, now)

    def _pmp(self, data: bytes, client: str, epoch: int, now: float) -> bytes:
        if data[1] == 0:
            self.asked.append("pmp address")
            ip = socket.inet_aton("0.0.0.0" if self.pmp_address_result else self.external_ip)
            return struct.pack(">BBHI", 0, 128, self.pmp_address_result, epoch) + ip
        internal, external, lifetime = struct.unpack_from(">HHI", data, 4)
        self.asked.append(f"pmp {'map' if lifetime else 'unmap'} {internal}->{external}")
        if self.pmp_map_result:
            return struct.pack(">BBHI", 0, 129, self.pmp_map_result, epoch) + data[4:]
        if not lifetime:
            self.rows.pop(external or internal, None)  # as miniupnpd does
            return struct.pack(">BBHIHHI", 0, 129, 0, epoch, internal, 0, 0)
        lifetime = min(lifetime, self.longest)
        granted = self.grant(external, client, internal, lifetime, now)
        return struct.pack(">BBHIHHI", 0, 129, 0, epoch, internal, granted, lifetime)

    def _pcp(self, data: bytes, client: str, epoch: int, now: float) -> bytes:
        lifetime = struct.unpack_from(">I", data, 4)[0]
        if data[1] == 0:
            self.asked.append("pcp announce")
            return struct.pack(">BBBBII12x", 2, 128, 0, 0, 0, epoch)
        nonce, protocol, internal, external = struct.unpack_from(">12sB3xHH", data, 24)
        self.asked.append(f"pcp {'map' if lifetime else 'unmap'} {internal}->{external}")
        if self.pcp_wrong_nonce:
            nonce = nonce[::-1]
        head = struct.pack(">BBBBII12x", 2, 129, 0, self.pcp_result, self.pcp_error_lifetime, epoch)
        if self.pcp_result:
            return head + struct.pack(">12s", nonce) + data[36:]
        if lifetime:
            lifetime = min(lifetime, self.longest)
            external = self.grant(external, client, internal, lifetime, now, nonce)
        else:
            self.rows = {ext: row for ext, row in self.rows.items() if row.nonce != nonce}
        head = struct.pack(">BBBBII12x", 2, 129, 0, 0, lifetime, epoch)
        mapped = b"\0" * 10 + b"\xff\xff" + socket.inet_aton(self.external_ip)
        return head + struct.pack(">12sB3xHH", nonce, protocol, internal, external) + mapped

    # --- UPnP

    def search_answer(self) -> bytes:
        """What it says to an M-SEARCH."""
        return (
            "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
            f"LOCATION: {self.location}\r\nSERVER: Table/1.0 UPnP/1.1\r\n\r\n"
        ).encode()

    def http(self, request: bytes, now: float) -> bytes:
        """What it says to an HTTP request."""
        head, _, body = request.partition(b"\r\n\r\n")
        if head.startswith(b"GET"):
            self.calls.append("GET")
            return _http(200, self.description if self.description is not None else self._root())
        action = re.search(rb'"urn:[^#"]*#(\w+)"', head).group(1).decode()  # type: ignore[union-attr]
        arguments = dict(re.findall(r"<(New\w+)>([^<]*)</", body.decode()))
        self.calls.append(action)
        if errors := self.faults.get(action):
            return _http(500, _fault(errors.pop(0)))
        outcome = self._act(action, arguments, now)
        if isinstance(outcome, int):
            return _http(500, _fault(outcome))
        inner = "".join(f"<{name}>{value}</{name}>" for name, value in outcome.items())
        return _http(200, f"<e><{action}Response>{inner}</{action}Response></e>".encode())

    def _root(self) -> bytes:
        kind = f"urn:schemas-upnp-org:service:WANIPConnection:{self.igd}"
        return (
            "<root><device><modelName>Table</modelName><serviceList><service>"
            f"<serviceType>{kind}</serviceType><controlURL>/ctl</controlURL>"
            "</service></serviceList></device></root>"
        ).encode()

    def _act(self, action: str, given: dict[str, str], now: float) -> dict[str, str] | int:
        self.expire(now)
        port = int(given.get("NewExternalPort", "0"))
        if action == "GetStatusInfo":
            return {"NewConnectionStatus": "Connected"}
        if action == "GetExternalIPAddress":
            return {"NewExternalIPAddress": self.external_ip}
        if action in ("AddPortMapping", "AddAnyPortMapping"):
            return self._add(action, port, given, now)
        row = self.rows.get(port)
        if row is None:
            return 714
        if action == "DeletePortMapping":
            del self.rows[port]
            return {}
        left = int(row.expires - now) if row.expires else 0
        return {
            "NewInternalClient": row.client,
            "NewInternalPort": str(row.port),
            "NewEnabled": "1",
            "NewLeaseDuration": str(left),
        }

    def _add(self, action: str, port: int, given: dict[str, str], now: float) -> dict[str, str] | int:
        client, internal = given["NewInternalClient"], int(given["NewInternalPort"])
        lease = min(int(given["NewLeaseDuration"]), self.longest)
        if action == "AddAnyPortMapping":
            return {"NewReservedPort": str(self.grant(port, client, internal, lease, now))}
        row = self.rows.get(port)
        if port in self.reserved or (row is not None and row.client != client):
            return 718
        self.rows[port] = Row(client, internal, now + lease if lease else 0.0)
        return {}


def _http(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(body)) + body


def _fault(number: int) -> bytes:
    return f"<e><UPnPError><errorCode>{number}</errorCode></UPnPError></e>".encode()


class Bench:
    """A `PortMapper` on a network with one gateway, in virtual time."""

    def __init__(self, gateway: TableGateway | None = None, leftovers=(), seed: int = 1) -> None:
        self.gateway = gateway or TableGateway()
        self.mapper = PortMapper(random.Random(seed))
        self.now = 1000.0
        self.gateway.started = 0.0
        self.events: list[PortMappingEvent] = []
        self.addresses: tuple[UdpAddress, ...] = ()
        self.remembered: tuple = tuple(leftovers)
        self.given_back = False
        self.sockets: list[UdpAddress] = []
        self.announcements: UdpAddress | None = None
        self.open_streams: dict[str, int] = {}
        self.stun: list[Transmit] = []
        self.mapper.remember(tuple(leftovers), self.now)

    def start(self, *interfaces: InterfaceAddress) -> Bench:
        """The network is there."""
        self.mapper.set_sockets((SHARED,), self.now)
        self.mapper.interfaces_changed(interfaces or (ETHERNET,), self.now)
        self.drain()
        return self

    def run(self, seconds: float) -> Bench:
        """Let time pass."""
        end = self.now + seconds
        while (deadline := self.mapper.poll_deadline()) is not None and deadline.at <= end:
            assert deadline.at >= self.now
            self.now = deadline.at
            self.mapper.handle_timeout(self.now)
            self.drain()
            again = self.mapper.poll_deadline()
            assert again is None or again.at > self.now, again
        self.now = end
        return self

    def drain(self) -> None:
        """Deliver and answer everything until nothing more is said."""
        busy = True
        while busy:
            busy = False
            while (output := self.mapper.poll_transmit()) is not None:
                busy = True
                self._send(output)
            while (event := self.mapper.poll_event()) is not None:
                busy = True
                self._event(event)

    def _send(self, output) -> None:
        if isinstance(output, StreamWrite):
            answer = self.gateway.http(output.data, self.now)
            self.mapper.stream_data(output.stream, answer, self.now)
            self.mapper.stream_closed(output.stream, "the gateway closed the connection", self.now)
            return
        assert isinstance(output.remote, UdpAddress)
        if output.local == SHARED:
            self.stun.append(output)
        elif output.remote == MAPPING_SERVER:
            self.deliver(self.gateway.answer(output.segments[0], OUR_IP, self.now), output.local)
        elif output.remote.port == 1900 and "upnp" in self.gateway.speaks and not self.gateway.mute:
            self.deliver(self.gateway.search_answer(), output.local, UdpAddress(GATEWAY_IP, 1900))

    def deliver(self, data, local, remote=MAPPING_SERVER) -> None:
        """A datagram arrives at a socket."""
        if data is not None:
            self.mapper.receive(Datagram(data, remote, local), self.now)

    def _event(self, event) -> None:
        if isinstance(event, OpenSocket):
            local = UdpAddress(event.ip, event.port or 50_000 + len(self.sockets))
            self.sockets.append(local)
            if event.shared:
                self.announcements = local
            self.mapper.socket_opened(local, self.now)
        elif isinstance(event, CloseSocket):
            self.sockets.remove(event.local)
        elif isinstance(event, OpenStream):
            self.open_streams[event.stream] = 0
            if self.gateway.mute:
                self.mapper.stream_closed(event.stream, "no route to host", self.now)
            else:
                self.mapper.stream_opened(event.stream, self.now)
        elif isinstance(event, CloseStream):
            self.open_streams.pop(event.stream, None)
        elif isinstance(event, RememberLeases):
            self.remembered = event.leases
        elif isinstance(event, MappedAddressesChanged):
            self.addresses = event.addresses
        elif isinstance(event, PortMappingsGivenBack):
            self.given_back = True
        else:
            assert isinstance(event, PortMappingEvent), event
            self.events.append(event)

    def announce(self, data: bytes, remote: str = GATEWAY_IP) -> None:
        """The gateway, or somebody, says something to everybody."""
        self.deliver(data, self.announcements, UdpAddress(remote, 5351))
        self.drain()

    def leave(self) -> Bench:
        """The node closes."""
        self.mapper.leave(self.now)
        self.drain()
        return self

    @property
    def mapping(self):
        """The one mapping, None without."""
        return self.mapper.mappings[0] if self.mapper.mappings else None

    @property
    def report(self):
        """Of the one gateway."""
        return self.mapper.reports[0]

    def told(self) -> list[str]:
        """The names of the events so far; they are forgotten."""
        names = [type(event).__name__ for event in self.events]
        self.events.clear()
        return names
