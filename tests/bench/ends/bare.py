"""QUIC as peerway has it, and nothing else: no event loop, no streams, no paths. What the parts allow.

One socket in a loop of its own: read what is there, feed QUIC, send what it says, wait.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tests.bench.ends.task import CHUNK, PORT, Met, Meter, Ready, Stopwatch, Task, task, tell

from peerway.core.demux import connection_id_of
from peerway.core.identity import SecretKey
from peerway.core.machine import Transmit, UdpAddress
from peerway.core.quic.qh3_transport import Qh3Transport
from peerway.core.quic.transport import PipeReceived, StreamTransport
from peerway.io import udp_options
from peerway.io.udp_send import SegmentSender

READS = 16  # before what they cause is sent
FED_BYTES = 512 * 1024  # kept waiting in QUIC
LONGEST_WAIT_S = 1.0
ECHO = b"?"


class Line:
    """A UDP socket with GSO and GRO, and the other end's address once it is known."""

    def __init__(self, port: int, remote: UdpAddress | None) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        offload = udp_options.prepare(self._socket)
        self._socket.bind(("", port))
        self._sender = SegmentSender(self._socket, offload, Counter())
        self._buffer = bytearray(65536)
        self._remote = remote

    def read(self) -> Iterator[tuple[bytes, int]]:
        """What is there, and its segment size."""
        for _ in range(READS):
            try:
                size, control, _, sender = self._socket.recvmsg_into([self._buffer], socket.CMSG_SPACE(4))
            except BlockingIOError:
                return
            self._remote = self._remote or UdpAddress(*sender)
            step = int.from_bytes(control[0][2][:4], sys.byteorder) if control else 0
            yield bytes(memoryview(self._buffer)[:size]), step if step < size else 0

    def send(self, segments: tuple[bytes, ...]) -> None:
        """Send, and wait for the socket to take it."""
        assert self._remote is not None
        transmit, sent = Transmit(segments, self._remote), 0
        while sent < len(segments):
            sent, error = self._sender.send(transmit, sent)
            if error is not None:
                raise error
            if sent < len(segments):
                select.select([], [self._socket], [])

    def wait(self, seconds: float) -> None:
        """Until something arrives, or so long."""
        select.select([self._socket], [], [], min(max(seconds, 0.0), LONGEST_WAIT_S))


def turn(line: Line, quic: StreamTransport) -> Iterator[bytes]:
    """Send, wait, and read; the pipe's bytes that came."""
    now = time.monotonic()
    for segments in quic.transmits(now):
        line.send(segments)
    deadline = quic.deadline()
    if not quic.backlog() or deadline is not None:
        line.wait(LONGEST_WAIT_S if deadline is None else deadline - time.monotonic())
    now = time.monotonic()
    for data, step in line.read():
        quic.receive(data, step, now)
    if (deadline := quic.deadline()) is not None and deadline <= now:
        quic.handle_timeout(now)
    while (event := quic.next_event()) is not None:
        if isinstance(event, PipeReceived):
            yield event.data


def listen(job: Task) -> None:
    line = Line(PORT, None)
    tell(Ready(job.public_ip))
    arrived: list[tuple[bytes, int]] = []
    while not arrived:
        line.wait(LONGEST_WAIT_S)
        arrived = list(line.read())
    now = time.monotonic()
    quic = Qh3Transport.accept(SecretKey(bytes(32)), connection_id_of(arrived[0][0]), now)
    for data, step in arrived:
        quic.receive(data, step, now)
    meter = Meter(job.seconds, sent=False)
    while True:
        for data in turn(line, quic):
            if data == ECHO:
                quic.send(ECHO)
            else:
                meter.count(len(data))


def dial(job: Task) -> None:
    watch = Stopwatch()
    line, quic = Line(0, UdpAddress(job.to, PORT)), Qh3Transport.dial(time.monotonic())
    quic.send(ECHO)
    while not list(turn(line, quic)):
        pass
    tell(Met(watch.milliseconds))
    meter, chunk = Meter(job.seconds, sent=True), bytes(CHUNK)
    while True:
        while quic.backlog() < FED_BYTES:
            quic.send(chunk)
            meter.count(CHUNK)
        for _ in turn(line, quic):
            pass


if __name__ == "__main__":
    (dial if task().to else listen)(task())
