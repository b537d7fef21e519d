"""The mistakes of aioice's STUN parser, as literal bytes.

aioice 0.10.1 accepts these messages, or raises an error that its callers do not catch; some of it is
mended in later versions. Here they are refused, or what is wrong in them has no effect.
"""

import hmac

import pytest

from peerway.core.machine import UdpAddress, WireError
from peerway.core.stun.attributes import XorMappedAddress
from peerway.core.stun.integrity import integrity_is_right, integrity_sha256_is_right
from peerway.core.stun.message import is_stun, parse, parse_classic

PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
# RFC 5769 2.2 up to its MESSAGE-INTEGRITY: what is added behind that, nobody signed.
SIGNED = (
    "2112a442 b7e7a701 bc34d686 fa87dfae"
    "8022 000b 74657374 20766563 746f7220"
    "0020 0008 0001a147 e112a643"  # 192.0.2.1:32853
    "0008 0014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7"
)
FORGED_ADDRESS = "0020 0008 0001a147 ea12d545"  # 203.0.113.7:32853

WHOLE = bytes.fromhex("0101 0010 2112a442 000102030405060708090a0b 0020 0008 0001a147 e112a643 80220000")


@pytest.mark.parametrize("cookie", ["00000000", "2112a443", "2112a542", "42a41221", "ffffffff"])
def test_a_wrong_magic_cookie_makes_it_no_stun_message(cookie):
    response = bytes.fromhex(f"0101 000c {cookie} 000102030405060708090a0b 0020 0008 0001a147 e112a643")
    assert not is_stun(response)
    with pytest.raises(WireError, match="cookie"):
        parse(response)


@pytest.mark.parametrize(
    "attributes",
    [
        "8022 0008 74657374",  # 8 bytes are said to come, 4 do
        "8022 ffff 74657374",
        "0008 0014 2b91f599 fd9e90c3 8c7489f9 2af9ba53",  # an HMAC cut short
        "8022 0005 74657374 00000000 0006 0001",  # the second one's only byte is missing
    ],
)
def test_an_attribute_running_past_the_end_is_refused(attributes):
    body = bytes.fromhex(attributes)
    header = b"\x01\x01" + len(body).to_bytes(2, "big") + bytes.fromhex("2112a442 000102030405060708090a0b")
    with pytest.raises(WireError, match="runs past the end"):
        parse(header + body)
    with pytest.raises(WireError, match="runs past the end"):
        integrity_is_right(header + body, PASSWORD)


def test_what_follows_message_integrity_changes_nothing():
    genuine, longer = (
        bytes.fromhex("0101 0034" + SIGNED),
        bytes.fromhex("0101 0040" + SIGNED + FORGED_ADDRESS),
    )
    assert integrity_is_right(genuine, PASSWORD)
    assert integrity_is_right(longer, PASSWORD)  # all it covers is as it was
    assert parse(longer) == parse(genuine)
    assert parse(longer).attributes[1] == XorMappedAddress(UdpAddress("192.0.2.1", 32853))


def test_an_address_that_only_follows_message_integrity_is_none():
    only = bytes.fromhex(
        "0101 0024 2112a442 b7e7a701 bc34d686 fa87dfae"
        "0008 0014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7" + FORGED_ADDRESS
    )
    assert parse(only).first(XorMappedAddress) is None


@pytest.mark.parametrize(
    "attribute",
    [
        "0003 0000",  # CHANGE-REQUEST without its four bytes
        "0003 0002 00060000",
        "8028 0000",  # FINGERPRINT
        "8028 0003 c07d4c00",
        "0027 0001 c0000000",  # RESPONSE-PORT
        "000a 0001 00000000",  # half a type in UNKNOWN-ATTRIBUTES
        "0009 0003 00000400",  # ERROR-CODE
        "0020 0002 00010000",
    ],
)
@pytest.mark.parametrize(
    ("cookie", "read"), [("2112a442", parse), ("00000000", parse_classic)], ids=["8489", "3489"]
)
def test_a_value_too_short_for_its_type_is_the_codecs_own_error(attribute, cookie, read):
    body = bytes.fromhex(attribute)
    header = b"\x00\x01" + len(body).to_bytes(2, "big") + bytes.fromhex(cookie + "000102030405060708090a0b")
    with pytest.raises(WireError) as raised:
        read(header + body)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize("size", range(36))
def test_a_message_cut_anywhere_is_the_codecs_own_error(size):
    with pytest.raises(WireError):
        parse(WHOLE[:size])
    assert parse(WHOLE)


@pytest.mark.parametrize("verdict", [True, False])
@pytest.mark.parametrize(
    ("check", "proof"),
    [(integrity_is_right, "0008 0014" + "00" * 20), (integrity_sha256_is_right, "001c 0020" + "00" * 32)],
)
def test_whether_a_digest_is_right_is_for_compare_digest_alone_to_say(monkeypatch, check, proof, verdict):
    compared = []

    def compare(left, right):
        compared.append((left, len(right)))
        return verdict

    monkeypatch.setattr(hmac, "compare_digest", compare)
    body = bytes.fromhex(proof)
    header = b"\x00\x01" + len(body).to_bytes(2, "big") + bytes.fromhex("2112a442 000102030405060708090a0b")
    assert check(header + body, PASSWORD) is verdict
    assert compared == [(bytes(len(body) - 4), len(body) - 4)]
