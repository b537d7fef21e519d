"""Lines over standard input and output, for the processes inside the lab."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator

from peerway.lab.messages import LINE_LIMIT


async def read_lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines until the stream ends; a last line without its end is dropped."""
    while (text := await reader.readline()).endswith(b"\n"):
        yield text


async def standard_streams() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """This process's stdin and stdout as streams; `print` goes to stderr from now on."""
    loop = asyncio.get_running_loop()
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    reader = asyncio.StreamReader(limit=LINE_LIMIT)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop=loop), output
    )
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)
