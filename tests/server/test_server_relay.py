"""The relay over real loopback sockets."""

import asyncio
import hashlib
import socket
import ssl

import pytest
from tests.server.relay_peer import RelayPeer, run, until

from peerway.core.relay.client import PeerGone, RelayDisconnected, RelayHealthChanged, RelayRestarting
from peerway.core.relay.frames import PeerGoneReason
from peerway.core.relay.limits import RelayLimits
from peerway.core.relay.url import RelayUrl
from peerway.server import Server
from peerway.server import connection as relay_connection
from peerway.server import relay as relay_service


def local_server(**settings):
    return Server(**{"host": "127.0.0.1", "relay_port": 0, "stun_port": 0} | settings)


loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
transports = pytest.mark.parametrize("tls", [None, "self-signed"])


@loops
@transports
def test_packets_go_both_ways_between_two_clients(loop, tls):
    async def scenario():
        async with local_server(tls=tls) as server:
            alice = await RelayPeer.connect(server.url, "alice")
            bob = await RelayPeer.connect(server.url, "bob")
            alice.send(bob, b"one", b"two")
            await until(lambda: bob.packets() == [b"one", b"two"], "bob has them")
            bob.send(alice, b"three")
            await until(lambda: alice.packets() == [b"three"], "alice has it")
            assert server.client_count == 2
            await alice.close()
            await bob.close()
            await until(lambda: server.client_count == 0, "both forgotten")

    run(scenario(), loop)


@loops
@transports
def test_a_mebibyte_arrives_whole_and_in_order(loop, tls):
    async def scenario():
        async with local_server(tls=tls) as server:
            alice = await RelayPeer.connect(server.url, "alice")
            bob = await RelayPeer.connect(server.url, "bob")
            packets = [bytes([number % 256]) * 1200 for number in range(900)]
            for start in range(0, 900, 100):
                alice.send(bob, *packets[start : start + 100])
                await until(lambda: len(bob.packets()) == start + 100, "a batch")  # noqa: B023
            assert bob.packets() == packets
            await alice.close()
            await bob.close()

    run(scenario(), loop)


@loops
def test_a_client_over_ipv6_reaches_one_over_ipv4_at_the_same_port(loop):
    async def scenario():
        async with local_server(host=("127.0.0.1", "::1")) as server:
            alice = await RelayPeer.connect(f"http://127.0.0.1:{server.relay_port}", "alice")
            bob = await RelayPeer.connect(f"http://[::1]:{server.relay_port}", "bob")
            alice.send(bob, b"hello")
            await until(lambda: bob.packets() == [b"hello"], "bob has it")
            await alice.close()
            await bob.close()

    run(scenario(), loop)


@loops
def test_a_client_is_told_when_its_correspondent_is_gone(loop):
    async def scenario():
        async with local_server() as server:
            alice = await RelayPeer.connect(server.url, "alice")
            bob = await RelayPeer.connect(server.url, "bob")
            alice.send(bob, b"x")
            await until(bob.packets, "a packet")
            await alice.close()
            await until(lambda: bob.of(PeerGone), "gone")
            assert bob.of(PeerGone) == [PeerGone("s", alice.key, PeerGoneReason.DISCONNECTED)]
            await bob.close()

    run(scenario(), loop)


@loops
@transports
def test_the_older_connection_learns_why_it_is_closed(loop, tls):
    async def scenario():
        async with local_server(tls=tls) as server:
            old = await RelayPeer.connect(server.url, "same")
            new = await RelayPeer.connect(server.url, "same")
            await until(lambda: old.gone and old.transport is None, "old one closed")
            reason = "replaced by a newer connection with the same key"
            assert old.of(RelayHealthChanged) == [RelayHealthChanged("s", reason)]
            assert old.of(RelayDisconnected) == [RelayDisconnected("s", reason)]
            assert server.client_count == 1
            await new.close()

    run(scenario(), loop)


@loops
@transports
def test_leaving_tells_clients_to_come_back_and_closes(loop, tls):
    async def scenario():
        async with local_server(tls=tls) as server:
            alice = await RelayPeer.connect(server.url, "alice")
            bob = await RelayPeer.connect(server.url, "bob")
            alice.send(bob, b"last words")
            await until(bob.packets, "a packet")
            port = server.relay_port
        for peer in (alice, bob):
            await until(lambda: peer.gone, "closed")  # noqa: B023
            (restarting,) = peer.of(RelayRestarting)
            assert 0 <= restarting.reconnect_in <= 2.0
            await peer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    run(scenario(), loop)


@loops
def test_what_the_server_wrote_last_survives_a_client_that_goes_on_sending(loop):
    async def scenario():
        async with local_server() as server:
            alice = await RelayPeer.connect(server.url, "alice")
            for _ in range(200):
                alice.send(alice, bytes(60_000))
        await until(lambda: alice.gone, "closed")
        assert len(alice.of(RelayRestarting)) == 1
        await alice.close()

    run(scenario(), loop)


@loops
def test_a_client_that_never_closes_does_not_hold_the_server_up(loop, monkeypatch):
    monkeypatch.setattr(relay_connection, "LINGER_S", 0.05)

    async def scenario():
        async with local_server() as server:
            silent = socket.create_connection(("127.0.0.1", server.relay_port))
            await until(lambda: server._machine.stream_count == 1, "accepted")
        assert server._relay._connections == {}
        silent.close()

    run(scenario(), loop)


@loops
def test_a_client_that_stops_reading_is_given_up_when_draining_takes_too_long(loop, monkeypatch):
    monkeypatch.setattr(relay_connection, "LINGER_S", 60.0)
    monkeypatch.setattr(relay_service, "DRAIN_LIMIT_S", 0.1)

    async def scenario():
        async with local_server() as server:
            stuck = await RelayPeer.connect(server.url, "stuck")
            alice = await RelayPeer.connect(server.url, "alice")
            stuck.transport.pause_reading()
            while not server.drops["relay: queue full"]:
                alice.send(stuck, *[bytes(60_000)] * 4)
                await asyncio.sleep(0)
        assert server._relay._connections == {}
        stuck.transport.resume_reading()
        await alice.close()
        await stuck.close()

    run(scenario(), loop)


@loops
def test_a_slow_reader_harms_nobody_else_and_later_gets_the_newest(loop):
    async def scenario():
        async with local_server() as server:
            slow = await RelayPeer.connect(server.url, "slow")
            bob = await RelayPeer.connect(server.url, "bob")
            alice = await RelayPeer.connect(server.url, "alice")
            slow.transport.pause_reading()
            number = 0
            while not server.drops["relay: queue full"]:
                alice.send(slow, *[number.to_bytes(4, "big") + bytes(60_000)] * 4)
                number += 1
                await asyncio.sleep(0)
            alice.send(slow, b"last")
            alice.send(bob, b"unharmed")
            await until(lambda: bob.packets() == [b"unharmed"], "bob's packet")
            slow.transport.resume_reading()
            await until(lambda: slow.packets()[-1:] == [b"last"], "the newest")
            for peer in (alice, bob, slow):
                await peer.close()

    run(scenario(), loop)


@loops
@transports
def test_http_is_answered_on_the_same_port(loop, tls):
    async def scenario():
        async with local_server(tls=tls) as server:
            context = None
            if tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            reader, writer = await asyncio.open_connection("127.0.0.1", server.relay_port, ssl=context)
            writer.write(b"GET /generate_204 HTTP/1.1\r\nHost: r\r\n\r\n")
            assert await reader.readline() == b"HTTP/1.1 204 No Content\r\n"
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"GET /nowhere HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
            writer.close()
            await writer.wait_closed()

    run(scenario(), loop)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/derp/probe", b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\n"),
        ("/derp/latency-check", b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\n"),
        ("/derp", b"HTTP/1.1 426 Upgrade Required\r\n"),
        ("/", b"HTTP/1.1 404 Not Found\r\n"),
        ("/metrics", b"HTTP/1.1 404 Not Found\r\n"),
    ],
)
def test_what_is_no_upgrade_is_answered_as_derper_does_and_everything_else_is_not_found(path, answer):
    async def scenario():
        async with local_server() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.relay_port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n".encode())
            assert (await reader.read()).startswith(answer)
            writer.close()

    run(scenario())


@loops
def test_a_key_that_is_not_allowed_is_told_so(loop):
    async def scenario():
        async with local_server(allow=lambda key: False) as server:
            peer = await RelayPeer(server.url, "mallory").open()
            await until(lambda: peer.gone, "refused")
            assert peer.of(RelayDisconnected) == [
                RelayDisconnected("s", "this relay does not admit this key")
            ]
            await peer.close()

    run(scenario(), loop)


@loops
@transports
def test_a_connection_that_says_nothing_is_closed_in_time(loop, tls):
    async def scenario():
        async with local_server(tls=tls, limits=RelayLimits(handshake_s=0.05)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.relay_port)
            assert await reader.read() == b""
            writer.close()
            await until(lambda: not server._relay._connections, "freed")
            assert server.drops == {"relay: handshake timeout": 1}

    run(scenario(), loop)


@loops
@transports
def test_connections_past_a_limit_are_closed_at_once(loop, tls):
    async def scenario():
        async with local_server(tls=tls, limits=RelayLimits(handshakes=1)) as server:
            first = await asyncio.open_connection("127.0.0.1", server.relay_port)
            await until(lambda: server._machine.stream_count == 1, "accepted")
            reader, writer = await asyncio.open_connection("127.0.0.1", server.relay_port)
            assert await reader.read() == b""
            assert server.drops == {"relay: too many handshakes": 1}
            for stream in (first[1], writer):
                stream.close()
                await stream.wait_closed()

    run(scenario(), loop)


@loops
def test_a_client_without_tls_at_a_tls_port_is_closed(loop):
    async def scenario():
        async with local_server(tls="self-signed") as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.relay_port)
            writer.write(b"GET /derp HTTP/1.1\r\nHost: r\r\n\r\n")
            try:
                assert not (await reader.read()).startswith(b"HTTP")
            except ConnectionResetError:
                pass
            writer.close()
            await until(lambda: not server._relay._connections, "freed")

    run(scenario(), loop)


@loops
def test_leaving_frees_connections_in_the_middle_of_a_tls_handshake(loop):
    async def scenario():
        async with local_server(tls="self-signed") as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.relay_port)
            await until(lambda: server._machine.stream_count == 1, "accepted")
        assert server._relay._connections == {}
        writer.close()

    run(scenario(), loop)


@loops
def test_the_url_carries_the_pin_of_the_certificate_shown(loop):
    async def scenario():
        async with local_server(tls="self-signed") as server:
            peer = await RelayPeer.connect(server.url, "alice")
            assert RelayUrl.parse(server.url).pin == hashlib.sha256(peer.certificate).hexdigest()
            await peer.close()

    run(scenario(), loop)
