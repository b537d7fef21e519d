"""Each end of DERP's handshake against bytes made by hand, right and wrong."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_box, crypto_box_open, crypto_scalarmult_base
from tests.core.relay_network import private_key

from peerway.core.machine import CloseStream, WireError
from peerway.core.relay import greeting
from peerway.core.relay.access import Access
from peerway.core.relay.client import RelayClient, RelayConnected, RelayDisconnected
from peerway.core.relay.frames import FrameDecoder, FrameType, build_frame, build_packets, build_server_key
from peerway.core.relay.server import ClientConnected, ConnectionRefused, RelayServer

NOW = 50.0
REQUEST = b"GET /derp HTTP/1.1\r\nHost: r\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"
NONCE = b"n" * 24
CLIENT_SECRET = private_key("client")
CLIENT_KEY = crypto_scalarmult_base(CLIENT_SECRET)
SERVER_SECRET = private_key("server")
SERVER_KEY = crypto_scalarmult_base(SERVER_SECRET)


def drain(machine):
    written, events = b"", []
    while (output := machine.poll_transmit()) is not None:
        written += output.data
    while (event := machine.poll_event()) is not None:
        events.append(event)
    return written, events


class Knock:
    """A stranger at a `RelayServer`, as far as the ServerKey frame."""

    def __init__(self, request=REQUEST):
        self.server = RelayServer(random.Random(1))
        self.server.stream_accepted("s", "192.0.2.1", NOW)
        self.server.stream_data("s", request, NOW)
        written, _ = drain(self.server)
        head, _, rest = written.rpartition(b"\r\n\r\n")
        self.head = head
        (kind, payload), *_ = FrameDecoder().feed(rest)
        assert kind == FrameType.SERVER_KEY
        assert payload[:8] == "DERP🔑".encode()
        self.server_key = payload[8:]

    def info(self, text=b'{"version":2}', key=CLIENT_KEY, secret=CLIENT_SECRET):
        return build_frame(
            FrameType.CLIENT_INFO, key + NONCE + crypto_box(text, NONCE, self.server_key, secret)
        )

    def say(self, data):
        self.server.stream_data("s", data, NOW)
        return drain(self.server)


def test_the_server_lets_in_who_opens_its_box_and_seals_its_own_info():
    knock = Knock()
    assert knock.head.startswith(b"HTTP/1.1 101 ")
    written, events = knock.say(knock.info())
    assert events == [ClientConnected("s", "192.0.2.1", CLIENT_KEY)]
    ((kind, payload),) = FrameDecoder().feed(written)
    assert kind == FrameType.SERVER_INFO
    opened = crypto_box_open(payload[24:], payload[:24], knock.server_key, CLIENT_SECRET)
    assert json.loads(opened) == {"version": 2}


def test_fast_start_gets_the_server_key_without_the_101():
    knock = Knock(REQUEST[:-2] + b"Derp-Fast-Start: 1\r\n\r\n")
    assert knock.head == b""
    assert knock.say(knock.info())[1] == [ClientConnected("s", "192.0.2.1", CLIENT_KEY)]


def test_every_connection_has_a_server_key_of_its_own():
    server = RelayServer(random.Random(1))
    keys = []
    for stream in ("a", "b"):
        server.stream_accepted(stream, "192.0.2.1", NOW)
        server.stream_data(stream, REQUEST, NOW)
        keys.append(drain(server)[0][-32:])
    assert keys[0] != keys[1]


def test_an_info_recorded_on_another_connection_is_refused():
    first, second = Knock(), Knock()
    recorded = first.info()
    second.server = RelayServer(random.Random(2))
    second.server.stream_accepted("s", "192.0.2.1", NOW)
    second.server.stream_data("s", REQUEST, NOW)
    drain(second.server)
    written, events = second.say(recorded)
    assert written == b""
    assert events[-1] == ConnectionRefused("s", "192.0.2.1", "not DERP: an info box that does not open")


def test_packets_right_behind_the_introduction_are_forwarded():
    knock = Knock()
    written, _ = knock.say(knock.info() + build_packets(FrameType.SEND_PACKET, CLIENT_KEY, [b"to myself"]))
    (_, run) = FrameDecoder().feed(written)
    assert (run.kind, run.key, run.packets) == (FrameType.RECV_PACKET, CLIENT_KEY, [b"to myself"])


def test_packets_right_behind_a_refused_introduction_are_not():
    knock = Knock()
    knock.server._access = Access(allow=lambda key: False)
    written, events = knock.say(knock.info() + build_packets(FrameType.SEND_PACKET, CLIENT_KEY, [b"x"]))
    assert written == build_frame(FrameType.HEALTH, b"this relay does not admit this key")
    assert events[-1] == ConnectionRefused("s", "192.0.2.1", "key not admitted")


def test_an_introduction_with_garbage_behind_it_admits_nobody():
    knock = Knock()
    written, events = knock.say(knock.info() + build_frame(FrameType.WATCH_CONNS))
    assert written == b""
    assert events[0] == CloseStream("s")
    assert knock.server.client_count == 0


def test_a_client_of_tailscale_is_let_in():
    knock = Knock()
    info = b'{"version":2,"meshKey":"","CanAckPings":true,"IsProber":false,"later":[1,{"a":null}]}'
    assert knock.say(knock.info(info))[1] == [ClientConnected("s", "192.0.2.1", CLIENT_KEY)]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda k: k.info(key=b"\0" * 32), "a key no box can be made for"),
        (lambda k: k.info(secret=private_key("other")), "an info box that does not open"),
        (lambda k: k.info(b'{"version":1}'), "DERP version 1; 2 is needed"),
        (lambda k: k.info(b"{}"), "DERP version 0; 2 is needed"),
        (lambda k: k.info(b"not json"), "an info box without the JSON it should hold"),
        (lambda k: k.info(b"[]"), "an info box without the JSON it should hold"),
        (lambda k: k.info(b'{"version":"2"}'), "an info box without the JSON it should hold"),
        (lambda k: k.info(b'{"a":' + b"[" * 8000), "an info box without the JSON it should hold"),
        (lambda k: build_frame(FrameType.CLIENT_INFO, b"short"), "a frame of type 0x02 with 5 bytes"),
        (
            lambda k: b"\x02" + (72 + 16385).to_bytes(4, "big"),
            "a frame of type 0x02 with 16457 bytes",
        ),
        (lambda k: build_frame(FrameType.KEEP_ALIVE), "a frame of type 0x06 before ClientInfo"),
        (
            lambda k: build_packets(FrameType.SEND_PACKET, CLIENT_KEY, [b"x"]),
            "a frame of type 0x04 before ClientInfo",
        ),
        (lambda k: b"GET / HTTP/1.1\r\n\r\n", "a frame of type 0x47 with 1163141167 bytes"),
    ],
)
def test_a_stranger_who_does_not_introduce_himself_is_closed(make, reason):
    knock = Knock()
    written, events = knock.say(make(knock))
    assert written == b""
    assert events == [CloseStream("s"), ConnectionRefused("s", "192.0.2.1", f"not DERP: {reason}")]
    assert knock.server.drops == {"not DERP": 1}
    assert knock.server.poll_deadline() is None


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (build_frame(FrameType.WATCH_CONNS), "type 0x10, which only a mesh"),
        (build_frame(FrameType.CLOSE_PEER, bytes(32)), "type 0x11, which only a mesh"),
        (build_frame(FrameType.FORWARD_PACKET, bytes(64)), "type 0x0a, which only a mesh"),
        (b"\x04\x00\x01\x00\x21", "type 0x04 with 65569 bytes"),
        (b"\x04\x00\x00\x00\x1f", "type 0x04 with 31 bytes"),
        (b"\xff\xff\xff\xff\xff", "type 0xff with 4294967295 bytes"),
    ],
)
def test_a_client_that_breaks_the_rules_is_closed(frame, reason):
    knock = Knock()
    knock.say(knock.info())
    _, events = knock.say(frame)
    assert events[0] == CloseStream("s")
    assert reason in events[1].reason


@pytest.mark.parametrize(
    "frame",
    [
        build_frame(FrameType.KEEP_ALIVE),
        build_frame(FrameType.NOTE_PREFERRED, b"\x01"),
        build_frame(FrameType.PONG, b"12345678"),
        build_frame(FrameType.HEALTH, b"?"),
    ],
)
def test_frames_without_effect_have_none(frame):
    knock = Knock()
    knock.say(knock.info())
    assert knock.say(frame) == (b"", [])


def test_unknown_frames_are_counted():
    knock = Knock()
    knock.say(knock.info() + b"\xee\x00\x00\x00\x01x" * 3)
    assert knock.server.drops == {"unknown frame": 3}


@pytest.mark.parametrize("sent", [b"", REQUEST[:20], REQUEST])
def test_a_handshake_has_10_seconds_in_all(sent):
    server = RelayServer(random.Random(1))
    server.stream_accepted("s", "192.0.2.1", NOW)
    if sent:
        server.stream_data("s", sent, NOW + 5.0)
    drain(server)
    assert server.poll_deadline().at == NOW + 10.0
    server.handle_timeout(NOW + 9.9)
    assert drain(server) == (b"", [])
    server.handle_timeout(NOW + 10.0)
    assert drain(server)[1] == [
        CloseStream("s"),
        ConnectionRefused("s", "192.0.2.1", "the handshake took too long"),
    ]
    assert server.drops == {"handshake timeout": 1}


def test_an_http_probe_is_answered_and_leaves_without_a_word():
    server = RelayServer(random.Random(1))
    server.stream_accepted("s", "192.0.2.1", NOW)
    server.stream_data("s", b"GET /derp/probe HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n", NOW)
    written, events = drain(server)
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert events == [CloseStream("s")]
    server.stream_accepted("t", "192.0.2.1", NOW)
    server.stream_data("t", b"GET /derp/probe HTTP/1.1\r\nHost: r\r\n\r\n", NOW)
    server.stream_closed("t", "", NOW)
    assert drain(server)[1] == []


def test_what_is_not_http_is_counted_and_closed():
    server = RelayServer(random.Random(1))
    server.stream_accepted("s", "192.0.2.1", NOW)
    server.stream_data("s", b"\x16\x03\x01\r\n\r\n", NOW)
    written, events = drain(server)
    assert written.startswith(b"HTTP/1.1 400 ")
    assert isinstance(events[1], ConnectionRefused)
    assert server.drops == {"not HTTP": 1}


# --- the client's end


class Dial:
    """A `RelayClient` whose relay is played by hand."""

    def __init__(self, url="http://relay.test:3340"):
        self.client = RelayClient(url, "c", CLIENT_SECRET, random.Random(1))
        self.client.stream_opened(NOW)
        self.request, _ = drain(self.client)

    def say(self, data):
        self.client.stream_data(data, NOW)
        return drain(self.client)


def server_info(text=b'{"version":2}', secret=SERVER_SECRET):
    return build_frame(FrameType.SERVER_INFO, NONCE + crypto_box(text, NONCE, CLIENT_KEY, secret))


def test_the_client_asks_for_an_upgrade():
    dial = Dial("https://relay.test:8443/base/derp")
    assert dial.request == (
        b"GET /base/derp HTTP/1.1\r\nHost: relay.test:8443\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"
    )
    dial.client.stream_opened(NOW)
    assert drain(dial.client) == (b"", [])


def test_the_client_introduces_itself_and_is_connected_once_the_server_did():
    dial = Dial()
    written, events = dial.say(b"HTTP/1.1 100 Continue\r\n\r\n" + SWITCHED + build_server_key(SERVER_KEY))
    assert events == []
    ((kind, payload),) = FrameDecoder().feed(written)
    assert kind == FrameType.CLIENT_INFO
    assert payload[:32] == CLIENT_KEY == dial.client.public_key
    opened = crypto_box_open(payload[56:], payload[32:56], CLIENT_KEY, SERVER_SECRET)
    assert json.loads(opened) == {"version": 2, "CanAckPings": True}
    assert not dial.client.connected
    assert dial.say(server_info()) == (b"", [RelayConnected("c")])


def test_the_handshake_may_come_byte_by_byte():
    dial = Dial()
    for byte in SWITCHED + build_server_key(SERVER_KEY) + server_info():
        dial.say(bytes([byte]))
    assert dial.client.connected


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "http://relay.test:3340 answered 404 Not Found: there is no relay at /derp; "
            "are host, port and path right?",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
            "http://relay.test:3340 answered 400 Bad Request: it is no relay, or it speaks TLS: then its URL "
            "begins with https://",
        ),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "http://relay.test:3340 is no relay: its answer is not HTTP"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "speaks TLS: its URL begins with https://"),
        (
            SWITCHED + b"\x06\x00\x00\x00\x00",
            "the relay does not speak DERP: a frame of type 0x06 before ServerKey",
        ),
        (SWITCHED + build_frame(FrameType.SERVER_KEY, bytes(40)), "a ServerKey frame without DERP's magic"),
        (SWITCHED + build_server_key(bytes(32)), "a key no box can be made for"),
        (SWITCHED + b"garbage behind the upgrade", "a frame of type 0x67 with 1634886241 bytes"),
        (
            SWITCHED + build_server_key(SERVER_KEY) + server_info(secret=private_key("other")),
            "an info box that does not open",
        ),
        (
            SWITCHED + build_server_key(SERVER_KEY) + server_info(b'{"version":1}'),
            "DERP version 1; 2 is needed",
        ),
        (
            SWITCHED + build_server_key(SERVER_KEY) + b"\x03\x00\x20\x00\x00",
            "a frame of type 0x03 with 2097152 bytes",
        ),
    ],
)
def test_a_server_that_is_no_relay_is_closed_with_the_reason(said, reason):
    dial = Dial()
    _, events = dial.say(said)
    assert events[0] == CloseStream("c")
    assert isinstance(events[1], RelayDisconnected)
    assert reason in events[1].reason
    assert dial.client.poll_deadline() is None


def test_frames_before_server_info_are_ignored():
    dial = Dial()
    early = build_packets(FrameType.RECV_PACKET, SERVER_KEY, [b"x"]) + b"\xee\x00\x00\x00\x00"
    _, events = dial.say(SWITCHED + build_server_key(SERVER_KEY) + early + server_info())
    assert events == [RelayConnected("c")]
    assert dial.client.drops == {"frame before ServerInfo": 2}


def test_unknown_frames_are_skipped_by_the_client():
    dial = Dial()
    known = build_frame(FrameType.PEER_PRESENT, bytes(32)) + build_frame(FrameType.PONG, bytes(8))
    dial.say(SWITCHED + build_server_key(SERVER_KEY) + server_info() + b"\xee\x00\x00\x00\x00" + known)
    assert dial.client.connected
    assert dial.client.drops == {"unknown frame": 1}


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 101 Sw", SWITCHED, SWITCHED + build_server_key(SERVER_KEY)])
def test_the_client_waits_10_seconds_for_the_handshake(said):
    dial = Dial()
    if said:
        dial.say(said)
    assert dial.client.poll_deadline().at == NOW + 10.0
    dial.client.handle_timeout(NOW + 10.0)
    assert drain(dial.client)[1] == [
        CloseStream("c"),
        RelayDisconnected("c", "no relay answered within 10 s"),
    ]


@pytest.mark.parametrize(("error", "reason"), [("refused", "refused"), ("", "closed by the relay")])
def test_a_stream_that_ends_ends_the_client_once(error, reason):
    dial = Dial()
    dial.say(SWITCHED)
    dial.client.stream_closed(error, NOW)
    dial.client.stream_closed(error, NOW)
    assert drain(dial.client) == (b"", [RelayDisconnected("c", reason)])


@pytest.mark.parametrize(
    ("url", "error", "reason"),
    [
        (
            "http://relay.test",
            "",
            "http://relay.test:3340 closed the connection without an answer: if it speaks TLS, its URL "
            "begins with https://",
        ),
        (
            "http://relay.test",
            "reset",
            "reset without an answer: if it speaks TLS, its URL begins with https://",
        ),
        ("https://relay.test", "", "closed by the relay"),
    ],
)
def test_who_hangs_up_without_an_answer_may_speak_tls(url, error, reason):
    client = RelayClient(url, "c", CLIENT_SECRET, random.Random(1))
    client.stream_opened(NOW)
    client.stream_closed(error, NOW)
    assert drain(client)[1] == [RelayDisconnected("c", reason)]


def test_a_stream_that_cannot_be_opened_ends_the_client():
    client = RelayClient("http://relay.test", "c", CLIENT_SECRET, random.Random(1))
    client.stream_data(b"too early", NOW)
    client.stream_closed("no route to host", NOW)
    assert drain(client) == (b"", [RelayDisconnected("c", "no route to host")])


def test_a_private_key_has_32_bytes():
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        RelayClient("http://relay.test", "c", bytes(31), random.Random(1))


def test_boxes_open_only_between_the_two_they_were_sealed_for():
    shared = greeting.shared_with(SERVER_KEY, CLIENT_SECRET)
    frame = greeting.build_client_info(CLIENT_KEY, shared, NONCE)
    assert greeting.open_client_info(frame[5:], SERVER_SECRET) == (CLIENT_KEY, shared)
    with pytest.raises(WireError):
        greeting.open_client_info(frame[5:], private_key("other"))


chunks = st.lists(st.binary(max_size=200), max_size=8)


@settings(max_examples=50)
@given(chunks, st.sampled_from(["http", "greeting", "connected"]))
def test_no_bytes_make_the_client_raise(data, start):
    dial = Dial()
    if start != "http":
        dial.say(SWITCHED)
    if start == "connected":
        dial.say(build_server_key(SERVER_KEY) + server_info())
    for chunk in data:
        dial.say(chunk)


@settings(max_examples=50)
@given(chunks, st.sampled_from(["http", "identifying", "relaying"]))
def test_no_bytes_make_the_server_raise(data, start):
    if start == "http":
        server = RelayServer(random.Random(1))
        server.stream_accepted("s", "192.0.2.1", NOW)
    else:
        knock = Knock()
        server = knock.server
        if start == "relaying":
            knock.say(knock.info())
    for chunk in data:
        server.stream_data("s", chunk, NOW)
        drain(server)
