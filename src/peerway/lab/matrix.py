"""The matrix: every kind of router against every other, run after run, with what came of it.

All cells share one lab, with a home of every kind on the left and on the right, and are run
one after the other unless asked otherwise, so that times measured in one are not of another's
making. Every run has fresh nodes and routers that remember nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
from collections.abc import AsyncGenerator, Sequence

from peerway.core.machine import PeerwayError
from peerway.lab.kinds import KINDS, MATRIX_KINDS, SAME_LAN, expected
from peerway.lab.laboratory import Laboratory
from peerway.lab.meeting import Meeting
from peerway.lab.record import RunRecord
from peerway.lab.topology import gallery, pair

Cell = tuple[str, str]

DEFAULT_CELLS: tuple[Cell, ...] = (
    *((left, right) for left in MATRIX_KINDS for right in MATRIX_KINDS),
    (SAME_LAN, SAME_LAN),
)


class CellError(PeerwayError, ValueError):
    """A text that names no cell; the message says which part, and what is near."""


def parse_cells(text: str) -> tuple[Cell, ...]:
    """Cells from "LEFTxRIGHT,LEFTxRIGHT,same-lan"; CellError for what is not a cell."""
    return tuple(parse_cell(part.strip()) for part in text.split(",") if part.strip())


def parse_cell(text: str) -> Cell:
    """One cell from "LEFTxRIGHT" or "same-lan"; CellError for what is not a cell."""
    if text == SAME_LAN:
        return SAME_LAN, SAME_LAN
    left, cross, right = text.partition("x")
    if not cross:
        raise CellError(f"{text!r} is not a cell: write LEFTxRIGHT, say eim-apdfxedm, or {SAME_LAN}")
    for name in (left, right):
        if name not in KINDS:
            near = difflib.get_close_matches(name, KINDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the kinds are {', '.join(KINDS)}"
            raise CellError(f"{name!r} is not a kind of router: {hint}")
    if SAME_LAN in (left, right) and left != right:
        raise CellError(f"{SAME_LAN} is a cell of its own: write just {SAME_LAN}")
    return left, right


async def run_matrix(
    cells: Sequence[Cell] = DEFAULT_CELLS, runs: int = 1, loss: int = 0, seed: int = 0, at_once: int = 1
) -> AsyncGenerator[RunRecord, None]:
    """Run every cell `runs` times, `loss` percent of UDP lost on each access line each way.

    `seed` and the numbers after it name the runs. `at_once`: so many cells at a time, of which no two
    share a home; quicker, but then times are of each other's making. Close the iterator
    (`contextlib.aclosing`) when leaving it early. Raises `LabUnavailable` where there can be no lab.
    """
    async with _Grounds(cells) as grounds:
        for batch in batches(cells, at_once):
            for left, right in batch:
                await grounds.prepare(left, right, loss)
            for run in range(runs):
                blanks = [
                    RunRecord("lab", *cell, "failed", expected(*cell), None, None, 0, False, seed + run, loss)
                    for cell in batch
                ]
                for record in asyncio.as_completed([grounds.record(blank) for blank in blanks]):
                    yield await record


def batches(cells: Sequence[Cell], at_once: int) -> list[list[Cell]]:
    """Cells in groups of at most `at_once`, none of which uses a home twice."""
    groups: list[list[Cell]] = []
    for cell in cells:
        for group in groups:
            free = all(cell[0] != other[0] and cell[1] != other[1] for other in group)
            if free and len(group) < at_once:
                group.append(cell)
                break
        else:
            groups.append([cell])
    return groups


class _Grounds:
    """The labs of a matrix: one with a home of every kind on both sides, one where both share a home."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._kinds = tuple(dict.fromkeys(kind for cell in cells if SAME_LAN not in cell for kind in cell))
        self._stack = contextlib.AsyncExitStack()
        self._grounds: dict[bool, _Ground] = {}

    async def __aenter__(self) -> _Grounds:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def prepare(self, left: str, right: str, loss: int) -> None:
        """Make the two hosts of a cell ready to meet."""
        same_lan = left == SAME_LAN
        if same_lan not in self._grounds:
            topology = pair(SAME_LAN, SAME_LAN) if same_lan else gallery(self._kinds, copies=2)
            self._grounds[same_lan] = _Ground(await self._stack.enter_async_context(Laboratory(topology)))
        await self._grounds[same_lan].prepare(_hosts(left, right), loss)

    async def record(self, blank: RunRecord) -> RunRecord:
        """Run the cell that `blank` names once."""
        ground = self._grounds[blank.left == SAME_LAN]
        return await ground.meeting.record(blank, *_hosts(blank.left, blank.right))


def _hosts(left: str, right: str) -> tuple[str, str]:
    return ("left", "right") if left == SAME_LAN else (f"{left}-1", f"{right}-2")


class _Ground:
    """A lab with a home of every kind on both sides, whose server and interpreters live through all cells."""

    def __init__(self, lab: Laboratory) -> None:
        self.meeting = Meeting(lab)
        self._warm: set[str] = set()

    async def prepare(self, hosts: tuple[str, str], loss: int) -> None:
        """Make two hosts ready to meet, over lines that lose so much."""
        lab, faults = self.meeting.lab, self.meeting.faults
        routers = [router for host in hosts for router in lab.topology.home_of(host).routers]
        if not self._warm:
            await self.meeting.serve()
        if not self._warm.issuperset(hosts):
            await faults.set_loss(0, *routers)
            await self.meeting.warm_up(*hosts)
            self._warm.update(hosts)
        await faults.set_loss(loss, *routers)
