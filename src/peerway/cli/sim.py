"""`peerway sim`: thousands of simulated internets, and a close look at any one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import click

from peerway.cli.app import manner_options, with_output
from peerway.cli.errors import CommandError, Exit, UsageError
from peerway.cli.output import Output
from peerway.cli.population import PAIR_PREFIX
from peerway.cli.population import command as population
from peerway.cli.simulated import milliseconds, record_of, with_progress
from peerway.lab.summary import spread
from peerway.sim.campaign import (
    SEED_LIMIT_S,
    SeedResult,
    SmallFailure,
    Tally,
    run_scenario,
    run_seeds,
    shrink_scenario,
    shrink_seeds,
)
from peerway.sim.diagram import sequence_diagram
from peerway.sim.draw import draw
from peerway.sim.named import NAMED
from peerway.sim.population.draw import draw_pair
from peerway.sim.scenario import Scenario
from peerway.sim.written import written

KINDS_SHRUNK = 8  # one failure each of so many kinds is made small
STDOUT = "-"
DRAWS: dict[str, Callable[[int], Scenario]] = {"": draw, PAIR_PREFIX: lambda seed: draw_pair(seed).scenario}

quic_option = click.option("--quic", is_flag=True, help="on QUIC itself, whose bytes no seed decides: slower")
diagram_option = click.option(
    "--diagram",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, allow_dash=True),
    help="draw it as a Mermaid sequence diagram; - is stdout",
)


@click.group("sim", context_settings={"help_option_names": ["-h", "--help"]})
@manner_options
def command() -> None:
    """The simulated internet: run many seeds, replay one, list scenarios, and draw pairs of strangers."""


command.add_command(population)


@command.command("list")
@with_output
def list_scenarios(output: Output) -> Exit:
    """Explain every scenario that has a name."""
    for named in NAMED.values():
        output.result(f"{named.name:22} {named.explanation}")
        output.record("scenario", name=named.name, explanation=named.explanation)
    return Exit.OK


@command.command("run")
@click.option("--seeds", type=click.IntRange(1), default=100, show_default=True, help="how many")
@click.option("--start", type=click.IntRange(0), default=0, show_default=True, help="the first")
@click.option("--jobs", type=click.IntRange(1), help="processes at a time [default: one for each core]")
@click.option(
    "--limit", type=click.FloatRange(1), default=SEED_LIMIT_S, show_default=True, help="seconds for a seed"
)
@click.option(
    "--shrink/--no-shrink", default=True, show_default=True, help="make a failure of each kind small"
)
@diagram_option
@quic_option
@with_output
def run_campaign(
    output: Output,
    seeds: int,
    start: int,
    jobs: int | None,
    limit: float,
    shrink: bool,
    diagram: str | None,
    quic: bool,
) -> Exit:
    """Draw an internet and a course of events for each seed, run them, and tell what went wrong.

    With --json the record of each seed, a line each, and then the failures made small.
    """
    tally, failures = Tally(), list[SeedResult]()
    results = run_seeds(range(start, start + seeds), jobs=jobs or 0, quic=quic, limit_s=limit)
    try:
        with closing(results):
            for result in with_progress(output, results, seeds, "seeds", lambda: _standing(tally)):
                tally.add(result)
                output.json_line(record_of(result).to_json())
                if result.failure:
                    output.result(f"seed {result.seed}: {result.failure}")
                    failures.append(result)
        _tell_tally(output, tally)
        if shrink:
            with closing(shrink_seeds(_one_of_each_kind(failures), jobs=jobs or 0, quic=quic)) as found:
                _tell_small(output, found, diagram, quic)
    except KeyboardInterrupt:
        if tally.seeds < seeds:
            _tell_tally(output, tally)
        return Exit.INTERRUPTED
    return Exit.FAILED if failures else Exit.OK


@command.command("replay")
@click.argument("seed", metavar="SEED|NAME|pair:SEED")
@click.option("--shrink", is_flag=True, help="when it fails, make it small first")
@click.option(
    "--trace",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, allow_dash=True),
    help="write every packet and event; - is stdout",
)
@diagram_option
@quic_option
@with_output
def replay(
    output: Output, seed: str, shrink: bool, trace: str | None, diagram: str | None, quic: bool
) -> Exit:
    """Run the scenario of a seed, one with a name, or a pair of the population, and tell how it went."""
    scenario = _scenario(seed)
    if shrink and (small := shrink_scenario(scenario, quic)) is not None:
        output.notice(f"made small in {small.runs} runs")
        scenario = small.scenario
    result = run_scenario(scenario, quic, is_traced=True)
    assert result.verdict is not None
    output.json_line(record_of(result).to_json())
    output.result(written(scenario))
    output.result(_told(result))
    for note in result.verdict.notes:
        output.result(note.rstrip())
    if trace is not None:
        _write(output, "trace", trace, "".join(f"{line}\n" for line in result.verdict.trace))
    if diagram is not None:
        _write(output, "diagram", diagram, sequence_diagram(scenario, quic))
    return Exit.FAILED if result.failure else Exit.OK


def _scenario(name: str) -> Scenario:
    if name in NAMED:
        return NAMED[name].scenario
    for prefix, drawn in DRAWS.items():
        seed = name.removeprefix(prefix)
        if seed.isascii() and seed.isdigit():
            return drawn(int(seed))
    message = f"{name} is neither a seed nor the name of a scenario"
    raise UsageError(message, "peerway sim list names them all")


def _standing(tally: Tally) -> str:
    outcomes = dict.fromkeys(("direct", "relay", "failed"), 0)
    for (_, outcome), count in tally.outcomes.items():
        outcomes[outcome] += count
    shares = ", ".join(f"{100 * count / tally.seeds:.0f} % {outcome}" for outcome, count in outcomes.items())
    cost = f"{1000 * tally.cpu_s / tally.seeds:.0f} ms of CPU each"
    return f"{tally.failed} failures; dials {shares}; {tally.by_luck} by luck; {cost}"


def _tell_tally(output: Output, tally: Tally) -> None:
    output.result(f"{tally.seeds} seeds, {tally.failed} failed, {tally.by_luck} direct by luck")
    for (expected, outcome), count in sorted(tally.outcomes.items()):
        share = 100 * count / max(tally.seeds, 1)
        output.result(f"expected {expected:9} came out {outcome:7} {count:7} {share:5.1f} %")
    for name, times in (("first byte", tally.first_byte_s), ("direct", tally.direct_s)):
        output.result(f"{name:10} p50 / p95 / p99: {spread([1000 * each for each in times]) or '-'} ms")


def _one_of_each_kind(failures: list[SeedResult]) -> list[int]:
    """The least seed of each kind of failure; what brought no verdict cannot be made small."""
    kinds: dict[str, int] = {}
    for result in sorted(failures, key=lambda result: result.seed):
        if result.verdict is not None:
            kinds.setdefault(result.symptom, result.seed)
    return list(kinds.values())[:KINDS_SHRUNK]


def _tell_small(output: Output, found: Iterable[SmallFailure], diagram: str | None, quic: bool) -> None:
    for number, small in enumerate(found):
        violation, text = str(small.verdict.violations[0]), written(small.scenario)
        output.result(f"\nseed {small.seed}, made small in {small.runs} runs:\n{text}\nfails: {violation}")
        output.result("the end of its trace:\n" + "\n".join(small.verdict.trace))
        output.record(
            "failure",
            seed=small.seed,
            violation=violation,
            scenario=text,
            runs=small.runs,
            trace=list(small.verdict.trace),
        )
        if diagram is not None and number == 0:
            _write(output, "diagram", diagram, sequence_diagram(small.scenario, quic))


def _told(result: SeedResult) -> str:
    verdict = result.verdict
    assert verdict is not None
    lines = [
        f"left behind {result.left}, right behind {result.right}",
        f"expected {verdict.expected}, came out {verdict.outcome}",
        f"first byte {milliseconds(verdict.first_byte_s)} ms, direct {milliseconds(verdict.direct_s)} ms, "
        f"{verdict.probes_sent} probes, {verdict.virtual_s:.1f} virtual seconds, digest {verdict.digest}",
        *(f"FAILED: {violation}" for violation in verdict.violations),
    ]
    return "\n".join(lines)


def _write(output: Output, what: str, file: str, text: str) -> None:
    if file == STDOUT:
        output.result(text.rstrip("\n"))
        output.record(what, text=text)
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write the {what} to {file}: {error.strerror}") from error
    output.notice(f"the {what} is in {file}")
