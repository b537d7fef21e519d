"""The streams of one session: which there are, what they may send, and what the application hears.

A stream is announced to the peer when it is opened, before anything is written, unless too many
are open: then it waits its turn. What is written waits here. `feed` hands the transport's pipe a
little more than it can send at once, stream after stream, so that a stream with much to say does
not keep the others waiting. Ours are numbered 2, 4, 6, ... on the client and 1, 3, 5, ... on the
server.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from peerway.core.machine import Event
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
from peerway.core.quic.frames import (
    APPLICATION,
    MAX_DATA_BYTES,
    CreditWanted,
    Data,
    Delivered,
    End,
    Frame,
    Grant,
    Open,
    Reset,
    Stop,
    StreamMessage,
    build,
    data_header,
)
from peerway.core.quic.stream import WHOLE_CHUNK_BYTES, InboundState, OutboundState, Stream
from peerway.core.quic.transport import StreamTransport

FEED_BYTES_LEAST = 32 << 10
FEED_BYTES_MOST = 512 << 10
TURN_BYTES = 16 << 10  # what a stream sends before it is another's turn
MAX_OPEN_STREAMS = 128  # ours that are not over; further ones wait to be announced
MAX_PEER_STREAMS = 256  # the peer's, with something unread or to come; further ones are refused
MAX_STREAMS = 4096  # in all, those included that only wait for `Delivered`
MAX_WAITING_STREAMS = 1024
MAX_MESSAGES = 16_384  # a peer that causes messages and takes none is cut off


class Streams:
    """The table. `emit` takes events for the owner."""

    def __init__(self, transport: StreamTransport, emit: Callable[[Event], None], *, is_client: bool) -> None:
        self._transport = transport
        self._emit = emit
        self._next_number = 2 if is_client else 1
        self._streams: dict[int, Stream] = {}
        self._open_of_ours = 0
        self._live_of_peer = 0
        self._pool = CreditPool()
        self._messages: dict[tuple[type[StreamMessage], int], StreamMessage] = {}
        self._sending: dict[int, Stream] = {}
        self._waiting: deque[Stream] = deque()
        self._appetite = FEED_BYTES_LEAST
        self._filled_to = 0

    def __len__(self) -> int:
        """How many streams are not quite over."""
        return len(self._streams)

    # --- for the application

    def open(self) -> int:
        """A new stream; `TooManyStreams` when too many are open or wait for their turn."""
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
        if inbound.state is InboundState.OPEN:
            granted = inbound.credit.consume(len(data))
            if granted is not None:
                self._tell(Grant(number, granted))
        self._account(stream)
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
            self._account(stream)

    def stop(self, number: int, code: int) -> None:
        """Give up reading; what is unread is dropped and the peer asked to send no more."""
        stream = self._streams.get(number)
        if stream is None:
            return
        if stream.inbound.state is InboundState.FINISHED:
            stream.inbound.over()
            self._account(stream)
        elif stream.inbound.state is InboundState.OPEN:
            stream.inbound.discard()
            self._tell_of(stream, Stop(number, code))

    # --- for the session: what came from the peer

    def received(self, frame: Frame) -> None:
        """The next frame; `PeerViolation` when it breaks the rules."""
        if isinstance(frame, Data):
            self._data(frame)
        elif isinstance(frame, Open):
            self._opened(frame)
        elif isinstance(frame, End | Reset):
            self._finished(frame)
        elif isinstance(frame, Stop):
            self._stop_requested(frame)
        elif isinstance(frame, Grant):
            self._granted(frame)
        elif isinstance(frame, CreditWanted):
            self._credit_wanted(frame)
        elif isinstance(frame, Delivered):
            self._delivered(frame)
        else:
            raise _violation("a message out of place")

    # --- for the session: what goes to the peer

    def feed(self) -> None:
        """Hand the transport what it can send now, and a little more. Call it again after it did.

        `PeerViolation` when the peer makes us say more and more and takes none of it.
        """
        if len(self._messages) > MAX_MESSAGES:
            raise PeerViolation(SessionCode.CONTROL_STALLED, "messages are not taken")
        while self._waiting and self._open_of_ours < MAX_OPEN_STREAMS:
            self._announce(self._waiting.popleft())
        backlog = self._transport.backlog()
        self._adapt(backlog)
        if backlog < FEED_BYTES_MOST:  # never less: bulk keeps as much as it likes before the transport
            self._send_messages()
        room = self._appetite - backlog
        while room > 0 and self._sending:
            number = next(iter(self._sending))
            stream = self._sending.pop(number)
            room -= self._send_some(stream, min(room, TURN_BYTES) if self._sending else room)
            self._want_to_send(stream)
        if room <= 0:
            self._filled_to = self._appetite - room

    def _adapt(self, backlog: int) -> None:
        """Feed twice what the transport took since it was filled last, more while it takes everything."""
        taken = self._filled_to - backlog
        if taken > 0:
            wanted = max(2 * taken, self._appetite // 2)
            self._appetite = min(max(wanted, FEED_BYTES_LEAST), FEED_BYTES_MOST)
            self._filled_to = backlog

    def _announce(self, stream: Stream) -> None:
        stream.is_announced = True
        self._open_of_ours += 1
        self._transport.send(build(Open(stream.number)))
        for message in stream.unannounced:
            self._tell(message)
        stream.unannounced.clear()
        self._want_to_send(stream)

    def _send_messages(self) -> None:
        if self._messages:
            self._transport.send(b"".join(build(message) for message in self._messages.values()))
            self._messages.clear()

    def _send_some(self, stream: Stream, limit: int) -> int:
        """A turn of `stream`: about `limit` bytes, and its end if that is all. Bytes that were sent."""
        outbound = stream.outbound
        room = limit = min(limit, outbound.credit.remaining)
        while room > 0 and outbound.queued:
            data = outbound.take(min(room, MAX_DATA_BYTES))
            room -= len(data)
            outbound.credit.spend(len(data))
            self._send_data(stream.number, data)
        if outbound.state is OutboundState.ENDING and not outbound.queued:
            outbound.state = OutboundState.SENT
            self._transport.send(build(End(stream.number)))
        if outbound.fell_short():
            self._emit(StreamWritable(stream.number))
        return limit - room

    def _send_data(self, number: int, data: bytes | memoryview) -> None:
        header = data_header(number, len(data))
        if len(data) < WHOLE_CHUNK_BYTES:
            self._transport.send(header + data)
        else:
            self._transport.send(header)
            self._transport.send(data)

    def _tell(self, message: StreamMessage) -> None:
        """A message for the peer; of several of a kind for a stream only the last is of use."""
        self._messages[type(message), message.stream] = message

    def _tell_of(self, stream: Stream, message: Reset | Stop) -> None:
        """The same for a stream the peer may not know of yet."""
        if stream.is_announced:
            self._tell(message)
        else:
            stream.unannounced.append(message)

    def _want_to_send(self, stream: Stream) -> None:
        outbound = stream.outbound
        if stream.is_announced and outbound.wants_to_send:
            if outbound.credit.remaining or not outbound.queued:
                self._sending[stream.number] = stream
            if outbound.credit.should_ask(outbound.queued):
                self._tell(CreditWanted(stream.number))

    # --- inside: frames

    def _data(self, frame: Data) -> None:
        if self._with_open_inbound(frame.stream).inbound.receive(frame.data):
            self._emit(StreamReadable(frame.stream))

    def _finished(self, frame: End | Reset) -> None:
        stream = self._with_open_inbound(frame.stream)
        inbound = stream.inbound
        was_open = inbound.state is InboundState.OPEN
        if isinstance(frame, Reset):
            inbound.over()
            if was_open:
                self._emit(StreamReset(frame.stream, frame.code))
        else:
            inbound.finish()
            self._tell(Delivered(frame.stream))
            if was_open and not inbound.unread:
                self._emit(StreamReadable(frame.stream))
        self._account(stream)

    def _with_open_inbound(self, number: int) -> Stream:
        stream = self._streams.get(number)
        if stream is None or stream.inbound.state in (InboundState.FINISHED, InboundState.OVER):
            raise _violation("something came for a stream that is not open")
        return stream

    def _opened(self, frame: Open) -> None:
        number = frame.stream
        if number % 2 == self._next_number % 2 or number in self._streams:
            raise _violation("a stream was opened under a number that is not free")
        stream = Stream(number, self._pool, by_peer=True)
        if frame.kind != APPLICATION:
            self._refuse(stream, StreamCode.UNKNOWN_TYPE)
        elif self._live_of_peer >= MAX_PEER_STREAMS or len(self._streams) >= MAX_STREAMS:
            self._refuse(stream, StreamCode.REFUSED)
        else:
            stream.is_live_of_peer = True
            self._live_of_peer += 1
            self._emit(StreamOpened(number))
        self._streams[number] = stream

    def _refuse(self, stream: Stream, code: StreamCode) -> None:
        if len(self._streams) >= 2 * MAX_STREAMS:
            raise _violation("streams are opened on and on")
        stream.is_refused = True
        stream.inbound.discard()
        stream.outbound.abort()
        self._tell(Stop(stream.number, code))
        self._tell(Reset(stream.number, code))

    def _stop_requested(self, frame: Stop) -> None:
        stream = self._streams.get(frame.stream)
        if stream is None or stream.outbound.state is OutboundState.OVER:
            return
        self._give_up_sending(stream, frame.code)
        self._emit(StreamStopped(stream.number, frame.code))
        self._account(stream)

    def _granted(self, frame: Grant) -> None:
        stream = self._streams.get(frame.stream)
        if stream is not None and stream.outbound.credit.raise_to(frame.limit):
            self._want_to_send(stream)

    def _credit_wanted(self, frame: CreditWanted) -> None:
        stream = self._streams.get(frame.stream)
        if stream is None or stream.inbound.state is not InboundState.OPEN:
            return
        limit = stream.inbound.credit.ask()
        if limit is not None:
            self._tell(Grant(frame.stream, limit))

    def _delivered(self, frame: Delivered) -> None:
        stream = self._streams.get(frame.stream)
        if stream is None or stream.outbound.state is OutboundState.OVER:
            return
        if stream.outbound.state is not OutboundState.SENT:
            raise _violation("a stream was confirmed before its end")
        stream.outbound.state = OutboundState.OVER
        self._emit(StreamWritable(frame.stream))
        self._account(stream)

    # --- inside: the end of a stream

    def _give_up_sending(self, stream: Stream, code: int) -> None:
        has_ended = stream.outbound.state is OutboundState.SENT
        stream.outbound.abort()
        self._sending.pop(stream.number, None)
        if not has_ended:
            self._tell_of(stream, Reset(stream.number, code))
        self._emit(StreamWritable(stream.number))

    def _account(self, stream: Stream) -> None:
        """A direction of the stream may be over: what is over counts no more."""
        if stream.is_live_of_peer and stream.inbound.state is InboundState.OVER:
            stream.is_live_of_peer = False
            self._live_of_peer -= 1
        if not stream.is_over or stream.number not in self._streams:
            return
        del self._streams[stream.number]
        if not stream.by_peer:
            self._open_of_ours -= 1
        if not stream.is_refused:
            self._emit(StreamClosed(stream.number))


def _violation(reason: str) -> PeerViolation:
    return PeerViolation(SessionCode.PROTOCOL_VIOLATION, reason)
