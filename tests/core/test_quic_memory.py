"""What streams may hold in memory, whoever stalls: each test reaches its limit, and stays there."""

import tracemalloc

from tests.core.quic_pair import Collector, Pair

from peerway.core.quic.events import StreamOpened

KIB, MIB = 1 << 10, 1 << 20


def streams_of(end):
    return end.session._streams._streams.values()


def unread(end):
    return sum(stream.inbound.unread for stream in streams_of(end))


def queued(end):
    return sum(stream.outbound.queued for stream in streams_of(end))


def backlog(end):
    """Bytes handed to QUIC that are in no datagram yet."""
    return end.session._transport.backlog()


def watched(pair, measures, until, seconds=60.0):
    """Run until the condition holds; the most of each measure at any step."""
    most = [0] * len(measures)

    def look():
        for index, measure in enumerate(measures):
            most[index] = max(most[index], measure())
        return until()

    assert pair.run(seconds, look)
    return most


def open_and_write(end, data, now):
    stream = end.session.open_stream(now)
    end.session.write(stream, data, now)
    return stream


def test_a_stalled_reader_holds_256_kib_and_the_stream_beside_it_flows(transports):
    pair = Pair(delay=0.001, transports=transports).establish()
    stalled = open_and_write(pair.client, bytes(4 * MIB), pair.now)
    got = Collector(pair.server)
    flowing = open_and_write(pair.client, bytes(8 * MIB), pair.now)
    react = pair.server.react
    pair.server.react = lambda event, now: None if event.stream == stalled else react(event, now)
    (stalled_stream,) = (stream for stream in streams_of(pair.client) if stream.number == stalled)
    in_quic, waiting = watched(
        pair,
        (lambda: backlog(pair.client), lambda: stalled_stream.outbound.credit.sent),
        lambda: len(got.data.get(flowing, b"")) == 8 * MIB,
    )
    assert waiting == unread(pair.server) == 256 * KIB
    assert in_quic <= 512 * KIB + 1 * KIB  # frames' headers go on top
    assert pair.client.session.send_buffer_size(stalled) == 4 * MIB - 256 * KIB


def test_a_fast_sender_fills_no_more_than_the_window_of_a_slow_reader(transports):
    pair = Pair(delay=0.001, transports=transports).establish()
    stream = open_and_write(pair.client, bytes(2 * MIB), pair.now)
    read = most = 0
    while read < 2 * MIB:
        pair.run(0.01)
        most = max(most, unread(pair.server))
        read += len(pair.server.session.read(stream, 16 * KIB, pair.now))
        assert unread(pair.server) + read + queued(pair.client) + backlog(pair.client) <= 2 * MIB
    assert most == 256 * KIB


def test_a_thousand_streams_that_nobody_reads_hold_32_mib():
    pair = Pair(delay=0.001).establish()
    data = bytes(MIB)
    tracemalloc.start()
    try:
        for _ in range(1000):
            open_and_write(pair.client, data, pair.now)
        pair.run(2.0)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(pair.server.of(StreamOpened)) == 128  # the others wait at the sender to be announced
    assert unread(pair.server) == 128 * 256 * KIB
    assert held < 48 * MIB  # both ends: what is unread, its objects, and two tables of streams


def test_a_thousand_streams_that_are_over_hold_nothing(transports):
    pair = Pair(delay=0.001, transports=transports).establish()
    Collector(pair.server, echo=True)
    answers = Collector(pair.client)

    def exchange(count):
        for _ in range(count):
            stream = open_and_write(pair.client, bytes(100), pair.now)
            pair.client.session.write_eof(stream, pair.now)
        assert pair.run(60, lambda: not streams_of(pair.client) and not streams_of(pair.server))
        for end in (pair.client, pair.server):
            end.events.clear()
        answers.data.clear()
        answers.ended.clear()

    exchange(100)
    tracemalloc.start()
    try:
        exchange(1000)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < MIB
