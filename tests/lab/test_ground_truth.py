"""The simulator's NATs do what the kernel's do, question by question."""

import asyncio

import pytest
from tests.lab.ground_truth import TooLate, examine
from tests.lab.ground_truth_kernel import open_bench
from tests.lab.ground_truth_sim import SimBench

from peerway.lab.kinds import KINDS as KERNEL_KINDS
from peerway.lab.laboratory import Laboratory
from peerway.lab.topology import SERVER, gallery
from peerway.sim.topology import KINDS

pytestmark = pytest.mark.lab

ATTEMPTS = 3  # to be in time on a busy machine
NAMES = [name for name in KERNEL_KINDS if name != "same-lan"]  # a cell, not a router


async def ask_the_kernel() -> dict[str, dict]:
    async with Laboratory(gallery(NAMES)) as lab:
        homes = [f"{name}-1" for name in NAMES]
        await lab.start_workers(SERVER, *homes)
        benches = [await open_bench(lab, number, home) for number, home in enumerate(homes)]
        answers = await asyncio.gather(*(examine(bench) for bench in benches))
        return dict(zip(NAMES, answers, strict=True))


@pytest.fixture(scope="module")
def kernel():
    for _ in range(ATTEMPTS - 1):
        try:
            return asyncio.run(ask_the_kernel())
        except TooLate:
            continue
    return asyncio.run(ask_the_kernel())


@pytest.mark.parametrize("name", NAMES)
def test_the_simulator_agrees_with_the_kernel(name, kernel):
    assert asyncio.run(examine(SimBench(KINDS[name], seed=1))) == kernel[name]
