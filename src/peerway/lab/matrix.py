"""The matrix: every kind of router against every other, run after run, with what came of it.

All cells share one lab, with a home of every kind on the left and on the right, and are run
one after the other, so that times measured in one are not of another's making. Every run
has fresh nodes and routers that remember nothing.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import AsyncIterator, Sequence

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
    cells: Sequence[Cell] = DEFAULT_CELLS, runs: int = 1, loss: int = 0, seed: int = 0
) -> AsyncIterator[RunRecord]:
    """Run every cell `runs` times, `loss` percent of UDP lost on each access line each way.

    `seed` and the numbers after it name the runs. Close the iterator (`contextlib.aclosing`)
    when leaving it early. Raises `LabUnavailable` where there can be no lab.
    """
    crossing = dict.fromkeys(kind for cell in cells if SAME_LAN not in cell for kind in cell)
    async with contextlib.AsyncExitStack() as stack:
        grounds: dict[bool, _Ground] = {}
        for left, right in cells:
            same_lan = left == SAME_LAN
            if same_lan not in grounds:
                topology = pair(SAME_LAN, SAME_LAN) if same_lan else gallery(tuple(crossing), copies=2)
                grounds[same_lan] = _Ground(await stack.enter_async_context(Laboratory(topology)))
            hosts = ("left", "right") if same_lan else (f"{left}-1", f"{right}-2")
            await grounds[same_lan].prepare(hosts, loss)
            for run in range(runs):
                blank = RunRecord(
                    "lab",
                    left,
                    right,
                    "failed",
                    expected(left, right),
                    None,
                    None,
                    0,
                    False,
                    seed + run,
                    loss,
                )
                yield await grounds[same_lan].meeting.record(blank, *hosts)


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
