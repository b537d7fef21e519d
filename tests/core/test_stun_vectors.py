"""The sample messages of RFC 5769 and RFC 8489 B.1, and that no bit of them can be changed unseen."""

import hashlib

import pytest

from peerway.core.machine import UdpAddress, WireError
from peerway.core.stun.attributes import (
    Fingerprint,
    MessageIntegrity,
    Nonce,
    Realm,
    Software,
    Unknown,
    Username,
    XorMappedAddress,
)
from peerway.core.stun.integrity import (
    add_fingerprint,
    add_integrity,
    add_integrity_sha256,
    fingerprint_is_right,
    integrity_is_right,
    integrity_sha256_is_right,
)
from peerway.core.stun.message import BINDING, Message, MessageClass, build, parse

PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
TRANSACTION_ID = bytes.fromhex("b7e7a701 bc34d686 fa87dfae")

# RFC 5769 2.1; the padding of USERNAME is spaces.
REQUEST = bytes.fromhex(
    "0001 0058 2112a442 b7e7a701 bc34d686 fa87dfae"
    "8022 0010 5354554e 20746573 7420636c 69656e74"  # SOFTWARE "STUN test client"
    "0024 0004 6e0001ff"  # PRIORITY
    "8029 0008 932ff9b1 51263b36"  # ICE-CONTROLLED
    "0006 0009 6576746a 3a683676 59202020"  # USERNAME "evtj:h6vY"
    "0008 0014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2"  # MESSAGE-INTEGRITY
    "8028 0004 e57a3bcf"  # FINGERPRINT
)
# RFC 5769 2.2
IPV4_RESPONSE = bytes.fromhex(
    "0101 003c 2112a442 b7e7a701 bc34d686 fa87dfae"
    "8022 000b 74657374 20766563 746f7220"  # SOFTWARE "test vector"
    "0020 0008 0001a147 e112a643"  # XOR-MAPPED-ADDRESS
    "0008 0014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7"
    "8028 0004 c07d4c96"
)
# RFC 5769 2.3
IPV6_RESPONSE = bytes.fromhex(
    "0101 0048 2112a442 b7e7a701 bc34d686 fa87dfae"
    "8022 000b 74657374 20766563 746f7220"
    "0020 0014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9"
    "0008 0014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41"
    "8028 0004 c8fb0b4c"
)
# RFC 5769 2.4
LONG_TERM_REQUEST = bytes.fromhex(
    "0001 0060 2112a442 78ad3433 c6ad72c0 29da412e"
    "0006 0012 e3839ee3 8388e383 aae38383 e382afe3 82b90000"  # USERNAME
    "0015 001c 662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 36347341"  # NONCE
    "0014 000b 6578616d 706c652e 6f726700"  # REALM
    "0008 0014 f6702465 6dd64a3e 02b8e071 2e85c9a2 8ca89666"
)
# RFC 8489 B.1 as corrected by erratum 6268: the printed one's length is not that of its attributes.
SHA256_REQUEST = bytes.fromhex(
    "0001 0090 2112a442 78ad3433 c6ad72c0 29da412e"
    "001e 0020 4a3cf38f ef6992bd a952c678 0417da0f 24819415 569e60b2 05c46e41 407f1704"  # USERHASH
    "0015 0029 6f624d61 744a6f73 32414141 43662f2f 3439396b 39353464 364f4c33 346f4c39"
    "          46535476 79363473 41000000"  # NONCE
    "0014 000b 6578616d 706c652e 6f726700"  # REALM
    "001d 0004 00020000"  # PASSWORD-ALGORITHM SHA-256
    "001c 0020 b5c7bf00 5b6c52a2 1c51c5e8 92f81924 136296cb 927c4314 9309278c c6518e65"
)
USER = "\u30de\u30c8\u30ea\u30c3\u30af\u30b9"
LONG_TERM_KEY = hashlib.md5(f"{USER}:example.org:TheMatrIX".encode()).digest()
SHA256_KEY = hashlib.sha256(f"{USER}:example.org:TheMatrIX".encode()).digest()


def flips(data):
    """`data` once for each of its bits, with that bit changed."""
    for position in range(len(data) * 8):
        changed = bytearray(data)
        changed[position // 8] ^= 1 << position % 8
        yield position // 8, bytes(changed)


def is_accepted(check, data, key):
    try:
        return check(data, key)
    except WireError:
        return False


def test_request_has_the_attributes_of_rfc_5769_2_1():
    assert parse(REQUEST) == Message(
        MessageClass.REQUEST,
        BINDING,
        TRANSACTION_ID,
        (
            Software("STUN test client"),
            Unknown(0x0024, bytes.fromhex("6e0001ff")),
            Unknown(0x8029, bytes.fromhex("932ff9b151263b36")),
            Username("evtj:h6vY"),
            MessageIntegrity(bytes.fromhex("9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2")),
            Fingerprint(0xE57A3BCF),
        ),
    )
    assert parse(REQUEST).unknown_required() == (0x0024,)


@pytest.mark.parametrize(
    ("data", "address"),
    [
        (IPV4_RESPONSE, UdpAddress("192.0.2.1", 32853)),
        (IPV6_RESPONSE, UdpAddress("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
    ],
)
def test_responses_have_the_addresses_of_rfc_5769(data, address):
    response = parse(data)
    assert response.message_class is MessageClass.SUCCESS
    assert response.first(Software) == Software("test vector")
    assert response.first(XorMappedAddress) == XorMappedAddress(address)


def test_long_term_request_has_the_attributes_of_rfc_5769_2_4():
    request = parse(LONG_TERM_REQUEST)
    assert request.first(Username) == Username(USER)
    assert request.first(Nonce) == Nonce("f//499k954d6OL34oL9FSTvy64sA")
    assert request.first(Realm) == Realm("example.org")


@pytest.mark.parametrize("data", [REQUEST, IPV4_RESPONSE, IPV6_RESPONSE])
def test_short_term_integrity_and_fingerprint_of_rfc_5769_are_right(data):
    assert integrity_is_right(data, PASSWORD)
    assert fingerprint_is_right(data)
    assert not integrity_is_right(data, b"VOkJxbRl1RmTxUk/WvJxBT")


def test_long_term_integrity_of_rfc_5769_is_right():
    assert integrity_is_right(LONG_TERM_REQUEST, LONG_TERM_KEY)
    assert not fingerprint_is_right(LONG_TERM_REQUEST)


def test_sha256_integrity_of_rfc_8489_is_right():
    assert parse(SHA256_REQUEST).first(Nonce) == Nonce("obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA")
    assert integrity_sha256_is_right(SHA256_REQUEST, SHA256_KEY)
    assert not integrity_is_right(SHA256_REQUEST, SHA256_KEY)
    assert not integrity_sha256_is_right(SHA256_REQUEST, LONG_TERM_KEY)


def test_the_same_values_build_the_same_bytes():
    for data in (IPV6_RESPONSE, LONG_TERM_REQUEST, SHA256_REQUEST):
        built = build(parse(data))
        assert built == data.replace(b"vector\x20", b"vector\x00")  # RFC 5769 pads with a space


def test_proofs_added_to_built_messages_are_those_of_the_vectors():
    unsigned = LONG_TERM_REQUEST[:2] + b"\x00\x48" + LONG_TERM_REQUEST[4:92]
    assert add_integrity(unsigned, LONG_TERM_KEY) == LONG_TERM_REQUEST
    unsigned = SHA256_REQUEST[:2] + b"\x00\x6c" + SHA256_REQUEST[4:128]
    assert add_integrity_sha256(unsigned, SHA256_KEY) == SHA256_REQUEST
    unsigned = IPV4_RESPONSE[:2] + b"\x00\x1c" + IPV4_RESPONSE[4:48]
    assert add_fingerprint(add_integrity(unsigned, PASSWORD)) == IPV4_RESPONSE


@pytest.mark.parametrize("data", [REQUEST, IPV4_RESPONSE, IPV6_RESPONSE])
def test_a_message_with_a_fingerprint_does_not_parse_with_any_bit_flipped(data):
    for position, changed in flips(data):
        if changed[-8:-6] == b"\x80\x28":
            with pytest.raises(WireError):
                parse(changed)
        else:  # the fingerprint's own type became another
            assert len(data) - 8 <= position < len(data) - 6
            assert not fingerprint_is_right(changed)


@pytest.mark.parametrize("data", [REQUEST, IPV4_RESPONSE, IPV6_RESPONSE])
def test_integrity_fails_with_any_bit_before_its_end_flipped(data):
    for position, changed in flips(data[: len(data) - 8]):
        assert not is_accepted(integrity_is_right, changed + data[-8:], PASSWORD), position


def test_sha256_integrity_fails_with_any_bit_flipped():
    for position, changed in flips(SHA256_REQUEST):
        assert not is_accepted(integrity_sha256_is_right, changed, SHA256_KEY), position


def test_long_term_integrity_fails_with_any_bit_flipped():
    for position, changed in flips(LONG_TERM_REQUEST):
        assert not is_accepted(integrity_is_right, changed, LONG_TERM_KEY), position
