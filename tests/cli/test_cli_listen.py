"""Who waits for `peerway listen` to have time."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from tests.node.running import run

from peerway.cli import listen
from peerway.errors import ConnectionClosedError
from peerway.node import CODE_BUSY, Node
from peerway.server import Server


def test_peers_past_the_limit_are_told_that_we_are_busy_and_those_before_stay(monkeypatch):
    monkeypatch.setattr(listen, "MAX_GUESTS", 2)

    async def scenario():
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(Server(host="127.0.0.1", relay_port=0, stun_port=0))
            node = await stack.enter_async_context(Node(relays=[server.url]))
            await node.wait_relay(5)
            arrivals = await stack.enter_async_context(listen._arrivals(node))
            peers = [await stack.enter_async_context(Node()) for _ in range(3)]
            first, second, third = [await peer.connect(node.ticket()) for peer in peers]
            with pytest.raises(ConnectionClosedError, match="too many connections wait") as caught:
                await third.accept_stream()
            assert (caught.value.code, caught.value.by_peer) == (CODE_BUSY, True)
            await first.open_stream()
            connection, _ = await arrivals.get()
            assert connection.peer == peers[0].node_id
            again = await peers[2].connect(node.ticket())
            await again.open_stream()
            connection, _ = await arrivals.get()
            assert connection.peer == peers[2].node_id
            assert not second.is_closed
            await asyncio.gather(*(each.close(1) for each in (first, second, again)))

    run(scenario())
