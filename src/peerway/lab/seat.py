"""A node at work on one machine of the lab, and its conversations with peers.

Whoever opens a stream to it gets an echo. What path each conversation took when is kept,
on the clock all machines of a lab share.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from peerway.connection import Connection
from peerway.core.path.events import PathEvent, PathKind, PathSelected
from peerway.errors import PeerwayError
from peerway.io import clock
from peerway.node import Node
from peerway.stream import StreamReader, StreamWriter

RELAY_PATIENCE_S = 15.0
READ_SIZE = 65536


@dataclass(frozen=True, slots=True)
class PathChange:
    """Data travels so from `at` on; `kind` is "direct", "relay", or "" for not at all."""

    kind: str
    remote: str
    at: float

    def is_like(self, kind: str, family: int | None) -> bool:
        """Whether it is of that kind, and of that IP version where one is asked for."""
        return self.kind == kind and (family is None or self.remote.startswith("[") == (family == 6))


@dataclass(frozen=True, slots=True)
class Carried:
    """What an echo brought back: how much, whether it was what was sent, and the longest wait."""

    size: int
    equal: bool
    longest_wait_s: float


class Conversation:
    """One connection: its paths so far, and an echo for every stream the peer opens."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.changes: list[PathChange] = []
        self._changed = asyncio.Condition()
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._serve())]

    async def path_of_kind(
        self, kind: str, patience_s: float, family: int | None = None
    ) -> PathChange | None:
        """The change to the path in use, once it is of that kind; None when it takes too long."""

        def reached() -> bool:
            return bool(self.changes) and self.changes[-1].is_like(kind, family)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s), self._changed:
                await self._changed.wait_for(reached)
        return self.changes[-1] if reached() else None

    async def carry(self, seconds: float, chunk: int, pause_s: float, limit: int = 0) -> Carried:
        """Send to the peer's echo for a while, or up to `limit` bytes, and compare what returns."""
        reader, writer = await self.connection.open_stream()
        sender = asyncio.create_task(_send_for(writer, seconds, chunk, pause_s, limit))
        received, equal, longest, last = 0, True, 0.0, time.monotonic()
        try:
            while data := await reader.read(READ_SIZE):
                equal = equal and data == _pattern(received, len(data))
                received += len(data)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
            return Carried(received, equal and received == await sender, longest)
        finally:
            sender.cancel()

    async def close(self) -> None:
        """Stop watching and echoing; the connection is the node's to close."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self) -> None:
        events = self.connection.path_events()
        upcoming = asyncio.ensure_future(anext(events, None))
        try:
            await asyncio.sleep(0)  # only now are events kept for us: read what there was before, then wait
            await self._note(event for _, event in self.connection.history)
            while (event := await upcoming) is not None:
                upcoming = asyncio.ensure_future(anext(events, None))
                await self._note([event])
        finally:
            upcoming.cancel()

    async def _note(self, events: Iterable[PathEvent]) -> None:
        async with self._changed:
            for event in events:
                if isinstance(event, PathSelected):
                    kind = "" if event.kind is None else "relay" if event.kind is PathKind.RELAY else "direct"
                    self.changes.append(PathChange(kind, str(event.remote or ""), event.at))
            self._changed.notify_all()

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as echoes:
            with contextlib.suppress(PeerwayError):
                while True:
                    echoes.create_task(_echo(*await self.connection.accept_stream()))


class Seat:
    """A node that takes whatever connection comes."""

    def __init__(self, relays: Sequence[str], stun: Sequence[str], port: int = 0) -> None:
        self.node = Node(relays=relays, stun=stun, port=port)
        self.conversations: dict[str, Conversation] = {}
        self._arrived = asyncio.Condition()
        self._stack = contextlib.AsyncExitStack()

    async def open(self) -> None:
        """Start the node and wait until its relay, where it has one, knows it."""
        await self._stack.enter_async_context(self.node)
        if self.node.relays:
            await self.node.wait_relay(RELAY_PATIENCE_S)
        accepting = asyncio.create_task(self._accept())
        self._stack.callback(accepting.cancel)

    async def dial(self, ticket: str) -> tuple[str, float, float]:
        """Connect and have a byte echoed: the peer, and the times of the dial and of the echo."""
        begun = clock.now()
        connection = await self.node.connect(ticket)
        reader, writer = await connection.open_stream()
        writer.write(b"?")
        await reader.readexactly(1)
        answered = clock.now()
        writer.write_eof()
        await self._welcome(connection)
        return str(connection.peer), begun, answered

    async def conversation(self, peer: str, patience_s: float) -> Conversation:
        """The conversation with a peer, once there is one; TimeoutError when there is none for long."""
        async with asyncio.timeout(patience_s), self._arrived:
            await self._arrived.wait_for(lambda: peer in self.conversations)
        return self.conversations[peer]

    async def close(self) -> None:
        """Close every connection and the node."""
        for conversation in self.conversations.values():
            await conversation.close()
        await self._stack.aclose()

    async def _accept(self) -> None:
        async for connection in self.node:
            await self._welcome(connection)

    async def _welcome(self, connection: Connection) -> None:
        former = self.conversations.pop(str(connection.peer), None)
        if former is not None:
            await former.close()
        async with self._arrived:
            self.conversations[str(connection.peer)] = Conversation(connection)
            self._arrived.notify_all()


async def _echo(reader: StreamReader, writer: StreamWriter) -> None:
    with contextlib.suppress(PeerwayError):
        while data := await reader.read(READ_SIZE):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def _send_for(writer: StreamWriter, seconds: float, chunk: int, pause_s: float, limit: int) -> int:
    sent, until = 0, time.monotonic() + seconds
    while (not limit or sent < limit) and time.monotonic() < until:
        size = min(chunk, limit - sent) if limit else chunk
        writer.write(_pattern(sent, size))
        sent += size
        await writer.drain()
        await asyncio.sleep(pause_s)
    writer.write_eof()
    return sent


_CYCLE = bytes(range(251)) * (READ_SIZE // 251 + 2)


def _pattern(start: int, size: int) -> bytes:
    """Bytes from position `start` of an endless sequence whose period is no power of two."""
    pieces, position = bytearray(), start
    while len(pieces) < size:
        offset = position % 251
        piece = _CYCLE[offset : offset + min(size - len(pieces), READ_SIZE)]
        pieces += piece
        position += len(piece)
    return bytes(pieces)
