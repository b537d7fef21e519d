import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.budget import BOXES_PER_SOURCE_BURST, network_of
from peerway.core.identity import SecretKey, seal, unseal
from peerway.core.machine import InterfaceAddress, RelayAddress, UdpAddress, WireError
from peerway.core.path.candidate import (
    Candidate,
    CandidateKind,
    RefusedError,
    TargetPolicy,
    networks_of,
)
from peerway.core.signal.door import MAX_SHARED_KEYS, Admission, Door
from peerway.core.signal.message import MAX_SIGNAL_SIZE, Body, Signal, build, parse, sender_of
from peerway.core.signal.session import (
    CandidatesAcknowledged,
    CandidatesReceived,
    PeerProven,
    SignalSession,
    SignalUnanswered,
    State,
)

A = SecretKey(b"\x01" * 32)
B = SecretKey(b"\x02" * 32)
SHARED = A.shared_with(B.node_id.box_public())
TO_A = RelayAddress("http://relay", b"a" * 32)
TO_B = RelayAddress("http://relay", b"b" * 32)
CANDIDATES_A = (Candidate(CandidateKind.REFLEXIVE, UdpAddress("198.51.100.1", 1111)),)
CANDIDATES_B = (Candidate(CandidateKind.REFLEXIVE, UdpAddress("203.0.113.2", 2222)),)


def signal(**changes):
    fields = {
        "sender": A.node_id,
        "receiver": B.node_id,
        "secret": b"s" * 32,
        "echo": b"",
        "counter": 1,
        "body": Body(0, True, 9, b"\x08" * 8, b"t" * 16, 7, CANDIDATES_A),
    }
    return Signal(**{**fields, **changes})


# --- the codec


def test_signal_survives_the_round_trip():
    data = build(signal(), SHARED, random.Random(1))
    assert data[0] == 4
    assert sender_of(data) == A.node_id
    assert parse(data, B, B.shared_with(A.node_id.box_public())) == signal()


def test_own_signal_reflected_does_not_open_as_the_peers():
    data = build(signal(), SHARED, random.Random(1))
    as_if_from_b = data[:1] + B.node_id.public + data[33:]
    with pytest.raises(WireError, match="another sender"):
        parse(as_if_from_b, A, SHARED)


def test_every_altered_byte_is_noticed():
    data = build(signal(), SHARED, random.Random(1))
    for index in range(33, len(data)):
        with pytest.raises(WireError):
            parse(data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :], B, SHARED)


@given(st.binary(max_size=300))
def test_any_bytes_raise_wire_error(data):
    for candidate in (data, b"\x04" + A.node_id.public + data):
        with pytest.raises(WireError):
            parse(candidate, B, SHARED)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text(), st.lists
    )
)
def test_any_sealed_content_raises_wire_error(content):
    nonce = bytes(24)
    data = b"\x04" + A.node_id.public + nonce + seal(msgspec.msgpack.encode(content), nonce, SHARED)
    with pytest.raises(WireError):
        parse(data, B, SHARED)


def sealed(**changes):
    """A signal whose sealed part is well-formed but for the fields given."""
    fields = {
        "label": "peerway signal 1",
        "sender": A.node_id.public,
        "receiver": B.node_id.public,
        "secret": b"s" * 32,
        "echo": b"",
        "counter": 1,
        "acknowledged": 0,
        "wants_answer": True,
        "index": 1,
        "dial": b"",
        "admission": b"",
        "round": 0,
        "candidates": [],
        "run": bytes(8),
        "number": 1,
    }
    content = list({**fields, **changes}.values())
    return b"\x04" + A.node_id.public + bytes(24) + seal(msgspec.msgpack.encode(content), bytes(24), SHARED)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"label": "peerway signal 2"}, "another protocol"),
        ({"sender": B.node_id.public}, "another sender"),
        ({"receiver": A.node_id.public}, "another receiver"),
        ({"secret": b"short"}, "secret of the wrong length"),
        ({"echo": b"e" * 31}, "secret of the wrong length"),
        ({"counter": 0}, "out of range"),
        ({"acknowledged": -1}, "out of range"),
        ({"index": 1 << 32}, "out of range"),
        ({"round": 1 << 32}, "out of range"),
        ({"number": -1}, "out of range"),
        ({"run": b"short"}, "run of the wrong length"),
        ({"dial": b"d" * 21}, "too long"),
        ({"admission": b"a" * 33}, "too long"),
        ({"candidates": [(1, "192.0.2.1", 1)] * 17}, "too many candidates: 17"),
        ({"candidates": [(99, "192.0.2.1", 1)]}, "99"),
        ({"candidates": [(1, "2001:db8::1%eth0", 1)]}, "zone"),
    ],
)
def test_each_field_is_checked(changes, complaint):
    with pytest.raises(WireError, match=complaint):
        parse(sealed(**changes), B, SHARED)
    parse(sealed(), B, SHARED)


@pytest.mark.parametrize("text", [b"peerway signal 1", b"192.0.2.1"])
def test_text_that_is_not_utf_8_is_a_wire_error(text):
    data = sealed(candidates=[(1, "192.0.2.1", 1)])
    plaintext = unseal(data[57:], bytes(24), SHARED)
    assert text in plaintext
    spoiled = plaintext.replace(text, text[:-1] + b"\xff")
    with pytest.raises(WireError, match="not what a signal holds"):
        parse(data[:57] + seal(spoiled, bytes(24), SHARED), B, SHARED)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 6), st.ip_addresses().map(str) | st.text(max_size=20), st.integers(-9, 99999)
        ),
        max_size=20,
    )
)
def test_any_candidates_are_refused_somewhere_or_can_be_probed(entries):
    try:
        signal = parse(sealed(candidates=entries), B, SHARED)
    except WireError:
        return
    policy = TargetPolicy(networks_of((InterfaceAddress("eth0", "192.168.1.2", 24),)))
    for candidate in signal.body.candidates:
        try:
            policy.check(candidate.address)
        except RefusedError:
            continue
        assert 0 < candidate.address.port < 65536
        assert network_of(candidate.address)
        policy.is_lan(candidate.address)


@pytest.mark.parametrize(
    ("ip", "port", "reason"),
    [
        ("203.0.113.7", 0, "port 0"),
        ("203.0.113.7", 70000, "port 70000"),
        ("127.0.0.1", 5, "loopback"),
        ("::1", 5, "loopback"),
        ("0.0.0.0", 5, "unspecified"),
        ("224.0.0.251", 5353, "multicast"),
        ("ff02::1", 5, "multicast"),
        ("255.255.255.255", 5, "broadcast"),
        ("192.168.1.255", 5, "broadcast"),
        ("169.254.1.1", 5, "link-local"),
        ("fe80::1", 5, "link-local"),
        ("::ffff:192.0.2.1", 5, "IPv4-mapped"),
    ],
)
def test_addresses_that_nobody_may_have_us_probe(ip, port, reason):
    policy = TargetPolicy(networks_of((InterfaceAddress("eth0", "192.168.1.2", 24),)))
    with pytest.raises(RefusedError, match=reason):
        policy.check(UdpAddress(ip, port))


def test_loopback_may_be_probed_only_where_it_is_all_there_is():
    TargetPolicy(loopback=True).check(UdpAddress("127.0.0.1", 5))


def test_a_candidate_that_is_no_address_raises_wire_error():
    odd = signal(body=Body(candidates=(Candidate(CandidateKind.HOST, UdpAddress("not an address", 1)),)))
    with pytest.raises(WireError, match="not an address"):
        parse(build(odd, SHARED, random.Random(1)), B, SHARED)


# --- the exchange


class Pair:
    """Two sessions; what one says is kept until the test delivers it."""

    def __init__(self, seed=1):
        rng = random.Random(seed)
        self.a = SignalSession(A, B.node_id, SHARED, 1, rng)
        self.b = SignalSession(B, A.node_id, SHARED, 2, rng)
        self.a.add_route(TO_B, 0.0)

    def said(self, session):
        out = []
        while (transmit := session.poll_transmit()) is not None:
            key = B if session is self.a else A
            out.append(parse(transmit.segments[0], key, SHARED))
        return out

    def events(self, session):
        out = []
        while (event := session.poll_event()) is not None:
            out.append(event)
        return out

    def meet(self):
        self.a.set_candidates(CANDIDATES_A, 0.0)
        self.a.dial(b"cid", b"t" * 16, 0.0)
        (hello,) = self.said(self.a)
        self.b.set_candidates(CANDIDATES_B, 0.0)
        self.b.answer(hello, TO_A, 0.1)
        (answer,) = self.said(self.b)
        self.a.receive(answer, TO_B, 0.2)
        (confirmation,) = self.said(self.a)
        self.b.receive(confirmation, TO_A, 0.3)
        return hello, answer, confirmation


def test_both_are_proven_after_one_and_a_half_round_trips():
    pair = Pair()
    pair.meet()
    assert pair.a.state is State.PROVEN
    assert pair.b.state is State.PROVEN
    assert PeerProven(pair.b.secret, 2) in pair.events(pair.a)
    events = pair.events(pair.b)
    assert events == [
        PeerProven(pair.a.secret, 1),
        CandidatesReceived(CANDIDATES_A),
        CandidatesAcknowledged(),
    ]


def test_a_hello_alone_has_no_effect():
    pair = Pair()
    pair.a.set_candidates(CANDIDATES_A, 0.0)
    pair.a.dial(b"cid", b"", 0.0)
    (hello,) = pair.said(pair.a)
    pair.b.answer(hello, TO_A, 0.1)
    assert pair.events(pair.b) == []
    assert pair.b.state is State.ANSWERING


def test_the_ticket_secret_is_not_repeated_after_the_peer_is_proven():
    pair = Pair()
    hello, _, confirmation = pair.meet()
    assert hello.body.admission == b"t" * 16
    assert confirmation.body.admission == b""


def test_a_dial_begun_again_keeps_the_secret_unless_it_has_another():
    session = SignalSession(A, B.node_id, SHARED, 1, random.Random(1))
    session.add_route(RelayAddress("http://relay", b"b" * 32), 0.0)
    told = []
    for number, admission in enumerate((b"t" * 16, b"", b"u" * 16)):
        session.dial(b"c" * 8, admission, float(number))
        for transmit in iter(session.poll_transmit, None):
            told.append(parse(transmit.segments[0], B, SHARED).body.admission)
    assert told == [b"t" * 16, b"t" * 16, b"u" * 16]


def test_replayed_signals_change_nothing():
    pair = Pair()
    hello, answer, confirmation = pair.meet()
    pair.events(pair.a), pair.events(pair.b), pair.said(pair.a), pair.said(pair.b)
    assert not pair.b.receive(hello, TO_A, 1.0)
    assert not pair.b.receive(confirmation, TO_A, 1.0)
    assert not pair.a.receive(answer, TO_B, 1.0)
    assert pair.events(pair.a) == pair.events(pair.b) == []
    assert pair.said(pair.a) == pair.said(pair.b) == []
    assert pair.b.drops["signal: replayed or late"] == 1


def test_a_wrong_echo_changes_nothing():
    pair = Pair()
    pair.a.dial(b"cid", b"", 0.0)
    forged = Signal(B.node_id, A.node_id, b"x" * 32, b"y" * 32, 99, Body(candidates=CANDIDATES_B))
    assert not pair.a.receive(forged, TO_B, 0.1)
    assert pair.events(pair.a) == []
    assert pair.a.state is State.DIALLING


def test_one_secret_of_ours_pairs_with_one_of_the_peers():
    pair = Pair()
    pair.meet()
    pair.events(pair.a)
    other = Signal(B.node_id, A.node_id, b"x" * 32, pair.a.secret, 99, Body(candidates=()))
    assert not pair.a.receive(other, TO_B, 1.0)
    assert pair.a.drops["signal: our secret is paired with another"] == 1


def test_candidates_are_repeated_until_acknowledged_and_then_no_more():
    pair = Pair()
    pair.a.dial(b"cid", b"", 0.0)
    sent = len(pair.said(pair.a))
    now = 0.0
    while (deadline := pair.a.poll_deadline()) is not None and now < 29.0:
        now = deadline.at
        pair.a.handle_timeout(now)
        sent += len(pair.said(pair.a))
    assert 10 <= sent <= 14
    while (deadline := pair.a.poll_deadline()) is not None:
        now = deadline.at
        pair.a.handle_timeout(now)
    assert any(isinstance(event, SignalUnanswered) for event in pair.events(pair.a))


def test_nothing_is_repeated_once_both_know_all():
    pair = Pair()
    pair.meet()
    for _ in range(3):
        for said in pair.said(pair.b):
            pair.a.receive(said, TO_B, 0.4)
        for said in pair.said(pair.a):
            pair.b.receive(said, TO_A, 0.4)
    assert pair.said(pair.a) == pair.said(pair.b) == []
    assert pair.a.poll_deadline() is None
    assert pair.b.poll_deadline() is None
    assert pair.a.is_acknowledged
    assert pair.b.is_acknowledged


def test_answers_go_back_the_way_they_came():
    pair = Pair()
    pair.meet()
    elsewhere = RelayAddress("http://other", b"c" * 32)
    pair.a.set_candidates((), 1.0)
    (said,) = pair.said(pair.a)
    while pair.b.poll_transmit():
        pass
    pair.b.receive(said, elsewhere, 1.1)
    assert pair.b.poll_transmit().remote == elsewhere


SPY = UdpAddress("198.51.100.66", 666)


def sent_to(session):
    """The ways that signals went since this was last asked."""
    ways = []
    while (transmit := session.poll_transmit()) is not None:
        ways.append(transmit.remote)
    return ways


def test_a_hello_is_answered_by_every_way_it_comes_though_a_copy_was_quicker():
    pair = Pair()
    pair.a.dial(b"cid", b"", 0.0)
    (hello,) = pair.said(pair.a)
    pair.b.answer(hello, SPY, 0.1)
    assert sent_to(pair.b) == [SPY]
    assert pair.b.receive(hello, TO_A, 0.2)
    assert sent_to(pair.b) == [TO_A]
    assert not pair.b.receive(hello, TO_A, 0.3)
    assert sent_to(pair.b) == []


def test_copies_of_all_signals_that_are_quicker_keep_nobody_from_meeting():
    pair = Pair()
    pair.a.set_candidates(CANDIDATES_A, 0.0)
    pair.a.dial(b"cid", b"", 0.0)
    (hello,) = pair.said(pair.a)
    pair.b.answer(hello, SPY, 0.1)
    pair.b.receive(hello, TO_A, 0.1)
    for _ in range(4):
        for session, peer, way in ((pair.b, pair.a, TO_B), (pair.a, pair.b, TO_A)):
            for said in pair.said(session):
                peer.receive(said, SPY, 0.2)
                peer.receive(said, way, 0.2)
    assert pair.a.is_acknowledged
    assert pair.b.is_acknowledged


def test_nothing_is_repeated_to_an_address_that_has_proven_nothing():
    pair = Pair()
    pair.a.dial(b"cid", b"", 0.0)
    (hello,) = pair.said(pair.a)
    pair.b.answer(hello, SPY, 0.0)
    pair.b.set_candidates(CANDIDATES_B, 0.1)
    while (deadline := pair.b.poll_deadline()) is not None:
        pair.b.handle_timeout(deadline.at)
    assert sent_to(pair.b) == [SPY]


def test_who_repeats_a_hello_over_udp_is_answered_each_time_and_then_told_of_changes():
    pair = Pair()
    pair.a.dial(b"cid", b"", 0.0)
    (hello,) = pair.said(pair.a)
    pair.b.answer(hello, SPY, 0.0)
    pair.said(pair.b)
    pair.a.handle_timeout(0.25)
    (again,) = pair.said(pair.a)
    pair.b.receive(again, SPY, 0.3)
    (answer,) = pair.said(pair.b)
    pair.a.receive(answer, SPY, 0.4)
    (confirmation,) = pair.said(pair.a)
    pair.b.receive(confirmation, SPY, 0.5)
    sent_to(pair.b)
    pair.b.set_candidates(CANDIDATES_B, 0.6)
    pair.b.handle_timeout(0.9)
    assert sent_to(pair.b) == [SPY, SPY]


# --- the door


def hello_to_b(admission=b"", sender=A, counter=1):
    said = Signal(
        sender.node_id, B.node_id, b"s" * 32, b"", counter, Body(dial=b"c" * 8, admission=admission)
    )
    return build(said, sender.shared_with(B.node_id.box_public()), random.Random(counter))


def test_the_door_is_closed_by_default():
    door = Door(B, Admission())
    assert not door.admits(door.open_stranger(hello_to_b(), A.node_id, TO_A, 0.0))


def test_the_door_opens_to_the_list_the_ticket_and_the_callback():
    stranger = Door(B, Admission()).open_stranger(hello_to_b(b"t" * 16), A.node_id, TO_A, 0.0)
    assert Door(B, Admission(allow={A.node_id})).admits(stranger)
    assert Door(B, Admission(secret=b"t" * 16)).admits(stranger)
    assert not Door(B, Admission(secret=b"u" * 16)).admits(stranger)
    assert Door(B, Admission(authorize=lambda node: node == A.node_id)).admits(stranger)
    assert not Door(B, Admission(authorize=lambda node: False)).admits(stranger)


def test_an_empty_secret_admits_nobody():
    stranger = Door(B, Admission()).open_stranger(hello_to_b(b""), A.node_id, TO_A, 0.0)
    assert not Door(B, Admission(secret=b"")).admits(stranger)


def test_a_flood_from_one_place_is_cut_off_and_others_still_get_in():
    door = Door(B, Admission(secret=b"t" * 16))
    opened = 0
    for _ in range(200):
        try:
            door.open_stranger(hello_to_b(), A.node_id, TO_A, 0.0)
            opened += 1
        except WireError:
            pass
    assert opened == int(BOXES_PER_SOURCE_BURST)
    door.open_stranger(hello_to_b(), A.node_id, TO_B, 0.0)


def test_a_signal_larger_than_any_is_refused_unopened():
    with pytest.raises(WireError, match="too short or too long"):
        sender_of(b"\x04" + bytes(MAX_SIGNAL_SIZE))


def test_the_shared_keys_remembered_are_bounded():
    door = Door(B, Admission())
    for number in range(1100):
        door.shared_with(SecretKey(number.to_bytes(32, "big")).node_id)
    assert len(door._shared) == MAX_SHARED_KEYS == 1024
