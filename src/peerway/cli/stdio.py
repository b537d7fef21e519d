"""stdin and stdout as byte streams that never hold up the event loop.

Each has a thread of its own that does blocking reads or writes. So terminals, pipes, files
and `/dev/null` all behave alike, and no descriptor is switched to non-blocking: that flag
is shared with the shell and with stderr, and would outlive us. The threads are daemons: one
that is stuck in the kernel does not keep the program from ending.
"""

from __future__ import annotations

import asyncio
import os
import queue
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from peerway.cli.errors import CommandError, cannot_write
from peerway.io.state import reason

CHUNK = 256 * 1024  # bytes read at once
CHUNKS_AHEAD = 4  # read from stdin before anyone asked for them
PENDING_LIMIT = 1024 * 1024  # bytes accepted for stdout and not yet written


class Source(Protocol):
    """Where bytes come from; b"" is the end."""

    async def read(self) -> bytes: ...


class Sink(Protocol):
    """Where bytes go; `flush` returns when all of them are there."""

    async def write(self, data: bytes) -> None: ...
    async def flush(self) -> None: ...


class Stdin:
    """Reads a descriptor from a thread, from the first `read` on. Cancelling `read` loses nothing."""

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._chunks: deque[bytes] = deque()
        self._error: CommandError | None = None
        self._arrived = asyncio.Event()
        self._permits = threading.Semaphore(CHUNKS_AHEAD)
        self._thread: threading.Thread | None = None

    def is_terminal(self) -> bool:
        """Whether a person types here."""
        return os.isatty(self._descriptor)

    async def read(self) -> bytes:
        """The next bytes, b"" at the end and ever after; `CommandError` when they cannot be read."""
        self._start()
        while not self._chunks:
            if self._error is not None:
                raise self._error
            self._arrived.clear()
            await self._arrived.wait()
        if not self._chunks[0]:
            return b""
        self._permits.release()
        return self._chunks.popleft()

    def _start(self) -> None:
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._pump, args=(loop,), name="stdin", daemon=True)
            self._thread.start()

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            self._permits.acquire()
            try:
                data = _read_some(self._descriptor)
            except OSError as error:
                _tell(loop, self._failed, error)
                return
            _tell(loop, self._deliver, data)
            if not data:
                return

    def _deliver(self, data: bytes) -> None:
        self._chunks.append(data)
        self._arrived.set()

    def _failed(self, error: OSError) -> None:
        self._error = CommandError(f"cannot read stdin: {reason(error)}")
        self._arrived.set()


class Stdout:
    """Writes to a descriptor from a thread, in order, with at most `PENDING_LIMIT` bytes waiting."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._pending = 0
        self._error: CommandError | None = None
        self._progress = asyncio.Event()
        self._thread: threading.Thread | None = None

    async def write(self, data: bytes) -> None:
        """Accept `data`, and wait while too much is pending; `CommandError` when it cannot be written."""
        self._raise_error()
        self.put(data)
        await self._until(PENDING_LIMIT)

    def put(self, data: bytes) -> None:
        """Accept a few bytes without waiting; what becomes of them shows in `write` and `flush`."""
        if data:
            self._start()
            self._pending += len(data)
            self._orders.put(data)

    async def flush(self) -> None:
        """Wait until everything is written; `CommandError` when it could not be."""
        await self._until(0)

    async def _until(self, limit: int) -> None:
        while self._pending > limit and self._error is None:
            self._progress.clear()
            await self._progress.wait()
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _start(self) -> None:
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._pump, args=(loop,), name="stdout", daemon=True)
            self._thread.start()

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            data = self._orders.get()
            try:
                _write_all(self._descriptor, data)
            except OSError as error:
                _tell(loop, self._failed, error)
                return
            _tell(loop, self._written, len(data))

    def _written(self, count: int) -> None:
        self._pending -= count
        self._progress.set()

    def _failed(self, error: OSError) -> None:
        self._error = cannot_write(error)
        self._progress.set()


def _read_some(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, CHUNK)
        except BlockingIOError:  # whoever started us left it non-blocking
            select.select([descriptor], [], [])


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object) -> None:
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        pass  # the loop has ended: nobody is left to tell
