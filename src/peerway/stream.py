"""The two halves of a stream, in the shape asyncio's own have."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from peerway.errors import StreamResetError

if TYPE_CHECKING:
    from peerway.connection import Connection

HIGH_WATER = 1 << 20  # bytes written and still waiting here, above which drain() waits
READ_CHUNK = 1 << 18


class Wakeup:
    """Lets any number of tasks wait until something that concerns them has changed."""

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Until the next `wake`."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def wake(self) -> None:
        """Whoever waits goes on."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class StreamReader:
    """What the peer writes on a stream."""

    def __init__(self, connection: Connection, stream: int) -> None:
        self._connection = connection
        self._stream = stream
        self._buffer = b""
        self._eof = False
        self._reset: int | None = None
        self._readable = Wakeup()

    async def read(self, n: int = -1) -> bytes:
        """At most `n` bytes as soon as any are there; with -1 all until the end. Empty at the end.

        Raises `StreamResetError` when the peer gave the stream up, `ConnectionClosedError` when the
        connection ended before the stream did.
        """
        if n == 0:
            return b""
        if n > 0:
            return await self._some(n)
        parts = []
        while part := await self._some(READ_CHUNK):
            parts.append(part)
        return b"".join(parts)

    async def readexactly(self, n: int) -> bytes:
        """Exactly `n` bytes; `asyncio.IncompleteReadError` when the stream ends before."""
        parts: list[bytes] = []
        missing = n
        while missing:
            part = await self._some(missing)
            if not part:
                raise asyncio.IncompleteReadError(b"".join(parts), n)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def stop(self, code: int = 0) -> None:
        """Read no more: the peer's writer gets `StreamResetError` with `code`."""
        self._connection._stop(self._stream, code)
        self._was_reset(code)

    def at_eof(self) -> bool:
        """Whether everything the peer wrote has been read."""
        return not self._buffer and (self._eof or self._connection._at_eof(self._stream))

    async def _some(self, limit: int) -> bytes:
        while True:
            if self._buffer:
                data, self._buffer = self._buffer[:limit], self._buffer[limit:]
                return data
            if self._reset is not None:
                raise StreamResetError(self._reset)
            if self._eof:
                return b""
            self._connection._raise_if_closed()
            if data := self._connection._read(self._stream, limit):
                return data
            if self._connection._at_eof(self._stream):
                self._eof = True
                return b""
            await self._readable.wait()

    def _was_reset(self, code: int) -> None:
        self._reset = code
        self._readable.wake()

    def _absorb(self, data: bytes, eof: bool) -> None:
        """The connection is over: keep what had arrived."""
        self._buffer += data
        self._eof = self._eof or eof
        self._readable.wake()


class StreamWriter:
    """What we write on a stream."""

    def __init__(self, connection: Connection, stream: int) -> None:
        self._connection = connection
        self._stream = stream
        self._ended = False
        self._stopped: int | None = None
        self._writable = Wakeup()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue `data`. Follow it with `drain()`, or the queue grows without bound.

        Raises `StreamResetError` when the peer wants no more of it.
        """
        if self._ended:
            raise RuntimeError("write after write_eof")
        self._raise_if_over()
        self._connection._write(self._stream, bytes(data))

    async def drain(self) -> None:
        """Wait until the queue is short enough for more."""
        while self._connection._send_buffer_size(self._stream) > HIGH_WATER:
            await self._writable.wait()
        self._raise_if_over()

    def can_write_eof(self) -> bool:
        """True."""
        return True

    def write_eof(self) -> None:
        """Say that nothing more will be written; reading goes on."""
        if not self._ended:
            self._ended = True
            self._connection._write_eof(self._stream)

    def close(self) -> None:
        """The same as `write_eof`: the other direction is the peer's to end."""
        self.write_eof()

    def is_closing(self) -> bool:
        """Whether `write_eof` or `close` was called."""
        return self._ended

    async def wait_closed(self) -> None:
        """Wait until the peer has all that was written. Call `close` first."""
        while not self._connection._is_delivered(self._stream):
            self._raise_if_over()
            await self._writable.wait()

    def reset(self, code: int = 0) -> None:
        """Give the stream up; what was not sent yet is dropped and the peer gets `StreamResetError`."""
        self._ended = True
        self._connection._reset(self._stream, code)

    def _raise_if_over(self) -> None:
        if self._stopped is not None:
            raise StreamResetError(self._stopped)
        self._connection._raise_if_closed()

    def _was_stopped(self, code: int) -> None:
        self._stopped = code
        self._writable.wake()
