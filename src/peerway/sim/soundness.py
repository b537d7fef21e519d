"""Whether a scenario means anything: who writes one by hand is told what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from peerway.sim.attack.manners import MANNERS
from peerway.sim.attack.strategies import HARMLESS
from peerway.sim.plan import CORE, HostPlan, InternetPlan, RelayPlan, RouterPlan
from peerway.sim.scenario import SIDES, Action, Scenario

MOST_ROUTERS = 250  # each has a network of its own in 5.0.0.0/8
MOST_RELAYS = 20
_TOO_LITTLE = {"size": 0, "seconds": 0, "under": -1}


class UnsoundError(ValueError):
    """A scenario that cannot be run, and why."""


def check(scenario: Scenario) -> None:
    """Raise `UnsoundError` where the scenario cannot be run."""
    if problem := problem_of(scenario):
        raise UnsoundError(problem)


def problem_of(scenario: Scenario) -> str:
    """The first reason why a scenario cannot be run, or ""."""
    return next(_problems(scenario), "")


def _problems(scenario: Scenario) -> Iterator[str]:
    plan = scenario.plan
    yield from _of_names(plan)
    yield from _of_sizes(plan)
    above: dict[str, RouterPlan] = {}
    for router in plan.routers:
        yield from _of_router(router, above)
        above[router.name] = router
    for host in plan.hosts:
        yield from _of_host(host, above)
    for action in scenario.actions:
        yield from _of_action(action, plan)
    for attack in scenario.attacks:
        if all(strategy.name != attack for strategy in HARMLESS):
            yield f"nobody attacks by {attack!r}"
    for guest in scenario.guests:
        if guest.manners not in MANNERS:
            yield f"no guest has the manners {guest.manners!r}"


def names_of(plan: InternetPlan) -> list[str]:
    """The names of all routers, hosts and relays."""
    parts: tuple[RouterPlan | HostPlan | RelayPlan, ...] = (*plan.routers, *plan.hosts, *plan.relays)
    return [part.name for part in parts]


def _of_names(plan: InternetPlan) -> Iterator[str]:
    names = names_of(plan)
    for name in names:
        if names.count(name) > 1 or name == CORE:
            yield f"{name} is the name of more than one"
    for side in SIDES:
        if all(host.name != side for host in plan.hosts):
            yield f"no host is called {side}"
    for name in plan.down:
        if name not in names:
            yield f"{name} is down, and nowhere to be found"


def _of_sizes(plan: InternetPlan) -> Iterator[str]:
    if len(plan.routers) > MOST_ROUTERS:
        yield f"more than {MOST_ROUTERS} routers"
    if len(plan.relays) > MOST_RELAYS:
        yield f"more than {MOST_RELAYS} relays"
    for relay in plan.relays:
        yield from _of_families(relay.name, relay.families)


def _of_router(router: RouterPlan, above: dict[str, RouterPlan]) -> Iterator[str]:
    if router.uplink != CORE and router.uplink not in above:
        yield f"{router.name} is to stand behind {router.uplink}, which is not among those before it"
        return
    if router.nat6 is not None and router.nat6.translates:
        yield f"{router.name} translates IPv6: only firewalls are there for it"
    if router.translates:
        if router.outside_addresses < 1:
            yield f"{router.name} translates and has no address outside"
        uplink = above.get(router.uplink)
        if uplink is not None and uplink.translates and uplink.inside == router.inside:
            yield f"{router.name} has the network {router.inside} on both sides"


def _of_host(host: HostPlan, routers: dict[str, RouterPlan]) -> Iterator[str]:
    if not host.interfaces:
        yield f"{host.name} has no interface"
    names = [interface.name for interface in host.interfaces]
    if len(set(names)) < len(names):
        yield f"{host.name} has two interfaces of one name"
    for interface in host.interfaces:
        if interface.router not in routers:
            yield f"{host.name} is to stand behind {interface.router}, which is no router"
        yield from _of_families(f"{host.name} {interface.name}", interface.families)


def _of_families(name: str, families: tuple[int, ...]) -> Iterator[str]:
    if not families or not set(families) <= {4, 6}:
        yield f"{name} has the families {families}, not 4, 6 or both"


def _of_action(action: Action, plan: InternetPlan) -> Iterator[str]:
    known = {"router": [router.name for router in plan.routers], "name": names_of(plan)}
    for field in fields(action):
        value = getattr(action, field.name)
        if field.name in known and value not in known[field.name]:
            yield f"{action}: there is no {value}"
        elif field.name in _TOO_LITTLE and value <= _TOO_LITTLE[field.name]:
            yield f"{action}: nothing takes so little"
