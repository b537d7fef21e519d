"""Log lines on stderr: `time level machine event key=value …`, and never a secret.

A record's message is `machine event key=value …`; other people's loggers get their name
for the machine. Nothing below a warning is shown without `-v`, no traceback without `-vv`.
"""

from __future__ import annotations

import dataclasses
import enum
import logging
import re
import sys
import time
from collections.abc import Iterable

from peerway.core.ticket import Ticket

OURS = "peerway"
LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}
CHATTY = ("quic", "http3", "asyncio")  # qh3 logs peers' words as warnings
TICKET = re.compile(r"\b(peerway[0-9])[a-z2-7]{16,}", re.IGNORECASE)
MAX_LINE = 2000  # characters


def set_up(verbosity: int) -> None:
    """Send log records to stderr: -1 errors, 0 warnings, 1 what happens, 2 everything."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(tracebacks=verbosity >= 2))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[max(-1, min(verbosity, 2))])
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING if verbosity >= 2 else logging.ERROR)


class LineFormatter(logging.Formatter):
    """One line a record: UTC time with milliseconds, level, and the message without secrets."""

    def __init__(self, tracebacks: bool) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, with its traceback below where those are wanted."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        text = record.getMessage()
        if record.name.partition(".")[0] != OURS:
            text = f"{record.name} {text}"
        line = f"{stamp}.{int(record.msecs):03d}Z {record.levelname.lower()} {_one_line(scrub(text))}"
        if record.exc_info and self._tracebacks:
            return f"{line}\n{scrub(self.formatException(record.exc_info))}"
        if record.exc_info and record.exc_info[1] is not None:
            line += _one_line(scrub(f" error={quote(repr(record.exc_info[1]))}"))
        return line


def scrub(text: str) -> str:
    """`text` without what admits its reader: a ticket carries a secret."""
    return TICKET.sub(r"\1…", text)


def event_text(event: object) -> str:
    """An event as `event_name key=value …`: byte strings by their length alone."""
    return " ".join([event_name(event), *_pairs(event)])


def event_name(event: object) -> str:
    """`PathSelected` is `path_selected`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(event).__name__).lower()


def fields(event: object) -> dict[str, object]:
    """The fields of an event that is a dataclass, by name, `None`s left out."""
    if not dataclasses.is_dataclass(event) or isinstance(event, type):
        return {}
    pairs = ((field.name, getattr(event, field.name)) for field in dataclasses.fields(event) if field.repr)
    return {name: value for name, value in pairs if value is not None}


def quote(text: str) -> str:
    """`text` in quotes where it would not read as one value."""
    if text and not any(character in text for character in ' "=\n'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def value_text(value: object) -> str:
    """A field's value for a person: no bytes, no ticket, floats short."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if isinstance(value, Ticket):
        return repr(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, (tuple, list)):
        return "[" + " ".join(value_text(item) for item in value) + "]"
    return str(value)


def _pairs(event: object) -> Iterable[str]:
    return (f"{name}={quote(value_text(value))}" for name, value in fields(event).items())


def printable(text: str) -> str:
    """`text` without control characters other than line ends: what peers say must not drive a terminal."""
    return "".join(character if character.isprintable() or character == "\n" else " " for character in text)


def _one_line(text: str) -> str:
    shown = printable(text).replace("\n", " ")
    return shown if len(shown) <= MAX_LINE else shown[: MAX_LINE - 1] + "…"
