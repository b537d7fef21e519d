"""Runs many pairs of the population, each in a world of its own, and brings home what came of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from peerway.sim.campaign import SeedResult, cores
from peerway.sim.kinds import pair_of_kinds
from peerway.sim.population.draw import ALL_AIDS, Aids, draw_pair
from peerway.sim.population.means import direct_path, means_of
from peerway.sim.run import Run
from peerway.sim.scenario import SIDES
from peerway.sim.workers import Done, Lost, run_many

PAIR_LIMIT_S = 120.0  # of wall time; a pair takes a twentieth of a second
MOST_PAIRS = 1_000_000  # so many seeds are apart the first pairs of two populations
OUTCOMES = ("direct", "relay", "failed")


@dataclass(frozen=True, slots=True)
class PairResult:
    """What came of a pair. `run`: as for any seed, `left` and `right` being the classes of the two.

    `kinds`: what each stands behind, in the lab's words. `has_ipv6`: both do. `means`, `family` (4 or 6)
    and `round_trip_s` are of the direct path, "" and None without one.
    """

    run: SeedResult
    kinds: tuple[str, str]
    has_ipv6: bool
    means: str = ""
    family: int | None = None
    round_trip_s: float | None = None

    @property
    def failure(self) -> str:
        """What was not as it must be; "" when all was."""
        return self.run.failure

    @property
    def outcome(self) -> str:
        """One of `OUTCOMES`."""
        return "failed" if self.run.verdict is None or self.failure else self.run.verdict.outcome

    @property
    def expected(self) -> str:
        """What the oracle says of the pair; "" when there is no verdict."""
        return "" if self.run.verdict is None else self.run.verdict.expected


def run_pair(seed: int, aids: Aids = ALL_AIDS) -> PairResult:
    """Draw the pair of `seed` and have the left one dial the right one."""
    began = time.process_time()
    pair = draw_pair(seed, aids)
    run = Run(pair.scenario)
    verdict = run.to_the_end()
    path = direct_path(run.talk) if verdict.outcome == "direct" else None
    return PairResult(
        SeedResult(seed, verdict, "", pair.left.network, pair.right.network, time.process_time() - began),
        pair_of_kinds(pair.scenario.plan, *SIDES),
        pair.left.has_ipv6 and pair.right.has_ipv6,
        *((means_of(path), path.family, path.round_trip_s) if path is not None else ()),
    )


def pair_seeds(population: int, pairs: int) -> range:
    """The seeds of so many pairs of the population number `population`, which no other one has."""
    first = population * MOST_PAIRS
    return range(first, first + pairs)


def run_pairs(seeds: Sequence[int], *, jobs: int = 0, aids: Aids = ALL_AIDS) -> Generator[PairResult]:
    """The results of `seeds` in their order, from `jobs` processes (0: one for each core).

    A pair that kills its process, or takes more than `PAIR_LIMIT_S`, is a result as well. To stop
    early close the iterator.
    """
    early: dict[int, PairResult] = {}
    missing = deque(seeds)
    with closing(run_many(partial(run_pair, aids=aids), seeds, jobs or cores(), PAIR_LIMIT_S)) as found:
        for done in found:
            early[done.number] = done.value if isinstance(done, Done) else _lost(done, aids)
            while missing and missing[0] in early:
                yield early.pop(missing.popleft())


def _lost(lost: Lost, aids: Aids) -> PairResult:
    pair = draw_pair(lost.number, aids)
    return PairResult(
        SeedResult(lost.number, None, lost.reason, pair.left.network, pair.right.network),
        pair_of_kinds(pair.scenario.plan, *SIDES),
        pair.left.has_ipv6 and pair.right.has_ipv6,
    )
