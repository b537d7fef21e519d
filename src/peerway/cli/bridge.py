"""Joins a stream to a source and a sink, both ways at once, until both directions are closed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from peerway.cli.stdio import CHUNK, Sink, Source


class Reader(Protocol):
    """The receiving half of a stream; b"" is its end."""

    async def read(self, n: int = -1, /) -> bytes: ...


class Writer(Protocol):
    """The sending half of a stream."""

    def write(self, data: bytes, /) -> None: ...
    async def drain(self) -> None: ...
    def write_eof(self) -> None: ...


@dataclass(slots=True)
class Traffic:
    """How many bytes have gone each way so far."""

    sent: int = 0
    received: int = 0


async def join(
    reader: Reader,
    writer: Writer,
    source: Source,
    sink: Sink,
    traffic: Traffic,
    *,
    end_with_peer: bool = False,
) -> None:
    """Copy `source` to the stream and the stream to `sink` until both have ended.

    With `end_with_peer` our direction ends when the peer's does: for a terminal, where
    nobody would think of closing stdin. The first error of either direction is raised,
    after the other has stopped; `traffic` says how far each had come.
    """
    sending = asyncio.create_task(_send(source, writer, traffic))
    receiving = asyncio.create_task(_receive(reader, sink, traffic))
    try:
        await _both(sending, receiving, end_with_peer)
        if sending.cancelled():
            await _end(writer)
    finally:
        sending.cancel()
        receiving.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)


async def _both(sending: asyncio.Task[None], receiving: asyncio.Task[None], end_with_peer: bool) -> None:
    pending = {sending, receiving}
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in (sending, receiving):
            if task in done and not task.cancelled():
                task.result()
        if end_with_peer and pending == {sending}:
            sending.cancel()


async def _send(source: Source, writer: Writer, traffic: Traffic) -> None:
    while data := await source.read():
        writer.write(data)
        traffic.sent += len(data)
        await writer.drain()
    await _end(writer)


async def _end(writer: Writer) -> None:
    writer.write_eof()
    await writer.drain()


async def _receive(reader: Reader, sink: Sink, traffic: Traffic) -> None:
    while data := await reader.read(CHUNK):
        traffic.received += len(data)
        await sink.write(data)
    await sink.flush()
