"""One stream joined to stdin and stdout: what `connect` and `listen` do with a connection."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import AsyncIterator

from peerway.cli.bridge import Traffic, join
from peerway.cli.errors import CommandError
from peerway.cli.nodes import paths_told
from peerway.cli.output import Output
from peerway.cli.stdio import Sink, Stdin, Stdout
from peerway.connection import Connection
from peerway.errors import ConnectionClosedError
from peerway.stream import StreamReader, StreamWriter

Halves = tuple[StreamReader, StreamWriter]

CODE_GAVE_UP = 1
RECORD_BYTES = 48 * 1024  # of payload in one JSON line
LAST_WORDS_S = 1.0

logger = logging.getLogger(__name__)


class JsonSink:
    """What arrives, as JSON lines with the bytes in base64."""

    def __init__(self, output: Output, stdout: Stdout, peer: str) -> None:
        self._output = output
        self._stdout = stdout
        self._peer = peer

    async def write(self, data: bytes) -> None:
        """Hand on `data`; waits while stdout is slow."""
        for start in range(0, len(data), RECORD_BYTES):
            text = base64.b64encode(data[start : start + RECORD_BYTES]).decode("ascii")
            self._output.record("data", peer=self._peer, base64=text)
        await self._stdout.write(b"")

    async def flush(self) -> None:
        """Wait until everything is written."""
        await self._stdout.flush()


@contextlib.asynccontextmanager
async def shared_stdout(output: Output) -> AsyncIterator[Stdout]:
    """One writer for payload and for the lines of `output`, in order; at the end all is written.

    After an error or Ctrl-C a reader that does not read is waited for only so long.
    """
    stdout = Stdout()
    output.write_lines_to(lambda line: stdout.put(line.encode() + b"\n"))
    try:
        yield stdout
        await stdout.flush()
    except BaseException:
        with contextlib.suppress(TimeoutError, CommandError):
            async with asyncio.timeout(LAST_WORDS_S):
                await stdout.flush()
        raise


async def converse(
    connection: Connection,
    halves: Halves,
    output: Output,
    stdin: Stdin,
    stdout: Stdout,
    *,
    end_with_peer: bool = False,
) -> None:
    """Join a stream to stdin and stdout until both directions have ended and ours has arrived.

    When something goes wrong, the connection is closed with a reason, so that the peer does
    not take what it has for all there was.
    """
    reader, writer = halves
    peer, traffic = str(connection.peer), Traffic()
    sink: Sink = JsonSink(output, stdout, peer) if output.as_json else stdout
    output.record("connected", peer=peer)
    try:
        async with paths_told(connection, output):
            await join(reader, writer, stdin, sink, traffic, end_with_peer=end_with_peer)
            await _delivered(writer)
    except BaseException as error:
        output.record("closed", peer=peer, sent=traffic.sent, received=traffic.received, error=_why(error))
        await connection.close(CODE_GAVE_UP, "the other side gave up before the end")
        raise
    output.record("closed", peer=peer, sent=traffic.sent, received=traffic.received, error=None)
    logger.info(
        "cli finished peer=%s sent=%d received=%d", connection.peer.short, traffic.sent, traffic.received
    )


async def _delivered(writer: StreamWriter) -> None:
    try:
        await writer.wait_closed()
    except ConnectionClosedError as error:
        # A peer that has read our end may hang up, in order, before its last acknowledgement is here.
        if error.code != 0 or not error.by_peer:
            raise


def _why(error: BaseException) -> str:
    return str(error) or type(error).__name__
