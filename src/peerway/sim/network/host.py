"""A host: interfaces, UDP sockets, byte streams, and the machines that run on it.

Several machines may run on one host, each with its own sockets and streams. A socket is
bound to one address, or to `0.0.0.0` or `::` and so to all of a family; `network.interfaces` says
where what it sends leaves. A host that is asleep hears nothing and does nothing, while time
goes on; its timers fire late, when it wakes.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from peerway.core.machine import Datagram, Event, InterfaceAddress, Machine, Transmit, UdpAddress
from peerway.sim.network import connect
from peerway.sim.network.driver import ContractError, Driver
from peerway.sim.network.interfaces import WILDCARDS, Attachment, Exit, Interfaces
from peerway.sim.network.link import Link, LinkQuality, Packet, lose
from peerway.sim.network.tree import Router
from peerway.sim.network.world import World

EPHEMERAL_PORTS = (49152, 65536)
DEFAULT_TTL = 64
COALESCED_LIMIT = 64  # datagrams handed over at once, as Linux does
LAN_QUALITY = LinkQuality(delay_s=0.001)


@dataclass(slots=True)
class _Socket:
    """`interface`: what all that is sent leaves by, else ""."""

    bound: UdpAddress
    driver: Driver | None = None
    interface: str = ""


class Host:
    """A host called `name`.

    `coalesce`: datagrams that arrive together are handed over together. `heeds_too_big`: a packet
    larger than a router has said will do is not sent (Linux: IP_PMTUDISC_DO); peerway's own sockets
    do not heed what strangers can forge (IP_PMTUDISC_PROBE).
    """

    is_end = True

    def __init__(self, world: World, name: str, coalesce: bool = True, heeds_too_big: bool = False) -> None:
        self.name = name
        self.world = world
        self.coalesce = coalesce
        self.heeds_too_big = heeds_too_big
        self.packets_sent = 0  # by UDP
        self.bytes_sent = 0  # in them
        self.is_asleep = False
        self._interfaces = Interfaces()
        self._path_mtus: dict[str, int] = {}
        self._sockets: dict[UdpAddress, _Socket] = {}
        self._listeners: dict[int, Driver] = {}
        self._drivers: list[Driver] = []
        self._inbox: list[tuple[_Socket, Packet]] = []

    # --- interfaces ----------------------------------------------------------------

    @property
    def addresses(self) -> tuple[InterfaceAddress, ...]:
        """The addresses of all interfaces, in the order they were attached."""
        return tuple(attachment.address for attachment in self._interfaces)

    @property
    def links(self) -> tuple[Link, ...]:
        """The links of all interfaces that something is plugged into, in the order they were attached."""
        return tuple(dict.fromkeys(a.link for a in self._interfaces if a.link is not None))

    def link(self, interface: str = "eth0") -> Link:
        """The link of an interface; `KeyError` when there is no such, or nothing plugged in."""
        for attachment in self._interfaces:
            if attachment.link is not None and attachment.address.interface == interface:
                return attachment.link
        raise KeyError(f"{self.name} has no interface {interface} that something is plugged into")

    def attach(
        self,
        router: Router,
        *addresses: str,
        interface: str = "eth0",
        quality: LinkQuality = LAN_QUALITY,
        downward: LinkQuality | None = None,
        metric: int | None = 0,
        gateway: str = "",
    ) -> Link:
        """A new interface with `addresses` ("10.0.0.2/24"), on a link to `router`.

        `quality` and `downward`: see `Link`. `metric` is that of the default route by it, None
        for no such route; `gateway` is who may be asked there for a port.
        """
        link = Link(self.world, self, router, quality, downward)
        for address in _parse(addresses, interface, metric, gateway):
            self._interfaces.add(Attachment(address, link))
            router.add_route(address.ip, link)
        self._tell_interfaces()
        return link

    def attach_unplugged(self, *addresses: str, interface: str) -> None:
        """A new interface with `addresses` that nothing is plugged into, as container engines leave them."""
        for address in _parse(addresses, interface, None):
            self._interfaces.add(Attachment(address, None))
        self._tell_interfaces()

    def detach(self, interface: str) -> None:
        """The interface is gone, with its addresses and link."""
        for attachment in [a for a in self._interfaces if a.address.interface == interface]:
            self._interfaces.remove(attachment)
            if attachment.link is not None:
                attachment.link.up = False
                attachment.link.upper.remove_route(attachment.address.ip, attachment.link)
        self._tell_interfaces()

    def _tell_interfaces(self) -> None:
        for driver in self._drivers:
            driver.tell("interfaces_changed", self.addresses)

    # --- sleep ---------------------------------------------------------------------

    def sleep(self) -> None:
        """From now on nothing happens here: what is sent to us is lost, and no timer fires."""
        self.is_asleep = True
        self.world.log(self.name, "sleep")

    def wake(self) -> None:
        """Go on, late."""
        self.is_asleep = False
        self.world.log(self.name, "wake")
        for driver in tuple(self._drivers):
            driver.wake()

    # --- machines ------------------------------------------------------------------

    def run(
        self,
        machine: Machine,
        sockets: Iterable[UdpAddress] | None = None,
        listen: Iterable[int] = (),
        on_event: Callable[[Event, float], None] | None = None,
    ) -> Driver:
        """Run `machine` with `sockets` (None: all that are nobody's), and streams to the ports `listen`."""
        driver = Driver(self.world, self, machine, on_event)
        self._drivers.append(driver)
        free = [bound for bound, socket in self._sockets.items() if socket.driver is None]
        for bound in free if sockets is None else sockets:
            self._sockets[bound].driver = driver
        for port in listen:
            self._listeners[port] = driver
        driver.tell("interfaces_changed", self.addresses)
        driver.call(lambda now: None)
        return driver

    def stop(self, driver: Driver) -> None:
        """The machine's program is killed: its sockets are gone and streams closed, as the system does it."""
        driver.halt()
        self._drivers.remove(driver)
        for bound in [bound for bound, socket in self._sockets.items() if socket.driver is driver]:
            del self._sockets[bound]
        self._listeners = {port: other for port, other in self._listeners.items() if other is not driver}

    # --- UDP -----------------------------------------------------------------------

    def open_udp(self, port: int = 0, ip: str = "0.0.0.0") -> UdpAddress:
        """A new socket, for the next machine that `run` is given; `port` 0 is any free one.

        A port that is bound at no address in particular is bound at each.
        """
        ports = [port] if port else range(*EPHEMERAL_PORTS)
        taken = {bound.port for bound in self._sockets if _overlap(bound.ip, ip)}
        bound = next((UdpAddress(ip, p) for p in ports if p not in taken), None)
        if bound is None:
            raise OSError(f"{self.name}: UDP port {port or 'any'} of {ip} is in use")
        self._sockets[bound] = _Socket(bound)
        return bound

    def open_socket(self, ip: str, driver: Driver, interface: str = "") -> UdpAddress:
        """A new socket at `ip`, one of ours or all of a family, for the machine of `driver`.

        With `interface` all that it sends leaves there. OSError where there is no such address.
        """
        ours = {a.address.ip: a.address.interface for a in self._interfaces}
        families = {WILDCARDS[":" in own] for own in ours}
        if ip not in ours and ip not in families:
            raise OSError(f"{self.name} has no address {ip}")
        if interface and interface not in ours.values():
            raise OSError(f"{self.name} has no interface {interface}")
        bound = self.open_udp(ip=ip)
        self._sockets[bound] = _Socket(bound, driver, interface)
        return bound

    def close_udp(self, bound: UdpAddress) -> None:
        """Close the socket; harmless when it is not open."""
        self._sockets.pop(bound, None)

    def send(self, transmit: Transmit, driver: Driver) -> str:
        """Send every segment as a packet of its own; the error where that cannot be done, else ""."""
        remote = transmit.remote
        if not isinstance(remote, UdpAddress):
            raise ContractError(f"{self.name}: a transmit to {remote} reached the driver")
        sizes = [len(segment) for segment in transmit.segments]
        if len(set(sizes[:-1])) > 1 or sizes[-1:] > sizes[:1]:
            raise ContractError(f"{self.name}: segments of unequal size to {remote}: {sizes}")
        local = transmit.local or self._default_socket(remote.ip, driver)
        socket = self._sockets.get(local) if local is not None else None
        if socket is None or socket.driver is not driver:
            return "no such socket"
        way = self._interfaces.exit(remote.ip, socket.bound.ip, socket.interface)
        if way is None:
            return "network is unreachable"
        source = UdpAddress(way.source_ip, socket.bound.port)
        error = ""
        for segment in transmit.segments:
            packet = Packet(source, remote, segment, transmit.ttl or DEFAULT_TTL, self.name)
            error = self._emit(packet, way, "send") or error
        return error

    def inject(
        self, source: UdpAddress, destination: UdpAddress, data: bytes, ttl: int = DEFAULT_TTL
    ) -> bool:
        """Send a packet from any `source`, ours or not, that leaves from here; whether a link leads there."""
        way = self._interfaces.exit(destination.ip)
        if way is None:
            return False
        packet = Packet(source, destination, data, ttl, self.name, forged=not self._interfaces.has(source.ip))
        return not self._emit(packet, way, "inject")

    def _emit(self, packet: Packet, way: Exit, verb: str) -> str:
        """The error that the system reports, or ""."""
        ip = packet.destination.ip
        if packet.size > min(self._path_mtus.get(ip, packet.size), self._mtu(way)):
            return "message too long"
        self.packets_sent += 1
        self.bytes_sent += len(packet.data)
        if self.world.is_traced:
            self.world.log(self.name, f"{verb} {packet}")
        if way.is_own:
            self.world.after(0.0, self.receive, packet, None)
        elif way.link is not None and way.leads_to(ip):
            way.link.carry(packet, self)
        else:
            lose(self.world, packet, "nobody there", self.name)
        return ""

    def _mtu(self, way: Exit) -> float:
        mtu = way.link.quality.mtu if way.link is not None else None
        return math.inf if mtu is None else mtu

    def _default_socket(self, ip: str, driver: Driver) -> UdpAddress | None:
        return next(
            (
                bound
                for bound, socket in self._sockets.items()
                if socket.driver is driver and (":" in bound.ip) is (":" in ip)
            ),
            None,
        )

    def receive(self, packet: Packet, link: Link | None) -> None:
        """A packet came by `link`, or from ourselves."""
        if self.is_asleep:
            lose(self.world, packet, "asleep", self.name)
            return
        if packet.too_big:
            self._told_too_big(packet)
            return
        ip, port = packet.destination.ip, packet.destination.port
        socket = self._sockets.get(packet.destination) or self._sockets.get(
            UdpAddress("::" if ":" in ip else "0.0.0.0", port)
        )
        if socket is None or socket.driver is None:
            lose(self.world, packet, "port closed", self.name)
            return
        if self.world.is_traced:
            self.world.log(self.name, f"receive {packet}")
        if not self._inbox:
            self.world.after(0.0, self._hand_over)
        self._inbox.append((socket, packet))

    def _told_too_big(self, error: Packet) -> None:
        self.world.log(self.name, f"receive {error}")
        if self.heeds_too_big:
            self._path_mtus[error.source.ip] = error.too_big

    def _hand_over(self) -> None:
        inbox, self._inbox = self._inbox, []
        start = 0
        while start < len(inbox):
            end = start + self._run_length(inbox, start)
            socket, first = inbox[start]
            data = b"".join(packet.data for _, packet in inbox[start:end])
            segment_size = len(first.data) if end - start > 1 else 0
            if socket.driver is not None:
                socket.driver.tell("receive", Datagram(data, first.source, socket.bound, segment_size))
            start = end

    def _run_length(self, inbox: list[tuple[_Socket, Packet]], start: int) -> int:
        """How many of the packets from `start` on make one datagram: one flow, one size, the last shorter."""
        socket, first = inbox[start]
        size = len(first.data)
        length = 1
        if not self.coalesce or not size:
            return length
        for other_socket, packet in inbox[start + 1 : start + COALESCED_LIMIT]:
            same_flow = other_socket is socket and packet.source == first.source
            if not same_flow or not 0 < len(packet.data) <= size:
                break
            length += 1
            if len(packet.data) < size:
                break
        return length

    # --- byte streams --------------------------------------------------------------

    def open_stream(self, stream: str, url: str, driver: Driver) -> None:
        """Look up the host of `url`, connect, and tell the machine `stream_opened` or `stream_closed`."""
        connect.open_stream(self.world, self._interfaces, stream, url, driver)

    def listener(self, port: int) -> Driver | None:
        """Whose streams those to `port` are."""
        return self._listeners.get(port)


def _overlap(one: str, other: str) -> bool:
    """Whether two sockets that are bound to these addresses would hear the same."""
    same_family = (":" in one) is (":" in other)
    return one == other or (same_family and (one in WILDCARDS or other in WILDCARDS))


def _parse(
    addresses: Iterable[str], interface: str, metric: int | None, gateway: str = ""
) -> Iterator[InterfaceAddress]:
    for text in addresses:
        parsed = ipaddress.ip_interface(text)
        next_hop = gateway if parsed.version == 4 else ""
        yield InterfaceAddress(interface, str(parsed.ip), parsed.network.prefixlen, metric, next_hop)
