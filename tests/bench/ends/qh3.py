"""qh3 with its own asyncio transport and its own settings."""

from __future__ import annotations

from qh3.asyncio.client import connect
from qh3.asyncio.protocol import QuicConnectionProtocol
from qh3.asyncio.server import serve
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.events import StreamDataReceived
from tests.bench.ends import quic
from tests.bench.ends.task import run, task


def queued(connection, stream: int) -> int:
    """Bytes that were never sent yet."""
    return connection.get_send_buffer_size(stream)


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
