"""Runs a function for many numbers in processes of their own, and outlives what becomes of these.

Each process is given a few numbers at a time and sends back each result as it has it. So it is
known which number a process was at when it died or took too long: that one is `Lost`, and a new
process goes on with the rest.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

CHUNK = 8
START_LIMIT_S = 120.0  # for a process to be up

Value = TypeVar("Value")
Task = Callable[[int], Value]


@dataclass(frozen=True, slots=True)
class Done(Generic[Value]):
    """What the function made of a number."""

    number: int
    value: Value


@dataclass(frozen=True, slots=True)
class Lost:
    """A number for which nothing came back, and why."""

    number: int
    reason: str


def run_many(
    task: Task[Value], numbers: Iterable[int], jobs: int, limit_s: float
) -> Generator[Done[Value] | Lost]:
    """`task` of each number, as they get done: `jobs` at a time, each within `limit_s` seconds or lost.

    `task` is a function at the top of a module, or a `functools.partial` of one. To stop early close
    the iterator; no process is left.
    """
    source = iter(numbers)
    workers = [_Worker(task, limit_s) for _ in range(jobs)]
    try:
        while True:
            for worker in workers:
                worker.feed(source)
            busy = {worker.connection: worker for worker in workers if worker.pending}
            if not busy:
                return
            patience = min(worker.late_at for worker in busy.values()) - time.monotonic()
            for connection in wait(list(busy), max(patience, 0.0)):
                assert isinstance(connection, Connection)
                if (result := busy[connection].next_result()) is not None:
                    yield result
            for worker in busy.values():
                if worker.is_late:
                    yield worker.give_up(f"took more than {limit_s:.0f} s")
    finally:
        for worker in workers:
            worker.stop()


@dataclass(slots=True)
class _Worker(Generic[Value]):
    """A process, the numbers it has not answered for, and since when it is at the first of them."""

    task: Task[Value]
    limit_s: float
    pending: deque[int] = field(default_factory=deque)
    since: float = 0.0
    is_up: bool = False
    process: BaseProcess | None = None
    connection: Connection = field(init=False)

    def feed(self, source: Iterator[int]) -> None:
        """Take more numbers when there are none left to do."""
        if not self.pending:
            self.pending.extend(islice(source, CHUNK))
            self._send()

    @property
    def late_at(self) -> float:
        """When the process has taken too long."""
        return self.since + (self.limit_s if self.is_up else START_LIMIT_S)

    def next_result(self) -> Done[Value] | Lost | None:
        """What came from the process: a result, that it died, or None when it is but up."""
        try:
            value, error = self.connection.recv()
        except (EOFError, OSError):
            return self.give_up("its process died")
        self.since = time.monotonic()
        if not self.is_up:
            self.is_up = True
            return None
        number = self.pending.popleft()
        return Lost(number, error) if error else Done(number, value)

    @property
    def is_late(self) -> bool:
        """Whether something has been expected of the process for too long."""
        return bool(self.pending) and time.monotonic() > self.late_at and not self.connection.poll()

    def give_up(self, reason: str) -> Lost:
        """The number it is at is lost; a new process goes on with the rest."""
        self.stop()
        number = self.pending.popleft()
        self._send()
        return Lost(number, reason)

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None
            self.is_up = False
            self.connection.close()

    def _send(self) -> None:
        if self.pending:
            if self.process is None:
                self._start()
            self.since = time.monotonic()
            with contextlib.suppress(OSError):  # it is dead: that is noticed when its answer is read
                self.connection.send(list(self.pending))

    def _start(self) -> None:
        # not forked: the same everywhere, and nobody else holds our end of the pipe when we die
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, self.task), daemon=True)
        with _deaf_to_interrupts():
            self.process.start()
        theirs.close()


def _work(connection: Connection, task: Task[Value]) -> None:
    with contextlib.suppress(EOFError, OSError):
        connection.send((None, ""))
        while True:
            for number in connection.recv():
                try:
                    connection.send((task(number), ""))
                except Exception as error:  # noqa: BLE001 whoever asked is told
                    connection.send((None, f"{type(error).__name__}: {error}"))


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What is started meanwhile never hears of Ctrl-C: that is for us, who end it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
