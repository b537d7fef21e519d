"""An internet built from its plan is as the plan says."""

from dataclasses import replace

from peerway.sim.homes import HOME, TWO_HOMES
from peerway.sim.internet import Internet
from peerway.sim.network.link import LinkQuality
from peerway.sim.plan import HostPlan, InterfacePlan, RelayPlan, RouterPlan
from peerway.sim.run import run
from peerway.sim.scenario import Dial, Partition, Scenario

TWO_WAYS_OUT = replace(
    TWO_HOMES, routers=(*TWO_HOMES.routers, RouterPlan("mobile", nat4=HOME, inside="10.9.0"))
).with_host(
    HostPlan("left", (InterfacePlan("left-home", name="wlan0"), InterfacePlan("mobile", name="wwan0")))
)


def first_byte_s(relay):
    verdict = run(Scenario(1, replace(TWO_HOMES, relays=(relay,)), (Dial("left"),)))
    assert verdict.violations == ()
    return verdict.first_byte_s


def test_a_relay_that_is_farther_away_makes_the_first_byte_later():
    near = first_byte_s(RelayPlan("relay.test"))
    far = first_byte_s(RelayPlan("relay.test", quality=LinkQuality(delay_s=0.052)))
    assert 0.39 < far - near < 0.41  # 50 ms more each way, for two of the relay's round trips


def ups(internet, host):
    return [link.up for link in internet.hosts[host].links]


def test_a_host_that_is_cut_has_no_link_at_all_whatever_its_interfaces_are_called():
    internet = Internet(TWO_WAYS_OUT, seed=1)
    internet.cut("left")
    assert ups(internet, "left") == [False, False]
    assert ups(internet, "right") == [True]
    internet.mend("left")
    assert ups(internet, "left") == [True, True]
    assert ups(Internet(TWO_WAYS_OUT.cut("left"), seed=1), "left") == [False, False]


def test_a_host_with_two_interfaces_that_is_cut_for_a_while_comes_back():
    verdict = run(Scenario(1, TWO_WAYS_OUT, (Dial("left"), Partition("left", 5.0), Partition("left", 30.0))))
    assert verdict.violations == ()


def test_a_host_that_is_cut_stays_so_wherever_it_goes():
    internet = Internet(TWO_WAYS_OUT, seed=1)
    internet.cut("left")
    internet.plug("left", internet.unplug("left"))
    assert ups(internet, "left") == [False, False]
    internet.move("left", HostPlan("left", (InterfacePlan("right-home"),)))
    assert ups(internet, "left") == [False]
    internet.mend("left")
    assert ups(internet, "left") == [True]
