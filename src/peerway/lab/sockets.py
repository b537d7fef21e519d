"""Orders that need plain sockets only: to prove the lab itself, without a node.

A *reflector* answers every datagram with the address it saw it come from: what a STUN
server says, in plain text.
"""

from __future__ import annotations

import asyncio
import secrets
import time

import msgspec

from peerway.lab.bench import Bench, Endpoint, Inbox
from peerway.lab.messages import Done

REFLECTOR_PORT = 7
REFLECTOR_PATIENCE_S = 0.3
REFLECTOR_TRIES = 10


class Reflect(msgspec.Struct, frozen=True, tag="reflect"):
    """Be a reflector on these addresses until the worker ends."""

    ips: tuple[str, ...]
    port: int = REFLECTOR_PORT

    async def perform(self, bench: Bench) -> Done:
        for ip in self.ips:
            inbox = await Inbox.open(ip, self.port)
            task = asyncio.create_task(_reflect(inbox))
            bench.callback(task.cancel)
        return Done()


class OpenSocket(msgspec.Struct, frozen=True, tag="open-socket"):
    """Bind a UDP socket under a name; one of that name is closed first."""

    name: str
    port: int = 0
    ip: str = "0.0.0.0"

    async def perform(self, bench: Bench) -> Done:
        known = bench.inboxes.pop(self.name, None)
        if known is not None:
            known.close()
        bench.inboxes[self.name] = await Inbox.open(self.ip, self.port)
        return Done()


class Reflected(msgspec.Struct, frozen=True):
    """From where each reflector saw the socket; None where no answer came."""

    seen: tuple[Endpoint | None, ...]

    @property
    def endpoint(self) -> Endpoint:
        """What the first reflector saw; ValueError where it did not answer."""
        if self.seen[0] is None:
            raise ValueError("no answer from the reflector")
        return self.seen[0]


class AskReflectors(msgspec.Struct, frozen=True, tag="ask-reflectors"):
    """Ask each reflector in turn, again and again for a while."""

    name: str
    reflectors: tuple[Endpoint, ...]

    async def perform(self, bench: Bench) -> Reflected:
        inbox = bench.inbox(self.name)
        return Reflected(tuple([await _ask_reflector(inbox, where) for where in self.reflectors]))


class Shoot(msgspec.Struct, frozen=True, tag="shoot"):
    """Send datagrams of `size` bytes and wait for nothing; `ttl` 0 is the system's."""

    name: str
    to: Endpoint
    count: int = 1
    size: int = 100
    ttl: int = 0

    async def perform(self, bench: Bench) -> Done:
        for index in range(self.count):
            bench.inbox(self.name).send(bytes(self.size), self.to, self.ttl)
            # No faster than a reader empties its socket buffer.
            await asyncio.sleep(0 if index % 20 else 0.002)
        return Done()


class Counted(msgspec.Struct, frozen=True):
    """Datagrams that arrived, and the different endpoints they came from, in order."""

    datagrams: int
    sources: tuple[Endpoint, ...]


class Count(msgspec.Struct, frozen=True, tag="count"):
    """How many datagrams a socket got since the last time it was asked."""

    name: str

    async def perform(self, bench: Bench) -> Counted:
        inbox = bench.inbox(self.name)
        counted, inbox.count = inbox.count, 0
        sources: dict[Endpoint, None] = {}
        while not inbox.received.empty():
            sources[inbox.received.get_nowait()[1]] = None
        return Counted(counted, tuple(sources))


class Punched(msgspec.Struct, frozen=True):
    """Whether traffic went both ways, and from where the peer's came."""

    through: bool
    source: Endpoint | None


class Punch(msgspec.Struct, frozen=True, tag="punch"):
    """Send to the peer again and again, and to wherever its packets come from; answer them there.

    The first packet goes with `first_ttl` (0: the system's). `through` once an answer to a
    packet of ours arrived.
    """

    name: str
    to: Endpoint
    first_ttl: int = 0
    duration_s: float = 1.0
    interval_s: float = 0.05

    async def perform(self, bench: Bench) -> Punched:
        inbox = bench.inbox(self.name)
        until = time.monotonic() + self.duration_s
        sender = asyncio.create_task(self._send(inbox))
        result = Punched(False, None)
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + self.duration_s):
                while time.monotonic() < until:
                    data, source = await inbox.received.get()
                    if data == b"ping":
                        inbox.send(b"pong", source)
                        if result.source is None:
                            inbox.send(b"ping", source)
                    elif data == b"pong":
                        result = Punched(True, source)
        except TimeoutError:
            pass
        finally:
            sender.cancel()
        return result

    async def _send(self, inbox: Inbox) -> None:
        ttl = self.first_ttl
        while True:
            inbox.send(b"ping", self.to, ttl)
            ttl = 0
            await asyncio.sleep(self.interval_s)


class ServeEcho(msgspec.Struct, frozen=True, tag="serve-echo"):
    """Echo TCP on a port until the worker ends."""

    port: int

    async def perform(self, bench: Bench) -> Done:
        server = await asyncio.start_server(_echo, "0.0.0.0", self.port)
        bench.callback(server.close)
        return Done()


class Echoed(msgspec.Struct, frozen=True):
    """Whether the bytes came back equal, and after how many milliseconds."""

    equal: bool
    ms: float


class TryEcho(msgspec.Struct, frozen=True, tag="try-echo"):
    """Connect to an echo server, send `size` bytes, compare what comes back."""

    to: Endpoint
    size: int = 10_000
    patience_s: float = 2.0

    async def perform(self, bench: Bench) -> Echoed:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self.patience_s):
                reader, writer = await asyncio.open_connection(*self.to)
                sent = bytes(index % 251 for index in range(self.size))
                writer.write(sent)
                got = await reader.readexactly(self.size)
                writer.close()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            return Echoed(False, (time.monotonic() - begun) * 1000)
        return Echoed(got == sent, (time.monotonic() - begun) * 1000)


SocketOrder = Reflect | OpenSocket | AskReflectors | Shoot | Count | Punch | ServeEcho | TryEcho


async def _reflect(inbox: Inbox) -> None:
    while True:
        data, source = await inbox.received.get()
        inbox.send(b"%s %d %s" % (source[0].encode(), source[1], data), source)


async def _ask_reflector(inbox: Inbox, reflector: Endpoint) -> Endpoint | None:
    question = secrets.token_hex(8).encode()
    for _ in range(REFLECTOR_TRIES):
        inbox.send(question, reflector)
        try:
            async with asyncio.timeout(REFLECTOR_PATIENCE_S):
                while True:
                    data, source = await inbox.received.get()
                    # An answer to an earlier question may come late.
                    if source == reflector and data.endswith(question):
                        ip, port, _ = data.decode().split()
                        return ip, int(port)
        except TimeoutError:
            continue
    return None


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
