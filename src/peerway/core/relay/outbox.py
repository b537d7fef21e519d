"""What waits for a stream that takes no more bytes just now.

Bounded, and the oldest goes first when it is full: a slow reader then gets fresh packets, and the
delay it sees stays bounded too.
"""

from __future__ import annotations

from collections import deque

MAX_FRAMES = 512
MAX_BYTES = 1 << 20


class Outbox:
    """A queue of whole frames, at most `max_frames` and `max_bytes` of them."""

    __slots__ = ("_frames", "_max_bytes", "_max_frames", "_size")

    def __init__(self, max_frames: int = MAX_FRAMES, max_bytes: int = MAX_BYTES) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._frames: deque[bytes] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._frames)

    def push(self, frame: bytes) -> int:
        """Add a frame; returns how many frames at the head were dropped to make room."""
        self._frames.append(frame)
        self._size += len(frame)
        dropped = 0
        while len(self._frames) > self._max_frames or self._size > self._max_bytes:
            self._size -= len(self._frames.popleft())
            dropped += 1
        return dropped

    def take(self) -> bytes:
        """Everything, back to back; the queue is empty afterwards."""
        waiting = b"".join(self._frames)
        self.clear()
        return waiting

    def clear(self) -> None:
        """Forget everything."""
        self._frames.clear()
        self._size = 0
