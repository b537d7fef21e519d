"""The streams of one session: which there are, what they may send, and what the application hears.

A stream is announced to the peer the moment it has a lane, before anything is written; without a
free lane it waits. What is written waits here, and is fed to the transport as far as the stream's
credit and a short backlog in the transport allow: bytes that wait here do not keep others waiting.
Ours are numbered 2, 4, 6, ... on the client and 1, 3, 5, ... on the server.
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
from peerway.core.quic.lane import (
    APPLICATION,
    DATA_HEADER_BYTES,
    MAX_DATA_BYTES,
    End,
    LaneItem,
    Open,
    Reset,
    Stop,
    build,
    data_header,
)
from peerway.core.quic.lanes import Lane, Lanes
from peerway.core.quic.stream import WHOLE_CHUNK_BYTES, InboundState, OutboundState, Stream
from peerway.core.quic.transport import StreamReceived, StreamTransport

BACKLOG_BYTES = 1 << 20  # what the transport is fed ahead of the network, shared by the streams
BACKLOG_BYTES_LEAST = 64 << 10  # a stream's share at least
MAX_PEER_STREAMS = 256  # the peer's, with something unread or to come; further ones are refused
MAX_STREAMS = 4096  # in all, those included that only wait for `Delivered`
MAX_WAITING_STREAMS = 1024  # opened while no lane was free


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
        self._next_number = 2 if is_client else 1
        self._lanes = Lanes(transport, is_client=is_client)
        self._streams: dict[int, Stream] = {}
        self._pool = CreditPool()
        self._sending: dict[int, Stream] = {}
        self._waiting: deque[Stream] = deque()
        self._early: int | None = EARLY_BYTES if is_client else None
        self._fresh = False
        self._refill_below = 0

    # --- for the application

    def open(self) -> int:
        """A new stream; `TooManyStreams` when too many are open or wait for a lane."""
        if len(self._streams) >= MAX_STREAMS or len(self._waiting) >= MAX_WAITING_STREAMS:
            raise TooManyStreams(
                f"{len(self._streams)} streams are open and {len(self._waiting)} wait: close some first"
            )
        stream = Stream(self._next_number, self._pool, by_peer=False)
        self._next_number += 2
        self._streams[stream.number] = stream
        self._waiting.append(stream)
        return stream.number

    def write(self, number: int, data: bytes) -> bool:
        """Queue `data`; False when the stream is over and it was dropped."""
        stream = self._streams.get(number)
        if stream is None:
            if number % 2 == self._next_number % 2 and number >= self._next_number:
                raise StreamMisuse(f"there has never been a stream {number}")
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
        return stream is None or stream.inbound.at_eof

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
        if stream is not None and stream.outbound.state is not OutboundState.OVER:
            self._give_up_sending(stream, code)
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
            stream.stop_code = code
            self._send_stop(stream)

    # --- for the session: what came from the peer

    def received(self, event: StreamReceived) -> None:
        """The next bytes of a lane; `WireError` when they break the rules."""
        lane = self._lanes.of(event.stream)
        for item in lane.reader.feed(event.data):
            self._handle(lane, item)

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
        limit = stream.inbound.credit.ask()
        if limit is not None:
            self._tell(Grant(message.stream, limit))

    def delivered(self, message: Delivered) -> None:
        """The peer has everything of a stream."""
        stream = self._streams.get(message.stream)
        if stream is None or stream.outbound.state is OutboundState.OVER:
            return
        if stream.outbound.state is not OutboundState.SENT:
            raise _violation("a stream was confirmed before its end")
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
        while self._waiting and self._lanes.is_one_free and (self._early is None or self._early > 0):
            self._announce(self._waiting.popleft())
        if not self._sending or (not self._fresh and self._transport.backlog() > self._refill_below):
            return
        self._fresh = False
        share = max(BACKLOG_BYTES // len(self._sending), BACKLOG_BYTES_LEAST)
        for stream in list(self._sending.values()):
            if stream.lane is not None:
                self._feed_one(stream, stream.lane, share)
        self._refill_below = self._transport.backlog() // 2

    def _announce(self, stream: Stream) -> None:
        stream.lane = self._lanes.take(stream)
        self._send(stream.lane, build(Open(stream.number)))
        if stream.reset_code is not None:
            self._finish_lane(stream, Reset(stream.reset_code))
        self._send_stop(stream)
        self._want_to_send(stream)

    def _feed_one(self, stream: Stream, lane: Lane, share: int) -> None:
        outbound = stream.outbound
        room = min(share - self._transport.backlog(lane.number), outbound.credit.remaining)
        if self._early is not None:
            room = min(room, self._early - DATA_HEADER_BYTES)
        while room > 0 and outbound.queued:
            data = outbound.take(min(room, MAX_DATA_BYTES))
            room -= len(data)
            outbound.credit.spend(len(data))
            self._send_data(lane, data)
        if outbound.state is OutboundState.ENDING and not outbound.queued:
            outbound.state = OutboundState.SENT
            self._finish_lane(stream, End())
        if outbound.credit.should_ask(outbound.queued):
            self._tell(CreditWanted(stream.number))
        if outbound.fell_short():
            self._emit(StreamWritable(stream.number))
        if not outbound.wants_to_send or not outbound.credit.remaining:
            del self._sending[stream.number]

    def _send_data(self, lane: Lane, data: bytes | memoryview) -> None:
        header = data_header(len(data))
        if len(data) < WHOLE_CHUNK_BYTES:
            self._send(lane, header + data)
        else:
            self._send(lane, header)
            self._send(lane, data)

    def _send(self, lane: Lane, data: bytes | memoryview) -> None:
        if self._early is not None:
            self._early -= len(data)
        self._transport.send(lane.number, data)

    def _finish_lane(self, stream: Stream, how: End | Reset) -> None:
        """The last of ours in the stream's lane; without a lane it goes when there is one."""
        if stream.lane is None:
            stream.reset_code = how.code if isinstance(how, Reset) else None
        elif not stream.lane.outbound_over:
            self._send(stream.lane, build(how))
            stream.lane.outbound_over = True
            self._leave_if_over(stream, stream.lane)

    def _send_stop(self, stream: Stream) -> None:
        if stream.lane is not None and stream.stop_code is not None:
            self._send(stream.lane, build(Stop(stream.number, stream.stop_code)))

    def _want_to_send(self, stream: Stream) -> None:
        outbound = stream.outbound
        if stream.lane is not None and outbound.wants_to_send:
            if outbound.credit.remaining or not outbound.queued:
                self._sending[stream.number] = stream
                self._fresh = True
            elif outbound.credit.should_ask(outbound.queued):
                self._tell(CreditWanted(stream.number))

    # --- inside: what came in a lane

    def _handle(self, lane: Lane, item: LaneItem) -> None:
        stream = lane.stream
        if isinstance(item, Open):
            self._opened(lane, item)
        elif isinstance(item, Stop):
            self._stop_requested(item)
        elif stream is None or lane.inbound_over:
            raise _violation("something came in a lane outside a stream")
        elif isinstance(item, bytes):
            if stream.inbound.receive(item):
                self._emit(StreamReadable(stream.number))
        else:
            lane.inbound_over = True
            if isinstance(item, End):
                self._ended(stream)
            else:
                self._was_reset(stream, item.code)
            self._leave_if_over(stream, lane)
            self._forget_if_over(stream)

    def _opened(self, lane: Lane, item: Open) -> None:
        is_theirs = item.number % 2 != self._next_number % 2
        if lane.is_ours or lane.stream is not None or not is_theirs or item.number in self._streams:
            raise _violation("a stream was opened where there is one")
        stream = Stream(item.number, self._pool, by_peer=True)
        stream.lane = lane
        lane.occupy(stream)
        if item.kind != APPLICATION:
            self._refuse(stream, StreamCode.UNKNOWN_TYPE)
        elif self._is_full():
            self._refuse(stream, StreamCode.REFUSED)
        else:
            self._emit(StreamOpened(stream.number))
        self._streams[stream.number] = stream

    def _is_full(self) -> bool:
        if len(self._streams) >= MAX_STREAMS:
            return True
        return sum(stream.is_peers_and_live for stream in self._streams.values()) >= MAX_PEER_STREAMS

    def _refuse(self, stream: Stream, code: StreamCode) -> None:
        stream.is_refused = True
        stream.inbound.discard()
        stream.outbound.abort()
        stream.stop_code = code
        self._send_stop(stream)
        self._finish_lane(stream, Reset(code))

    def _ended(self, stream: Stream) -> None:
        was_open = stream.inbound.state is InboundState.OPEN
        stream.inbound.finish()
        self._tell(Delivered(stream.number))
        if was_open and not stream.inbound.unread:
            self._emit(StreamReadable(stream.number))

    def _was_reset(self, stream: Stream, code: int) -> None:
        was_open = stream.inbound.state is InboundState.OPEN
        stream.inbound.over()
        if was_open:
            self._emit(StreamReset(stream.number, code))

    def _stop_requested(self, item: Stop) -> None:
        stream = self._streams.get(item.number)
        if stream is None or stream.outbound.state is OutboundState.OVER:
            return
        self._give_up_sending(stream, item.code)
        self._emit(StreamStopped(stream.number, item.code))
        self._forget_if_over(stream)

    # --- inside: the end of a stream

    def _give_up_sending(self, stream: Stream, code: int) -> None:
        stream.outbound.abort()
        self._sending.pop(stream.number, None)
        self._finish_lane(stream, Reset(code))
        self._emit(StreamWritable(stream.number))

    def _leave_if_over(self, stream: Stream, lane: Lane) -> None:
        self._lanes.free_if_over(lane)
        if lane.stream is not stream:
            stream.lane = None

    def _forget_if_over(self, stream: Stream) -> None:
        if stream.is_over and stream.number in self._streams:
            del self._streams[stream.number]
            if not stream.is_refused:
                self._emit(StreamClosed(stream.number))


def _violation(reason: str) -> PeerViolation:
    return PeerViolation(SessionCode.PROTOCOL_VIOLATION, reason)
