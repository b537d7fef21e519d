import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import UdpAddress, WireError
from peerway.core.stun.attributes import (
    ChangedAddress,
    ChangeRequest,
    ErrorCode,
    Fingerprint,
    MappedAddress,
    MessageIntegrity,
    MessageIntegritySha256,
    Nonce,
    OtherAddress,
    Realm,
    ResponseOrigin,
    ResponsePort,
    Software,
    SourceAddress,
    Unknown,
    UnknownAttributes,
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
from peerway.core.stun.message import BINDING, Message, MessageClass, build, is_stun, parse, parse_classic

COOKIE = "2112a442"
ID = "000102030405060708090a0b"
TRANSACTION_ID = bytes.fromhex(ID)
KEY = b"key"


def wire(attributes="", kind="0001", length=None, cookie=COOKIE):
    """A message as hex: its header with the right length (or `length`), then `attributes`."""
    body = bytes.fromhex(attributes)
    size = f"{len(body):04x}" if length is None else length
    return bytes.fromhex(kind + size + cookie + ID) + body


def request(*attributes):
    return Message(MessageClass.REQUEST, BINDING, TRANSACTION_ID, attributes)


# --- the header -----------------------------------------------------------------------


def test_plain_request_is_twenty_bytes():
    assert build(request()) == wire()
    assert parse(wire()) == request()


@pytest.mark.parametrize(
    ("message_class", "method", "kind"),
    [
        (MessageClass.REQUEST, 0x001, "0001"),
        (MessageClass.INDICATION, 0x001, "0011"),
        (MessageClass.SUCCESS, 0x001, "0101"),
        (MessageClass.ERROR, 0x001, "0111"),
        (MessageClass.SUCCESS, 0x003, "0103"),  # TURN Allocate
        (MessageClass.REQUEST, 0x00F, "000f"),
        (MessageClass.REQUEST, 0x010, "0020"),
        (MessageClass.REQUEST, 0x080, "0200"),
        (MessageClass.ERROR, 0xFFF, "3fff"),
    ],
)
def test_class_bits_are_woven_into_the_method(message_class, method, kind):
    message = Message(message_class, method, TRANSACTION_ID)
    assert build(message) == wire(kind=kind)
    assert parse(wire(kind=kind)) == message


def test_a_wrong_magic_cookie_is_refused():
    with pytest.raises(WireError, match="cookie"):
        parse(wire(cookie="2112a443"))


@pytest.mark.parametrize("kind", ["4001", "8001", "c001"])
def test_top_bits_are_refused(kind):
    with pytest.raises(WireError, match="top bits"):
        parse(wire(kind=kind))


@pytest.mark.parametrize("size", range(20))
def test_less_than_a_header_is_refused(size):
    with pytest.raises(WireError, match="shorter"):
        parse(wire()[:size])


def test_a_length_that_is_not_a_multiple_of_4_is_refused():
    with pytest.raises(WireError, match="multiple of 4"):
        parse(wire("80220000", length="0003"))


def test_trailing_bytes_are_refused():
    with pytest.raises(WireError, match="0 bytes of attributes, 4 came"):
        parse(wire("80220000", length="0000"))


def test_missing_bytes_are_refused():
    with pytest.raises(WireError, match="8 bytes of attributes, 4 came"):
        parse(wire("80220000", length="0008"))


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (wire(), True),
        (wire(kind="0111"), True),
        (wire(kind="0301"), True),
        (wire(kind="0401"), False),
        (wire(cookie="2112a443"), False),
        (wire()[:19], False),
        (b"", False),
    ],
)
def test_is_stun_looks_at_first_byte_cookie_and_size(data, answer):
    assert is_stun(data) is answer


# --- attributes -----------------------------------------------------------------------

IPV4 = UdpAddress("192.0.2.1", 32853)
IPV6 = UdpAddress("2001:db8::1", 1)
ATTRIBUTES = [
    (MappedAddress(IPV4), "0001 0008 0001 8055 c0000201"),
    (SourceAddress(IPV4), "0004 0008 0001 8055 c0000201"),
    (ChangedAddress(IPV4), "0005 0008 0001 8055 c0000201"),
    (ResponseOrigin(IPV4), "802b 0008 0001 8055 c0000201"),
    (OtherAddress(IPV4), "802c 0008 0001 8055 c0000201"),
    (ResponsePort(0xC001), "0027 0004 c001 0000"),
    (MappedAddress(IPV6), "0001 0014 0002 0001 20010db8 00000000 00000000 00000001"),
    (XorMappedAddress(IPV4), "0020 0008 0001 a147 e112a643"),
    (XorMappedAddress(IPV6), "0020 0014 0002 2113 0113a9fa 00010203 04050607 08090a0a"),
    (Username("evtj:h6vY"), "0006 0009 6576746a3a68367659 000000"),
    (Realm("example.org"), "0014 000b 6578616d706c652e6f7267 00"),
    (Nonce("abcd"), "0015 0004 61626364"),
    (Software("ü"), "8022 0002 c3bc 0000"),
    (ErrorCode(420, "no"), "0009 0006 00000414 6e6f 0000"),
    (UnknownAttributes((0x7FFF, 3)), "000a 0004 7fff 0003"),
    (UnknownAttributes((3,)), "000a 0002 0003 0000"),
    (UnknownAttributes(()), "000a 0000"),
    (ChangeRequest(True, False), "0003 0004 00000004"),
    (ChangeRequest(False, True), "0003 0004 00000002"),
    (MessageIntegrity(bytes(20)), "0008 0014" + "00" * 20),
    (MessageIntegritySha256(bytes(16)), "001c 0010" + "00" * 16),
    (Unknown(0x0024, b"\x6e"), "0024 0001 6e000000"),
]


@pytest.mark.parametrize(("attribute", "expected"), ATTRIBUTES, ids=lambda value: str(value)[:40])
def test_attribute_on_the_wire(attribute, expected):
    assert build(request(attribute)) == wire(expected)
    assert parse(wire(expected)) == request(attribute)


@pytest.mark.parametrize(
    "attribute",
    [
        "0001 0009 0001 8055",  # the whole value is missing
        "8022 0001",  # the length says one byte, the message ends
        "8022 fffc 61626364",
        "8022 0004 61626364 8022 0005 61626364",
    ],
)
def test_an_attribute_running_past_the_end_is_refused(attribute):
    with pytest.raises(WireError, match="runs past the end"):
        parse(wire(attribute))


@pytest.mark.parametrize(
    "attribute",
    [
        "0020 0000",
        "0020 0003 00010000",
        "0020 0004 00018055",
        "0020 0008 0002 8055 c0000201",  # IPv6 with 4 bytes
        "0020 0014 0001 8055" + "00" * 16,  # IPv4 with 16 bytes
        "0020 0008 0000 8055 c0000201",  # no such family
        "0001 0004 0001 8055",
        "0006 0002 c328 0000",  # not UTF-8
        "0006 01fd" + "61" * 509 + "000000",
        "0014 02fc" + "61" * 764,
        "0009 0003 000004 00",
        "0009 0300" + "00000414" + "61" * 764,
        "0009 0004 00000214",  # 220
        "0009 0004 00000714",  # 720
        "0009 0004 00000464",  # 4 hundred and 100
        "000a 0001 00000000",
        "0003 0003 00000000",
        "0003 0008 0000000000000000",
        "0027 0002 c0010000",
        "0027 0004 00000000",  # port 0
        "0008 0010" + "00" * 16,
        "0008 0018" + "00" * 24,
        "001c 000c" + "00" * 12,
        "001c 0012" + "00" * 20,
        "001c 0024" + "00" * 36,
        "8028 0000",
        "8028 0008" + "00" * 8,
    ],
)
def test_a_value_that_its_type_does_not_allow_is_refused(attribute):
    with pytest.raises(WireError):
        parse(wire(attribute))


def test_padding_may_be_anything():
    assert parse(wire("8022 0001 61ffffff")) == request(Software("a"))


def test_the_first_byte_of_an_address_and_the_other_bits_of_a_change_request_are_ignored():
    assert parse(wire("0001 0008 ff01 8055 c0000201")) == request(MappedAddress(IPV4))
    assert parse(wire("0003 0004 fffffff9")) == request(ChangeRequest(False, False))


def test_sloppy_text_for_people_spoils_no_message():
    assert parse(wire("8022 0001 ff000000")) == request(Software("\ufffd"))
    assert parse(wire("0009 0005 00000414 ff000000")) == request(ErrorCode(420, "\ufffd"))


def test_an_ipv4_mapped_address_is_read_and_written_as_ipv4():
    mapped = "0001 0014 0002 8055 00000000000000000000ffff c0000201"
    assert parse(wire(mapped)) == request(MappedAddress(IPV4))
    written = build(request(MappedAddress(UdpAddress("::ffff:192.0.2.1", 32853))))
    assert written == wire("0001 0008 0001 8055 c0000201")


def test_a_zone_is_not_sent():
    written = build(request(MappedAddress(UdpAddress("fe80::1%eth0", 1))))
    assert written == wire("0001 0014 0002 0001 fe800000 00000000 00000000 00000001")


def test_only_the_first_of_a_kind_counts():
    message = request(Software("a"), Realm("r"), Software("b"))
    assert message.first(Software) == Software("a")
    assert message.first(Nonce) is None


def test_unknown_required_attributes_are_listed_once_and_in_order():
    message = parse(wire("7fff0000 8fff0000 00240000 7fff0000 80220000"))
    assert message.unknown_required() == (0x7FFF, 0x0024)


def test_sixty_four_attributes_are_read_and_one_more_is_refused():
    assert len(parse(wire("80220000" * 64)).attributes) == 64
    with pytest.raises(WireError, match="more than 64"):
        parse(wire("80220000" * 65))


@pytest.mark.parametrize(
    "message",
    [
        Message(MessageClass.REQUEST, 0x1000, TRANSACTION_ID),
        Message(MessageClass.REQUEST, -1, TRANSACTION_ID),
        Message(MessageClass.REQUEST, BINDING, b"short"),
        request(ErrorCode(299)),
        request(ErrorCode(700)),
        request(ErrorCode(420, "a" * 764)),
        request(Username("a" * 509)),
        request(MappedAddress(UdpAddress("not an address", 1))),
        request(*[Software("")] * 65),
    ],
)
def test_what_does_not_fit_is_not_built(message):
    with pytest.raises(ValueError):
        build(message)


# --- integrity and fingerprint ----------------------------------------------------------

SIGNED = add_integrity(wire(), KEY)
EVERY_PROOF = add_fingerprint(add_integrity_sha256(add_integrity(wire("80220000"), KEY), KEY))


def with_attribute(data, attribute):
    """`data` with an attribute added and the header's length right again."""
    longer = data + bytes.fromhex(attribute)
    return longer[:2] + (len(longer) - 20).to_bytes(2, "big") + longer[4:]


def test_all_three_proofs_in_one_message_are_right():
    assert integrity_is_right(EVERY_PROOF, KEY)
    assert integrity_sha256_is_right(EVERY_PROOF, KEY)
    assert fingerprint_is_right(EVERY_PROOF)
    kinds = [type(attribute) for attribute in parse(EVERY_PROOF).attributes]
    assert kinds == [Software, MessageIntegrity, MessageIntegritySha256, Fingerprint]


@pytest.mark.parametrize("add", [add_fingerprint, lambda data: add_integrity(data, KEY)])
def test_a_message_as_full_as_can_be_takes_no_proof_that_would_make_it_unreadable(add):
    assert parse(add(wire("80220000" * 63)))
    with pytest.raises(ValueError, match="64 attributes takes no further"):
        add(wire("80220000" * 64))


def test_what_is_missing_is_not_right():
    assert not integrity_is_right(wire(), KEY)
    assert not integrity_sha256_is_right(wire(), KEY)
    assert not fingerprint_is_right(wire())


def test_what_is_no_message_has_no_proof_to_check():
    with pytest.raises(WireError):
        integrity_is_right(b"", KEY)
    with pytest.raises(WireError):
        integrity_is_right(wire("80220001"), KEY)


def test_a_wrong_fingerprint_is_refused():
    with pytest.raises(WireError, match="fingerprint"):
        parse(with_attribute(wire(), "8028 0004 00000000"))


@pytest.mark.parametrize("attribute", ["8022 0000", "0008 0014" + "00" * 20, "8028 0004 00000000"])
def test_an_attribute_after_fingerprint_is_refused(attribute):
    with pytest.raises(WireError, match="after FINGERPRINT"):
        parse(with_attribute(add_fingerprint(wire()), attribute))


@pytest.mark.parametrize("attribute", ["0020 0008 0001 a147 e112a643", "7fff 0000", "0008 0014" + "00" * 20])
def test_attributes_after_message_integrity_are_ignored(attribute):
    message = parse(with_attribute(SIGNED, attribute))
    assert [type(known) for known in message.attributes] == [MessageIntegrity]
    assert message.attributes[0].digest != bytes(20)


def test_sha256_and_fingerprint_after_message_integrity_count_even_behind_ignored_ones():
    data = with_attribute(SIGNED, "7fff 0000")
    data = add_fingerprint(add_integrity_sha256(data, KEY))
    kinds = [type(known) for known in parse(data).attributes]
    assert kinds == [MessageIntegrity, MessageIntegritySha256, Fingerprint]
    assert integrity_is_right(data, KEY)
    assert integrity_sha256_is_right(data, KEY)


def test_after_sha256_only_fingerprint_counts():
    data = with_attribute(add_integrity_sha256(wire(), KEY), "0008 0014" + "00" * 20)
    data = add_fingerprint(with_attribute(data, "0006 0004 61626364"))
    assert [type(known) for known in parse(data).attributes] == [MessageIntegritySha256, Fingerprint]


def test_an_ignored_attribute_need_not_be_well_formed_but_must_end():
    assert len(parse(with_attribute(SIGNED, "0020 0000")).attributes) == 1
    with pytest.raises(WireError, match="runs past the end"):
        parse(with_attribute(SIGNED, "0020 0001"))


@pytest.mark.parametrize("size", [16, 20, 24, 28])
def test_a_truncated_sha256_counts_only_where_it_is_allowed(size):
    data = add_integrity_sha256(wire(), KEY, size)
    assert len(data) == 20 + 4 + size
    assert integrity_sha256_is_right(data, KEY, minimum=size)
    assert not integrity_sha256_is_right(data, KEY, minimum=size + 4)
    assert not integrity_sha256_is_right(data, KEY)
    assert not integrity_sha256_is_right(data, b"other", minimum=16)


@pytest.mark.parametrize("size", [12, 17, 36])
def test_a_sha256_of_another_size_is_not_made(size):
    with pytest.raises(ValueError, match="multiple of 4"):
        add_integrity_sha256(wire(), KEY, size)


@pytest.mark.parametrize(
    ("data", "add"),
    [
        (add_fingerprint(wire()), lambda data: add_integrity(data, KEY)),
        (add_fingerprint(wire()), lambda data: add_integrity_sha256(data, KEY)),
        (add_fingerprint(wire()), add_fingerprint),
        (add_integrity_sha256(wire(), KEY), lambda data: add_integrity(data, KEY)),
        (SIGNED, lambda data: add_integrity(data, KEY)),
    ],
)
def test_proofs_are_added_in_their_order_and_once(data, add):
    with pytest.raises(ValueError, match="cannot follow"):
        add(data)


# --- RFC 3489 ---------------------------------------------------------------------------


def test_a_classic_request_has_a_transaction_id_of_16_bytes():
    data = bytes.fromhex("0001 0008 00112233 445566778899aabbccddeeff 0003 0004 00000006")
    message = parse_classic(data)
    assert message.transaction_id == bytes.fromhex("00112233445566778899aabbccddeeff")
    assert message.is_classic
    assert message.attributes == (ChangeRequest(True, True),)
    assert build(message) == data


def test_a_classic_answer_repeats_the_16_bytes():
    answer = Message(MessageClass.SUCCESS, BINDING, bytes(range(16)), (MappedAddress(IPV4),))
    assert build(answer) == bytes.fromhex(
        "0101 000c 000102030405060708090a0b0c0d0e0f 0001 0008 0001 8055 c0000201"
    )


def test_a_message_with_the_cookie_is_not_classic():
    assert not parse(wire()).is_classic
    with pytest.raises(WireError, match="3489"):
        parse_classic(wire())


def test_classic_messages_are_checked_as_strictly():
    for data in (b"", wire(cookie="00000000")[:19], wire("8022", cookie="00000000"), b"\x45" * 20):
        with pytest.raises(WireError):
            parse_classic(data)


# --- properties -------------------------------------------------------------------------

PORTS = st.integers(0, 65535)
IPS = st.ip_addresses().filter(lambda ip: ip.version == 4 or ip.ipv4_mapped is None).map(str)
ADDRESSES = st.builds(UdpAddress, IPS, PORTS)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)
ANY_ATTRIBUTE = st.one_of(
    *(st.builds(kind, ADDRESSES) for kind in (MappedAddress, XorMappedAddress, ResponseOrigin, OtherAddress)),
    *(st.builds(kind, TEXTS) for kind in (Username, Realm, Nonce, Software)),
    st.builds(ErrorCode, st.integers(300, 699), TEXTS),
    st.builds(UnknownAttributes, st.lists(PORTS, max_size=5).map(tuple)),
    st.builds(ChangeRequest, st.booleans(), st.booleans()),
    st.builds(ResponsePort, st.integers(1, 65535)),
    st.builds(Unknown, st.sampled_from([0x0002, 0x0024, 0x7FFF, 0x8000, 0xFFFF]), st.binary(max_size=40)),
)
MESSAGES = st.builds(
    Message,
    st.sampled_from(MessageClass),
    st.integers(0, 0xFFF),
    st.binary(min_size=12, max_size=12),
    st.lists(ANY_ATTRIBUTE, max_size=8).map(tuple),
)


@given(MESSAGES)
def test_what_is_built_parses_to_the_same(message):
    assert parse(build(message)) == message


@given(MESSAGES, st.binary(max_size=70))
def test_what_is_signed_is_right_and_parses(message, key):
    data = add_fingerprint(add_integrity_sha256(add_integrity(build(message), key), key))
    assert parse(data).attributes[:-3] == message.attributes
    assert integrity_is_right(data, key)
    assert integrity_sha256_is_right(data, key)
    assert not integrity_is_right(data, key + b"x")


def only_wire_error(data):
    for reader in (parse, parse_classic, lambda data: integrity_is_right(data, KEY), fingerprint_is_right):
        try:
            reader(data)
        except WireError:
            pass


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_raise_wire_error(data):
    only_wire_error(data)


@given(st.binary(max_size=200), st.integers(0, 0x3FFF))
def test_any_attributes_parse_or_raise_wire_error(body, kind):
    body = body[: len(body) & ~3]
    only_wire_error(wire(body.hex(), kind=f"{kind:04x}"))


@given(MESSAGES, st.data())
def test_a_damaged_message_parses_or_raises_wire_error(message, data):
    damaged = bytearray(build(message))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    only_wire_error(bytes(damaged))
    only_wire_error(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
