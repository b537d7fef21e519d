"""The same seed gives the same trace, in any process; another seed gives another."""

import os
import subprocess
import sys
from pathlib import Path

from tests.sim.toy_machines import Answerer, Caller, punch

from peerway.sim.network import LinkQuality
from peerway.sim.topology import pair

ROOT = Path(__file__).parents[2]
QUALITY = LinkQuality(delay_s=0.02, jitter_s=0.03, loss=0.1, rate=1_000_000.0)


def digest(seed):
    topology = pair("edm", "eim-adf", seed, QUALITY)
    topology.server.run(Answerer(), listen=[3340])
    driver = topology.left.run(Caller())
    driver.call(lambda now: driver.machine.open("http://server.test:3340"))
    driver.call(lambda now: driver.machine.write(bytes(1000)))
    punch(topology)
    return topology.world.trace_digest()


def test_same_seed_gives_the_same_trace():
    assert digest(7) == digest(7)


def test_another_seed_gives_another_trace():
    assert digest(7) != digest(8)


def test_trace_does_not_depend_on_the_process():
    digests = set()
    for hash_seed in ("1", "2"):
        path = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
        command = "from tests.sim.test_sim_determinism import digest; print(digest(7))"
        finished = subprocess.run(
            [sys.executable, "-c", command], env=environment, cwd=ROOT, capture_output=True, check=True
        )
        digests.add(finished.stdout.decode().strip())
    assert digests == {digest(7)}


def test_digest_covers_lines_that_are_no_longer_kept(monkeypatch):
    monkeypatch.setattr("peerway.sim.trace.LINES_KEPT", 5)
    world = pair("open", "open", seed=1).world
    whole = world.trace_digest()
    for number in range(10):
        world.log("here", str(number))
    assert [line.split()[-1] for line in world.trace.lines] == ["5", "6", "7", "8", "9"]
    assert world.trace_digest() != whole
