"""`peerway serve`: a relay and a STUN server, and the URL that others paste."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import click

from peerway.cli import runner, settings
from peerway.cli.app import with_output
from peerway.cli.errors import CommandError, Exit, UsageError
from peerway.cli.output import Output
from peerway.core.machine import PeerwayError
from peerway.core.relay.url import STUN_PORT
from peerway.io.descriptors import have_all_descriptors
from peerway.io.loop import new_busy_loop
from peerway.io.state import ensure_private, state_directory
from peerway.server import Server
from peerway.server.listen import EVERYWHERE, ListenError


@click.command("serve")
@settings.options("serve")
@with_output
def command(
    output: Output,
    name: str | None,
    host: tuple[str, ...],
    port: int | None,
    stun_port: int | None,
    stun_other_port: int | None,
    cert: Path | None,
    key: Path | None,
    allow: Path | None,
    token_file: Path | None,
    metrics: str | None,
    plain: bool | None,
) -> Exit:
    """Run a relay and a STUN server, and print the URL that both sides need.

    It speaks TLS, with a certificate that it signs itself where none is given: the URL then
    says by which pin to know it. Ctrl-C lets the clients know before it ends.

    \b
      peerway serve --name relay.example.org
      peerway serve --name relay.example.org --cert fullchain.pem --key privkey.pem
    """
    files = (cert, key)
    if plain and any(files):
        raise UsageError("--plain and --cert exclude each other")
    self_signed = not plain and not any(files)
    if self_signed:
        directory = state_directory()
        ensure_private(directory)
        files = (directory / "serve.crt", directory / "serve.key")
    try:
        server = Server(
            host=host or EVERYWHERE,
            relay_port=port,
            stun_port=STUN_PORT if stun_port is None else stun_port,
            stun_other_port=stun_other_port,
            public_host=name,
            tls="self-signed" if self_signed else None,
            certificate=files[0],
            key=files[1],
            allow_file=allow,
            token_file=token_file,
            metrics=metrics,
        )
    except PeerwayError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error
    have_all_descriptors()
    return runner.run(
        _serve(output, server), terminated=Exit.OK, reload=server.reload, new_loop=new_busy_loop
    )


async def _serve(output: Output, server: Server) -> Exit:
    try:
        async with server:
            output.result(server.url)
            output.record(
                "serving",
                url=server.url,
                relay_port=server.relay_port,
                stun_port=server.stun_port,
                stun_other_port=server.stun_other_port,
                stun_offers=list(server.stun_offers),
                metrics=server.metrics_address,
            )
            await asyncio.Event().wait()
    except ListenError as error:
        code = Exit.UNAVAILABLE if error.error.errno == errno.EACCES else Exit.FAILED
        raise CommandError(str(error), code=code) from error
    return Exit.OK
