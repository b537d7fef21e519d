"""Turns the bytes of a fuzzer into choices: what to do next, and with what.

Every choice takes its bytes from the front, and an input that has run out gives zeros. So a changed
byte changes one choice and leaves the others as they were, which is what makes mutation fruitful.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

JUMPS_S = (0.0, 0.001, 0.02, 0.1, 0.25, 0.6, 1.0, 2.5, 5.0, 12.0, 31.0, 61.0, 130.0, 900.0, 7300.0, 1e6)
MAX_STEPS = 400  # of one input, so that none takes long


class Choices:
    """What `data` decides."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether anything is left to decide by."""
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """The next `size` bytes, as far as there are any."""
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes, zeros where there are no more."""
        return self.take(size).ljust(size, b"\0")

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))

    def number(self, size: int = 1) -> int:
        """An unsigned number of `size` bytes."""
        return int.from_bytes(self.exactly(size), "big")

    def flag(self) -> bool:
        """Yes or no."""
        return bool(self.number() & 1)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.number() % len(options)]

    def piece(self, most: int = 2048) -> bytes:
        """Some bytes, their number first."""
        return self.take(self.number(2) % (most + 1))

    def text(self, most: int = 64) -> str:
        """Some text."""
        return self.take(self.number() % (most + 1)).decode("utf-8", "replace")

    def jump(self) -> float:
        """Seconds that pass: none, a round trip, a timeout, a night."""
        return self.pick(JUMPS_S)

    def steps(self) -> Iterator[int]:
        """A number for each thing to do, until nothing is left."""
        for _ in range(MAX_STEPS):
            if not self:
                return
            yield self.number()


def pieces(data: bytes, by: bytes) -> Iterator[bytes]:
    """`data` as it may arrive by a stream: cut after as many bytes as each byte of `by` says, in turn."""
    at, turn = 0, 0
    while at < len(data):
        size = (by[turn % len(by)] if by else 0) or len(data)
        yield data[at : at + size]
        at, turn = at + size, turn + 1
