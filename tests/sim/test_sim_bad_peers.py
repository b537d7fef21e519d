"""An admitted peer that misbehaves: others fare as if it did not, and nobody is harmed through us."""

from dataclasses import replace
from functools import lru_cache

import pytest
from tests.sim.attack_story import Story

from peerway.core.machine import UdpAddress
from peerway.core.path.events import CandidateRefused, PathProven
from peerway.sim import Guest
from peerway.sim.attack.manners import MANNERS, VICTIM, Manners
from peerway.sim.named import NAMED
from peerway.sim.run import run


@lru_cache(maxsize=1)
def in_peace():
    return Story().run()


@pytest.mark.parametrize("manners", MANNERS)
def test_a_bad_peer_changes_nothing_for_others(manners):
    story = Story()
    story.world.run_until(1.5)
    story.admit(MANNERS[manners])
    outcome = story.run()
    assert story.monitor.violations == []
    assert outcome == in_peace()
    packets, _ = story.monitor.harm("right")
    assert packets < 500


@pytest.mark.parametrize("manners", MANNERS)
def test_a_guest_in_a_scenario_changes_nothing_for_the_two(manners):
    scenario = NAMED["restart"].scenario
    hosts = replace(scenario, guests=(Guest("left", manners), Guest("right", manners)))
    alone, visited = run(scenario), run(hosts)
    assert visited.violations == ()
    assert (visited.outcome, visited.first_byte_s) == (alone.outcome, alone.first_byte_s)
    assert visited.direct_s == pytest.approx(alone.direct_s, abs=0.1)
    # who names too many is not listened to, nor probed
    assert visited.probes_sent > alone.probes_sent or manners == "names a hundred at once"


def of_bad_peer(manners, kind):
    """What the right node says of the paths to a peer of such manners, within ten seconds."""
    story = Story()
    story.world.run_until(1.5)
    bad = story.admit(manners)
    story.world.run_for(10.0)
    assert story.monitor.violations == []
    return bad, [event for _, _, event in story.right.events if isinstance(event, kind)]


def test_a_bad_peer_is_good_enough_to_be_met_directly():
    _, proven = of_bad_peer(Manners(), PathProven)
    assert UdpAddress("198.51.200.77", 49152) in [event.remote for event in proven]


def test_addresses_that_nobody_may_have_us_probe_are_refused():
    odd = [
        ("127.0.0.1", 53),
        ("0.0.0.0", 53),
        ("224.0.0.1", 53),
        ("255.255.255.255", 53),
        ("169.254.1.1", 53),
        (VICTIM, 0),
        ("::1", 53),
        ("ff02::1", 53),
        ("fe80::1", 53),
    ]
    named = (tuple(UdpAddress(ip, port) for ip, port in odd),)
    _, refused = of_bad_peer(Manners(named), CandidateRefused)
    assert [(event.candidate.address.ip, event.candidate.address.port) for event in refused] == odd


def test_nobody_can_vouch_for_an_address_that_is_not_its_own():
    victim = UdpAddress(VICTIM, 53)
    bad, proven = of_bad_peer(Manners(in_whose_name=(victim,), forged_per_s=50.0), PathProven)
    assert bad.forged > 1000
    assert victim not in [event.remote for event in proven]
