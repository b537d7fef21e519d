"""`peerway listen`: prints a ticket, then joins each stream that comes to stdin and stdout."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import click

from peerway.cli import runner, settings
from peerway.cli.app import with_output
from peerway.cli.conversation import Halves, converse, shared_stdout
from peerway.cli.errors import CommandError, Exit, describe
from peerway.cli.identity import kept_key_path
from peerway.cli.nodes import NO_RELAY, NodeOptions, open_node
from peerway.cli.output import Output
from peerway.cli.stdio import Stdin, Stdout
from peerway.connection import Connection
from peerway.core.machine import PeerwayError
from peerway.errors import RelayUnreachableError
from peerway.node import CODE_BUSY, Node

RELAY_PATIENCE_S = 5.0
MAX_WAITING = 64  # peers with a stream whose turn has not come
MAX_GUESTS = 1024  # peers connected at once, those included; further ones are told that we are busy
FAREWELL_S = 5.0  # for the peer, who speaks last, to close the connection

Arrival = tuple[Connection, Halves]


@click.command("listen")
@click.option("--once", is_flag=True, help="end after the first connection")
@settings.options("listen")
@with_output
def command(
    output: Output,
    once: bool,
    relay: tuple[str, ...],
    stun: tuple[str, ...],
    port: int | None,
    advertise: tuple[str, ...],
    portmap: bool | None,
    ca: Path | None,
    token_file: Path | None,
    key: Path | None,
    allow: tuple[str, ...],
    accept_ticket: bool | None,
) -> Exit:
    """Print a ticket and wait for whoever dials it.

    What arrives goes to stdout after the ticket's line, what stdin holds is sent; one
    connection after the other, until Ctrl-C. The ticket admits whoever holds it.

    \b
      peerway listen --relay URL
      peerway listen --relay URL --once > photo.jpg   (the first line is the ticket)
    """
    options = NodeOptions(
        *(relay, stun, port, kept_key_path(key), allow, accept_ticket is not False, advertise),
        portmap=portmap is not False,
        ca=ca,
        token_file=token_file,
    )
    return runner.run(_listen(output, options, once), terminated=Exit.OK)


async def _listen(output: Output, options: NodeOptions, once: bool) -> Exit:
    stdin = Stdin()
    async with shared_stdout(output) as stdout, open_node(options) as node:
        await _announce(output, node)
        async with _arrivals(node) as arrivals:
            while True:
                connection, halves = await arrivals.get()
                code = await _serve(output, connection, halves, stdin, stdout)
                await connection.close()
                await stdout.flush()
                if once:
                    return code


@contextlib.asynccontextmanager
async def _arrivals(node: Node) -> AsyncIterator[asyncio.Queue[Arrival]]:
    """The connections on which the peer has opened a stream: one that only pings holds up nobody."""
    arrivals: asyncio.Queue[Arrival] = asyncio.Queue(MAX_WAITING)

    async def until_stream(connection: Connection) -> None:
        with contextlib.suppress(PeerwayError):
            await arrivals.put((connection, await connection.accept_stream()))

    async def accept() -> None:
        guests: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as tasks:
            async for connection in node:
                if len(guests) >= MAX_GUESTS:
                    tasks.create_task(connection.close(CODE_BUSY, "too many connections wait"))
                    continue
                guest = tasks.create_task(until_stream(connection))
                guests.add(guest)
                guest.add_done_callback(guests.discard)

    accepting = asyncio.create_task(accept())
    try:
        yield arrivals
    finally:
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)


async def _announce(output: Output, node: Node) -> None:
    if not node.relays:
        output.notice(NO_RELAY)
    else:
        try:
            await node.wait_relay(RELAY_PATIENCE_S)
        except RelayUnreachableError as error:
            output.complain(f"{error}\n  trying on; nobody can connect before")
    ticket = node.ticket()
    output.result(ticket)
    output.record("listening", ticket=ticket, node_id=str(node.node_id))


async def _serve(
    output: Output, connection: Connection, halves: Halves, stdin: Stdin, stdout: Stdout
) -> Exit:
    """One conversation to its end; what goes wrong with it is told and ends nothing else."""
    try:
        await converse(connection, halves, output, stdin, stdout, end_with_peer=stdin.is_terminal())
        await _until_closed(connection)
    except CommandError:
        raise  # stdin or stdout: the next connection would fare no better
    except PeerwayError as error:
        output.complain(f"{connection.peer.short}: {describe(error)}")
        return Exit.FAILED
    return Exit.OK


async def _until_closed(connection: Connection) -> None:
    """Let the peer close: it waits for our acknowledgements, which a close of ours would cut off."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FAREWELL_S):
            await connection.wait_closed()
