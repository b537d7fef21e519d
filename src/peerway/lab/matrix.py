"""The matrix: every kind of router against every other, run after run, with what came of it.

Cells are independent labs, one after the other, so that times measured in one are not of
another's making. Every run has fresh nodes and routers that remember nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Sequence

from peerway.core.machine import PeerwayError
from peerway.lab.kinds import KINDS, MATRIX_KINDS, SAME_LAN, expected
from peerway.lab.laboratory import Laboratory
from peerway.lab.meeting import Meeting
from peerway.lab.record import RunRecord
from peerway.lab.topology import SERVER, pair

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
    for left, right in cells:
        async with Laboratory(pair(left, right)) as lab:
            meeting = Meeting(lab)
            await lab.start_workers(SERVER, *lab.topology.hosts)
            await meeting.serve()
            await meeting.warm_up("left", "right")
            await meeting.faults.set_loss(loss)
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
                yield await meeting.record(blank)
