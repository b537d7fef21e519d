"""`peerway connect TICKET`: stdin and stdout joined to a stream to the ticket's node."""

from __future__ import annotations

from pathlib import Path

import click

from peerway.cli import runner, settings
from peerway.cli.app import with_output
from peerway.cli.conversation import converse, shared_stdout
from peerway.cli.errors import Exit
from peerway.cli.nodes import NO_RELAY, NodeOptions, open_node
from peerway.cli.output import Output
from peerway.cli.stdio import Stdin
from peerway.core.ticket import Ticket


@click.command("connect")
@click.argument("ticket")
@settings.options("connect")
@with_output
def command(
    output: Output,
    ticket: str,
    relay: tuple[str, ...],
    stun: tuple[str, ...],
    port: int | None,
    advertise: tuple[str, ...],
    portmap: bool | None,
    ca: Path | None,
    token_file: Path | None,
    key: Path | None,
) -> Exit:
    """Connect to the node that printed TICKET.

    What stdin holds is sent, what arrives goes to stdout; ends when both directions have ended.

    \b
      echo hello | peerway connect TICKET
      peerway connect TICKET < photo.jpg
    """
    target = Ticket.parse(ticket)
    options = NodeOptions(
        *(relay, stun, port, key),
        advertise=advertise,
        portmap=portmap is not False,
        ca=ca,
        token_file=token_file,
    )
    return runner.run(_connect(output, target, options))


async def _connect(output: Output, target: Ticket, options: NodeOptions) -> Exit:
    if not options.relays and not target.relays:
        output.notice(NO_RELAY)
    async with (
        shared_stdout(output) as stdout,
        open_node(options) as node,
        node.connect(target) as connection,
    ):
        await converse(connection, await connection.open_stream(), output, Stdin(), stdout)
    return Exit.OK
