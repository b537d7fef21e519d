"""A line that takes time: packets go through a TUN device and wait in user space.

The kernel at hand may have no netem. The router at the far end of an access line sends what
comes from it, and what goes to it, into a TUN device; the shim reads each packet and writes
it back after a fixed time, in order. A packet through the shim crosses one more hop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections import deque

import msgspec

from peerway.lab.bench import Bench
from peerway.lab.messages import Done

TUN = "/dev/net/tun"
QUEUE_LIMIT = 20_000  # packets on the line at once; what comes after is lost
READS_AT_ONCE = 64
PACKET_SIZE = 65536
_TUNSETIFF = 0x400454CA
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000


class Delay(msgspec.Struct, frozen=True, tag="delay"):
    """Hold what comes in on `line`, and what goes to its `prefixes`, for `seconds`, in the device `tun`.

    Only the IP versions of the prefixes are held.
    """

    tun: str
    line: str
    prefixes: tuple[str, ...]
    seconds: float

    async def perform(self, bench: Bench) -> Done:
        descriptor = _open_tun(self.tun)
        bench.callback(os.close, descriptor)
        table = str(100 + len(bench.delays))
        await _batch("-4", f"link set {self.tun} up txqueuelen 2000")
        for prefix in self.prefixes:
            await _batch(
                "-6" if ":" in prefix else "-4",
                f"route add default dev {self.tun} table {table}",
                f"rule add iif {self.tun} lookup main priority 10",
                f"rule add iif {self.line} lookup {table} priority {table}",
                f"rule add to {prefix} lookup {table} priority {table}",
            )
        bench.delays.append(DelayLine(descriptor, self.seconds))
        return Done()


class DelayLine:
    """Reads packets from a TUN device and writes each back after a fixed time."""

    def __init__(self, descriptor: int, seconds: float) -> None:
        self._descriptor = descriptor
        self._seconds = seconds
        self._line: deque[tuple[float, bytes]] = deque()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._read)

    def _read(self) -> None:
        due = self._loop.time() + self._seconds
        idle = not self._line
        with contextlib.suppress(BlockingIOError):
            for _ in range(READS_AT_ONCE):
                packet = os.read(self._descriptor, PACKET_SIZE)
                if len(self._line) < QUEUE_LIMIT:
                    self._line.append((due, packet))
        if idle and self._line:
            self._loop.call_at(due, self._release)

    def _release(self) -> None:
        now = self._loop.time()
        while self._line and self._line[0][0] <= now:
            _, packet = self._line.popleft()
            with contextlib.suppress(OSError):
                os.write(self._descriptor, packet)
        if self._line:
            self._loop.call_at(self._line[0][0], self._release)


async def _batch(family: str, *commands: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "ip", family, "-batch", "-", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await process.communicate("\n".join(commands).encode())
    if process.returncode:
        raise OSError(stderr.decode())


def _open_tun(name: str) -> int:
    # Not at the top: the module must import where there is no such thing.
    import fcntl

    descriptor = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return descriptor
