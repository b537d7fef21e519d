"""`peerway id`: the node id that goes with a key file."""

from __future__ import annotations

from pathlib import Path

import click

from peerway.cli import settings
from peerway.cli.app import with_output
from peerway.cli.errors import Exit
from peerway.cli.output import Output
from peerway.io.keyfile import load_or_create
from peerway.io.state import state_directory

LISTEN_KEY = "listen.key"


def kept_key_path(chosen: Path | None) -> Path:
    """The key file of `listen`: the one that was chosen, else the one in the state directory."""
    return chosen or state_directory() / LISTEN_KEY


@click.command("id")
@settings.options("id")
@with_output
def command(output: Output, key: Path | None) -> Exit:
    """Print a node's id: what others put after --allow.

    It is the id of the key that listen uses here, or of another one:

    \b
      peerway id
      peerway id --key my.key            (then: peerway connect TICKET --key my.key)
    """
    path = kept_key_path(key)
    node_id = load_or_create(path).node_id
    output.result(str(node_id))
    output.record("id", node_id=str(node_id), key_file=str(path))
    return Exit.OK
