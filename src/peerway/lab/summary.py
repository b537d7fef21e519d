"""What many runs come to: a line for each cell, with how often and how fast."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from peerway.lab.places import PLACES
from peerway.lab.record import RunRecord

OUTCOMES = ("direct", "relay", "failed")


@dataclass(frozen=True, slots=True)
class Spread:
    """Three percentiles of a set of times, in milliseconds."""

    p50: float
    p95: float
    p99: float

    def __str__(self) -> str:
        return f"{self.p50:.0f} / {self.p95:.0f} / {self.p99:.0f}"


@dataclass(frozen=True, slots=True)
class CellSummary:
    """All runs of one cell. The spreads are None where no run came to that point."""

    cell: str
    expected: str
    runs: int
    as_expected: int
    outcomes: dict[str, int]
    first_byte: Spread | None
    direct: Spread | None


def summarize(records: Iterable[RunRecord]) -> list[CellSummary]:
    """A summary for each cell, in the order the cells first came."""
    cells: dict[str, list[RunRecord]] = {}
    for record in records:
        cells.setdefault(record.cell, []).append(record)
    return [_summary(cell, runs) for cell, runs in cells.items()]


def spread(times: Sequence[float]) -> Spread | None:
    """Percentiles by nearest rank; None of nothing."""
    if not times:
        return None
    ordered = sorted(times)
    return Spread(*(ordered[math.ceil(share / 100 * len(ordered)) - 1] for share in (50, 95, 99)))


def table(summaries: Sequence[CellSummary]) -> str:
    """The summaries as text, a line each, ending with a newline; times are p50 / p95 / p99 in ms."""
    head = ("cell", "expected", "as expected", *OUTCOMES, "first byte, ms", "direct, ms")
    rows = [head, *(_row(summary) for summary in summaries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(lines) + "\n"


def grid(records: Sequence[RunRecord]) -> str:
    """Places against places, left dialling right: the outcome, and the median ms to a direct path."""
    cells = {(run.left, run.right): run.cell for run in records}
    summaries = {summary.cell: summary for summary in summarize(records)}
    lefts = places_in_order(run.left for run in records)
    rights = places_in_order(run.right for run in records)
    rows = [["", *rights]]
    for left in lefts:
        rows.append([left, *(_mark(summaries.get(cells.get((left, right), ""))) for right in rights)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rights) + 1)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(lines) + "\n"


def places_in_order(names: Iterable[str]) -> list[str]:
    """The places named, each once, from the easiest to the hardest."""
    order = list(PLACES)
    return sorted(set(names), key=order.index)


def _mark(summary: CellSummary | None) -> str:
    if summary is None:
        return ""
    if summary.as_expected < summary.runs:
        return f"NOT {summary.expected}"
    return f"{summary.direct.p50:.0f} ms" if summary.direct is not None else "relay"


def _row(summary: CellSummary) -> tuple[str, ...]:
    return (
        summary.cell,
        summary.expected,
        f"{summary.as_expected}/{summary.runs}",
        *(str(summary.outcomes.get(outcome, 0)) for outcome in OUTCOMES),
        str(summary.first_byte or "-"),
        str(summary.direct or "-"),
    )


def _summary(cell: str, runs: list[RunRecord]) -> CellSummary:
    outcomes = {outcome: sum(run.outcome == outcome for run in runs) for outcome in OUTCOMES}
    return CellSummary(
        cell,
        runs[0].expected,
        len(runs),
        sum(run.as_expected for run in runs),
        outcomes,
        spread([run.first_byte_ms for run in runs if run.first_byte_ms is not None]),
        spread([run.direct_ms for run in runs if run.direct_ms is not None]),
    )
