"""Dials: from a ticket to a connection, for as long as somebody waits for it.

Several may wait for one connection, for there is one with a peer at a time; and when both sides
dial at once, they come to wait for the one that the peer began.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING

from peerway.connection import Connection
from peerway.core.relay.url import RelayUrl
from peerway.core.ticket import Ticket
from peerway.errors import PeerwayError, RelayUnreachableError
from peerway.io import clock
from peerway.io.connect_errors import NO_ANSWER

if TYPE_CHECKING:
    from peerway.node import Node

RELAY_PATIENCE_S = 8.0  # how long a dial waits for a relay that cannot be reached, longer than for its name
ANSWERS_WITHIN_S = (0.5, 1.0, 2.0)  # or a connection is dead: a ping may get lost


class Wait:
    """Somebody waits for `connection`, which may become another until it stands."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.stood_already = connection._established.done()


class Dials:
    """Who waits for which connection of a node."""

    def __init__(self) -> None:
        self._waits: list[Wait] = []

    def begin(self, connection: Connection) -> Wait:
        """Somebody waits for it from now on."""
        wait = Wait(connection)
        self._waits.append(wait)
        return wait

    def end(self, wait: Wait) -> None:
        """Nobody waits by this any more."""
        self._waits.remove(wait)

    def is_awaited(self, connection: Connection) -> bool:
        """Whether anybody waits for it."""
        return any(wait.connection is connection for wait in self._waits)

    def moved(self, given_up: Connection, successor: Connection) -> None:
        """Who waited for the one waits for the other."""
        for wait in self._waits:
            if wait.connection is given_up:
                wait.connection = successor


class Dial:
    """A dial that has not begun: await it, or enter it and leave the connection closed behind."""

    def __init__(self, node: Node, ticket: Ticket) -> None:
        self._node = node
        self._ticket = ticket
        self._connection: Connection | None = None

    def __await__(self) -> Generator[None, None, Connection]:
        return self._run().__await__()

    async def __aenter__(self) -> Connection:
        self._connection = await self._run()
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _run(self) -> Connection:
        node, ticket = self._node, self._ticket
        node._require_open()
        if ticket.node_id == node.node_id:
            raise PeerwayError("this ticket is our own: a node does not dial itself")
        if not (ticket.relays or node.relays or ticket.addresses):
            raise PeerwayError("the ticket names neither a relay nor an address, and this node has no relay")
        await self._drop_dead()
        wait = node._dials.begin(node._begin_dial(ticket))
        try:
            await self._established(wait)
        except BaseException:
            node._dials.end(wait)
            self._let_go(wait)
            raise
        node._dials.end(wait)
        return wait.connection

    async def _drop_dead(self) -> None:
        """A connection with that peer that no longer answers must not stand in the way of a new one."""
        for connection in self._node._connections_with(self._ticket.node_id):
            if connection._established.done() and not await _answers(connection):
                await connection.close(1, "it no longer answers")

    async def _established(self, wait: Wait) -> None:
        patience = clock.now() + RELAY_PATIENCE_S
        while not wait.connection._established.done():
            self._node._require_open()
            if clock.now() >= patience:
                self._check_relays()
            try:
                async with asyncio.timeout(1.0):
                    await self._node._changed.wait()
            except TimeoutError:
                pass
        wait.connection._established.result()

    def _check_relays(self) -> None:
        urls = [str(RelayUrl.parse(url)) for url in self._ticket.relays] or list(self._node.relays)
        states = [(url, *self._node._relay_state(url)) for url in urls]
        if states and not self._ticket.addresses and not any(up for _, up, _ in states):
            url, _, reason = states[0]
            raise RelayUnreachableError(
                url, reason or f"no answer within {RELAY_PATIENCE_S:.0f} s: {NO_ANSWER}"
            )

    def _let_go(self, wait: Wait) -> None:
        """What we began ends where nobody else waits for it; what the peer began is for who accepts."""
        connection, node = wait.connection, self._node
        if wait.stood_already or connection.is_closed or node._dials.is_awaited(connection):
            return
        if node._ask(connection._link, lambda link: link.dialled):
            node._call(connection._link, lambda link: link.abandon(clock.now()))
        elif connection._established.done():
            node._arrived(connection)


async def _answers(connection: Connection) -> bool:
    for timeout in ANSWERS_WITHIN_S:
        try:
            await connection.ping(timeout)
        except TimeoutError:
            continue
        except PeerwayError:
            return False
        return True
    return False
