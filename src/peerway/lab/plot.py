"""Time to a direct path as a picture: an SVG with one cumulative curve for each cell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

from peerway.lab.record import RunRecord

WIDTH, HEIGHT = 900, 520
LEFT, RIGHT, TOP, BOTTOM = 60, 250, 40, 50  # margins; the right one holds the legend
COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8e5ea2", "#c28f2c", "#4b4e6d", "#2a9d8f", "#b5838d")
DASHES = ("none", "6 3", "2 3", "8 3 2 3")
LEGEND_STEP = 17


def plot(records: Iterable[RunRecord]) -> str:
    """The share of each cell's runs that were direct after how many milliseconds, as SVG text.

    A curve ends below 100 % by the runs that did not become direct; cells without any are left out.
    """
    cells: dict[str, list[RunRecord]] = {}
    for record in records:
        cells.setdefault(record.cell, []).append(record)
    times = {
        cell: sorted(run.direct_ms for run in runs if run.direct_ms is not None)
        for cell, runs in cells.items()
    }
    drawn = {cell: found for cell, found in times.items() if found}
    scale = _Scale([time for found in drawn.values() for time in found])
    parts = [_frame(), scale.axes()]
    for index, (cell, found) in enumerate(drawn.items()):
        parts.append(_curve(index, cell, found, len(cells[cell]), scale))
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Scale:
    """Milliseconds on a logarithmic axis of whole decades, shares on a linear one."""

    def __init__(self, times: Sequence[float]) -> None:
        positive = [time for time in times if time > 0] or [1.0]
        self._first = math.floor(math.log10(min(positive)))
        self._last = max(math.ceil(math.log10(max(positive))), self._first + 1)

    def x(self, milliseconds: float) -> float:
        """Where a time is, from the left."""
        decades = math.log10(max(milliseconds, 10.0**self._first)) - self._first
        return LEFT + decades / (self._last - self._first) * (WIDTH - LEFT - RIGHT)

    def y(self, share: float) -> float:
        """Where a share between 0 and 1 is, from the top."""
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def axes(self) -> str:
        """Grid lines and their labels."""
        parts = []
        for exponent in range(self._first, self._last + 1):
            x = self.x(10.0**exponent)
            parts.append(_line(x, TOP, x, HEIGHT - BOTTOM))
            parts.append(_text(x, HEIGHT - BOTTOM + 20, f"{10.0**exponent:g} ms", "middle"))
        for percent in range(0, 101, 25):
            y = self.y(percent / 100)
            parts.append(_line(LEFT, y, WIDTH - RIGHT, y))
            parts.append(_text(LEFT - 8, y + 4, f"{percent} %", "end"))
        return "\n".join(parts)


def _frame() -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n'
        + _text(LEFT, 22, "Share of runs that were direct, by time since the dial", "start")
    )


def _curve(index: int, cell: str, found: Sequence[float], runs: int, scale: _Scale) -> str:
    points = [(scale.x(found[0]), scale.y(0.0))]
    for rank, time in enumerate(found, start=1):
        points.append((scale.x(time), points[-1][1]))
        points.append((scale.x(time), scale.y(rank / runs)))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    colour = COLOURS[index % len(COLOURS)]
    style = f'stroke="{colour}" stroke-width="1.8" stroke-dasharray="{DASHES[index // len(COLOURS) % 4]}"'
    y = TOP + 6 + index * LEGEND_STEP
    x = WIDTH - RIGHT + 20
    return "\n".join(
        (
            f'<polyline points="{path}" fill="none" {style}/>',
            f'<line x1="{x}" y1="{y}" x2="{x + 26}" y2="{y}" {style}/>',
            _text(x + 34, y + 4, f"{cell} ({len(found)}/{runs})", "start"),
        )
    )


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
