"""How far a sender may run ahead of its reader, stream by stream.

All streams share a pipe that must never be held up by one, and qh3 opens QUIC's windows as packets
arrive, read or not. So each stream has a credit of its own: the receiver grants offsets as the
application reads, and a sender never goes beyond. A stream starts with `INITIAL_CREDIT` on both
sides, without a message. A sender that is held up says so (`CreditWanted`); a receiver whose
application reads and keeps up then widens the window, drawing on a pool the connection has for
that. Windows never shrink while a stream lasts.
"""

from __future__ import annotations

from peerway.core.quic.errors import PeerViolation, SessionCode

INITIAL_CREDIT = 256 << 10
MAX_WINDOW = 16 << 20  # 1.3 Gb/s over a round trip of 100 ms
WINDOW_GROWTH = 4
POOL_BYTES = 64 << 20  # what all windows of a connection may have beyond INITIAL_CREDIT, together
GRANT_FRACTION = 4  # a grant goes when a quarter of the window was read
ASK_BELOW = INITIAL_CREDIT // 2


class CreditPool:
    """What windows may still grow by."""

    def __init__(self, size: int = POOL_BYTES) -> None:
        self.free = size

    def take(self, wanted: int) -> int:
        """As much of `wanted` as there is."""
        taken = min(wanted, self.free)
        self.free -= taken
        return taken

    def give_back(self, taken: int) -> None:
        """What a finished stream does not need any more."""
        self.free += taken


class SendCredit:
    """What we may still send on a stream."""

    __slots__ = ("_asked_at", "limit", "sent")

    def __init__(self) -> None:
        self.limit = INITIAL_CREDIT
        self.sent = 0
        self._asked_at = 0

    @property
    def remaining(self) -> int:
        """Bytes that may be sent now."""
        return self.limit - self.sent

    def spend(self, size: int) -> None:
        """`size` bytes were sent."""
        self.sent += size

    def raise_to(self, limit: int) -> bool:
        """A grant came; whether it changes anything (an old or repeated one does not)."""
        if limit <= self.limit:
            return False
        self.limit = limit
        return True

    def should_ask(self, queued: int) -> bool:
        """Whether to tell the receiver that `queued` more bytes want to go. Once per limit."""
        if queued <= self.remaining or self.remaining > ASK_BELOW or self._asked_at == self.limit:
            return False
        self._asked_at = self.limit
        return True


class ReceiveCredit:
    """What the peer may send on a stream, and has."""

    __slots__ = ("_asked", "_granted", "_pool", "_read_since_widened", "consumed", "received", "window")

    def __init__(self, pool: CreditPool) -> None:
        self.window = INITIAL_CREDIT
        self.received = 0
        self.consumed = 0
        self._granted = INITIAL_CREDIT
        self._pool = pool
        self._asked = False
        self._read_since_widened = 0

    def receive(self, size: int) -> None:
        """`size` bytes arrived; `PeerViolation` when they are more than was granted."""
        self.received += size
        if self.received > self._granted:
            raise PeerViolation(
                SessionCode.CREDIT_EXCEEDED,
                f"{self.received} bytes were sent on a stream that had credit for {self._granted}",
            )

    def consume(self, size: int) -> int | None:
        """The application read `size` bytes; the new limit to grant, if it is time for one."""
        self.consumed += size
        self._read_since_widened += size
        if self._widened() or self.consumed + self.window - self._granted >= self.window // GRANT_FRACTION:
            return self._grant()
        return None

    def ask(self) -> int | None:
        """The peer is held up; the new limit to grant, None while the application does not keep up."""
        self._asked = True
        return self._grant() if self._widened() else None

    def _widened(self) -> bool:
        """Widen the window if the peer asked for it and the application reads as fast as it fills."""
        reads = self._read_since_widened >= self.window // GRANT_FRACTION
        unread = self.received - self.consumed
        if not self._asked or not reads or unread > self.window // 2 or self.window >= MAX_WINDOW:
            return False
        taken = self._pool.take(min(self.window * WINDOW_GROWTH, MAX_WINDOW) - self.window)
        self.window += taken
        self._asked = False
        self._read_since_widened = 0
        return taken > 0

    def release(self) -> None:
        """Nothing more will come: what the window had beyond the first credit goes back."""
        self._pool.give_back(self.window - INITIAL_CREDIT)
        self.window = INITIAL_CREDIT

    def _grant(self) -> int:
        self._granted = self.consumed + self.window
        return self._granted
