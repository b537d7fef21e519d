"""What a sample says of the whole, and how surely: shares and quantiles with 95 % confidence intervals.

Shares: Wilson's score interval, which holds near 0 and 1 as well. Quantiles: order statistics, which
need no distribution: how many of a sample lie below a quantile is binomial, so that two ranks of
the sample enclose it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
_Z = 1.959964  # of the normal distribution, which leaves 2.5 % on either side


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, and the bounds between which the true one lies; None where the sample is too small."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Quantiles:
    """The median and the tail of a sample of `count`."""

    count: int
    p50: Estimate
    p95: Estimate
    p99: Estimate


def share(hits: int, count: int) -> Estimate:
    """The share `hits` / `count`; of nothing nothing is known, and everything possible."""
    if count == 0:
        return Estimate(math.nan, 0.0, 1.0)
    found, weight = hits / count, _Z**2 / count
    middle = (found + weight / 2) / (1 + weight)
    reach = _Z / (1 + weight) * math.sqrt(found * (1 - found) / count + weight / (4 * count))
    low = 0.0 if hits == 0 else middle - reach
    return Estimate(found, low, 1.0 if hits == count else middle + reach)


def quantiles(sample: Iterable[float]) -> Quantiles | None:
    """The quantiles of a sample; None of an empty one."""
    ordered = sorted(sample)
    if not ordered:
        return None
    return Quantiles(len(ordered), *(quantile(ordered, level) for level in (0.5, 0.95, 0.99)))


def quantile(ordered: Sequence[float], level: float) -> Estimate:
    """The quantile `level` (above 0, below 1) of a sorted sample, by nearest rank."""
    count = len(ordered)
    low, high = _ranks(count, level)
    return Estimate(
        ordered[math.ceil(level * count) - 1],
        ordered[low - 1] if low >= 1 else None,
        ordered[high - 1] if high <= count else None,
    )


def _ranks(count: int, level: float) -> tuple[int, int]:
    """The ranks, from 1, that enclose the quantile; 0 and `count` + 1 are beyond the sample.

    The chance that fewer than `low` of the sample lie below it is at most half of what may go
    wrong, and so is the chance that `high` or more do.
    """
    chances = [_binomial(count, below, level) for below in range(count + 1)]
    tail, low = 0.0, 0
    while tail + chances[low] <= (1 - CONFIDENCE) / 2:
        tail += chances[low]
        low += 1
    tail, high = 0.0, count + 1
    while tail + chances[high - 1] <= (1 - CONFIDENCE) / 2:
        tail += chances[high - 1]
        high -= 1
    return low, high


def _binomial(count: int, hits: int, chance: float) -> float:
    ways = math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
    return math.exp(ways + hits * math.log(chance) + (count - hits) * math.log1p(-chance))
