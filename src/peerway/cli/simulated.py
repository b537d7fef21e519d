"""What the commands that run many simulations have in common: the record of a run, and progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from peerway.cli.output import Output
from peerway.lab.record import RunRecord
from peerway.sim.campaign import SeedResult

PROGRESS_S = 5.0
Run = TypeVar("Run")


def record_of(result: SeedResult) -> RunRecord:
    """The record of a run, as the lab makes it; times are virtual."""
    verdict, reason = result.verdict, result.failure
    if verdict is None:
        return RunRecord(
            "sim", result.left, result.right, "failed", "", None, None, 0, False, result.seed, 0, reason
        )
    return RunRecord(
        source="sim",
        left=result.left,
        right=result.right,
        outcome="failed" if reason else verdict.outcome,
        expected=verdict.expected,
        first_byte_ms=milliseconds(verdict.first_byte_s),
        direct_ms=milliseconds(verdict.direct_s),
        probes_sent=verdict.probes_sent,
        bytes_ok=verdict.bytes_ok,
        seed=result.seed,
        reason=reason,
        family=verdict.family,
        expected_family=verdict.expected_family,
    )


def milliseconds(seconds: float | None) -> float | None:
    """To the microsecond."""
    return None if seconds is None else round(1000 * seconds, 3)


def with_progress(
    output: Output, results: Iterable[Run], count: int, what: str, standing: Callable[[], str]
) -> Iterator[Run]:
    """The results; meanwhile, how many of `count` there are, how fast they come, and how things stand."""
    began = told = time.monotonic()
    done = 0
    for result in results:
        done += 1
        yield result
        now = time.monotonic()
        if now - told >= PROGRESS_S:
            told, rate = now, done / (now - began)
            left_s = (count - done) / rate
            output.notice(f"{done} of {count} {what}, {rate:.1f}/s, {left_s:.0f} s to go: {standing()}")
    spent = time.monotonic() - began
    output.notice(f"{done} {what} in {spent:.1f} s, {done / spent:.1f}/s")
