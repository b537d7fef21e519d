"""Whatever a scenario can have is drawn, and nothing where it would make no difference."""

from collections import Counter
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import get_args

import pytest

from peerway.core.nat import Filtering, PortAllocation
from peerway.sim.attack.hostile_relay import Mischief
from peerway.sim.attack.manners import MANNERS
from peerway.sim.attack.strategies import HARMLESS
from peerway.sim.draw import draw
from peerway.sim.network.behaviour import Hairpin, NatBehaviour, Pooling
from peerway.sim.network.link import Bursts, LinkQuality
from peerway.sim.outlook import outlook
from peerway.sim.plan import HostPlan, InterfacePlan, InternetPlan, RelayPlan, RouterPlan
from peerway.sim.scenario import SIDES, Action, Scenario
from peerway.sim.written import default_of

DRAWS = 4000
OFTEN = 8  # in so many draws
PLANS = (InternetPlan, RouterPlan, HostPlan, InterfacePlan, RelayPlan)
QUALITIES = (NatBehaviour, LinkQuality, Bursts, Mischief)


@lru_cache(maxsize=1)
def drawn():
    return [draw(seed) for seed in range(DRAWS)]


def parts_of(value):
    """Every dataclass in `value`, itself included."""
    if isinstance(value, tuple):
        for item in value:
            yield from parts_of(item)
    elif is_dataclass(value):
        yield value
        for field in fields(value):
            yield from parts_of(getattr(value, field.name))


@lru_cache(maxsize=1)
def features():
    """In how many draws a field of a class differs from its default, or has a word of its own."""
    count = Counter()
    for scenario in drawn():
        count.update({feature for part in parts_of(scenario) for feature in features_of(part)})
    return count


def features_of(part):
    yield type(part).__name__
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, Enum):
            yield f"{type(part).__name__}.{field.name}={value.name}"
        elif value != default_of(field):
            yield f"{type(part).__name__}.{field.name}"


@pytest.mark.parametrize("of", [*PLANS, *QUALITIES, *get_args(Action), Scenario], ids=lambda of: of.__name__)
def test_every_field_is_drawn(of):
    wanted = {of.__name__}
    for field in fields(of):
        default = default_of(field)
        if isinstance(default, Enum):
            wanted |= {f"{of.__name__}.{field.name}={member.name}" for member in type(default)}
        elif default is not MISSING:
            wanted.add(f"{of.__name__}.{field.name}")
    assert {feature: features()[feature] for feature in wanted if features()[feature] < OFTEN} == {}


def test_every_enemy_is_drawn():
    attacks = Counter(attack for scenario in drawn() for attack in scenario.attacks)
    manners = Counter(guest.manners for scenario in drawn() for guest in scenario.guests)
    assert all(attacks[strategy.name] >= OFTEN for strategy in HARMLESS)
    assert all(manners[name] >= OFTEN for name in MANNERS)


COMBINED = {
    "a firewall for IPv4 that hears more than whom it was sent to": lambda router: (
        router.nat4 is not None and not router.translates and is_open_to_some(router.nat4)
    ),
    "a firewall for IPv6 that hears more than whom it was sent to": lambda router: (
        router.nat6 is not None and is_open_to_some(router.nat6)
    ),
    "a firewall for IPv6 with an idle time of its own": lambda router: (
        router.nat6 is not None and router.nat6.idle_s != NatBehaviour().idle_s
    ),
    "a carrier that turns packets round with their inside source": lambda router: (
        router.name == "carrier" and router.nat4.hairpin is Hairpin.INTERNAL_SOURCE
    ),
    "any of several addresses": lambda router: (
        router.outside_addresses > 1 and router.nat4.pooling is Pooling.ARBITRARY
    ),
}


def is_open_to_some(box):
    return box.filtering is not Filtering.ADDRESS_AND_PORT_DEPENDENT


@pytest.mark.parametrize("what", COMBINED)
def test_what_goes_together_is_drawn_together(what):
    assert sum(any(map(COMBINED[what], scenario.plan.routers)) for scenario in drawn()) >= OFTEN


def test_a_second_way_out_may_have_ipv6():
    interfaces = [host.interfaces[1:] for scenario in drawn() for host in scenario.plan.hosts]
    assert sum(any(6 in further.families for further in others) for others in interfaces) >= OFTEN


def test_nothing_is_drawn_where_it_makes_no_difference():
    for scenario in drawn():
        for router in scenario.plan.routers:
            assert router.outside_addresses > 1 or pooling_of(router) is Pooling.PAIRED
            for box in (router.nat4, router.nat6):
                assert box is None or not list(pointless(box))


def pooling_of(router):
    return router.nat4.pooling if router.nat4 is not None else Pooling.PAIRED


def pointless(box):
    plain = NatBehaviour()
    if box.ports is not PortAllocation.SEQUENTIAL:
        yield from (name for name in ("port_step", "other_ports_per_s") if differs(box, plain, name))
    if box.ports is PortAllocation.PRESERVING:
        yield from (name for name in ("keeps_parity",) if differs(box, plain, name))
    if not is_open_to_some(box):
        yield from (name for name in ("memory_s",) if differs(box, plain, name))
    if not box.translates:
        names = "ports", "hairpin", "input_open", "port_range", "block_ports", "lifetime_s", "overloads"
        yield from (name for name in names if differs(box, plain, name))


def differs(box, plain, name):
    return getattr(box, name) != getattr(plain, name)


def test_what_luck_decides_is_rare():
    words = Counter(outlook(scenario.plan, *SIDES) for scenario in drawn())
    assert words["direct"] > 0.6 * DRAWS
    assert words["unsure"] < 0.1 * DRAWS
    assert min(words["relay"], words["guessing"]) > 0.05 * DRAWS
