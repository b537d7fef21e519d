"""Streams with one peer, proven to be who it says: the machine over a `StreamTransport`.

    client:  HANDSHAKING -> (the certificate carries the key dialled; sends Auth)     -> ESTABLISHED
    server:  HANDSHAKING -> (the handshake is done) AUTHENTICATING -> (Auth is right) -> ESTABLISHED
    any state -> CLOSED (SessionClosed) -> ENDED (SessionEnded)

Everything travels in the transport's one ordered pipe, and the client's Auth is the first thing in
it: nothing else is looked at before the signature is checked.

Transmits carry `VIRTUAL_ADDRESS`; the parent puts the address of the best path in its place.
Transmits are made while they are polled, so that many small writes share packets.
"""

from __future__ import annotations

from enum import Enum, auto

from peerway.core.identity import NodeId, SecretKey
from peerway.core.machine import Deadline, Event, Leaf, Output, Transmit, UdpAddress, WireError
from peerway.core.quic import authentication
from peerway.core.quic.errors import APPLICATION_CODES, PeerViolation, SessionCode, StreamMisuse
from peerway.core.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    SessionClosed,
    SessionEnded,
    SessionEstablished,
)
from peerway.core.quic.frames import Auth, Frame, FrameReader, build
from peerway.core.quic.qh3_transport import Qh3Transport
from peerway.core.quic.streams import Streams
from peerway.core.quic.transport import (
    HandshakeCompleted,
    PipeReceived,
    StreamTransport,
    TransportClosed,
    TransportEnded,
    TransportFactory,
)

VIRTUAL_ADDRESS = UdpAddress("192.0.2.1", 1)
HANDSHAKE_TIMEOUT_S = 30.0
NUDGE_FIRST_S, NUDGE_CAP_S = 0.25, 4.0
TIMER_FLOOR_S = 0.001  # QUIC paces by the microsecond; waking that often would send packets one by one
MAX_REASON_CHARACTERS = 256


class State(Enum):
    """Where a session stands; see the module's text."""

    HANDSHAKING = auto()
    AUTHENTICATING = auto()
    ESTABLISHED = auto()
    CLOSED = auto()
    ENDED = auto()


class QuicSession(Leaf):
    """One end of a session; made by `dial` or `accept`."""

    def __init__(
        self, transport: StreamTransport, key: SecretKey, peer: NodeId, now: float, *, is_client: bool
    ) -> None:
        super().__init__()
        self.peer = peer
        self.state = State.HANDSHAKING
        self.drops = transport.drops
        self._transport = transport
        self._key = key
        self._is_client = is_client
        self._now = now
        self._dirty = True
        self._nudge_after = NUDGE_FIRST_S
        self._reader = FrameReader()
        self._binding_secret = b""
        self._streams = Streams(transport, self._emit, is_client=is_client)
        self._connection_ids: dict[bytes, None] = {}
        for connection_id in transport.connection_ids:
            self._issue(ConnectionIdIssued(connection_id))
        self._timers.set("handshake", now + HANDSHAKE_TIMEOUT_S, "quic: give up the handshake")

    @classmethod
    def dial(
        cls, key: SecretKey, peer: NodeId, now: float, transports: TransportFactory = Qh3Transport
    ) -> QuicSession:
        """The client's end of a new session with `peer`."""
        return cls(transports.dial(now), key, peer, now, is_client=True)

    @classmethod
    def accept(
        cls,
        key: SecretKey,
        expected_peer: NodeId,
        original_destination_connection_id: bytes,
        now: float,
        transports: TransportFactory = Qh3Transport,
    ) -> QuicSession:
        """The server's end of the dial that `expected_peer` announced with that connection id."""
        transport = transports.accept(key, original_destination_connection_id, now)
        return cls(transport, key, expected_peer, now, is_client=False)

    @property
    def original_destination_connection_id(self) -> bytes:
        """What the client's first packets are addressed to, by which the server knows the dial."""
        return self._transport.original_destination_connection_id

    @property
    def connection_ids(self) -> tuple[bytes, ...]:
        """The connection ids whose packets belong to this session now."""
        return tuple(self._connection_ids)

    # --- inputs

    def receive(self, data: bytes, segment_size: int, now: float) -> None:
        """One datagram, or several of `segment_size` bytes each and a last shorter one."""
        self._at(now)
        self._transport.receive(data, segment_size, self._now)
        self._handle_events()

    def handle_timeout(self, now: float) -> None:
        """Run every timer that is due."""
        self._at(now)
        super().handle_timeout(now)
        self._transport.handle_timeout(self._now)
        self._handle_events()

    def path_switched(self, now: float) -> None:
        """Packets take another path from now on: ends a back-off the old one caused.

        Where nothing is under way nothing is sent: it would count as use of the connection.
        """
        self._at(now)
        if self._transport.deadline() is not None:
            self._transport.ping()
            self._nudge_after = NUDGE_FIRST_S
            self._timers.set("nudge", self._now + self._nudge_after, "quic: did the new path take it?")

    def close(self, code: int, reason: str, now: float) -> None:
        """End the session at once; what is still under way may be lost. `code` is below 2**32."""
        if not 0 <= code < APPLICATION_CODES:
            raise StreamMisuse(f"a close code is from 0 to {APPLICATION_CODES - 1}, not {code}")
        self._at(now)
        self._close(code, reason)

    def open_stream(self, now: float) -> int:
        """A new stream, which the peer hears of at once; its number. `TooManyStreams` at the limit."""
        self._at(now)
        return self._streams.open()

    def write(self, stream: int, data: bytes, now: float) -> None:
        """Queue all of `data`. Dropped when the peer stopped the stream or the session is over.

        `StreamMisuse` after `write_eof`.
        """
        self._at(now)
        if not self._streams.write(stream, data):
            self._drop("quic: written to a stream that is over")

    def write_eof(self, stream: int, now: float) -> None:
        """Nothing more will be written on `stream`."""
        self._at(now)
        self._streams.write_eof(stream)

    def read(self, stream: int, limit: int, now: float) -> bytes:
        """At most `limit` bytes that have arrived on `stream` (-1: all); empty when there are none."""
        self._at(now)
        return self._streams.read(stream, limit)

    def reset(self, stream: int, code: int, now: float) -> None:
        """Give up writing on `stream`; the peer gets `StreamReset`."""
        self._at(now)
        self._streams.reset(stream, code)

    def stop(self, stream: int, code: int, now: float) -> None:
        """Give up reading `stream`; the peer gets `StreamStopped`."""
        self._at(now)
        self._streams.stop(stream, code)

    # --- questions

    def at_eof(self, stream: int) -> bool:
        """Whether nothing is left to read on `stream` and nothing will come."""
        return self._streams.at_eof(stream)

    def send_buffer_size(self, stream: int) -> int:
        """Bytes written on `stream` that still wait here."""
        return self._streams.queued(stream)

    def is_delivered(self, stream: int) -> bool:
        """Whether the peer has all that was written on `stream`, its end included, or never will."""
        return self._streams.is_delivered(stream)

    # --- outputs

    def poll_transmit(self) -> Output | None:
        """The next datagrams, for one system call."""
        if not self._transmits and self._dirty:
            self._produce()
        return super().poll_transmit()

    def poll_deadline(self) -> Deadline | None:
        """When to call `handle_timeout`; at least a millisecond after the last input."""
        own = self._timers.next
        at = self._transport.deadline()
        if at is None:
            return own
        at = max(at, self._now + TIMER_FLOOR_S)
        if own is not None and own.at <= at:
            return own
        return Deadline(at, "quic: acknowledge, pace or send again")

    # --- inside

    def _at(self, now: float) -> None:
        self._now = max(self._now, now)
        self._dirty = True

    def _be_impatient(self) -> None:
        """QUIC may take an outage for a round trip, and wait as long for what is lost later."""
        if self.state is State.ESTABLISHED and "nudge" not in self._timers:
            waits_until = self._transport.deadline()
            if waits_until is not None and waits_until - self._now > NUDGE_CAP_S:
                self._nudge_after = NUDGE_CAP_S
                self._timers.set("nudge", self._now + NUDGE_CAP_S, "quic: waits long for what is under way")

    def _nudge(self) -> None:
        """The ping at a switch may be lost as well, and the back-off that the old path caused is long."""
        waits_until = self._transport.deadline()
        if waits_until is not None and waits_until - self._now > self._nudge_after:
            self._transport.ping()
            self._nudge_after = min(2 * self._nudge_after, NUDGE_CAP_S)
            self._timers.set("nudge", self._now + self._nudge_after, "quic: did the new path take it?")

    def _timer_expired(self, name: str, now: float) -> None:
        if name == "nudge":
            self._nudge()
            return
        what = "the handshake" if self.state is State.HANDSHAKING else "the proof of who the client is"
        self._close(
            SessionCode.HANDSHAKE_TIMEOUT, f"{what} did not arrive within {HANDSHAKE_TIMEOUT_S:.0f} s"
        )

    def _produce(self) -> None:
        if self.state is State.ESTABLISHED:
            try:
                self._streams.feed()
            except PeerViolation as violation:
                self._violated(violation)
        self._dirty = self._flush()
        self._handle_events()
        self._be_impatient()

    def _flush(self) -> bool:
        """Collect what the transport wants to send; whether that was anything."""
        groups = self._transport.transmits(self._now)
        self._transmits.extend(Transmit(group, VIRTUAL_ADDRESS) for group in groups)
        return bool(groups)

    def _emit(self, event: Event) -> None:
        if self.state is State.ESTABLISHED:
            self._events.append(event)

    def _handle_events(self) -> None:
        while (event := self._transport.next_event()) is not None:
            if isinstance(event, PipeReceived):
                self._pipe_received(event.data)
            elif isinstance(event, ConnectionIdIssued):
                self._issue(event)
            elif isinstance(event, ConnectionIdRetired):
                self._retire(event.connection_id)
            elif isinstance(event, HandshakeCompleted):
                self._handshake_completed()
            elif isinstance(event, TransportClosed):
                self._transport_closed(event)
            elif isinstance(event, TransportEnded):
                self._end()

    def _pipe_received(self, data: bytes) -> None:
        if self.state not in (State.AUTHENTICATING, State.ESTABLISHED):
            return
        try:
            for frame in self._reader.feed(data):
                if self.state is State.AUTHENTICATING:
                    self._authenticate(frame)
                else:
                    self._streams.received(frame)
        except WireError as error:
            self._violated(error)

    def _violated(self, error: WireError) -> None:
        code = error.code if isinstance(error, PeerViolation) else SessionCode.PROTOCOL_VIOLATION
        self._close(code, str(error))

    # --- authentication

    def _handshake_completed(self) -> None:
        secret = self._transport.take_binding_secret()
        if not self._is_client:
            self._binding_secret = secret
            self.state = State.AUTHENTICATING
            return
        shown = self._transport.peer_certificate_key()
        if shown != self.peer.public:
            got = "a certificate without a node's key" if shown is None else str(NodeId(shown))
            wrong = f"the node that answered is not the one dialled: expected {self.peer}, got {got}"
            self._close(SessionCode.WRONG_SERVER_KEY, wrong, tell="not the node that was dialled")
            return
        signature = authentication.sign_client(self._key, self.peer, secret)
        self._transport.send(build(Auth(self._key.node_id.public, signature)))
        self._establish()

    def _establish(self) -> None:
        self._timers.cancel("handshake")
        self.state = State.ESTABLISHED
        self._emit(SessionEstablished(self.peer))

    def _authenticate(self, frame: Frame) -> None:
        if not isinstance(frame, Auth):
            raise PeerViolation(SessionCode.NOT_AUTHENTICATED, "the client did not say who it is first")
        client = NodeId(frame.client)
        if client != self.peer:
            reason = f"the client is {client}, not {self.peer} who announced itself"
            raise PeerViolation(SessionCode.NOT_AUTHENTICATED, reason)
        secret, self._binding_secret = self._binding_secret, b""
        if not authentication.is_client(client, self._key.node_id, secret, frame.signature):
            raise PeerViolation(SessionCode.NOT_AUTHENTICATED, f"the signature is not that of {client}")
        self._establish()

    # --- the end

    def _close(self, code: int, reason: str, tell: str | None = None) -> None:
        if self.state in (State.CLOSED, State.ENDED):
            return
        self._over(SessionClosed(code, reason, by_peer=False))
        self._flush()  # the handshake's last flight must go first, or the peer cannot read why
        self._transport.close(code, reason if tell is None else tell)
        self._dirty = True

    def _transport_closed(self, event: TransportClosed) -> None:
        code, reason = event.code, _printable(event.reason)
        if not event.is_application:
            code, reason = SessionCode.TRANSPORT_FAILED, f"QUIC error {event.code:#x}: {reason}"
        self._over(SessionClosed(code, reason, event.by_peer))

    def _over(self, closed: SessionClosed) -> None:
        if self.state in (State.CLOSED, State.ENDED):
            return
        self.state = State.CLOSED
        self._timers.cancel("handshake")
        self._timers.cancel("nudge")
        self._events.append(closed)

    def _end(self) -> None:
        self._over(SessionClosed(SessionCode.TRANSPORT_FAILED, "the connection ended", by_peer=False))
        self.state = State.ENDED
        for connection_id in self.connection_ids:
            self._retire(connection_id)
        self._events.append(SessionEnded())

    def _issue(self, event: ConnectionIdIssued) -> None:
        self._connection_ids[event.connection_id] = None
        self._events.append(event)

    def _retire(self, connection_id: bytes) -> None:
        if connection_id in self._connection_ids:
            del self._connection_ids[connection_id]
            self._events.append(ConnectionIdRetired(connection_id))


def _printable(reason: str) -> str:
    """A peer's words, safe to print."""
    return "".join(c if c.isprintable() else "?" for c in reason[:MAX_REASON_CHARACTERS])
