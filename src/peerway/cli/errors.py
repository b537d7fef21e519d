"""What a command may end with: the exit codes, and how an error is told to a person."""

from __future__ import annotations

import enum

import click
from click.core import ParameterSource

from peerway.core.identity import KeyTextError
from peerway.core.machine import PeerwayError
from peerway.core.relay.url import RelayUrlError
from peerway.core.ticket import TicketError
from peerway.io.state import reason


class Exit(enum.IntEnum):
    """Exit codes. Every command uses these and no others."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 69
    INTERRUPTED = 130
    TERMINATED = 143


class CommandError(PeerwayError):
    """A command cannot go on. The message says what failed and on what, `hint` what to try."""

    def __init__(self, message: str, hint: str = "", code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


class ReaderGoneError(CommandError):
    """Whoever read our stdout has gone, as `head` does: a reason to stop, not to complain."""


class UsageError(CommandError):
    """A flag, an environment variable or a line of `config.toml` that cannot be used."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, Exit.USAGE)


def exit_code(error: BaseException) -> Exit:
    """The exit code an error ends the program with."""
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, (click.ClickException, TicketError, RelayUrlError, KeyTextError)):
        return Exit.USAGE
    return Exit.FAILED


def cannot_write(error: OSError) -> CommandError:
    """What to raise when stdout takes no more."""
    message = f"cannot write to stdout: {reason(error)}"
    return ReaderGoneError(message) if isinstance(error, BrokenPipeError) else CommandError(message)


def describe(error: BaseException) -> str:
    """One or two lines for a person: what failed, on what, what to try."""
    if isinstance(error, CommandError):
        return f"{error}\n  {error.hint}" if error.hint else str(error)
    if isinstance(error, click.ClickException):
        return _describe_usage(error)
    if isinstance(error, PeerwayError):
        return str(error) or type(error).__name__
    if isinstance(error, OSError):
        return reason(error) + (f": {error.filename}" if error.filename else "")
    return f"internal error: {type(error).__name__}: {error}\n  run it again with -vv to see where"


def _describe_usage(error: click.ClickException) -> str:
    text = error.format_message()
    if isinstance(error, click.UsageError) and error.ctx is not None:
        if isinstance(error, click.BadParameter):
            text += _origin(error.ctx, error.param)
        text += f"\n  {error.ctx.command_path} --help says more"
    return text


def _origin(context: click.Context, parameter: click.Parameter | None) -> str:
    if parameter is None or parameter.name is None:
        return ""
    source = context.get_parameter_source(parameter.name)
    if source is ParameterSource.DEFAULT_MAP:
        return " (from config.toml)"
    if source is ParameterSource.ENVIRONMENT:
        return f" (from the environment variable {parameter.envvar})"
    return ""
