"""Leaps of the time that a relay, its clients and a STUN server are given."""

import pytest
from tests.core.relay_network import RelayNetwork

from peerway.core.budget import BoxBudget, DialBudget, ProbeBudget
from peerway.core.machine import Datagram, UdpAddress
from peerway.core.relay.client import RelayDisconnected
from peerway.core.relay.limits import HoldStream, RelayLimits
from peerway.core.stun.server import StunServer

DAY = 86_400.0
SOMEBODY = UdpAddress("203.0.113.9", 5)
PLAIN = bytes.fromhex("0001 0000 2112a442") + b"transaction!"


def at(network, seconds, use):
    """Do something with the machines while their time is `seconds` off."""
    network.now += seconds
    try:
        use()
    finally:
        network.now -= seconds


def test_a_relay_goes_on_after_a_leap_forward_and_strangers_are_out_of_time():
    network = RelayNetwork()
    network.join("alice")
    network.join("bob")
    network.server.stream_accepted("stranger", "192.0.2.9", network.now)
    network.settle()
    network.now += DAY
    network.server.handle_timeout(network.now)
    network.settle()
    assert network.closed_by_server == ["stranger"]
    network.send("alice", "bob", b"good morning")
    assert len(network.received("bob")) == 1
    assert network.server.poll_deadline().at > network.now


def test_a_reader_that_was_paused_for_a_day_is_closed_and_no_other():
    network = RelayNetwork()
    network.join("alice")
    network.join("slow")
    network.pause("slow")
    network.now += DAY
    network.server.handle_timeout(network.now)
    network.settle()
    assert network.closed_by_server == ["slow"]


def test_a_client_that_slept_for_a_day_takes_its_relay_for_dead():
    network = RelayNetwork()
    alice = network.join("alice")
    network.now += DAY
    alice.handle_timeout(network.now)
    network.settle()
    assert isinstance(alice.events[-1], RelayDisconnected)


@pytest.mark.parametrize("seconds", [-DAY, -1.0])
def test_a_time_long_past_changes_nothing_at_a_relay(seconds):
    network = RelayNetwork(RelayLimits(bytes_per_s=1000.0, bytes_burst=2000.0))
    network.join("alice")
    bob = network.join("bob")
    network.advance(10.0)
    at(network, seconds, lambda: network.send("alice", "bob", b"late"))
    at(network, seconds, lambda: network.pause("bob"))
    at(network, seconds, lambda: network.resume("bob"))
    at(network, seconds, lambda: network.server.handle_timeout(network.now))
    at(network, seconds, lambda: bob.handle_timeout(network.now))
    network.advance(1.0)
    network.send("bob", "alice", b"on time")
    network.send("alice", "bob", b"on time")
    assert [packet for _, packet in network.received("bob")] == [b"late", b"on time"]
    assert [packet for _, packet in network.received("alice")] == [b"on time"]
    assert network.closed_by_server == []
    network.advance(200.0)
    assert network.clients["alice"].connected
    assert network.clients["bob"].connected


def test_who_is_held_up_in_a_time_long_past_is_released_at_once():
    network = RelayNetwork(RelayLimits(bytes_per_s=1000.0, bytes_burst=2000.0))
    network.join("alice")
    network.join("bob")
    network.advance(10.0)
    at(network, -DAY, lambda: network.send("alice", "bob", bytes(1500)))
    assert HoldStream("alice") in network.server_events
    network.advance(0.01)
    assert network.server.poll_deadline().reason == "relay: keep-alive"


def answers(server, now):
    server.receive(Datagram(PLAIN, SOMEBODY), now)
    count = 0
    while server.poll_transmit() is not None:
        count += 1
    return count


def test_a_stun_server_answers_after_a_leap_and_gives_no_more_for_a_time_long_past():
    server = StunServer(answers_per_s=10, burst=3)
    assert [answers(server, DAY) for _ in range(4)] == [1, 1, 1, 0]
    assert [answers(server, 0.0) for _ in range(4)] == [0, 0, 0, 0]
    assert [answers(server, DAY) for _ in range(4)] == [0, 0, 0, 0]
    assert [answers(server, 2 * DAY) for _ in range(4)] == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("budget", "allows", "burst"),
    [
        (ProbeBudget(), lambda budget, now: budget.allows(SOMEBODY, now), 40),
        (BoxBudget(), lambda budget, now: budget.allows(SOMEBODY, now), 20),
        (BoxBudget(), lambda budget, now: budget.allows_of_peer("peer", SOMEBODY, now), 100),
        (DialBudget(), lambda budget, now: budget.allows("peer", SOMEBODY, now), 40),
    ],
    ids=["probes", "boxes", "boxes of a peer", "dials"],
)
def test_a_budget_is_one_burst_after_a_day_and_none_for_a_time_long_past(budget, allows, burst):
    assert sum(allows(budget, DAY) for _ in range(300)) == burst
    assert sum(allows(budget, 0.0) for _ in range(300)) == 0
    assert sum(allows(budget, DAY) for _ in range(300)) == 0
    assert sum(allows(budget, 2 * DAY) for _ in range(300)) == burst
