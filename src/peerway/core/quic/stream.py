"""One stream: what we write, what we read, and when each direction is over.

Outbound:  OPEN -> ENDING (write_eof) -> SENT (the end was handed over) -> OVER (the peer has it)
           any  -> OVER (reset by us, or stopped by the peer)
Inbound:   OPEN -> FINISHED (the end arrived, something is unread) -> OVER (all of it was read)
           OPEN -> DISCARDING (stopped by us) -> OVER (the end or a reset arrived)
           OPEN -> OVER (reset by the peer)
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

from peerway.core.quic.credit import CreditPool, ReceiveCredit, SendCredit
from peerway.core.quic.errors import StreamMisuse
from peerway.core.quic.frames import Reset, Stop

WHOLE_CHUNK_BYTES = 16 << 10  # chunks from this size up go without being joined with others
JOINED_BYTES = 64 << 10  # what small chunks are joined to
WRITABLE_BELOW = 256 << 10


class OutboundState(Enum):
    """Where our part of a stream stands."""

    OPEN = auto()
    ENDING = auto()
    SENT = auto()
    OVER = auto()


class InboundState(Enum):
    """Where the peer's part of a stream stands."""

    OPEN = auto()
    FINISHED = auto()
    DISCARDING = auto()
    OVER = auto()


class Outbound:
    """What we write: a queue that waits for credit and for room in the transport."""

    __slots__ = ("_chunks", "_offset", "credit", "queued", "state", "was_full")

    def __init__(self) -> None:
        self.state = OutboundState.OPEN
        self.credit = SendCredit()
        self.queued = 0
        self.was_full = False
        self._chunks: deque[bytes] = deque()
        self._offset = 0  # bytes of the first chunk that are gone already

    @property
    def wants_to_send(self) -> bool:
        """Whether there are bytes, or an end, that the transport has not got."""
        return self.queued > 0 or self.state is OutboundState.ENDING

    def write(self, data: bytes) -> bool:
        """Append; False when the stream is over and `data` is dropped."""
        if self.state is OutboundState.OVER:
            return False
        if self.state is not OutboundState.OPEN:
            raise StreamMisuse("write after write_eof")
        if data:
            self._chunks.append(data)
            self.queued += len(data)
            self.was_full = self.was_full or self.queued > WRITABLE_BELOW
        return True

    def end(self) -> None:
        """Nothing more will be written."""
        if self.state is OutboundState.OPEN:
            self.state = OutboundState.ENDING

    def abort(self) -> None:
        """What was not sent yet never will be."""
        self.state = OutboundState.OVER
        self._chunks.clear()
        self.queued = self._offset = 0

    def take(self, limit: int) -> bytes | memoryview:
        """The next bytes to send, at most `limit` and as many as are good to hand over at once."""
        first = self._chunks[0]
        rest = len(first) - self._offset
        if rest >= WHOLE_CHUNK_BYTES or rest >= limit or len(self._chunks) == 1:
            return self._take_from_first(first, rest, limit)
        return self._take_joined(min(limit, JOINED_BYTES))

    def _take_from_first(self, first: bytes, rest: int, limit: int) -> bytes | memoryview:
        start = self._offset
        if rest > limit:
            self._offset += limit
            self.queued -= limit
            return memoryview(first)[start : start + limit]
        self._chunks.popleft()
        self._offset = 0
        self.queued -= rest
        return memoryview(first)[start:] if start else first

    def _take_joined(self, limit: int) -> bytes:
        parts: list[bytes | memoryview] = []
        while limit and self._chunks:
            first = self._chunks[0]
            part = self._take_from_first(first, len(first) - self._offset, limit)
            limit -= len(part)
            parts.append(part)
        return b"".join(parts)

    def fell_short(self) -> bool:
        """Whether the queue has just become short after having been long."""
        if self.was_full and self.queued <= WRITABLE_BELOW:
            self.was_full = False
            return True
        return False


class Inbound:
    """What the peer writes: arrived and not read yet."""

    __slots__ = ("_chunks", "_offset", "credit", "state", "unread")

    def __init__(self, pool: CreditPool) -> None:
        self.state = InboundState.OPEN
        self.credit = ReceiveCredit(pool)
        self.unread = 0
        self._chunks: deque[bytes] = deque()
        self._offset = 0

    @property
    def at_eof(self) -> bool:
        """Whether nothing is left to read and nothing will come."""
        return not self.unread and self.state is not InboundState.OPEN

    def receive(self, data: bytes) -> bool:
        """Bytes arrived; True when there was nothing to read before and is now."""
        self.credit.receive(len(data))
        if not data or self.state is not InboundState.OPEN:
            return False
        self._chunks.append(data)
        self.unread += len(data)
        return self.unread == len(data)

    def finish(self) -> None:
        """The peer's end arrived, after everything before it."""
        if self.unread:
            self.state = InboundState.FINISHED
        else:
            self.over()

    def read(self, limit: int) -> bytes:
        """At most `limit` unread bytes; -1: all."""
        if limit < 0 or limit >= self.unread:
            data = self._read_all()
            if self.state is InboundState.FINISHED:
                self.over()
            return data
        parts: list[bytes | memoryview] = []
        self.unread -= limit
        while limit:
            first = self._chunks[0]
            part = memoryview(first)[self._offset : self._offset + limit]
            self._offset += len(part)
            limit -= len(part)
            parts.append(part)
            if self._offset == len(first):
                self._chunks.popleft()
                self._offset = 0
        return b"".join(parts)

    def _read_all(self) -> bytes:
        if self._offset:
            self._chunks[0] = self._chunks[0][self._offset :]
            self._offset = 0
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self.unread = 0
        return data

    def discard(self) -> None:
        """What is unread is dropped, and what still comes will be."""
        self._drop_unread()
        self.state = InboundState.DISCARDING

    def over(self) -> None:
        """Nothing more will be read; nothing more matters that comes."""
        self._drop_unread()
        self.state = InboundState.OVER
        self.credit.release()

    def _drop_unread(self) -> None:
        self._chunks.clear()
        self.unread = self._offset = 0


class Stream:
    """Both directions of a stream."""

    __slots__ = (
        "by_peer",
        "inbound",
        "is_announced",
        "is_live_of_peer",
        "is_refused",
        "number",
        "outbound",
        "unannounced",
    )

    def __init__(self, number: int, pool: CreditPool, *, by_peer: bool) -> None:
        self.number = number
        self.by_peer = by_peer
        self.is_announced = by_peer  # the peer knows of it
        self.is_refused = False  # the application never hears of it
        self.is_live_of_peer = False  # the peer may fill memory with it
        self.outbound = Outbound()
        self.inbound = Inbound(pool)
        self.unannounced: list[Reset | Stop] = []  # what to tell the peer once it knows of the stream

    @property
    def is_over(self) -> bool:
        """Whether both directions are."""
        return self.outbound.state is OutboundState.OVER and self.inbound.state is InboundState.OVER
