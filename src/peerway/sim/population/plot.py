"""The population's result as a picture: who meets whom directly, how soon, and by what means, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import cycle

from peerway import svg
from peerway.sim.population.draw import POPULATION
from peerway.sim.population.estimate import Quantiles
from peerway.sim.population.means import MEANS
from peerway.sim.population.pairs import PairResult
from peerway.sim.population.summary import WHY_RELAYED, PairSummary

MARGIN, TITLE = 30, 70
LABELS, SQUARE = 90, 66
GRID = SQUARE * len(POPULATION)
TOP = TITLE + 60
CHART_X, CHART_WIDTH = MARGIN + LABELS + GRID + 90, 480
BAR_Y, BAR_HEIGHT = TOP + GRID + 70, 34
KEY_Y, KEY_LINE = BAR_Y + BAR_HEIGHT + 26, 18
WIDTH = CHART_X + CHART_WIDTH + MARGIN
MOST_POINTS = 500  # of a curve
ROOM = 1.3  # beyond the longest time, for words
STEPS = 5  # horizontal grid lines of the chart
ALWAYS, NEVER = (46, 139, 87), (240, 228, 205)
EMPTY, FAINT = "#f4f4f4", "#777777"
DIRECT_CURVE, BYTE_CURVE, MARK, RULE = "#1b6ca8", "#d9902f", "#c8553d", "#dddddd"
MEANS_COLOURS = (  # in the order of MEANS, over again when there are more
    *("#7a6a4f", "#1b6ca8", "#7a5195", "#c06c1f"),
    *("#2a8f83", "#a1861c", "#6a8fbf", "#2e8b57"),
)
RELAY_COLOURS = {"guessing": "#8b96a6", "relay": "#5d6878", "unsure": "#a9b2be"}
FAILED_COLOUR = "#c8553d"


def plot(results: Sequence[PairResult], summary: PairSummary) -> str:
    """Everything in one picture, as SVG text."""
    direct, parts = summary.direct, list(_parts(summary))
    low, high = (math.nan if bound is None else bound for bound in (direct.low, direct.high))
    title = f"{_percent(direct.value, 1)} of {summary.pairs} pairs of strangers become direct"
    caveat = "Simulated: the population is a model, not a measurement."
    return svg.document(
        WIDTH,
        KEY_Y + KEY_LINE * math.ceil(len(parts) / 2) + MARGIN / 2,
        [
            svg.text(MARGIN, 34, title, bold=True, size=18),
            svg.text(MARGIN, 56, f"95 % confidence: {_percent(low, 1)} to {_percent(high, 1)}. {caveat}"),
            *_grid(summary),
            *_chart(results, summary.direct_ms),
            *_bar(parts),
        ],
    )


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


# --- who meets whom


def _grid(summary: PairSummary) -> Iterator[str]:
    title = "share direct, by what the two stand behind, whoever dials; how many pairs"
    yield svg.text(MARGIN, TOP - 24, title, bold=True)
    names = [network.name for network in POPULATION]
    left = MARGIN + LABELS
    for row, network in enumerate(POPULATION):
        y = TOP + SQUARE * (row + 0.5)
        yield svg.text(left - 8, y - 2, network.name, "end")
        yield svg.text(left - 8, y + 13, _percent(network.share), "end", colour=FAINT, size=11)
        yield svg.text(left + SQUARE * (row + 0.5), TOP + GRID + 18, network.name, "middle", size=11)
        for column, other in enumerate(names[: row + 1]):
            yield from _square(summary, (other, network.name), left + SQUARE * column, TOP + SQUARE * row)


def _square(summary: PairSummary, cell: tuple[str, str], x: float, y: float) -> Iterator[str]:
    found = summary.cells.get(cell)
    size, middle = SQUARE - 2, x + SQUARE / 2 - 1
    if found is None:
        yield svg.rectangle(x, y, size, size, EMPTY)
        return
    part = found.share.value
    ink = "white" if part > 0.6 else svg.BLACK
    yield svg.rectangle(x, y, size, size, svg.mixed(NEVER, ALWAYS, part))
    yield svg.text(middle, y + size / 2, _percent(part), "middle", bold=True, size=14, colour=ink)
    yield svg.text(middle, y + size / 2 + 17, str(found.pairs), "middle", size=11, colour=ink)


# --- how soon


def _chart(results: Sequence[PairResult], marked: Quantiles | None) -> Iterator[str]:
    """Of the pairs that came to a first byte or a direct path, the share that had by then; log x."""
    verdicts = [result.run.verdict for result in results if result.run.verdict is not None]
    first_byte = sorted(1000 * v.first_byte_s for v in verdicts if v.first_byte_s is not None)
    direct = sorted(1000 * v.direct_s for v in verdicts if v.direct_s is not None)
    yield svg.text(CHART_X, TOP - 24, "milliseconds from the dial", bold=True)
    if marked is None:
        yield svg.text(CHART_X, TOP, "no pair became direct")
        return
    axis = _LogAxis([*first_byte, *direct])
    for step in range(STEPS + 1):
        y = axis.y(step / STEPS)
        yield svg.line(CHART_X, y, CHART_X + CHART_WIDTH, y, RULE)
        yield svg.text(CHART_X - 8, y + 4, _percent(step / STEPS), "end")
    for tick in axis.ticks():
        yield svg.line(axis.x(tick), TOP, axis.x(tick), TOP + GRID, RULE)
        yield svg.text(axis.x(tick), TOP + GRID + 18, f"{tick}", "middle")
    yield svg.polyline(axis.curve(first_byte), BYTE_CURVE)
    yield svg.polyline(axis.curve(direct), DIRECT_CURVE)
    yield from _marks(axis, marked)
    yield from _legend(f"first byte ({len(first_byte)} pairs)", f"direct path ({len(direct)} pairs)")


class _LogAxis:
    """Where milliseconds and shares lie in the chart."""

    def __init__(self, times: Sequence[float]) -> None:
        self._low = math.log(max(min(times), 1.0))
        self._high = math.log(ROOM * max(*times, 1.0))

    def x(self, milliseconds: float) -> float:
        part = (math.log(max(milliseconds, 1.0)) - self._low) / (self._high - self._low)
        return CHART_X + CHART_WIDTH * part

    def y(self, share: float) -> float:
        return TOP + GRID * (1 - share)

    def ticks(self) -> Iterator[int]:
        """1, 2, 3, 5, 7, 10, … as far as they are inside."""
        for power in range(7):
            for digit in (1, 2, 3, 5, 7):
                if self._low <= math.log(tick := digit * 10**power) <= self._high:
                    yield tick

    def curve(self, ordered: Sequence[float]) -> Iterator[tuple[float, float]]:
        """The share of the times that are no longer than each."""
        yield self.x(ordered[0]), self.y(0)
        points = min(len(ordered), MOST_POINTS)
        for point in range(1, points + 1):
            rank = math.ceil(point * len(ordered) / points)
            yield self.x(ordered[rank - 1]), self.y(rank / len(ordered))


def _marks(axis: _LogAxis, times: Quantiles) -> Iterator[str]:
    for level, name, found in ((0.5, "p50", times.p50), (0.95, "p95", times.p95), (0.99, "p99", times.p99)):
        x, y = axis.x(found.value), axis.y(level)
        yield svg.line(x, y, x, TOP + GRID, MARK, dashes="4 3")
        yield svg.text(x + 5, y + 16, f"{name} {found.value:.0f}", bold=True, colour=MARK)


def _legend(first_byte: str, direct: str) -> Iterator[str]:
    for number, (colour, words) in enumerate(((BYTE_CURVE, first_byte), (DIRECT_CURVE, direct))):
        y = TOP + 22 + 18 * number
        yield svg.rectangle(CHART_X + 12, y - 6, 22, 3, colour)
        yield svg.text(CHART_X + 40, y, words)


# --- by what means


def _bar(parts: Sequence[tuple[str, float, str]]) -> Iterator[str]:
    """All pairs in one bar, and what its parts are beneath it."""
    yield svg.text(MARGIN, BAR_Y - 12, "by what means", bold=True)
    x, width = float(MARGIN), WIDTH - 2 * MARGIN
    for number, (words, part, colour) in enumerate(parts):
        yield svg.rectangle(x, BAR_Y, width * part, BAR_HEIGHT, colour)
        if part > 0.04:
            middle, y = x + width * part / 2, BAR_Y + BAR_HEIGHT / 2 + 4
            yield svg.text(middle, y, _percent(part, 1), "middle", bold=True, colour="white")
        x += width * part
        row, column = divmod(number, 2)
        key_x, key_y = MARGIN + column * width / 2, KEY_Y + KEY_LINE * row
        yield svg.rectangle(key_x, key_y - 10, 12, 12, colour)
        yield svg.text(key_x + 20, key_y, f"{_percent(part, 1)} {words}")


def _parts(summary: PairSummary) -> Iterator[tuple[str, float, str]]:
    """What the pairs are divided into: in words, which share of them, its colour."""
    colours = {means.name: colour for means, colour in zip(MEANS, cycle(MEANS_COLOURS), strict=False)}
    for means in summary.means:
        yield f"direct: {means.explanation}", means.share.value, colours[means.name]
    for expected, why in WHY_RELAYED.items():
        if count := summary.foreseen.get((expected, "relay"), 0):
            yield f"relayed: {why}", count / summary.pairs, RELAY_COLOURS[expected]
    if (failed := summary.outcomes["failed"].value) > 0:
        yield "failed", failed, FAILED_COLOUR
