from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.quic.credit import CreditPool
from peerway.core.quic.errors import StreamMisuse
from peerway.core.quic.stream import Inbound, InboundState, Outbound, OutboundState

SIZES = st.lists(st.integers(0, 40_000), max_size=12)


def content(size: int) -> bytes:
    return bytes(index * 7 % 251 for index in range(size))


@given(SIZES, st.lists(st.integers(100, 100_000), min_size=1, max_size=8))
def test_what_is_taken_is_what_was_written_whatever_the_cuts(sizes, limits):
    outbound = Outbound()
    data = content(sum(sizes))
    start = 0
    for size in sizes:
        outbound.write(data[start : start + size])
        start += size
    taken = bytearray()
    for turn in range(5_000):
        if not outbound.queued:
            break
        limit = limits[turn % len(limits)]
        part = outbound.take(limit)
        assert 0 < len(part) <= limit
        taken += part
    assert bytes(taken) == data


@given(SIZES, st.lists(st.integers(-1, 100_000), min_size=1, max_size=8))
def test_what_is_read_is_what_arrived_whatever_the_cuts(sizes, limits):
    inbound = Inbound(CreditPool())
    data = content(min(sum(sizes), 256 << 10))
    start = 0
    for size in sizes:
        inbound.receive(data[start : start + size])
        start += size
    read = bytearray()
    for limit in [*limits, -1]:
        part = inbound.read(limit)
        assert limit < 0 or len(part) <= limit
        read += part
        assert inbound.unread == len(data) - len(read)
    assert bytes(read) == data


def test_a_large_chunk_is_not_copied():
    outbound = Outbound()
    chunk = bytes(100_000)
    outbound.write(chunk)
    assert outbound.take(200_000) is chunk


def test_small_chunks_are_joined():
    outbound = Outbound()
    for _ in range(1000):
        outbound.write(b"0123456789")
    assert bytes(outbound.take(1 << 20)) == b"0123456789" * 1000


def test_writing_after_the_end_is_misuse():
    outbound = Outbound()
    outbound.end()
    with pytest.raises(StreamMisuse):
        outbound.write(b"x")


def test_writing_to_an_aborted_stream_is_dropped():
    outbound = Outbound()
    outbound.write(b"x")
    outbound.abort()
    assert not outbound.write(b"y")
    assert outbound.queued == 0
    outbound.end()
    assert outbound.state is OutboundState.OVER


def test_a_long_queue_is_said_once_to_have_become_short():
    outbound = Outbound()
    outbound.write(bytes(200 << 10))
    outbound.take(1000)
    assert not outbound.fell_short()
    outbound.write(bytes(100 << 10))
    assert not outbound.fell_short()
    outbound.take(100 << 10)
    assert outbound.fell_short()
    assert not outbound.fell_short()


def test_only_the_first_bytes_in_an_empty_buffer_are_news():
    inbound = Inbound(CreditPool())
    assert inbound.receive(b"ab")
    assert not inbound.receive(b"cd")
    inbound.read(3)
    assert not inbound.receive(b"e")
    assert inbound.read(-1) == b"de"
    assert inbound.receive(b"f")
    assert not inbound.receive(b"")


def test_the_end_is_seen_when_all_is_read():
    inbound = Inbound(CreditPool())
    inbound.receive(b"abc")
    inbound.finish()
    assert not inbound.at_eof
    assert inbound.state is InboundState.FINISHED
    inbound.read(2)
    assert not inbound.at_eof
    inbound.read(5)
    assert inbound.at_eof
    assert inbound.state is InboundState.OVER


def test_what_arrives_after_giving_up_is_dropped():
    inbound = Inbound(CreditPool())
    inbound.receive(b"abc")
    inbound.discard()
    assert not inbound.receive(b"def")
    assert inbound.unread == 0
    assert inbound.at_eof
    inbound.finish()
    assert inbound.state is InboundState.OVER
