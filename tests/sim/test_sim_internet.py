"""An internet built from its plan is as the plan says."""

from dataclasses import replace

from peerway.sim.homes import TWO_HOMES
from peerway.sim.network.link import LinkQuality
from peerway.sim.plan import RelayPlan
from peerway.sim.run import run
from peerway.sim.scenario import Dial, Scenario


def first_byte_s(relay):
    verdict = run(Scenario(1, replace(TWO_HOMES, relays=(relay,)), (Dial("left"),)))
    assert verdict.violations == ()
    return verdict.first_byte_s


def test_a_relay_that_is_farther_away_makes_the_first_byte_later():
    near = first_byte_s(RelayPlan("relay.test"))
    far = first_byte_s(RelayPlan("relay.test", quality=LinkQuality(delay_s=0.052)))
    assert 0.39 < far - near < 0.41  # 50 ms more each way, for two of the relay's round trips
