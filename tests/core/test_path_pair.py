import random

import pytest

from peerway.core.budget import ProbeBudget
from peerway.core.identity import SecretKey
from peerway.core.machine import RelayAddress, UdpAddress
from peerway.core.path.events import PathDoubted, PathKind, PathLost, PathProven, PathRecovered
from peerway.core.path.pair import (
    MAX_OUTSTANDING,
    Pair,
    PairState,
    RoundTrip,
    misses_for_doubt,
    probe_delay,
)
from peerway.core.path.rounds import OPENER_TTL
from peerway.core.probe.message import Ping, Pong, ProbeOpener, ProbeSealer, derive_keys

A = SecretKey(b"\x01" * 32)
B = SecretKey(b"\x02" * 32)
SOCKET = UdpAddress("0.0.0.0", 41641)
PEER = UdpAddress("203.0.113.7", 41641)
THEIRS = Ping(b"their-id")


class Bench:
    """One pair, and a peer that opens what it sends and answers when told to."""

    def __init__(self, kind=PathKind.DIRECT, remote=PEER):
        seal, _ = derive_keys(A.node_id, b"a" * 32, B.node_id, b"b" * 32)
        _, opens = derive_keys(B.node_id, b"b" * 32, A.node_id, b"a" * 32)
        self.opener = ProbeOpener(opens)
        self.budget = ProbeBudget()
        self.pair = Pair(SOCKET, remote, kind, ProbeSealer(seal, 1), self.budget, random.Random(1))
        self.now = 0.0
        self.ttls = []
        self.sizes = []
        self.data_seen = 0
        self.theirs = 0

    def sent(self):
        """Each probe that was sent; ttl and size kept in `ttls` and `sizes`."""
        out = []
        while (transmit := self.pair.poll_transmit()) is not None:
            self.ttls.append(transmit.ttl)
            self.sizes.append(len(transmit.segments[0]))
            out.append(self.opener.open(transmit.segments[0]).message)
        return out

    def events(self):
        out = []
        while (event := self.pair.poll_event()) is not None:
            out.append(event)
        return out

    def answer(self, delay=0.01):
        """Answer every ping that waits, `delay` seconds later."""
        pings = [message for message in self.sent() if isinstance(message, Ping)]
        self.now += delay
        for ping in pings:
            self.pair.pong_received(Pong(ping.token, self.data_seen, SOCKET), self.now)

    def run_until(self, end, answering=False):
        while (deadline := self.pair.poll_deadline()) is not None and deadline.at <= end:
            self.now = max(self.now, deadline.at)
            self.pair.handle_timeout(self.now)
            if answering:
                self.answer()
        self.now = end

    def prove(self):
        self.pair.watch(0.2, carries_data=True, now=self.now)
        self.pair.start(self.now)
        self.theirs += 1
        self.pair.ping_received(self.theirs, THEIRS, self.now)
        self.run_until(self.now + 0.2, answering=True)
        assert self.pair.state is PairState.PROVEN
        self.events(), self.sent()


def test_the_first_ping_dies_before_it_reaches_the_peer():
    bench = Bench()
    bench.pair.open(0.0)
    assert len(bench.sent()) == 1
    assert bench.ttls == [OPENER_TTL]
    assert bench.pair.state is PairState.CLOSED
    assert bench.pair.poll_deadline() is None


@pytest.mark.parametrize(
    ("round_number", "ttls"), [(0, [2]), (1, [2, 3]), (2, [2, 3, 4]), (3, [2]), (4, [2, 3])]
)
def test_later_rounds_open_routers_further_out_too(round_number, ttls):
    bench = Bench()
    bench.pair.open(0.0, round_number)
    bench.sent()
    assert bench.ttls == ttls


def test_no_opener_is_needed_on_the_lan_or_over_a_relay():
    for kind, remote in ((PathKind.LAN, PEER), (PathKind.RELAY, RelayAddress("http://r", b"k" * 32))):
        bench = Bench(kind, remote)
        bench.pair.open(0.0)
        assert bench.sent() == []


def test_pings_after_the_start_have_a_normal_ttl():
    bench = Bench()
    bench.pair.open(0.0)
    bench.pair.start(0.0)
    bench.pair.handle_timeout(0.0)
    bench.sent()
    assert bench.ttls == [OPENER_TTL, None]


def test_unanswered_pings_become_rare_and_end():
    bench = Bench()
    bench.pair.start(0.0)
    bench.run_until(3.0)
    assert len(bench.sent()) == 18
    bench.run_until(14.0)
    assert len(bench.sent()) == 11
    bench.run_until(300.0)
    assert bench.sent() == []
    assert [probe_delay(sent) for sent in (0, 4, 8, 14, 18, 27, 28)] == [0.05, 0.1, 0.2, 0.4, 1.0, 1.0, None]


def test_a_ping_of_theirs_begins_the_schedule_again():
    bench = Bench()
    bench.pair.start(0.0)
    bench.run_until(100.0)
    bench.sent()
    bench.pair.ping_received(1, THEIRS, bench.now)
    bench.run_until(103.0)
    assert len(bench.sent()) == 1 + 18  # a pong, and pings as in the beginning


def test_in_a_round_theirs_begin_it_again_once():
    bench = Bench()
    bench.pair.start(0.0)
    for counter in range(1, 301):
        bench.run_until(bench.now + 0.2)
        bench.pair.ping_received(counter, THEIRS, bench.now)
    assert sum(isinstance(message, Ping) for message in bench.sent()) == 2 * 29
    bench.pair.forget("another round")
    bench.pair.ping_received(301, THEIRS, bench.now)
    bench.run_until(bench.now + 0.01)
    assert any(isinstance(message, Ping) for message in bench.sent())


def test_where_all_is_idle_a_ping_of_theirs_is_answered_and_begins_nothing():
    bench = Bench()
    bench.pair.ping_received(1, THEIRS, 0.0, is_idle=True)
    bench.run_until(100.0)
    assert [type(message) for message in bench.sent()] == [Pong]


def test_a_relay_is_tried_for_ever():
    bench = Bench(PathKind.RELAY, RelayAddress("http://r", b"k" * 32))
    bench.pair.start(0.0)
    bench.run_until(300.0)
    assert 80 <= len(bench.sent()) <= 90


def test_a_path_that_is_forgotten_is_silent_until_it_is_probed_anew():
    bench = Bench()
    bench.prove()
    bench.pair.forget("our address changed")
    assert [event.reason for event in bench.events() if isinstance(event, PathLost)] == [
        "our address changed"
    ]
    bench.run_until(bench.now + 60.0)
    assert bench.sent() == []
    assert bench.pair.state is PairState.CLOSED
    bench.pair.open(bench.now)
    bench.pair.start(bench.now)
    bench.prove()
    assert bench.pair.state is PairState.PROVEN


def test_nothing_large_goes_to_an_address_that_has_not_answered():
    bench = Bench()
    bench.pair.start(0.0)
    bench.run_until(100.0)
    assert {message.size for message in bench.sent()} == {65}


def test_an_answer_alone_does_not_prove_a_path():
    bench = Bench()
    bench.pair.start(0.0)
    bench.run_until(2.0, answering=True)
    assert bench.pair.state is PairState.PROBING


def test_their_ping_alone_does_not_prove_a_path():
    bench = Bench()
    bench.pair.start(0.0)
    bench.pair.ping_received(1, THEIRS, 0.0)
    bench.run_until(2.0)
    assert bench.pair.state is PairState.PROBING


def test_a_full_size_answer_and_their_ping_prove_it():
    bench = Bench()
    bench.pair.start(0.0)
    bench.pair.ping_received(1, THEIRS, 0.0)
    bench.run_until(0.2, answering=True)
    assert bench.pair.state is PairState.PROVEN
    proven = [event for event in bench.events() if isinstance(event, PathProven)]
    assert len(proven) == 1
    assert proven[0].round_trip == pytest.approx(0.01)


def test_a_peer_that_answers_and_does_not_ping_is_pinged_no_faster_than_one_that_is_silent():
    bench = Bench()
    bench.pair.start(0.0)
    bench.run_until(3.0, answering=True)
    assert bench.sizes == [65] + [1200] * 17
    assert bench.pair.state is PairState.PROBING


def test_a_path_that_is_not_trusted_yet_is_pinged_no_faster_either():
    bench = Bench()
    bench.prove()
    run_a_black_hole(bench, 2.0, datagrams=10)
    assert bench.pair.state is PairState.PROBING
    bench.sizes.clear()
    bench.run_until(bench.now + 3.0, answering=True)
    assert len(bench.sizes) < 20


def test_a_ping_is_answered_to_where_it_came_from_saying_from_where():
    bench = Bench()
    bench.pair.data_received = 7
    bench.pair.ping_received(1, THEIRS, 0.0)
    pongs = [message for message in bench.sent() if isinstance(message, Pong)]
    assert pongs == [Pong(b"their-id", 7, PEER)]


def test_a_ping_is_answered_once():
    bench = Bench()
    for _ in range(3):
        bench.pair.ping_received(41, THEIRS, 0.0)
    assert len([message for message in bench.sent() if isinstance(message, Pong)]) == 1
    assert bench.pair.drops["probe: replayed"] == 2


def test_a_pong_without_its_ping_is_dropped_and_counted():
    bench = Bench()
    bench.pair.pong_received(Pong(b"no token", 0, None), 0.0)
    assert bench.pair.drops["probe: pong without a ping on its path"] == 1


def test_a_ping_cannot_be_answered_by_who_did_not_receive_it():
    bench = Bench()
    bench.pair.start(0.0)
    bench.run_until(1.0)
    tokens = [ping.token for ping in bench.sent()]
    assert len(set(tokens)) == len(tokens) >= 10
    for guess in range(100):
        bench.pair.pong_received(Pong(guess.to_bytes(8, "big"), 0, SOCKET), 1.0)
    assert bench.events()[1:] == []
    bench.pair.pong_received(Pong(tokens[-1], 0, SOCKET), 1.0)
    assert len(bench.events()) == 1


def test_silence_makes_a_doubt_and_then_a_loss():
    bench = Bench()
    bench.prove()
    start = bench.now
    doubted_at = lost_at = None
    while lost_at is None:
        bench.run_until(bench.now + 0.01)
        bench.sent()
        for event in bench.events():
            if isinstance(event, PathDoubted):
                doubted_at = bench.now - start
            elif isinstance(event, PathLost):
                lost_at = bench.now - start
    assert 0.25 <= doubted_at <= 0.6
    assert doubted_at < lost_at <= 3.0
    assert bench.pair.state is PairState.PROBING


def test_two_answers_in_a_row_end_a_doubt():
    bench = Bench()
    bench.prove()
    bench.run_until(bench.now + 0.6)
    assert bench.pair.state is PairState.DOUBTED
    bench.answer()
    bench.run_until(bench.now + 0.5, answering=True)
    assert bench.pair.state is PairState.PROVEN
    assert any(isinstance(event, PathRecovered) for event in bench.events())


def test_a_lossy_path_is_not_doubted_for_what_chance_explains():
    assert misses_for_doubt(0.0) == 3
    assert misses_for_doubt(0.1) == 3
    assert misses_for_doubt(0.3) == 6
    assert misses_for_doubt(0.5) == 10
    assert misses_for_doubt(0.99) == 30


def test_a_path_that_lets_only_small_packets_through_is_doubted():
    bench = Bench()
    bench.prove()
    for _ in range(400):
        bench.run_until(bench.now + 0.01)
        for message in bench.sent():
            if isinstance(message, Ping) and message.size < 1000:
                bench.pair.pong_received(Pong(message.token, 0, SOCKET), bench.now)
    assert any(isinstance(event, PathDoubted) for event in bench.events())
    assert bench.pair.state is PairState.PROBING


def test_a_path_that_lets_only_small_packets_through_stays_in_doubt_when_data_has_left_it():
    bench = Bench()
    bench.prove()
    bench.run_until(bench.now + 0.6)
    assert bench.pair.state is PairState.DOUBTED
    bench.sent()
    bench.pair.watch(0.5, carries_data=False, now=bench.now)
    for _ in range(400):
        bench.run_until(bench.now + 0.02)
        for message in bench.sent():
            if isinstance(message, Ping) and message.size < 1000:
                bench.pair.pong_received(Pong(message.token, 0, SOCKET), bench.now)
    happened = bench.events()
    assert not any(isinstance(event, PathRecovered) for event in happened)
    assert any(isinstance(event, PathLost) for event in happened)
    assert bench.pair.state is PairState.PROBING


def test_where_all_is_idle_a_path_that_is_probed_is_left_alone():
    bench = Bench()
    bench.pair.start(0.0)
    bench.pair.watch(None, carries_data=False, now=0.0)
    assert bench.pair.poll_deadline() is None


def test_an_idle_path_sends_nothing():
    bench = Bench()
    bench.prove()
    bench.pair.watch(None, carries_data=False, now=bench.now)
    assert bench.pair.poll_deadline() is None


def test_a_path_that_pongs_but_loses_data_is_lost():
    bench = Bench()
    bench.prove()
    lost = []
    while not lost and bench.now < 4.0:
        bench.pair.data_sent(10)
        bench.run_until(bench.now + 0.2, answering=True)
        lost += [event for event in bench.events() if isinstance(event, PathLost)]
    assert lost[0].reason == "it answers pings but loses data"
    assert bench.now < 1.0


def test_what_an_outage_between_two_pings_swallowed_makes_no_black_hole():
    bench = Bench()
    bench.prove()
    for swallowed in (40, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0):
        bench.pair.data_sent(swallowed)
        bench.run_until(bench.now + 0.2, answering=True)
    bench.data_seen = 10
    bench.pair.data_sent(10)
    bench.run_until(bench.now + 0.2, answering=True)
    assert not [event for event in bench.events() if isinstance(event, PathLost)]
    assert bench.pair.state is PairState.PROVEN


def run_a_black_hole(bench, seconds, datagrams):
    """The times at which the path was lost, while so many datagrams go out each half a second."""
    lost, start = [], bench.now
    while bench.now < start + seconds:
        bench.pair.ping_received(2 + round(1000 * bench.now), THEIRS, bench.now)
        bench.pair.data_sent(datagrams)
        bench.run_until(bench.now + 0.5, answering=True)
        lost += [bench.now - start for event in bench.events() if isinstance(event, PathLost)]
    return lost


def test_where_little_is_sent_a_second_shows_that_nothing_arrives():
    bench = Bench()
    bench.prove()
    (lost_at,) = run_a_black_hole(bench, 8.0, datagrams=2)
    assert 1.0 <= lost_at <= 2.0


def test_a_black_hole_is_not_proven_again_at_once_and_each_time_later():
    bench = Bench()
    bench.prove()
    first, second, third = run_a_black_hole(bench, 60.0, datagrams=2)
    assert 10.0 <= second - first <= 14.0
    assert 20.0 <= third - second <= 24.0


def test_on_a_lossy_path_more_must_be_missing():
    bench = Bench()
    bench.prove()
    bench.pair.loss = 0.5
    assert run_a_black_hole(bench, 2.0, datagrams=1) == []
    assert bench.pair.state is PairState.PROVEN


def test_a_path_whose_data_arrives_is_kept():
    bench = Bench()
    bench.prove()
    for _ in range(20):
        bench.pair.data_sent(10)
        bench.data_seen += 7
        bench.run_until(bench.now + 0.2, answering=True)
    assert not [event for event in bench.events() if isinstance(event, PathLost)]


def test_without_budget_no_probe_goes():
    bench = Bench()
    while bench.budget.allows(PEER, 0.0):
        pass
    bench.pair.start(0.0)
    bench.pair.handle_timeout(0.0)
    assert bench.sent() == []
    bench.run_until(1.0)
    assert bench.sent()


def test_the_round_trip_is_the_least_of_late():
    rtt = RoundTrip()
    for at, value in ((0.0, 0.010), (1.0, 0.100), (2.0, 0.200)):
        rtt.sample(value, at)
    assert rtt.minimum == 0.010
    for at in (16.0, 20.0, 32.0, 40.0):
        rtt.sample(0.100, at)
    assert rtt.minimum == 0.100


def test_of_pings_that_nobody_answers_the_latest_are_remembered():
    bench = Bench()
    for number in range(40):
        bench.pair.ping(float(number))
    assert len(bench.pair._outstanding) == MAX_OUTSTANDING == 16
