"""One UDP socket on an asyncio loop: batches in, batches out, no object a packet.

What arrives is handed over once a wake-up: up to `RECEIVES_PER_WAKE` system calls, each of
which may bring 64 KiB of coalesced datagrams (GRO). What is sent leaves at once; when the
socket is full it waits in a bounded queue until the loop finds the socket writable.
Nothing the network says ends the socket: failed sends go to `on_failed`, failed receives
are counted. An address family each: a v6 socket is never reached over IPv4.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable

from peerway.core.machine import Datagram, Transmit, UdpAddress
from peerway.io import udp_options
from peerway.io.address import SocketAddress, family_of, from_socket_address, to_socket_address
from peerway.io.udp_send import SegmentSender, check_segments

RECEIVE_BUFFER_BYTES = 65_536
RECEIVES_PER_WAKE = 16
SENDS_PER_WAKE = 64
QUEUE_TRANSMITS = 1024
QUEUE_BYTES = 2 * 1024 * 1024
RETRY_S = 0.001  # where the loop cannot tell when a socket is writable
ERROR_PAUSE_S = 0.01  # between failing receives where the loop cannot tell when a socket is readable


class UdpSocket:
    """A bound UDP socket.

    `on_datagrams` gets what one wake-up brought; `on_failed` gets a `Transmit` of which at
    least one segment could not be sent, and why (the first error). `drops` counts, by
    reason, what was lost here; several sockets may share one. `interface`: what all that is sent
    leaves by, else what the routes say. `shared`: others may be bound there too, and all hear what is
    sent to a group. Raises `OSError` when `bind` or `interface` cannot be had.

    Loops without `add_reader` (Windows' Proactor) are served by one receiving task.
    """

    def __init__(
        self,
        bind: UdpAddress,
        on_datagrams: Callable[[list[Datagram]], None],
        on_failed: Callable[[Transmit, OSError], None],
        loop: asyncio.AbstractEventLoop | None = None,
        drops: Counter[str] | None = None,
        interface: str = "",
        shared: bool = False,
    ) -> None:
        self.drops: Counter[str] = Counter() if drops is None else drops
        self._loop = loop or asyncio.get_running_loop()
        self._on_datagrams = on_datagrams
        self._on_failed = on_failed
        self._buffer = bytearray(RECEIVE_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._queue: deque[tuple[Transmit, int]] = deque()
        self._queue_bytes = 0
        self._retry: asyncio.TimerHandle | None = None
        self._pump: asyncio.Task[None] | None = None
        self._last_sender: tuple[SocketAddress, UdpAddress] | None = None
        self._closed = False
        self._socket, offload = _bound_socket(bind, interface, shared)
        self._control_bytes = socket.CMSG_SPACE(4) if offload.gro else 0
        self._sender = SegmentSender(self._socket, offload, self.drops)
        self.local = from_socket_address(self._socket.getsockname())
        self._start_receiving()

    @property
    def gso(self) -> bool:
        """Whether several segments leave in one system call."""
        return self._sender.gso

    @gso.setter
    def gso(self, wanted: bool) -> None:
        self._sender.gso = wanted

    def fileno(self) -> int:
        """The file descriptor, -1 once closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Free the socket; what still waits to be sent is lost. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        self._queue.clear()
        if self._retry is not None:
            self._retry.cancel()
        if self._pump is not None:
            self._pump.cancel()
        else:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        self._socket.close()

    # --- receiving ---------------------------------------------------------------

    def _start_receiving(self) -> None:
        try:
            self._loop.add_reader(self._socket, self._readable)
        except NotImplementedError:
            self._pump = self._loop.create_task(self._receive_forever(), name=f"udp {self.local}")

    def _readable(self) -> None:
        batch: list[Datagram] = []
        for _ in range(RECEIVES_PER_WAKE):
            try:
                datagram = self._receive()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._count_receive_error(error)
                continue
            batch.append(datagram)
        if batch:
            self._on_datagrams(batch)

    def _receive(self) -> Datagram:
        if not self._control_bytes:
            size, sender = self._socket.recvfrom_into(self._buffer)
            return self._datagram(size, sender, 0)
        size, control, _, sender = self._socket.recvmsg_into((self._buffer,), self._control_bytes)
        segment_size = 0
        for level, kind, data in control:
            if level == udp_options.SOL_UDP and kind == udp_options.UDP_GRO:
                segment_size = int.from_bytes(data[:4], sys.byteorder)
        return self._datagram(size, sender, segment_size)

    def _datagram(self, size: int, sender: SocketAddress, segment_size: int) -> Datagram:
        if self._last_sender is None or self._last_sender[0] != sender:
            self._last_sender = (sender, from_socket_address(sender))
        if segment_size >= size:
            segment_size = 0
        return Datagram(bytes(self._view[:size]), self._last_sender[1], self.local, segment_size)

    async def _receive_forever(self) -> None:
        while True:
            try:
                size, sender = await self._loop.sock_recvfrom_into(self._socket, self._buffer)
            except OSError as error:
                self._count_receive_error(error)
                await asyncio.sleep(ERROR_PAUSE_S)
                continue
            # Not called from here: what it raises must not end this task.
            self._loop.call_soon(self._on_datagrams, [self._datagram(size, sender, 0)])

    def _count_receive_error(self, error: OSError) -> None:
        self.drops[f"receive: {errno.errorcode.get(error.errno or 0, 'error')}"] += 1

    # --- sending -----------------------------------------------------------------

    def send(self, transmit: Transmit) -> None:
        """Send now, or as soon as the socket takes it; in order. `ValueError`: segments of unequal size."""
        check_segments(transmit.segments)
        if self._closed:
            self.drops["send: socket closed"] += 1
        elif self._queue:
            self._enqueue(transmit, 0)
        else:
            sent = self._send_from(transmit, 0)
            if sent < len(transmit.segments) and not self._closed:
                self._enqueue(transmit, sent)

    def _send_from(self, transmit: Transmit, start: int) -> int:
        sent, error = self._sender.send(transmit, start)
        if error is not None:
            self._on_failed(transmit, error)
        return sent

    def _enqueue(self, transmit: Transmit, start: int) -> None:
        """The newest is dropped when the queue is full: what waits is nearer to leaving."""
        size = sum(map(len, transmit.segments))
        if len(self._queue) >= QUEUE_TRANSMITS or self._queue_bytes + size > QUEUE_BYTES:
            self.drops["send: queue full"] += len(transmit.segments) - start
            return
        self._queue.append((transmit, start))
        self._queue_bytes += size
        if len(self._queue) == 1:
            self._await_writable()

    def _await_writable(self) -> None:
        if self._pump is None:
            self._loop.add_writer(self._socket, self._writable)
        else:
            self._retry = self._loop.call_later(RETRY_S, self._writable)

    def _writable(self) -> None:
        for _ in range(SENDS_PER_WAKE):
            if not self._queue:
                break
            transmit, start = self._queue[0]
            sent = self._send_from(transmit, start)
            if not self._queue:  # closed by whoever was told of the failure
                return
            if sent < len(transmit.segments):
                self._queue[0] = (transmit, sent)
                break
            self._queue.popleft()
            self._queue_bytes -= sum(map(len, transmit.segments))
        if self._pump is not None and self._queue:
            self._await_writable()
        elif self._pump is None and not self._queue:
            self._loop.remove_writer(self._socket)


def _bound_socket(
    bind: UdpAddress, interface: str, shared: bool
) -> tuple[socket.socket, udp_options.Offload]:
    sock = socket.socket(family_of(bind.ip), socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        offload = udp_options.prepare(sock)
        if interface:
            udp_options.send_by(sock, interface)
        if shared:
            udp_options.share_port(sock)
        sock.bind(to_socket_address(bind))
    except BaseException:
        sock.close()
        raise
    return sock, offload
