"""The trace: every packet and every event of a run, as lines of text that depend on nothing else."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from dataclasses import is_dataclass

from peerway.core.machine import Event

LINES_KEPT = 200_000
EVENT_CHARACTERS = 200
_FINGERPRINT = re.compile(" [0-9a-f]{8}$")


class Trace:
    """Lines in the order of what happened. The digest covers all of them, `lines` the last `LINES_KEPT`.

    Without `has_contents` the fingerprints of packets are left out: QUIC's bytes are of its own making.
    """

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self.has_contents = True
        self._hash = hashlib.sha256()

    def add(self, line: str) -> None:
        """Append a line (without its newline)."""
        if not self.has_contents:
            line = _FINGERPRINT.sub("", line)
        self.lines.append(line)
        self._hash.update(f"{line}\n".encode())

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all lines ever added."""
        return self._hash.hexdigest()


def fingerprint(data: bytes) -> str:
    """Eight characters that stand for `data`."""
    return hashlib.sha256(data).hexdigest()[:8]


def describe(event: Event) -> str:
    """An event on one line; a long one is cut and ends in its fingerprint."""
    # the default repr of an object holds its address in memory, different in every run
    text = repr(event) if is_dataclass(event) else type(event).__name__
    if len(text) > EVENT_CHARACTERS:
        text = f"{text[:EVENT_CHARACTERS]}… {fingerprint(text.encode())}"
    return text
