"""Joining a stream to stdin and stdout: both directions end, and neither cuts the other short."""

import asyncio
import socket

import pytest

from peerway.cli.bridge import Traffic, join
from peerway.cli.errors import CommandError


class Given:
    """A source of fixed chunks; it goes on for ever where `endless` is set."""

    def __init__(self, *chunks, endless=False):
        self.chunks = list(chunks)
        self.endless = endless

    async def read(self):
        if self.chunks:
            return self.chunks.pop(0)
        if self.endless:
            await asyncio.Event().wait()
        return b""


class Kept:
    def __init__(self):
        self.data = b""
        self.flushed = False

    async def write(self, data):
        self.data += data

    async def flush(self):
        self.flushed = True


class Broken(Kept):
    async def write(self, data):
        raise CommandError("cannot write to stdout: Broken pipe")


async def stream_pair():
    ours, theirs = socket.socketpair()
    return await asyncio.open_connection(sock=ours), await asyncio.open_connection(sock=theirs)


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario, 20))


def test_both_directions_are_copied_until_both_have_ended():
    async def scenario():
        (reader, writer), (peer_reader, peer_writer) = await stream_pair()
        sink, traffic = Kept(), Traffic()
        joined = asyncio.create_task(join(reader, writer, Given(b"hel", b"lo"), sink, traffic))
        assert await peer_reader.read() == b"hello"
        peer_writer.write(b"and back")
        peer_writer.write_eof()
        await joined
        assert (sink.data, sink.flushed) == (b"and back", True)
        assert traffic == Traffic(sent=5, received=8)
        writer.close()
        peer_writer.close()

    run(scenario())


def test_the_end_of_the_peers_direction_does_not_cut_ours():
    async def scenario():
        (reader, writer), (peer_reader, peer_writer) = await stream_pair()
        peer_writer.write_eof()
        big = [bytes(100_000)] * 50
        joined = asyncio.create_task(join(reader, writer, Given(*big), Kept(), Traffic()))
        assert len(await peer_reader.read()) == 5_000_000
        await joined
        writer.close()
        peer_writer.close()

    run(scenario())


def test_a_terminals_direction_ends_with_the_peers():
    async def scenario():
        (reader, writer), (peer_reader, peer_writer) = await stream_pair()
        source = Given(b"typed", endless=True)
        joined = asyncio.create_task(join(reader, writer, source, Kept(), Traffic(), end_with_peer=True))
        assert await peer_reader.readexactly(5) == b"typed"
        peer_writer.write_eof()
        assert await peer_reader.read() == b""
        await joined
        writer.close()
        peer_writer.close()

    run(scenario())


def test_the_end_of_a_terminal_does_not_cut_what_the_peer_still_sends():
    async def scenario():
        (reader, writer), (peer_reader, peer_writer) = await stream_pair()
        sink = Kept()
        joined = asyncio.create_task(join(reader, writer, Given(), sink, Traffic(), end_with_peer=True))
        assert await peer_reader.read() == b""
        peer_writer.write(b"later")
        peer_writer.write_eof()
        await joined
        assert sink.data == b"later"
        writer.close()
        peer_writer.close()

    run(scenario())


def test_a_sink_that_breaks_ends_both_directions_with_its_error():
    async def scenario():
        (reader, writer), (_, peer_writer) = await stream_pair()
        peer_writer.write(b"x")
        with pytest.raises(CommandError, match="Broken pipe"):
            await join(reader, writer, Given(endless=True), Broken(), Traffic())
        writer.close()
        peer_writer.close()

    run(scenario())


def test_cancelling_stops_both_directions():
    async def scenario():
        (reader, writer), (_, peer_writer) = await stream_pair()
        before = len(asyncio.all_tasks())
        joined = asyncio.create_task(join(reader, writer, Given(endless=True), Kept(), Traffic()))
        await asyncio.sleep(0)
        joined.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joined
        assert len(asyncio.all_tasks()) == before
        writer.close()
        peer_writer.close()

    run(scenario())
