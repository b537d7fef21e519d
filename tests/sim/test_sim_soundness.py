"""Who writes a scenario that cannot be run is told what is wrong with it."""

from dataclasses import replace

import pytest

from peerway.sim import (
    Dial,
    Guest,
    HostPlan,
    InterfacePlan,
    InternetPlan,
    NatBehaviour,
    Partition,
    Reboot,
    RelayPlan,
    Roam,
    RouterPlan,
    Scenario,
    Transfer,
)
from peerway.sim.draw import draw
from peerway.sim.run import run
from peerway.sim.soundness import UnsoundError, problem_of

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
            "l translates and has no address outside",
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
        (Transfer("left", 0), "Transfer(by='left', size=0): nothing takes so little"),
        (Reboot("l", under=-1), "Reboot(router='l', renumber=False, under=-1): nothing takes so little"),
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


def test_whatever_is_drawn_is_sound():
    assert {problem_of(draw(seed)) for seed in range(300)} == {""}
