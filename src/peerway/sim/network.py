"""Packets, links and routers: a tree, with hosts as its leaves and the core as its root.

A router knows the addresses below it, each with its link, and sends the rest up. Where it
has a NAT or firewall for a packet's family, that stands between what is below and its
uplink; what is below a translating NAT is unknown above it. Packets go hop by hop, and
every router takes one off their TTL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from peerway.core.machine import UdpAddress
from peerway.sim.nat import Nat, NatBehaviour, Refusal
from peerway.sim.tap import Moment, Sighting
from peerway.sim.trace import fingerprint
from peerway.sim.world import World

HEADER_BYTES = 28  # IPv4 and UDP
RETRANSMISSION_S = 0.2  # what a loss costs a byte stream, beside a round trip


@dataclass(slots=True)
class Packet:
    """A UDP packet; routers on its way rewrite it. `origin` is the host that it truly comes from."""

    source: UdpAddress
    destination: UdpAddress
    data: bytes
    ttl: int
    origin: str = ""

    def __str__(self) -> str:
        return (
            f"{self.source} > {self.destination} ttl {self.ttl} len {len(self.data)} {fingerprint(self.data)}"
        )


class NetworkNode(Protocol):
    """Where a link can end."""

    name: str

    def receive(self, packet: Packet, link: Link) -> None: ...


@dataclass(frozen=True, slots=True)
class LinkQuality:
    """Each way of a link. `jitter_s`: up to so much more delay; `loss`: 0 to 1; `rate`: bits/s.

    A packet that would wait behind more than `queue_bytes` is dropped; without a rate none waits.
    """

    delay_s: float = 0.01
    jitter_s: float = 0.0
    loss: float = 0.0
    rate: float | None = None
    queue_bytes: int = 262_144


DEFAULT_QUALITY = LinkQuality()


class Link:
    """Joins `lower`, a host or router, to the router `upper`. While `up` is false it loses everything."""

    def __init__(self, world: World, lower: NetworkNode, upper: Router, quality: LinkQuality) -> None:
        self.lower = lower
        self.upper = upper
        self.quality = quality
        self.up = True
        self.name = f"{lower.name}-{upper.name}"
        self._world = world
        self._rng = world.rng(f"link {self.name}")
        self._busy_until = {True: 0.0, False: 0.0}  # upwards, downwards

    def carry(self, packet: Packet, sender: NetworkNode) -> None:
        """Bring the packet to the other end, if it gets there."""
        upwards = sender is self.lower
        if self._world.taps:
            self._show(packet, Moment.SENT, sender)
        delay = self._delay(len(packet.data) + HEADER_BYTES, upwards)
        if isinstance(delay, str):
            self._world.log(self.name, f"drop {delay} {packet}")
            return
        self._world.after(delay, self._deliver, packet, self.upper if upwards else self.lower)

    def _deliver(self, packet: Packet, receiver: NetworkNode) -> None:
        if self._world.taps:
            self._show(packet, Moment.ARRIVED, receiver)
        receiver.receive(packet, self)

    def _show(self, packet: Packet, moment: Moment, node: NetworkNode) -> None:
        sighting = Sighting(
            self._world.now,
            moment,
            self.name,
            node.name,
            packet.source,
            packet.destination,
            packet.data,
            packet.ttl,
            packet.origin,
        )
        for tap in self._world.taps:
            tap(sighting)

    def _delay(self, size: int, upwards: bool) -> float | str:
        quality, now = self.quality, self._world.now
        if not self.up:
            return "link down"
        if quality.loss and self._rng.random() < quality.loss:
            return "lost"
        delay = quality.delay_s
        if quality.jitter_s:
            delay += self._rng.uniform(0.0, quality.jitter_s)
        if quality.rate is not None:
            waiting = max(self._busy_until[upwards] - now, 0.0)
            if waiting * quality.rate / 8 > quality.queue_bytes:
                return "queue full"
            self._busy_until[upwards] = now + waiting + size * 8 / quality.rate
            delay += self._busy_until[upwards] - now
        return delay

    def stream_delay(self) -> float | None:
        """Seconds for a piece of a byte stream, its retransmissions included; None while the link is down."""
        quality = self.quality
        if not self.up or quality.loss >= 1:
            return None
        delay = quality.delay_s
        while quality.loss and self._rng.random() < quality.loss:
            delay += RETRANSMISSION_S + 2 * quality.delay_s
        return delay


class Router:
    """Forwards; `nat4` and `nat6` stand between its inside and its uplink.

    `outside_ip` is what a translating `nat4` turns its inside into; `nat6` can only be a firewall.
    """

    def __init__(
        self,
        world: World,
        name: str,
        uplink: Router | None = None,
        nat4: NatBehaviour | None = None,
        outside_ip: str = "",
        nat6: NatBehaviour | None = None,
        quality: LinkQuality = DEFAULT_QUALITY,
    ) -> None:
        self.name = name
        self.uplink = Link(world, self, uplink, quality) if uplink is not None else None
        self.nat4 = Nat(nat4, outside_ip, world.rng(f"nat4 {name}")) if nat4 else None
        self.nat6 = Nat(nat6, "", world.rng(f"nat6 {name}")) if nat6 else None
        self._world = world
        self._routes: dict[str, Link] = {}
        if self.uplink is not None and self._translates(outside_ip):
            self.uplink.upper.add_route(outside_ip, self.uplink)

    def add_route(self, ip: str, link: Link) -> None:
        """`ip` is reached by `link`, from here and from every router above that may know of it."""
        self._routes[ip] = link
        if self.uplink is not None and not self._translates(ip):
            self.uplink.upper.add_route(ip, self.uplink)

    def remove_route(self, ip: str) -> None:
        """`ip` is gone."""
        self._routes.pop(ip, None)
        if self.uplink is not None and not self._translates(ip):
            self.uplink.upper.remove_route(ip)

    def _nat_for(self, ip: str) -> Nat | None:
        return self.nat6 if ":" in ip else self.nat4

    def _translates(self, ip: str) -> bool:
        nat = self._nat_for(ip)
        return nat is not None and nat.behaviour.translates

    def receive(self, packet: Packet, link: Link) -> None:
        """A packet came by `link`."""
        nat = self._nat_for(packet.destination.ip)
        if nat is None:
            self._forward(packet)
        elif link is self.uplink:
            self._inbound(nat, packet)
        elif nat.behaviour.translates and packet.destination.ip == nat.outside_ip:
            self._hairpin(nat, packet)
        elif packet.destination.ip in self._routes:
            self._forward(packet)
        else:
            self._outbound(nat, packet)

    def _inbound(self, nat: Nat, packet: Packet) -> None:
        inside = nat.inbound(packet.source, packet.destination, self._world.now)
        if isinstance(inside, Refusal):
            self._drop(packet, inside.value)
            return
        packet.destination = inside
        self._forward(packet)

    def _outbound(self, nat: Nat, packet: Packet) -> None:
        if packet.ttl <= 1:  # a router looks at it before it translates
            self._drop(packet, "ttl")
            return
        outside = nat.outbound(packet.source, packet.destination, self._world.now)
        if isinstance(outside, Refusal):
            self._drop(packet, outside.value)
            return
        packet.source = outside
        self._forward(packet)

    def _hairpin(self, nat: Nat, packet: Packet) -> None:
        turned = nat.hairpin(packet.source, packet.destination, self._world.now)
        if isinstance(turned, Refusal):
            self._drop(packet, turned.value)
            return
        packet.source, packet.destination = turned
        self._forward(packet)

    def _forward(self, packet: Packet) -> None:
        packet.ttl -= 1
        link = self._routes.get(packet.destination.ip, self.uplink)
        if packet.ttl <= 0:
            self._drop(packet, "ttl")
        elif link is None:
            self._drop(packet, "no route")
        else:
            link.carry(packet, self)

    def _drop(self, packet: Packet, reason: str) -> None:
        self._world.log(self.name, f"drop {reason} {packet}")

    def stream_hops(self, ip: str) -> Iterator[tuple[Link, str]]:
        """The links a new byte stream to `ip` takes from here, each with the source it has from there on.

        That is "" where no NAT changed it. Ends early where nothing leads to `ip`.
        """
        nat = self._nat_for(ip)
        link = self._routes.get(ip)
        if link is not None:
            while link is not None:
                yield link, ""
                below = link.lower
                if not isinstance(below, Router) or below._nat_for(ip) is not None:
                    return  # a host; or a NAT or firewall, which lets no stream in
                link = below._routes.get(ip)
        elif self.uplink is not None:
            yield self.uplink, nat.outside_ip if nat is not None and nat.behaviour.translates else ""
            yield from self.uplink.upper.stream_hops(ip)


def stream_route(first: Link, source_ip: str, ip: str) -> tuple[list[Link], str, NetworkNode] | None:
    """Links, the source address the far end sees, and the far end, of a stream that leaves by `first`."""
    links = [first]
    for link, source in first.upper.stream_hops(ip):
        links.append(link)
        source_ip = source or source_ip
    end = links[-1].lower
    if len(links) < 2 or isinstance(end, Router):
        return None
    return links, source_ip, end


def stream_delay(links: Sequence[Link]) -> float | None:
    """Seconds for a piece of a byte stream over all of `links`; None while one is down."""
    delays = [delay for link in links if (delay := link.stream_delay()) is not None]
    return sum(delays) if len(delays) == len(links) else None
