"""NAT-PMP on the wire. Vectors marked "captured" are what miniupnpd 2.3.1 and natpmpc exchanged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import WireError
from peerway.core.portmap.natpmp import (
    ExternalAddress,
    Failure,
    Mapped,
    Result,
    build_address_request,
    build_map_request,
    meaning,
    parse,
)


def test_the_request_for_the_address_is_two_zeros():
    assert build_address_request() == bytes.fromhex("0000")


@pytest.mark.parametrize(
    ("arguments", "wire"),
    [
        ((41641, 41641, 7200), "00010000 a2a9 a2a9 00001c20"),  # captured
        ((41641, 0, 0), "00010000 a2a9 0000 00000000"),
    ],
)
def test_a_request_for_a_mapping(arguments, wire):
    assert build_map_request(*arguments) == bytes.fromhex(wire)


@pytest.mark.parametrize(
    ("wire", "answer"),
    [
        ("0080 0000 00000001 0b010002", ExternalAddress(1, "11.1.0.2")),  # captured
        ("0081 0000 00000001 a2a9 a2a9 00001c20", Mapped(1, 41641, 41641, 7200)),  # captured
        ("0081 0000 00000001 a2a9 0000 00000000", Mapped(1, 41641, 0, 0)),  # captured: deleted
        ("0080 0003 00000007 00000000", Failure(7, False, Result.NETWORK_FAILURE)),
        ("0081 0002 00000007 a2a9 0050 00001c20", Failure(7, True, Result.NOT_AUTHORIZED)),
        ("0080 0001 00000007", Failure(7, False, Result.UNSUPPORTED_VERSION)),
        ("0081 ffff 00000007", Failure(7, True, 0xFFFF)),
    ],
)
def test_an_answer_on_the_wire(wire, answer):
    assert parse(bytes.fromhex(wire)) == answer


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ("", "size"),
        ("0080 0000 000000", "size"),  # shorter than a head
        ("0080 0000 00000001 0b010002 00000000 00", "size"),  # longer than any answer
        ("0080 0000 00000001 0b0100", "size"),  # an address without its last byte
        ("0080 0000 00000001 0b010002 00", "size"),
        ("0081 0000 00000001 a2a9 a2a9 00001c", "size"),  # a mapping without its last byte
        ("0280 0000 00000001 0b010002", "version"),
        ("0000 0000 00000001 0b010002", "not an answer"),  # a request, as a reflector would send back
        ("0089 0005 00000002", "not an answer"),  # captured: to an opcode we never use
        ("0082 0000 00000001 a2a9 a2a9 00001c20", "not an answer"),  # about TCP
    ],
)
def test_anything_else_is_refused(wire, reason):
    with pytest.raises(WireError, match=reason):
        parse(bytes.fromhex(wire))


@given(st.binary(max_size=40))
def test_any_bytes_are_an_answer_or_a_wire_error(data):
    try:
        parse(data)
    except WireError:
        pass


@given(st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 2**32 - 1))
def test_what_a_gateway_would_answer_to_a_request_is_read_back(internal, external, lifetime):
    request = build_map_request(internal, external, lifetime)
    assert parse(b"\x00\x81\x00\x00\x00\x00\x00\x05" + request[4:]) == Mapped(5, internal, external, lifetime)


@pytest.mark.parametrize("result", [result for result in Result if result is not Result.SUCCESS])
def test_every_failure_has_words_of_its_own(result):
    assert "NAT-PMP result" not in meaning(result)


def test_an_unknown_failure_is_told_by_its_number():
    assert meaning(77) == "the gateway answers with NAT-PMP result 77"
