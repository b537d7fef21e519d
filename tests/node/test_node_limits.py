"""What an application that takes nothing, and peers that send all the same, can make a node hold."""

import asyncio
import logging
import random
import socket
from contextlib import AsyncExitStack

import pytest
from tests.node.running import run

from peerway import ConnectionClosedError, Node, connection, node
from peerway.core.path.agent import RoundBegun


def test_connections_nobody_takes_are_bounded_and_further_ones_told_so(server, monkeypatch):
    monkeypatch.setattr(node, "MAX_UNACCEPTED", 2)

    async def scenario():
        async with AsyncExitStack() as stack:
            relay = await stack.enter_async_context(server())
            idle = await stack.enter_async_context(Node(relays=[relay.url]))
            await idle.wait_relay(5)
            peers = [await stack.enter_async_context(Node()) for _ in range(3)]
            dialled = [await peer.connect(idle.ticket()) for peer in peers]
            with pytest.raises(ConnectionClosedError, match="too many connections wait") as caught:
                await dialled[2].accept_stream()
            assert caught.value.code == node.CODE_BUSY
            assert len(idle._unaccepted) == 2
            assert idle.drops["connection: too many wait"] == 1
            assert (await anext(idle)).peer == peers[0].node_id
            again = await peers[2].connect(idle.ticket())
            await again.open_stream()
            assert not again.is_closed
            await asyncio.gather(*(each.close(1) for each in (*dialled, again)))

    run(scenario())


def test_events_nobody_reads_go_oldest_first(server):
    async def scenario():
        async with server() as relay, Node(relays=[relay.url]) as idle, Node() as dialler:
            await idle.wait_relay(5)
            dialled = await dialler.connect(idle.ticket())
            events = dialled.path_events()
            for number in range(5000):
                dialled._event(RoundBegun(number))
            assert len(dialled._history) == connection.HISTORY_LIMIT == 2000
            assert await anext(events) == RoundBegun(5000 - connection.EVENT_QUEUE_LIMIT)
            assert dialled.history[-1][1] == RoundBegun(4999)
            await events.aclose()
            await dialled.close(1)

    run(scenario())


def test_a_callback_that_raises_admits_nobody_and_does_not_flood_the_log(server, monkeypatch, caplog):
    monkeypatch.setattr(node, "FAILURES_LOGGED", 2)

    asked, thrice = [], asyncio.Event()

    def authorize(peer):
        asked.append(peer)
        if len(asked) == 3:
            thrice.set()
        raise LookupError("the directory is away")

    async def scenario():
        async with server() as relay:
            careless = Node(relays=[relay.url], authorize=authorize, accept_ticket=False)
            async with careless, Node() as dialler:
                await careless.wait_relay(5)
                dial = asyncio.ensure_future(dialler.connect(careless.ticket()))
                await thrice.wait()
                dial.cancel()
                await asyncio.gather(dial, return_exceptions=True)
                assert careless.drops["signal: hello of somebody we do not admit"] >= 3
                assert careless._driver.failures == 0

    with caplog.at_level(logging.ERROR, "peerway"):
        run(scenario())
    assert [record.getMessage().split()[:2] for record in caplog.records] == [["authorize", "failed"]] * 2


def test_nonsense_by_the_thousand_is_counted_logged_nowhere_and_harms_nobody(server, caplog):
    chance = random.Random(4)
    kinds = [bytes([first]) for first in (0, 1, 3, 4, 5, 6, 0x40, 0x7F, 0x80, 0xC0, 0xFF)]

    async def scenario():
        async with server() as relay, Node(relays=[relay.url]) as victim, Node() as dialler:
            await victim.wait_relay(5)
            connection = await dialler.connect(victim.ticket())
            known = bytes([4]) + dialler.node_id.public
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.connect(("127.0.0.1", victim.sockets[0].port))
                for _ in range(30):
                    for _ in range(100):
                        head = known if chance.random() < 0.2 else chance.choice(kinds)
                        stranger.send(head + chance.randbytes(chance.randrange(1400)))
                    await connection.ping()
            while sum(victim.drops.values()) < 2900:
                await connection.ping()
            assert victim.drops["signal: too many from there"] > 100
            assert victim._driver.failures == 0
            await connection.close(1)

    with caplog.at_level(logging.WARNING, "peerway"):
        run(scenario())
    assert [record.getMessage() for record in caplog.records if "plain-http" not in record.getMessage()] == []
