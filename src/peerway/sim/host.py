"""A host: interfaces, UDP sockets, byte streams, and the machines that run on it.

Several machines may run on one host, each with its own sockets and streams. A socket is
bound to one address, or to `0.0.0.0` or `::` and so to all of a family; then what it sends
leaves by the interface whose network the destination is on, else by the first.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from peerway.core.machine import Datagram, Event, InterfaceAddress, Machine, Transmit, UdpAddress
from peerway.core.relay.url import RelayUrl
from peerway.sim.driver import RESOLVE_S, ContractError, Driver
from peerway.sim.network import (
    Link,
    LinkQuality,
    Packet,
    Router,
)
from peerway.sim.route import StreamRoute, find_route
from peerway.sim.stream import BROKEN_AFTER_S, stream_pair
from peerway.sim.world import World

EPHEMERAL_PORTS = (49152, 65536)
DEFAULT_TTL = 64
COALESCED_LIMIT = 64  # datagrams handed over at once, as Linux does
LAN_QUALITY = LinkQuality(delay_s=0.001)
WILDCARDS = ("0.0.0.0", "::")


@dataclass(slots=True)
class _Socket:
    bound: UdpAddress
    driver: Driver | None = None


@dataclass(frozen=True, slots=True)
class _Attachment:
    address: InterfaceAddress
    link: Link


@dataclass(slots=True, eq=False)
class _Attempt:
    """A stream that is still to be connected."""

    driver: Driver
    name: str

    @property
    def wanted(self) -> bool:
        return self.driver.streams.get(self.name) is self

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass

    def fail(self, error: str) -> None:
        if self.wanted:
            del self.driver.streams[self.name]
            self.driver.tell("stream_closed", self.name, error)


class Host:
    """A host called `name`. `coalesce`: datagrams that arrive together are handed over together."""

    def __init__(self, world: World, name: str, coalesce: bool = True) -> None:
        self.name = name
        self.world = world
        self.coalesce = coalesce
        self.packets_sent = 0
        self._attachments: list[_Attachment] = []
        self._sockets: dict[UdpAddress, _Socket] = {}
        self._listeners: dict[int, Driver] = {}
        self._drivers: list[Driver] = []
        self._inbox: list[tuple[_Socket, Packet]] = []

    # --- interfaces ----------------------------------------------------------------

    @property
    def addresses(self) -> tuple[InterfaceAddress, ...]:
        """The addresses of all interfaces, in the order they were attached."""
        return tuple(attachment.address for attachment in self._attachments)

    def link(self, interface: str = "eth0") -> Link:
        """The link of an interface; `StopIteration` when there is no such."""
        return next(a.link for a in self._attachments if a.address.interface == interface)

    def attach(
        self,
        router: Router,
        *addresses: str,
        interface: str = "eth0",
        quality: LinkQuality = LAN_QUALITY,
        downward: LinkQuality | None = None,
        metric: int | None = 0,
    ) -> Link:
        """A new interface with `addresses` ("10.0.0.2/24"), on a link to `router`.

        `quality` and `downward`: see `Link`. `metric` is that of the default route by it, None
        for no such route.
        """
        link = Link(self.world, self, router, quality, downward)
        for text in addresses:
            parsed = ipaddress.ip_interface(text)
            address = InterfaceAddress(interface, str(parsed.ip), parsed.network.prefixlen, metric)
            self._attachments.append(_Attachment(address, link))
            router.add_route(address.ip, link)
        self._tell_interfaces()
        return link

    def detach(self, interface: str) -> None:
        """The interface is gone, with its addresses and link."""
        for attachment in [a for a in self._attachments if a.address.interface == interface]:
            self._attachments.remove(attachment)
            attachment.link.up = False
            attachment.link.upper.remove_route(attachment.address.ip)
        self._tell_interfaces()

    def _tell_interfaces(self) -> None:
        for driver in self._drivers:
            driver.tell("interfaces_changed", self.addresses)

    def _attachment_towards(self, ip: str, bound_ip: str = "") -> _Attachment | None:
        version_6 = ":" in ip
        usable = [a for a in self._attachments if (":" in a.address.ip) is version_6]
        if bound_ip and bound_ip not in WILDCARDS:
            return next((a for a in usable if a.address.ip == bound_ip), None)
        if len(usable) < 2:
            return usable[0] if usable else None
        target = ipaddress.ip_address(ip)
        for attachment in usable:
            address = attachment.address
            if target in ipaddress.ip_network(f"{address.ip}/{address.prefix_length}", strict=False):
                return attachment
        return usable[0]

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
        """A new socket, for the next machine that `run` is given; `port` 0 is any free one."""
        ports = [port] if port else range(*EPHEMERAL_PORTS)
        bound = next((a for p in ports if (a := UdpAddress(ip, p)) not in self._sockets), None)
        if bound is None:
            raise OSError(f"{self.name}: UDP port {port or 'any'} of {ip} is in use")
        self._sockets[bound] = _Socket(bound)
        return bound

    def open_socket(self, ip: str, driver: Driver) -> UdpAddress:
        """A new socket at `ip`, one of ours or all of a family, for the machine of `driver`.

        OSError where there is no such address.
        """
        version_6 = ":" in ip
        ours = [a.address.ip for a in self._attachments if (":" in a.address.ip) is version_6]
        if not ours or ip not in (*ours, WILDCARDS[version_6]):
            raise OSError(f"{self.name} has no address {ip}")
        bound = self.open_udp(ip=ip)
        self._sockets[bound].driver = driver
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
        attachment = self._attachment_towards(remote.ip, socket.bound.ip)
        if attachment is None:
            return "network is unreachable"
        source = UdpAddress(attachment.address.ip, socket.bound.port)
        for segment in transmit.segments:
            packet = Packet(source, remote, segment, transmit.ttl or DEFAULT_TTL, self.name)
            self.packets_sent += 1
            self.world.log(self.name, f"send {packet}")
            attachment.link.carry(packet, self)
        return ""

    def inject(
        self, source: UdpAddress, destination: UdpAddress, data: bytes, ttl: int = DEFAULT_TTL
    ) -> bool:
        """Send a packet from any `source`, ours or not, that leaves from here; whether a link leads there."""
        attachment = self._attachment_towards(destination.ip)
        if attachment is None:
            return False
        forged = all(source.ip != address.ip for address in self.addresses)
        packet = Packet(source, destination, data, ttl, self.name, forged=forged)
        self.world.log(self.name, f"inject {packet}")
        attachment.link.carry(packet, self)
        return True

    def _default_socket(self, ip: str, driver: Driver) -> UdpAddress | None:
        return next(
            (
                bound
                for bound, socket in self._sockets.items()
                if socket.driver is driver and (":" in bound.ip) is (":" in ip)
            ),
            None,
        )

    def receive(self, packet: Packet, link: Link) -> None:
        """A packet came by `link`."""
        ip, port = packet.destination.ip, packet.destination.port
        socket = self._sockets.get(packet.destination) or self._sockets.get(
            UdpAddress("::" if ":" in ip else "0.0.0.0", port)
        )
        if socket is None or socket.driver is None:
            self.world.log(self.name, f"drop port closed {packet}")
            return
        self.world.log(self.name, f"receive {packet}")
        if not self._inbox:
            self.world.after(0.0, self._hand_over)
        self._inbox.append((socket, packet))

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
        target = RelayUrl.parse(url)
        ips = self.world.resolve(target.host)
        wait = 0.0 if ips == (target.host,) else RESOLVE_S
        attempt = _Attempt(driver, stream)
        driver.streams[stream] = attempt
        self.world.after(wait, self._connect, attempt, ips, target.port)

    def _connect(self, attempt: _Attempt, ips: tuple[str, ...], port: int) -> None:
        if not attempt.wanted:
            return
        if not ips:
            attempt.fail("name not found")
            return
        route = next((found for ip in ips if (found := self._stream_route(ip)) is not None), None)
        there = route.delay(outwards=True) if route is not None else None
        back = route.delay(outwards=False) if route is not None else None
        if route is None or there is None or back is None:
            self.world.after(BROKEN_AFTER_S, attempt.fail, "timed out")
            return
        far = route.end
        assert isinstance(far, Host)
        listener = far._listeners.get(port)
        if listener is None:
            self.world.after(there + back, attempt.fail, "connection refused")
            return
        driver, name = attempt.driver, attempt.name
        driver.streams[name], server = stream_pair(self.world, route, driver, name, listener, far.name)
        self.world.after(there, server.accepted, route.source_ip)
        self.world.after(there + back, server.peer.opened)

    def _stream_route(self, ip: str) -> StreamRoute | None:
        attachment = self._attachment_towards(ip)
        return find_route(attachment.link, attachment.address.ip, ip) if attachment else None
