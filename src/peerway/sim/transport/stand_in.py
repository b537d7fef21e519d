"""What stands in for QUIC in a simulation: cheap, and the same bytes for the same seed.

    client: GREETING -> (the server's flight is whole) CONNECTED
    server: LISTENING -> (the client's flight is whole) GREETING -> (a packet under the keys) CONNECTED
    any state -> CLOSING (we said goodbye) or DRAINING (the peer did) -> ENDED

Flights have the sizes and take the round trips of QUIC with X25519MLKEM768, headers look like
QUIC's, and every datagram is sealed, so that who relays or alters it learns and achieves as little
as with QUIC. `SimTransports` stands for the key exchange: it knows the secret of every dial, and
nobody without it does. Recovery and congestion control are in `peerway.sim.transport.recovery`, the pipe
itself in `peerway.sim.transport.pipe`.

What it is not: QUIC's Initial packets can be forged by whoever sees the first of them, here
nothing can; and a packet that is to end the handshake is not padded.
"""

from __future__ import annotations

import struct
from collections import Counter, deque
from collections.abc import Iterator
from enum import Enum, auto

from peerway.core.demux import CONNECTION_ID_SIZE
from peerway.core.identity import SecretKey
from peerway.core.machine import Event, Rng
from peerway.core.quic.events import ConnectionIdIssued, ConnectionIdRetired
from peerway.core.quic.transport import (
    HandshakeCompleted,
    PipeReceived,
    TransportClosed,
    TransportEnded,
    group_segments,
)
from peerway.sim.transport.pipe import Arrivals, Pipe
from peerway.sim.transport.sealing import KEY_BYTES, NUMBER_BYTES, TAG_BYTES, Keys, derive

DATAGRAM_BYTES = 1200
CLIENT_FLIGHT = (1200, 1200)  # as qh3 2.1 sends them
SERVER_FLIGHT = (1200, 1200, 502)
INITIAL_TIMEOUT_S = 0.666  # RFC 9002 6.2.2
MAX_FLIGHT_DOUBLINGS = 6
LINGER_TIMEOUTS = 3  # RFC 9000 10.2
MAX_REASON_BYTES = 256

_VERSION = b"sim1"
_LONG, _SHORT = 0xC0, 0x40
_SHORT_HEADER_BYTES = 1 + CONNECTION_ID_SIZE + NUMBER_BYTES
_PIPE_ROOM = DATAGRAM_BYTES - _SHORT_HEADER_BYTES - TAG_BYTES - 1
_HELLO, _PIPE, _CLOSE = range(3)
_CODE = struct.Struct(">Q")


class SimTransports:
    """The `TransportFactory` that all honest nodes of a simulated world share."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._secret = rng.randbytes(KEY_BYTES)
        self._ids = 0

    def dial(self, now: float) -> SimTransport:
        """The client's end of a new connection."""
        return SimTransport(self, self.new_connection_id())

    def accept(self, key: SecretKey, original_destination_connection_id: bytes, now: float) -> SimTransport:
        """The server's end of the connection whose first datagram is addressed to that id."""
        share = self._rng.randbytes(KEY_BYTES)
        return SimTransport(self, original_destination_connection_id, key.node_id.public, share)

    def new_connection_id(self) -> bytes:
        """One that was never given before."""
        self._ids += 1
        return self._ids.to_bytes(4, "big") + self._rng.randbytes(CONNECTION_ID_SIZE - 4)

    def dial_secret(self, original_destination_connection_id: bytes) -> bytes:
        """What the two ends of a dial share before they have said anything."""
        return derive(self._secret, original_destination_connection_id)


class _State(Enum):
    LISTENING = auto()
    GREETING = auto()
    CONNECTED = auto()
    CLOSING = auto()
    DRAINING = auto()
    ENDED = auto()


_OVER = (_State.CLOSING, _State.DRAINING, _State.ENDED)


class SimTransport:
    """See `StreamTransport`. `server_key` and `share` are a server's; a client learns them."""

    def __init__(
        self, factory: SimTransports, original_id: bytes, server_key: bytes = b"", share: bytes = b""
    ) -> None:
        self.drops: Counter[str] = Counter()
        self.original_destination_connection_id = original_id
        self._is_client = not server_key
        self._own_id = factory.new_connection_id()
        self._lasting_id = factory.new_connection_id()
        self.connection_ids = (self._own_id,) if self._is_client else (original_id, self._own_id)
        self._peer_id = original_id if self._is_client else b""
        self._peer_lasting_id = b""
        self._server_key = server_key
        self._share = share
        self._secret = factory.dial_secret(original_id)
        self._hello_keys = Keys(self._secret, is_client=self._is_client)
        self._keys = self._hello_keys
        self._binding_secret = b""
        self._hello_number = 0
        self._hello_arrivals = Arrivals()
        self._parts_missing = set(range(len(SERVER_FLIGHT if self._is_client else CLIENT_FLIGHT)))
        self._flight_due = self._is_client
        self._flights = 0
        self._flight_at = 0.0
        self._state = _State.GREETING if self._is_client else _State.LISTENING
        self._is_connected = False
        self._pipe = Pipe(_PIPE_ROOM)
        self._goodbye = b""
        self._goodbye_due = False
        self._ends_at: float | None = None
        self._events: deque[Event] = deque()

    # --- inputs

    def receive(self, data: bytes, segment_size: int, now: float) -> None:
        """One datagram, or several that the kernel coalesced."""
        step = segment_size or max(len(data), 1)
        for start in range(0, len(data), step):
            self._receive(data[start : start + step], now)

    def handle_timeout(self, now: float) -> None:
        """The deadline passed."""
        at = self.deadline()
        if at is None or now < at:
            return
        if self._state is _State.GREETING:
            self._flight_due = True
        elif self._state is _State.CONNECTED:
            self._pipe.handle_timeout(now)
        else:
            self._end()

    def send(self, data: bytes | memoryview) -> None:
        """Append to the pipe."""
        if self._state not in _OVER:
            self._pipe.write(data)

    def ping(self) -> None:
        """Send something that must be acknowledged."""
        if self._state is _State.CONNECTED:
            self._pipe.ping()

    def close(self, code: int, reason: str) -> None:
        """Say goodbye with an application's code and reason."""
        if self._state is _State.LISTENING:
            self._end()
        elif self._state not in _OVER:
            text = reason.encode()[:MAX_REASON_BYTES].decode("utf-8", "ignore").encode()
            self._goodbye = bytes((_CLOSE,)) + _CODE.pack(code) + text
            self._goodbye_due = True
            self._state = _State.CLOSING

    # --- questions and outputs

    def backlog(self) -> int:
        """Bytes that are in no datagram yet."""
        return 0 if self._state in _OVER else self._pipe.backlog

    def peer_certificate_key(self) -> bytes | None:
        """The key of the server that answered."""
        return self._server_key if self._is_client and self._is_connected else None

    def take_binding_secret(self) -> bytes:
        """A secret of this dial and this server."""
        secret, self._binding_secret = self._binding_secret, b""
        return secret

    def next_event(self) -> Event | None:
        """The next thing that happened."""
        return self._events.popleft() if self._events else None

    def transmits(self, now: float) -> list[tuple[bytes, ...]]:
        """What is to be sent now, in groups for one system call each."""
        datagrams: list[bytes] = []
        if self._state is _State.CONNECTED:
            while (packet := self._pipe.poll(now)) is not None:
                datagrams.append(self._sealed(bytes((_PIPE,)) + packet[1], packet[0]))
        elif self._state is _State.GREETING and self._flight_due:
            datagrams.extend(self._flight(now))
        elif self._state is _State.CLOSING and self._goodbye_due:
            datagrams.append(self._farewell(now))
        return group_segments(datagrams)

    def deadline(self) -> float | None:
        """When to call `handle_timeout`."""
        if self._state is _State.CONNECTED:
            return self._pipe.deadline()
        if self._state is _State.GREETING and self._flights:
            doublings = min(self._flights - 1, MAX_FLIGHT_DOUBLINGS)
            return self._flight_at + INITIAL_TIMEOUT_S * (1 << doublings)
        return self._ends_at

    # --- what is sent

    def _flight(self, now: float) -> Iterator[bytes]:
        """Our whole part of the handshake."""
        self._flight_due = False
        self._flights += 1
        self._flight_at = now
        content = self._lasting_id + self._server_key + self._share
        for part, size in enumerate(CLIENT_FLIGHT if self._is_client else SERVER_FLIGHT):
            header = self._hello_header()
            body = bytes((_HELLO, part)) + content
            yield self._hello_keys.seal(header, body.ljust(size - len(header) - TAG_BYTES, b"\0"))

    def _hello_header(self) -> bytes:
        number = self._hello_number
        self._hello_number += 1
        return b"".join(
            (
                bytes((_LONG,)) + _VERSION,
                bytes((len(self._peer_id),)) + self._peer_id,
                bytes((len(self._own_id),)) + self._own_id,
                number.to_bytes(NUMBER_BYTES, "big"),
            )
        )

    def _sealed(self, body: bytes, number: int) -> bytes:
        header = bytes((_SHORT,)) + self._peer_lasting_id + number.to_bytes(NUMBER_BYTES, "big")
        return self._keys.seal(header, body)

    def _farewell(self, now: float) -> bytes:
        self._goodbye_due = False
        if self._ends_at is None:
            self._ends_at = now + LINGER_TIMEOUTS * self._pipe.recovery.probe_timeout
        if self._is_connected:
            return self._sealed(self._goodbye, self._pipe.take_number())
        return self._hello_keys.seal(self._hello_header(), self._goodbye)

    # --- what is received

    def _receive(self, datagram: bytes, now: float) -> None:
        if self._state is _State.ENDED:
            self.drops["quic: after the end"] += 1
        elif datagram[0] & 0x80:
            self._long_received(datagram, now)
        else:
            self._short_received(datagram, now)

    def _long_received(self, datagram: bytes, now: float) -> None:
        header_size = _long_header_size(datagram)
        body = self._hello_keys.open(datagram, header_size)
        if body is None:
            self._not_authentic()
        elif not self._hello_arrivals.take(_number(datagram, header_size)):
            self.drops["quic: replayed"] += 1
        elif body[0] == _CLOSE:
            self._peer_closed(body, now)
        elif self._state is _State.CLOSING:
            self._goodbye_due = True
        elif self._parts_missing and self._state is not _State.DRAINING:
            self._peer_id = datagram[header_size - NUMBER_BYTES - CONNECTION_ID_SIZE :][:CONNECTION_ID_SIZE]
            self._parts_missing.discard(body[1])
            if not self._parts_missing:
                self._greeted(body[2:], now)

    def _greeted(self, content: bytes, now: float) -> None:
        """The peer's flight is whole: the keys can be had."""
        self._peer_lasting_id, rest = content[:CONNECTION_ID_SIZE], content[CONNECTION_ID_SIZE:]
        if self._is_client:
            self._server_key, self._share = rest[:KEY_BYTES], rest[KEY_BYTES : 2 * KEY_BYTES]
        agreed = derive(self._secret, self._server_key + self._share)
        self._keys = Keys(agreed, is_client=self._is_client)
        self._binding_secret = derive(agreed, b"binding")
        self._events.append(ConnectionIdIssued(self._lasting_id))
        if self._is_client:
            self._connected(now)
            self._pipe.ping()  # so the server hears that we have the keys
        else:
            self._state = _State.GREETING
            self._flight_due = True

    def _connected(self, now: float) -> None:
        self._state = _State.CONNECTED
        self._is_connected = True
        if self._flights == 1:
            self._pipe.recovery.measured(now - self._flight_at)
        if not self._is_client:
            self._events.append(ConnectionIdRetired(self.original_destination_connection_id))
        self._events.append(HandshakeCompleted())

    def _short_received(self, datagram: bytes, now: float) -> None:
        body = self._keys.open(datagram, _SHORT_HEADER_BYTES)
        if body is None:
            self._not_authentic()
            return
        if self._state is _State.GREETING:
            self._connected(now)
        if body[0] == _CLOSE:
            self._peer_closed(body, now)
        elif self._state is _State.CLOSING:
            self._goodbye_due = True
        elif self._state is _State.CONNECTED:
            data = self._pipe.receive(_number(datagram, _SHORT_HEADER_BYTES), body[1:], now)
            if data is None:
                self.drops["quic: replayed"] += 1
            elif data:
                self._events.append(PipeReceived(data))

    def _not_authentic(self) -> None:
        is_listening = self._state is _State.LISTENING
        self.drops["quic: no connection yet" if is_listening else "quic: not authentic"] += 1

    # --- the end

    def _peer_closed(self, body: bytes, now: float) -> None:
        if self._state is _State.DRAINING:
            return
        if self._state is not _State.CLOSING:
            (code,) = _CODE.unpack_from(body, 1)
            reason = body[1 + _CODE.size :].decode()
            self._events.append(TransportClosed(code, reason, by_peer=True, is_application=True))
        self._state = _State.DRAINING
        if self._ends_at is None:
            self._ends_at = now + LINGER_TIMEOUTS * self._pipe.recovery.probe_timeout

    def _end(self) -> None:
        self._state = _State.ENDED
        self._ends_at = None
        self._events.append(TransportEnded())


def _number(datagram: bytes, header_size: int) -> int:
    return int.from_bytes(datagram[header_size - NUMBER_BYTES : header_size], "big")


def _long_header_size(datagram: bytes) -> int:
    """First byte, version, two connection ids behind their lengths, and the number."""
    at = 5
    for _ in range(2):
        at += 1 + (datagram[at] if at < len(datagram) else 0)
    return at + NUMBER_BYTES
