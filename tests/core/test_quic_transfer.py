from __future__ import annotations

import random

import pytest
from tests.core.quic_pair import Collector, Pair

from peerway.core.quic.events import (
    SessionClosed,
    StreamClosed,
    StreamOpened,
    StreamReset,
    StreamStopped,
    StreamWritable,
)

MIB = 1 << 20


def send(end, data: bytes, now: float) -> int:
    stream = end.session.open_stream(now)
    end.session.write(stream, data, now)
    end.session.write_eof(stream, now)
    return stream


def test_what_is_sent_is_echoed(transports):
    pair = Pair(transports=transports).establish()
    Collector(pair.server, echo=True)
    answers = Collector(pair.client)
    stream = send(pair.client, b"hello", pair.now)
    assert pair.run(5, lambda: answers.ended == [stream])
    assert answers.data == {stream: b"hello"}
    pair.run(1)
    assert StreamClosed(stream) in pair.client.events
    assert StreamClosed(stream) in pair.server.events
    assert pair.client.session.is_delivered(stream)


def test_a_stream_exists_for_the_peer_before_anything_is_written(transports):
    pair = Pair(transports=transports).establish()
    stream = pair.server.session.open_stream(pair.now)
    assert pair.run(1, lambda: pair.client.of(StreamOpened) == [StreamOpened(stream)])


@pytest.mark.parametrize(("loss", "seed"), [(0.0, 1), (0.05, 2), (0.05, 3), (0.2, 4)])
def test_transfers_both_ways_survive_loss(transports, loss, seed):
    pair = Pair(delay=0.005, loss=loss, seed=seed, transports=transports).establish()
    at_server, at_client = Collector(pair.server), Collector(pair.client)
    rng = random.Random(seed)
    up, down = rng.randbytes(MIB), rng.randbytes(MIB)
    there, back = send(pair.client, up, pair.now), send(pair.server, down, pair.now)
    assert pair.run(600, lambda: there in at_server.ended and back in at_client.ended)
    assert at_server.data[there] == up
    assert at_client.data[back] == down


def test_reordering_and_duplicates_do_no_harm(transports):
    pair = Pair(delay=0.02, transports=transports).establish()
    rng = random.Random(5)
    carry = pair._carry

    def shaken(segment, other):
        pair.delay = rng.uniform(0.005, 0.06)
        carry(segment, other)
        if rng.random() < 0.2:
            carry(segment, other)

    pair._carry = shaken
    received = Collector(pair.server)
    data = rng.randbytes(MIB)
    stream = send(pair.client, data, pair.now)
    assert pair.run(300, lambda: stream in received.ended)
    assert received.data[stream] == data


def test_a_thousand_streams_one_after_another(transports):
    pair = Pair(delay=0.001, transports=transports).establish()
    Collector(pair.server, echo=True)
    answers = Collector(pair.client)
    for number in range(1000):
        stream = send(pair.client, b"%d" % number, pair.now)
        assert pair.run(10, lambda stream=stream: stream in answers.ended[-1:])
        assert answers.data.pop(stream) == b"%d" % number
    pair.run(1)
    assert len(pair.client.of(StreamClosed)) == 1000
    assert len(pair.server.of(StreamClosed)) == 1000
    assert len(pair.client.session._streams) == 0
    assert len(pair.server.session._streams) == 0


def test_more_streams_than_the_peer_allows_at_once(transports):
    pair = Pair(transports=transports).establish()
    Collector(pair.server, echo=True)
    answers = Collector(pair.client)
    rng = random.Random(6)
    sent = {}
    for _ in range(150):
        data = rng.randbytes(rng.randrange(30_000))
        sent[send(pair.client, data, pair.now)] = data
    assert pair.run(60, lambda: len(answers.ended) == 150)
    assert answers.data == sent


def test_streams_that_stay_open_beyond_the_limit_wait_for_one_to_end(transports):
    pair = Pair(transports=transports).establish()
    received = Collector(pair.server)
    streams = [pair.client.session.open_stream(pair.now) for _ in range(150)]
    pair.run(2)
    assert sorted(received.data) == streams[:128]
    for stream in streams[:22]:
        pair.client.session.write_eof(stream, pair.now)
        pair.server.session.write_eof(stream, pair.now)
    pair.run(2)
    assert sorted(received.data) == streams


def test_a_receiver_that_never_reads_holds_only_its_window_while_others_flow(transports):
    pair = Pair(delay=0.001, transports=transports).establish()
    silent = pair.client.session.open_stream(pair.now)
    pair.client.session.write(silent, bytes(8 * MIB), pair.now)
    pair.run(2)
    assert pair.server.session._streams._streams[silent].inbound.unread == 256 << 10
    held = pair.client.session.send_buffer_size(silent)
    assert held == 8 * MIB - (256 << 10)
    received = Collector(pair.server)
    stream = send(pair.client, bytes(2 * MIB), pair.now)
    assert pair.run(30, lambda: stream in received.ended)
    assert len(received.data[stream]) == 2 * MIB
    assert pair.client.session.send_buffer_size(silent) == held


def test_a_reader_that_wakes_up_gets_everything(transports):
    pair = Pair(delay=0.001, transports=transports).establish()
    data = random.Random(9).randbytes(2 * MIB)
    stream = send(pair.client, data, pair.now)
    pair.run(2)
    read = bytearray()
    while not pair.server.session.at_eof(stream):
        assert pair.now < 1000 + 60
        read += pair.server.session.read(stream, 10_000, pair.now)
        pair.run(0.001)
    assert bytes(read) == data


def test_the_window_of_a_busy_stream_grows(transports):
    pair = Pair(delay=0.05, transports=transports).establish()
    received = Collector(pair.server)
    stream = pair.client.session.open_stream(pair.now)
    pair.client.session.write(stream, bytes(20 * MIB), pair.now)
    assert pair.run(60, lambda: len(received.data.get(stream, b"")) == 20 * MIB)
    assert pair.server.session._streams._streams[stream].inbound.credit.window >= 4 * MIB
    assert pair.now - 1000 < 4
    assert StreamWritable(stream) in pair.client.events


def test_a_small_stream_is_not_held_up_by_a_bulky_one(transports):
    pair = Pair(delay=0.02, transports=transports).establish()
    received = Collector(pair.server)
    bulky = pair.client.session.open_stream(pair.now)
    pair.client.session.write(bulky, bytes(30 * MIB), pair.now)
    pair.run(0.5)
    small = send(pair.client, b"quick", pair.now)
    before = pair.now
    assert pair.run(5, lambda: small in received.ended)
    assert pair.now - before < 0.1
    assert len(received.data[bulky]) < 30 * MIB


def test_a_reset_and_a_stop_reach_the_application(transports):
    pair = Pair(transports=transports).establish()
    stream = pair.client.session.open_stream(pair.now)
    pair.client.session.write(stream, b"never mind", pair.now)
    pair.run(1)
    pair.client.session.reset(stream, 5, pair.now)
    pair.client.session.stop(stream, 6, pair.now)
    pair.run(1)
    assert StreamReset(stream, 5) in pair.server.events
    assert StreamStopped(stream, 6) in pair.server.events
    assert StreamClosed(stream) in pair.client.events
    assert StreamClosed(stream) in pair.server.events
    assert len(pair.client.session._streams) == 0
    assert len(pair.server.session._streams) == 0


def test_codes_of_resets_are_kept_exactly(transports):
    pair = Pair(transports=transports).establish()
    stream = pair.client.session.open_stream(pair.now)
    pair.run(1)
    pair.client.session.reset(stream, 2**32 - 1, pair.now)
    pair.run(1)
    assert StreamReset(stream, 2**32 - 1) in pair.server.events


def test_stopping_a_writer_in_full_flow(transports):
    pair = Pair(delay=0.01, transports=transports).establish()
    stream = pair.client.session.open_stream(pair.now)
    pair.client.session.write(stream, bytes(4 * MIB), pair.now)
    pair.run(0.3)
    pair.server.session.stop(stream, 3, pair.now)
    pair.server.session.write_eof(stream, pair.now)
    pair.run(5)
    assert StreamStopped(stream, 3) in pair.client.events
    assert pair.client.session.send_buffer_size(stream) == 0
    assert len(pair.server.session._streams) == 0
    assert pair.client.of(SessionClosed) == []


def test_delivery_is_known_only_when_the_peer_has_everything(transports):
    pair = Pair(delay=0.02, transports=transports).establish()
    stream = send(pair.client, bytes(100_000), pair.now)
    pair.run(0.015)
    assert not pair.client.session.is_delivered(stream)
    assert pair.run(5, lambda: pair.client.session.is_delivered(stream))
    assert pair.server.session.read(stream, -1, pair.now) == bytes(100_000)


def test_nothing_is_left_of_many_short_streams_in_a_lossy_network(transports):
    pair = Pair(delay=0.01, loss=0.1, seed=11, transports=transports).establish()
    Collector(pair.server, echo=True)
    answers = Collector(pair.client)
    for _ in range(200):
        send(pair.client, b"x" * 500, pair.now)
    assert pair.run(120, lambda: len(answers.ended) == 200)
    pair.run(10)
    assert len(pair.client.session._streams) == 0
    assert len(pair.server.session._streams) == 0


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_much_on_many_streams_both_ways_survives_a_bad_network(transports, seed):
    """Reordering, loss, outages and path switches: where qh3 with several streams stood still."""
    pair = Pair(delay=0.02, seed=seed, transports=transports).establish()
    pair.loss = 0.02
    rng = random.Random(seed)
    carry = pair._carry

    def shaken(segment, other):
        pair.delay = rng.uniform(0.01, 0.04)
        carry(segment, other)

    pair._carry = shaken
    Collector(pair.server, echo=True)
    answers = Collector(pair.client)
    sent = {}
    for number in range(100):
        data = rng.randbytes(rng.choice((0, 1, 300, 30_000)))
        sent[send(pair.client, data, pair.now)] = data
        if number % 25 == 0:
            pair.loss = 1.0
            pair.run(rng.uniform(0.1, 1.0))
            pair.loss = 0.02
            pair.client.session.path_switched(pair.now)
            pair.server.session.path_switched(pair.now)
    assert pair.run(60, lambda: len(answers.ended) == 100)
    assert answers.data == sent
    assert pair.client.session.drops == {}
