"""One agent, and a peer whose probes arrive from wherever a test says."""

import itertools
import random

import pytest

from peerway.core.budget import ProbeBudget
from peerway.core.identity import SecretKey
from peerway.core.machine import RelayAddress, UdpAddress
from peerway.core.path.agent import PathAgent, RoundBegun
from peerway.core.path.candidate import Candidate, CandidateKind, TargetPolicy
from peerway.core.path.events import (
    CandidateLearned,
    PathEvent,
    PathKind,
    PathLost,
    PathProven,
    PathSelected,
    PingAnswered,
)
from peerway.core.path.pair import PairState
from peerway.core.path.pairs import MAX_PAIRS, MAX_PEER_REFLEXIVE
from peerway.core.path.rounds import OPENER_REACHES, OPENER_TTL
from peerway.core.probe.message import Ping, Pong, ProbeOpener, ProbeSealer, derive_keys

US, THEM = SecretKey(b"\x01" * 32), SecretKey(b"\x02" * 32)
SOCKET = UdpAddress("0.0.0.0", 41641)
OTHER_SOCKET = UdpAddress("192.168.1.5", 50000)
PEER = UdpAddress("203.0.113.7", 41641)
ELSEWHERE = UdpAddress("198.51.100.66", 666)


class Bench:
    def __init__(self, candidates=(PEER,)):
        seal, opens = derive_keys(US.node_id, b"a" * 32, THEM.node_id, b"b" * 32)
        their_seal, their_open = derive_keys(THEM.node_id, b"b" * 32, US.node_id, b"a" * 32)
        self.opener, self.sealer = ProbeOpener(their_open), ProbeSealer(their_seal, 1)
        rng = random.Random(1)
        self.agent = PathAgent(
            ProbeSealer(seal, 1), ProbeOpener(opens), TargetPolicy(), ProbeBudget(), rng, 0.0
        )
        self.agent.set_sockets((SOCKET,), TargetPolicy(), 0.0)
        found = tuple(Candidate(CandidateKind.REFLEXIVE, address) for address in candidates)
        self.agent.set_candidates(found, 0.0)
        self.agent.peer_ready(0.0)
        self.agent.handle_timeout(0.0)
        self.tokens = 0

    def ping(self):
        """A ping of the peer."""
        self.tokens += 1
        return self.sealer.seal(Ping(self.tokens.to_bytes(8, "big")))[1]

    def answers(self, to):
        """Pongs of the peer to all our pings that went to `to`."""
        pings = [message for remote, message in self.sent() if remote == to and isinstance(message, Ping)]
        return [self.sealer.seal(Pong(ping.token, 0, SOCKET))[1] for ping in pings]

    def arrive(self, data, remote=PEER, now=0.0):
        self.agent.probe_received(data, SOCKET, remote, now)

    def sent(self):
        """Where each probe went, and what it says."""
        out = []
        while (transmit := self.agent.poll_transmit()) is not None:
            out.append((transmit.remote, self.opener.open(transmit.segments[0]).message))
        return out

    def events(self, kind):
        out = []
        while (event := self.agent.poll_event()) is not None:
            if isinstance(event, kind):
                out.append(event)
        return out


def pongs(bench):
    return [remote for remote, message in bench.sent() if isinstance(message, Pong)]


def test_a_copy_of_a_ping_makes_no_address_known():
    bench = Bench()
    ping = bench.ping()
    bench.arrive(ping)
    bench.events(CandidateLearned)
    bench.arrive(ping, ELSEWHERE)
    assert pongs(bench) == [PEER]
    assert bench.events(CandidateLearned) == []
    assert bench.agent.drops["probe: replayed"] == 1


def test_a_ping_that_was_kept_back_has_no_effect_later():
    bench = Bench()
    kept = [bench.ping() for _ in range(3)]
    for second in range(8):
        bench.arrive(bench.ping(), now=float(second))
    pongs(bench)
    bench.arrive(kept[0], ELSEWHERE, 8.0)
    bench.arrive(kept[1], PEER, 8.0)
    assert pongs(bench) == []
    assert bench.agent.drops["probe: late"] == 2
    bench.arrive(bench.ping(), ELSEWHERE, 8.0)
    assert pongs(bench) == [ELSEWHERE]


def test_it_makes_none_known_either_when_nothing_came_since():
    bench = Bench()
    kept = bench.ping()
    bench.arrive(bench.ping(), now=1.0)
    pongs(bench)
    bench.arrive(kept, ELSEWHERE, 100.0)
    assert pongs(bench) == []


def test_a_ping_counts_though_a_copy_from_elsewhere_was_quicker():
    bench = Bench()
    ping = bench.ping()
    bench.arrive(ping, ELSEWHERE)
    bench.arrive(ping, PEER)
    bench.arrive(ping, PEER)
    assert pongs(bench) == [ELSEWHERE, PEER]


def test_a_copy_is_not_answered_again_by_a_pair_that_was_made_anew():
    bench = Bench()
    ping = bench.ping()
    bench.arrive(ping)
    bench.agent.set_sockets((), TargetPolicy(), 0.0)
    bench.agent.set_sockets((SOCKET,), TargetPolicy(), 0.0)
    bench.arrive(ping)
    assert pongs(bench) == [PEER]
    assert bench.agent.drops["probe: replayed"] == 1
    bench.arrive(bench.ping())
    assert pongs(bench) == [PEER]


@pytest.mark.parametrize("overtaken", [False, True])
def test_a_path_is_proven_though_copies_of_all_its_probes_were_quicker(overtaken):
    bench = Bench()

    def arrive(data, now):
        if overtaken:
            bench.arrive(data, ELSEWHERE, now)
        bench.arrive(data, PEER, now)

    arrive(bench.ping(), 0.0)
    for now in (0.01, 0.02):
        for pong in bench.answers(PEER):
            arrive(pong, now)
        bench.agent.handle_timeout(now)
    events = bench.events((PathProven, PathSelected))
    assert [(type(event), event.remote) for event in events] == [(PathProven, PEER), (PathSelected, PEER)]


def prove(bench, remote, local, now):
    """The peer answers from there, and pings."""
    bench.agent.probe_received(bench.ping(), local, remote, now)
    for later in (0.01, 0.02, 0.03):
        bench.agent.handle_timeout(now + later)
        for pong in bench.answers(remote):
            bench.agent.probe_received(pong, local, remote, now + later)
    assert bench.agent._pairs[local, remote].state is PairState.PROVEN


def at_relay(number):
    return RelayAddress("http://relay", bytes([number]) * 32)


def test_a_relay_that_lies_about_who_pings_takes_no_place_but_its_own():
    bench = Bench(candidates=())
    bench.agent.add_relay(at_relay(0), 0.0)
    prove(bench, at_relay(0), None, 0.0)
    for number in range(1, 100):
        bench.agent.probe_received(bench.ping(), None, at_relay(number), 0.1)
    assert bench.agent.selected == (None, at_relay(0))
    assert list(bench.agent._pairs) == [(None, at_relay(0)), (None, at_relay(99))]


def test_at_a_relay_the_peer_is_followed_to_its_new_key():
    bench = Bench(candidates=())
    for number in range(6):
        if number:
            bench.agent._pairs[None, at_relay(number - 1)].lose("the peer connected anew", float(number))
        prove(bench, at_relay(number), None, float(number))
    assert bench.agent.selected == (None, at_relay(5))


def test_where_one_relay_path_is_proven_no_other_is_believed():
    bench = Bench(candidates=())
    bench.agent.add_relay(at_relay(0), 0.0)
    assert bench.agent.selected == (None, at_relay(0))
    prove(bench, at_relay(0), None, 0.0)
    bench.agent.probe_received(bench.ping(), None, at_relay(1), 0.1)
    bench.agent.verify(0.1)
    doubted = bench.agent._pairs[None, at_relay(0)]
    now = 0.1
    while doubted.state is PairState.PROVEN and now < 2.0:
        now = bench.agent.poll_deadline().at
        bench.agent.handle_timeout(now)
    assert doubted.state is PairState.DOUBTED
    assert bench.agent.selected == (None, at_relay(0))


def test_only_what_is_sent_keeps_a_connection_awake():
    bench = Bench()
    prove(bench, PEER, SOCKET, 0.0)

    def run_until(end):
        while (deadline := bench.agent.poll_deadline()) is not None and deadline.at <= end:
            bench.agent.handle_timeout(deadline.at)
            for pong in bench.answers(PEER):
                bench.arrive(pong, now=deadline.at)

    run_until(70.0)
    assert bench.agent._usage.is_idle
    bench.agent.data_received(SOCKET, PEER, 10)
    assert bench.agent.poll_deadline() is None or bench.agent.poll_deadline().at > 70.0
    assert bench.agent._usage.is_idle
    bench.arrive(bench.ping(), ELSEWHERE, 75.0)
    assert bench.sent() == []
    bench.agent.data_sent((SOCKET, PEER), 1, 80.0)
    assert not bench.agent._usage.is_idle
    bench.arrive(bench.ping(), ELSEWHERE, 80.0)
    assert ELSEWHERE in pongs(bench)


def test_copies_are_no_sign_of_life():
    bench = Bench()
    ping = bench.ping()
    bench.arrive(ping, now=5.0)
    bench.arrive(ping, now=25.0)
    assert bench.agent._usage._heard_at == 5.0


def pings_until(bench, end):
    """When and with what TTL each ping went, as time passes and nobody answers."""
    out = []
    while True:
        while (transmit := bench.agent.poll_transmit()) is not None:
            out.append((bench.now, transmit.ttl))
        deadline = bench.agent.poll_deadline()
        if deadline is None or deadline.at > end:
            return out
        bench.now = deadline.at
        bench.agent.handle_timeout(bench.now)
        bench.agent.data_sent((SOCKET, PEER), 1, bench.now)  # it is in use all the time


def test_unanswered_addresses_are_left_alone_until_the_next_round():
    bench = Bench()
    bench.now = 0.0
    times = [at for at, _ in pings_until(bench, 54.0)]
    assert max(times) < 14.0
    assert bench.events(RoundBegun) == []
    assert pings_until(bench, 55.5) == [(55.0, OPENER_TTL), (55.0, OPENER_TTL + 1)]
    assert [event.number for event in bench.events(RoundBegun)] == [1]


def rounds(bench, until, now=0.0):
    """When each round begins, while the connection is in use."""
    begun = []
    while now < until:
        now += 1.0
        bench.agent.data_sent((SOCKET, PEER), 1, now)
        bench.agent.handle_timeout(now)
        begun.extend((event.number, now) for event in bench.events(RoundBegun))
        bench.sent()
    return begun


def test_rounds_follow_each_other_until_all_routers_are_given_time_to_forget():
    begun = [(1, 55.0), (2, 110.0), (3, 165.0), (4, 220.0), (5, 275.0), (6, 605.0), (7, 660.0)]
    assert rounds(Bench(), 700.0) == begun


def gaps(begun):
    """Seconds from each round to the next."""
    return [later - earlier for (_, earlier), (_, later) in itertools.pairwise(begun)]


def test_a_path_that_fails_begins_another_series():
    bench = Bench((PEER, ELSEWHERE))
    bench.agent.join_round(4, 0.0)
    prove(bench, PEER, SOCKET, 0.0)
    begun = rounds(bench, 700.0)[1:]
    assert [number for number, _ in begun] == [6, 7, 8, 9, 10, 11, 12]
    assert gaps(begun) == [55.0, 55.0, 55.0, 55.0, 55.0, 330.0]


def test_a_move_is_one_reason_for_a_series_though_paths_are_lost_by_it():
    bench = Bench()
    prove(bench, PEER, SOCKET, 0.0)
    bench.agent.network_changed((4,), 1.0)
    assert rounds(bench, 150.0) == [(6, 1.0), (7, 56.0), (8, 111.0)]


def test_a_path_that_comes_and_goes_leaves_each_reach_its_turns():
    bench = Bench((PEER, ELSEWHERE))
    bench.arrive(bench.ping())
    numbers, losses = [], 0
    for tenths in range(6000):
        now = tenths / 10
        bench.agent.data_sent((SOCKET, PEER), 1, now)
        bench.agent.handle_timeout(now)
        pongs = bench.answers(PEER)
        if now % 50 < 20:
            for data in (bench.ping(), *pongs):
                bench.arrive(data, now=now)
        for event in bench.events(RoundBegun | PathLost):
            losses += isinstance(event, PathLost)
            numbers += [event.number] if isinstance(event, RoundBegun) else []
    assert losses >= 5
    assert len(numbers) >= 6
    assert {number % OPENER_REACHES for number in numbers} == set(range(OPENER_REACHES))


def test_a_path_proven_while_another_carries_is_watched_too():
    bench = Bench()
    prove(bench, PEER, SOCKET, 0.0)
    bench.agent.data_sent((SOCKET, PEER), 0, 0.1)
    bench.agent.add_relay(at_relay(0), 0.2)
    prove(bench, at_relay(0), None, 0.2)
    other = bench.agent._pairs[None, at_relay(0)]
    now = 0.3
    while other.state is PairState.PROVEN and now < 30.0:
        now = bench.agent.poll_deadline().at
        bench.agent.handle_timeout(now)
        bench.agent.data_sent((SOCKET, PEER), 0, now)
        for pong in bench.answers(PEER):
            bench.arrive(pong, now=now)
        assert bench.agent.selected == (SOCKET, PEER)
    assert other.state is not PairState.PROVEN


def test_a_ping_that_ends_idleness_goes_by_a_path_that_is_believed():
    bench = Bench()
    bench.agent.add_relay(at_relay(0), 0.0)
    prove(bench, PEER, SOCKET, 0.0)
    now = 0.0
    while not bench.agent._usage.is_idle:
        now = bench.agent.poll_deadline().at
        bench.agent.handle_timeout(now)
        for pong in bench.answers(PEER):
            bench.arrive(pong, now=now)
    bench.events(PathEvent)
    assert bench.agent.ping(now + 60.0)
    for remote, message in bench.sent():
        if isinstance(message, Ping):
            pong = bench.sealer.seal(Pong(message.token, 0, None))[1]
            local = SOCKET if remote == PEER else None
            bench.agent.probe_received(pong, local, remote, now + 60.1)
    assert [event.kind for event in bench.events(PingAnswered)] == [PathKind.RELAY]


def test_a_selected_path_whose_relay_goes_is_said_to_be_lost():
    bench = Bench()
    bench.agent.add_relay(at_relay(0), 0.0)
    assert bench.agent.selected == (None, at_relay(0))
    bench.agent.remove_relay(at_relay(0).url, 1.0)
    kinds = [type(event) for event in bench.events(PathLost | PathSelected)]
    assert kinds == [PathSelected, PathLost, PathSelected]


def test_after_a_move_nothing_measured_before_counts():
    bench = Bench()
    prove(bench, PEER, SOCKET, 0.0)
    assert bench.agent._pairs[SOCKET, PEER].rtt.minimum is not None
    bench.agent.network_changed((4,), 1.0)
    assert bench.agent._pairs[SOCKET, PEER].rtt.minimum is None


def test_in_a_round_pings_wait_for_the_peer():
    bench = Bench()
    bench.now = 0.0
    pings_until(bench, 55.0)
    bench.agent.peer_ready(56.0)
    bench.now = 56.0
    assert [at for at, _ in pings_until(bench, 56.01)] == [56.0]
    later = pings_until(bench, 100.0)
    assert max(at for at, _ in later) < 70.0


def test_a_peer_that_says_nothing_of_the_round_is_not_waited_for_for_ever():
    bench = Bench()
    bench.now = 0.0
    pings_until(bench, 55.0)
    assert [at for at, _ in pings_until(bench, 59.01)] == [59.0]


def test_a_round_of_the_peers_is_joined_once():
    bench = Bench()
    bench.now = 0.0
    pings_until(bench, 20.0)
    bench.agent.join_round(3, 20.0)
    assert [event.number for event in bench.events(RoundBegun)] == [3]
    bench.agent.join_round(3, 21.0)
    bench.agent.join_round(2, 21.0)
    assert bench.events(RoundBegun) == []


def test_what_was_proven_is_void_once_we_send_from_elsewhere():
    bench = Bench()
    prove(bench, PEER, SOCKET, 0.0)
    bench.agent.network_changed((6,), 1.0)
    assert bench.agent.selected == (SOCKET, PEER)
    bench.agent.network_changed((4,), 2.0)
    assert bench.agent.selected is None
    assert bench.agent._pairs[SOCKET, PEER].state is PairState.CLOSED


def test_a_path_the_peer_does_not_name_any_more_lives_as_long_as_it_works():
    bench = Bench()
    prove(bench, PEER, SOCKET, 0.0)
    bench.agent.set_candidates((), 1.0)
    assert bench.agent.selected == (SOCKET, PEER)
    bench.agent.network_changed((4,), 2.0)
    assert bench.agent.selected is None
    bench.sent()
    assert pings_until(bench, 60.0) == []


def test_that_the_peer_is_gone_is_looked_into_once_after_each_use():
    bench = Bench()
    prove(bench, PEER, SOCKET, 0.0)
    bench.agent.handle_timeout(70.0)
    bench.agent.handle_timeout(140.0)
    assert bench.agent._usage.is_idle
    bench.agent.verify(200.0)
    assert not bench.agent._usage.is_idle
    bench.agent.handle_timeout(262.0)
    bench.agent.handle_timeout(330.0)
    assert bench.agent._usage.is_idle
    bench.agent.verify(331.0)
    assert bench.agent._usage.is_idle


def test_a_peer_that_pings_from_ever_new_addresses_has_sixteen_and_the_oldest_give_way():
    bench = Bench()
    for number in range(100):
        bench.arrive(bench.ping(), UdpAddress("198.51.100.9", 1000 + number), now=0.1)
    assert len(bench.agent._reflexive) == MAX_PEER_REFLEXIVE == 16
    assert UdpAddress("198.51.100.9", 1099) in pongs(bench)


def test_however_many_sockets_and_candidates_there_are_the_pairs_are_bounded():
    bench = Bench([UdpAddress(f"203.0.113.{number}", 1) for number in range(1, 17)])
    sockets = tuple(UdpAddress("0.0.0.0", port) for port in range(1, 9))
    bench.agent.set_sockets(sockets, TargetPolicy(), 0.0)
    assert len(bench.agent._pairs) == MAX_PAIRS == 48
    assert bench.agent.drops["path: too many pairs"] == 1


def test_a_relay_has_a_path_however_many_addresses_there_are():
    bench = Bench([UdpAddress(f"203.0.113.{number}", 1) for number in range(1, 17)])
    bench.agent.set_sockets(tuple(UdpAddress("0.0.0.0", port) for port in range(1, 9)), TargetPolicy(), 0.0)
    relay = RelayAddress("http://relay.test", b"k" * 32)
    bench.agent.add_relay(relay, 0.0)
    assert (None, relay) in bench.agent._pairs
    assert len(bench.agent._pairs) == MAX_PAIRS


def test_what_comes_by_a_socket_that_is_closed_by_now_has_no_effect():
    bench = Bench()
    bench.agent.probe_received(bench.ping(), OTHER_SOCKET, PEER, 0.0)
    assert pongs(bench) == []
    assert (OTHER_SOCKET, PEER) not in bench.agent._pairs
    assert bench.agent.drops["probe: by a socket that is closed"] == 1
