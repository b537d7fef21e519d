import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import Datagram, RelayAddress, Transmit, UdpAddress
from peerway.core.stun.attributes import (
    ChangeRequest,
    ErrorCode,
    Fingerprint,
    MappedAddress,
    Nonce,
    Realm,
    Software,
    Unknown,
    UnknownAttributes,
    Username,
    XorMappedAddress,
)
from peerway.core.stun.integrity import add_fingerprint, add_integrity, fingerprint_is_right
from peerway.core.stun.message import BINDING, Message, MessageClass, build, parse, parse_classic
from peerway.core.stun.server import StunServer

CLIENT = UdpAddress("192.0.2.1", 32853)
CLIENT_IPV6 = UdpAddress("2001:db8::1", 1)
LOCAL = UdpAddress("0.0.0.0", 3478)
TRANSACTION_ID = bytes.fromhex("000102030405060708090a0b")
PLAIN = bytes.fromhex("00010000 2112a442 000102030405060708090a0b")
ANSWER = bytes.fromhex("0101000c 2112a442 000102030405060708090a0b 00200008 0001a147e112a643")
ANSWER_IPV6 = bytes.fromhex(
    "01010018 2112a442 000102030405060708090a0b 00200014 00022113 0113a9fa 00010203 04050607 08090a0a"
)
CLASSIC = bytes.fromhex("00010000 000102030405060708090a0b0c0d0e0f")


def request(*attributes, kind=MessageClass.REQUEST, method=BINDING):
    return build(Message(kind, method, TRANSACTION_ID, attributes))


def answers(server, data, remote=CLIENT, segment_size=0, now=1.0):
    server.receive(Datagram(data, remote, LOCAL, segment_size), now)
    return list(iter(server.poll_transmit, None))


def answer(server, data, remote=CLIENT):
    (transmit,) = answers(server, data, remote)
    assert (transmit.remote, transmit.local) == (remote, LOCAL)
    (segment,) = transmit.segments
    return segment


@pytest.fixture
def server():
    return StunServer()


# --- answers ----------------------------------------------------------------------------


def test_a_plain_request_is_answered_with_the_address_and_nothing_else(server):
    assert answer(server, PLAIN) == ANSWER
    assert answer(server, PLAIN, CLIENT_IPV6) == ANSWER_IPV6
    assert server.answers.success == 2


def test_an_ipv4_client_of_a_dual_stack_socket_is_told_its_ipv4_address(server):
    mapped = UdpAddress("::ffff:192.0.2.1", 32853)
    assert answer(server, PLAIN, mapped) == ANSWER
    assert answer(server, request(Software("x")), mapped) == ANSWER


def test_plain_answers_are_those_of_the_codec():
    server = StunServer("peerway")
    for remote in (CLIENT, CLIENT_IPV6):
        attributes = (XorMappedAddress(remote), Software("peerway"))
        expected = Message(MessageClass.SUCCESS, BINDING, TRANSACTION_ID, attributes)
        assert parse(answer(server, PLAIN, remote)) == expected
        assert answer(server, request(Software("anybody")), remote) == build(expected)


@pytest.mark.parametrize(
    "attributes",
    [
        (),
        (Software("tailnode"),),
        (Username("a"), Realm("b"), Nonce("c")),  # we ask nobody to log in, so these do no harm
        (Unknown(0x001D, bytes(4)), Unknown(0x001E, bytes(32))),
        (Unknown(0x8029, bytes(8)),),
        (ChangeRequest(False, False),),
    ],
)
@pytest.mark.parametrize("fingerprint", [False, True])
def test_whoever_asks_is_answered_and_gets_a_fingerprint_for_one(server, attributes, fingerprint):
    data = request(*attributes)
    given = answer(server, add_fingerprint(data) if fingerprint else data)
    assert parse(given).first(XorMappedAddress) == XorMappedAddress(CLIENT)
    assert fingerprint_is_right(given) is fingerprint
    assert len(given) == len(ANSWER) + 8 * fingerprint


def test_an_integrity_nobody_can_check_is_ignored(server):
    assert answer(server, add_integrity(request(Username("a")), b"key")) == ANSWER


def test_software_is_short():
    assert len(answer(StunServer("x" * 32), PLAIN)) == 32 + 4 + 32
    with pytest.raises(ValueError, match="32 bytes"):
        StunServer("x" * 33)


# --- coalesced requests -------------------------------------------------------------------


def test_coalesced_requests_are_answered_in_one_call(server):
    other = PLAIN[:8] + bytes(12)
    (transmit,) = answers(server, PLAIN + other, segment_size=20)
    assert transmit == Transmit((ANSWER, ANSWER[:8] + bytes(12) + ANSWER[20:]), CLIENT, LOCAL)


def test_coalesced_ipv6_requests_are_answered_each_with_its_own_mask(server):
    other = PLAIN[:8] + bytes(12)
    (transmit,) = answers(server, PLAIN + other, CLIENT_IPV6, segment_size=20)
    mapped = [parse(segment).first(XorMappedAddress).address for segment in transmit.segments]
    assert mapped == [CLIENT_IPV6, CLIENT_IPV6]


def test_answers_of_different_sizes_leave_in_different_calls(server):
    with_print, refused = add_fingerprint(request()), request(Unknown(0x7FFF, bytes(4)))
    data = with_print + with_print + b"\x05" * 28 + refused + PLAIN
    sent = answers(server, data, segment_size=28)
    assert [[len(segment) for segment in transmit.segments] for transmit in sent] == [[40, 40], [36], [32]]
    assert server.drops == {"not STUN": 1}


def test_nothing_to_answer_sends_nothing(server):
    assert answers(server, b"\x05" * 40, segment_size=20) == []
    assert answers(server, b"", segment_size=20) == []
    assert server.drops == {"not STUN": 2}


# --- refusals -------------------------------------------------------------------------------


def refusal(*types):
    return Message(MessageClass.ERROR, BINDING, TRANSACTION_ID, (ErrorCode(420), UnknownAttributes(types)))


def test_unknown_required_attributes_are_refused_and_named(server):
    data = request(Unknown(0x7FFF, b""), Unknown(0x8FFF, b""), Unknown(0x0024, bytes(4)))
    assert parse(answer(server, data)) == refusal(0x7FFF, 0x0024)
    assert server.answers.refusal == 1


@pytest.mark.parametrize("change", [(True, False), (False, True), (True, True)])
def test_there_is_no_other_address_to_answer_from(server, change):
    assert parse(answer(server, request(ChangeRequest(*change)))) == refusal(0x0003)


def test_a_refusal_has_a_fingerprint_for_one(server):
    given = answer(server, add_fingerprint(request(Unknown(0x7FFF, b""))))
    assert fingerprint_is_right(given)


def test_a_refusal_names_sixteen_attributes_at_most(server):
    data = request(*(Unknown(number, b"") for number in range(0x7000, 0x7030)))
    assert parse(answer(server, data)) == refusal(*range(0x7000, 0x7010))


def test_response_address_is_refused_because_it_would_aim_answers_at_others(server):
    assert parse(answer(server, request(Unknown(0x0002, bytes(8))))) == refusal(0x0002)


# --- RFC 3489 ---------------------------------------------------------------------------------


def test_a_request_without_a_cookie_is_answered_in_the_old_form(server):
    assert answer(server, CLASSIC) == bytes.fromhex(
        "0101000c 000102030405060708090a0b0c0d0e0f 00010008 00018055c0000201"
    )
    assert server.answers.classic == 1


def test_the_old_answer_has_no_software():
    given = parse_classic(answer(StunServer("peerway"), CLASSIC))
    assert given.attributes == (MappedAddress(CLIENT),)


def test_an_old_refusal_lists_an_odd_attribute_twice(server):
    data = CLASSIC[:3] + b"\x08" + CLASSIC[4:] + bytes.fromhex("0003 0004 00000006")
    assert answer(server, data) == bytes.fromhex(
        "01110010 000102030405060708090a0b0c0d0e0f 00090004 00000414 000a0004 00030003"
    )
    data = CLASSIC[:3] + b"\x08" + CLASSIC[4:] + bytes.fromhex("7fff0000 7ffe0000")
    assert answer(server, data)[-4:] == bytes.fromhex("7fff7ffe")


# --- what is dropped ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not STUN"),
        (b"\x04" * 20, "not STUN"),
        (b"\xff" * 1200, "not STUN"),
        (PLAIN + b"\x00", "malformed"),
        (PLAIN[:19], "malformed"),
        (add_fingerprint(request())[:-1] + b"\x00", "malformed"),
        (bytes.fromhex("0001 0004 2112a442 000102030405060708090a0b 80220001"), "malformed"),
        (b"\x01\x00\x00\x00" + bytes(144), "malformed"),  # a WireGuard handshake
        (b"\x00\x02\x00\x00" + CLASSIC[4:], "another method"),  # RFC 3489's Shared Secret Request
        (request(kind=MessageClass.INDICATION), "indication"),
        (request(Unknown(0x7FFF, b""), kind=MessageClass.INDICATION), "indication"),
        (request(kind=MessageClass.SUCCESS), "response"),
        (request(kind=MessageClass.ERROR), "response"),
        (ANSWER, "response"),
        (request(method=0x003), "another method"),
        (request(Unknown(0x8FFF, bytes(1300))), "too large"),
    ],
)
def test_what_is_no_binding_request_is_dropped_and_counted(server, data, reason):
    assert answers(server, data) == []
    assert server.drops == {reason: 1}


def test_a_relay_is_no_place_to_ask_from(server):
    assert answers(server, PLAIN, RelayAddress("https://relay.example", bytes(32))) == []
    assert server.drops == {"not over UDP": 1}


def test_nothing_is_sent_to_port_zero(server):
    assert answers(server, PLAIN, UdpAddress("192.0.2.1", 0)) == []
    assert answers(server, PLAIN * 3, UdpAddress("192.0.2.1", 0), segment_size=20) == []
    assert server.drops == {"from port 0": 4}


# --- the limit ------------------------------------------------------------------------------------


def test_a_source_gets_its_burst_and_then_its_rate():
    server = StunServer(answers_per_s=10, burst=3)
    assert sum(len(answers(server, PLAIN, now=1.0)) for _ in range(5)) == 3
    assert server.drops == {"rate limit": 2}
    assert len(answers(server, PLAIN, now=1.1)) == 1
    assert answers(server, PLAIN, now=1.1) == []


def test_ports_share_the_bucket_of_their_address_and_addresses_do_not():
    server = StunServer(answers_per_s=10, burst=1)
    assert answers(server, PLAIN, UdpAddress("192.0.2.1", 1))
    assert not answers(server, PLAIN, UdpAddress("192.0.2.1", 2))
    assert answers(server, PLAIN, UdpAddress("192.0.2.2", 1))


def test_an_ipv6_network_of_64_bits_is_one_source():
    server = StunServer(answers_per_s=10, burst=1)
    assert answers(server, PLAIN, UdpAddress("2001:db8:0:1::1", 1))
    assert not answers(server, PLAIN, UdpAddress("2001:db8:0:1:ffff::2", 1))
    assert answers(server, PLAIN, UdpAddress("2001:db8:0:2::1", 1))


def test_of_coalesced_requests_the_first_are_answered():
    server = StunServer(answers_per_s=10, burst=3)
    (transmit,) = answers(server, PLAIN * 5, segment_size=20)
    assert len(transmit.segments) == 3
    assert answers(server, PLAIN * 5, segment_size=20) == []
    assert server.drops == {"rate limit": 7}


def test_all_sources_together_get_so_many_answers_a_second():
    server = StunServer(in_all_per_s=5)
    sources = [UdpAddress(f"192.0.2.{number}", 1) for number in range(1, 9)]
    assert sum(len(answers(server, PLAIN, source, now=1.0)) for source in sources) == 5
    assert server.drops == {"rate limit of all": 3}
    assert answers(server, PLAIN, sources[0], now=1.9) == []
    (transmit,) = answers(server, PLAIN * 7, sources[0], segment_size=20, now=2.0)
    assert len(transmit.segments) == 5
    assert server.drops == {"rate limit of all": 6}


def test_garbage_costs_its_source_too():
    server = StunServer(answers_per_s=10, burst=1)
    answers(server, b"\x05")
    assert answers(server, PLAIN) == []
    assert server.drops == {"not STUN": 1, "rate limit": 1}


def test_the_default_limits_let_a_carrier_nat_through_and_no_flood(server):
    assert sum(len(answers(server, PLAIN)) for _ in range(1000)) == 500
    assert len(server.limiter) == 1


def test_it_wants_no_timer(server):
    answers(server, PLAIN)
    assert server.poll_deadline() is None
    assert server.poll_event() is None
    server.handle_timeout(5.0)


# --- properties -------------------------------------------------------------------------------------

REMOTES = st.sampled_from([CLIENT, CLIENT_IPV6])


@given(st.binary(max_size=300), st.sampled_from([b"", PLAIN[:8], b"\x00\x01\x00\x00"]), REMOTES)
def test_any_bytes_are_answered_or_dropped(data, prefix, remote):
    server = StunServer()
    sent = answers(server, prefix + data, remote)
    assert len(sent) + sum(server.drops.values()) == 1


REQUIRED = st.builds(Unknown, st.integers(0, 0x7FFF), st.binary(max_size=8))
OPTIONAL = st.builds(Unknown, st.integers(0x8000, 0xFFFF).filter(lambda kind: kind != 0x8028), st.binary())


@given(st.lists(REQUIRED | OPTIONAL, max_size=64), st.booleans(), st.booleans(), REMOTES)
def test_no_answer_is_much_larger_than_its_request(attributes, fingerprint, classic, remote):
    """An IPv6 address is 24 bytes: nothing that a request says makes an answer grow by more."""
    transaction_id = bytes(16) if classic else TRANSACTION_ID
    data = build(Message(MessageClass.REQUEST, BINDING, transaction_id, tuple(attributes)))
    for transmit in answers(StunServer(), add_fingerprint(data) if fingerprint else data, remote):
        assert len(transmit.segments[0]) <= len(data) + 8 * fingerprint + 24


def test_a_fingerprint_comes_last(server):
    given = parse(answer(server, add_fingerprint(request())))
    assert isinstance(given.attributes[-1], Fingerprint)
