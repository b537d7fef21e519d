"""Packet numbers, loss and the window beneath the simulator's transport."""

from hypothesis import given
from hypothesis import strategies as st

from peerway.sim.transport.pipe import REPLAY_NUMBERS, Arrivals, Pipe, parse
from peerway.sim.transport.recovery import Recovery

ROOM = 1170


def measured(seconds=0.1):
    recovery = Recovery()
    recovery.measured(seconds)
    return recovery


def send(recovery, numbers, now=0.0):
    for number in numbers:
        recovery.sent(number, 1000, number * 1000, now)


@given(st.lists(st.integers(0, 60)))
def test_a_number_is_taken_once(numbers):
    arrivals = Arrivals()
    taken = [number for number in numbers if arrivals.take(number)]
    assert taken == list(dict.fromkeys(numbers))


def test_a_number_too_old_to_tell_is_not_taken():
    arrivals = Arrivals()
    assert arrivals.take(REPLAY_NUMBERS)
    assert not arrivals.take(0)
    assert arrivals.take(1)
    assert arrivals.take(3 * REPLAY_NUMBERS)
    assert not arrivals.take(1)


@given(st.sets(st.integers(0, 14), min_size=1))
def test_an_acknowledgement_says_what_arrived(numbers):
    arrivals = Arrivals()
    for number in sorted(numbers):
        arrivals.take(number)
    largest, bits = parse(arrivals.build())
    assert largest == max(numbers)
    assert {largest - n for n in range(REPLAY_NUMBERS) if bits >> n & 1} == numbers


def test_an_acknowledgement_covers_hundreds_that_came_at_once_and_the_newest_holes():
    arrivals = Arrivals()
    for number in range(1000):
        if number % 100:
            arrivals.take(number)
    largest, bits = parse(arrivals.build())
    assert largest == 999
    missing = [largest - n for n in range(800) if not bits >> n & 1]
    assert missing == [900, 800, 700, 600, 500, 400, 300, 200]


def test_a_packet_is_lost_once_three_later_ones_arrived():
    recovery = measured()
    send(recovery, range(5))
    assert recovery.acknowledged(2, 0b1, now=0.1) == ([2000], [])
    assert recovery.acknowledged(3, 0b11, now=0.1) == ([3000], [0])
    assert recovery.in_flight == 2000


def test_a_packet_is_lost_a_while_after_a_later_one_arrived():
    recovery = measured()
    send(recovery, range(2))
    assert recovery.acknowledged(1, 0b1, now=0.1) == ([1000], [])
    assert recovery.deadline() == 0.1 * 9 / 8
    assert recovery.timed_out(0.1 * 9 / 8) == ([0], False)
    assert recovery.deadline() is None


def test_silence_leads_to_probes_at_doubling_intervals():
    recovery = measured()
    send(recovery, [0])
    intervals, now = [], 0.0
    for number in range(1, 9):
        at = recovery.deadline()
        assert recovery.timed_out(at) == ([], True)
        intervals.append(round(at - now, 3))
        now = at
        send(recovery, [number], now)
    assert intervals == [0.325, 0.65, 1.3, 2.6, 5.2, 10.4, 20.8, 20.8]
    recovery.end_back_off()
    assert round(recovery.deadline() - now, 3) == 0.325


def test_the_window_doubles_while_it_is_used_and_halves_once_for_what_is_lost_together():
    recovery = measured()
    send(recovery, range(12))
    recovery.acknowledged(11, (1 << 12) - 1, now=0.1)
    assert recovery.window == 24_000
    send(recovery, range(12, 36), now=0.1)
    recovery.acknowledged(35, 0b1111, now=0.2)
    assert recovery.window == 12_000
    assert recovery.in_flight == 0


def test_a_window_nobody_fills_does_not_grow():
    recovery = measured()
    send(recovery, [0])
    recovery.acknowledged(0, 1, now=0.1)
    assert recovery.window == 12_000


def test_the_window_grows_by_a_packet_a_round_trip_after_a_loss():
    recovery = measured()
    send(recovery, range(12))
    recovery.acknowledged(11, 0b1111, now=0.1)
    assert recovery.window == 6000
    send(recovery, range(12, 18), now=0.1)
    recovery.acknowledged(17, 0b111111, now=0.2)
    assert 7000 < recovery.window <= 7200


def test_two_packets_are_acknowledged_at_once_and_one_after_a_while():
    sender, receiver = Pipe(ROOM), Pipe(ROOM)
    sender.write(bytes(3000))
    first, second, third = (sender.poll(0.0) for _ in range(3))
    assert sender.poll(0.0) is None
    receiver.receive(*first, now=0.0)
    assert receiver.poll(0.0) is None
    assert receiver.deadline() == 0.025
    receiver.receive(*second, now=0.01)
    assert receiver.deadline() == 0.01
    assert receiver.poll(0.01) is not None
    assert receiver.deadline() is None
    receiver.receive(*third, now=0.02)
    assert receiver.poll(0.03) is None
    assert receiver.poll(0.045) is not None


def test_a_gap_is_told_at_once():
    sender, receiver = Pipe(ROOM), Pipe(ROOM)
    sender.write(bytes(3000))
    _, second = sender.poll(0.0), sender.poll(0.0)
    assert receiver.receive(*second, now=0.0) == b""
    assert receiver.poll(0.0) is not None


def test_full_packets_have_all_the_same_size_with_and_without_an_acknowledgement():
    sender, receiver = Pipe(ROOM), Pipe(ROOM)
    receiver.write(b"x")
    sender.receive(*receiver.poll(0.0), now=0.0)
    sender.write(bytes(5000))
    assert [len(sender.poll(0.0)[1]) for _ in range(4)] == [ROOM] * 4


def test_a_peer_need_not_keep_more_than_a_span_behind_one_chunk_that_never_comes(monkeypatch):
    monkeypatch.setattr("peerway.sim.transport.pipe.MAX_SPAN_BYTES", 20_000)
    sender, receiver = Pipe(ROOM), Pipe(ROOM)
    sender.write(bytes(1_000_000))
    now = 0.0
    for _ in range(1000):
        now += 0.01
        sender.handle_timeout(now)
        while (packet := sender.poll(now)) is not None:
            offset = int.from_bytes(packet[1][1:9], "big")
            if offset:
                receiver.receive(*packet, now)
        while (packet := receiver.poll(now)) is not None:
            sender.receive(*packet, now)
    assert 20_000 < 1_000_000 - sender.backlog < 23_000
