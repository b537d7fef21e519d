"""Whether a plan or scenario means anything: who writes one by hand is told what is wrong with it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import lru_cache

from peerway.core.relay.url import RelayUrl, RelayUrlError
from peerway.sim.attack.manners import MANNERS
from peerway.sim.attack.strategies import HARMLESS
from peerway.sim.network.behaviour import NatBehaviour
from peerway.sim.network.ports import ALL_PORTS, USER_PORTS
from peerway.sim.outlook import relayed
from peerway.sim.plan import CORE, HostPlan, InternetPlan, RelayPlan, RouterPlan
from peerway.sim.scenario import SIDES, Action, Dial, Partition, Roam, Scenario
from peerway.sim.values import misfits

MOST_ROUTERS = 250  # each has a network of its own in 5.0.0.0/8
MOST_RELAYS = 20
_PRIVATE = tuple(
    map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))
)


class UnsoundError(ValueError):
    """A plan that cannot be built, or a scenario that cannot be run, and why."""


def check(scenario: Scenario) -> None:
    """Raise `UnsoundError` where the scenario cannot be run."""
    if problem := problem_of(scenario):
        raise UnsoundError(problem)


def problem_of(scenario: Scenario) -> str:
    """The first reason why a scenario cannot be run, or ""."""
    return problem_of_plan(scenario.plan) or next(_of_scenario(scenario), "")


def check_plan(plan: InternetPlan) -> None:
    """Raise `UnsoundError` where no internet can be built from the plan."""
    if problem := problem_of_plan(plan):
        raise UnsoundError(problem)


def problem_of_plan(plan: InternetPlan) -> str:
    """The first reason why no internet can be built from a plan, or ""."""
    return next(_of_plan(plan), "")


def names_of(plan: InternetPlan) -> list[str]:
    """The names of all routers, hosts and relays."""
    parts: tuple[RouterPlan | HostPlan | RelayPlan, ...] = (*plan.routers, *plan.hosts, *plan.relays)
    return [part.name for part in parts]


# --- plans


def _of_plan(plan: InternetPlan) -> Iterator[str]:
    yield from misfits(plan)
    yield from _of_names(plan)
    if len(plan.routers) > MOST_ROUTERS:
        yield f"more than {MOST_ROUTERS} routers"
    if len(plan.relays) > MOST_RELAYS:
        yield f"more than {MOST_RELAYS} relays"
    above: dict[str, RouterPlan] = {}
    for router in plan.routers:
        yield from _of_router(router, above)
        above[router.name] = router
    for host in plan.hosts:
        yield from _of_host(host, above)
    for relay in plan.relays:
        yield from _of_relay(relay)


def _of_names(plan: InternetPlan) -> Iterator[str]:
    names = names_of(plan)
    for name in names:
        if names.count(name) > 1 or name == CORE:
            yield f"{name} is the name of more than one"
    for name in plan.down:
        if name not in names:
            yield f"{name} is down, and nowhere to be found"


def _of_router(router: RouterPlan, above: dict[str, RouterPlan]) -> Iterator[str]:
    yield from misfits(router, router.name)
    if router.uplink != CORE and router.uplink not in above:
        yield f"{router.name} is to stand behind {router.uplink}, which is not among those before it"
        return
    for box in (router.nat4, router.nat6):
        if box is not None:
            yield from _of_ports(router.name, box)
    if router.nat6 is not None and router.nat6.translates:
        yield f"{router.name} translates IPv6: only firewalls are there for it"
    if not _is_private(router.inside):
        yield (
            f"{router.name}.inside is {router.inside!r}: it must be the first three numbers of a private"
            " network, such as '192.168.1'"
        )
    uplink = above.get(router.uplink)
    if router.translates and uplink is not None and uplink.translates and uplink.inside == router.inside:
        yield f"{router.name} has the network {router.inside} on both sides"


def _of_ports(router: str, box: NatBehaviour) -> Iterator[str]:
    if box.port_range is not None and not ALL_PORTS[0] <= box.port_range[0] < box.port_range[1] <= 65536:
        yield (
            f"{router} has the port_range {box.port_range}: it must be the first port and one past the last,"
            " such as (1024, 65536)"
        )
    first, end = box.port_range or USER_PORTS
    if box.block_ports > end - first:
        yield f"{router} has the block_ports {box.block_ports}, and {end - first} ports in all"


@lru_cache
def _is_private(inside: str) -> bool:
    try:
        network = ipaddress.IPv4Network(f"{inside}.0/24")
    except ValueError:
        return False
    return any(network.subnet_of(private) for private in _PRIVATE)


def _of_host(host: HostPlan, routers: dict[str, RouterPlan]) -> Iterator[str]:
    yield from misfits(host, host.name)
    if not host.interfaces:
        yield f"{host.name} has no interface"
    names = [interface.name for interface in host.interfaces]
    if len(set(names)) < len(names):
        yield f"{host.name} has two interfaces of one name"
    behind = [router for router in routers.values() if router.name in {i.router for i in host.interfaces}]
    networks = [router.inside for router in behind if router.translates]
    if len(set(networks)) < len(networks):
        yield f"{host.name} has one network on two sides, and cannot tell which is meant: {networks}"
    for interface in host.interfaces:
        yield from misfits(interface, f"{host.name} {interface.name}")
        if interface.router not in routers:
            yield f"{host.name} is to stand behind {interface.router}, which is no router"
        yield from _of_families(f"{host.name} {interface.name}", interface.families)


def _of_relay(relay: RelayPlan) -> Iterator[str]:
    yield from misfits(relay, relay.name)
    yield from _of_families(relay.name, relay.families)
    if not _is_host_name(relay.name):
        yield (
            f"{relay.name!r} cannot be the name of a relay: it must be like a host's, in small letters,"
            " such as 'relay1.test'"
        )


@lru_cache
def _is_host_name(name: str) -> bool:
    try:
        return RelayUrl.parse(f"http://{name}:1").host == name
    except RelayUrlError:
        return False


def _of_families(name: str, families: tuple[int, ...]) -> Iterator[str]:
    if not families or not set(families) <= {4, 6}:
        yield f"{name} has the families {families}, not 4, 6 or both"


# --- scenarios


def _of_scenario(scenario: Scenario) -> Iterator[str]:
    plan = scenario.plan
    yield from misfits(scenario)
    for side in SIDES:
        if all(host.name != side for host in plan.hosts):
            yield f"no host is called {side}"
    for action in scenario.actions:
        yield from _of_action(action, plan)
    for attack in scenario.attacks:
        if all(strategy.name != attack for strategy in HARMLESS):
            yield f"nobody attacks by {attack!r}"
    for guest in scenario.guests:
        yield from misfits(guest, str(guest))
        if guest.manners not in MANNERS:
            yield f"no guest has the manners {guest.manners!r}"
    yield from _of_dials(scenario)


def _of_action(action: Action, plan: InternetPlan) -> Iterator[str]:
    yield from misfits(action, str(action))
    known = {"router": [router.name for router in plan.routers], "name": names_of(plan)}
    for field in fields(action):
        value = getattr(action, field.name)
        if field.name in known and value not in known[field.name]:
            yield f"{action}: there is no {value}"


def _of_dials(scenario: Scenario) -> Iterator[str]:
    """Where no relay would carry a single dial nothing would be tried, and nothing could fail."""
    plans = list(_at_dials(scenario))
    if plans and not any(relayed(plan, *SIDES) for plan in plans):
        cannot = [
            f"{side} cannot reach {relay.name}"
            for relay in plans[0].relays
            for side in SIDES
            if not relayed(replace(plans[0], relays=(relay,)), side, side)
        ]
        yield (
            "who dials needs a relay that both can reach, by a family that they have:"
            f" {', '.join(cannot) or 'there is none'}"
        )


def _at_dials(scenario: Scenario) -> Iterator[InternetPlan]:
    """The plan as it is at each dial: lines that were cut for a while are mended, and hosts have moved."""
    plan = scenario.plan
    for action in scenario.actions:
        match action:
            case Dial():
                yield plan
            case Partition(name):
                plan = plan.mended(name)
            case Roam(side, router):
                host = plan.host(side)
                first = replace(host.interfaces[0], router=router)
                plan = plan.with_host(replace(host, interfaces=(first, *host.interfaces[1:])))
