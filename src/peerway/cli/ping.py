"""`peerway ping TICKET`: the round trip to a node, and the path it takes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from peerway.cli import runner, settings
from peerway.cli.app import with_output
from peerway.cli.errors import Exit
from peerway.cli.nodes import NO_RELAY, NodeOptions, milliseconds, open_node, paths_told
from peerway.cli.output import Output
from peerway.connection import Connection, Pong
from peerway.core.ticket import Ticket

PATIENCE_S = 5.0


@click.command("ping")
@click.argument("ticket")
@click.option(
    "-c", "--count", type=click.IntRange(0), default=10, show_default=True, help="how many; 0: until Ctrl-C"
)
@click.option(
    "-i",
    "--interval",
    type=click.FloatRange(0.01),
    default=1.0,
    show_default=True,
    help="seconds between two",
)
@settings.options("ping")
@with_output
def command(
    output: Output,
    ticket: str,
    count: int,
    interval: float,
    relay: tuple[str, ...],
    stun: tuple[str, ...],
    port: int | None,
    advertise: tuple[str, ...],
    portmap: bool | None,
    ca: Path | None,
    token_file: Path | None,
    key: Path | None,
) -> Exit:
    """Ask the node that printed TICKET for answers, and say by which path they came.

    The node answers by itself: its application notices nothing. With -v every candidate,
    attempt and switch of the path is told with its reason.
    """
    target = Ticket.parse(ticket)
    options = NodeOptions(
        *(relay, stun, port, key),
        advertise=advertise,
        portmap=portmap is not False,
        ca=ca,
        token_file=token_file,
    )
    return runner.run(_ping(output, target, options, count, interval))


async def _ping(output: Output, target: Ticket, options: NodeOptions, count: int, interval: float) -> Exit:
    if not options.relays and not target.relays:
        output.notice(NO_RELAY)
    loop = asyncio.get_running_loop()
    sent = answered = 0
    async with (
        open_node(options) as node,
        node.connect(target) as connection,
        paths_told(connection, output),
    ):
        while not count or sent < count:
            due = loop.time() + interval
            sent += 1
            answered += await _once(output, connection)
            if sent != count:
                await asyncio.sleep(due - loop.time())
    return Exit.OK if answered else Exit.FAILED


async def _once(output: Output, connection: Connection) -> bool:
    try:
        pong = await connection.ping(PATIENCE_S)
    except TimeoutError:
        output.result(f"no answer within {PATIENCE_S:.0f} s")
        output.record("timeout", seconds=PATIENCE_S)
        return False
    output.result(f"pong via {_way(pong)} {1000 * pong.rtt:.1f} ms")
    output.record("pong", via=pong.path.kind, remote=pong.path.remote, rtt_ms=milliseconds(pong.rtt))
    return True


def _way(pong: Pong) -> str:
    return "relay" if pong.path.kind == "relay" else pong.path.remote
