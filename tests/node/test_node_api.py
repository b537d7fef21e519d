"""The asyncio API on real sockets: nodes of one process, a real relay, real UDP on loopback."""

import asyncio
import contextlib
import hashlib

import pytest
from tests.node.running import run

from peerway import (
    ConnectionClosedError,
    Node,
    NodeClosedError,
    PeerwayError,
    RelayUnreachableError,
    SecretKey,
    StreamResetError,
    Ticket,
    TicketTruncatedError,
)
from peerway.core.path.candidate import CandidateKind
from peerway.core.path.events import PathSelected
from peerway.core.quic import qh3_transport


async def echo(node):
    """Echo every stream of every connection until cancelled."""
    async with asyncio.TaskGroup() as group:
        async for connection in node:
            group.create_task(echo_streams(connection, group))


async def echo_streams(connection, group):
    try:
        while True:
            group.create_task(echo_stream(*await connection.accept_stream()))
    except ConnectionClosedError:
        pass


async def echo_stream(reader, writer):
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()
    except (ConnectionClosedError, StreamResetError):
        pass


class Listening:
    """A node with a relay whose connections are echoed."""

    def __init__(self, server, **options):
        self._server = server()
        self._options = options

    async def __aenter__(self):
        await self._server.__aenter__()
        self.url = self._server.url
        self.node = Node(relays=[self.url], **self._options)
        await self.node.__aenter__()
        await self.node.wait_relay(5)
        self._echo = asyncio.create_task(echo(self.node))
        return self

    async def __aexit__(self, *_):
        self._echo.cancel()
        await asyncio.gather(self._echo, return_exceptions=True)
        await self.node.close()
        await self._server.__aexit__(None, None, None)


async def until_direct(connection):
    async with asyncio.timeout(10):
        events = connection.path_events()
        while connection.path is None or connection.path.kind != "direct":
            await anext(events)
        await events.aclose()


def test_hello_over_a_stream(server):
    async def main():
        async with (
            Listening(server) as there,
            Node() as node,
            node.connect(there.node.ticket()) as connection,
        ):
            assert connection.peer == there.node.node_id
            reader, writer = await connection.open_stream()
            writer.write(b"hello")
            writer.write_eof()
            assert await reader.read() == b"hello"
            assert reader.at_eof()

    run(main())


def test_the_first_byte_goes_by_the_relay_and_the_path_becomes_direct(server):
    async def main():
        async with (
            Listening(server) as there,
            Node() as node,
            node.connect(there.node.ticket()) as connection,
        ):
            await until_direct(connection)
            kinds = [e.kind.value for _, e in connection.history if isinstance(e, PathSelected)]
            assert kinds[0] == "relay"
            assert kinds[-1] in ("direct", "lan")
            assert all(str(event) for _, event in connection.history)

    run(main())


def test_the_port_the_stun_server_saw_is_the_port_the_data_uses(server):
    async def main():
        async with (
            Listening(server) as there,
            Node() as node,
            node.connect(there.node.ticket()) as connection,
        ):
            await until_direct(connection)
            seen = [c.address for c in there.node.candidates if c.kind is CandidateKind.REFLEXIVE]
            assert seen[0].port == there.node.sockets[0].port
            assert connection.path.remote.rpartition(":")[2] == str(seen[0].port)

    run(main())


def test_a_transfer_across_the_switch_arrives_whole(server):
    async def main():
        async with (
            Listening(server) as there,
            Node() as node,
            node.connect(there.node.ticket()) as connection,
        ):
            reader, writer = await connection.open_stream()
            sent, got = hashlib.sha256(), hashlib.sha256()

            async def send():
                for number in range(200):
                    chunk = number.to_bytes(4, "big") * 8192
                    sent.update(chunk)
                    writer.write(chunk)
                    await writer.drain()
                writer.write_eof()

            sending = asyncio.create_task(send())
            while data := await reader.read(1 << 18):
                got.update(data)
            await sending
            assert got.digest() == sent.digest()
            await until_direct(connection)

    run(main())


def test_a_stream_exists_for_the_peer_before_anything_is_written(server):
    async def main():
        async with server() as relay, Node(relays=[relay.url]) as there, Node() as node:
            await there.wait_relay(5)
            async with node.connect(there.ticket()) as connection:
                reader, _ = await connection.open_stream()
                theirs = await anext(aiter(there))
                _, writer = await theirs.accept_stream()
                writer.write(b"you opened, I speak first")
                writer.close()
                assert await reader.read() == b"you opened, I speak first"

    run(main())


def test_ping_names_the_path_it_took(server):
    async def main():
        async with (
            Listening(server) as there,
            Node() as node,
            node.connect(there.node.ticket()) as connection,
        ):
            pong = await connection.ping()
            assert pong.rtt > 0
            assert pong.path.kind in ("relay", "direct")
            await until_direct(connection)
            assert (await connection.ping()).path.kind == "direct"

    run(main())


def test_what_was_written_before_the_close_arrives(server):
    async def main():
        async with server() as relay, Node(relays=[relay.url]) as there, Node() as node:
            await there.wait_relay(5)
            async with node.connect(there.ticket()) as connection:
                _, writer = await connection.open_stream()
                writer.write(b"x" * 3_000_000)
                writer.close()
                theirs = await anext(aiter(there))
                reader, _ = await theirs.accept_stream()
                reading = asyncio.create_task(reader.read())
            assert await reading == b"x" * 3_000_000
            await theirs.wait_closed()

    run(main())


def test_the_close_code_and_reason_reach_the_peer(server):
    async def main():
        async with server() as relay, Node(relays=[relay.url]) as there, Node() as node:
            await there.wait_relay(5)
            connection = await node.connect(there.ticket())
            theirs = await anext(aiter(there))
            await connection.close(42, "enough")
            with pytest.raises(ConnectionClosedError, match="enough") as caught:
                await theirs.accept_stream()
            assert caught.value.code == 42
            assert caught.value.by_peer

    run(main())


def test_a_reset_stream_raises_at_the_reader_and_leaves_the_others(server):
    async def main():
        async with server() as relay, Node(relays=[relay.url]) as there, Node() as node:
            await there.wait_relay(5)
            async with node.connect(there.ticket()) as connection:
                _, bad = await connection.open_stream()
                _, good = await connection.open_stream()
                theirs = await anext(aiter(there))
                bad_reader, _ = await theirs.accept_stream()
                good_reader, _ = await theirs.accept_stream()
                bad.reset(7)
                good.write(b"fine")
                good.close()
                with pytest.raises(StreamResetError, match="code 7"):
                    await bad_reader.read()
                assert await good_reader.read() == b"fine"

    run(main())


def test_a_writer_hears_that_nobody_reads_any_more(server):
    async def main():
        async with server() as relay, Node(relays=[relay.url]) as there, Node() as node:
            await there.wait_relay(5)
            async with node.connect(there.ticket()) as connection:
                _, writer = await connection.open_stream()
                theirs = await anext(aiter(there))
                reader, _ = await theirs.accept_stream()
                reader.stop(9)

                async def write_on():
                    while True:
                        writer.write(b"x" * 100_000)
                        await writer.drain()
                        await asyncio.sleep(0)

                with pytest.raises(StreamResetError, match="code 9"):
                    await write_on()

    run(main())


def test_one_connection_with_a_peer_at_a_time(server):
    async def main():
        async with Listening(server) as there, Node() as node:
            first = await node.connect(there.node.ticket())
            assert await node.connect(there.node.ticket()) is first
            await first.close()
            second = await node.connect(there.node.ticket())
            assert second is not first
            await second.close()

    run(main())


def test_many_dial_one_at_the_same_time(server):
    async def main():
        async with Listening(server) as there:
            ticket = there.node.ticket()

            async def ask(number):
                async with Node() as node, node.connect(ticket) as connection:
                    reader, writer = await connection.open_stream()
                    writer.write(str(number).encode())
                    writer.write_eof()
                    return await reader.read()

            answers = await asyncio.gather(*(ask(number) for number in range(15)))
            assert answers == [str(number).encode() for number in range(15)]

    run(main())


def test_both_dial_at_once(server):
    async def main():
        async with server() as relay, Node(relays=[relay.url]) as one, Node(relays=[relay.url]) as two:
            await one.wait_relay(5)
            await two.wait_relay(5)
            ours, theirs = await asyncio.gather(one.connect(two.ticket()), two.connect(one.ticket()))
            _, writer = await ours.open_stream()
            writer.write(b"met")
            writer.close()
            reader, _ = await theirs.accept_stream()
            assert await reader.read() == b"met"

    run(main())


def test_a_restarted_listener_can_be_dialled_again(server):
    async def main():
        key = SecretKey(b"\x07" * 32)
        dialler_key = SecretKey(b"\x08" * 32)
        async with server() as relay, Node(dialler_key) as node:
            async with Node(key, relays=[relay.url], allow=[dialler_key.node_id]) as there:
                await there.wait_relay(5)
                ticket = there.ticket()
                old = await node.connect(ticket)
                await until_direct(old)
                # gone without a word, as a crash would leave it
                await there._driver.close()
                there._closed = True
            async with Node(key, relays=[relay.url], allow=[dialler_key.node_id]) as there:
                await there.wait_relay(5)
                async with node.connect(ticket) as connection:
                    assert connection is not old
                    assert (await connection.ping()).rtt > 0
                assert old.is_closed

    run(main())


def test_a_restarted_dialler_takes_the_place_of_its_old_self(server):
    async def main():
        key = SecretKey(b"\x09" * 32)
        async with server() as relay, Node(relays=[relay.url]) as there:
            await there.wait_relay(5)
            arrived = aiter(there)
            async with Node(key) as first:
                await first.connect(there.ticket())
                old = await anext(arrived)
                await first._driver.close()
                first._closed = True
            async with Node(key) as second:
                await second.connect(there.ticket())
                new = await anext(arrived)
                await old.wait_closed()
                assert not new.is_closed
                with pytest.raises(ConnectionClosedError, match="began a new connection"):
                    await old.accept_stream()

    run(main())


def test_a_stranger_is_not_answered(server):
    async def main():
        async with Listening(server, accept_ticket=False) as there, Node() as node:
            ticket = Ticket.parse(there.node.ticket())
            assert ticket.secret == b""
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await node.connect(ticket)

    run(main())


def test_the_allow_list_and_the_callback_admit(server):
    async def main():
        friend = SecretKey(b"\x0a" * 32)
        asked = []

        def authorize(node):
            asked.append(node)
            return True

        async with Listening(server, accept_ticket=False, allow=[friend.node_id]) as there:
            node = Node(friend)
            async with node, node.connect(there.node.ticket()) as connection:
                assert connection.peer == there.node.node_id
        async with Listening(server, accept_ticket=False, authorize=authorize) as there:
            node = Node(friend)
            async with node, node.connect(there.node.ticket()):
                assert asked == [friend.node_id]

    run(main())


def test_a_relay_that_cannot_be_reached_is_named(server):
    async def main():
        key = SecretKey(b"\x0b" * 32)
        ticket = Ticket(key.node_id, ("http://127.0.0.1:9",))
        async with Node() as node:
            with pytest.raises(RelayUnreachableError, match=r"http://127\.0\.0\.1:9"):
                await node.connect(ticket)
        async with Node(relays=["http://127.0.0.1:9"]) as node:
            with pytest.raises(RelayUnreachableError, match="refused"):
                await node.wait_relay(0.5)

    run(main())


def test_misuse_says_what_is_wrong(server):
    async def main():
        node = Node()
        with pytest.raises(TicketTruncatedError, match="truncated"):
            node.connect("peerway1")
        with pytest.raises(NodeClosedError, match="async with"):
            await node.connect(Ticket(SecretKey(bytes(32)).node_id, ("http://127.0.0.1:9",)))
        with pytest.raises(PeerwayError, match="STUN server"):
            Node(stun=["nonsense:port"])
        with pytest.raises(PeerwayError, match="not a relay URL"):
            Node(relays=["ftp://relay"])
        async with Node() as node:
            with pytest.raises(PeerwayError, match="our own"):
                await node.connect(Ticket(node.node_id, ("http://127.0.0.1:9",)))
            with pytest.raises(PeerwayError, match="neither a relay nor an address"):
                await node.connect(Ticket(SecretKey(bytes(32)).node_id))
            with pytest.raises(PeerwayError, match="no relay"):
                await node.wait_relay(1)

    run(main())


def test_without_a_relay_the_ticket_names_addresses():
    async def main():
        async with Node() as there, Node() as node:
            ticket = Ticket.parse(there.ticket())
            assert ticket.relays == ()
            if not ticket.addresses:
                pytest.skip("this machine has no address but loopback")
            async with node.connect(ticket) as connection:
                theirs = await anext(aiter(there))
                _, writer = await connection.open_stream()
                writer.write(b"no relay needed")
                writer.close()
                reader, _ = await theirs.accept_stream()
                assert await reader.read() == b"no relay needed"
                assert connection.path.kind == "direct"

    run(main())


def test_the_relay_dies_and_a_direct_connection_lives_on(server):
    async def main():
        async with server() as relay, Node(relays=[relay.url]) as there, Node() as node:
            await there.wait_relay(5)
            connection = await node.connect(there.ticket())
            theirs = await anext(aiter(there))
            await until_direct(connection)
            await until_direct(theirs)
            await relay.__aexit__(None, None, None)
            reader, writer = await connection.open_stream()
            their_reader, their_writer = await theirs.accept_stream()
            writer.write(b"still here")
            writer.close()
            assert await their_reader.read() == b"still here"
            their_writer.close()
            assert await reader.read() == b""
            await connection.close()

    run(main())


def test_a_node_makes_the_slow_first_key_exchange_before_anybody_waits_for_it():
    async def main():
        qh3_transport.prepare.cache_clear()
        async with Node(), Node():
            await asyncio.sleep(0)
            assert qh3_transport.prepare.cache_info().currsize == 1

    run(main())


def test_a_writer_that_drains_holds_a_mebibyte_while_nobody_reads_and_the_stream_beside_it_flows(server):
    chunk, size = bytes(65_536), 8 * 1_048_576

    async def main():
        async with server() as relay, Node(relays=[relay.url]) as there, Node() as node:
            await there.wait_relay(5)
            async with node.connect(there.ticket()) as connection:
                _, stalled = await connection.open_stream()
                _, flowing = await connection.open_stream()
                written = {stalled: 0, flowing: 0}

                async def write_on(writer):
                    for _ in range(size // len(chunk)):
                        writer.write(chunk)
                        written[writer] += len(chunk)
                        await writer.drain()
                    writer.close()

                writing = [asyncio.create_task(write_on(writer)) for writer in written]
                theirs = await anext(aiter(there))
                stalled_reader, _ = await theirs.accept_stream()
                flowing_reader, _ = await theirs.accept_stream()
                assert await flowing_reader.read() == bytes(size)
                most = 262_144 + 1_048_576 + 65_536  # the peer's credit, the queue, and what was written last
                assert written[stalled] <= most
                assert await stalled_reader.read() == bytes(size)
                await asyncio.gather(*writing)

    run(main())


def test_streams_that_are_over_are_forgotten_whether_somebody_took_them_or_not(server):
    async def scenario():
        async with server() as relay, Node(relays=[relay.url]) as idle, Node() as dialler:
            await idle.wait_relay(5)
            connection = await dialler.connect(idle.ticket())
            for number in range(600):
                reader, writer = await connection.open_stream()
                writer.write(b"never mind")
                writer.reset()
                reader.stop()
                if number % 100 == 99:
                    await connection.ping()
            kept_reader, kept = await connection.open_stream()
            kept.write(b"kept")
            kept.close()
            theirs = await anext(idle)
            data = b""
            while data != b"kept":  # what was given up may be taken before that is heard
                reader, writer = await theirs.accept_stream()
                with contextlib.suppress(StreamResetError):
                    data = await reader.read()
            assert await reader.read() == b""
            writer.close()
            assert await kept_reader.read() == b""
            await connection.ping()
            assert len(connection._streams) == 0
            assert len(theirs._streams) <= 1
            assert theirs._arrived == {}
            await connection.close()
            assert await reader.read() == b""

    run(scenario())
