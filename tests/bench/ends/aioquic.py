"""aioquic with its asyncio transport and its own settings."""

from __future__ import annotations

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived
from tests.bench.ends import quic
from tests.bench.ends.task import run, task


def queued(connection, stream: int) -> int:
    """Bytes that wait, those included that are not acknowledged: aioquic keeps them in one buffer."""
    known = connection._streams.get(stream)
    return 0 if known is None else len(known.sender._buffer)


async def main() -> None:
    job = task()
    if job.to:
        receiver = quic.receiver_of(QuicConnectionProtocol, StreamDataReceived, job.seconds)
        await quic.dial(job, connect, QuicConfiguration, receiver)
    else:
        sender = quic.sender_of(QuicConnectionProtocol, StreamDataReceived, queued, job.seconds)
        await quic.listen(job, serve, QuicConfiguration, sender)


if __name__ == "__main__":
    run(main())
