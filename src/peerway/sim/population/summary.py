"""What many pairs of the population come to: the shares, by which means, how fast, at what price."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from peerway.sim.population.draw import POPULATION
from peerway.sim.population.estimate import Estimate, Quantiles, quantiles, share
from peerway.sim.population.means import MEANS
from peerway.sim.population.pairs import OUTCOMES, PairResult
from peerway.sim.run import Verdict

WHY_RELAYED = {  # by what the oracle expected
    "guessing": "a port would have to be guessed",
    "relay": "no UDP gets through",
    "unsure": "luck decides, and did",
}


@dataclass(frozen=True, slots=True)
class MeansSummary:
    """The pairs that became direct by one means; `share` is of all pairs, times are milliseconds."""

    name: str
    explanation: str
    share: Estimate
    direct_ms: Quantiles


@dataclass(frozen=True, slots=True)
class CellSummary:
    """The pairs of two classes, whoever of them dialled; `share` of them became direct."""

    pairs: int
    share: Estimate


@dataclass(frozen=True, slots=True)
class PairSummary:
    """All of it. Times are milliseconds from the dial, probes those of both ends.

    `outcomes`: shares of all pairs, by outcome. `foreseen`: how many the oracle expected so and
    came out so. `cells`: by the two classes, in the order of the population.
    """

    pairs: int
    outcomes: dict[str, Estimate]
    means: tuple[MeansSummary, ...]
    foreseen: dict[tuple[str, str], int]
    first_byte_ms: Quantiles | None
    direct_ms: Quantiles | None
    round_trip_ms: Quantiles | None
    probes_direct: Quantiles | None
    probes_relay: Quantiles | None
    cells: dict[tuple[str, str], CellSummary]

    @property
    def direct(self) -> Estimate:
        """The headline: the share that became direct."""
        return self.outcomes["direct"]


def summarize(results: Sequence[PairResult]) -> PairSummary:
    """The summary of some results."""
    counted = Counter(result.outcome for result in results)
    direct = [result for result in results if result.outcome == "direct"]
    relay = [result for result in results if result.outcome == "relay"]
    return PairSummary(
        len(results),
        {outcome: share(counted[outcome], len(results)) for outcome in OUTCOMES},
        _by_means(direct, len(results)),
        dict(Counter((result.expected, result.outcome) for result in results)),
        quantiles(_milliseconds(v.first_byte_s for v in _verdicts(results))),
        quantiles(_direct_ms(direct)),
        quantiles(_milliseconds(result.round_trip_s for result in direct)),
        quantiles(_probes(direct)),
        quantiles(_probes(relay)),
        _by_classes(results),
    )


def _by_means(direct: Sequence[PairResult], pairs: int) -> tuple[MeansSummary, ...]:
    """Each means that occurred, in the order in which they are looked for."""
    found = []
    for means in MEANS:
        such = [result for result in direct if result.means == means.name]
        if (times := quantiles(_direct_ms(such))) is not None:
            found.append(MeansSummary(means.name, means.explanation, share(len(such), pairs), times))
    return tuple(found)


def _by_classes(results: Sequence[PairResult]) -> dict[tuple[str, str], CellSummary]:
    names = [network.name for network in POPULATION]
    pairs: Counter[tuple[str, str]] = Counter()
    direct: Counter[tuple[str, str]] = Counter()
    for result in results:
        one, other = sorted((result.run.left, result.run.right), key=names.index)
        pairs[one, other] += 1
        direct[one, other] += result.outcome == "direct"
    order = [(one, other) for number, one in enumerate(names) for other in names[number:]]
    return {cell: CellSummary(pairs[cell], share(direct[cell], pairs[cell])) for cell in order if pairs[cell]}


def _verdicts(results: Iterable[PairResult]) -> Iterator[Verdict]:
    return (result.run.verdict for result in results if result.run.verdict is not None)


def _direct_ms(results: Iterable[PairResult]) -> list[float]:
    return _milliseconds(verdict.direct_s for verdict in _verdicts(results))


def _probes(results: Iterable[PairResult]) -> list[float]:
    return [float(verdict.probes_sent) for verdict in _verdicts(results)]


def _milliseconds(times: Iterable[float | None]) -> list[float]:
    return [1000 * time for time in times if time is not None]
