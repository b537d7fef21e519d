"""An internet as data: routers in a tree, hosts at its leaves, relays at the core.

Data can be drawn, printed, compared, changed and made smaller; `peerway.sim.internet` builds
a world from it, and the oracle reads it and nothing else.

Addresses follow from the plan. The i-th router's public network is 5.i.0.0/24. What is inside
a translating router has private addresses in its `inside` network, which other routers may use
as well: most homes are 192.168.1.0/24. IPv6 is never translated: 2001:db8:i::/64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from peerway.sim.attack.hostile_relay import Mischief
from peerway.sim.network.behaviour import NatBehaviour
from peerway.sim.network.host import LAN_QUALITY
from peerway.sim.network.link import DEFAULT_QUALITY, LinkQuality

CORE = "core"
RELAY_QUALITY = LinkQuality(delay_s=0.002)
HOME_NETWORK = "192.168.1"
CARRIER_NETWORK = "100.64.0"


@dataclass(frozen=True, slots=True)
class RouterPlan:
    """A router, its NATs or firewalls towards `uplink`, and the link there.

    `quality` is that of both ways, unless `downward` has another for the way to the router.
    `inside`: the first three numbers of the private network behind a translating `nat4`, which
    has `outside_addresses` at its uplink. With `maps_ports` it gives hosts on that network a port on
    request (NAT-PMP and PCP).
    """

    name: str
    uplink: str = CORE
    nat4: NatBehaviour | None = None
    nat6: NatBehaviour | None = None
    quality: LinkQuality = DEFAULT_QUALITY
    downward: LinkQuality | None = None
    inside: str = HOME_NETWORK
    outside_addresses: int = 1
    maps_ports: bool = False

    @property
    def translates(self) -> bool:
        """Whether what is inside has private addresses."""
        return self.nat4 is not None and self.nat4.translates


@dataclass(frozen=True, slots=True)
class InterfacePlan:
    """An interface of a host on a router's inside; `families`: 4, 6 or both."""

    router: str
    families: tuple[int, ...] = (4,)
    name: str = "eth0"
    quality: LinkQuality = LAN_QUALITY


@dataclass(frozen=True, slots=True)
class HostPlan:
    """A host, which sends by the first of its `interfaces` that has the family.

    `port`: that of its sockets, which many nodes have in common; 0 is any. `bridges`: interfaces
    that lead nowhere, as container engines leave them.
    """

    name: str
    interfaces: tuple[InterfacePlan, ...]
    port: int = 0
    bridges: int = 0


@dataclass(frozen=True, slots=True)
class RelayPlan:
    """A relay at the core with a STUN server at each of its addresses: two of each family in `families`.

    `mischief`: what the relay does to packets; None is an honest one.
    """

    name: str
    families: tuple[int, ...] = (4,)
    mischief: Mischief | None = None
    quality: LinkQuality = RELAY_QUALITY


@dataclass(frozen=True, slots=True)
class InternetPlan:
    """The whole of it. `down`: routers, hosts and relays whose link upwards is cut, all of a host's."""

    routers: tuple[RouterPlan, ...]
    hosts: tuple[HostPlan, ...]
    relays: tuple[RelayPlan, ...] = (RelayPlan("relay1.test"),)
    down: tuple[str, ...] = field(default=())

    def router(self, name: str) -> RouterPlan:
        """The router called `name`; `KeyError` when there is none."""
        return _named(self.routers, name)

    def host(self, name: str) -> HostPlan:
        """The host called `name`; `KeyError` when there is none."""
        return _named(self.hosts, name)

    def way_up(self, router: str) -> Iterator[RouterPlan]:
        """The routers from `router` up to the core, the core left out."""
        while router != CORE:
            found = self.router(router)
            yield found
            router = found.uplink

    def with_router(self, router: RouterPlan) -> InternetPlan:
        """The same, `router` in the place of the one with its name."""
        changed = tuple(router if other.name == router.name else other for other in self.routers)
        return replace(self, routers=changed)

    def with_host(self, host: HostPlan) -> InternetPlan:
        """The same, `host` in the place of the one with its name."""
        changed = tuple(host if other.name == host.name else other for other in self.hosts)
        return replace(self, hosts=changed)

    def cut(self, name: str) -> InternetPlan:
        """The same with what `name` is linked by down."""
        return replace(self, down=(*self.down, name))

    def mended(self, name: str) -> InternetPlan:
        """The same with what `name` is linked by up."""
        return replace(self, down=tuple(other for other in self.down if other != name))


_Plan = TypeVar("_Plan", RouterPlan, HostPlan)


def _named(plans: Sequence[_Plan], name: str) -> _Plan:
    for plan in plans:
        if plan.name == name:
            return plan
    raise KeyError(name)
