"""What goes over the pipes between a laboratory, its supervisor and the workers: JSON lines.

A line to the supervisor is a `Request` round one of the asks below; a line back is a
`Reply` to the request of that number. Supervisor and workers speak the same two frames, so
the supervisor passes an order on without looking into it.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

LINE_LIMIT = 16 * 1024 * 1024  # bytes in one line; more is a bug, and ends the reader


class Run(msgspec.Struct, frozen=True, tag="run"):
    """Run a program to its end, in a machine's namespace or ("") in the supervisor's own."""

    machine: str
    argv: tuple[str, ...]
    input: str = ""


class Ran(msgspec.Struct, frozen=True):
    """What came of a `Run`."""

    status: int
    stdout: str
    stderr: str


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Start a program that goes on, under a name; its output goes to `/run/NAME.log`."""

    name: str
    machine: str
    argv: tuple[str, ...]


class StartWorker(msgspec.Struct, frozen=True, tag="start-worker"):
    """Start the interpreter of a machine, unless it runs; its log goes to `/run/MACHINE.log`."""

    machine: str


class Signal(msgspec.Struct, frozen=True, tag="signal"):
    """Send a signal to a program started under a name, or to the worker of a machine."""

    name: str
    signal: int


class Await(msgspec.Struct, frozen=True, tag="await"):
    """Wait for the program or worker of that name to end, and forget it."""

    name: str


class Order(msgspec.Struct, frozen=True, tag="order"):
    """Hand `body` to the worker of a machine and give back its answer."""

    machine: str
    body: msgspec.Raw


class Done(msgspec.Struct, frozen=True):
    """The answer where there is nothing to say."""


Ask: TypeAlias = Run | Start | StartWorker | Signal | Await | Order


class Request(msgspec.Struct, frozen=True):
    """A numbered line that wants an answer."""

    number: int
    body: msgspec.Raw


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to the request of that number: `body`, or `error` and nothing else."""

    number: int
    body: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""


def line(message: msgspec.Struct) -> bytes:
    """One message as it is written to a pipe."""
    return msgspec.json.encode(message) + b"\n"
