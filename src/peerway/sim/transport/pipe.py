"""A reliable, ordered pipe of bytes over numbered packets, which may be lost, reordered or repeated.

What is written is cut once, into chunks of at most a packet, when it may go; a chunk whose packet
was lost goes again in a packet of its own. An acknowledgement names the largest number that
arrived and then, downwards, the lengths of the runs that arrived and that are missing in turn.
It goes with whatever else goes, or after 25 ms, or at once when two packets wait for it or one
is missing. Nothing is sent when nothing is outstanding.
"""

from __future__ import annotations

import struct
from collections import deque

from peerway.sim.transport.recovery import MAX_ACK_DELAY_S, Recovery

MAX_SPAN_BYTES = 8 << 20  # from the oldest byte the peer is not known to have: what it may have to keep
REPLAY_NUMBERS = 4096  # as many as probes allow: what came over a relay may be so much later

_ELICITS, _HAS_ACK, _HAS_DATA = 1, 2, 4
_ACK = struct.Struct(">I16H")
_REPLAY_MASK = (1 << REPLAY_NUMBERS) - 1
_RUNS = 16
_OFFSET = struct.Struct(">Q")


class Arrivals:
    """The packet numbers that arrived: each is taken once, and one too old to tell is not taken."""

    def __init__(self) -> None:
        self.largest = -1
        self._bits = 0  # bit n: `largest` - n

    def take(self, number: int) -> bool:
        """Note that `number` arrived; False when it did before."""
        ahead = number - self.largest
        if ahead > 0:
            shifted = self._bits << ahead if ahead < REPLAY_NUMBERS else 0
            self._bits = (shifted | 1) & _REPLAY_MASK
            self.largest = number
            return True
        bit = 1 << -ahead
        if ahead <= -REPLAY_NUMBERS or self._bits & bit:
            return False
        self._bits |= bit
        return True

    def build(self) -> bytes:
        """The acknowledgement."""
        rest = self._bits
        runs: list[int] = []
        while rest and len(runs) < _RUNS:
            arrived = (rest + 1 & ~rest).bit_length() - 1
            rest >>= arrived
            missing = (rest & -rest).bit_length() - 1 if rest else 0
            rest >>= missing
            runs += arrived, missing
        return _ACK.pack(self.largest, *runs, *[0] * (_RUNS - len(runs)))


def parse(ack: bytes) -> tuple[int, int]:
    """The largest number that arrived, and n less than it did where bit n is set."""
    largest, *runs = _ACK.unpack(ack)
    bits = at = 0
    for arrived, missing in zip(runs[::2], runs[1::2], strict=True):
        bits |= (1 << arrived) - 1 << at
        at += arrived + missing
    return largest, bits


class Pipe:
    """One end: `write` and `poll` for what goes, `receive` for what comes; bodies of at most `room` bytes."""

    def __init__(self, room: int) -> None:
        self.recovery = Recovery()
        self._room = room
        self._next_number = 0
        self._waiting = bytearray()
        self._cut_to = 0
        self._outstanding: dict[int, bytes] = {}  # chunks by offset, and so in order
        self._again: deque[int] = deque()
        self._probe = False
        self._arrivals = Arrivals()
        self._ack_at: float | None = None
        self._taken = 0
        self._early: dict[int, bytes] = {}

    @property
    def backlog(self) -> int:
        """Bytes that were never in a packet."""
        return len(self._waiting)

    def write(self, data: bytes | memoryview) -> None:
        """Append to what goes to the peer."""
        self._waiting += data

    def ping(self) -> None:
        """Send something that must be acknowledged, whatever the window and the back-off say."""
        self.recovery.end_back_off()
        self._probe = True

    def deadline(self) -> float | None:
        """When to call `handle_timeout`."""
        recovery = self.recovery.deadline()
        if recovery is None or self._ack_at is None:
            return self._ack_at if recovery is None else recovery
        return min(recovery, self._ack_at)

    def handle_timeout(self, now: float) -> None:
        """Look for what is lost. `poll` sends what follows from it, and an acknowledgement that is due."""
        at = self.recovery.deadline()
        if at is not None and at <= now:
            lost, is_silent = self.recovery.timed_out(now)
            self._again.extend(lost)
            self._probe |= is_silent

    # --- to the peer

    def poll(self, now: float) -> tuple[int, bytes] | None:
        """The number and the body of the next packet that may go now."""
        chunk = self._next_chunk()
        elicits = chunk is not None or self._probe
        if not elicits and (self._ack_at is None or self._ack_at > now):
            return None
        flags, ack, data = int(elicits), b"", b""
        if chunk is not None:
            flags |= _HAS_DATA
            data = _OFFSET.pack(chunk) + self._outstanding[chunk]
        if self._ack_at is not None and len(data) < self._room - _ACK.size:
            flags |= _HAS_ACK
            ack = self._arrivals.build()
            self._ack_at = None
        body = bytes((flags,)) + ack + data
        number = self.take_number()
        if elicits:
            self._probe = False
            self.recovery.sent(number, len(body), chunk, now)
        return number, body

    def take_number(self) -> int:
        """A number for a packet."""
        self._next_number += 1
        return self._next_number - 1

    def _next_chunk(self) -> int | None:
        """The offset of the chunk to send: a lost one, for a probe the oldest one, or a new one."""
        if not self._probe and not self.recovery.has_room:
            return None
        while self._again:
            offset = self._again.popleft()
            if offset in self._outstanding:
                return offset
        oldest = next(iter(self._outstanding), None)
        if self._probe and oldest is not None:
            return oldest
        if not self._waiting or (oldest is not None and self._cut_to - oldest > MAX_SPAN_BYTES):
            return None
        return self._cut()

    def _cut(self) -> int:
        size = self._room - 1 - _OFFSET.size - (_ACK.size if self._ack_at is not None else 0)
        chunk, offset = bytes(self._waiting[:size]), self._cut_to
        del self._waiting[:size]
        self._outstanding[offset] = chunk
        self._cut_to += len(chunk)
        return offset

    # --- from the peer

    def receive(self, number: int, body: bytes, now: float) -> bytes | None:
        """Take in an authentic packet. The next bytes of the pipe; None when it came before."""
        is_next = number == self._arrivals.largest + 1
        if not self._arrivals.take(number):
            return None
        flags, at = body[0], 1
        if flags & _HAS_ACK:
            at += _ACK.size
            self._acknowledged(body[1:at], now)
        if flags & _ELICITS:
            is_urgent = self._ack_at is not None or not is_next
            self._ack_at = now if is_urgent else now + MAX_ACK_DELAY_S
        if not flags & _HAS_DATA:
            return b""
        (offset,) = _OFFSET.unpack_from(body, at)
        return self._take(offset, body[at + _OFFSET.size :])

    def _acknowledged(self, ack: bytes, now: float) -> None:
        largest, arrived = parse(ack)
        delivered, lost = self.recovery.acknowledged(largest, arrived, now)
        for offset in delivered:
            self._outstanding.pop(offset, None)
        self._again.extend(lost)

    def _take(self, offset: int, chunk: bytes) -> bytes:
        if offset < self._taken:
            return b""
        self._early[offset] = chunk
        pieces = []
        while (piece := self._early.pop(self._taken, None)) is not None:
            pieces.append(piece)
            self._taken += len(piece)
        return b"".join(pieces)
