"""An internet built from its plan, and what can be done to it while it runs."""

from __future__ import annotations

from dataclasses import replace

from peerway.sim.network.behaviour import NatBehaviour
from peerway.sim.network.gateway import offer_ports
from peerway.sim.network.host import Host
from peerway.sim.network.link import Link
from peerway.sim.network.tree import Router
from peerway.sim.network.world import World
from peerway.sim.nodes import run_server
from peerway.sim.plan import (
    CORE,
    RELAY_QUALITY,
    HostPlan,
    InterfacePlan,
    InternetPlan,
    RelayPlan,
    RouterPlan,
)
from peerway.sim.soundness import UnsoundError, check_plan
from peerway.sim.watch.watched_relay import WatchedHostileRelay, WatchedRelay

LAST_ADDRESS = 254  # of a /24
_RELAY_NETWORK = "203.0.113"
_STRANGE_NETWORK = "2001:db8:fffe"


class Internet:
    """A world built from `plan`, `UnsoundError` where that cannot be; `plan` follows what is done to it.

    `routers`, `hosts` and `relays` are by name, and so are the `servers` that relay on the latter.
    STUN servers run beside them; nodes are for the caller to start.
    """

    def __init__(self, plan: InternetPlan, seed: int, is_traced: bool = True) -> None:
        check_plan(plan)
        self.plan = plan
        self.world = World(seed, is_traced)
        self.core = Router(self.world, CORE)
        self.routers: dict[str, Router] = {}
        self.hosts: dict[str, Host] = {}
        self.relays: dict[str, Host] = {}
        self.servers: dict[str, WatchedRelay] = {}
        self._taken: dict[str, int] = {}
        self._numbers = {router.name: number for number, router in enumerate(plan.routers, 1)}
        for router in plan.routers:
            self.routers[router.name] = self._build_router(router)
        for number, relay in enumerate(plan.relays):
            self._build_relay(relay, number)
        for host in plan.hosts:
            self._build_host(host)
        for name in plan.down:
            self._set_links(name, up=False)

    # --- building

    def _build_router(self, plan: RouterPlan) -> Router:
        outside = self._outside(plan) if plan.translates else ()
        router = Router(
            self.world,
            plan.name,
            self.core if plan.uplink == CORE else self.routers[plan.uplink],
            plan.nat4,
            outside,
            plan.nat6,
            quality=plan.quality,
            downward=plan.downward,
        )
        if plan.translates and plan.maps_ports:
            offer_ports(self.world, router, _gateway(plan))
        return router

    def _build_relay(self, plan: RelayPlan, number: int) -> None:
        name, families, rng = plan.name, plan.families, self.world.rng
        host = self.relays[name] = Host(self.world, name)
        addresses = []
        for offset in (10, 11):
            last = offset + 10 * number
            if 4 in families:
                addresses.append(f"{_RELAY_NETWORK}.{last}/24")
            if 6 in families:
                addresses.append(f"2001:db8:ffff::{last:x}/64")
        host.attach(self.core, *addresses, quality=plan.quality)
        self.world.names[name] = tuple(address.ip for address in host.addresses)
        self.servers[name] = (
            WatchedRelay(rng(f"{name}/relay"))
            if plan.mischief is None
            else WatchedHostileRelay(rng(f"{name}/relay"), rng(f"{name}/mischief"), plan.mischief)
        )
        run_server(self.world, host, self.servers[name])

    def _build_host(self, plan: HostPlan) -> None:
        host = self.hosts[plan.name] = Host(self.world, plan.name)
        for number in range(plan.bridges):
            host.attach_unplugged(f"172.{17 + number}.0.1/16", interface=f"br-{number:04x}")
        for metric, interface in enumerate(plan.interfaces):
            self._attach(host, interface, metric)

    def _attach(self, host: Host, plan: InterfacePlan, metric: int) -> None:
        addresses = []
        if 4 in plan.families:
            addresses.append(f"{self._address4(plan.router)}/24")
        if 6 in plan.families:
            number = self._next(f"{plan.router} 6")
            addresses.append(f"2001:db8:{self._numbers[plan.router]:x}::{number:x}/64")
        router = self.plan.router(plan.router)
        link = host.attach(
            self.routers[plan.router],
            *addresses,
            interface=plan.name,
            quality=plan.quality,
            metric=metric,
            gateway=_gateway(router) if router.maps_ports else "",
        )
        link.up = host.name not in self.plan.down

    def _outside(self, plan: RouterPlan) -> tuple[str, ...]:
        """Fresh addresses for the outside of the router."""
        if plan.uplink != CORE:
            return tuple(self._address4(plan.uplink) for _ in range(plan.outside_addresses))
        network, name = f"5.{self._numbers[plan.name]}.0", f"{plan.name} outside"
        return tuple(self._next_in(network, name) for _ in range(plan.outside_addresses))

    def _address4(self, router: str) -> str:
        """A fresh address on the inside of `router`."""
        plan = self.plan.router(router)
        network = plan.inside if plan.translates else f"5.{self._numbers[router]}.1"
        return self._next_in(network, f"{router} 4")

    def _next_in(self, network: str, what: str) -> str:
        """A fresh address; `what` counts those that were given."""
        number = self._next(what)
        if number > LAST_ADDRESS:
            raise UnsoundError(f"no address is left in {network}.0/24: fewer hosts or moves, please")
        return f"{network}.{number}"

    def _next(self, what: str) -> int:
        self._taken[what] = self._taken.get(what, 1) + 1
        return self._taken[what]

    def _set_links(self, name: str, *, up: bool) -> None:
        if name in self.routers:
            links = [link for link in (self.routers[name].uplink,) if link is not None]
        else:
            links = list((self.hosts.get(name) or self.relays[name]).links)
        for link in links:
            link.up = up

    def stranger(self, name: str) -> Host:
        """One more host, at the core itself, with an address of each family."""
        host, number = Host(self.world, name), self._next("strangers")
        addresses = f"6.{len(self.relays)}.6.{number}/24", f"{_STRANGE_NETWORK}:{number:x}::1/64"
        host.attach(self.core, *addresses, quality=RELAY_QUALITY)
        return host

    @property
    def uplinks(self) -> list[Link]:
        """The links that lead to the core from below, those of strangers left out."""
        links = [router.uplink for router in self.routers.values()]
        links += [relay.link() for relay in self.relays.values()]
        return [link for link in links if link is not None and link.upper is self.core]

    # --- what can happen

    def cut(self, name: str) -> None:
        """The link upwards of a router or relay carries nothing any more, nor do any of a host's."""
        self._set_links(name, up=False)
        self.plan = self.plan.cut(name)

    def mend(self, name: str) -> None:
        """They carry again."""
        self.plan = self.plan.mended(name)
        self._set_links(name, up=True)

    def move(self, host: str, plan: HostPlan) -> None:
        """The host leaves its networks and joins those of `plan`, with new addresses."""
        for interface in self.plan.host(host).interfaces:
            self.hosts[host].detach(interface.name)
        self.plan = self.plan.with_host(plan)
        for metric, interface in enumerate(plan.interfaces):
            self._attach(self.hosts[host], interface, metric)

    def unplug(self, host: str) -> InterfacePlan:
        """The interface that the host sends by is gone."""
        plan = self.plan.host(host)
        first, *others = plan.interfaces
        self.hosts[host].detach(first.name)
        self.plan = self.plan.with_host(replace(plan, interfaces=tuple(others)))
        return first

    def plug(self, host: str, interface: InterfacePlan) -> None:
        """The host has an interface again, with new addresses, and sends by it."""
        plan = self.plan.host(host)
        self.plan = self.plan.with_host(replace(plan, interfaces=(interface, *plan.interfaces)))
        self._attach(self.hosts[host], interface, 0)

    def reboot(self, router: str, renumber: bool) -> None:
        """The router forgets every mapping; with `renumber` its outside addresses are new."""
        plan = self.plan.router(router)
        self.routers[router].reboot(self._outside(plan) if renumber and plan.translates else ())

    def block(self, router: str) -> RouterPlan:
        """The router forwards no UDP any more; as it was planned until now, for `unblock`."""
        before = self.plan.router(router)
        self._behave(replace(before, nat4=_without_udp(before.nat4), nat6=_without_udp(before.nat6)))
        return before

    def unblock(self, before: RouterPlan) -> None:
        """It forwards again what it did before, and knows the mappings that have not died."""
        self._behave(before)

    def _behave(self, plan: RouterPlan) -> None:
        self.plan = self.plan.with_router(plan)
        self.routers[plan.name].behave(plan.nat4, plan.nat6)


def _without_udp(box: NatBehaviour | None) -> NatBehaviour:
    return replace(box or NatBehaviour(translates=False), udp_blocked=True)


def _gateway(router: RouterPlan) -> str:
    """The router's own address on its inside."""
    return f"{router.inside}.1"
