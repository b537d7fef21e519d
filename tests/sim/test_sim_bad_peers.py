"""An admitted peer that misbehaves: others fare as if it did not, and nobody is harmed through us."""

from functools import lru_cache

import pytest
from tests.sim.attack_story import Story

from peerway.core.machine import UdpAddress
from peerway.core.path.events import CandidateRefused, PathProven
from peerway.sim.bad_peer import Manners, strewn

VICTIM = "198.18.6.66"
MANNERS = {
    "behaves": Manners(),
    "names hundreds of ports of one address": Manners(strewn([VICTIM], range(1, 400)), each_s=0.2),
    "names hundreds of networks": Manners(strewn([f"198.18.{n}.6" for n in range(1, 200)], [53]), each_s=0.2),
    "names two addresses in turn": Manners(strewn([VICTIM], [53, 54], 1), each_s=0.1),
    "names a hundred at once": Manners(strewn([VICTIM], range(1, 400), 100), each_s=0.2),
    "never answers": Manners(answers=False),
    "speaks in others' names": Manners(
        in_whose_name=(UdpAddress(VICTIM, 53), UdpAddress("198.18.7.7", 53)), forged_per_s=10.0
    ),
    "dials without end": Manners(dials_per_s=2.0),
}


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
