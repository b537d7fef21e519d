"""`peerway demo`: two homes behind NATs meet on this machine, shown as it happens."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator

import click
import msgspec
from rich.console import Console
from rich.live import Live

from peerway.cli import runner
from peerway.cli.app import with_output
from peerway.cli.errors import Exit
from peerway.cli.output import Output, is_live
from peerway.demo.lines import Lines
from peerway.demo.picture import WIDTH, picture
from peerway.demo.stage import Heard, Stage, lab_stage, loopback_stage, play
from peerway.demo.story import Story
from peerway.lab import LabUnavailable
from peerway.lab.matrix import DEFAULT_CELLS, run_matrix
from peerway.lab.record import RunRecord
from peerway.lab.summary import grid

FRAMES_PER_S = 10
MEGABYTE = 1_000_000
CELLS_AT_ONCE = 7  # of the matrix: as many as there are kinds, for each has one home on either side

Show = Callable[[Heard], None]


@click.command("demo")
@click.option(
    "--size", type=click.IntRange(1, 100_000), default=256, show_default=True, help="of the transfer, in MB"
)
@click.option("--no-lab", is_flag=True, help="between two programs on loopback, without any NAT")
@click.option("--plain", is_flag=True, help="lines instead of a picture, also on a terminal")
@click.option(
    "--no-matrix", is_flag=True, help="leave out the table of every kind of router against every other"
)
@with_output
def command(output: Output, size: int, no_lab: bool, plain: bool, no_matrix: bool) -> Exit:
    """Watch two nodes behind NATs connect: at once through a relay, then directly.

    A transfer runs while the path changes; then nodes meet from behind every pair of routers.
    Everything happens in network namespaces on this machine, which leave nothing behind; where
    there can be none, between programs on loopback.
    """
    return runner.run(_demo(output, size * MEGABYTE, no_lab, plain, no_matrix))


async def _demo(output: Output, size: int, no_lab: bool, plain: bool, no_matrix: bool) -> Exit:
    async with _stage(output, no_lab) as stage:
        told = await _tell(output, stage, size, plain)
        has_nats = bool(stage.scene.left_nat)
    if told is Exit.OK and has_nats and not no_matrix:
        return await _matrix(output)
    return told


async def _matrix(output: Output) -> Exit:
    """Every kind of router against every other, several pairs at a time."""
    output.notice("now from behind every pair of routers, several pairs at a time")
    records: list[RunRecord] = []
    status = Console(stderr=True, quiet=not is_live()).status("building a home of every kind")
    with status:
        async with contextlib.aclosing(run_matrix(at_once=CELLS_AT_ONCE)) as runs:
            async for record in runs:
                records.append(record)
                output.json_line(record.to_json())
                status.update(f"{len(records)} of {len(DEFAULT_CELLS)} pairs have met")
    output.result("left dials right; ms until the path was direct, where it can be")
    output.result(grid(records).rstrip("\n"))
    return Exit.OK if all(record.as_expected for record in records) else Exit.FAILED


async def _tell(output: Output, stage: Stage, size: int, plain: bool) -> Exit:
    story = Story(stage.scene, size)
    with _screen(output, story, plain) as show:
        async with contextlib.aclosing(play(stage, size)) as reports:
            async for heard in reports:
                story.hear(heard)
                show(heard)
    return Exit.OK if story.is_equal and story.direct_ms is not None else Exit.FAILED


@contextlib.asynccontextmanager
async def _stage(output: Output, no_lab: bool) -> AsyncIterator[Stage]:
    async with contextlib.AsyncExitStack() as stack:
        if no_lab:
            yield await stack.enter_async_context(loopback_stage())
            return
        try:
            output.notice("building two homes, their NATs and a server in network namespaces")
            stage = await stack.enter_async_context(lab_stage())
        except LabUnavailable as error:
            output.notice(f"{error}\n  so this is between two programs on loopback, without any NAT")
            logging.getLogger("peerway.server").setLevel(logging.ERROR)  # plain HTTP is right on loopback
            stage = await stack.enter_async_context(loopback_stage())
        yield stage


@contextlib.contextmanager
def _screen(output: Output, story: Story, plain: bool) -> Iterator[Show]:
    console = Console()
    if output.as_json:
        yield lambda heard: output.json_line(_json(heard))
    elif plain or not is_live() or console.width < WIDTH:
        lines = Lines(story)
        output.result(story.scene.explanation)
        yield lambda heard: _print(output, lines, heard)
    else:
        with Live(
            console=console, get_renderable=lambda: picture(story), refresh_per_second=FRAMES_PER_S
        ) as live:
            console.show_cursor(True)  # rich hides it, and nobody would bring it back after kill -9
            yield lambda heard: None
            live.refresh()


def _print(output: Output, lines: Lines, heard: Heard) -> None:
    for text in lines.of(heard):
        output.result(text)


def _json(heard: Heard) -> str:
    return msgspec.json.encode({"end": heard.end, **msgspec.to_builtins(heard.report)}).decode()
