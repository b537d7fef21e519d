"""The hostile relay does what it is told to do, at the rate it is told, and nothing else."""

import random
from collections import Counter
from dataclasses import fields

import pytest
from tests.core.relay_network import RelayNetwork, private_key

from peerway.core.relay.client import PeerGone
from peerway.core.relay.greeting import public_key
from peerway.sim.attack.hostile_relay import Carried, HostileRelay, Mischief

ALICE, BOB = public_key(private_key("alice")), public_key(private_key("bob"))
PACKETS = [b"%03d" % number for number in range(200)]
DEEDS = {field.name for field in fields(Mischief)} - {"delay_s"}


def carried_with(mischief, seconds=5.0):
    """The network, after alice sent bob `PACKETS` one by one through a relay of that mischief."""
    network = RelayNetwork()
    network.server = HostileRelay(network.rng, random.Random(5), mischief)
    for name in ("alice", "bob", "carol"):
        network.join(name)
    for packet in PACKETS:
        network.send("alice", "bob", packet)
    network.advance(seconds)
    return network


def test_without_mischief_it_is_an_honest_relay():
    network = carried_with(Mischief())
    assert network.received("bob") == [(ALICE, packet) for packet in PACKETS]
    assert network.received("alice") == []
    assert +network.server.deeds == Counter()


def test_it_drops():
    got = [packet for _, packet in carried_with(Mischief(drop=0.5)).received("bob")]
    assert 70 < len(got) < 130
    assert got == sorted(got)


def test_it_delays_and_delivers_in_the_end():
    network = carried_with(Mischief(delay=0.5, delay_s=2.0), seconds=0.0)
    at_once = len(network.received("bob"))
    assert 70 < at_once < 130
    network.advance(1.0)
    assert at_once < len(network.received("bob")) < 200
    network.advance(1.0)
    assert sorted(packet for _, packet in network.received("bob")) == PACKETS


def test_it_reorders():
    network = carried_with(Mischief(reorder=0.5), seconds=0.05)
    got = [packet for _, packet in network.received("bob")]
    assert got != PACKETS
    assert sorted(got) == PACKETS


def test_it_duplicates():
    got = Counter(packet for _, packet in carried_with(Mischief(duplicate=0.5)).received("bob"))
    assert sorted(got) == PACKETS
    assert set(got.values()) == {1, 2}


def test_it_sends_altered_copies_beside_the_original():
    got = [packet for _, packet in carried_with(Mischief(alter=1.0)).received("bob")]
    assert got[::2] == PACKETS
    assert all(copy != packet for packet, copy in zip(got[::2], got[1::2], strict=True))
    assert any(len(packet) < 3 for packet in got)
    assert any(len(packet) > 3 for packet in got)


def test_it_reflects_to_the_sender_under_either_name():
    network = carried_with(Mischief(reflect=0.5))
    assert [packet for _, packet in network.received("bob")] == PACKETS
    reflected = network.received("alice")
    assert 70 < len(reflected) < 130
    assert {source for source, _ in reflected} == {ALICE, BOB}


def test_it_replays():
    got = [packet for _, packet in carried_with(Mischief(replay=0.5)).received("bob")]
    assert 270 < len(got) < 330
    assert sorted(set(got)) == PACKETS


def test_it_lies_about_who_sent():
    network = carried_with(Mischief(lie=0.5))
    assert [packet for _, packet in network.received("bob")] == PACKETS
    sources = Counter(source for source, _ in network.received("bob"))
    assert 70 < sources[ALICE] < 130
    assert public_key(private_key("carol")) in sources
    assert BOB in sources
    assert len(sources) > 10


def test_it_denies_that_the_receiver_is_here():
    network = carried_with(Mischief(deny=0.5))
    assert [event.key for event in network.events("alice", PeerGone)] == [BOB]
    assert len(network.received("bob")) == 200


def test_it_says_what_it_likes():
    network = carried_with(Mischief())
    seen = network.server.seen[7]
    assert seen == Carried(ALICE, BOB, b"007")
    network.server.say(Carried(BOB, ALICE, seen.packet), network.now)
    network.settle()
    assert network.received("alice") == [(BOB, b"007")]


@pytest.mark.parametrize("deed", sorted(DEEDS))
def test_every_deed_is_counted(deed):
    network = carried_with(Mischief(**{deed: 0.5}))
    assert set(+network.server.deeds) == {deed}


def test_same_chance_same_deeds():
    everything = Mischief(**dict.fromkeys(DEEDS, 0.2))
    one, other = carried_with(everything), carried_with(everything)
    assert one.received("bob") == other.received("bob")
    assert one.server.deeds == other.server.deeds
