import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import Datagram, Deadline, RelayAddress, Transmit, UdpAddress
from peerway.core.stun.attributes import (
    ChangeRequest,
    ErrorCode,
    MappedAddress,
    OtherAddress,
    ResponseOrigin,
    ResponsePort,
    Software,
    SourceAddress,
    Unknown,
    XorMappedAddress,
)
from peerway.core.stun.client import (
    GATHERING_SCHEDULE,
    MAX_TRANSACTIONS,
    STANDARD_SCHEDULE,
    Detour,
    MappingLearned,
    QueryFailed,
    Schedule,
    StunClient,
)
from peerway.core.stun.integrity import add_fingerprint
from peerway.core.stun.message import BINDING, Message, MessageClass, build, parse

SERVER = UdpAddress("198.51.100.1", 3478)
OTHER_SERVER = UdpAddress("198.51.100.2", 3478)
LOCAL = UdpAddress("0.0.0.0", 41641)
OTHER_LOCAL = UdpAddress("0.0.0.0", 50000)
MAPPED = UdpAddress("203.0.113.7", 1024)
START = 1000.0


@pytest.fixture
def client():
    return StunClient(random.Random(1))


def transmits(client):
    return list(iter(client.poll_transmit, None))


def events(client):
    return list(iter(client.poll_event, None))


def ask(client, server=SERVER, local=LOCAL, now=START):
    """Ask; the request that goes out."""
    client.query(server, local, now)
    (sent,) = transmits(client)
    assert (sent.remote, sent.local) == (server, local)
    return sent.segments[0]


def response(request, *attributes, kind=MessageClass.SUCCESS, method=BINDING):
    return build(Message(kind, method, request[8:20], attributes))


def success(request, mapped=MAPPED):
    return response(request, XorMappedAddress(mapped))


def deliver(client, data, now=START + 0.02, remote=SERVER, local=LOCAL):
    return client.receive(Datagram(data, remote, local), now)


def run_schedule(client, until=1e9):
    """Call at each deadline; when something was sent, in seconds after the question."""
    sent = []
    while (deadline := client.poll_deadline()) is not None and deadline.at <= until:
        client.handle_timeout(deadline.at)
        sent += [round(deadline.at - START, 6)] * len(transmits(client))
    return sent


# --- asking ---------------------------------------------------------------------------


def test_a_query_sends_a_plain_binding_request_at_once(client):
    client.query(SERVER, LOCAL, START)
    request = bytes.fromhex("00010000 2112a442") + random.Random(1).randbytes(12)
    assert transmits(client) == [Transmit((request,), SERVER, LOCAL)]
    assert events(client) == []
    assert len(client) == 1


def test_asking_again_while_the_question_is_open_does_nothing(client):
    ask(client)
    client.query(SERVER, LOCAL, START + 0.2)
    assert transmits(client) == []
    assert client.poll_deadline().at == START + 0.5


def test_each_server_and_socket_is_asked_on_its_own(client):
    requests = [
        ask(client),
        ask(client, server=OTHER_SERVER),
        ask(client, local=OTHER_LOCAL),
    ]
    assert len({request[8:20] for request in requests}) == 3
    assert len(client) == 3


def test_past_the_limit_a_query_fails_at_once(client):
    for port in range(1, 513):
        ask(client, local=UdpAddress("0.0.0.0", port))
    client.query(SERVER, LOCAL, START)
    assert MAX_TRANSACTIONS == len(client) == 512
    assert transmits(client) == []
    assert events(client) == [QueryFailed(LOCAL, SERVER, "512 queries are open already")]


def test_an_answer_makes_room_for_the_next_question(client):
    assert deliver(client, success(ask(client)))
    assert len(client) == 0
    assert ask(client)


# --- the schedule -----------------------------------------------------------------------


def test_standard_schedule_is_that_of_rfc_8489(client):
    ask(client)
    assert run_schedule(client) == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert events(client) == [QueryFailed(LOCAL, SERVER, "no answer to 7 requests in 39.5 s")]
    assert client.poll_deadline() is None
    assert STANDARD_SCHEDULE.fails_at == 39.5


def test_gathering_schedule_gives_up_sooner():
    client = StunClient(random.Random(1), GATHERING_SCHEDULE)
    ask(client)
    assert run_schedule(client) == [0.1, 0.3, 0.7, 1.5, 3.1]
    assert events(client) == [QueryFailed(LOCAL, SERVER, "no answer to 6 requests in 6.3 s")]


def test_retransmissions_are_byte_for_byte_the_request(client):
    request = ask(client)
    client.handle_timeout(START + 0.5)
    assert transmits(client) == [Transmit((request,), SERVER, LOCAL)]


def test_the_deadline_says_what_it_is_for(client):
    ask(client)
    assert client.poll_deadline() == Deadline(START + 0.5, "stun: send 2 of 7 to 198.51.100.1:3478")
    run_schedule(client, until=START + 31.5)
    assert client.poll_deadline() == Deadline(START + 39.5, "stun: give up on 198.51.100.1:3478")


def test_it_fails_no_sooner_than_the_schedule_says(client):
    ask(client)
    run_schedule(client, until=START + 39.4)
    assert events(client) == []
    client.handle_timeout(START + 39.5)
    assert len(events(client)) == 1


def test_a_late_caller_sends_once_and_goes_on_with_the_schedule(client):
    ask(client)
    client.handle_timeout(START + 5)
    assert len(transmits(client)) == 1
    assert client.poll_deadline().at == START + 7.5
    client.handle_timeout(START + 40)
    assert transmits(client) == []
    assert events(client) == [QueryFailed(LOCAL, SERVER, "no answer to 2 requests in 39.5 s")]


def test_early_calls_are_harmless(client):
    ask(client)
    client.handle_timeout(START + 0.499)
    assert transmits(client) == []


@pytest.mark.parametrize(
    ("sends", "fails_at"),
    [((), 1.0), ((), 0.0), ((0.1,), 1.0), ((0.0, 0.5, 0.5), 1.0), ((0.0, 0.5), 0.5)],
)
def test_a_schedule_that_does_not_rise_from_zero_is_refused(sends, fails_at):
    with pytest.raises(ValueError, match="starts at 0 and rises"):
        Schedule(sends, fails_at)


# --- answers ----------------------------------------------------------------------------


def test_an_answer_gives_the_mapping_and_the_round_trip(client):
    request = ask(client)
    assert deliver(client, success(request), now=START + 0.125)
    assert events(client) == [MappingLearned(LOCAL, SERVER, MAPPED, 0.125)]
    assert client.poll_deadline() is None


def test_after_a_retransmission_the_round_trip_is_unknown(client):
    request = ask(client)
    run_schedule(client, until=START + 0.5)
    assert deliver(client, success(request), now=START + 0.6)
    assert events(client) == [MappingLearned(LOCAL, SERVER, MAPPED, None)]


def test_ipv6_mappings_are_learned(client):
    server, mapped = UdpAddress("2001:db8::1", 3478), UdpAddress("2001:db8:1::7", 9)
    request = ask(client, server=server)
    assert deliver(client, success(request, mapped), remote=server)
    assert events(client)[0].mapped == mapped


def test_the_second_answer_counts_for_nothing(client):
    request = ask(client)
    assert deliver(client, success(request))
    assert not deliver(client, success(request, UdpAddress("203.0.113.8", 1)))
    assert len(events(client)) == 1
    assert client.drops == {"unknown transaction": 1}


def test_a_plain_mapped_address_is_taken_when_there_is_no_xored_one(client):
    assert deliver(client, response(ask(client), MappedAddress(MAPPED)))
    assert events(client)[0].mapped == MAPPED


def test_the_xored_address_wins_because_routers_rewrite_the_plain_one(client):
    rewritten = UdpAddress("10.0.0.2", 5)
    request = ask(client)
    assert deliver(client, response(request, MappedAddress(rewritten), XorMappedAddress(MAPPED)))
    assert events(client)[0].mapped == MAPPED


def test_what_old_and_new_servers_add_does_not_matter(client):
    extras = (SourceAddress(SERVER), ResponseOrigin(SERVER), Software("x" * 99), Unknown(0xC001, b"abc"))
    data = add_fingerprint(response(ask(client), XorMappedAddress(MAPPED), *extras))
    assert deliver(client, data)
    assert events(client)[0].mapped == MAPPED


def test_coalesced_answers_are_all_read(client):
    first, second = ask(client), ask(client, local=OTHER_LOCAL)
    data = success(first) + b"\x05" * 32 + success(second)
    assert client.receive(Datagram(data, SERVER, LOCAL, segment_size=32), START + 0.02)
    assert events(client) == [MappingLearned(LOCAL, SERVER, MAPPED, pytest.approx(0.02))]
    assert client.drops == {"not STUN": 1, "to another socket": 1}


# --- failures ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "attributes", "reason"),
    [
        (MessageClass.ERROR, (ErrorCode(420, "<b>no</b>"),), "the server answered with error 420"),
        (MessageClass.ERROR, (ErrorCode(300),), "the server answered with error 300"),
        (MessageClass.ERROR, (), "the server answered with an error"),
        (MessageClass.ERROR, (XorMappedAddress(MAPPED),), "the server answered with an error"),
        (
            MessageClass.SUCCESS,
            (XorMappedAddress(MAPPED), Unknown(0x7FFF, b""), Unknown(0x0002, b"")),
            "the answer has unknown attributes: 0x7fff, 0x0002",
        ),
        (
            MessageClass.ERROR,
            (ErrorCode(500), Unknown(0x7FFF, b"")),
            "the answer has unknown attributes: 0x7fff",
        ),
        (MessageClass.SUCCESS, (), "the answer has no address"),
        (MessageClass.SUCCESS, (Software("x"),), "the answer has no address"),
        (
            MessageClass.SUCCESS,
            (XorMappedAddress(UdpAddress("203.0.113.7", 0)),),
            "the answer's address is of no use: 203.0.113.7:0",
        ),
        (
            MessageClass.SUCCESS,
            (XorMappedAddress(UdpAddress("0.0.0.0", 9)),),
            "the answer's address is of no use: 0.0.0.0:9",
        ),
        (
            MessageClass.SUCCESS,
            (XorMappedAddress(UdpAddress("ff02::1", 9)),),
            "the answer's address is of no use: [ff02::1]:9",
        ),
    ],
)
def test_an_answer_without_an_address_to_use_fails_the_query(client, kind, attributes, reason):
    assert deliver(client, response(ask(client), *attributes, kind=kind))
    assert events(client) == [QueryFailed(LOCAL, SERVER, reason, answered=True)]
    assert len(client) == 0
    assert client.poll_deadline() is None


# --- what is dropped ----------------------------------------------------------------------


def assert_dropped(client, reason, request):
    """It was counted, and the question is as open as before."""
    assert client.drops == {reason: 1}
    assert events(client) == []
    assert deliver(client, success(request))
    assert events(client)[0].mapped == MAPPED


@pytest.mark.parametrize("data", [b"", b"\x00" * 19, b"\x05" * 60, b"\x00\x01\x00\x00" + bytes(16)])
def test_what_is_not_stun_is_dropped(client, data):
    request = ask(client)
    assert not deliver(client, data)
    assert_dropped(client, "not STUN", request)


def test_an_answer_to_nothing_we_asked_is_dropped(client):
    request = ask(client)
    assert not deliver(client, success(bytes(20)))
    assert_dropped(client, "unknown transaction", request)


@pytest.mark.parametrize(
    "remote",
    [OTHER_SERVER, UdpAddress("198.51.100.1", 3479), RelayAddress("https://relay.example", bytes(32))],
)
def test_reply_from_another_address_is_ignored(client, remote):
    request = ask(client)
    assert not deliver(client, success(request), remote=remote)
    assert_dropped(client, "from another address", request)


@pytest.mark.parametrize("local", [OTHER_LOCAL, None])
def test_reply_to_another_socket_is_ignored(client, local):
    request = ask(client)
    assert not deliver(client, success(request), local=local)
    assert_dropped(client, "to another socket", request)


def test_a_malformed_reply_is_ignored(client):
    request = ask(client)
    assert not deliver(client, success(request) + b"\x00")
    assert_dropped(client, "malformed", request)


def test_a_reply_with_a_wrong_fingerprint_is_ignored(client):
    request = ask(client)
    data = add_fingerprint(success(request))
    assert not deliver(client, data[:-1] + bytes([data[-1] ^ 1]))
    assert_dropped(client, "malformed", request)


@pytest.mark.parametrize("kind", [MessageClass.REQUEST, MessageClass.INDICATION])
def test_our_own_request_coming_back_is_no_answer(client, kind):
    request = ask(client)
    assert not deliver(client, response(request, kind=kind))
    assert_dropped(client, "not a response", request)


def test_an_answer_to_another_method_is_ignored(client):
    request = ask(client)
    assert not deliver(client, response(request, XorMappedAddress(MAPPED), method=0x003))
    assert_dropped(client, "response to another method", request)


# --- detours (RFC 5780) -------------------------------------------------------------------

OTHER_PORT = UdpAddress("198.51.100.1", 3479)
OTHER_BOTH = UdpAddress("198.51.100.2", 3479)


def ask_detour(client, detour, server=SERVER):
    client.query(server, LOCAL, START, detour)
    (sent,) = transmits(client)
    assert (sent.remote, sent.local) == (server, LOCAL)
    return sent.segments[0]


@pytest.mark.parametrize(
    ("detour", "attributes"),
    [
        (Detour(OTHER_PORT), (ChangeRequest(False, True),)),
        (Detour(OTHER_SERVER), (ChangeRequest(True, False),)),
        (Detour(OTHER_BOTH), (ChangeRequest(True, True),)),
        (Detour(arrives_at=OTHER_LOCAL, port=1024), (ResponsePort(1024),)),
    ],
)
def test_a_detour_is_asked_for_in_the_words_of_rfc_5780(client, detour, attributes):
    assert parse(ask_detour(client, detour)).attributes == attributes


def test_an_answer_from_the_address_that_was_wanted_is_one(client):
    request = ask_detour(client, Detour(OTHER_BOTH))
    assert deliver(client, success(request), remote=OTHER_BOTH)
    (event,) = events(client)
    assert (event.detour, event.mapped) == (Detour(OTHER_BOTH), MAPPED)


def test_an_answer_to_the_socket_that_was_wanted_is_one(client):
    detour = Detour(arrives_at=OTHER_LOCAL, port=1024)
    assert deliver(client, success(ask_detour(client, detour)), local=OTHER_LOCAL)
    assert events(client)[0].detour == detour


@pytest.mark.parametrize("detour", [Detour(OTHER_BOTH), Detour(arrives_at=OTHER_LOCAL, port=1024)])
def test_an_answer_that_took_no_detour_says_that_the_server_cannot(client, detour):
    assert deliver(client, success(ask_detour(client, detour)))
    reason = "the server answers in the ordinary way only"
    assert events(client) == [QueryFailed(LOCAL, SERVER, reason, detour, answered=True)]


def test_a_refusal_comes_from_where_we_asked(client):
    refusal = response(ask_detour(client, Detour(OTHER_BOTH)), ErrorCode(420), kind=MessageClass.ERROR)
    assert deliver(client, refusal)
    reason = "the server answered with error 420"
    assert events(client) == [QueryFailed(LOCAL, SERVER, reason, Detour(OTHER_BOTH), answered=True)]


@pytest.mark.parametrize("remote", [OTHER_PORT, OTHER_SERVER])
def test_an_answer_from_yet_another_address_is_ignored(client, remote):
    request = ask_detour(client, Detour(OTHER_BOTH))
    assert not deliver(client, success(request), remote=remote)
    assert client.drops == {"from another address": 1}
    assert deliver(client, success(request), remote=OTHER_BOTH)


def test_whose_nat_may_change_the_port_of_what_comes_in_takes_any_port_of_the_origin(client):
    detour = Detour(OTHER_BOTH, any_port=True)
    request = ask_detour(client, detour)
    assert not deliver(client, success(request), remote=OTHER_PORT)
    assert deliver(client, success(request), remote=UdpAddress(OTHER_BOTH.ip, 1025))
    assert events(client)[0].detour == detour


@pytest.mark.parametrize("detour", [Detour(OTHER_BOTH), Detour(arrives_at=OTHER_LOCAL, port=1024)])
def test_an_answer_with_a_detour_is_ignored_at_yet_another_socket(client, detour):
    request = ask_detour(client, detour)
    for local in (None, UdpAddress("0.0.0.0", 1)):
        assert not deliver(client, success(request), local=local)
    assert client.drops == {"to another socket": 2}


def test_a_question_and_its_detours_are_open_side_by_side(client):
    plain = ask(client)
    changed = ask_detour(client, Detour(OTHER_BOTH))
    assert len(client) == 2
    assert deliver(client, success(plain))
    assert deliver(client, success(changed), remote=OTHER_BOTH)


def test_a_detour_that_brings_no_answer_fails_with_it(client):
    ask_detour(client, Detour(OTHER_BOTH))
    run_schedule(client)
    assert events(client) == [
        QueryFailed(LOCAL, SERVER, "no answer to 7 requests in 39.5 s", Detour(OTHER_BOTH))
    ]


def test_where_else_the_server_can_answer_from_is_told(client):
    data = response(ask(client), XorMappedAddress(MAPPED), OtherAddress(OTHER_BOTH))
    assert deliver(client, data)
    assert events(client)[0].other == OTHER_BOTH


# --- cancelling ---------------------------------------------------------------------------


def test_what_cannot_be_sent_fails_its_query_at_once_and_no_other(client):
    request = ask(client)
    ask(client, OTHER_SERVER)
    client.transmit_failed(Transmit((request,), SERVER, LOCAL), "Network is unreachable")
    assert events(client) == [
        QueryFailed(LOCAL, SERVER, "it cannot be reached from here: Network is unreachable")
    ]
    assert len(client) == 1


def test_what_cannot_be_sent_fails_with_the_detour_it_was_to_take(client):
    detour = Detour(OTHER_PORT)
    client.query(SERVER, LOCAL, START)
    client.query(SERVER, LOCAL, START, detour)
    _, asked = transmits(client)
    client.transmit_failed(asked, "Network is unreachable")
    assert events(client) == [
        QueryFailed(LOCAL, SERVER, "it cannot be reached from here: Network is unreachable", detour)
    ]


@pytest.mark.parametrize("segments", [(b"",), (b"\x05probe that is no request at all",)])
def test_a_failure_to_send_something_else_changes_nothing(client, segments):
    ask(client)
    client.transmit_failed(Transmit(segments, SERVER, LOCAL), "Network is unreachable")
    assert (len(client), events(client)) == (1, [])


def test_cancelling_a_socket_forgets_its_questions_and_no_others(client):
    request, kept = ask(client), ask(client, local=OTHER_LOCAL)
    ask(client, server=OTHER_SERVER)
    client.cancel(LOCAL)
    assert len(client) == 1
    assert events(client) == []
    assert not deliver(client, success(request))
    assert deliver(client, success(kept), local=OTHER_LOCAL)
    assert client.poll_deadline() is None


def test_cancelling_what_was_never_asked_is_harmless(client):
    client.cancel(LOCAL)
    assert client.poll_deadline() is None


# --- properties ---------------------------------------------------------------------------


@given(st.lists(st.floats(0, 20), max_size=30))
def test_after_every_call_the_deadline_lies_in_the_future(pauses):
    client, now = StunClient(random.Random(1)), START
    ask(client)
    for pause in pauses:
        now += pause
        client.handle_timeout(now)
        deadline = client.poll_deadline()
        assert deadline is None or deadline.at > now


@given(st.binary(max_size=80), st.sampled_from([0, 1, 20, 32]))
def test_a_stranger_never_gets_an_exception_or_an_answer_out_of_it(data, segment_size):
    client = StunClient(random.Random(1))
    request = ask(client)
    for prefix in (b"", request[:8], b"\x01\x01\x00\x0c" + request[4:20]):
        client.receive(Datagram(prefix + data, SERVER, LOCAL, segment_size), START)
    assert transmits(client) == []


def test_the_same_seed_asks_the_same():
    def trace():
        client = StunClient(random.Random(7))
        return [ask(client, local=UdpAddress("0.0.0.0", port)) for port in range(1, 9)]

    assert trace() == trace()
