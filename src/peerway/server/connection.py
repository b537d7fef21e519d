"""One accepted TCP connection of the relay.

    OPENING (TLS handshake) -> OPEN -> LINGERING (either closed) -> GONE (`lost` is told, always and once)

Closing with unread bytes in the socket would make the kernel send a reset, which can destroy what we
wrote last (why we close, when to come back) before the client reads it. So we close our direction,
drop what still comes, and wait a little for the client to close its own.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol, cast

WRITE_BUFFER_BYTES = 256 << 10  # waiting in our process before the stream counts as paused
LINGER_S = 2.0  # for the client to close its direction once we closed ours
KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 15
KEEPALIVE_PROBES = 4
UNACKNOWLEDGED_LIMIT_MS = 60_000  # then TCP gives the client up: what is sent to it goes nowhere
TLS_HANDSHAKE_LIMIT_S = 60.0  # the machine's own limit on handshakes comes first


class ConnectionOwner(Protocol):
    """Who is told what happens to connections, by the names of their streams."""

    read_buffer: memoryview
    tls: ssl.SSLContext | None

    def received(self, stream: str, size: int) -> None: ...
    def paused(self, stream: str) -> None: ...
    def resumed(self, stream: str) -> None: ...
    def ended(self, stream: str) -> None: ...
    def lost(self, stream: str, error: str) -> None: ...


class RelayConnection(asyncio.BufferedProtocol):
    """A connection just accepted; opening it starts at once. Must be made on a running loop."""

    def __init__(self, stream: str, sock: socket.socket, owner: ConnectionOwner) -> None:
        self.stream = stream
        self._sock = sock
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._finished = False
        self._linger: asyncio.TimerHandle | None = None
        self._opening = self._loop.create_task(self._open(), name=f"relay open {stream}")

    def write(self, chunks: Sequence[bytes]) -> None:
        """Send the chunks, in order."""
        if self._transport is None or self._finished:
            return
        if self._owner.tls is not None and len(chunks) > 1:
            self._transport.write(b"".join(chunks))  # each write is a TLS record at least
        else:
            self._transport.writelines(chunks)

    @property
    def is_leaving(self) -> bool:
        """Whether it is finished, and the client still awaited."""
        return self._linger is not None

    def finish(self) -> None:
        """Close once what was written is flushed, after `LINGER_S` at the latest."""
        if self._finished:
            return
        self._finished = True
        if self._transport is None:
            self._stop_opening()
        elif not self._transport.is_closing():
            self._transport.resume_reading()  # or the client's end would not be seen
            self._linger = self._loop.call_later(LINGER_S, self._transport.abort)
            if self._transport.can_write_eof():
                self._end_our_direction()
            else:
                self._transport.close()

    def _end_our_direction(self) -> None:
        """Now, or once what was written is flushed: then asyncio would let the error below escape."""
        assert self._transport is not None
        if self._transport.get_write_buffer_size():
            self._transport.set_write_buffer_limits(high=0)
            return
        try:
            self._transport.write_eof()
        except OSError:  # the client has reset the connection, which nobody has told us yet
            self._transport.abort()

    def abort(self) -> None:
        """Close now; what is not flushed is lost."""
        self._finished = True
        if self._transport is None:
            self._stop_opening()
        else:
            self._transport.abort()

    def hold(self) -> None:
        """Read nothing for now."""
        if self._transport is not None and not (self._finished or self._transport.is_closing()):
            self._transport.pause_reading()

    def release(self) -> None:
        """Read again."""
        if self._transport is not None and not (self._finished or self._transport.is_closing()):
            self._transport.resume_reading()

    # --- opening

    async def _open(self) -> None:
        error = ""
        try:
            _set_options(self._sock)
            await self._loop.connect_accepted_socket(
                lambda: self,
                self._sock,
                ssl=self._owner.tls,
                ssl_handshake_timeout=TLS_HANDSHAKE_LIMIT_S if self._owner.tls else None,
            )
        except OSError as caught:
            error = f"could not be opened: {caught}"
        finally:
            if self._transport is None:
                self._owner.lost(self.stream, error)

    def _stop_opening(self) -> None:
        # Cancelling the task would free the socket on some loops and leak it on others; the end of the
        # stream ends a TLS handshake on all of them, and without TLS the connection opens and is aborted.
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    # --- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        if self._finished:
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._owner.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._finished:
            self._owner.received(self.stream, nbytes)

    def eof_received(self) -> None:
        """Half-closed streams are not for us. None lets the transport close itself, which may take long
        when the client does not read: so it is told at once, and cut off when it is still there later.
        """
        if not self._finished and self._transport is not None:
            self._finished = True
            self._linger = self._loop.call_later(LINGER_S, self._transport.abort)
            self._owner.ended(self.stream)

    def pause_writing(self) -> None:
        if not self._finished:
            self._owner.paused(self.stream)

    def resume_writing(self) -> None:
        if not self._finished:
            self._owner.resumed(self.stream)
        elif self._linger is not None and self._transport is not None and not self._transport.is_closing():
            self._end_our_direction()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._linger is not None:
            self._linger.cancel()
        self._finished = True
        self._owner.lost(self.stream, str(exc) if exc else "")


def _set_options(sock: socket.socket) -> None:
    """Have the kernel notice clients that vanished. Options a system lacks are left out."""
    wishes = [
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ]
    if sys.platform == "linux":
        wishes.append(("TCP_USER_TIMEOUT", UNACKNOWLEDGED_LIMIT_MS))
    with suppress(OSError):  # a client that is gone already is noticed when the socket is read
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in wishes:
            option = getattr(socket, name, None)
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
