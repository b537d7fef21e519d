"""A STUN server with several sockets: behaviour discovery (RFC 5780)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import Datagram, UdpAddress
from peerway.core.stun.alternates import Alternates, arrange
from peerway.core.stun.attributes import (
    ChangedAddress,
    ChangeRequest,
    ErrorCode,
    MappedAddress,
    OtherAddress,
    ResponseOrigin,
    ResponsePort,
    SourceAddress,
    Unknown,
    UnknownAttributes,
    XorMappedAddress,
)
from peerway.core.stun.message import BINDING, Message, MessageClass, build, parse, parse_classic
from peerway.core.stun.server import StunServer

ONE, TWO = "203.0.113.10", "203.0.113.11"
MAIN = UdpAddress(ONE, 3478)
PORT = UdpAddress(ONE, 3479)
IP = UdpAddress(TWO, 3478)
BOTH = UdpAddress(TWO, 3479)
FOUR = (MAIN, PORT, IP, BOTH)
CLIENT = UdpAddress("192.0.2.1", 32853)
TRANSACTION_ID = bytes(range(12))
CLASSIC_ID = bytes(range(16))
WILDCARD = (UdpAddress("0.0.0.0", 3478), UdpAddress("0.0.0.0", 3479))

NOTHING, TO_PORT, TO_IP, TO_BOTH = (
    ChangeRequest(False, False),
    ChangeRequest(False, True),
    ChangeRequest(True, False),
    ChangeRequest(True, True),
)


def request(*attributes, transaction_id=TRANSACTION_ID):
    return build(Message(MessageClass.REQUEST, BINDING, transaction_id, attributes))


def sent(server, data, at=MAIN, now=1.0, remote=CLIENT):
    server.receive(Datagram(data, remote, at), now)
    return list(iter(server.poll_transmit, None))


def answered(server, data, at=MAIN, now=1.0):
    (transmit,) = sent(server, data, at, now)
    (segment,) = transmit.segments
    return parse(segment), transmit


# --- what a server has --------------------------------------------------------------------


def test_four_sockets_are_each_others_alternates():
    assert arrange(FOUR) == {
        MAIN: Alternates(MAIN, PORT, IP, BOTH),
        PORT: Alternates(PORT, MAIN, BOTH, IP),
        IP: Alternates(IP, BOTH, MAIN, PORT),
        BOTH: Alternates(BOTH, IP, PORT, MAIN),
    }


def test_one_socket_has_no_alternate():
    assert arrange([MAIN]) == {}
    assert arrange([]) == {}


def test_all_addresses_at_once_have_another_port_and_nothing_else():
    assert arrange(WILDCARD) == {
        WILDCARD[0]: Alternates(WILDCARD[0], WILDCARD[1]),
        WILDCARD[1]: Alternates(WILDCARD[1], WILDCARD[0]),
    }


def test_an_ipv6_address_does_not_stand_in_for_an_ipv4_one():
    six = UdpAddress("2001:db8::1", 3478)
    assert arrange([MAIN, six]) == {}
    assert arrange([MAIN, IP, six])[MAIN] == Alternates(MAIN, other_ip=IP)


def test_a_third_address_of_a_family_stands_alone():
    third = UdpAddress("203.0.113.12", 3478)
    assert third not in arrange([MAIN, IP, third])


# --- what it says --------------------------------------------------------------------------


def test_an_answer_says_where_it_comes_from_and_where_else_it_could():
    message, transmit = answered(StunServer(sockets=FOUR), request())
    assert message.attributes == (
        XorMappedAddress(CLIENT),
        MappedAddress(CLIENT),
        ResponseOrigin(MAIN),
        OtherAddress(BOTH),
    )
    assert (transmit.local, transmit.remote) == (MAIN, CLIENT)


def test_a_server_with_one_address_names_no_other():
    """RFC 5780 7.4: OTHER-ADDRESS MUST NOT be there unless there is a second address."""
    message, _ = answered(StunServer(sockets=(MAIN, PORT)), request())
    assert message.first(ResponseOrigin) == ResponseOrigin(MAIN)
    assert message.first(OtherAddress) is None


def test_a_server_that_does_not_know_its_address_does_not_name_it():
    message, _ = answered(StunServer(sockets=WILDCARD), request(), WILDCARD[0])
    assert message.attributes == (XorMappedAddress(CLIENT), MappedAddress(CLIENT))


def test_the_old_answer_uses_the_old_words():
    data = request(TO_BOTH, transaction_id=CLASSIC_ID)
    (transmit,) = sent(StunServer(sockets=FOUR), data)
    assert transmit.local == BOTH
    assert parse_classic(transmit.segments[0]).attributes == (
        MappedAddress(CLIENT),
        SourceAddress(BOTH),
        ChangedAddress(BOTH),
    )


# --- where it answers from, and where to ------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "change", "answers_from"),
    [
        (MAIN, NOTHING, MAIN),
        (MAIN, TO_PORT, PORT),
        (MAIN, TO_IP, IP),
        (MAIN, TO_BOTH, BOTH),
        (BOTH, TO_PORT, IP),
        (BOTH, TO_IP, PORT),
        (BOTH, TO_BOTH, MAIN),
    ],
)
def test_an_answer_comes_from_where_it_is_wanted(asked, change, answers_from):
    message, transmit = answered(StunServer(sockets=FOUR), request(change), asked)
    assert transmit.local == answers_from
    assert message.first(ResponseOrigin) == ResponseOrigin(answers_from)
    assert message.first(XorMappedAddress) == XorMappedAddress(CLIENT)


@pytest.mark.parametrize("sockets", [(MAIN, PORT), WILDCARD])
def test_with_a_second_port_only_the_port_can_be_changed(sockets):
    server = StunServer(sockets=sockets)
    main, other = sockets
    assert answered(server, request(TO_PORT), main)[1].local == other
    assert answered(server, request(TO_PORT), other)[1].local == main
    for change in (TO_IP, TO_BOTH):
        message, transmit = answered(server, request(change), main)
        assert (message.first(ErrorCode).code, transmit.local) == (420, main)
        assert message.first(UnknownAttributes) == UnknownAttributes((0x0003,))


def test_an_answer_goes_to_the_port_it_is_wanted_at():
    _, transmit = answered(StunServer(sockets=FOUR), request(ResponsePort(4000)))
    assert (transmit.local, transmit.remote) == (MAIN, UdpAddress("192.0.2.1", 4000))


def test_who_has_no_alternates_sends_nothing_elsewhere():
    message, transmit = answered(StunServer(), request(ResponsePort(4000)))
    assert transmit.remote == CLIENT
    assert message.first(UnknownAttributes) == UnknownAttributes((0x0027,))


def test_padding_which_would_only_make_answers_larger_is_refused():
    message, _ = answered(StunServer(sockets=FOUR), request(Unknown(0x0026, bytes(8))))
    assert message.first(UnknownAttributes) == UnknownAttributes((0x0026,))


def test_coalesced_requests_leave_by_the_socket_that_each_wants():
    server = StunServer(sockets=FOUR)
    requests = request(TO_PORT) + request(TO_PORT) + request(TO_IP)
    server.receive(Datagram(requests, CLIENT, MAIN, 28), 1.0)
    transmits = list(iter(server.poll_transmit, None))
    assert [(len(t.segments), t.local) for t in transmits] == [(2, PORT), (1, IP)]
    assert server.answers.from_elsewhere == 3


# --- what it costs -------------------------------------------------------------------------------

IP_UDP_HEADERS = 28


def test_a_single_answer_is_never_more_than_twice_its_question_on_the_wire():
    server = StunServer(sockets=FOUR)
    for attributes in ((), (NOTHING,), (TO_BOTH,), (ResponsePort(1),), (Unknown(0x7FFF, b""),)):
        data = request(*attributes)
        for transmit in sent(server, data):
            assert len(transmit.segments[0]) + IP_UDP_HEADERS <= 2 * (len(data) + IP_UDP_HEADERS)


def test_a_flood_gets_back_less_than_it_costs():
    server = StunServer(sockets=FOUR)
    data = request()
    answers = [t for number in range(2000) for t in sent(server, data, now=1 + number / 2000)]
    given = sum(len(transmit.segments[0]) + IP_UDP_HEADERS for transmit in answers)
    assert given < 2000 * (len(data) + IP_UDP_HEADERS)


def test_past_its_share_of_long_answers_a_source_gets_short_ones_and_none_from_elsewhere():
    server = StunServer(sockets=FOUR, discoveries_per_s=1, discoveries_burst=2)
    assert [len(sent(server, request())[0].segments[0]) for _ in range(3)] == [68, 68, 32]
    assert sent(server, request(TO_BOTH)) == []
    assert sent(server, request(ResponsePort(4000))) == []
    assert server.drops == {"rate limit of discovery": 2}
    message, _ = answered(server, request(NOTHING))
    assert message.attributes == (XorMappedAddress(CLIENT),)
    assert answered(server, request(TO_BOTH), now=2.0)[1].local == BOTH


def test_sources_share_no_bucket_of_long_answers():
    server = StunServer(sockets=FOUR, discoveries_per_s=1, discoveries_burst=1)
    assert sent(server, request(TO_BOTH))
    assert not sent(server, request(TO_BOTH))
    assert sent(server, request(TO_BOTH), remote=UdpAddress("192.0.2.2", 1))


@given(
    st.lists(st.sampled_from([TO_PORT, TO_IP, TO_BOTH, ResponsePort(9), Unknown(0x8001, b"x")]), max_size=4),
    st.sampled_from(FOUR),
    st.booleans(),
)
def test_any_request_gets_at_most_one_answer_and_from_a_socket_of_ours(attributes, asked, classic):
    transaction_id = CLASSIC_ID if classic else TRANSACTION_ID
    transmits = sent(StunServer(sockets=FOUR), request(*attributes, transaction_id=transaction_id), asked)
    assert [len(transmit.segments) for transmit in transmits] == [1]
    assert transmits[0].local in FOUR
    assert transmits[0].remote.ip == CLIENT.ip
