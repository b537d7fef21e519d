"""What a command says, and where: results on stdout, everything else on stderr.

With `--json` stdout holds JSON lines and nothing else; a payload is then base64 in a line
of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

from peerway.cli.errors import cannot_write
from peerway.cli.logs import printable, scrub

Value = str | int | float | bool | None | Sequence[object] | Mapping[str, object]


class Output:
    """How this run talks: `verbosity` is -1 (`-q`) to 2 (`-vv`)."""

    def __init__(self, verbosity: int = 0, as_json: bool = False) -> None:
        self.verbosity = verbosity
        self.as_json = as_json
        self._write_line: Callable[[str], None] = _print_line

    def write_lines_to(self, write_line: Callable[[str], None]) -> None:
        """Have lines for stdout written by someone who writes other things there too."""
        self._write_line = write_line

    def result(self, text: str) -> None:
        """A result for people or for the next program in the pipe; nothing with `--json`."""
        if not self.as_json:
            self._write_line(text)

    def record(self, event: str, **fields: Value) -> None:
        """A JSON line, with `--json` only."""
        self.json_line(json.dumps({"event": event, **fields}, separators=(",", ":")))

    def json_line(self, line: str) -> None:
        """A line of JSON that is complete already, with `--json` only."""
        if self.as_json:
            self._write_line(line)

    def notice(self, text: str) -> None:
        """Something a person at the terminal wants to know; silent with `-q`."""
        if self.verbosity >= 0:
            self.complain(text)

    def complain(self, text: str) -> None:
        """An error or a warning: always shown."""
        with contextlib.suppress(OSError):  # stderr itself is gone: there is nowhere left to say it
            sys.stderr.write(f"peerway: {printable(scrub(text))}\n")
            sys.stderr.flush()


def _print_line(text: str) -> None:
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as error:
        abandon_stdout()
        raise cannot_write(error) from error


def abandon_stdout() -> None:
    """Point stdout nowhere, so that the interpreter's last flush does not fail aloud."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def is_live(stream: TextIO | None = None) -> bool:
    """Whether `stream`, stdout unless another is given, is a terminal that may be drawn on."""
    drawable = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return drawable and (stream or sys.stdout).isatty()
