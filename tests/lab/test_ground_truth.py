"""The simulator's NATs do what the kernel's do, question by question."""

import asyncio
import sys

import pytest
from tests.lab.ground_truth import TooLate, examine
from tests.lab.ground_truth_kernel import open_bench
from tests.lab.ground_truth_sim import SimBench
from tests.sim.topology import KINDS
from tests.sim.toy_machines import Scribe

from peerway.core.machine import UdpAddress
from peerway.lab.kinds import KINDS as KERNEL_KINDS
from peerway.lab.laboratory import Laboratory
from peerway.lab.layouts import gallery
from peerway.lab.topology import SERVER, SERVER_IPS
from peerway.sim.network.host import Host
from peerway.sim.network.tree import LinkQuality, Router
from peerway.sim.network.world import World

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]  # a busy machine is given three attempts

ATTEMPTS = 3  # to be in time on a busy machine
NAMES = [name for name in KERNEL_KINDS if name in KINDS]


async def ask_the_kernel(names: list[str]) -> dict[str, object]:
    """By kind what its router does, `TooLate` where this machine was too busy to find out."""
    async with Laboratory(gallery(names)) as lab:
        homes = [f"{name}-1" for name in names]
        await lab.start_workers(SERVER, *homes)
        benches = await asyncio.gather(*(open_bench(lab, number, home) for number, home in enumerate(homes)))
        answers = await asyncio.gather(*map(examine, benches), return_exceptions=True)
    if others := [
        error for error in answers if isinstance(error, Exception) and not isinstance(error, TooLate)
    ]:
        raise others[0]
    return dict(zip(names, answers, strict=True))


def ask_the_simulator(name):
    return asyncio.run(examine(SimBench(KINDS[name], seed=1)))


SENDER = """
import socket, sys, time
mode, to = sys.argv[1:]
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.IPPROTO_IP, 10, int(mode))  # IP_MTU_DISCOVER
for _ in range(2):
    try:
        sender.sendto(bytes(1253), (to, 9))
        print("sent")
    except OSError as error:
        print(error.strerror.lower())
    time.sleep(0.1)
"""
HEEDING, OURS = "2", "3"  # IP_PMTUDISC_DO, IP_PMTUDISC_PROBE


async def send_too_much():
    """What the system says of 1,281 bytes twice: behind a router of MTU 1,280, and with that MTU itself."""
    home, said = "eim-apdf-1", {}
    async with Laboratory(gallery(["eim-apdf"])) as lab:
        for machine, device in ((f"{home}-router", "wan"), (home, "eth0")):
            await lab.run(machine, "ip", "link", "set", device, "mtu", "1280")
            for mode in (HEEDING, OURS):
                told = await lab.run(home, sys.executable, "-c", SENDER, mode, SERVER_IPS[0])
                said[device, mode] = told.split("\n")[:2]
    return said


def send_too_much_in_the_simulator(device, mode):
    world = World(1)
    core = Router(world, "core")
    home = Router(world, "home", core, KINDS["eim-apdf"], "198.51.100.1")
    host = Host(world, "host", heeds_too_big=mode == HEEDING)
    link = host.attach(home, "10.1.0.2/24")
    (home.uplink if device == "wan" else link).quality = LinkQuality(mtu=1280)
    host.open_udp(5000)
    scribe = Scribe()
    driver = host.run(scribe)
    said = []
    for _ in range(2):
        scribe.inputs.clear()
        driver.call(lambda now: scribe.send(UdpAddress("203.0.113.10", 9), bytes(1253)))
        said.append(scribe.inputs[0][2] if scribe.inputs else "sent")
        world.run_for(0.1)
    return said


@pytest.fixture(scope="module")
def answers():
    """By kind what the simulator answers and what the kernel does.

    The kernel is asked again, about fewer kinds at a time, where the two differ: on a busy machine a packet
    comes too late for a question about seconds. What it truly does differently it does each time.
    """
    simulated = {name: ask_the_simulator(name) for name in NAMES}
    found: dict[str, object] = {}
    for _ in range(ATTEMPTS):
        if open_questions := [name for name in NAMES if found.get(name) != simulated[name]]:
            found |= asyncio.run(ask_the_kernel(open_questions))
    return {name: (simulated[name], found[name]) for name in NAMES}


@pytest.fixture(scope="module")
def too_big():
    return asyncio.run(send_too_much())


@pytest.mark.parametrize("name", NAMES)
def test_the_simulator_agrees_with_the_kernel(name, answers):
    simulated, found = answers[name]
    assert simulated == found


@pytest.mark.parametrize("mode", [HEEDING, OURS])
@pytest.mark.parametrize("device", ["wan", "eth0"])
def test_what_is_too_big_is_told_as_the_kernel_tells_it(device, mode, too_big):
    assert send_too_much_in_the_simulator(device, mode) == too_big[device, mode]
