"""The command `peerway`: what all commands share, and how any of them ends.

Each command is a module of its own, imported when it is asked for.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import NoReturn, TypeVar

import click

from peerway.cli import logs, settings
from peerway.cli.errors import Exit, ReaderGoneError, describe, exit_code
from peerway.cli.output import Output
from peerway.io.state import state_directory

COMMANDS = {
    "listen": "peerway.cli.listen",
    "connect": "peerway.cli.connect",
    "ping": "peerway.cli.ping",
    "netcheck": "peerway.cli.netcheck",
    "serve": "peerway.cli.serve",
    "id": "peerway.cli.identity",
    "lab": "peerway.cli.lab",
    "sim": "peerway.cli.sim",
    "demo": "peerway.cli.demo",
}
EXAMPLES = """\
\b
On a machine that both can reach:    peerway serve
On one of the two:                   peerway listen --relay URL
On the other:                        peerway connect TICKET
"""

Function = TypeVar("Function", bound=Callable[..., object])


@dataclass(slots=True)
class Manner:
    """How this run talks; the flags may stand before or after the command."""

    verbose: int = 0
    quiet: bool = False
    json: bool = False


class Commands(click.Group):
    """Finds a command's module by its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name]).command
        return command if isinstance(command, click.Command) else None


def manner_options(function: Function) -> Function:
    """Gives a command `-v`, `-q` and `--json`."""
    for option in (
        click.option("--json", is_flag=True, expose_value=False, callback=_json, help="JSON lines on stdout"),
        click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_quiet, help="errors only"),
        click.option(
            "-v",
            "--verbose",
            count=True,
            expose_value=False,
            callback=_verbose,
            help="say more; -vv everything",
        ),
    ):
        function = option(function)
    return function


def _verbose(context: click.Context, parameter: click.Parameter, value: int) -> None:
    context.ensure_object(Manner).verbose += value


def _quiet(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.ensure_object(Manner).quiet |= value


def _json(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.ensure_object(Manner).json |= value


def with_output(function: Callable[..., Exit]) -> Callable[..., Exit]:
    """Gives a command its `Output` as the first argument, with the logs set up to match."""

    @functools.wraps(function)
    def wrapper(*arguments: object, **options: object) -> Exit:
        manner = click.get_current_context().ensure_object(Manner)
        verbosity = -1 if manner.quiet else min(manner.verbose, 2)
        logs.set_up(verbosity)
        return function(Output(verbosity, manner.json), *arguments, **options)

    return manner_options(wrapper)


@click.group(
    cls=Commands,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@click.version_option(version("peerway"), message="peerway %(version)s")
@manner_options
@click.pass_context
def app(context: click.Context) -> None:
    """Connects two machines behind NATs and firewalls, by key: relay first, then direct."""
    settings.check_environment(os.environ)
    context.default_map = dict(settings.load(state_directory() / settings.CONFIG_NAME))


def run(arguments: Sequence[str]) -> Exit:
    """Run one command line to its exit code; errors are told on stderr."""
    manner = Manner()
    try:
        result = app.main(list(arguments), prog_name="peerway", standalone_mode=False, obj=manner)
        return Exit(result or Exit.OK)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return Exit.USAGE
    except (KeyboardInterrupt, click.Abort):
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place that can tell the user
        if not isinstance(error, ReaderGoneError):
            Output().complain(describe(error))
        if manner.verbose >= 2:
            traceback.print_exception(error)
        return exit_code(error)


def main() -> NoReturn:
    """The entry point of the command `peerway`."""
    sys.exit(run(sys.argv[1:]))
