"""One connection to a DERP relay, from the client's side.

    IDLE -> UPGRADING (request sent) -> GREETING (101 read) -> SEALING (ClientInfo sent)
         -> CONNECTED (ServerInfo opened) -> CLOSED

A client lives as long as its one stream: to come back, make a new one. Packets may be sent from
the start; they wait until ClientInfo is out and follow right behind it. What the stream does not
take waits in a bounded queue that drops its oldest.

TLS, proxies and the pin of the certificate are the business of whoever opens the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import h11

from peerway.core.machine import CloseStream, Event, Leaf, Rng, StreamWrite, Timers, WireError
from peerway.core.relay import greeting
from peerway.core.relay.access import PROOF_REFUSED, PROOF_WANTED
from peerway.core.relay.frames import (
    KEEP_ALIVE_S,
    KEY_SIZE,
    NONCE_SIZE,
    Frame,
    FrameDecoder,
    FrameType,
    PacketRun,
    PeerGoneReason,
    build_packets,
    build_ping,
    build_pong,
    parse_peer_gone,
    parse_restarting,
    parse_server_key,
    readable,
)
from peerway.core.relay.outbox import Outbox
from peerway.core.relay.url import RelayUrl

HANDSHAKE_TIMEOUT_S = 10.0  # from the open stream to ServerInfo
SILENCE_S = KEEP_ALIVE_S + 10.0  # a server that says nothing for so long is asked whether it is there
SILENCE_LIMIT_S = 2 * KEEP_ALIVE_S  # and after so long, as after a sleep, it is dead
PAUSED_LIMIT_S = 30.0  # and so is one that takes nothing for so long
QUIET_S = 2.0  # after so long without a word, what we send is followed by a question whether anyone is there
ANSWER_LIMIT_S = 2.0
PONGS_PER_READ = 4  # further pings in the same read go unanswered
MAX_RESPONSE_HEAD = 16 << 10  # bytes

TLS_RECORDS = (b"\x15\x03", b"\x16\x03")  # an alert, a handshake: RFC 8446 5.1
BEGINS_WITH_HTTPS = "its URL begins with https://"
BAD_REQUEST, UNAUTHORIZED = 400, 401

_TOLD_NOTHING = (FrameType.KEEP_ALIVE, FrameType.PEER_PRESENT, FrameType.SERVER_INFO)


@dataclass(frozen=True, slots=True)
class RelayConnected(Event):
    """The relay knows us now: others can send to our key."""

    stream: str


@dataclass(frozen=True, slots=True)
class RelayDisconnected(Event):
    """The connection is over, and why, in words for people. The last event of its client."""

    stream: str
    reason: str


@dataclass(frozen=True, slots=True)
class PacketsReceived(Event):
    """Packets of one sender, in order. That the relay names the sender proves nothing."""

    stream: str
    source_key: bytes
    packets: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class PeerGone(Event):
    """The relay says that `key` is not, or no longer, connected to it."""

    stream: str
    key: bytes
    reason: PeerGoneReason


@dataclass(frozen=True, slots=True)
class RelayHealthChanged(Event):
    """The relay says what is wrong with this connection; an empty `problem` takes it back."""

    stream: str
    problem: str


@dataclass(frozen=True, slots=True)
class RelayRestarting(Event):
    """The relay is about to close: come back in `reconnect_in` seconds, try for `try_for` seconds."""

    stream: str
    reconnect_in: float
    try_for: float


@dataclass(frozen=True, slots=True)
class RelayMeasured(Event):
    """The relay answered a ping of `measure` after so many seconds."""

    stream: str
    round_trip: float


class Stage(Enum):
    """How far the connection has come."""

    IDLE = "idle"
    UPGRADING = "upgrading"
    GREETING = "greeting"
    SEALING = "sealing"
    CONNECTED = "connected"
    CLOSED = "closed"


class RelayClient(Leaf):
    """A client of the relay at `url`, over the byte stream named `stream`.

    `key` is the 32-byte X25519 private key whose public key is our address at the relay.
    `token` is shown to it, where it wants one.
    """

    def __init__(self, url: RelayUrl | str, stream: str, key: bytes, rng: Rng, token: str = "") -> None:
        super().__init__()
        if len(key) != KEY_SIZE:
            raise ValueError(f"a private key has {KEY_SIZE} bytes, not {len(key)}")
        self.url = url if isinstance(url, RelayUrl) else RelayUrl.parse(url)
        self.stream = stream
        self.public_key = greeting.public_key(key)
        self._private_key = key
        self._token = token
        self._rng = rng
        self._stage = Stage.IDLE
        self._answered = False
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_RESPONSE_HEAD)
        self._decoder = FrameDecoder()
        self._shared = b""
        self._outbox = Outbox()
        self._paused = False
        self._heard_at = 0.0
        self._problem = ""
        self._pongs = 0
        self._measuring = (b"", 0.0)

    @property
    def connected(self) -> bool:
        """Whether the relay knows us just now."""
        return self._stage is Stage.CONNECTED

    # --- inputs

    def stream_opened(self, now: float) -> None:
        """The stream to the relay stands (TLS included)."""
        if self._stage is not Stage.IDLE:
            return
        self._stage = Stage.UPGRADING
        self._heard_at = now
        self._timers.set("handshake", now + HANDSHAKE_TIMEOUT_S, "relay: handshake takes too long")
        headers = [("Host", self.url.authority), ("Upgrade", "DERP"), ("Connection", "Upgrade")]
        if self._token:
            headers.append(("Authorization", f"Bearer {self._token}"))
        request = h11.Request(method="GET", target=self.url.path, headers=headers)
        self._write((self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b""))

    def stream_data(self, data: bytes, now: float) -> None:
        """Bytes from the relay."""
        if self._stage in (Stage.IDLE, Stage.CLOSED):
            self._drop("data on a stream that is not open")
            return
        self._heard_at = now
        self._timers.cancel("answer")
        try:
            if self._stage is Stage.UPGRADING:
                data = self._speak_http(data)
            self._frames(self._decoder.feed(data))
        except WireError as error:
            self._drop("not DERP")
            problem = "" if self._stage is Stage.UPGRADING else "the relay does not speak DERP: "
            self._fail(f"{problem}{error}")

    def stream_closed(self, error: str, now: float) -> None:
        """The stream is gone, or could not be opened; `error` is empty when it ended in peace."""
        self._end(self._problem or self._unanswered(error) or error or "closed by the relay")

    def stream_paused(self, now: float) -> None:
        """The stream takes no more bytes for now."""
        if self._stage is not Stage.CLOSED:
            self._paused = True
            self._timers.set("paused", now + PAUSED_LIMIT_S, "relay: takes no bytes")

    def stream_resumed(self, now: float) -> None:
        """The stream takes bytes again."""
        self._paused = False
        self._timers.cancel("paused")
        self._flush()

    def send_packet(self, destination_key: bytes, packets: Sequence[bytes], now: float) -> None:
        """Send packets to the client with that key, in one write.

        Raises ValueError for a key that is not 32 bytes or a packet larger than 64 KiB.
        """
        if self._stage in (Stage.SEALING, Stage.CONNECTED) and not self._paused:
            self._write(build_packets(FrameType.SEND_PACKET, destination_key, packets))
            if now - self._heard_at > QUIET_S:
                self.check(now)
            return
        for packet in packets:
            frame = build_packets(FrameType.SEND_PACKET, destination_key, (packet,))
            if self._stage is Stage.CLOSED:
                self._drop("relay connection closed")
            else:
                self._queue(frame)

    def check(self, now: float) -> None:
        """Ask the relay for a sign of life: the network may have changed under the connection."""
        if self._stage is Stage.CONNECTED and not self._paused and "answer" not in self._timers:
            self._write(build_ping(self._rng.randbytes(8)))
            self._timers.set("answer", now + ANSWER_LIMIT_S, "relay: does it answer?")

    def measure(self, now: float) -> None:
        """Time a ping; `RelayMeasured` tells. Nothing while it cannot be sent at once."""
        if self._stage is Stage.CONNECTED and not self._paused:
            self._measuring = (self._rng.randbytes(8), now)
            self._write(build_ping(self._measuring[0]))

    def close(self, reason: str, now: float) -> None:
        """Close the connection ourselves."""
        self._fail(reason)

    # --- within

    def _speak_http(self, data: bytes) -> bytes:
        """Read the answer to our request; returns the bytes behind a 101."""
        if data.startswith(TLS_RECORDS) and not self._answered:
            raise WireError(f"{self.url} speaks TLS: {BEGINS_WITH_HTTPS}")
        self._answered = True
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
            while isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise WireError(
                f"{self.url} is no relay: its answer is not HTTP ({error}); are host and port right?"
            ) from None
        if event is h11.NEED_DATA:
            return b""
        if isinstance(event, h11.InformationalResponse):
            self._stage = Stage.GREETING
            return self._http.trailing_data[0]
        if isinstance(event, h11.Response):
            self._drop("upgrade refused")
            self._fail(self._refusal(event))
        return b""

    def _refusal(self, response: h11.Response) -> str:
        answered = f"{self.url} answered {response.status_code} {readable(response.reason)}"
        if response.status_code == UNAUTHORIZED:
            return PROOF_REFUSED if self._token else PROOF_WANTED
        if response.status_code == BAD_REQUEST and not self.url.tls:
            return f"{answered}: it is no relay, or it speaks TLS: then {BEGINS_WITH_HTTPS}"
        return f"{answered}: there is no relay at {self.url.path}; are host, port and path right?"

    def _unanswered(self, error: str) -> str:
        """Why a stream may have closed without a word to our request, "" when that is not how it ended."""
        if self._stage is not Stage.UPGRADING or self._answered or self.url.tls:
            return ""
        what = error or f"{self.url} closed the connection"
        return f"{what} without an answer: if it speaks TLS, {BEGINS_WITH_HTTPS}"

    def _frames(self, frames: list[Frame | PacketRun]) -> None:
        self._pongs = 0
        source, packets = b"", list[bytes]()
        for frame in frames:
            if isinstance(frame, PacketRun) and self._takes(frame):
                if frame.key != source:
                    self._received(source, packets)
                    source, packets = frame.key, []
                packets += frame.packets
            else:
                self._received(source, packets)
                packets = []
                self._other_frame(frame[0], frame[1])
        self._received(source, packets)

    def _takes(self, run: PacketRun) -> bool:
        return run.kind == FrameType.RECV_PACKET and self._stage is Stage.CONNECTED

    def _received(self, source: bytes, packets: list[bytes]) -> None:
        if packets:
            self._events.append(PacketsReceived(self.stream, source, tuple(packets)))

    def _other_frame(self, kind: int, payload: bytes) -> None:
        if self._stage is Stage.GREETING:
            self._greet(kind, payload)
        elif kind == FrameType.HEALTH:
            self._problem = readable(payload)
            self._events.append(RelayHealthChanged(self.stream, self._problem))
        elif self._stage is Stage.SEALING:
            if kind == FrameType.SERVER_INFO:
                self._admitted(payload)
            else:
                self._drop("frame before ServerInfo")
        elif kind == FrameType.PING:
            self._pong(payload)
        elif kind == FrameType.PONG:
            self._measured(payload)
        elif kind == FrameType.PEER_GONE:
            key, reason = parse_peer_gone(payload)
            self._events.append(PeerGone(self.stream, key, reason))
        elif kind == FrameType.RESTARTING:
            self._events.append(RelayRestarting(self.stream, *parse_restarting(payload)))
        elif kind not in _TOLD_NOTHING:
            self._drop("unknown frame")

    def _greet(self, kind: int, payload: bytes) -> None:
        if kind != FrameType.SERVER_KEY:
            raise WireError(f"a frame of type {kind:#04x} before ServerKey")
        self._shared = greeting.shared_with(parse_server_key(payload), self._private_key)
        nonce = self._rng.randbytes(NONCE_SIZE)
        self._write(greeting.build_client_info(self.public_key, self._shared, nonce))
        self._stage = Stage.SEALING
        self._flush()

    def _admitted(self, payload: bytes) -> None:
        greeting.open_server_info(payload, self._shared)
        self._stage = Stage.CONNECTED
        self._timers.cancel("handshake")
        self._timers.set("silence", self._heard_at + SILENCE_S, "relay: silent")
        self._events.append(RelayConnected(self.stream))

    def _timer_expired(self, name: str, now: float) -> None:
        if name == "silence":
            self._silent_for(now - self._heard_at, now)
        elif name == "answer":
            self._fail(f"the relay did not answer for {ANSWER_LIMIT_S:.0f} s")
        elif name == "paused":
            self._fail(f"the relay took no bytes for {PAUSED_LIMIT_S:.0f} s")
        else:
            self._fail(f"no relay answered within {HANDSHAKE_TIMEOUT_S:.0f} s")

    def _silent_for(self, seconds: float, now: float) -> None:
        if seconds >= SILENCE_LIMIT_S:
            self._fail(f"the relay was silent for {SILENCE_LIMIT_S:.0f} s")
            return
        if seconds >= SILENCE_S:
            self.check(now)
        # Looked at when it passes, since to move it with every read would cost more than the read.
        limit = SILENCE_S if seconds < SILENCE_S else SILENCE_LIMIT_S
        self._timers.set("silence", self._heard_at + limit, "relay: silent")

    def _measured(self, pong: bytes) -> None:
        ping, sent_at = self._measuring
        if ping and pong == ping:
            self._measuring = (b"", 0.0)
            self._events.append(RelayMeasured(self.stream, self._heard_at - sent_at))

    def _pong(self, ping: bytes) -> None:
        if self._pongs >= PONGS_PER_READ:
            self._drop("too many pings")
            return
        self._pongs += 1
        if self._paused:
            self._queue(build_pong(ping))
        else:
            self._write(build_pong(ping))

    def _queue(self, frame: bytes) -> None:
        dropped = self._outbox.push(frame)
        if dropped:
            self.drops["queue full"] += dropped

    def _flush(self) -> None:
        if self._stage in (Stage.SEALING, Stage.CONNECTED) and not self._paused and self._outbox:
            self._write(self._outbox.take())

    def _write(self, data: bytes) -> None:
        self._transmits.append(StreamWrite(self.stream, data))

    def _fail(self, reason: str) -> None:
        if self._stage is not Stage.CLOSED:
            self._events.append(CloseStream(self.stream))
            self._end(reason)

    def _end(self, reason: str) -> None:
        if self._stage is Stage.CLOSED:
            return
        self._stage = Stage.CLOSED
        self._timers = Timers()
        self._outbox = Outbox()
        self._events.append(RelayDisconnected(self.stream, reason))
