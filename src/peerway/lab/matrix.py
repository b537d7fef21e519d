"""The matrix: every place against every other, run after run, with what came of it.

All cells share one lab, with a home at every place on the left and on the right, and are run
one after the other unless asked otherwise, so that times measured in one are not of another's
making. Every run has fresh nodes and routers that remember nothing.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncGenerator, Sequence

from peerway.core.machine import PeerwayError
from peerway.lab.kinds import MATRIX_KINDS
from peerway.lab.laboratory import Laboratory
from peerway.lab.layouts import gallery
from peerway.lab.meeting import Meeting
from peerway.lab.places import PLACES, SAME_LAN, expected
from peerway.lab.record import RunRecord

Cell = tuple[str, str]

DEFAULT_CELLS: tuple[Cell, ...] = (
    *((left, right) for left in MATRIX_KINDS for right in MATRIX_KINDS),
    (SAME_LAN, SAME_LAN),
)


# What the default pairs leave out: two NATs in a row, carriers, IPv6.
FURTHER_CELLS: tuple[Cell, ...] = (
    ("double-nat", "eim-apdf"),
    ("double-nat", "double-nat"),
    ("cgn-home", "cgn-home"),
    ("cgn-edm-home", "cgn-edm-home"),
    ("cgn-edm-home", "cgn-home"),
    *(
        (name, name)
        for name in (
            *("same-cgn", "same-cgn-inside", "same-cgn-inside-eif", "same-cgn-no-hairpin"),
            *("v6-firewall", "dual-stack", "dual-cgn", "v6-same-lan"),
        )
    ),
    ("dual-stack", "v6-firewall"),
    ("dual-stack", "edm"),
    ("dual-stack", "eim-apdf"),
    ("eim-apdf", "v6-firewall"),
)


class CellError(PeerwayError, ValueError):
    """A text that names no cell; the message says which part, and what is near."""


def parse_cells(text: str) -> tuple[Cell, ...]:
    """Cells from "LEFTxRIGHT,LEFTxRIGHT,same-lan"; CellError for what is not a cell."""
    return tuple(parse_cell(part.strip()) for part in text.split(",") if part.strip())


def parse_cell(text: str) -> Cell:
    """One cell from "LEFTxRIGHT", or "PLACE" where both share it; CellError for what is not a cell."""
    if text in PLACES and PLACES[text].shared:
        return text, text
    left, cross, right = text.partition("x")
    if not cross:
        raise CellError(f"{text!r} is not a cell: write LEFTxRIGHT, say eim-apdfxedm, or {SAME_LAN}")
    for name in (left, right):
        if name not in PLACES:
            near = difflib.get_close_matches(name, PLACES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the places are {', '.join(PLACES)}"
            raise CellError(f"{name!r} is no place: {hint}")
    for name in (left, right):
        if PLACES[name].shared:
            raise CellError(f"{name} is a cell of its own: write just {name}")
    return left, right


async def run_matrix(
    cells: Sequence[Cell] = DEFAULT_CELLS, runs: int = 1, loss: int = 0, seed: int = 0, at_once: int = 1
) -> AsyncGenerator[RunRecord, None]:
    """Run every cell `runs` times, `loss` percent of UDP lost on each access line each way.

    `seed` and the numbers after it name the runs. `at_once`: so many cells at a time, of which no two
    share a home; quicker, but then times are of each other's making. Close the iterator
    (`contextlib.aclosing`) when leaving it early. Raises `LabUnavailable` where there can be no lab.
    """
    places = tuple(dict.fromkeys(place for cell in cells for place in cell))
    async with Laboratory(gallery(places, copies=2)) as lab:
        ground = _Ground(lab)
        for batch in batches(cells, at_once):
            for cell in batch:
                await ground.prepare(cell, loss)
            for run in range(runs):
                blanks = [_blank(cell, seed + run, loss) for cell in batch]
                for record in asyncio.as_completed([ground.record(blank) for blank in blanks]):
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


class _Ground:
    """A lab with both homes of every cell, whose server and interpreters live through all of them."""

    def __init__(self, lab: Laboratory) -> None:
        self._meeting = Meeting(lab)
        self._warm: set[str] = set()

    async def prepare(self, cell: Cell, loss: int) -> None:
        """Make the two hosts of a cell ready to meet, over lines that lose so much."""
        faults, hosts = self._meeting.faults, _hosts(cell)
        lines = {self._meeting.lab.topology.home_of(host).router.name: None for host in hosts}
        if not self._warm:
            await self._meeting.serve()
        if not self._warm.issuperset(hosts):
            await faults.set_loss(0, *lines)
            await self._meeting.warm_up(*hosts)
            self._warm.update(hosts)
        await faults.set_loss(loss, *lines)

    async def record(self, blank: RunRecord) -> RunRecord:
        """Run the cell that `blank` names once."""
        return await self._meeting.record(blank, *_hosts((blank.left, blank.right)))


def _hosts(cell: Cell) -> tuple[str, str]:
    return f"{cell[0]}-1", f"{cell[1]}-2"


def _blank(cell: Cell, seed: int, loss: int) -> RunRecord:
    outlook = expected(*cell)
    return RunRecord(
        "lab",
        *cell,
        outcome="failed",
        expected=outlook.outcome,
        first_byte_ms=None,
        direct_ms=None,
        probes_sent=0,
        bytes_ok=False,
        seed=seed,
        loss=loss,
        expected_family=outlook.family,
    )
