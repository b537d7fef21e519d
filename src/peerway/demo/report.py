"""What an end of the demonstration reports, one JSON object a line on its stdout.

Times are on the clock that all processes of a machine share (`peerway.io.clock`), seconds.
"""

from __future__ import annotations

import msgspec


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The accepting end waits; `ticket` dials it."""

    ticket: str


class Dialling(msgspec.Struct, frozen=True, tag="dialling"):
    """The dialling end, whose relay stands, dials now."""

    at: float


class Connected(msgspec.Struct, frozen=True, tag="connected"):
    """Both ends have proven who they are; data may flow."""

    at: float


class Moved(msgspec.Struct, frozen=True, tag="moved"):
    """Data travels on this path from now on: `kind` is "direct", "relay", or "" for none."""

    at: float
    kind: str
    remote: str
    reason: str
    round_trip: float | None = None


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How many bytes of the transfer have arrived."""

    at: float
    received: int


class Happened(msgspec.Struct, frozen=True, tag="happened"):
    """Something was done to the network between the ends."""

    at: float
    what: str


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The transfer is over for this end: its size, and the SHA-256 of every byte in order."""

    at: float
    size: int
    sha256: str


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """This end gave up."""

    why: str


Report = Ready | Dialling | Connected | Moved | Progress | Happened | Done | Failed

_decoder: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)


def line(report: Report) -> bytes:
    """The report as a line."""
    return msgspec.json.encode(report) + b"\n"


def parse(text: bytes) -> Report | None:
    """The report in a line; None when it is something else, a traceback say."""
    try:
        return _decoder.decode(text)
    except msgspec.DecodeError:
        return None
