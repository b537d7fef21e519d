"""A byte stream a machine asked for: TCP, or TLS over TCP, to a host by name.

    CONNECTING --connected--> OPEN --the other side or an error--> CLOSED (told)
         |                      |
         +------ failed --------+----- close() or abort() ------> CLOSED (not told)

What happens is told to a `StreamSink`: `stream_opened` once, then data, pauses and
resumptions, and `stream_closed` at the end unless it was us who closed.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, cast

from peerway.core.machine import PeerwayError
from peerway.io import tls
from peerway.io.connect_errors import NO_ANSWER, explain
from peerway.io.dial import dial

CONNECT_TIMEOUT_S = 10.0  # name, TCP and TLS together
CLOSE_LINGER_S = 5.0  # for what was written to leave, once closed
READ_BUFFER_BYTES = 128 * 1024
PAUSE_WRITING_BYTES = 128 * 1024  # waiting in our process, before the writer is told to pause
BACKLOG_BYTES = 8 * 1024 * 1024  # a writer that does not pause loses the stream


@dataclass(frozen=True, slots=True)
class StreamTarget:
    """Where a stream leads. `pin`: the SHA-256 of the certificate (64 hexadecimal digits,
    lower case) to accept instead of what the system trusts."""

    host: str
    port: int
    encrypted: bool = False
    pin: str | None = None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class StreamSink(Protocol):
    """Who is told what happens to streams, by name."""

    def stream_opened(self, name: str) -> None: ...
    def stream_data(self, name: str, data: bytes) -> None: ...
    def stream_closed(self, name: str, error: str) -> None: ...
    def stream_paused(self, name: str) -> None: ...
    def stream_resumed(self, name: str) -> None: ...


class PinMismatch(PeerwayError):
    """The certificate is not the pinned one."""

    def __init__(self, target: StreamTarget, found: str) -> None:
        super().__init__(
            f"the certificate of {target} is not the pinned one: expected {target.pin}, found {found}; "
            "if it was renewed, use the URL that the relay prints now; if not, somebody is in between"
        )
        self.expected = target.pin
        self.found = found


class _State(enum.Enum):
    CONNECTING = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


class ClientStream(asyncio.BufferedProtocol):
    """One stream; connecting starts at once. Must be made on a running loop.

    `trust` is whom to believe when no certificate is pinned, the system's authorities if None.
    """

    def __init__(
        self,
        name: str,
        target: StreamTarget,
        sink: StreamSink,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        self._target = target
        self._sink = sink
        self._connect_timeout = connect_timeout
        self._trust = trust
        self._state = _State.CONNECTING
        self._transport: asyncio.Transport | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._buffer = memoryview(bytearray(READ_BUFFER_BYTES))
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._sock: socket.socket | None = None
        self._attached = False
        self._timed_out = False
        self._patience = self._loop.call_later(connect_timeout, self._give_up)
        self._connecting = self._loop.create_task(self._connect(), name=f"connect {target}")

    @property
    def gone(self) -> bool:
        """Whether the socket and the task are freed."""
        return self._connecting.done() and (self._transport is None or self._lost.done())

    def write(self, chunks: Sequence[bytes]) -> bool:
        """Send the chunks; False when the stream is not open and they are lost."""
        if self._state is not _State.OPEN or self._transport is None:
            return False
        self._transport.writelines(chunks)
        if self._transport.get_write_buffer_size() > BACKLOG_BYTES:
            self._fail(f"{self._target} does not read what it is sent: more than {BACKLOG_BYTES} bytes wait")
        return True

    def close(self) -> None:
        """Close once what was written is flushed, after `CLOSE_LINGER_S` at the latest. Nothing is told."""
        if self._state is _State.OPEN and self._transport is not None:
            self._state = _State.CLOSED
            self._transport.close()
            self._linger = self._loop.call_later(CLOSE_LINGER_S, self._transport.abort)
        elif self._state is _State.CONNECTING:
            self.abort()

    def abort(self) -> None:
        """Free everything now; what is not flushed is lost. Nothing is told."""
        self._state = _State.CLOSED
        if self._transport is not None:
            self._abort_transport()
        else:
            self._stop_connecting()

    async def wait_gone(self) -> None:
        """Until the socket and the task are freed, after `close` or `abort`."""
        await asyncio.wait([self._connecting])
        if self._transport is not None:
            await asyncio.wait([self._lost])

    # --- connecting --------------------------------------------------------------

    async def _connect(self) -> None:
        try:
            await self._open_transport()
        except asyncio.CancelledError:
            if not self._timed_out:
                raise
            self._fail(self._too_late())
        except (OSError, ValueError, PeerwayError) as error:
            self._fail(self._too_late() if self._timed_out else explain(error, str(self._target)))
        finally:
            self._patience.cancel()

    def _give_up(self) -> None:
        self._timed_out = True
        self._stop_connecting()

    def _too_late(self) -> str:
        return f"{self._target} did not answer within {self._connect_timeout:g} s: {NO_ANSWER}"

    def _stop_connecting(self) -> None:
        # uvloop, cancelled in the middle of a handshake, may never say that the connection is lost; the end
        # of the stream ends a handshake everywhere
        if self._sock is None:
            self._connecting.cancel()
        else:
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    async def _open_transport(self) -> None:
        target = self._target
        sock = self._sock = await dial(target.host, target.port)
        try:
            if target.encrypted:
                context = tls.any_certificate() if target.pin else self._trust or tls.system_trust()
                await self._loop.create_connection(
                    lambda: self, sock=sock, ssl=context, server_hostname=target.host
                )
            else:
                await self._loop.create_connection(lambda: self, sock=sock)
        except BaseException:
            sock.close()
            raise
        self._attached = True
        if self._state is _State.CLOSED and self._transport is not None:
            self._transport.abort()

    def _abort_transport(self) -> None:
        # uvloop closes a socket twice, the second time perhaps somebody else's, when its transport is
        # aborted before the loop is done with connecting
        if self._transport is not None and self._attached:
            self._transport.abort()

    def _check_pin(self, transport: asyncio.BaseTransport) -> None:
        if not self._target.encrypted or not self._target.pin:
            return
        certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        found = tls.pin_of(certificate or b"")
        if found != self._target.pin:
            raise PinMismatch(self._target, found)

    # --- what the transport calls ------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = transport = cast(asyncio.Transport, transport)
        if self._state is _State.CLOSED:
            return
        if self._timed_out:
            self._fail(self._too_late())
            return
        try:
            self._check_pin(transport)
        except PinMismatch as error:
            self._fail(str(error))
            return
        transport.set_write_buffer_limits(high=PAUSE_WRITING_BYTES)
        self._state = _State.OPEN
        self._sink.stream_opened(self.name)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._state is _State.OPEN:
            self._sink.stream_data(self.name, bytes(self._buffer[:nbytes]))

    def eof_received(self) -> None:
        """Half-closed streams are not for us, and one that is not read would take long to close itself."""
        self._fail(f"{self._target} closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._linger is not None:
            self._linger.cancel()
        self._lost.set_result(None)
        where = str(self._target)
        self._fail(explain(exc, where) if exc else f"{where} closed the connection")

    def pause_writing(self) -> None:
        if self._state is _State.OPEN:
            self._sink.stream_paused(self.name)

    def resume_writing(self) -> None:
        if self._state is _State.OPEN:
            self._sink.stream_resumed(self.name)

    # --- ending ------------------------------------------------------------------

    def _fail(self, error: str) -> None:
        if self._state is _State.CLOSED:
            return
        self._state = _State.CLOSED
        self._abort_transport()
        self._sink.stream_closed(self.name, error)
