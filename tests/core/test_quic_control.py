from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import WireError
from peerway.core.quic.control import (
    MAX_MESSAGE_BYTES,
    Auth,
    ControlReader,
    CreditWanted,
    Delivered,
    Grant,
    Welcome,
    build,
    parse,
)

NUMBERS = st.integers(0, 2**62 - 1)
MESSAGES = st.one_of(
    st.builds(Auth, st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64)),
    st.builds(Welcome),
    st.builds(Grant, NUMBERS, NUMBERS),
    st.builds(CreditWanted, NUMBERS),
    st.builds(Delivered, NUMBERS),
)


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (Auth(b"\x01" * 32, b"\x02" * 64), "0066 01 92 c420" + "01" * 32 + "c440" + "02" * 64),
        (Welcome(), "0002 02 90"),
        (Grant(4, 300_000), "0008 03 92 04 ce000493e0"),
        (CreditWanted(8), "0003 04 91 08"),
        (Delivered(5), "0003 05 91 05"),
    ],
)
def test_messages_on_the_wire(message, wire):
    assert build(message) == bytes.fromhex(wire)
    assert ControlReader().feed(bytes.fromhex(wire)) == [message]


@given(st.lists(MESSAGES, max_size=5), st.integers(1, 50))
def test_messages_survive_being_cut_anywhere(messages, step):
    wire = b"".join(build(message) for message in messages)
    reader = ControlReader()
    read = [
        message for start in range(0, len(wire), step) for message in reader.feed(wire[start : start + step])
    ]
    assert read == messages


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_a_wire_error(data):
    try:
        ControlReader().feed(data)
    except WireError:
        pass


@given(st.integers(0, 255), st.binary(max_size=100))
def test_any_frame_is_a_message_or_a_wire_error(kind, body):
    try:
        parse(bytes([kind]) + body)
    except WireError:
        pass


def test_an_unknown_optional_message_is_ignored():
    assert ControlReader().feed(bytes.fromhex("0004 80 ffffff 0002 02 90")) == [Welcome()]


@pytest.mark.parametrize(
    "wire",
    [
        "0001 06",  # an unknown type that is not optional
        "0000",  # no type
        "0401 80",  # too long, announced by its length alone
        "0003 05 91 ff",  # a negative stream
        "0004 05 92 05 05",  # a field too many
        "0002 05 90",  # a field too few
        "0004 05 91 a1 35",  # text instead of a number
        "0004 05 91 05 00",  # more after the array
        "000b 05 91 cf4000000000000000",  # a stream id above 2**62
        "0004 01 92 c0 c0",
    ],
)
def test_a_malformed_message_is_a_wire_error(wire):
    with pytest.raises(WireError):
        ControlReader().feed(bytes.fromhex(wire))


def test_deep_nesting_is_a_wire_error():
    with pytest.raises(WireError):
        parse(b"\x05" + b"\x91" * (MAX_MESSAGE_BYTES - 1))
