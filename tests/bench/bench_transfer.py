"""How fast a stream is, beside plain asyncio TCP between two processes on the same loopback."""

import asyncio
import contextlib
import sys
import time

from peerway.demo.stage import loopback_stage, play
from peerway.demo.story import Story

SIZE = 500_000_000
CHUNK = 256 * 1024
SENDER = f"""
import asyncio, sys
async def send():
    _, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    for _ in range({SIZE // CHUNK}):
        writer.write(bytes({CHUNK}))
        await writer.drain()
    writer.close()
    await writer.wait_closed()
asyncio.run(send())
"""


async def peerway_speed():
    async with loopback_stage() as stage:
        story = Story(stage.scene, SIZE)
        async with contextlib.aclosing(play(stage, SIZE)) as reports:
            async for heard in reports:
                story.hear(heard)
    assert story.is_equal
    return story.average_speed


async def tcp_speed():
    measured = asyncio.get_running_loop().create_future()

    async def receive(reader, writer):
        begun, received = time.monotonic(), 0
        while data := await reader.read(CHUNK):
            received += len(data)
        measured.set_result(received / (time.monotonic() - begun))
        writer.close()

    async with await asyncio.start_server(receive, "127.0.0.1", 0) as server:
        port = str(server.sockets[0].getsockname()[1])
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", SENDER, port)
        speed = await measured
        await process.wait()
    return speed


def bench_a_stream_beside_tcp():
    ours, tcp = asyncio.run(peerway_speed()), asyncio.run(tcp_speed())
    print(f"\npeerway {8 * ours / 1e6:.0f} Mb/s, TCP {8 * tcp / 1e6:.0f} Mb/s: {100 * ours / tcp:.1f} %")
