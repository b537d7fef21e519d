"""The relay on real TCP sockets: accepts, does TLS, and moves bytes between sockets and the machine.

What arrives goes into the machine at once; what the machine wants written is collected and leaves
once a turn of the loop, so that packets of many senders for one receiver are one write. All reads
share one buffer, since each is handed on before the next begins.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress

from peerway.core.machine import CloseStream, Event, StreamWrite
from peerway.core.relay.limits import HoldStream, ReleaseStream
from peerway.core.relay.server import ClientConnected, ClientDisconnected, ConnectionRefused, RelayServer
from peerway.io import clock
from peerway.server.connection import RelayConnection
from peerway.server.listen import BACKLOG, TcpListener

READ_BUFFER_BYTES = 128 << 10
DRAIN_LIMIT_S = 5.0  # for clients to take what is for them, at the end
ACCEPT_PAUSE_S = 0.2  # when there are no file descriptors left
WARN_EVERY_S = 60.0  # that there are none: strangers must not fill the log
LEAVING = 256  # connections we closed whose client is awaited; further ones are cut off
GATHERED_BYTES = 1 << 20  # read in one turn of the loop; then what is to be written is written first
LONGEST_SLEEP_S = 10.0  # the loop's clock may stop in suspend, the machine's does not

_DIED_WAITING = (errno.ECONNABORTED, errno.EPROTO, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN)

logger = logging.getLogger("peerway.server")


class RelayService:
    """Serves `machine` at `listeners`, which it owns. Must be made on a running loop."""

    def __init__(
        self, machine: RelayServer, listeners: Sequence[TcpListener], tls: ssl.SSLContext | None = None
    ) -> None:
        self.read_buffer = memoryview(bytearray(READ_BUFFER_BYTES))
        self.tls = tls
        self._machine = machine
        self._listeners = listeners
        self._loop = asyncio.get_running_loop()
        self._connections: dict[str, RelayConnection] = {}
        self._leaving: set[str] = set()
        self.accepted = 0
        self.bytes_received = 0
        self.bytes_sent = 0
        self._gathered = 0
        self._spare: int | None = None
        self._open_spare()
        self._warn_at = -math.inf
        self._flush_handle: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._all_gone: asyncio.Future[None] | None = None
        self._accepting = [
            self._loop.create_task(self._accept_forever(listener), name=f"relay accept {listener.port}")
            for listener in listeners
        ]

    async def close(self) -> None:
        """Stop accepting, let clients know and what is written leave, then free everything."""
        try:
            await self._stop_accepting()
            self._machine.drain(clock.now())
            self._flush()
            await self._until_all_gone(DRAIN_LIMIT_S)
        finally:
            if self._connections:
                logger.warning("relay aborting streams=%d", len(self._connections))
            for connection in list(self._connections.values()):
                connection.abort()
            await self._until_all_gone()
            for handle in (self._timer, self._flush_handle):
                if handle is not None:
                    handle.cancel()
            self._close_spare()

    # --- accepting

    async def _accept_forever(self, listener: TcpListener) -> None:
        while True:
            try:
                sock, address = await self._loop.sock_accept(listener.socket)
            except OSError as error:
                await self._not_accepted(listener, error)
                continue
            try:
                self._take_in(sock, address[0])
            except Exception:
                logger.exception("relay failed doing=accept")
                sock.close()

    def _take_in(self, sock: socket.socket, remote_ip: str) -> None:
        self.accepted += 1
        stream = str(self.accepted)
        self._machine.stream_accepted(stream, remote_ip, clock.now())
        self._connections[stream] = RelayConnection(stream, sock, self)
        self._schedule_flush()

    async def _not_accepted(self, listener: TcpListener, error: OSError) -> None:
        if error.errno in _DIED_WAITING:
            self._machine.drops["lost before it was accepted"] += 1
            await asyncio.sleep(0)
            return
        now = clock.now()
        if now >= self._warn_at:
            self._warn_at = now + WARN_EVERY_S
            logger.warning("relay not-accepting port=%d error=%s", listener.port, error)
        self._refuse_waiting(listener)
        await asyncio.sleep(ACCEPT_PAUSE_S)

    def _refuse_waiting(self, listener: TcpListener) -> None:
        """Close what waits to be accepted, by the descriptor kept for that: silence would be worse."""
        for _ in range(BACKLOG):
            self._close_spare()
            try:
                listener.socket.accept()[0].close()
            except OSError:
                return
            finally:
                self._open_spare()
            self._machine.drops["no file descriptors"] += 1

    def _open_spare(self) -> None:
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)

    def _close_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    async def _stop_accepting(self) -> None:
        for task in self._accepting:
            task.cancel()
        try:
            await asyncio.wait(self._accepting)
        finally:
            for listener in self._listeners:
                listener.close()

    def review(self) -> None:
        """Put out the clients that would not be admitted any more."""
        self._machine.review(clock.now())
        self._schedule_flush()

    # --- what connections tell

    def received(self, stream: str, size: int) -> None:
        """The first `size` bytes of the read buffer came from `stream`."""
        self._machine.stream_data(stream, self.read_buffer[:size], clock.now())
        self.bytes_received += size
        self._gathered += size
        if self._gathered >= GATHERED_BYTES:
            self._flush()
        else:
            self._schedule_flush()

    def paused(self, stream: str) -> None:
        """Much waits to be sent to `stream`."""
        self._machine.stream_paused(stream, clock.now())
        self._schedule_flush()

    def resumed(self, stream: str) -> None:
        """What waited was sent."""
        self._machine.stream_resumed(stream, clock.now())
        self._schedule_flush()

    def ended(self, stream: str) -> None:
        """The client of `stream` has said its last word."""
        self._machine.stream_closed(stream, "", clock.now())
        self._see_off(stream)
        self._schedule_flush()

    def lost(self, stream: str, error: str) -> None:
        """The connection of `stream` is over and freed."""
        if self._connections.pop(stream, None) is None:
            return
        self._leaving.discard(stream)
        self._machine.stream_closed(stream, error, clock.now())
        self._schedule_flush()
        if not self._connections and self._all_gone is not None and not self._all_gone.done():
            self._all_gone.set_result(None)

    async def _until_all_gone(self, limit: float | None = None) -> None:
        if self._connections:
            self._all_gone = self._loop.create_future()
            await asyncio.wait([self._all_gone], timeout=limit)

    # --- driving the machine

    def _schedule_flush(self) -> None:
        if self._flush_handle is None:
            self._flush_handle = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        self._gathered = 0
        writes: dict[str, list[bytes]] = {}
        while (output := self._machine.poll_transmit()) is not None:
            if isinstance(output, StreamWrite):
                writes.setdefault(output.stream, []).append(output.data)
        for stream, chunks in writes.items():
            if stream in self._connections:
                self.bytes_sent += sum(map(len, chunks))
                self._connections[stream].write(chunks)
        while (event := self._machine.poll_event()) is not None:
            self._act(event)
        self._arm()

    def _act(self, event: Event) -> None:
        if isinstance(event, CloseStream):
            self._see_off(event.stream)
        elif isinstance(event, HoldStream | ReleaseStream):
            self._hold(event)
        elif isinstance(event, ClientConnected):
            logger.info("relay client-connected stream=%s ip=%s key=%s", *_who(event))
        elif isinstance(event, ClientDisconnected):
            logger.info(
                "relay client-disconnected stream=%s ip=%s key=%s reason=%r", *_who(event), event.reason
            )
        elif isinstance(event, ConnectionRefused):
            logger.debug(
                "relay refused stream=%s ip=%s reason=%r", event.stream, event.remote_ip, event.reason
            )

    def _see_off(self, stream: str) -> None:
        connection = self._connections.get(stream)
        if connection is None:
            return
        connection.finish()
        if self._machine.is_draining:
            return  # each has said that it has everything, or is given the time
        if connection.is_leaving and len(self._leaving) >= LEAVING:
            self._machine.drops["cut off while leaving"] += 1
            connection.abort()
        elif connection.is_leaving:
            self._leaving.add(stream)

    def _hold(self, event: HoldStream | ReleaseStream) -> None:
        connection = self._connections.get(event.stream)
        if connection is not None and isinstance(event, HoldStream):
            connection.hold()
        elif connection is not None:
            connection.release()

    def _arm(self) -> None:
        deadline = self._machine.poll_deadline()
        if deadline is None or (self._timer is not None and self._timer_at <= deadline.at):
            return  # an early timer looks again, which is cheaper than a new one with every read
        if self._timer is not None:
            self._timer.cancel()
        now = clock.now()
        delay = min(max(deadline.at - now, 0.0), LONGEST_SLEEP_S)
        self._timer_at = now + delay
        self._timer = self._loop.call_later(delay, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._machine.handle_timeout(clock.now())
        self._flush()


def _who(event: ClientConnected | ClientDisconnected) -> tuple[str, str, str]:
    return event.stream, event.remote_ip, event.key.hex()[:16]
