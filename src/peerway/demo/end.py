"""One end of the demonstration, as a program of its own: `python -m peerway.demo.end`.

It is given its task as one JSON argument, tells what happens on stdout, and ends when its
stdin does: so nothing is left when whoever started it is killed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sys
import threading
from collections.abc import Coroutine, Iterator

import msgspec

from peerway.connection import Connection
from peerway.core.machine import Address, RelayAddress
from peerway.core.path.events import PathEvent, PathKind, PathSelected
from peerway.demo.report import Connected, Dialling, Done, Failed, Moved, Progress, Ready, Report, line
from peerway.errors import PeerwayError
from peerway.io import clock
from peerway.node import Node

RELAY_PATIENCE_S = 15.0
CHUNK = 256 * 1024
BLOCK = 4 * 1024 * 1024
PROGRESS_S = 0.1
SEED = 7
DIGEST_SIZE = hashlib.sha256().digest_size


class Task(msgspec.Struct, frozen=True):
    """What an end is to do: dial `ticket` and send `size` bytes, or, without a ticket, receive them."""

    relays: tuple[str, ...]
    stun: tuple[str, ...] = ()
    ticket: str = ""
    size: int = 0
    ends_with_stdin: bool = False


def tell(report: Report) -> None:
    """Write a report to stdout at once."""
    sys.stdout.buffer.write(line(report))
    sys.stdout.buffer.flush()


async def perform(task: Task) -> None:
    """Do the task to its end."""
    async with Node(relays=task.relays, stun=task.stun) as node:
        await node.wait_relay(RELAY_PATIENCE_S)
        if not task.ticket:
            tell(Ready(node.ticket()))
            async for connection in node:
                await _with_paths_told(connection, _receive(connection))
                return
        tell(Dialling(clock.now()))
        async with node.connect(task.ticket) as connection:
            tell(Connected(clock.now()))
            await _with_paths_told(connection, _send(connection, task.size))


async def _with_paths_told(connection: Connection, work: Coroutine[None, None, None]) -> None:
    telling = asyncio.create_task(_tell_paths(connection))
    try:
        await work
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _tell_paths(connection: Connection) -> None:
    for _, event in connection.history:
        _tell_move(event)
    async for event in connection.path_events():
        _tell_move(event)


def _tell_move(event: PathEvent) -> None:
    if isinstance(event, PathSelected):
        kind = "" if event.kind is None else "relay" if event.kind is PathKind.RELAY else "direct"
        tell(Moved(event.at, kind, _place(event.remote), event.reason, event.round_trip))


def _place(remote: Address | None) -> str:
    return remote.url if isinstance(remote, RelayAddress) else str(remote or "")


async def _send(connection: Connection, size: int) -> None:
    reader, writer = await connection.open_stream()
    digest = hashlib.sha256()
    for chunk in _content(size):
        digest.update(chunk)
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()
    if await reader.readexactly(DIGEST_SIZE) != digest.digest():
        tell(Failed("what arrived is not what was sent"))
    tell(Done(clock.now(), size, digest.hexdigest()))


async def _receive(connection: Connection) -> None:
    reader, writer = await connection.accept_stream()
    digest, received, told_at = hashlib.sha256(), 0, 0.0
    while data := await reader.read(CHUNK):
        digest.update(data)
        received += len(data)
        now = clock.now()
        if now - told_at >= PROGRESS_S:
            told_at = now
            tell(Progress(now, received))
    tell(Progress(clock.now(), received))
    tell(Done(clock.now(), received, digest.hexdigest()))
    writer.write(digest.digest())
    writer.write_eof()
    await connection.wait_closed()


def _content(size: int) -> Iterator[bytes]:
    """`size` bytes, no two blocks alike: a counter in front of noise."""
    noise = random.Random(SEED).randbytes(BLOCK)
    for start in range(0, size, CHUNK):
        offset = start % (BLOCK - CHUNK)
        chunk = start.to_bytes(8, "big") + noise[offset : offset + CHUNK - 8]
        yield chunk[: size - start]


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def main() -> int:
    """Run the task in the first argument; failures are reports too."""
    task = msgspec.json.decode(sys.argv[1], type=Task)
    if task.ends_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        asyncio.run(perform(task))
    except (PeerwayError, OSError) as error:
        tell(Failed(str(error) or type(error).__name__))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
