"""Routers and the links between them: a tree, with hosts as its leaves and the core as its root.

A router knows the addresses below it, each with its link, and sends the rest up. Where it
has a NAT or firewall for a packet's family, that stands between what is below and its
uplink; what is below a translating NAT is unknown above it. Packets go hop by hop, and
every router takes one off their TTL.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from peerway.sim.network.behaviour import NatBehaviour
from peerway.sim.network.link import DEFAULT_QUALITY, Bursts, Link, LinkQuality, NetworkNode, Packet, lose
from peerway.sim.network.nat import Nat, Refusal
from peerway.sim.network.world import World

__all__ = ["DEFAULT_QUALITY", "Bursts", "Link", "LinkQuality", "NetworkNode", "Packet", "Router"]

TTL = 64  # of a router's own packets, when they leave


@dataclass(frozen=True, slots=True)
class Hop:
    """A link that a byte stream takes, and the NAT or firewall it goes through before."""

    link: Link
    upwards: bool
    nat: Nat | None = None


class Router:
    """Forwards; `nat4` and `nat6` stand between its inside and its uplink.

    `outside_ip` is what a translating `nat4` turns its inside into, one address or several; `nat6`
    can only be a firewall. `quality` and `downward` are those of its uplink (see `Link`).
    """

    is_end = False

    def __init__(
        self,
        world: World,
        name: str,
        uplink: Router | None = None,
        nat4: NatBehaviour | None = None,
        outside_ip: str | tuple[str, ...] = (),
        nat6: NatBehaviour | None = None,
        quality: LinkQuality = DEFAULT_QUALITY,
        downward: LinkQuality | None = None,
    ) -> None:
        self.name = name
        self.uplink = Link(world, self, uplink, quality, downward) if uplink is not None else None
        self.nat4 = Nat(nat4, outside_ip, world.rng(f"nat4 {name}")) if nat4 else None
        self.nat6 = Nat(nat6, "", world.rng(f"nat6 {name}")) if nat6 else None
        self._world = world
        self._routes: dict[str, Link] = {}
        self._partitions: set[tuple[Link, Link]] = set()
        self._announce()

    def part(self, one: Link, other: Link) -> None:
        """From now on nothing passes here between these two links of ours: neither packets nor streams."""
        self._partitions |= {(one, other), (other, one)}

    def unite(self, one: Link, other: Link) -> None:
        """Undo `part`."""
        self._partitions -= {(one, other), (other, one)}

    def parts(self, one: Link, other: Link) -> bool:
        """Whether nothing passes here between the two."""
        return (one, other) in self._partitions

    def reboot(self, outside_ip: str | tuple[str, ...] = ()) -> None:
        """Forget every mapping and session; come back with other outside addresses, where some are given."""
        if self.nat4 is not None:
            if outside_ip:
                self._withdraw()
            self.nat4.reboot(outside_ip)
            self._announce()
        if self.nat6 is not None:
            self.nat6.reboot()

    def behave(self, nat4: NatBehaviour | None, nat6: NatBehaviour | None) -> None:
        """Behave so from now on, and remember what there is.

        `ValueError` where a NAT is to translate that did not, or the other way round.
        """
        self.nat4, self.nat6 = self._behaving(self.nat4, nat4), self._behaving(self.nat6, nat6)

    def _behaving(self, nat: Nat | None, behaviour: NatBehaviour | None) -> Nat | None:
        before = nat is not None and nat.behaviour.translates
        if before is not (behaviour is not None and behaviour.translates):
            raise ValueError(
                f"{self.name} {'translates' if before else 'does not translate'}, which cannot be changed:"
                " build another router"
            )
        if nat is None or behaviour is None:
            return Nat(behaviour, "", self._world.rng(f"firewall {self.name}")) if behaviour else None
        nat.behave(behaviour)
        return nat

    def _announce(self) -> None:
        if self.uplink is not None and self.nat4 is not None and self.nat4.behaviour.translates:
            for ip in self.nat4.outside_ips:
                self.uplink.upper.add_route(ip, self.uplink)

    def _withdraw(self) -> None:
        if self.uplink is not None and self.nat4 is not None and self.nat4.behaviour.translates:
            for ip in self.nat4.outside_ips:
                self.uplink.upper.remove_route(ip, self.uplink)

    def add_route(self, ip: str, link: Link) -> None:
        """`ip` is reached by `link`, from here and from every router above that may know of it."""
        self._routes[ip] = link
        if self.uplink is not None and not self._translates(ip):
            self.uplink.upper.add_route(ip, self.uplink)

    def remove_route(self, ip: str, link: Link) -> None:
        """`ip` is not reached by `link` any more; nothing where it is reached by another."""
        if self._routes.get(ip) is not link:
            return
        del self._routes[ip]
        if self.uplink is not None and not self._translates(ip):
            self.uplink.upper.remove_route(ip, self.uplink)

    def knows(self, ip: str) -> bool:
        """Whether `ip` is somewhere below."""
        return ip in self._routes

    def _nat_for(self, ip: str) -> Nat | None:
        return self.nat6 if ":" in ip else self.nat4

    def _translates(self, ip: str) -> bool:
        nat = self._nat_for(ip)
        return nat is not None and nat.behaviour.translates

    def receive(self, packet: Packet, link: Link) -> None:
        """A packet came by `link`."""
        source, destination = packet.source, packet.destination
        mtu = self._route(packet, link)
        if mtu and not packet.too_big:
            # it quotes the packet as it came, so our own NAT has nothing to undo
            self._forward(Packet(destination, source, b"", TTL + 1, self.name, mtu), link)

    def _route(self, packet: Packet, link: Link) -> int:
        """The MTU of the link onwards where the packet does not fit and its sender is to be told, else 0."""
        ip = packet.destination.ip
        nat = self._nat_for(ip)
        if nat is None:
            return self._forward(packet, link)
        if link is self.uplink:
            return self._inbound(nat, packet, link)
        turns = nat.behaviour.translates and ip in nat.outside_ips
        if ip in self._routes and not turns:
            return self._forward(packet, link)
        if packet.ttl <= 1:  # a router looks at it before it translates
            return self._drop(packet, "ttl")
        return self._hairpin(nat, packet, link) if turns else self._outbound(nat, packet, link)

    def _inbound(self, nat: Nat, packet: Packet, link: Link) -> int:
        translate = nat.error_inbound if packet.too_big else nat.inbound
        inside = translate(packet.source, packet.destination, self._world.now)
        if isinstance(inside, Refusal):
            return self._drop(packet, inside.value)
        packet.destination = inside
        return self._forward(packet, link)

    def _outbound(self, nat: Nat, packet: Packet, link: Link) -> int:
        translate = nat.error_outbound if packet.too_big else nat.outbound
        outside = translate(packet.source, packet.destination, self._world.now)
        if isinstance(outside, Refusal):
            return self._drop(packet, outside.value)
        packet.source = outside
        return self._forward(packet, link)

    def _hairpin(self, nat: Nat, packet: Packet, link: Link) -> int:
        turned = nat.hairpin(packet.source, packet.destination, self._world.now)
        if isinstance(turned, Refusal):
            return self._drop(packet, turned.value)
        packet.source, packet.destination = turned
        return self._forward(packet, link)

    def _forward(self, packet: Packet, came_by: Link) -> int:
        packet.ttl -= 1
        link = self._routes.get(packet.destination.ip, self.uplink)
        if packet.ttl <= 0:
            return self._drop(packet, "ttl")
        if link is None:
            return self._drop(packet, "no route")
        if self._partitions and (came_by, link) in self._partitions:
            return self._drop(packet, "partition")
        return link.carry(packet, self)

    def _drop(self, packet: Packet, reason: str) -> int:
        lose(self._world, packet, reason, self.name)
        return 0

    def stream_hops(self, ip: str) -> Iterator[Hop]:
        """The links a new byte stream to `ip` takes from here; ends early where nothing leads to `ip`."""
        nat = self._nat_for(ip)
        link = self._routes.get(ip)
        if link is not None:
            while link is not None:
                yield Hop(link, upwards=False)
                below = link.lower
                if not isinstance(below, Router) or below._nat_for(ip) is not None:
                    return  # a host; or a NAT or firewall, which lets no stream in
                link = below._routes.get(ip)
        elif self.uplink is not None:
            yield Hop(self.uplink, upwards=True, nat=nat)
            yield from self.uplink.upper.stream_hops(ip)
