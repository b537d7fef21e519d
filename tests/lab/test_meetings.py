"""Nodes behind real NATs: they meet as expected, and survive what the scenarios do to them."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from peerway.lab.delay import TUN
from peerway.lab.matrix import DEFAULT_CELLS, FURTHER_CELLS, CellError, parse_cells, run_matrix
from peerway.lab.scenarios import SCENARIOS, run_scenario

pytestmark = pytest.mark.lab

# Every pair of the matrix, those with more than one router or with IPv6, and pairs with each further kind.
CELLS = (
    *DEFAULT_CELLS,
    *FURTHER_CELLS,
    *parse_cells(
        "edm-seqxopen,admxeim-adf,poisonedxpoisoned,poisonedxeim-apdf,eim-apdfxpoisoned,port-blockxfirewall,"
        "port-blockxport-block,firewallxadm,eim-apdfxudp-rejected,edm-mappedxedm,edmxedm-mapped,"
        "edm-mappedxedm-mapped,eim-apdfxedm-mapped,edm-mappedxfirewall"
    ),
)


async def records(cells, **options):
    async with contextlib.aclosing(run_matrix(cells, **options)) as found:
        return [record async for record in found]


@pytest.fixture(scope="module")
def matrix():
    return {(record.left, record.right): record for record in asyncio.run(records(CELLS, at_once=4))}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("cell", CELLS, ids="x".join)
def test_nodes_meet_as_expected(cell, matrix):
    record = matrix[cell]
    assert record.as_expected, record
    assert record.first_byte_ms > 0
    assert (record.direct_ms is not None) == (record.outcome == "direct")


def test_every_run_of_a_cell_has_its_own_seed_and_all_meet():
    found = asyncio.run(records(parse_cells("eim-apdfxeim-apdf"), runs=5, seed=40))
    assert [record.seed for record in found] == [40, 41, 42, 43, 44]
    assert [record.outcome for record in found] == ["direct"] * 5


needs_tun = pytest.mark.skipif(not os.access(TUN, os.R_OK | os.W_OK), reason=f"cannot open {TUN}")
MARKS = dict.fromkeys(("far-apart", "two-speeds", "slow-ipv6"), needs_tun)
LONGEST = ("quiet-connection", "poisoned-second-nat")
LABS_AT_ONCE = 3


async def tell(name, room):
    async with room, contextlib.aclosing(run_scenario(name)) as steps:
        return [step async for step in steps]


@pytest.fixture(scope="module")
def told():
    """What came of every scenario; several labs at a time, the longest stories first."""

    async def tell_all():
        room = asyncio.Semaphore(LABS_AT_ONCE)
        names = sorted(SCENARIOS, key=lambda name: name not in LONGEST)
        stories = await asyncio.gather(*(tell(name, room) for name in names), return_exceptions=True)
        return dict(zip(names, stories, strict=True))

    return asyncio.run(tell_all())


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, ())) for name in SCENARIOS])
def test_nodes_survive(name, told):
    steps = told[name]
    if isinstance(steps, BaseException):
        raise steps
    assert [step.text for step in steps if step.ok is False] == []
    assert any(step.ok for step in steps)


def test_the_program_of_the_how_to_runs():
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "use-the-lab.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.startswith("(Way(kind='direct', remote='11.2.2.100:")
    assert "src=100.65.1.2" in finished.stdout


def test_an_unknown_scenario_is_refused_before_a_lab_is_built():
    with pytest.raises(CellError, match="is not a cell"):
        asyncio.run(tell("three-fires", contextlib.nullcontext()))
