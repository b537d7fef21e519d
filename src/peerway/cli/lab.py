"""`peerway lab`: real NATs of every kind in network namespaces, and nodes that meet through them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import TypeVar

import click

from peerway.cli import runner
from peerway.cli.app import manner_options, with_output
from peerway.cli.errors import CommandError, Exit
from peerway.cli.output import Output
from peerway.lab import KINDS, PLACES, LabUnavailable
from peerway.lab.draw import draw
from peerway.lab.matrix import DEFAULT_CELLS, FURTHER_CELLS, CellError, parse_cells, run_matrix
from peerway.lab.plot import plot
from peerway.lab.record import RunRecord
from peerway.lab.scenarios import SCENARIOS, Scenario, run_scenario, scenario
from peerway.lab.summary import grid, summarize, table

Item = TypeVar("Item")
CELLS_METAVAR = "LEFTxRIGHT,…"


@click.group("lab", context_settings={"help_option_names": ["-h", "--help"]})
@manner_options
def command() -> None:
    """Real NATs in network namespaces: list, draw, run."""


@command.command("list")
@with_output
def list_kinds(output: Output) -> Exit:
    """Explain every kind of router, with its old name, every place a host may be at, and every scenario."""
    output.result("Kinds of router; each is a place of that name, alone on an IPv4 line:\n")
    for kind in KINDS.values():
        output.result(f"{kind.name:14} {kind.old_name}\n{'':14} {kind.explanation}")
        output.record("kind", name=kind.name, old_name=kind.old_name, explanation=kind.explanation)
    output.result("\nFurther places; those that both hosts share are cells of their own:\n")
    for place in (place for place in PLACES.values() if place.name not in KINDS):
        shared = " (shared)" if place.shared else ""
        output.result(f"{place.name:20} {place.old_name}{shared}\n{'':20} {place.explanation}")
        output.record("place", name=place.name, old_name=place.old_name, explanation=place.explanation)
    output.result("\nScenarios:\n")
    for told in SCENARIOS.values():
        output.result(f"{told.name:20} {told.explanation}")
        output.record("scenario", name=told.name, explanation=told.explanation)
    return Exit.OK


@command.command("draw")
@click.argument("name")
@with_output
def draw_topology(output: Output, name: str) -> Exit:
    """Draw the topology of a scenario or of a cell LEFTxRIGHT."""
    drawing = draw(_known(name).topology())
    output.result(drawing.rstrip("\n"))
    output.record("drawing", name=name, text=drawing)
    return Exit.OK


@command.command("run")
@click.argument("name")
@with_output
def run_story(output: Output, name: str) -> Exit:
    """Build the topology of a scenario, or of a cell LEFTxRIGHT, and tell what nodes make of it."""
    _known(name)
    return runner.run(_run(output, name))


@command.command("matrix")
@click.option("--cells", metavar=CELLS_METAVAR, help="which pairs of places [default: the usual kinds]")
@click.option("--further", is_flag=True, help="also pairs with two NATs in a row, carriers and IPv6")
@click.option("--runs", type=click.IntRange(1), default=1, show_default=True, help="of each cell")
@click.option(
    "--loss",
    type=click.IntRange(0, 99),
    default=0,
    show_default=True,
    help="percent of UDP each access line loses, each way",
)
@click.option(
    "--at-once",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="so many cells at a time: quicker, and the times are of each other's making",
)
@click.option(
    "--plot", "picture", type=click.Path(dir_okay=False, writable=True), help="draw a heat map to an SVG file"
)
@with_output
def run_cells(
    output: Output,
    cells: str | None,
    further: bool,
    runs: int,
    loss: int,
    at_once: int,
    picture: str | None,
) -> Exit:
    """Have two nodes meet from behind every pair of routers, and say how and how fast.

    With --json the record of each run, a line each.
    """
    try:
        chosen = parse_cells(cells) if cells is not None else DEFAULT_CELLS
        if further:
            chosen = tuple(dict.fromkeys(chosen + FURTHER_CELLS))
    except CellError as error:
        raise CommandError(str(error), "peerway lab list names them all", Exit.USAGE) from error
    records: list[RunRecord] = []
    outcome = runner.run(_matrix(output, records, run_matrix(chosen, runs, loss, at_once=at_once)))
    if picture is not None:
        _draw(output, records, Path(picture))
    return outcome


async def _run(output: Output, name: str) -> Exit:
    failed = False
    with _lab_needed():
        async with _closing(run_scenario(name)) as steps:
            async for step in steps:
                failed = failed or step.ok is False
                mark = {True: "ok    ", False: "FAILED", None: "      "}[step.ok]
                output.result(f"{mark} {step.text}")
                output.record("step", text=step.text, ok=step.ok)
    return Exit.FAILED if failed else Exit.OK


async def _matrix(output: Output, records: list[RunRecord], matrix: AsyncIterator[RunRecord]) -> Exit:
    with _lab_needed():
        async with _closing(matrix) as runs_made:
            async for record in runs_made:
                records.append(record)
                output.json_line(record.to_json())
                output.notice(_run_line(record))
    output.result(table(summarize(records)).rstrip("\n"))
    output.result("\n" + grid(records).rstrip("\n"))
    return Exit.OK if all(record.as_expected for record in records) else Exit.FAILED


def _draw(output: Output, records: list[RunRecord], file: Path) -> None:
    try:
        file.write_text(plot(records), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write the picture to {file}: {error.strerror}") from error
    output.notice(f"the picture is in {file}")


def _run_line(record: RunRecord) -> str:
    if record.as_expected:
        return f"{record.cell}: {record.outcome}"
    return f"{record.cell}: {record.outcome}, expected {record.expected} {record.reason}".rstrip()


def _known(name: str) -> Scenario:
    try:
        return scenario(name)
    except CellError as error:
        raise CommandError(str(error), "peerway lab list names them all", Exit.USAGE) from error


@contextlib.contextmanager
def _lab_needed() -> Iterator[None]:
    try:
        yield
    except LabUnavailable as error:
        raise CommandError(str(error), code=Exit.UNAVAILABLE) from error


@contextlib.asynccontextmanager
async def _closing(iterator: AsyncIterator[Item]) -> AsyncIterator[AsyncIterator[Item]]:
    try:
        yield iterator
    finally:
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()
