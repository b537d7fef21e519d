from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import WireError
from peerway.core.quic.frames import (
    Auth,
    CreditWanted,
    Data,
    Delivered,
    End,
    FrameReader,
    Grant,
    Open,
    Reset,
    Stop,
    build,
    data_header,
)

NUMBERS = st.integers(0, 2**62 - 1)
FRAMES = st.one_of(
    st.builds(Auth, st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64)),
    st.builds(Open, NUMBERS, NUMBERS),
    st.builds(End, NUMBERS),
    st.builds(Reset, NUMBERS, NUMBERS),
    st.builds(Stop, NUMBERS, NUMBERS),
    st.builds(Grant, NUMBERS, NUMBERS),
    st.builds(CreditWanted, NUMBERS),
    st.builds(Delivered, NUMBERS),
    st.builds(Data, st.integers(0, 2**64 - 1), st.binary(min_size=1, max_size=100)),
)


def wire(frame) -> bytes:
    if isinstance(frame, Data):
        return data_header(frame.stream, len(frame.data)) + frame.data
    return build(frame)


def joined(frames: list) -> list:
    """The frames, neighbouring data of a stream in one."""
    result: list = []
    for frame in frames:
        last = result[-1] if result else None
        if isinstance(frame, Data) and isinstance(last, Data) and last.stream == frame.stream:
            result[-1] = Data(frame.stream, last.data + frame.data)
        else:
            result.append(frame)
    return result


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (Auth(b"\x01" * 32, b"\x02" * 64), "01 00000065 92 c420" + "01" * 32 + "c440" + "02" * 64),
        (Open(2), "02 00000003 92 02 00"),
        (End(3), "03 00000002 91 03"),
        (Reset(2, 300), "04 00000005 92 02 cd012c"),
        (Stop(2, 7), "05 00000003 92 02 07"),
        (Grant(4, 300_000), "06 00000007 92 04 ce000493e0"),
        (CreditWanted(8), "07 00000002 91 08"),
        (Delivered(5), "08 00000002 91 05"),
        (Data(2, b"hello"), "00 0000000d 0000000000000002 68656c6c6f"),
    ],
)
def test_frames_on_the_wire(frame, expected):
    assert wire(frame) == bytes.fromhex(expected)
    assert FrameReader().feed(bytes.fromhex(expected)) == [frame]


@given(st.lists(FRAMES, max_size=6), st.integers(1, 60))
def test_frames_survive_being_cut_anywhere(frames, step):
    data = b"".join(map(wire, frames))
    reader = FrameReader()
    read = [frame for start in range(0, len(data), step) for frame in reader.feed(data[start : start + step])]
    assert joined(read) == joined(frames)


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes_are_frames_or_a_wire_error(pieces):
    reader = FrameReader()
    try:
        for piece in pieces:
            reader.feed(piece)
    except WireError:
        pass


@given(st.integers(0, 255), st.binary(min_size=1, max_size=100))
def test_any_body_is_a_frame_or_a_wire_error(kind, body):
    try:
        FrameReader().feed(bytes([kind]) + len(body).to_bytes(4, "big") + body)
    except WireError:
        pass


def test_data_is_passed_on_before_its_frame_is_complete():
    reader = FrameReader()
    assert reader.feed(data_header(2, 10) + b"abc") == [Data(2, b"abc")]
    assert reader.feed(b"def") == [Data(2, b"def")]
    assert reader.feed(b"ghij" + build(End(2))) == [Data(2, b"ghij"), End(2)]


def test_an_unknown_optional_message_is_ignored():
    assert FrameReader().feed(bytes.fromhex("80 00000003 ffffff 03 00000002 91 03")) == [End(3)]


@pytest.mark.parametrize(
    "data",
    [
        "09 00000002 91 05",  # an unknown kind that is not optional
        "08 00000000",  # no body
        "80 00000401",  # too long, known by its header alone
        "00 00000008",  # data without any
        "00 00100009",  # too much data
        "08 00000002 91 ff",  # a negative stream
        "08 00000003 92 05 05",  # a field too many
        "08 00000001 90",  # a field too few
        "08 00000003 91 a1 35",  # text instead of a number
        "08 00000003 91 05 00",  # more after the array
        "08 0000000a 91 cf4000000000000000",  # a number above 2**62
        "01 00000003 92 c0 c0",
    ],
)
def test_a_malformed_frame_is_a_wire_error(data):
    with pytest.raises(WireError):
        FrameReader().feed(bytes.fromhex(data))


def test_deep_nesting_is_a_wire_error():
    with pytest.raises(WireError):
        FrameReader().feed(bytes.fromhex("08 00000400") + b"\x91" * 1024)
