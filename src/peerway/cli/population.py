"""`peerway sim population`: how many pairs of strangers become direct, how soon, by what means."""

from __future__ import annotations

import io
import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, fields, replace
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from peerway.cli.app import with_output
from peerway.cli.errors import CommandError, Exit
from peerway.cli.output import Output
from peerway.cli.simulated import milliseconds, record_of, with_progress
from peerway.sim.population.draw import ASSUMPTIONS, POPULATION, Aids
from peerway.sim.population.estimate import Estimate, Quantiles, share
from peerway.sim.population.pairs import MOST_PAIRS, OUTCOMES, PairResult, pair_seeds, run_pairs
from peerway.sim.population.plot import plot
from peerway.sim.population.summary import WHY_RELAYED, PairSummary, summarize

WIDTH = 110
PAIR_PREFIX = "pair:"  # before its seed, that is what `peerway sim replay` knows a pair by


@click.command("population")
@click.option("--pairs", type=click.IntRange(1, MOST_PAIRS), default=1000, show_default=True, help="how many")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="other ones for each")
@click.option("--jobs", type=click.IntRange(1), help="processes at a time [default: one for each core]")
@click.option("--ipv6/--no-ipv6", default=True, show_default=True, help="whether anybody has it")
@click.option(
    "--port-mapping/--no-port-mapping", default=True, show_default=True, help="whether any router does it"
)
@click.option(
    "--plot", "picture", type=click.Path(dir_okay=False, writable=True), help="draw the result to an SVG file"
)
@with_output
def command(
    output: Output,
    pairs: int,
    seed: int,
    jobs: int | None,
    ipv6: bool,
    port_mapping: bool,
    picture: str | None,
) -> Exit:
    """Draw pairs of nodes as they might be found on the internet, and say how they get through.

    The population is a model, not a measurement; what it assumes is printed with the result. With
    --json the record of each pair, a line each, and then a summary.
    """
    aids = Aids(ipv6, port_mapping)
    results: list[PairResult] = []
    is_interrupted = False
    try:
        with closing(run_pairs(pair_seeds(seed, pairs), jobs=jobs or 0, aids=aids)) as found:
            for result in with_progress(output, found, pairs, "pairs", lambda: _standing(results)):
                results.append(result)
                output.json_line(json.dumps(pair_record(result)))
    except KeyboardInterrupt:
        is_interrupted = True
    if not results:
        return Exit.INTERRUPTED
    summary = summarize(results)
    for failed in (result for result in results if result.failure):
        output.result(f"{PAIR_PREFIX}{failed.run.seed}: {failed.failure}")
    output.result(told(results, summary, aids))
    output.json_line(
        json.dumps({"event": "summary", "seed": seed, **asdict(aids), **summary_record(summary)})
    )
    if picture is not None:
        _draw(output, plot(results, summary), Path(picture))
    if is_interrupted:
        return Exit.INTERRUPTED
    return Exit.FAILED if any(result.failure for result in results) else Exit.OK


# --- for programs


def pair_record(result: PairResult) -> dict[str, object]:
    """The record of a run, and what else is known of a pair."""
    left, right = result.kinds
    return {
        **asdict(replace(record_of(result.run), family=result.family)),
        "means": result.means,
        "left_kind": left,
        "right_kind": right,
        "ipv6": result.has_ipv6,
        "round_trip_ms": milliseconds(result.round_trip_s),
    }


def summary_record(summary: PairSummary) -> dict[str, object]:
    """The summary as plain data: an estimate is {"value", "low", "high"}, null where it cannot be said."""
    return {
        "pairs": summary.pairs,
        "outcomes": {outcome: _plain(found) for outcome, found in summary.outcomes.items()},
        "means": {
            means.name: {"share": _plain(means.share), "direct_ms": _plain(means.direct_ms)}
            for means in summary.means
        },
        "foreseen": [
            {"expected": expected, "outcome": outcome, "pairs": pairs}
            for (expected, outcome), pairs in sorted(summary.foreseen.items())
        ],
        "first_byte_ms": _plain(summary.first_byte_ms),
        "direct_ms": _plain(summary.direct_ms),
        "round_trip_ms": _plain(summary.round_trip_ms),
        "probes_direct": _plain(summary.probes_direct),
        "probes_relay": _plain(summary.probes_relay),
        "cells": [
            {"classes": [one, other], "pairs": cell.pairs, "direct": _plain(cell.share)}
            for (one, other), cell in summary.cells.items()
        ],
        "assumptions": ASSUMPTIONS,
    }


def _plain(found: Estimate | Quantiles | float | None) -> object:
    """Dicts of numbers, in which nothing pretends to be exact."""
    if isinstance(found, (Estimate, Quantiles)):
        return {field.name: _plain(getattr(found, field.name)) for field in fields(found)}
    return round(found, 4) if isinstance(found, float) else found


# --- for people


def _standing(results: Sequence[PairResult]) -> str:
    counted = Counter(result.outcome for result in results)
    return ", ".join(f"{100 * counted[outcome] / len(results):.1f} % {outcome}" for outcome in OUTCOMES)


def told(results: Sequence[PairResult], summary: PairSummary, aids: Aids) -> str:
    """The result as tables, with all that was assumed."""
    tables = _shares(summary), _times(summary), _population(results, aids)
    missing = {"Nobody has IPv6 here.": aids.ipv6, "No router here maps ports.": aids.port_mapping}
    without = [words for words, is_there in missing.items() if not is_there]
    assumed = "\n".join(map(_item, (*ASSUMPTIONS, *without)))
    return "\n\n".join([*map(_as_text, tables), f"assumed:\n{assumed}"])


def _item(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="- ", subsequent_indent="  ")


def _as_text(table: Table) -> str:
    console = Console(file=io.StringIO(), width=WIDTH, highlight=False, no_color=True)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=number > 0)
    return table


def _shares(summary: PairSummary) -> Table:
    table = _table(f"of {summary.pairs} pairs", "share", "95 % confidence")
    _add_share(table, "direct", summary.outcomes["direct"])
    for means in summary.means:
        _add_share(table, f"  {means.explanation}", means.share)
    _add_share(table, "relayed", summary.outcomes["relay"])
    for expected, why in WHY_RELAYED.items():
        if count := summary.foreseen.get((expected, "relay"), 0):
            _add_share(table, f"  {why}", share(count, summary.pairs))
    _add_share(table, "failed", summary.outcomes["failed"])
    return table


def _add_share(table: Table, name: str, found: Estimate) -> None:
    table.add_row(name, f"{100 * found.value:.1f} %", f"{_bound(found.low)} to {_bound(found.high)} %")


def _bound(bound: float | None) -> str:
    return "?" if bound is None else f"{100 * bound:.1f}"


def _times(summary: PairSummary) -> Table:
    table = _table("with 95 % confidence", "pairs", "p50", "p95", "p99")
    rows = [
        ("first byte, ms", summary.first_byte_ms),
        ("direct, ms", summary.direct_ms),
        *((f"  {means.explanation}", means.direct_ms) for means in summary.means),
        ("round trip of the direct path, ms", summary.round_trip_ms),
        ("probes of both ends, direct", summary.probes_direct),
        ("probes of both ends, relayed", summary.probes_relay),
    ]
    for name, found in rows:
        if found is not None:
            table.add_row(name, str(found.count), *map(_with_bounds, (found.p50, found.p95, found.p99)))
    return table


def _with_bounds(found: Estimate) -> str:
    low, high = ("?" if bound is None else f"{bound:.0f}" for bound in (found.low, found.high))
    return f"{found.value:.0f} ({low} to {high})"


def _population(results: Sequence[PairResult], aids: Aids) -> Table:
    drawn = Counter(network for result in results for network in (result.run.left, result.run.right))
    table = _table("a node is", "share", "drawn", "IPv6", "maps ports", "behind")
    table.columns[-1].justify, table.columns[-1].no_wrap = "left", False
    for network in POPULATION:
        table.add_row(
            network.name,
            f"{100 * network.share:.0f} %",
            f"{100 * drawn[network.name] / max(2 * len(results), 1):.1f} %",
            f"{100 * network.ipv6 * aids.ipv6:.0f} %",
            f"{100 * network.maps_ports * aids.port_mapping:.0f} %",
            network.explanation,
        )
    return table


def _draw(output: Output, text: str, file: Path) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write the picture to {file}: {error.strerror}") from error
    output.notice(f"the picture is in {file}")
