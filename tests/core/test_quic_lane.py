from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import WireError
from peerway.core.quic.lane import End, LaneReader, Open, Reset, Stop, build, data_header

NUMBERS = st.integers(0, 2**62 - 1)
FRAMES = st.one_of(
    st.builds(Open, NUMBERS, st.integers(0, 255)),
    st.builds(End),
    st.builds(Reset, NUMBERS),
    st.builds(Stop, NUMBERS, NUMBERS),
    st.binary(min_size=1, max_size=100),
)


def wire(item) -> bytes:
    return data_header(len(item)) + item if isinstance(item, bytes) else build(item)


def joined(items: list) -> list:
    """The items, neighbouring data in one."""
    result: list = []
    for item in items:
        if isinstance(item, bytes) and result and isinstance(result[-1], bytes):
            result[-1] += item
        else:
            result.append(item)
    return result


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (Open(2), "01 00 0000000000000002"),
        (b"hello", "02 00000005 68656c6c6f"),
        (End(), "03"),
        (Reset(7), "04 0000000000000007"),
        (Stop(2, 7), "05 0000000000000002 0000000000000007"),
    ],
)
def test_frames_on_the_wire(item, expected):
    assert wire(item) == bytes.fromhex(expected)
    assert LaneReader().feed(bytes.fromhex(expected)) == [item]


@given(st.lists(FRAMES, max_size=6), st.integers(1, 60))
def test_frames_survive_being_cut_anywhere(items, step):
    data = b"".join(map(wire, items))
    reader = LaneReader()
    read = [item for start in range(0, len(data), step) for item in reader.feed(data[start : start + step])]
    assert joined(read) == joined(items)


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_any_bytes_are_frames_or_a_wire_error(pieces):
    reader = LaneReader()
    try:
        for piece in pieces:
            reader.feed(piece)
    except WireError:
        pass


def test_data_is_passed_on_before_its_frame_is_complete():
    reader = LaneReader()
    assert reader.feed(data_header(10) + b"abc") == [b"abc"]
    assert reader.feed(b"def") == [b"def"]
    assert reader.feed(b"ghij" + build(End())) == [b"ghij", End()]


@pytest.mark.parametrize(
    "data", ["00", "06", "02 00000000", "02 00100001", "04 4000000000000000", "01 00 ffffffffffffffff"]
)
def test_a_malformed_frame_is_a_wire_error(data):
    with pytest.raises(WireError):
        LaneReader().feed(bytes.fromhex(data))
