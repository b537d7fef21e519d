"""By what means a direct path came about is told from what carries data, whatever was expected."""

from dataclasses import replace

import pytest

from peerway.core.machine import UdpAddress
from peerway.core.nat import Filtering, Mapping, PortAllocation
from peerway.core.path.candidate import CandidateKind
from peerway.sim.network.behaviour import Hairpin, NatBehaviour
from peerway.sim.plan import CARRIER_NETWORK, HostPlan, InterfacePlan, InternetPlan, RelayPlan, RouterPlan
from peerway.sim.population.means import MEANS, DirectPath, PathEnd, direct_path, means_of
from peerway.sim.run import Run
from peerway.sim.scenario import Dial, Scenario

EASY = NatBehaviour()
CONE = NatBehaviour(filtering=Filtering.ENDPOINT_INDEPENDENT)
HARD = NatBehaviour(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, ports=PortAllocation.RANDOM)
FIREWALL = NatBehaviour(translates=False)
TURNING = replace(CONE, hairpin=Hairpin.EXTERNAL_SOURCE)
BLOCKED = NatBehaviour(udp_blocked=True)


def internet(left, right, *routers, families=(4,)):
    hosts = (
        HostPlan("left", (InterfacePlan(left, families),)),
        HostPlan("right", (InterfacePlan(right, families),)),
    )
    return InternetPlan(routers, hosts, (RelayPlan("relay.test", (4, 6)),))


def homes(left, right, **more):
    routers = (RouterPlan(name, nat4=nat, nat6=FIREWALL) for name, nat in (("l", left), ("r", right)))
    return internet("l", "r", *routers, **more)


def path_of(plan):
    run = Run(Scenario(1, plan, (Dial("left"),)))
    assert run.to_the_end().violations == ()
    return direct_path(run.talk)


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("same-network", internet("l", "l", RouterPlan("l", nat4=EASY))),
        ("ipv6", homes(EASY, HARD, families=(4, 6))),
        (
            "hairpin",
            internet(
                "l",
                "r",
                RouterPlan("carrier", nat4=TURNING, inside=CARRIER_NETWORK),
                RouterPlan("l", "carrier", nat4=EASY),
                RouterPlan("r", "carrier", nat4=EASY),
            ),
        ),
        ("open-host", homes(None, EASY)),
        ("open-host", homes(HARD, None)),
        ("heard-first", homes(HARD, CONE)),
        ("firewall", homes(FIREWALL, EASY)),
        ("firewall", homes(FIREWALL, FIREWALL)),
        ("punched", homes(EASY, CONE)),
    ],
)
def test_the_means_is_that_of_the_path_in_use(name, plan):
    assert means_of(path_of(plan)) == name


@pytest.mark.parametrize("plan", [homes(HARD, EASY), homes(BLOCKED, EASY)])
def test_a_relayed_pair_has_no_direct_path(plan):
    assert path_of(plan) is None


def test_what_is_known_of_the_ends():
    path = path_of(homes(HARD, CONE))
    assert path.family == 4
    assert path.left.told is None
    assert path.right.told is CandidateKind.REFLEXIVE
    assert path.left.boxes == (HARD,)
    assert path.right.outside_ips == (path.right.address.ip,)
    assert path.round_trip_s == pytest.approx(0.044, abs=0.001)


def test_both_ends_are_of_the_path_that_the_dialler_chose():
    path = path_of(homes(EASY, EASY, families=(4, 6)))
    assert {":" in end.address.ip for end in path.ends} == {True}


def test_a_port_that_was_mapped_is_a_means():
    nat = PathEnd(UdpAddress("5.1.0.2", 41641), CandidateKind.REFLEXIVE, False, ("5.1.0.2",), (EASY,))
    mapped = PathEnd(UdpAddress("5.2.0.2", 7), CandidateKind.PORT_MAPPED, False, ("5.2.0.2",), (HARD,))
    assert means_of(DirectPath(nat, mapped, is_lan=False, round_trip_s=0.1)) == "port-mapping"


def test_every_means_has_a_name_of_its_own():
    assert len({means.name for means in MEANS}) == len(MEANS)
