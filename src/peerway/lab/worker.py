"""The interpreter of one machine of the lab: takes orders on stdin, answers on stdout.

It lives as long as the lab, so that an order costs no start of Python. An order is a value
that knows what to do: those of `sockets` need plain sockets only, those of `orders` nodes.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from peerway.lab.bench import Bench
from peerway.lab.delay import Delay
from peerway.lab.messages import Reply, Request, line
from peerway.lab.orders import NodeOrder
from peerway.lab.pipes import read_lines, standard_streams
from peerway.lab.sockets import SocketOrder

_ORDERS = msgspec.json.Decoder(SocketOrder | NodeOrder | Delay)


async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bench: Bench) -> None:
    """Do orders, each in a task of its own, until the supervisor closes."""
    tasks: set[asyncio.Task[None]] = set()
    async for text in read_lines(reader):
        request = msgspec.json.decode(text, type=Request)
        task = asyncio.create_task(_answer(request, writer, bench))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _answer(request: Request, writer: asyncio.StreamWriter, bench: Bench) -> None:
    try:
        answer = await _ORDERS.decode(request.body).perform(bench)
        reply = Reply(request.number, body=msgspec.Raw(msgspec.json.encode(answer)))
    except Exception as error:  # noqa: BLE001 - whatever an order raises is its answer
        reply = Reply(request.number, error=f"{type(error).__name__}: {error}")
    writer.write(line(reply))


async def _main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    reader, writer = await standard_streams()
    async with Bench() as bench:
        await work(reader, writer, bench)


if __name__ == "__main__":
    asyncio.run(_main())
