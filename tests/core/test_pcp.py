"""PCP on the wire. Vectors marked "captured" are what miniupnpd 2.3.1 answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import WireError
from peerway.core.portmap.pcp import (
    MEANINGS,
    Announced,
    Failure,
    Mapped,
    Result,
    WrongVersion,
    build_announce,
    build_map,
    meaning,
    parse,
)

NONCE = bytes(range(12))
HEAD = "0281 00 00 00001c20 00000002 000000000000000000000000"
BODY = "000102030405060708090a0b 11 000000 a2a9 a2a9 00000000000000000000ffff0b010002"


def head(opcode="81", result="00", lifetime="00000000"):
    return f"02{opcode} 00 {result} {lifetime} 00000002 000000000000000000000000"


def test_announce_names_our_address_as_a_mapped_one():
    assert build_announce("10.1.1.100") == bytes.fromhex("02000000 00000000 00000000000000000000ffff0a010164")


def test_a_request_for_a_mapping_without_a_wish_for_an_address():
    assert build_map("10.1.1.100", NONCE, 41641, 41641, "", 7200) == bytes.fromhex(
        "02010000 00001c20 00000000000000000000ffff0a010164"
        "000102030405060708090a0b 11000000 a2a9 a2a9 00000000000000000000ffff00000000"
    )


def test_a_renewal_asks_for_the_address_it_has():
    assert build_map("10.1.1.100", NONCE, 41641, 41641, "11.1.0.2", 7200).endswith(
        bytes.fromhex("a2a9 a2a9 00000000000000000000ffff0b010002")
    )


def test_ipv6_addresses_stand_as_they_are():
    assert build_announce("2001:db8::1")[8:] == bytes.fromhex("20010db8000000000000000000000001")


@pytest.mark.parametrize(
    ("wire", "answer"),
    [
        ("0280 0000 00000000 00000002 000000000000000000000000", Announced(2)),  # captured
        (HEAD + BODY, Mapped(2, NONCE, 41641, "11.1.0.2", 41641, 7200)),  # captured
        (
            head() + "000102030405060708090a0b 11 000000 a2a9 0000 00000000000000000000ffff0b010002",
            Mapped(2, NONCE, 41641, "11.1.0.2", 0, 0),  # captured: deleted
        ),
        (head(result="0c") + BODY, Failure(2, NONCE, Result.ADDRESS_MISMATCH, 0)),  # captured
        (head(result="08", lifetime="0000001e") + BODY, Failure(2, NONCE, Result.NO_RESOURCES, 30)),
        (head("80", "01"), Failure(2, b"", Result.UNSUPP_VERSION, 0)),  # captured: asked in version 3
        ("0081 0001 00000005", WrongVersion(0)),  # a NAT-PMP server asked for a PCP mapping, RFC 6886 9
        ("01010001", None),
        ("01810001 00000000 00000002", WrongVersion(1)),
        (HEAD + BODY + "01 00 0000", Mapped(2, NONCE, 41641, "11.1.0.2", 41641, 7200)),  # an empty option
        (HEAD + BODY + "81 00 0003 aabbcc00", Mapped(2, NONCE, 41641, "11.1.0.2", 41641, 7200)),
        (
            HEAD + "000102030405060708090a0b 11 000000 a2a9 a2a9 20010db8000000000000000000000001",
            Mapped(2, NONCE, 41641, "2001:db8::1", 41641, 7200),
        ),
    ],
)
def test_an_answer_on_the_wire(wire, answer):
    if answer is None:
        with pytest.raises(WireError, match="another version"):
            parse(bytes.fromhex(wire))
    else:
        assert parse(bytes.fromhex(wire)) == answer


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ("", "cut short"),
        ("028100", "cut short"),
        ("0281 0000 00001c20 00000002 0000000000000000", "size"),  # a head without its last bytes
        (HEAD + BODY[:-2] + "", "size"),  # no multiple of 4
        (HEAD + "00" * 32, "size"),  # a mapping cut short
        (head(result="02") + "00" * 4, "size"),  # a failure that names no mapping
        (HEAD + BODY + "00" * 1044, "size"),  # 1104 bytes
        ("0201" + HEAD[4:] + BODY, "not an answer"),  # a request
        ("0282" + HEAD[4:] + BODY, "not an answer"),  # PEER
        (HEAD + BODY.replace(" 11 ", " 06 "), "another protocol"),  # TCP
        (HEAD + BODY + "01 00 0004", "runs past"),
        ("0280 0000 00000000 00000002 000000000000000000000000 01 00 ffff", "runs past"),
        ("0381 0000 00001c20", "another version"),  # success in a version that does not exist
    ],
)
def test_anything_else_is_refused(wire, reason):
    with pytest.raises(WireError, match=reason):
        parse(bytes.fromhex(wire))


@given(st.binary(max_size=80) | st.builds(lambda b: b"\x02\x81\x00\x00" + b, st.binary(max_size=96)))
def test_any_bytes_are_an_answer_or_a_wire_error(data):
    try:
        parse(data)
    except WireError:
        pass


@given(
    st.binary(min_size=12, max_size=12),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.ip_addresses().map(str),
    st.integers(0, 2**32 - 1),
)
def test_what_a_server_would_answer_to_a_request_is_read_back(nonce, internal, external, ip, lifetime):
    request = build_map("10.1.1.100", nonce, internal, external, ip, lifetime)
    answer = b"\x02\x81\x00\x00" + request[4:8] + b"\x00\x00\x00\x09" + bytes(12) + request[24:]
    parsed = parse(answer)
    assert isinstance(parsed, Mapped)
    assert parsed == Mapped(9, nonce, internal, parsed.external_ip, external, lifetime)
    assert build_map("10.1.1.100", nonce, internal, external, parsed.external_ip, lifetime) == request


@pytest.mark.parametrize("result", MEANINGS)
def test_failures_have_words_of_their_own(result):
    assert "PCP result" not in meaning(result)


def test_a_failure_that_is_our_own_fault_is_told_by_its_number():
    assert meaning(Result.MALFORMED_REQUEST) == "the gateway answers with PCP result 3"
