"""Clients that mean harm, or are broken, at a relay on real sockets. Each docstring is a promise."""

import asyncio
import errno
import logging
import random
import socket
import ssl
import struct
from contextlib import suppress

import pytest
from tests.server.relay_peer import RelayPeer, run, until

from peerway.core.relay.frames import FrameType, build_frame, build_packets
from peerway.core.relay.limits import RelayLimits
from peerway.server import Server
from peerway.server import connection as relay_connection
from peerway.server import relay as relay_service


def local_server(**settings):
    return Server(**{"host": "127.0.0.1", "relay_port": 0, "stun_port": 0} | settings)


loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
transports = pytest.mark.parametrize("tls", [None, "self-signed"])
REQUEST = b"GET /derp HTTP/1.1\r\nHost: relay.test\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"


async def read_to_end(reader):
    """All that still comes, however the connection ends."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


class Drip:
    """Writes one byte every few milliseconds until the connection is over."""

    def __init__(self, writer, data):
        self._writer = writer
        self._rest = iter(data)
        self.written = 0
        self._drop()

    def _drop(self):
        if not self._writer.is_closing():
            self._writer.write(bytes([next(self._rest)]))
            self.written += 1
            asyncio.get_running_loop().call_later(0.005, self._drop)


@loops
def test_a_request_byte_by_byte_is_given_the_time_of_a_handshake_and_no_more(loop):
    """Slow loris: bytes that come now and then do not prolong `handshake_s`, which is for all of it."""

    async def scenario():
        async with local_server(limits=RelayLimits(handshake_s=0.3)) as server:
            alice = await RelayPeer.connect(server.url, "alice")
            reader, writer = await asyncio.open_connection("127.0.0.1", server.relay_port)
            drip = Drip(writer, b"GET /derp HTTP/1.1\r\nX: " + b"x" * 100_000)
            assert await read_to_end(reader) == b""
            writer.close()
            assert drip.written > 2
            assert server.drops["relay: handshake timeout"] == 1
            assert server.client_count == 1
            await alice.close()

    run(scenario(), loop)


@loops
@transports
def test_connections_that_say_nothing_are_closed_and_let_others_in_meanwhile(loop, tls):
    """Half-open TCP: it costs a place among the handshakes for `handshake_s`, of one address's share."""

    async def scenario():
        limits = RelayLimits(handshake_s=0.5, handshakes=8)
        async with local_server(tls=tls, limits=limits) as server:
            silent = [await asyncio.open_connection("127.0.0.1", server.relay_port) for _ in range(7)]
            alice = await RelayPeer.connect(server.url, "alice")
            for reader, writer in silent:
                assert await read_to_end(reader) == b""
                writer.close()
            assert server.drops == {"relay: handshake timeout": 7}
            assert not alice.gone
            await alice.close()

    run(scenario(), loop)


@loops
@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 5000,
        b"GET / HTTP/1.1\r\n\r\n",
        build_frame(FrameType.CLIENT_INFO, bytes(100)),
        b"\x02\xff\xff\xff\xff",
    ],
    ids=["noise", "another request", "a box that does not open", "a frame of 4 GiB"],
)
def test_garbage_after_the_upgrade_ends_the_connection_at_once(loop, garbage):
    """What is not DERP is not waited for, not kept, and counted."""

    async def scenario():
        async with local_server() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.relay_port)
            writer.write(REQUEST)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            writer.write(garbage)
            await read_to_end(reader)
            writer.close()
            assert server.drops == {"relay: not DERP": 1}
            await until(lambda: server._machine.stream_count == 0, "forgotten")

    run(scenario(), loop)


@loops
@transports
def test_a_frame_at_the_limit_passes_and_one_byte_more_ends_its_sender_alone(loop, tls):
    """64 KiB is the largest packet. A larger frame is refused by its head: none of it is kept."""

    async def scenario():
        async with local_server(tls=tls) as server:
            alice = await RelayPeer.connect(server.url, "alice")
            bob = await RelayPeer.connect(server.url, "bob")
            alice.send(bob, bytes(64 << 10))
            await until(lambda: bob.packets() == [bytes(64 << 10)], "the largest packet")
            head = build_packets(FrameType.SEND_PACKET, bob.key, [b""])
            alice.transport.write(head[:1] + (32 + (64 << 10) + 1).to_bytes(4, "big"))
            await until(lambda: alice.gone, "closed")
            assert server.drops == {"relay: not DERP": 1}
            assert not bob.gone
            await alice.close()
            await bob.close()

    run(scenario(), loop)


@loops
@transports
def test_a_client_that_never_reads_holds_little_loses_the_oldest_and_is_closed(loop, tls):
    """What waits for it is bounded (`WRITE_BUFFER_BYTES`, then `queue_packets` and `queue_bytes`); the
    oldest is dropped. Nobody waits for it. After `unread_s` it is closed.
    """

    async def scenario():
        limits = RelayLimits(unread_s=0.5, queue_bytes=200_000)
        async with local_server(tls=tls, limits=limits) as server:
            stuck = await RelayPeer.connect(server.url, "stuck")
            alice = await RelayPeer.connect(server.url, "alice")
            bob = await RelayPeer.connect(server.url, "bob")
            stuck.transport.pause_reading()
            held = 0
            while not server.drops["relay: client does not read"]:
                alice.send(stuck, *[bytes(60_000)] * 4)
                await asyncio.sleep(0)
                for connection in server._relay._connections.values():
                    if connection._transport is not None:
                        held = max(held, connection._transport.get_write_buffer_size())
            assert server.drops["relay: queue full"] > 0
            assert held < relay_connection.WRITE_BUFFER_BYTES + 2 * relay_service.GATHERED_BYTES
            alice.send(bob, b"unharmed")
            await until(lambda: b"unharmed" in bob.packets(), "bob's packet")
            stuck.transport.resume_reading()
            await until(lambda: stuck.gone, "closed")
            for peer in (alice, bob, stuck):
                await peer.close()

    run(scenario(), loop)


@loops
@transports
def test_a_client_that_sends_too_much_is_slowed_down_and_nobody_else_is(loop, tls):
    """Beyond `bytes_per_s` a client is read later: TCP holds it up, and no packet is lost by it."""

    async def scenario():
        limits = RelayLimits(bytes_per_s=2e6, bytes_burst=1e5)
        async with local_server(tls=tls, limits=limits) as server:
            flood = await RelayPeer.connect(server.url, "flood")
            alice = await RelayPeer.connect(server.url, "alice")
            bob = await RelayPeer.connect(server.url, "bob")
            flood.send(bob, *[bytes(50_000)] * 20)
            await until(lambda: server.drops["relay: client held up"] > 0, "held up")
            assert len(bob.packets()) < 20
            alice.send(bob, b"not held up")
            await until(lambda: b"not held up" in bob.packets(), "alice's packet")
            assert len(bob.packets()) < 21
            await until(lambda: len(bob.packets()) == 21, "all that the flood sent")
            for peer in (flood, alice, bob):
                await peer.close()

    run(scenario(), loop)


@loops
def test_connections_that_do_not_leave_when_told_to_are_bounded(loop, monkeypatch):
    """Whom we close has `LINGER_S` to read why. When `LEAVING` do so at once, others are cut off."""
    monkeypatch.setattr(relay_connection, "LINGER_S", 60.0)
    monkeypatch.setattr(relay_service, "LEAVING", 2)
    monkeypatch.setattr(relay_service, "DRAIN_LIMIT_S", 0.1)

    async def scenario():
        async with local_server() as server:
            clients = [socket.create_connection(("127.0.0.1", server.relay_port)) for _ in range(4)]
            for client in clients:
                client.sendall(b"garbage\r\n\r\n")
            await until(lambda: server.drops["relay: cut off while leaving"] == 2, "two cut off")
            await until(lambda: len(server._relay._connections) == 2, "the others are left")
            for client in clients[:2]:
                client.close()
            await until(lambda: len(server._relay._connections) <= 2, "freed")
        for client in clients:
            client.close()

    run(scenario(), loop)


def test_a_failing_accept_is_counted_or_waits_and_is_told_of_once_a_minute(caplog, monkeypatch):
    """A connection that dies before it is accepted costs no pause, and no failure floods the log."""
    monkeypatch.setattr(relay_service, "ACCEPT_PAUSE_S", 0.0)

    async def scenario():
        async with local_server() as server:
            (listener,) = server._relay._listeners
            for number in [errno.ECONNABORTED] * 5 + [errno.EMFILE] * 5:
                await server._relay._not_accepted(listener, OSError(number, "accept"))
            assert server.drops["relay: lost before it was accepted"] == 5
            return server.relay_port

    with caplog.at_level(logging.WARNING, "peerway.server"):
        port = run(scenario())
    assert [record.getMessage() for record in caplog.records if "not-accepting" in record.getMessage()] == [
        f"relay not-accepting port={port} error=[Errno 24] accept"
    ]


def test_a_bug_met_while_accepting_does_not_end_accepting(monkeypatch, caplog):
    """An exception is logged and costs the one connection that caused it."""

    async def scenario():
        async with local_server() as server:
            accepted = server._machine.stream_accepted
            monkeypatch.setattr(server._machine, "stream_accepted", lambda *_: 1 / 0)
            reader, writer = await asyncio.open_connection("127.0.0.1", server.relay_port)
            assert await read_to_end(reader) == b""
            writer.close()
            monkeypatch.setattr(server._machine, "stream_accepted", accepted)
            alice = await RelayPeer.connect(server.url, "alice")
            await alice.close()

    run(scenario())
    assert "ZeroDivisionError" in caplog.text


class TlsByHand:
    """A client of the relay that says goodbye to TLS and neither reads nor closes any more."""

    def __init__(self, url, seed):
        self.peer = RelayPeer(url, seed)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.tls = context.wrap_bio(self.incoming, self.outgoing)
        self.sock = socket.create_connection(("127.0.0.1", self.peer.url.port))
        self.sock.setblocking(False)
        self.peer.transport = self

    async def connect(self):
        await self._until_done(self.tls.do_handshake)
        self.peer.client.stream_opened(0.0)
        while not self.peer.client.connected:
            self.peer.drain()
            self.peer.client.stream_data(await self._until_done(lambda: self.tls.read(4096)), 0.0)

    async def say_goodbye(self):
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        await self._flush()

    def write(self, data):
        self.tls.write(data)

    async def _flush(self):
        await asyncio.get_running_loop().sock_sendall(self.sock, self.outgoing.read())

    async def _until_done(self, step):
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                self.incoming.write(await asyncio.get_running_loop().sock_recv(self.sock, 4096))
                continue
            await self._flush()
            return result


@loops
def test_a_client_that_says_goodbye_and_stays_is_gone_and_fills_no_log(loop, caplog):
    """Whoever ends its direction is gone: its key is free at once, and nothing more is written to it."""

    async def scenario():
        async with local_server(tls="self-signed") as server:
            leaver = TlsByHand(server.url, "leaver")
            await leaver.connect()
            alice = await RelayPeer.connect(server.url, "alice")
            while not server.drops["relay: queue full"]:
                alice.send(leaver.peer, *[bytes(60_000)] * 4)
                await asyncio.sleep(0)
            await leaver.say_goodbye()
            await until(lambda: server.client_count == 1, "gone")
            for _ in range(20):
                alice.send(leaver.peer, b"are you there?")
                await asyncio.sleep(0)
            await until(lambda: server.drops["relay: destination not here"] >= 20, "not here")
            await until(lambda: len(server._relay._connections) == 1, "freed")
            leaver.sock.close()
            await alice.close()

    with caplog.at_level(logging.WARNING, "asyncio"):
        run(scenario(), loop)
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def client_hello():
    """What a TLS client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


class Nuisance:
    """A connection that says a part of something sensible, then nonsense, and ends in one of many ways."""

    def __init__(self, port, chance, opening):
        self.sock = socket.create_connection(("127.0.0.1", port))
        said = opening[: chance.randrange(len(opening) + 1)] if chance.random() < 0.5 else opening
        with suppress(OSError):
            self.sock.sendall(said + chance.randbytes(chance.choice((0, 0, 1, 300, 40_000))))
        self.end = chance.choice((self.reset, self.sock.close, self.half_close, self.stay))

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def half_close(self):
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def stay(self):
        pass


@loops
@transports
def test_whatever_connections_say_and_however_they_end_nothing_is_left(loop, tls, monkeypatch, caplog):
    """No exception reaches the event loop, nothing is logged, no task, connection or count stays."""
    monkeypatch.setattr(relay_connection, "LINGER_S", 0.1)
    opening = client_hello() if tls else REQUEST + build_frame(FrameType.CLIENT_INFO, bytes(100))
    chance = random.Random(f"nuisance {loop} {tls}")

    async def scenario():
        async with local_server(tls=tls, limits=RelayLimits(handshake_s=0.3)) as server:
            alice = await RelayPeer.connect(server.url, "alice")
            for _ in range(20):
                crowd = [Nuisance(server.relay_port, chance, opening) for _ in range(10)]
                for nuisance in crowd:
                    if chance.random() < 0.5:
                        await asyncio.sleep(0)
                    nuisance.end()
                alice.send(alice, b"still here")
                await until(lambda: alice.packets()[-1:] == [b"still here"], "an echo")
                alice.events.clear()
                await until(lambda: len(server._relay._connections) == 1, "the crowd gone")
                for nuisance in crowd:
                    nuisance.sock.close()
            assert server._machine.stream_count == 1
            assert server._machine._handshakes_per_ip == {}
            assert server._relay._leaving == set()
            await alice.close()

    with caplog.at_level(logging.WARNING):
        run(scenario(), loop)
    assert [record.getMessage() for record in caplog.records if "plain-http" not in record.getMessage()] == []
