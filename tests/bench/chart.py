"""Medians as bars on a logarithmic scale, with a dot for every round, as SVG."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from peerway import svg

LEFT, WIDTH, TOP, ROW = 190, 520, 60, 40
OURS, OTHERS, DOT = "#1b6ca8", "#b9c4d0", "#c8553d"


def bars(title: str, unit: str, rounds: Mapping[str, Sequence[float]], ours: str) -> str:
    """One bar for each name, in the order given; `ours` in colour."""
    values = [value for measured in rounds.values() for value in measured]
    low = 10 ** math.floor(math.log10(min(values)))
    high = 10 ** math.ceil(math.log10(max(values)))

    def at(value: float) -> float:
        return LEFT + WIDTH * math.log(value / low) / math.log(high / low)

    bottom = TOP + ROW * len(rounds)
    shapes = [svg.text(12, 24, title, bold=True)]
    for power in range(round(math.log10(high / low)) + 1):
        mark = low * 10**power
        shapes.append(svg.line(at(mark), TOP - 8, at(mark), bottom, "#dddddd"))
        shapes.append(svg.text(at(mark), bottom + 18, f"{mark:g} {unit}", anchor="middle"))
    for row, (name, measured) in enumerate(rounds.items()):
        y, median = TOP + ROW * row, statistics.median(measured)
        shapes.append(svg.text(LEFT - 10, y + 17, name, anchor="end", bold=name == ours))
        shapes.append(svg.rectangle(LEFT, y, at(median) - LEFT, 24, OURS if name == ours else OTHERS))
        shapes += [svg.rectangle(at(value) - 2, y + 10, 4, 4, DOT) for value in measured]
        shapes.append(svg.text(at(max(measured)) + 10, y + 17, f"{median:.3g}"))
    return svg.document(LEFT + WIDTH + 80, bottom + 40, shapes)
