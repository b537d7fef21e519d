"""The record of one run: two nodes met or did not, and how long it took."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from peerway.lab.places import PLACES


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run, as a JSON object on a line.

    `outcome` is `direct`, `relay` (three seconds of probing after the first byte, fifteen where
    lines lose packets, found nothing better) or `failed`, then with a `reason`. `first_byte_ms`
    is from `connect()` on a node whose relay stands to the first echoed byte, `direct_ms` until
    both ends were promoted; None where it did not come to that. `probes_sent` counts both ends.
    `loss` is the percentage each access line lost, each way. `family` is the IP version that a direct
    path came to use at both ends, `expected_family` the one it must be where that is certain.
    """

    source: str
    left: str
    right: str
    outcome: str
    expected: str
    first_byte_ms: float | None
    direct_ms: float | None
    probes_sent: int
    bytes_ok: bool
    seed: int
    loss: int = 0
    reason: str = ""
    family: int | None = None
    expected_family: int | None = None

    @property
    def cell(self) -> str:
        """The pair of places, as it is written."""
        return self.left if PLACES[self.left].shared else f"{self.left}x{self.right}"

    @property
    def as_expected(self) -> bool:
        """Whether the outcome is the expected one, over the right IP version, with every byte right."""
        family_ok = self.expected_family in (None, self.family)
        return self.outcome == self.expected and family_ok and self.bytes_ok

    def to_json(self) -> str:
        """One line, without its end."""
        return json.dumps(asdict(self))
