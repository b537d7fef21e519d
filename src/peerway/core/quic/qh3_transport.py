"""The transport of production: QUIC by qh3.

One constant virtual address stands for the peer whatever way packets travel; datagrams have
1,200 bytes and never more; liveness and idleness are the path agent's. TLS 1.3 with qh3's default
key exchange, X25519MLKEM768, and an Ed25519 certificate that is compared by the session.

All streams of a session share one QUIC stream that never ends, because qh3 2.1 cannot be trusted
with several. It prepares frames of up to 16 streams ahead of the congestion window, and
- while some are prepared that may not go yet, it sends no acknowledgements: with data both ways,
  both ends wait for each other until a probe timeout, which doubles (minutes without progress),
- when a stream completes for which one is prepared, it fails and loses what shares the packet.
With one stream neither happens. The price is that a lost packet holds up all streams for a round
trip, as in HTTP/2.
"""

from __future__ import annotations

import io
import logging
from collections import Counter, deque
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache
from types import TracebackType

from qh3.quic import events as quic
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.packet import QuicErrorCode
from qh3.tls import SignatureAlgorithm

from peerway.core.identity import SecretKey
from peerway.core.machine import Event
from peerway.core.quic.certificate import build_certificate, build_private_key, certified_key, pem
from peerway.core.quic.events import ConnectionIdIssued, ConnectionIdRetired
from peerway.core.quic.qh3_connection import Connection, PlainConnection
from peerway.core.quic.transport import (
    HandshakeCompleted,
    PipeReceived,
    TransportClosed,
    TransportEnded,
    group_segments,
)

ALPN = "peerway/1"
DATAGRAM_BYTES = 1200
MAX_REASON_BYTES = 256  # a longer one does not fit qh3's packets
WINDOW = 32 << 20  # what may be under way, and what a hostile peer can make qh3 hold by leaving a gap
PIPE = 0  # the QUIC stream that is the pipe: the client's first
CACHED_CERTIFICATES = 8

_PEER = ("192.0.2.1", 1)  # RFC 5737: an address nobody has
_LONG_HEADER = 0x80
_TYPE_BITS, _INITIAL, _RETRY = 0x30, 0x00, 0x30  # RFC 9000 17.2
_KEPT_LABEL = "CLIENT_TRAFFIC_SECRET_0"  # NSS key log format

_quiet: ContextVar[bool] = ContextVar("peerway_qh3_quiet", default=False)


def _is_not_ours(record: logging.LogRecord) -> bool:
    return not _quiet.get()


# qh3 logs what peers give as reasons, at WARNING; other users of qh3 in the process keep their logs
logging.getLogger("quic").addFilter(_is_not_ours)


class _SecretSink(io.StringIO):
    """Keeps the one secret the session needs of those qh3 would write to a key log."""

    secret = b""

    def write(self, line: str) -> int:
        label, _, rest = line.partition(" ")
        if label == _KEPT_LABEL:
            self.secret = bytes.fromhex(rest.split()[1])
        return len(line)


def _configure(sink: _SecretSink, *, is_client: bool) -> QuicConfiguration:
    return QuicConfiguration(
        alpn_protocols=[ALPN],
        is_client=is_client,
        idle_timeout=0,
        max_datagram_size=DATAGRAM_BYTES,
        probe_datagram_size=False,
        max_data=WINDOW,
        max_stream_data=WINDOW,
        max_datagram_frame_size=0,
        verify_mode=0,
        signature_algorithms=[SignatureAlgorithm.ED25519],
        secrets_log_file=sink,
    )


@lru_cache(maxsize=CACHED_CERTIFICATES)
def _credentials(key: SecretKey) -> QuicConfiguration:
    """A configuration that holds the node's certificate and key as qh3 wants them."""
    loaded = QuicConfiguration(is_client=False)
    loaded.load_cert_chain(
        pem("CERTIFICATE", build_certificate(key)), pem("PRIVATE KEY", build_private_key(key))
    )
    return loaded


@dataclass(frozen=True, slots=True)
class _Guard:
    """Around every call into qh3: silences its log, and turns what it raises into an end."""

    transport: Qh3Transport

    def __enter__(self) -> None:
        _quiet.set(True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        _quiet.set(False)
        if error is None:
            return False
        # a panic in Rust arrives as a BaseException that is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            return False
        self.transport._failed(type(error).__name__)
        return True


class Qh3Transport:
    """See `StreamTransport`. Made by `dial` or `accept`."""

    def __init__(self, connection: PlainConnection, sink: _SecretSink, *, is_client: bool) -> None:
        self.drops: Counter[str] = Counter()
        self._connection = connection
        self._sink = sink
        self._is_client = is_client
        self._guard = _Guard(self)
        self._events: deque[Event] = deque()
        self._handshaking = True
        self._started = is_client
        self._closed = False
        self._ended = False
        self._pings = 0

    @classmethod
    def dial(cls, now: float) -> Qh3Transport:
        """The client's end of a new connection."""
        sink = _SecretSink()
        connection = Connection(configuration=_configure(sink, is_client=True))
        connection.connect(_PEER, now)
        return cls(connection, sink, is_client=True)

    @classmethod
    def accept(cls, key: SecretKey, original_destination_connection_id: bytes, now: float) -> Qh3Transport:
        """The server's end of the connection whose first datagram is addressed to that id."""
        sink = _SecretSink()
        configuration = _configure(sink, is_client=False)
        loaded = _credentials(key)
        configuration.certificate, configuration.private_key = loaded.certificate, loaded.private_key
        connection = Connection(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
        )
        return cls(connection, sink, is_client=False)

    @property
    def original_destination_connection_id(self) -> bytes:
        """What the client's first datagram is addressed to."""
        return self._connection.original_destination_connection_id

    @property
    def connection_ids(self) -> tuple[bytes, ...]:
        """Our first id; on the server also the one the client made up."""
        own = self._connection.host_cid
        return (own,) if self._is_client else (self.original_destination_connection_id, own)

    def receive(self, data: bytes, segment_size: int, now: float) -> None:
        """One datagram, or several that the kernel coalesced."""
        if self._ended:
            self.drops["quic: after the end"] += 1
            return
        with self._guard:
            if self._handshaking:
                step = segment_size or max(len(data), 1)
                for start in range(0, len(data), step):
                    self._receive_handshaking(data[start : start + step], now)
            elif 0 < segment_size < len(data):
                self._connection.receive_gro_buffer(data, segment_size, _PEER, now)
            else:
                self._connection.receive_datagram(data, _PEER, now)
            self._collect()

    def _receive_handshaking(self, datagram: bytes, now: float) -> None:
        """Before keys protect it, a connection takes only what belongs to it."""
        is_long = len(datagram) > 6 and bool(datagram[0] & _LONG_HEADER)
        if is_long and not any(datagram[1:5]):
            self.drops["quic: version negotiation"] += 1
        elif is_long and datagram[0] & _TYPE_BITS == _RETRY:
            self.drops["quic: retry"] += 1
        elif not self._started and not (is_long and self._is_first(datagram)):
            self.drops["quic: no connection yet"] += 1
        else:
            self._started = True
            self._connection.receive_datagram(datagram, _PEER, now)

    def _is_first(self, datagram: bytes) -> bool:
        expected = self.original_destination_connection_id
        addressed = datagram[6 : 6 + datagram[5]]
        return datagram[0] & _TYPE_BITS == _INITIAL and addressed == expected

    def handle_timeout(self, now: float) -> None:
        """The deadline passed."""
        if not self._ended:
            with self._guard:
                self._connection.handle_timer(now)
                self._collect()

    def transmits(self, now: float) -> list[tuple[bytes, ...]]:
        """What QUIC wants to send now, in groups for one system call each."""
        if not self._ended:
            with self._guard:
                return group_segments(self._connection.datagrams(now))
        return []

    def deadline(self) -> float | None:
        """When qh3 wants `handle_timeout`."""
        if not self._ended:
            with self._guard:
                return self._connection.get_timer()
        return None

    def next_event(self) -> Event | None:
        """The next thing that happened."""
        return self._events.popleft() if self._events else None

    def send(self, data: bytes | memoryview) -> None:
        """Append to the pipe. A failure ends the connection: a pipe may not have a hole."""
        if not self._closed:
            with self._guard:
                self._connection.send_stream_data(PIPE, data)

    def backlog(self) -> int:
        """Bytes that are in no datagram yet."""
        if not self._closed:
            with self._guard:
                return self._connection.get_send_buffer_size(PIPE)
        return 0

    def ping(self) -> None:
        """Send a PING frame."""
        if not self._closed and not self._handshaking:
            self._pings += 1
            with self._guard:
                self._connection.send_ping(self._pings)

    def close(self, code: int, reason: str) -> None:
        """Say goodbye with an application's code and reason."""
        if self._closed:
            return
        self._closed = True
        with self._guard:
            text = reason.encode()[:MAX_REASON_BYTES].decode("utf-8", "ignore")
            self._connection.close(error_code=code, reason_phrase=text)
            if not self._started:
                self._end()

    def peer_certificate_key(self) -> bytes | None:
        """The key in the server's certificate; qh3 has checked that the server holds it."""
        with self._guard:
            certificate = self._connection.get_peercert()
            return None if certificate is None else certified_key(certificate.public_bytes())
        return None

    def take_binding_secret(self) -> bytes:
        """TLS's client traffic secret."""
        secret, self._sink.secret = self._sink.secret, b""
        return secret

    def _collect(self) -> None:
        """Translate qh3's events, and see whether the connection is over."""
        while (event := self._connection.next_event()) is not None:
            if isinstance(event, quic.StreamDataReceived):
                if event.stream_id == PIPE and not event.end_stream:
                    self._events.append(PipeReceived(event.data))
                else:
                    self._broke_the_rules()
            elif isinstance(event, quic.StreamReset | quic.StopSendingReceived):
                self._broke_the_rules()
            elif isinstance(event, quic.ConnectionIdIssued):
                self._events.append(ConnectionIdIssued(event.connection_id))
            elif isinstance(event, quic.ConnectionIdRetired):
                self._events.append(ConnectionIdRetired(event.connection_id))
            elif isinstance(event, quic.HandshakeCompleted):
                self._handshaking = False
                self._events.append(HandshakeCompleted())
            elif isinstance(event, quic.ConnectionTerminated):
                self._note_close(event, by_peer=True)
                self._end()
        if not self._closed and (seen := self._connection.close_seen()) is not None:
            self._note_close(seen[0], by_peer=seen[1])

    def _broke_the_rules(self) -> None:
        """The peer used another stream, or ended the one there is."""
        if not self._closed:
            self._closed = True
            reason = "a QUIC stream was opened or ended that should not be"
            code = QuicErrorCode.PROTOCOL_VIOLATION
            self._events.append(TransportClosed(code, reason, by_peer=False, is_application=False))
            self._connection.close(error_code=code, frame_type=0, reason_phrase=reason)

    def _note_close(self, over: quic.ConnectionTerminated, *, by_peer: bool) -> None:
        if self._closed:
            return
        self._closed = True
        is_application = over.frame_type is None
        self._events.append(
            TransportClosed(over.error_code, over.reason_phrase or "", by_peer, is_application)
        )

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._events.append(TransportEnded())

    def _failed(self, kind: str) -> None:
        """qh3 raised: nothing but a goodbye is to be expected of it any more."""
        self.drops[f"quic: failed with {kind}"] += 1
        if self._closed:
            self._end()
            return
        self._closed = True
        self._events.append(TransportClosed(QuicErrorCode.INTERNAL_ERROR, kind, False, False))
        with self._guard:
            self._connection.close(error_code=QuicErrorCode.INTERNAL_ERROR, frame_type=0)


@cache
def prepare() -> None:
    """Make the first key exchange of the process now, and not when somebody waits for a connection.

    For it the cryptographic library gathers entropy, which takes a tenth of a second, once.
    """
    Qh3Transport.dial(0.0)
