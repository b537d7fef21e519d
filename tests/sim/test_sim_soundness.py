"""Who writes a scenario that cannot be run is told what is wrong with it."""

import math
import re
from dataclasses import replace
from typing import get_args, get_type_hints

import pytest

from peerway.sim import (
    Action,
    Bursts,
    Dial,
    Guest,
    HangUp,
    HostPlan,
    InterfacePlan,
    InternetPlan,
    LinkQuality,
    Mischief,
    NatBehaviour,
    Partition,
    Reboot,
    RelayPlan,
    Roam,
    RouterPlan,
    Scenario,
    Sleep,
    Transfer,
)
from peerway.sim.draw import draw
from peerway.sim.internet import Internet
from peerway.sim.run import run
from peerway.sim.soundness import UnsoundError, problem_of
from peerway.sim.values import RANGES

NAT = NatBehaviour()
LEFT, RIGHT = HostPlan("left", (InterfacePlan("l"),)), HostPlan("right", (InterfacePlan("r"),))
PLAN = InternetPlan((RouterPlan("l"), RouterPlan("r")), (LEFT, RIGHT))


def scenario(plan=PLAN, *actions):
    return Scenario(1, plan, actions)


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        (replace(PLAN, routers=(RouterPlan("l"), RouterPlan("l"))), "l is the name of more than one"),
        (replace(PLAN, routers=(RouterPlan("core"),)), "core is the name of more than one"),
        (replace(PLAN, hosts=(LEFT,)), "no host is called right"),
        (PLAN.cut("m"), "m is down, and nowhere to be found"),
        (
            InternetPlan(
                (RouterPlan("l", nat4=NAT), RouterPlan("r", nat4=NAT)),
                (replace(LEFT, interfaces=(InterfacePlan("l"), InterfacePlan("r", name="wwan0"))), RIGHT),
            ),
            "left has one network on two sides, and cannot tell which is meant: ['192.168.1', '192.168.1']",
        ),
        (
            replace(PLAN, routers=(RouterPlan("l", "r"), RouterPlan("r"))),
            "l is to stand behind r, which is not among those before it",
        ),
        (
            replace(PLAN, routers=(RouterPlan("l", nat6=NAT), RouterPlan("r"))),
            "l translates IPv6: only firewalls are there for it",
        ),
        (
            replace(PLAN, routers=(RouterPlan("l", nat4=NAT), RouterPlan("r", "l", nat4=NAT))),
            "r has the network 192.168.1 on both sides",
        ),
        (
            replace(PLAN, routers=(RouterPlan("l", nat4=NAT, outside_addresses=0), RouterPlan("r"))),
            "l.outside_addresses is 0: it must be a whole number from 1 to 253",
        ),
        (PLAN.with_host(HostPlan("left", ())), "left has no interface"),
        (
            PLAN.with_host(HostPlan("left", (InterfacePlan("l"), InterfacePlan("r")))),
            "left has two interfaces of one name",
        ),
        (
            PLAN.with_host(HostPlan("left", (InterfacePlan("core"),))),
            "left is to stand behind core, which is no router",
        ),
        (
            PLAN.with_host(HostPlan("left", (InterfacePlan("l", (5,)),))),
            "left eth0 has the families (5,), not 4, 6 or both",
        ),
        (
            replace(PLAN, relays=(RelayPlan("relay", ()),)),
            "relay has the families (), not 4, 6 or both",
        ),
    ],
)
def test_a_plan_that_cannot_be_built_is_refused(plan, problem):
    assert problem_of(scenario(plan)) == problem
    with pytest.raises(UnsoundError):
        run(scenario(plan))


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        (Partition("m", 1.0), "Partition(name='m', seconds=1.0): there is no m"),
        (Roam("left", "right"), "Roam(side='left', router='right'): there is no right"),
        (
            Transfer("left", 0),
            "Transfer(by='left', size=0).size is 0: it must be a whole number of at least 1",
        ),
        (
            Reboot("l", under=-1),
            "Reboot(router='l', renumber=False, under=-1).under is -1:"
            " it must be a whole number of at least 0",
        ),
        (
            Dial("nobody"),  # type: ignore[arg-type]
            "Dial(by='nobody').by is 'nobody': it must be 'left' or 'right' or 'both'",
        ),
        (
            HangUp("both"),  # type: ignore[arg-type]
            "HangUp(by='both').by is 'both': it must be 'left' or 'right'",
        ),
        (
            Sleep("left", math.inf),
            "Sleep(side='left', seconds=inf).seconds is inf: it must be a number above 0",
        ),
    ],
)
def test_an_action_on_what_is_not_there_is_refused(action, problem):
    assert problem_of(scenario(PLAN, Dial("left"), action)) == problem


@pytest.mark.parametrize(
    ("enemies", "problem"),
    [
        ({"attacks": ("shouting",)}, "nobody attacks by 'shouting'"),
        ({"guests": (Guest("left", "bites"),)}, "no guest has the manners 'bites'"),
    ],
)
def test_enemies_that_nobody_knows_are_refused(enemies, problem):
    assert problem_of(replace(scenario(), **enemies)) == problem


def of_router(**changes):
    return PLAN.with_router(RouterPlan("l", **changes))


def of_link(**changes):
    return of_router(quality=LinkQuality(**changes))


def of_nat(**changes):
    return of_router(nat4=replace(NAT, **changes))


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        (of_link(delay_s=-1), "l.quality.delay_s is -1: it must be a number of at least 0"),
        (of_link(delay_s=math.nan), "l.quality.delay_s is nan: it must be a number of at least 0"),
        (of_link(loss=2), "l.quality.loss is 2: it must be a number from 0 to 1"),
        (of_link(reorder=20), "l.quality.reorder is 20: it must be a number from 0 to 1"),
        (of_link(rate=0), "l.quality.rate is 0: it must be None or a number above 0"),
        (
            of_link(bursts=Bursts(0, 0)),
            "l.quality.bursts.begin is 0: it must be a number above 0, at most 1",
        ),
        (of_nat(idle_s=True), "l.nat4.idle_s is True: it must be a number above 0"),
        (of_nat(port_step=1.5), "l.nat4.port_step is 1.5: it must be a whole number of at least 1"),
        (of_nat(filtering="none"), "l.nat4.filtering is 'none': it must be a Filtering"),
        (of_nat(port_range=(1, 2, 3)), "l.nat4.port_range is (1, 2, 3): it must be None or a tuple of 2 int"),
        (
            of_nat(port_range=(3000, 2000)),
            "l has the port_range (3000, 2000): it must be the first port and one past the last,"
            " such as (1024, 65536)",
        ),
        (
            of_nat(port_range=(1024, 1100), block_ports=512),
            "l has the block_ports 512, and 76 ports in all",
        ),
        (of_router(nat4="home"), "l.nat4 is 'home': it must be None or a NatBehaviour"),
        (
            of_router(outside_addresses=300),
            "l.outside_addresses is 300: it must be a whole number from 1 to 253",
        ),
        (
            of_router(inside="192.168.1.0/24"),
            "l.inside is '192.168.1.0/24': it must be the first three numbers of a private network,"
            " such as '192.168.1'",
        ),
        (
            of_router(inside="203.0.113"),
            "l.inside is '203.0.113': it must be the first three numbers of a private network,"
            " such as '192.168.1'",
        ),
        (
            PLAN.with_host(replace(LEFT, port=70000)),
            "left.port is 70000: it must be a whole number from 0 to 65535",
        ),
        (
            PLAN.with_host(replace(LEFT, bridges=300)),
            "left.bridges is 300: it must be a whole number from 0 to 15",
        ),
        (
            PLAN.with_host(replace(LEFT, interfaces="eth0")),  # type: ignore[arg-type]
            "left.interfaces is 'eth0': it must be a tuple of InterfacePlan",
        ),
        (
            PLAN.with_host(HostPlan("left", (InterfacePlan("l", quality=LinkQuality(mtu=0)),))),
            "left eth0.quality.mtu is 0: it must be None or a whole number of at least 68",
        ),
        (
            replace(PLAN, relays=["relay"]),  # type: ignore[arg-type]
            "relays is ['relay']: it must be a tuple of RelayPlan",
        ),
        (
            replace(PLAN, relays=(RelayPlan("relay", mischief=Mischief(drop=5)),)),
            "relay.mischief.drop is 5: it must be a number from 0 to 1",
        ),
        (
            replace(PLAN, relays=(RelayPlan("Our Relay"),)),
            "'Our Relay' cannot be the name of a relay: it must be like a host's, in small letters,"
            " such as 'relay1.test'",
        ),
    ],
)
def test_a_value_that_means_nothing_is_refused_for_scenarios_and_internets_alike(plan, problem):
    assert problem_of(scenario(plan)) == problem
    with pytest.raises(UnsoundError, match=re.escape(problem)):
        Internet(plan, seed=1)


def test_an_internet_may_have_any_hosts_and_no_relay():
    plan = replace(PLAN, hosts=(replace(LEFT, name="somebody"),), relays=())
    assert set(Internet(plan, seed=1).hosts) == {"somebody"}


def test_a_network_that_has_no_address_left_says_so():
    plan = of_router(nat4=NAT, outside_addresses=253)
    internet = Internet(plan, seed=1)
    with pytest.raises(UnsoundError, match=r"no address is left in 5\.1\.0\.0/24"):
        internet.reboot("l", renumber=True)


ONLY_IPV6 = replace(
    PLAN, hosts=tuple(replace(host, interfaces=(InterfacePlan("l", (6,)),)) for host in PLAN.hosts)
)


@pytest.mark.parametrize(
    ("plan", "cannot"),
    [
        (replace(PLAN, relays=()), "there is none"),
        (PLAN.cut("relay1.test"), "left cannot reach relay1.test, right cannot reach relay1.test"),
        (PLAN.cut("r"), "right cannot reach relay1.test"),
        (ONLY_IPV6, "left cannot reach relay1.test, right cannot reach relay1.test"),
        (
            replace(PLAN, hosts=(ONLY_IPV6.hosts[0], RIGHT), relays=(RelayPlan("a"), RelayPlan("b", (6,)))),
            "left cannot reach a, right cannot reach b",
        ),
    ],
)
def test_nobody_dials_in_vain(plan, cannot):
    assert problem_of(scenario(plan, Transfer("left", 1))) == ""
    assert problem_of(scenario(plan, Dial("left"))) == (
        f"who dials needs a relay that both can reach, by a family that they have: {cannot}"
    )


@pytest.mark.parametrize("action", [Partition("r", 1.0), Roam("right", "l")])
def test_what_cannot_dial_at_the_start_may_do_so_later(action):
    plan = PLAN.cut("r")
    assert problem_of(scenario(plan, Dial("left"), action)) != ""
    assert problem_of(scenario(plan, action, Dial("left"))) == ""


@pytest.mark.parametrize(
    "kind",
    [
        *(Bursts, LinkQuality, NatBehaviour, Mischief),
        *(RouterPlan, InterfacePlan, HostPlan, RelayPlan, InternetPlan),
        *(Scenario, Guest, *get_args(Action)),
    ],
)
def test_every_number_in_a_plan_or_scenario_has_a_range(kind):
    hints = get_type_hints(kind).items()
    numbers = {name for name, hint in hints if {int, float} & {hint, *get_args(hint)}}
    assert numbers - {"families"} <= set(RANGES)


def test_whatever_is_drawn_is_sound():
    assert {problem_of(draw(seed)) for seed in range(300)} == {""}
