"""`peerway id`: the node id that goes with a key file."""

from __future__ import annotations

from pathlib import Path

import click

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
@click.option(
    "--key", type=click.Path(dir_okay=False, path_type=Path), help="another key file than the one of listen"
)
@with_output
def command(output: Output, key: Path | None) -> Exit:
    """Print this machine's node id.

    It is what others put after --allow. The key is made when there is none.
    """
    path = kept_key_path(key)
    node_id = load_or_create(path).node_id
    output.result(str(node_id))
    output.record("id", node_id=str(node_id), key_file=str(path))
    return Exit.OK
