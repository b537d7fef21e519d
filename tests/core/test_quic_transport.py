from __future__ import annotations

import logging

import pytest
from tests.core.quic_initial import ALPN, KEY_SHARE, SERVER_NAME, X25519MLKEM768, crypto_bytes, extensions
from tests.core.quic_pair import SERVER, START, Raw, TransportEnd

from peerway.core.quic import qh3_transport
from peerway.core.quic.events import ConnectionIdIssued
from peerway.core.quic.qh3_connection import PlainConnection
from peerway.core.quic.qh3_transport import Qh3Transport
from peerway.core.quic.transport import (
    PipeReceived,
    TransportClosed,
    TransportEnded,
    group_segments,
)


def test_the_key_exchange_is_post_quantum_and_the_client_names_no_server():
    raw = Raw()
    raw.keep = True
    raw.connect()
    dialled = raw.client.transport.original_destination_connection_id
    to_server = [datagram for datagram in raw.sent if datagram[6:14] == dialled]
    to_client = [
        datagram for datagram in raw.sent if datagram[6:14] == raw.client.transport.connection_ids[0]
    ]
    client_hello = extensions(crypto_bytes(to_server, dialled, b"client in"))
    server_hello = extensions(crypto_bytes(to_client, dialled, b"server in"))
    assert SERVER_NAME not in client_hello
    assert client_hello[ALPN] == b"\x00\x0a\x09peerway/1"
    assert int.from_bytes(server_hello[KEY_SHARE][:2], "big") == X25519MLKEM768


def test_the_first_flight_is_two_full_datagrams(transports):
    client = TransportEnd(transports.dial(START))
    assert [len(segment) for group in client.drain(START) for segment in group] == [1200, 1200]


def test_both_ends_have_the_same_binding_secret_once(transports):
    raw = Raw(transports).connect()
    secret = raw.client.transport.take_binding_secret()
    assert len(secret) == 32
    assert raw.server.transport.take_binding_secret() == secret
    assert raw.client.transport.take_binding_secret() == b""


def test_no_other_secret_is_kept():
    raw = Raw().connect()
    assert raw.client.transport._sink.getvalue() == ""


def test_the_client_sees_the_servers_key_and_the_server_sees_none(transports):
    raw = Raw(transports).connect()
    assert raw.client.transport.peer_certificate_key() == SERVER.node_id.public
    assert raw.server.transport.peer_certificate_key() is None


def test_connection_ids_are_announced(transports):
    raw = Raw(transports).connect()
    raw.run(1)
    server = raw.server.transport
    assert server.connection_ids[0] == raw.client.transport.original_destination_connection_id
    assert all(len(connection_id) == 8 for connection_id in server.connection_ids)
    assert raw.server.of(ConnectionIdIssued)
    assert raw.client.of(ConnectionIdIssued)


def test_no_datagram_is_larger_than_1200_bytes(transports):
    raw = Raw(transports).connect()
    raw.keep = True
    raw.client.transport.send(bytes(300_000))
    assert raw.run(30, lambda: sum(len(e.data) for e in raw.server.of(PipeReceived)) == 300_000)
    assert 1100 < max(len(datagram) for datagram in raw.sent) <= 1200


def test_coalesced_datagrams_are_received(transports):
    raw = Raw(transports).connect()
    raw.run(1)
    raw.client.transport.send(bytes(9000))
    for group in raw.client.transport.transmits(raw.now):
        raw.server.receive(b"".join(group), len(group[0]), raw.now)
    raw.settle()
    assert sum(len(event.data) for event in raw.server.of(PipeReceived)) == 9000


def test_a_version_negotiation_packet_is_ignored():
    raw = Raw()
    raw.settle()
    own = raw.client.transport.connection_ids[0]
    dialled = raw.client.transport.original_destination_connection_id
    packet = b"\xc0\0\0\0\0\x08" + own + b"\x08" + dialled + b"\x0a\x0a\x0a\x0a"
    raw.client.receive(packet, 0, raw.now)
    assert raw.client.transport.drops == {"quic: version negotiation": 1}
    raw.connect()


def test_a_retry_packet_is_ignored():
    raw = Raw()
    raw.settle()
    own = raw.client.transport.connection_ids[0]
    raw.client.receive(b"\xf0\0\0\0\x01\x08" + own + b"\x08abcdefgh" + bytes(40), 0, raw.now)
    assert raw.client.transport.drops == {"quic: retry": 1}
    raw.connect()


def test_a_server_ignores_a_first_packet_for_another_dial(transports):
    other = TransportEnd(transports.dial(START))
    server = transports.accept(SERVER, b"anything", START)
    for group in other.drain(START):
        for segment in group:
            server.receive(segment, 0, START)
    assert server.drops == {"quic: no connection yet": 2}
    assert server.transmits(START) == []


def test_a_close_reaches_the_peer_at_once_with_code_and_reason(transports):
    raw = Raw(transports, delay=0.1).connect()
    raw.run(1)
    raw.client.transport.close(7, "enough")
    before = raw.now
    assert raw.run(5, lambda: bool(raw.server.of(TransportClosed)))
    assert raw.now - before == pytest.approx(0.1)
    assert raw.server.of(TransportClosed) == [TransportClosed(7, "enough", by_peer=True, is_application=True)]
    assert raw.run(
        30, lambda: TransportEnded() in raw.client.events and TransportEnded() in raw.server.events
    )
    assert raw.client.of(TransportClosed) == []
    assert raw.client.deadline() is None
    assert raw.server.deadline() is None


def test_a_reason_too_long_for_a_packet_is_cut(transports):
    raw = Raw(transports).connect()
    raw.client.transport.close(7, "ü" * 3000)
    assert raw.run(5, lambda: bool(raw.server.of(TransportClosed)))
    assert raw.server.of(TransportClosed)[0].reason == "ü" * 128


def test_a_peers_reason_is_not_logged(caplog):
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, logger="quic"):
        raw = Raw().connect()
        raw.client.transport.close(7, "a reason that is nobody's business")
        assert raw.run(5, lambda: bool(raw.server.of(TransportClosed)))
        logging.getLogger("quic").warning("another user of qh3")
    assert "business" not in caplog.text
    assert "another user of qh3" in caplog.text


@pytest.mark.parametrize(
    "break_it",
    [
        lambda qh3: qh3.send_stream_data(0, b"", True),
        lambda qh3: qh3.reset_stream(0, 1),
        lambda qh3: qh3.stop_stream(0, 1),
        lambda qh3: qh3.send_stream_data(4, b"x"),
        lambda qh3: qh3.send_stream_data(2, b"x"),
    ],
    ids=["an end", "a reset", "a stop", "a second stream", "a unidirectional stream"],
)
def test_a_peer_that_does_more_than_use_the_pipe_is_cut_off(break_it):
    raw = Raw().connect()
    raw.client.transport.send(b"x")
    raw.run(1)
    break_it(raw.client.transport._connection)
    raw.run(1)
    reason = "a QUIC stream was opened or ended that should not be"
    assert raw.server.of(TransportClosed) == [TransportClosed(0xA, reason, False, False)]
    assert raw.client.of(TransportClosed) == [TransportClosed(0xA, reason, True, False)]


def test_a_failure_inside_qh3_ends_the_connection_and_tells_the_peer():
    raw = Raw().connect()
    with raw.client.transport._guard:
        raise ValueError
    raw.run(0.1)
    assert raw.client.of(TransportClosed) == [TransportClosed(1, "ValueError", False, False)]
    assert raw.server.of(TransportClosed) == [TransportClosed(1, "", True, False)]
    raw.run(10)
    assert TransportEnded() in raw.client.events
    assert raw.client.transport.drops == {"quic: failed with ValueError": 1}


def test_a_failure_while_failing_ends_it_at_once():
    raw = Raw().connect()
    for _ in range(2):
        with raw.client.transport._guard:
            raise ValueError
    raw.settle()
    assert TransportEnded() in raw.client.events
    raw.client.receive(b"x", 0, raw.now)
    raw.client.handle_timeout(raw.now)
    assert raw.client.transport.transmits(raw.now) == []
    assert raw.client.deadline() is None


def test_what_is_no_qh3_failure_is_not_swallowed():
    transport = Qh3Transport.dial(START)
    with pytest.raises(KeyboardInterrupt), transport._guard:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([], []),
        ([1200], [1]),
        ([1200, 1200, 700], [3]),
        ([1200, 700, 700], [2, 1]),
        ([700, 1200, 1200], [1, 2]),
        ([1200] * 60, [54, 6]),
        ([100] * 70, [64, 6]),
        ([1200] * 54 + [300], [54, 1]),
        ([66_000, 66_000], [1, 1]),
    ],
)
def test_groups_hold_equal_sizes_and_a_shorter_last_one(sizes, groups):
    datagrams = [bytes([index]) * size for index, size in enumerate(sizes)]
    grouped = group_segments(datagrams)
    assert [len(group) for group in grouped] == groups
    assert [segment for group in grouped for segment in group] == datagrams


def test_another_version_of_qh3_is_used_by_its_public_face_alone(monkeypatch):
    monkeypatch.setattr(qh3_transport, "Connection", PlainConnection)
    raw = Raw().connect()
    raw.client.transport.send(bytes(100_000))
    assert raw.run(30, lambda: sum(len(event.data) for event in raw.server.of(PipeReceived)) == 100_000)
    raw.client.transport.close(7, "enough")
    assert raw.run(30, lambda: TransportEnded() in raw.server.events)
    assert raw.server.of(TransportClosed) == [TransportClosed(7, "enough", True, True)]
