import asyncio
import contextlib
import hashlib
import logging
import random
import socket
import struct

import pytest

from peerway.io import stream as stream_module
from peerway.io.stream import ClientStream, StreamTarget


class Sink:
    """Writes down what a stream tells."""

    def __init__(self):
        self.told = []
        self.received = bytearray()
        self._changed = asyncio.Event()

    def stream_opened(self, name):
        self._tell("opened", name)

    def stream_data(self, name, data):
        self.received += data
        self._changed.set()

    def stream_closed(self, name, error):
        self._tell("closed", name, error)

    def stream_paused(self, name):
        self._tell("paused", name)

    def stream_resumed(self, name):
        self._tell("resumed", name)

    def _tell(self, *what):
        self.told.append(what)
        self._changed.set()

    async def until(self, condition):
        while not condition():
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 5)

    async def opened(self):
        await self.until(lambda: ("opened", "s") in self.told)

    async def closed(self):
        await self.until(lambda: self.told and self.told[-1][0] == "closed")
        return self.told[-1][2]


async def echo(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def stall(reader, writer):
    """Read nothing for as long as the connection lasts."""
    reader._transport.pause_reading()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(handler, context=None, host="127.0.0.1"):
    """The port of a server that runs `handler`; on leaving its connections are gone as well."""
    connections = []

    async def handle(reader, writer):
        connections.append((asyncio.current_task(), writer))
        await handler(reader, writer)

    server = await asyncio.start_server(handle, host, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for _, writer in connections:
            writer.transport.abort()
        if connections:
            await asyncio.wait([task for task, _ in connections])


async def closed_port():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


def test_bytes_go_there_and_back(run):
    async def main():
        async with serving(echo) as port:
            sink = Sink()
            stream = ClientStream("s", StreamTarget("127.0.0.1", port), sink)
            await sink.opened()
            assert stream.write([b"hel", b"lo", b""])
            await sink.until(lambda: sink.received == b"hello")
            stream.close()
            await stream.wait_gone()
            assert sink.told == [("opened", "s")]

    run(main())


def test_what_was_written_before_close_arrives(run):
    async def main():
        arrived = asyncio.get_running_loop().create_future()

        async def collect(reader, writer):
            arrived.set_result(await reader.read(-1))
            writer.close()

        async with serving(collect) as port:
            sink = Sink()
            stream = ClientStream("s", StreamTarget("127.0.0.1", port), sink)
            await sink.opened()
            stream.write([bytes(100_000)])
            stream.close()
            assert not stream.write([b"too late"])
            assert await arrived == bytes(100_000)
            await stream.wait_gone()

    run(main())


def test_the_other_side_closing_is_told_once(run):
    async def main():
        async def hang_up(reader, writer):
            writer.write(b"bye")
            writer.close()

        async with serving(hang_up) as port:
            sink = Sink()
            stream = ClientStream("s", StreamTarget("127.0.0.1", port), sink)
            assert await sink.closed() == f"127.0.0.1:{port} closed the connection"
            assert sink.received == b"bye"
            await stream.wait_gone()
            assert [what for what, *_ in sink.told] == ["opened", "closed"]

    run(main())


def test_a_reset_is_told(run):
    async def main():
        async def reset(reader, writer):
            await reader.read(1)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()

        async with serving(reset) as port:
            sink = Sink()
            stream = ClientStream("s", StreamTarget("127.0.0.1", port), sink)
            await sink.opened()
            stream.write([b"x"])
            assert await sink.closed() == f"127.0.0.1:{port} reset the connection"
            await stream.wait_gone()

    run(main())


def test_a_reader_that_stalls_pauses_and_resumes_the_writer(run):
    async def main():
        proceed = asyncio.Event()
        total = 0

        async def wait_then_read(reader, writer):
            nonlocal total
            await proceed.wait()
            while data := await reader.read(1 << 20):
                total += len(data)
            writer.close()

        async with serving(wait_then_read) as port:
            sink = Sink()
            stream = ClientStream("s", StreamTarget("127.0.0.1", port), sink)
            await sink.opened()
            written = 0
            while ("paused", "s") not in sink.told:
                assert stream.write([bytes(262_144)])
                written += 262_144
            proceed.set()
            await sink.until(lambda: ("resumed", "s") in sink.told)
            stream.close()
            await stream.wait_gone()
            assert total <= written

    run(main())


def test_a_writer_that_does_not_pause_loses_the_stream(run, monkeypatch):
    async def main():
        monkeypatch.setattr(stream_module, "BACKLOG_BYTES", 1 << 20)
        async with serving(stall) as port:
            sink = Sink()
            stream = ClientStream("s", StreamTarget("127.0.0.1", port), sink)
            await sink.opened()
            while stream.write([bytes(1 << 20)]):
                pass
            assert "does not read what it is sent" in await sink.closed()
            await stream.wait_gone()

    run(main())


def test_closing_on_a_peer_that_does_not_read_ends_after_the_linger(run, monkeypatch):
    async def main():
        monkeypatch.setattr(stream_module, "CLOSE_LINGER_S", 0.05)
        async with serving(stall) as port:
            sink = Sink()
            stream = ClientStream("s", StreamTarget("127.0.0.1", port), sink)
            await sink.opened()
            while ("paused", "s") not in sink.told:
                stream.write([bytes(1 << 20)])
            stream.close()
            await asyncio.wait_for(stream.wait_gone(), 5)

    run(main())


def test_a_server_that_says_goodbye_and_reads_no_more_is_told_of_at_once(run):
    async def main():
        async def leave_half(reader, writer):
            reader._transport.pause_reading()
            await full.wait()
            writer.write_eof()
            await done.wait()

        full, done = asyncio.Event(), asyncio.Event()
        async with serving(leave_half) as port:
            sink = Sink()
            stream = ClientStream("s", StreamTarget("127.0.0.1", port), sink)
            await sink.opened()
            while ("paused", "s") not in sink.told:
                stream.write([bytes(1 << 20)])
            full.set()
            assert await sink.closed() == f"127.0.0.1:{port} closed the connection"
            assert not stream.write([b"late"])
            await stream.wait_gone()
            done.set()

    run(main())


def test_a_refused_port_is_told(run):
    async def main():
        port = await closed_port()
        sink = Sink()
        stream = ClientStream("s", StreamTarget("127.0.0.1", port), sink)
        told = await sink.closed()
        assert told.startswith(f"127.0.0.1:{port} refused the connection")
        await stream.wait_gone()
        assert [what for what, *_ in sink.told] == ["closed"]

    run(main())


def test_a_host_that_does_not_exist_is_told(run):
    async def main():
        sink = Sink()
        stream = ClientStream("s", StreamTarget("no-such-host.invalid", 443, encrypted=True), sink)
        assert "no-such-host.invalid" in await sink.closed()
        await stream.wait_gone()

    run(main())


def test_a_server_that_says_nothing_times_out(run):
    async def main():
        with socket.socket() as silent:  # accepts in its backlog and never speaks TLS
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            port = silent.getsockname()[1]
            sink = Sink()
            stream = ClientStream("s", StreamTarget("127.0.0.1", port, encrypted=True), sink, 0.05)
            assert (await sink.closed()).startswith(f"127.0.0.1:{port} did not answer within 0.05 s: ")
            await stream.wait_gone()

    run(main())


def test_closing_while_connecting_says_nothing(run):
    async def main():
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            target = StreamTarget("127.0.0.1", silent.getsockname()[1], encrypted=True)
            sink = Sink()
            for turns in (0, 1, 2, 5, 10):
                stream = ClientStream("s", target, sink)
                for _ in range(turns):
                    await asyncio.sleep(0)
                assert not stream.write([b"too early"])
                stream.close()
                await stream.wait_gone()
            assert sink.told == []

    run(main())


def test_tls_with_a_trusted_certificate(run, authority):
    async def main():
        context, _ = authority.server()
        async with serving(echo, context, "localhost") as port:
            sink = Sink()
            stream = ClientStream("s", StreamTarget("localhost", port, encrypted=True), sink)
            await sink.until(lambda: sink.told)
            assert sink.told == [("opened", "s")]
            stream.write([bytes(300_000)])
            await sink.until(lambda: len(sink.received) == 300_000)
            stream.close()
            await stream.wait_gone()

    run(main())


@pytest.mark.parametrize(
    ("certificate", "expected"),
    [
        ({"days": (-3, -1)}, "has expired"),
        ({"days": (0.5, 1)}, "is not valid yet"),
        ({"names": ("relay.example.org",)}, "is for another host"),
        ({"self_signed": True}, "is self-signed"),
    ],
)
def test_a_certificate_that_cannot_be_trusted_is_told(run, authority, certificate, expected):
    async def main():
        context, _ = authority.server(**certificate)
        async with serving(echo, context, "localhost") as port:
            sink = Sink()
            stream = ClientStream("s", StreamTarget("localhost", port, encrypted=True), sink)
            assert (await sink.closed()).startswith(f"the certificate of localhost:{port} {expected}")
            await stream.wait_gone()

    run(main())


def test_the_pinned_certificate_is_accepted_whatever_it_says(run, authority):
    async def main():
        context, der = authority.server(names=("elsewhere",), days=(-3, -1), self_signed=True)
        async with serving(echo, context) as port:
            sink = Sink()
            pin = hashlib.sha256(der).hexdigest()
            stream = ClientStream("s", StreamTarget("127.0.0.1", port, encrypted=True, pin=pin), sink)
            await sink.opened()
            stream.write([b"secret"])
            await sink.until(lambda: sink.received == b"secret")
            stream.close()
            await stream.wait_gone()

    run(main())


def test_another_certificate_than_the_pinned_one_is_refused_before_anything_is_said(run, authority):
    async def main():
        async def eager(reader, writer):
            with contextlib.suppress(OSError):
                writer.write(b"are you there?")
                assert await reader.read(100) == b""
            writer.close()

        context, der = authority.server()  # trusted by the system, and still not the pinned one
        async with serving(eager, context, "localhost") as port:
            sink = Sink()
            wrong = "ab" * 32
            stream = ClientStream("s", StreamTarget("localhost", port, encrypted=True, pin=wrong), sink)
            told = await sink.closed()
            assert wrong in told
            assert hashlib.sha256(der).hexdigest() in told
            await stream.wait_gone()
            assert [what for what, *_ in sink.told] == ["closed"]
            assert sink.received == b""

    run(main())


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_plain_http_where_tls_is_expected_is_told(run, answer):
    async def main():
        async def plain(reader, writer):
            await reader.read(5)
            writer.write(answer)
            writer.close()

        async with serving(plain) as port:
            sink = Sink()
            stream = ClientStream("s", StreamTarget("127.0.0.1", port, encrypted=True), sink)
            told = await sink.closed()
            assert told.startswith(f"127.0.0.1:{port} ")
            assert answer == b"" or "does not speak TLS" in told
            assert answer or "closed the connection" in told or "reset the connection" in told
            await stream.wait_gone()

    run(main())


class Misbehaving:
    """A server that to each connection says something at random, and ends it in one of many ways."""

    def __init__(self, chance):
        self.chance = chance
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.staying = []

    async def serve_one(self):
        sock, _ = await asyncio.get_running_loop().sock_accept(self.listener)
        size = self.chance.choice((0, 1, 5, 300, 100_000))
        said = self.chance.choice(
            (b"", b"HTTP/1.1 200 OK\r\n", b"\x16\x03\x03\x00\x05hello", b"\x15\x03\x03\x00\x02\x02\x28")
        )
        with contextlib.suppress(OSError):
            sock.send(said + self.chance.randbytes(size))
        match self.chance.randrange(4):
            case 0:
                sock.close()
            case 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            case 2:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_WR)
                self.staying.append(sock)
            case _:
                self.staying.append(sock)


@pytest.mark.parametrize("encrypted", [False, True])
def test_whatever_a_server_says_and_however_it_ends_the_stream_ends_once(run, encrypted, caplog, monkeypatch):
    monkeypatch.setattr(stream_module, "CLOSE_LINGER_S", 0.05)
    problems = []

    async def main():
        loop = asyncio.get_running_loop()
        if encrypted and not isinstance(loop, asyncio.BaseEventLoop):
            pytest.skip("uvloop leaves the sockets of failed TLS handshakes to the garbage collector")
        loop.set_exception_handler(lambda _, context: problems.append(context))
        server = Misbehaving(random.Random(f"server {encrypted}"))
        for _ in range(60):
            sink = Sink()
            target = StreamTarget("127.0.0.1", server.port, encrypted, "0" * 64 if encrypted else None)
            stream = ClientStream("s", target, sink)
            await server.serve_one()
            for _ in range(server.chance.randrange(4)):
                stream.write([server.chance.randbytes(50_000)])
                await asyncio.sleep(0)
            if server.chance.random() < 0.5:
                stream.close()
            else:
                stream.abort()
            await stream.wait_gone()
            assert [what for what, *_ in sink.told].count("closed") <= 1
        for sock in (server.listener, *server.staying):
            sock.close()

    with caplog.at_level(logging.WARNING):
        run(main())
    assert problems == []
    assert caplog.records == []
