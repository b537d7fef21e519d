"""Dials that fail, are given up, meet each other or a connection that stands."""

import asyncio

import pytest
from tests.node.running import run
from tests.node.test_node_api import Listening, until_direct

from peerway import ConnectError, Node, Ticket

NOBODY_AT = "http://127.0.0.1:9"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("peerway.core.link.DIAL_TIMEOUT_S", 1.0)


def test_a_dial_nobody_answers_ends_with_an_error_of_the_peers_name(server, impatient):
    async def main():
        async with Listening(server) as there, Node() as node:
            nobody = Node(relays=[there.url])
            with pytest.raises(ConnectError, match=r"did not answer within .* is it running") as raised:
                await node.connect(nobody.ticket())
            assert raised.value.peer == nobody.node_id
            assert nobody.node_id.short in str(raised.value)
            assert node._connections == {}

    run(main())


def test_a_dial_that_is_not_admitted_ends_with_an_error(server, impatient):
    async def main():
        async with Listening(server, accept_ticket=False) as there, Node() as node:
            with pytest.raises(ConnectError):
                await node.connect(there.node.ticket())

    run(main())


def test_a_cancelled_dial_leaves_nothing_behind(server):
    async def main():
        async with Listening(server, accept_ticket=False) as there, Node() as node:
            dial = asyncio.ensure_future(node.connect(there.node.ticket()))
            await asyncio.sleep(0.2)
            dial.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dial
            assert node._connections == {}

    run(main())


def test_of_two_who_dial_one_may_give_up(server):
    async def main():
        async with Listening(server) as there, Node(relays=[there.url]) as node:
            await node.wait_relay(5)
            ticket = there.node.ticket()
            one, other = (asyncio.ensure_future(node.connect(ticket)) for _ in range(2))
            await asyncio.sleep(0)
            one.cancel()
            connection = await other
            assert connection.peer == there.node.node_id
            assert await node.connect(ticket) is connection
            assert one.cancelled()

    run(main())


def test_all_who_dial_hear_that_nobody_answers(server, impatient):
    async def main():
        async with Listening(server) as there, Node() as node:
            ticket = Node(relays=[there.url]).ticket()
            errors = await asyncio.gather(*(node.connect(ticket) for _ in range(3)), return_exceptions=True)
            assert [type(error) for error in errors] == [ConnectError] * 3

    run(main())


def test_a_newer_ticket_helps_a_dial_that_goes_by_an_old_one(server):
    async def main():
        async with Listening(server) as there, Node() as node:
            new = Ticket.parse(there.node.ticket())
            old = Ticket(new.node_id, (NOBODY_AT,), (), bytes(len(new.secret)))
            slow = asyncio.ensure_future(node.connect(old))
            await asyncio.sleep(0.5)
            async with asyncio.timeout(5):
                connection = await node.connect(new)
                assert await slow is connection

    run(main())


def test_who_dials_a_peer_with_whom_nothing_was_said_for_long_gets_the_connection_that_stands(
    server, monkeypatch
):
    monkeypatch.setattr("peerway.core.path.usage.IDLE_AFTER_S", 2.5)
    monkeypatch.setattr("peerway.core.path.agent.STALE_S", 1.0)

    async def main():
        async with Listening(server) as there, Node() as node:
            connection = await node.connect(there.node.ticket())
            await until_direct(connection)
            await asyncio.sleep(5.0)
            assert await node.connect(there.node.ticket()) is connection
            assert not connection.is_closed

    run(main())
