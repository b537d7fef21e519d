"""The streams of one session: which there are, what they may send, and what the application hears.

A stream is announced to the peer the moment it is opened, by its type byte (`PREAMBLE`). What is
written waits here, and is fed to the transport as far as the stream's credit and a short backlog
in the transport allow: bytes that wait here can still take the next best path and cost no memory
twice. Streams opened beyond the peer's limit wait here as well, in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from peerway.core.machine import Event
from peerway.core.quic.admission import EARLY_BYTES
from peerway.core.quic.control import ControlMessage, CreditWanted, Delivered, Grant
from peerway.core.quic.credit import CreditPool
from peerway.core.quic.errors import PeerViolation, SessionCode, StreamCode, StreamMisuse, TooManyStreams
from peerway.core.quic.events import (
    StreamClosed,
    StreamOpened,
    StreamReadable,
    StreamReset,
    StreamStopped,
    StreamWritable,
)
from peerway.core.quic.stream import InboundState, Outbound, OutboundState, Stream
from peerway.core.quic.transport import StopRequested, StreamAborted, StreamReceived, StreamTransport

CONTROL_STREAM = 0
PREAMBLE = b"\0"  # the stream's type: bytes of the application. Not part of the credit
BACKLOG_BYTES = 1 << 20  # what the transport is fed ahead of the network, shared by the streams
BACKLOG_BYTES_LEAST = 64 << 10  # a stream's share at least
MAX_PEER_STREAMS = 256  # the peer's, with something unread or to come; further ones are refused
MAX_STREAMS = 4096  # in all, those included that only wait for `Delivered`
MAX_WAITING_STREAMS = 1024  # opened beyond the peer's limit

_STEP = 4  # RFC 9000 2.1: between stream ids of one kind
_BY_SERVER, _UNIDIRECTIONAL = 1, 2


class Streams:
    """The table. `tell` takes messages for the peer, `emit` events for the owner."""

    def __init__(
        self,
        transport: StreamTransport,
        tell: Callable[[ControlMessage], None],
        emit: Callable[[Event], None],
        *,
        is_client: bool,
    ) -> None:
        self._transport = transport
        self._tell = tell
        self._emit = emit
        self._own_parity = 0 if is_client else _BY_SERVER
        self._next_number = _STEP if is_client else _BY_SERVER
        self._opened = 1 if is_client else 0  # the client's control stream is the first of its streams
        self._streams: dict[int, Stream] = {}
        self._pool = CreditPool()
        self._sending: dict[int, Stream] = {}
        self._unopened: deque[Stream] = deque()
        self._early: int | None = EARLY_BYTES if is_client else None
        self._fresh = False
        self._refill_below = 0

    # --- for the application

    def open(self) -> int:
        """A new stream; `TooManyStreams` when too many are open or wait for the peer's leave."""
        if len(self._streams) >= MAX_STREAMS or len(self._unopened) >= MAX_WAITING_STREAMS:
            raise TooManyStreams(
                f"{len(self._streams)} streams are open and {len(self._unopened)} wait: close some first"
            )
        stream = Stream(self._next_number, self._pool, by_peer=False)
        self._next_number += _STEP
        self._streams[stream.number] = stream
        self._unopened.append(stream)
        return stream.number

    def write(self, number: int, data: bytes) -> bool:
        """Queue `data`; False when the stream is over and it was dropped."""
        stream = self._streams.get(number)
        if stream is None:
            self._check_existed(number)
            return False
        if not stream.outbound.write(data):
            return False
        self._want_to_send(stream)
        return True

    def write_eof(self, number: int) -> None:
        """Nothing more will be written."""
        stream = self._streams.get(number)
        if stream is not None:
            stream.outbound.end()
            self._want_to_send(stream)

    def read(self, number: int, limit: int) -> bytes:
        """At most `limit` bytes that have arrived (-1: all)."""
        stream = self._streams.get(number)
        if stream is None or not stream.inbound.unread:
            return b""
        inbound = stream.inbound
        data = inbound.read(limit)
        granted = inbound.credit.consume(len(data))
        if granted is not None and inbound.state is InboundState.OPEN:
            self._tell(Grant(number, granted))
        self._forget_if_over(stream)
        return data

    def at_eof(self, number: int) -> bool:
        """Whether everything the peer wrote was read, or nothing more will come."""
        stream = self._streams.get(number)
        if stream is None:
            return True
        return stream.inbound.at_eof

    def queued(self, number: int) -> int:
        """Bytes that were written and wait here."""
        stream = self._streams.get(number)
        return 0 if stream is None else stream.outbound.queued

    def is_delivered(self, number: int) -> bool:
        """Whether the peer has all that was written, its end included, or never will."""
        stream = self._streams.get(number)
        return stream is None or stream.outbound.state is OutboundState.OVER

    def reset(self, number: int, code: int) -> None:
        """Give up writing; what the peer has not got it may never get."""
        stream = self._streams.get(number)
        if stream is None or stream.outbound.state is OutboundState.OVER:
            return
        self._abort_outbound(stream)
        if stream.transport_knows:
            self._transport.reset(number, code)
        else:
            stream.reset_code = code
        self._forget_if_over(stream)

    def stop(self, number: int, code: int) -> None:
        """Give up reading; what is unread is dropped and the peer asked to send no more."""
        stream = self._streams.get(number)
        if stream is None:
            return
        if stream.inbound.state is InboundState.FINISHED:
            stream.inbound.over()
            self._forget_if_over(stream)
        elif stream.inbound.state is InboundState.OPEN:
            stream.inbound.discard()
            if stream.transport_knows:
                self._transport.stop(number, code)
            else:
                stream.stop_code = code

    # --- for the session: what came from the peer

    def received(self, event: StreamReceived) -> None:
        """Bytes of a stream, or its end; `PeerViolation` when they break the rules."""
        number, data = event.stream, event.data
        stream = self._streams.get(number)
        if stream is None:
            stream = self._opened_by_peer(number, data)
            if stream is None:
                return
            data = data[len(PREAMBLE) :]
        inbound = stream.inbound
        readable = inbound.receive(data)
        if event.fin:
            readable = readable or (not inbound.unread and inbound.state is InboundState.OPEN)
            inbound.finish()
            self._tell(Delivered(number))
        if readable:
            self._emit(StreamReadable(number))
        if event.fin:
            self._forget_if_over(stream)

    def aborted(self, event: StreamAborted) -> None:
        """The peer gave up writing."""
        stream = self._streams.get(event.stream)
        if stream is None:
            # opened and given up before anything arrived; or over here already, then this is harmless
            self._transport.reset(event.stream, event.code)
            return
        state = stream.inbound.state
        if state in (InboundState.FINISHED, InboundState.OVER):
            return
        stream.inbound.over()
        if state is InboundState.OPEN:
            self._emit(StreamReset(event.stream, event.code))
        self._forget_if_over(stream)

    def stop_requested(self, event: StopRequested) -> None:
        """The peer gave up reading."""
        stream = self._streams.get(event.stream)
        if stream is None or stream.outbound.state is OutboundState.OVER:
            return
        self._abort_outbound(stream)
        self._emit(StreamStopped(event.stream, event.code))
        self._forget_if_over(stream)

    def granted(self, grant: Grant) -> None:
        """The peer's application has read."""
        stream = self._streams.get(grant.stream)
        if stream is not None and stream.outbound.credit.raise_to(grant.limit):
            self._want_to_send(stream)

    def credit_wanted(self, message: CreditWanted) -> None:
        """The peer has more to send than it may."""
        stream = self._streams.get(message.stream)
        if stream is None or stream.inbound.state is not InboundState.OPEN:
            return
        limit = stream.inbound.credit.widen()
        if limit is not None:
            self._tell(Grant(message.stream, limit))

    def delivered(self, message: Delivered) -> None:
        """The peer has everything of a stream."""
        stream = self._streams.get(message.stream)
        if stream is None or stream.outbound.state is OutboundState.OVER:
            return
        if stream.outbound.state is not OutboundState.SENT:
            raise PeerViolation(SessionCode.PROTOCOL_VIOLATION, "a stream was confirmed before its end")
        stream.outbound.state = OutboundState.OVER
        self._emit(StreamWritable(message.stream))
        self._forget_if_over(stream)

    def welcomed(self) -> None:
        """The server knows us: no more holding back."""
        self._early = None
        self._fresh = True

    # --- for the session: what goes to the peer

    def feed(self) -> None:
        """Hand the transport what it should have now."""
        while self._unopened and self._opened < self._transport.stream_limit and self._early != 0:
            self._introduce(self._unopened.popleft())
        if not self._sending or (not self._fresh and self._transport.backlog() > self._refill_below):
            return
        self._fresh = False
        share = max(BACKLOG_BYTES // len(self._sending), BACKLOG_BYTES_LEAST)
        for stream in list(self._sending.values()):
            self._feed_one(stream, share)
        self._refill_below = self._transport.backlog() // 2

    def _introduce(self, stream: Stream) -> None:
        self._opened += 1
        stream.transport_knows = True
        if stream.reset_code is None:
            self._send(stream.number, PREAMBLE)
        else:
            self._transport.reset(stream.number, stream.reset_code)
        if stream.stop_code is not None:
            self._transport.stop(stream.number, stream.stop_code)
        self._want_to_send(stream)

    def _feed_one(self, stream: Stream, share: int) -> None:
        outbound = stream.outbound
        room = min(share - self._transport.backlog(stream.number), outbound.credit.remaining)
        if self._early is not None:
            room = min(room, self._early)
        while room > 0 and outbound.queued:
            data = outbound.take(room)
            room -= len(data)
            outbound.credit.spend(len(data))
            self._send(stream.number, data, self._is_last(outbound))
        if outbound.state is OutboundState.ENDING and not outbound.queued:
            self._send(stream.number, b"", fin=True)
            outbound.state = OutboundState.SENT
        if outbound.credit.should_ask(outbound.queued):
            self._tell(CreditWanted(stream.number))
        if outbound.fell_short():
            self._emit(StreamWritable(stream.number))
        if not outbound.wants_to_send or not outbound.credit.remaining:
            del self._sending[stream.number]

    def _is_last(self, outbound: Outbound) -> bool:
        if outbound.state is not OutboundState.ENDING or outbound.queued:
            return False
        outbound.state = OutboundState.SENT
        return True

    def _send(self, number: int, data: bytes | memoryview, fin: bool = False) -> None:
        if self._early is not None:
            self._early -= len(data)
        self._transport.send(number, data, fin)

    # --- inside

    def _want_to_send(self, stream: Stream) -> None:
        outbound = stream.outbound
        if stream.transport_knows and outbound.wants_to_send:
            if outbound.credit.remaining or not outbound.queued:
                self._sending[stream.number] = stream
                self._fresh = True
            elif outbound.credit.should_ask(outbound.queued):
                self._tell(CreditWanted(stream.number))

    def _opened_by_peer(self, number: int, data: bytes) -> Stream | None:
        """The stream that the first bytes of an unknown one open; None when there is none to open."""
        if number & _UNIDIRECTIONAL:
            raise PeerViolation(SessionCode.PROTOCOL_VIOLATION, "a unidirectional stream was opened")
        if number & _BY_SERVER == self._own_parity:
            return None  # ours, and over
        if not data:
            raise PeerViolation(SessionCode.PROTOCOL_VIOLATION, "a stream ended before its type")
        stream = Stream(number, self._pool, by_peer=True)
        if data[: len(PREAMBLE)] != PREAMBLE:
            self._refuse(stream, StreamCode.UNKNOWN_TYPE)
        elif self._is_full():
            self._refuse(stream, StreamCode.REFUSED)
        else:
            self._emit(StreamOpened(number))
        self._streams[number] = stream
        return stream

    def _is_full(self) -> bool:
        if len(self._streams) >= MAX_STREAMS:
            return True
        live = sum(1 for stream in self._streams.values() if stream.by_peer and stream.inbound.is_live)
        return live >= MAX_PEER_STREAMS

    def _refuse(self, stream: Stream, code: StreamCode) -> None:
        self._transport.stop(stream.number, code)
        self._transport.reset(stream.number, code)
        stream.is_refused = True
        stream.inbound.discard()
        stream.outbound.abort()

    def _check_existed(self, number: int) -> None:
        if number & _BY_SERVER == self._own_parity and number >= self._next_number:
            raise StreamMisuse(f"there has never been a stream {number}")

    def _abort_outbound(self, stream: Stream) -> None:
        stream.outbound.abort()
        self._sending.pop(stream.number, None)
        self._emit(StreamWritable(stream.number))

    def _forget_if_over(self, stream: Stream) -> None:
        if stream.is_over and stream.number in self._streams:
            del self._streams[stream.number]
            if not stream.is_refused:
                self._emit(StreamClosed(stream.number))
