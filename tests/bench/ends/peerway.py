"""peerway by its public API: dials by key through the relay, becomes direct, then sends."""

from __future__ import annotations

import asyncio
import time

from tests.bench.ends.task import CHUNK, Answered, Met, Meter, Ready, Stopwatch, Task, run, task, tell

from peerway import Connection, ConnectionClosedError, Node

RELAY_PATIENCE_S = 10.0
DIRECT_PATIENCE_S = 5.0
SETTLING_S = 0.2  # for the other end to send by the direct path, too
ECHO = b"?"  # what a stream begins with says what it is for: an echo, a question, or to be counted
QUESTION, ANSWER = b"Q" * 100, b"A" * 1000
POURED = b"!" * CHUNK


async def listen(job: Task) -> None:
    async with Node(relays=job.relays, stun=job.stun, portmap=False) as node:
        await node.wait_relay(RELAY_PATIENCE_S)
        tell(Ready(node.ticket()))
        meter = Meter(job.seconds, sent=False)
        async with asyncio.TaskGroup() as guests:
            async for connection in node:
                guests.create_task(_serve(connection, meter))


async def _serve(connection: Connection, meter: Meter) -> None:
    try:
        async with asyncio.TaskGroup() as streams:
            while True:
                streams.create_task(_answer(*await connection.accept_stream(), meter))
    except* ConnectionClosedError:  # the dialler has what it wanted
        pass


async def _answer(reader, writer, meter: Meter) -> None:
    first = await reader.readexactly(1)
    if first == ECHO:
        writer.write(first)
        writer.write_eof()
    elif first == QUESTION[:1]:
        await reader.read()
        writer.write(ANSWER)
        writer.write_eof()
    else:
        while data := await reader.read(CHUNK):
            meter.count(len(data))


async def dial(job: Task) -> None:
    async with asyncio.TaskGroup() as nodes:
        for _ in range(job.connections):
            nodes.create_task(_dial(job))


async def _dial(job: Task) -> None:
    async with Node(relays=job.relays, stun=job.stun, portmap=False) as node:
        await node.wait_relay(RELAY_PATIENCE_S)
        watch = Stopwatch()
        async with node.connect(job.to) as connection:
            reader, writer = await connection.open_stream()
            writer.write(ECHO)
            await reader.readexactly(1)
            first_byte_ms = watch.milliseconds
            await _direct(connection)
            tell(Met(first_byte_ms, watch.milliseconds))
            await asyncio.sleep(SETTLING_S)
            if job.streams_a_second:
                tell(await _ask(connection, job))
            else:
                await _pour(connection, job)


async def _direct(connection: Connection) -> None:
    async with asyncio.timeout(DIRECT_PATIENCE_S):
        events = connection.path_events()
        while connection.path is None or connection.path.kind != "direct":
            await anext(events)


async def _pour(connection: Connection, job: Task) -> None:
    _, writer = await connection.open_stream()
    meter = Meter(job.seconds, sent=True)
    while True:
        writer.write(POURED)
        await writer.drain()
        meter.count(CHUNK)


async def _ask(connection: Connection, job: Task) -> Answered:
    """Streams that begin at a steady pace, whether or not earlier ones were answered."""
    count = round(job.seconds * job.streams_a_second)
    round_trips = [0.0] * count
    behind = 0.0

    async def ask(number: int, due: float) -> None:
        reader, writer = await connection.open_stream()
        writer.write(QUESTION)
        writer.write_eof()
        answer = await reader.read()
        assert answer == ANSWER
        round_trips[number] = 1000 * (time.monotonic() - due)

    begun = time.monotonic()
    async with asyncio.TaskGroup() as questions:
        for number in range(count):
            due = begun + number / job.streams_a_second
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            behind = time.monotonic() - due
            questions.create_task(ask(number, due))
    return Answered(tuple(round_trips), 1000 * behind)


if __name__ == "__main__":
    run((dial if task().to else listen)(task()))
