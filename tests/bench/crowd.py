"""A node and its many peers, all real, each side a program: `python -m tests.bench.crowd hub|peers`.

The hub prints its ticket and takes whoever comes. The peers connect one after the other, say a word each
and fall silent; each is a node of its own. Both end with their standard input.
"""

import asyncio
import contextlib
import json
import sys

from peerway import Node
from peerway.core.path import usage

IDLE_AFTER_S = 5.0  # a minute in truth: only the waiting for it is shorter here
PATIENCE_S = 30.0


async def hub(order):
    async with Node(relays=[order["url"]], portmap=False) as node, asyncio.TaskGroup() as guests:
        await node.wait_relay(PATIENCE_S)
        say({"ticket": node.ticket()})
        end = guests.create_task(ended())
        taking = guests.create_task(take(node, guests))
        await end
        taking.cancel()
        await node.close()


async def take(node, guests):
    async for connection in node:
        guests.create_task(listen_to(connection))


async def listen_to(connection):
    reader, writer = await connection.accept_stream()
    await reader.read()
    writer.write(b"welcome")
    writer.close()
    with contextlib.suppress(Exception):
        await connection.accept_stream()  # holds the connection, and waits for what never comes


async def peers(order):
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(order["peers"]):
            node = await stack.enter_async_context(Node(portmap=False))
            connection = await stack.enter_async_context(node.connect(order["ticket"]))
            reader, writer = await connection.open_stream()
            writer.write(b"good day")
            writer.close()
            assert await reader.read() == b"welcome"
        say({"connected": order["peers"]})
        await ended()


async def ended():
    """Wait for the end of standard input, or a line there."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.readline()


def say(word):
    print(json.dumps(word), flush=True)


def main():
    usage.IDLE_AFTER_S = IDLE_AFTER_S
    order = json.loads(sys.stdin.buffer.raw.readline())
    asyncio.run({"hub": hub, "peers": peers}[sys.argv[1]](order))


if __name__ == "__main__":
    main()
