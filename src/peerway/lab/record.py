"""The record of one run: two nodes met or did not, and how long it took."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run, as a JSON object on a line.

    `outcome` is `direct`, `relay` (three seconds of probing after the first byte, fifteen where
    lines lose packets, found nothing better) or `failed`, then with a `reason`. `first_byte_ms`
    is from `connect()` on a node whose relay stands to the first echoed byte, `direct_ms` until
    both ends were promoted; None where it did not come to that. `probes_sent` counts both ends.
    `loss` is the percentage each access line lost, each way.
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

    @property
    def cell(self) -> str:
        """The pair of kinds, as it is written."""
        return self.left if self.left == self.right == "same-lan" else f"{self.left}x{self.right}"

    @property
    def as_expected(self) -> bool:
        """Whether the outcome is the expected one, with every byte right."""
        return self.outcome == self.expected and self.bytes_ok

    def to_json(self) -> str:
        """One line, without its end."""
        return json.dumps(asdict(self))
