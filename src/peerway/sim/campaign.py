"""Runs the scenarios of many seeds side by side, and makes what fails small.

What comes back from a seed is small; whoever wants more runs it again (`peerway.sim.run`).
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial

from peerway.sim.draw import draw
from peerway.sim.kinds import pair_of_kinds
from peerway.sim.meeting import BY_LUCK
from peerway.sim.run import Verdict, run
from peerway.sim.scenario import SIDES, Scenario
from peerway.sim.shrink import Shrinking, symptom
from peerway.sim.workers import Done, run_many

SEED_LIMIT_S = 120.0  # of wall time; a seed takes a tenth of a second
SHRINK_LIMIT_S = 900.0
TAIL_LINES = 40  # of a failure's trace
WATCHED_EVERY = 8  # of scenarios in which nobody means harm, one in so many is watched packet by packet


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What came of a seed. `verdict` is None where it brought none, and `lost` then says why.

    `left`, `right`: what the sides stood behind. `cpu_s`: what it cost.
    """

    seed: int
    verdict: Verdict | None
    lost: str = ""
    left: str = ""
    right: str = ""
    cpu_s: float = 0.0

    @property
    def failure(self) -> str:
        """What was not as it must be; "" when all was."""
        if self.verdict is None:
            return self.lost
        return str(self.verdict.violations[0]) if self.verdict.violations else ""

    @property
    def symptom(self) -> str:
        """The failure without its times and sizes: failures of one kind share it."""
        return self.lost if self.verdict is None else symptom(self.verdict)


@dataclass(frozen=True, slots=True)
class SmallFailure:
    """The failure of a seed, made small in `runs` runs; `verdict` has the end of its trace."""

    seed: int
    scenario: Scenario
    runs: int
    verdict: Verdict


@dataclass(slots=True)
class Tally:
    """What many seeds came to. `outcomes` counts (expected, outcome); times are virtual seconds."""

    seeds: int = 0
    failed: int = 0
    by_luck: int = 0
    cpu_s: float = 0.0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    first_byte_s: list[float] = field(default_factory=list)
    direct_s: list[float] = field(default_factory=list)

    def add(self, result: SeedResult) -> None:
        """Count one more."""
        self.seeds += 1
        self.failed += bool(result.failure)
        self.cpu_s += result.cpu_s
        verdict = result.verdict
        if verdict is None:
            return
        self.by_luck += BY_LUCK in verdict.notes
        self.outcomes[verdict.expected, verdict.outcome] += 1
        if verdict.first_byte_s is not None:
            self.first_byte_s.append(verdict.first_byte_s)
        if verdict.direct_s is not None:
            self.direct_s.append(verdict.direct_s)


def cores() -> int:
    """How many processes can run at the same time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_scenario(
    scenario: Scenario, quic: bool = False, is_traced: bool = False, is_watched: bool = True
) -> SeedResult:
    """Run one scenario here and now."""
    began = time.process_time()
    verdict = run(scenario, quic=quic, is_traced=is_traced, is_watched=is_watched)
    left, right = pair_of_kinds(scenario.plan, *SIDES)
    return SeedResult(scenario.seed, verdict, "", left, right, time.process_time() - began)


def run_seed(seed: int, quic: bool = False) -> SeedResult:
    """Draw the scenario of `seed` and run it."""
    scenario = draw(seed)
    is_watched = scenario.is_hostile or seed % WATCHED_EVERY == 0
    return run_scenario(scenario, quic, is_watched=is_watched)


def run_seeds(
    seeds: Iterable[int], *, jobs: int = 0, quic: bool = False, limit_s: float = SEED_LIMIT_S
) -> Generator[SeedResult]:
    """The results of `seeds` as they come in, from `jobs` processes (0: one for each core).

    A seed that kills its process or takes more than `limit_s` seconds is a result as well. To stop
    early close the iterator.
    """
    with closing(run_many(partial(run_seed, quic=quic), seeds, jobs or cores(), limit_s)) as found:
        for done in found:
            yield done.value if isinstance(done, Done) else SeedResult(done.number, None, done.reason)


def shrink_scenario(scenario: Scenario, quic: bool = False) -> SmallFailure | None:
    """The failure of a scenario made small; None when it does not fail."""
    wanted = symptom(run(scenario, quic=quic))
    if not wanted:
        return None
    shrinking = Shrinking(scenario, lambda candidate: symptom(run(candidate, quic=quic)) == wanted)
    smallest = shrinking.to_the_end()
    verdict = run(smallest, quic=quic, is_traced=True)
    tail = replace(verdict, trace=verdict.trace[-TAIL_LINES:])
    return SmallFailure(scenario.seed, smallest, shrinking.runs_made, tail)


def shrink_seed(seed: int, quic: bool = False) -> SmallFailure | None:
    """The failure of a seed made small; None when it does not fail."""
    return shrink_scenario(draw(seed), quic)


def shrink_seeds(seeds: Iterable[int], *, jobs: int = 0, quic: bool = False) -> Generator[SmallFailure]:
    """The failures of `seeds` made small, as they get done; those that cannot be are left out."""
    with closing(run_many(partial(shrink_seed, quic=quic), seeds, jobs or cores(), SHRINK_LIMIT_S)) as found:
        for done in found:
            if isinstance(done, Done) and done.value is not None:
                yield done.value
