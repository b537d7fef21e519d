"""The matrix as a picture: a heat map of every pair of places, and how long direct paths took, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from peerway import svg
from peerway.lab.record import RunRecord
from peerway.lab.summary import CellSummary, Spread, places_in_order, spread, summarize

SQUARE = 78
LABELS = 110  # room for the kinds' names, left of the grid and above it
GAP, CHART_WIDTH, BOTTOM = 70, 420, 60
FAST_MS, SLOW_MS = 5.0, 2000.0  # the ends of the colour scale
FAST_COLOUR, SLOW_COLOUR = (46, 139, 87), (244, 222, 128)
RELAY_COLOUR, UNEXPECTED_COLOUR, EMPTY_COLOUR = "#c9d2de", "#c8553d", "#f4f4f4"
STEPS = 5  # horizontal grid lines of the chart


def plot(records: Iterable[RunRecord]) -> str:
    """The heat map, with the distribution of the time to direct (p50, p95, p99) beside it, as SVG text."""
    runs = list(records)
    lefts = places_in_order(run.left for run in runs)
    rights = places_in_order(run.right for run in runs)
    cells = {summary.cell: summary for summary in summarize(runs)}
    width = LABELS + SQUARE * len(rights) + GAP + CHART_WIDTH + 40
    height = max(LABELS + SQUARE * len(lefts) + BOTTOM, 420)
    shapes = [
        svg.text(LABELS, 18, "who dials (rows) whom (columns); median ms to a direct path", bold=True),
        *_labels(lefts, rights),
        *_squares(runs, cells, lefts, rights),
        *_chart(runs, LABELS + SQUARE * len(rights) + GAP, height),
    ]
    return svg.document(width, height, shapes)


def _labels(lefts: Sequence[str], rights: Sequence[str]) -> list[str]:
    rows = [
        svg.text(LABELS - 8, LABELS + SQUARE * (row + 0.5) + 4, name, anchor="end")
        for row, name in enumerate(lefts)
    ]
    columns = [
        svg.text(LABELS + SQUARE * (column + 0.5), LABELS - 10, name, anchor="middle")
        for column, name in enumerate(rights)
    ]
    return rows + columns


def _squares(
    runs: Sequence[RunRecord], cells: dict[str, CellSummary], lefts: Sequence[str], rights: Sequence[str]
) -> list[str]:
    names = {(run.left, run.right): run.cell for run in runs}
    parts = []
    for row, left in enumerate(lefts):
        for column, right in enumerate(rights):
            x, y = LABELS + SQUARE * column, LABELS + SQUARE * row
            cell = cells.get(names.get((left, right), ""))
            parts.append(svg.rectangle(x, y, SQUARE - 2, SQUARE - 2, _colour(cell)))
            for line, text in enumerate(_lines(cell)):
                parts.append(svg.text(x + SQUARE / 2, y + SQUARE / 2 - 4 + 16 * line, text, anchor="middle"))
    return parts


def _lines(cell: CellSummary | None) -> tuple[str, ...]:
    if cell is None:
        return ()
    if cell.as_expected < cell.runs:
        return f"{cell.as_expected}/{cell.runs}", "as expected"
    if cell.direct is None:
        return ("relay",)
    return "direct", f"{cell.direct.p50:.0f} ms"


def _colour(cell: CellSummary | None) -> str:
    if cell is None:
        return EMPTY_COLOUR
    if cell.as_expected < cell.runs:
        return UNEXPECTED_COLOUR
    if cell.direct is None:
        return RELAY_COLOUR
    share = math.log(max(cell.direct.p50, FAST_MS) / FAST_MS) / math.log(SLOW_MS / FAST_MS)
    return svg.mixed(FAST_COLOUR, SLOW_COLOUR, min(share, 1.0))


def _chart(runs: Sequence[RunRecord], left: float, height: float) -> list[str]:
    """The share of direct runs that were direct after how many milliseconds, with the percentiles marked."""
    times = sorted(run.direct_ms for run in runs if run.direct_ms is not None)
    found = spread(times)
    if found is None:
        return [svg.text(left, LABELS, "no run became direct")]
    top, bottom = float(LABELS), height - BOTTOM
    longest = max(times[-1], 1.0)

    def at(milliseconds: float, share: float) -> tuple[float, float]:
        return left + CHART_WIDTH * milliseconds / longest, bottom - (bottom - top) * share

    points = [at(0, 0), *(at(time, (index + 1) / len(times)) for index, time in enumerate(times))]
    title = f"time to direct, {len(times)} runs: p50 / p95 / p99 = {found} ms"
    parts = [svg.text(left, 18, title, bold=True)]
    for step in range(STEPS + 1):
        _, y = at(0, step / STEPS)
        parts.append(svg.line(left, y, left + CHART_WIDTH, y, "#dddddd"))
        parts.append(svg.text(left - 8, y + 4, f"{100 * step // STEPS} %", anchor="end"))
    parts.append(svg.text(left + CHART_WIDTH, bottom + 18, f"{longest:.0f} ms", anchor="end"))
    parts.append(svg.text(left, bottom + 18, "0"))
    parts.append(svg.polyline(points, "#1b6ca8"))
    return parts + _marks(found, at(0, 0)[1], left, longest, top)


def _marks(found: Spread, bottom: float, left: float, longest: float, top: float) -> list[str]:
    parts = []
    for level, (name, time) in enumerate((("p50", found.p50), ("p95", found.p95), ("p99", found.p99))):
        x = left + CHART_WIDTH * time / longest
        parts.append(svg.line(x, top - 30 + 12 * level, x, bottom, "#c8553d"))
        side, anchor = (3, "start") if time < longest / 2 else (-3, "end")
        parts.append(svg.text(x + side, top - 26 + 12 * level, f"{name} {time:.0f} ms", anchor))
    return parts
