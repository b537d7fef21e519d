"""What every end of a measured transfer is told, and how it tells its part.

An end is a program, `python -m tests.bench.ends.NAME TASK`, with its task as JSON. A listener says
where it can be reached (`Ready`), a dialler how soon it met it (`Met`). One of the two sends; each
measures from its own first byte on and says what came of it (`Measured`), then goes on until killed.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Callable, Coroutine

import msgspec

PORT = 4444  # what the router forwards to the receiver, for peers that cannot find a way themselves
CHUNK = 256 * 1024  # written, and read, at once
QUEUED_BYTES = 1024 * 1024  # kept waiting for the transport where nothing says when it wants more


class Task(msgspec.Struct, frozen=True):
    """Listen, or dial `to` (which a listener was `Ready` with), and measure for so many seconds.

    `public_ip` is the address at which a router forwards `PORT` to the listener.
    """

    seconds: float
    public_ip: str
    relays: tuple[str, ...]
    stun: tuple[str, ...]
    to: str = ""
    connections: int = 1
    streams_a_second: int = 0
    loop: str = "asyncio"


class Word(msgspec.Struct, frozen=True):
    """Something an end says, as a line of JSON."""


class Ready(Word, frozen=True, tag="ready"):
    """A listener can be reached."""

    at: str


class Measured(Word, frozen=True, tag="measured"):
    """Bytes sent, or received, in seconds, and what the processor spent in program and system on them."""

    sent: bool
    size: int
    seconds: float
    user: float
    system: float

    @property
    def gigabits(self) -> float:
        """Gb/s."""
        return 8e-9 * self.size / self.seconds


class Met(Word, frozen=True, tag="met"):
    """Milliseconds from the dial to the first byte echoed; to the direct path, where there was another."""

    first_byte_ms: float
    direct_ms: float | None = None


class Answered(Word, frozen=True, tag="answered"):
    """Round trips of small streams, in milliseconds in the order of their beginning; `behind` how long
    after its time the last one began."""

    round_trips_ms: tuple[float, ...]
    behind_ms: float


_DECODER = msgspec.json.Decoder(Ready | Measured | Met | Answered)


def tell(word: Word) -> None:
    """Say it on stdout."""
    sys.stdout.buffer.write(msgspec.json.encode(word) + b"\n")
    sys.stdout.buffer.flush()


def heard(line: str) -> Word | None:
    """What a line of an end's output says; None for anything else."""
    try:
        return _DECODER.decode(line)
    except msgspec.DecodeError:
        return None


def task() -> Task:
    """What this program was told to do."""
    return msgspec.json.decode(sys.argv[1], type=Task)


def run(main: Coroutine[None, None, None]) -> None:
    """Run a coroutine on the task's loop."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if task().loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


class Meter:
    """Counts bytes from the first on, and tells once, after `seconds`, what it came to."""

    def __init__(self, seconds: float, *, sent: bool) -> None:
        self._sent = sent
        self._seconds = seconds
        self._size = 0
        self._begun = 0.0
        self._used = (0.0, 0.0)
        self.done = False

    def count(self, size: int) -> None:
        """`size` more bytes went by."""
        now = time.monotonic()
        if not self._begun:
            self._begun, self._used = now, _processor()
            return
        self._size += size
        if now - self._begun >= self._seconds and not self.done:
            self.done = True
            user, system = _processor()
            before_user, before_system = self._used
            spent = user - before_user, system - before_system
            tell(Measured(self._sent, self._size, now - self._begun, *spent))


def _processor() -> tuple[float, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime, used.ru_stime


class Stopwatch:
    """Milliseconds since it was made."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    @property
    def milliseconds(self) -> float:
        """So far."""
        return 1000 * (time.monotonic() - self._begun)
