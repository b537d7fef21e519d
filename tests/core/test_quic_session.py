from __future__ import annotations

import random

import pytest
from tests.core.quic_pair import CLIENT, SERVER, START, STRANGER, Pair, SessionEnd, TransportEnd, Wire

from peerway.core.identity import NodeId
from peerway.core.quic.authentication import sign_client
from peerway.core.quic.errors import APPLICATION_CODES, SessionCode, StreamMisuse
from peerway.core.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    SessionClosed,
    SessionEnded,
    SessionEstablished,
    StreamOpened,
    StreamReadable,
)
from peerway.core.quic.frames import Auth, Delivered, End, Open, build, data_header
from peerway.core.quic.qh3_transport import Qh3Transport
from peerway.core.quic.session import HANDSHAKE_TIMEOUT_S, QuicSession
from peerway.core.quic.transport import HandshakeCompleted, TransportClosed


def accept(client_transport_or_session, expected: NodeId = CLIENT.node_id, key=SERVER) -> SessionEnd:
    dialled = client_transport_or_session.original_destination_connection_id
    return SessionEnd(QuicSession.accept(key, expected, dialled, START))


class Impostor(Wire):
    """A bare transport as the client of a real server."""

    def __init__(self) -> None:
        self.client = TransportEnd(Qh3Transport.dial(START))
        self.server = accept(self.client.transport)
        super().__init__(self.client, self.server)
        assert self.run(5, lambda: HandshakeCompleted() in self.client.events)
        self.secret = self.client.transport.take_binding_secret()

    def say(self, *said: bytes) -> None:
        self.client.transport.send(b"".join(said))
        self.run(1)

    def prove(self) -> None:
        self.say(build(Auth(CLIENT.node_id.public, sign_client(CLIENT, SERVER.node_id, self.secret))))

    def told(self) -> TransportClosed:
        return next(event for event in self.client.events if isinstance(event, TransportClosed))


def test_both_ends_know_each_other_after_a_round_trip_and_a_half():
    pair = Pair(delay=0.02)
    assert pair.run(5, lambda: pair.client.is_established)
    assert pair.now - START == pytest.approx(0.04)
    assert pair.run(5, lambda: pair.server.is_established)
    assert pair.now - START == pytest.approx(0.06)
    assert pair.client.of(SessionEstablished) == [SessionEstablished(SERVER.node_id)]
    assert pair.server.of(SessionEstablished) == [SessionEstablished(CLIENT.node_id)]


def test_a_clients_first_data_travels_with_its_proof():
    pair = Pair(delay=0.02)
    stream = pair.client.session.open_stream(START)
    pair.client.session.write(stream, b"hello", START)
    assert pair.run(5, lambda: bool(pair.server.of(StreamReadable)))
    assert pair.now - START == pytest.approx(0.06)
    kinds = [type(event) for event in pair.server.events if not isinstance(event, ConnectionIdIssued)]
    assert kinds == [SessionEstablished, StreamOpened, StreamReadable]


def test_a_server_may_open_streams_before_it_is_established():
    pair = Pair()
    stream = pair.server.session.open_stream(START)
    pair.server.session.write(stream, b"hello", START)
    assert pair.run(5, lambda: bool(pair.client.of(StreamReadable)))
    assert pair.client.session.read(stream, -1, pair.now) == b"hello"


def test_a_lossy_handshake_finishes():
    for seed in range(5):
        Pair(loss=0.3, seed=seed).establish()


def test_a_server_with_another_key_is_refused_and_named():
    client = SessionEnd(QuicSession.dial(CLIENT, SERVER.node_id, START))
    server = accept(client.session, key=STRANGER)
    wire = Wire(client, server)
    wire.run(10, lambda: bool(client.closed and server.closed))
    assert client.closed == SessionClosed(
        SessionCode.WRONG_SERVER_KEY,
        f"the node that answered is not the one dialled: expected {SERVER.node_id}, got {STRANGER.node_id}",
        by_peer=False,
    )
    assert server.closed == SessionClosed(
        SessionCode.WRONG_SERVER_KEY, "not the node that was dialled", by_peer=True
    )
    assert not client.is_established
    assert not server.is_established


def test_a_client_that_is_not_who_was_announced_is_refused():
    client = SessionEnd(QuicSession.dial(STRANGER, SERVER.node_id, START))
    server = accept(client.session, expected=CLIENT.node_id)
    wire = Wire(client, server)
    stream = client.session.open_stream(START)
    client.session.write(stream, b"hello", START)
    assert wire.run(10, lambda: bool(client.closed and server.closed))
    assert client.closed.code == server.closed.code == SessionCode.NOT_AUTHENTICATED
    assert (client.closed.by_peer, server.closed.by_peer) == (True, False)
    assert str(STRANGER.node_id) in client.closed.reason
    assert not server.is_established
    assert server.of(StreamOpened) == []


def test_a_right_proof_by_hand_is_taken():
    impostor = Impostor()
    signature = sign_client(CLIENT, SERVER.node_id, impostor.secret)
    impostor.say(build(Auth(CLIENT.node_id.public, signature)))
    assert impostor.server.is_established


@pytest.mark.parametrize(
    "forge",
    [
        lambda secret: sign_client(STRANGER, SERVER.node_id, secret),
        lambda secret: sign_client(CLIENT, STRANGER.node_id, secret),
        lambda secret: sign_client(CLIENT, SERVER.node_id, bytes(32)),
        lambda secret: bytes(64),
    ],
    ids=["another key", "another server", "another connection", "nothing"],
)
def test_a_forged_signature_is_refused(forge):
    impostor = Impostor()
    forged = Auth(CLIENT.node_id.public, forge(impostor.secret))
    impostor.say(build(forged), build(Open(2)), data_header(2, 5), b"hello")
    assert impostor.server.closed.code == SessionCode.NOT_AUTHENTICATED
    assert impostor.told().code == SessionCode.NOT_AUTHENTICATED
    assert not impostor.server.is_established
    assert impostor.server.of(StreamOpened) == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (build(Open(2)), SessionCode.NOT_AUTHENTICATED),
        (data_header(2, 5) + b"hello", SessionCode.NOT_AUTHENTICATED),
        (b"\x09\0\0\0\x01\0", SessionCode.PROTOCOL_VIOLATION),
    ],
    ids=["a stream", "data", "malformed"],
)
def test_whatever_comes_before_the_proof_ends_the_session(data, code):
    impostor = Impostor()
    impostor.say(data)
    impostor.prove()
    assert impostor.server.closed.code == code
    assert impostor.told().code == code
    assert not impostor.server.is_established
    assert impostor.server.of(StreamOpened) == []


@pytest.mark.parametrize(
    "data",
    [b"\x09\0\0\0\x01\0", build(End(2)), build(Open(1)), data_header(2, 5) + b"hello", build(Delivered(1))],
    ids=["malformed", "an end of nothing", "a number of ours", "data of nothing", "confirms nothing"],
)
def test_a_client_that_breaks_the_rules_is_cut_off(data):
    impostor = Impostor()
    impostor.prove()
    stream = impostor.server.session.open_stream(impostor.now)
    assert stream == 1
    impostor.say(data)
    assert impostor.server.closed.code == SessionCode.PROTOCOL_VIOLATION
    assert impostor.told().code == SessionCode.PROTOCOL_VIOLATION


def test_a_second_proof_is_a_violation():
    impostor = Impostor()
    auth = build(Auth(CLIENT.node_id.public, sign_client(CLIENT, SERVER.node_id, impostor.secret)))
    impostor.say(auth + auth)
    assert impostor.server.is_established
    assert impostor.server.closed.code == SessionCode.PROTOCOL_VIOLATION


def test_a_peer_beyond_its_credit_is_cut_off():
    impostor = Impostor()
    impostor.prove()
    impostor.say(build(Open(2)), data_header(2, 300 << 10), bytes(300 << 10))
    impostor.run(5)
    assert impostor.server.closed.code == SessionCode.CREDIT_EXCEEDED
    assert impostor.told().code == SessionCode.CREDIT_EXCEEDED


@pytest.mark.parametrize("by_client", [True, False])
def test_a_close_reaches_the_other_end_with_code_and_reason(by_client):
    pair = Pair().establish()
    pair.run(1)
    closing, other = (pair.client, pair.server) if by_client else (pair.server, pair.client)
    closing.session.close(42, "that's all", pair.now)
    assert pair.run(0.1, lambda: other.closed is not None)
    assert closing.closed == SessionClosed(42, "that's all", by_peer=False)
    assert other.closed == SessionClosed(42, "that's all", by_peer=True)
    assert pair.run(30, pair.ended)
    assert pair.client.deadline() is None
    assert pair.server.deadline() is None


def test_what_had_arrived_can_be_read_after_the_close_and_nothing_else_happens():
    pair = Pair().establish()
    stream = pair.client.session.open_stream(pair.now)
    pair.client.session.write(stream, b"last words", pair.now)
    pair.run(1)
    pair.client.session.close(0, "", pair.now)
    pair.run(1)
    assert pair.server.session.read(stream, -1, pair.now) == b"last words"
    pair.server.session.write(stream, b"too late", pair.now)
    pair.server.session.reset(stream, 0, pair.now)
    pair.run(1)
    closed = pair.server.events.index(pair.server.closed)
    assert {type(event) for event in pair.server.events[closed:]} <= {
        SessionClosed,
        SessionEnded,
        ConnectionIdRetired,
    }


def test_the_second_close_is_ignored():
    pair = Pair().establish()
    pair.client.session.close(1, "one", pair.now)
    pair.client.session.close(2, "two", pair.now)
    pair.run(30, pair.ended)
    assert [event.code for event in pair.client.of(SessionClosed)] == [1]


def test_close_codes_are_the_applications_own():
    session = Pair().establish().client.session
    for code in (-1, APPLICATION_CODES):
        with pytest.raises(StreamMisuse):
            session.close(code, "", START)


def test_a_peers_reason_is_made_printable():
    pair = Pair().establish()
    pair.client.session.close(1, "a\x1b[31mb\n", pair.now)
    pair.run(1)
    assert pair.server.closed.reason == "a?[31mb?"


def test_a_dial_that_is_given_up_ends():
    pair = Pair()
    pair.settle()
    pair.client.session.close(5, "changed my mind", pair.now)
    pair.run(60)
    assert pair.client.closed == SessionClosed(5, "changed my mind", by_peer=False)
    assert SessionEnded() in pair.client.events
    assert not pair.server.is_established


def test_a_dial_nobody_answers_ends():
    client = SessionEnd(QuicSession.dial(CLIENT, SERVER.node_id, START))
    wire = Wire(client, accept(client.session), loss=1.0)
    wire.run(HANDSHAKE_TIMEOUT_S + 1)
    assert client.closed.code == SessionCode.HANDSHAKE_TIMEOUT
    assert client.closed.reason == "the handshake did not arrive within 30 s"


def test_a_client_that_never_proves_itself_is_dropped():
    impostor = Impostor()
    impostor.run(HANDSHAKE_TIMEOUT_S + 1)
    assert impostor.server.closed.code == SessionCode.HANDSHAKE_TIMEOUT
    assert impostor.server.closed.reason == "the proof of who the client is did not arrive within 30 s"


def test_an_accepted_session_whose_client_never_comes_ends():
    server = SessionEnd(QuicSession.accept(SERVER, CLIENT.node_id, b"12345678", START))
    assert list(server.drain(START)) == []
    assert server.deadline() == START + HANDSHAKE_TIMEOUT_S
    server.handle_timeout(START + HANDSHAKE_TIMEOUT_S)
    assert list(server.drain(START + HANDSHAKE_TIMEOUT_S)) == []
    assert server.closed.code == SessionCode.HANDSHAKE_TIMEOUT
    assert server.events[-1] == SessionEnded()
    assert server.deadline() is None


def test_garbage_changes_nothing():
    pair = Pair().establish()
    pair.run(1)
    stream = pair.client.session.open_stream(pair.now)
    rng = random.Random(7)
    own = list(pair.server.session.connection_ids)
    for _ in range(2000):
        data = bytearray(rng.randbytes(rng.randrange(0, 1400)))
        data[:1] = bytes([rng.choice((0x40, 0x50, 0xC0, 0xD0, 0xE0, 0xF0)) | rng.randrange(16)])
        data[1:9] = rng.choice(own)
        pair.server.session.receive(bytes(data), rng.choice((0, 0, 100, 1200)), pair.now)
    before = len(pair.server.events)
    pair.settle()
    assert pair.server.events[before:] == []
    pair.client.session.write(stream, b"still here", pair.now)
    pair.run(1)
    assert pair.server.session.read(stream, -1, pair.now) == b"still here"


def test_garbage_during_the_handshake_changes_nothing():
    rng = random.Random(8)
    pair = Pair()
    for _ in range(400):
        if not pair.step(pair.now + 1):
            break
        for end in (pair.client, pair.server):
            data = bytearray(rng.randbytes(rng.randrange(1, 1400)))
            data[0] |= 0xC0
            data[1:6] = b"\0\0\0\x01\x08"
            data[6:14] = rng.choice(end.session.connection_ids)
            end.receive(bytes(data), 0, pair.now)
    assert pair.client.is_established
    assert pair.server.is_established


def test_replayed_datagrams_change_nothing():
    pair = Pair()
    pair.keep = True
    pair.establish()
    stream = pair.client.session.open_stream(pair.now)
    pair.client.session.write(stream, b"once", pair.now)
    pair.run(1)
    for datagram in list(pair.sent):
        pair.server.receive(datagram, 0, pair.now)
        pair.client.receive(datagram, 0, pair.now)
    pair.run(1)
    assert pair.server.session.read(stream, -1, pair.now) == b"once"
    assert pair.client.closed is None
    assert pair.server.closed is None


def test_connection_ids_are_told_from_the_first_to_the_last():
    pair = Pair().establish()
    pair.run(1)
    for end in (pair.client, pair.server):
        issued = [event.connection_id for event in end.of(ConnectionIdIssued)]
        assert tuple(issued) == end.session.connection_ids
        assert len(set(issued)) == len(issued) >= 2
    assert pair.client.session.original_destination_connection_id == pair.server.session.connection_ids[0]
    pair.client.session.close(0, "", pair.now)
    assert pair.run(30, pair.ended)
    for end in (pair.client, pair.server):
        issued = [event.connection_id for event in end.of(ConnectionIdIssued)]
        assert [event.connection_id for event in end.of(ConnectionIdRetired)] == issued
        assert end.session.connection_ids == ()


def test_an_idle_session_wants_nothing():
    pair = Pair().establish()
    pair.run(3600)
    before = pair.datagrams
    pair.run(3600)
    assert pair.datagrams == before
    assert pair.client.session.poll_deadline() is None
    assert pair.server.session.poll_deadline() is None


def test_a_path_switch_sends_at_once_whatever_the_back_off():
    pair = Pair().establish()
    pair.run(1)
    stream = pair.client.session.open_stream(pair.now)
    pair.run(1)
    pair.spoil = lambda datagram: None
    pair.client.session.write(stream, b"hello", pair.now)
    pair.run(20)
    pair.spoil = lambda datagram: datagram
    before = pair.now
    pair.client.session.path_switched(pair.now)
    pair.server.session.path_switched(pair.now)
    assert pair.run(20, lambda: bool(pair.server.of(StreamReadable)))
    assert pair.now - before < 0.1


def test_a_switch_is_got_over_though_the_first_packets_on_the_new_path_are_lost():
    pair = Pair().establish()
    pair.run(1)
    stream = pair.client.session.open_stream(pair.now)
    pair.spoil = lambda datagram: None
    pair.client.session.write(stream, b"hello", pair.now)
    pair.run(40)
    before = pair.now
    pair.client.session.path_switched(pair.now)
    pair.run(0.2)
    pair.spoil = lambda datagram: datagram
    assert pair.run(20, lambda: bool(pair.server.of(StreamReadable)))
    assert pair.now - before < 1.0


def test_an_outage_taken_for_a_round_trip_makes_nobody_wait_long_for_what_is_lost_later():
    pair = Pair().establish()
    stream = pair.client.session.open_stream(pair.now)
    pair.client.session.write(stream, b"hello", pair.now)
    ordinary, pair.delay = pair.delay, 8.0
    pair.run(20)
    pair.delay = ordinary
    pair.spoil = lambda datagram: None
    pair.client.session.write(stream, b" again", pair.now)
    pair.run(0.1)
    pair.spoil = lambda datagram: datagram
    assert pair.client.session._transport.deadline() - pair.now > 30.0
    before = pair.datagrams
    pair.run(9.0)
    assert pair.server.session.read(stream, 100, pair.now) == b"hello again"
    assert pair.datagrams - before < 10


def test_a_switch_while_nothing_is_under_way_sends_nothing():
    pair = Pair().establish()
    pair.run(5)
    before = pair.datagrams
    pair.client.session.path_switched(pair.now)
    pair.run(30)
    assert pair.datagrams == before


def test_a_path_switch_before_the_handshake_is_harmless():
    pair = Pair()
    pair.client.session.path_switched(pair.now)
    pair.server.session.path_switched(pair.now)
    pair.establish()


def test_a_client_that_causes_messages_and_takes_none_is_cut_off():
    impostor = Impostor()
    impostor.prove()
    server = impostor.server.session
    for number in range(2, 34_000, 2):
        server._streams.received(Open(number))
        server._streams.received(End(number))
        server.reset(number, 0, impostor.now)
    impostor.run(1)
    assert impostor.server.closed.code == SessionCode.CONTROL_STALLED
