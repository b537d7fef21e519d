"""The same seed gives the same trace, in any process; another seed gives another."""

import os
import subprocess
import sys
from pathlib import Path

from tests.sim.topology import pair
from tests.sim.toy_machines import Answerer, Caller, Observer, Scribe, punch

from peerway.core.nat import Mapping, PortAllocation
from peerway.sim.network.behaviour import NatBehaviour, Pooling
from peerway.sim.network.host import Host
from peerway.sim.network.tree import Bursts, LinkQuality, Router
from peerway.sim.network.world import World

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


def odd_digest(seed):
    """That of a run with everything that is left to chance: ports, addresses, bursts, copies."""
    world = World(seed)
    core = Router(world, "core")
    behaviour = NatBehaviour(
        mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT,
        ports=PortAllocation.SEQUENTIAL,
        other_ports_per_s=3.0,
        pooling=Pooling.ARBITRARY,
        session_limit=20,
    )
    quality = LinkQuality(bursts=Bursts(0.1, 0.3), reorder=0.2, duplicate=0.2, jitter_s=0.01)
    home = Router(world, "home", core, behaviour, ("198.51.100.1", "198.51.100.2"), quality=quality)
    host, server = Host(world, "host"), Host(world, "server")
    host.attach(home, "192.168.1.2/24")
    server.attach(core, "203.0.113.10/24")
    remotes = [server.open_udp(port, "203.0.113.10") for port in range(3478, 3508)]
    server.run(Observer(remotes))
    host.open_udp(41641)
    driver = host.run(Scribe())
    for number, remote in enumerate(remotes * 3):
        world.at(number * 0.5, driver.call, lambda now, to=remote: driver.machine.send(to, b"who am I"))
    world.at(20.0, home.reboot, "198.51.100.3")
    world.run_until(59.0)
    host.sleep()
    world.run_until(61.0)
    return world.trace_digest()


def test_same_seed_gives_the_same_trace():
    assert digest(7) == digest(7)
    assert odd_digest(7) == odd_digest(7)


def test_another_seed_gives_another_trace():
    assert digest(7) != digest(8)
    assert odd_digest(7) != odd_digest(8)


def test_trace_does_not_depend_on_the_process():
    digests = set()
    for hash_seed in ("1", "2"):
        path = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
        command = (
            "from tests.sim.test_sim_determinism import digest, odd_digest; print(digest(7), odd_digest(7))"
        )
        finished = subprocess.run(
            [sys.executable, "-c", command], env=environment, cwd=ROOT, capture_output=True, check=True
        )
        digests.add(finished.stdout.decode().strip())
    assert digests == {f"{digest(7)} {odd_digest(7)}"}


def test_digest_covers_lines_that_are_no_longer_kept(monkeypatch):
    monkeypatch.setattr("peerway.sim.network.trace.LINES_KEPT", 5)
    world = pair("open", "open", seed=1).world
    whole = world.trace_digest()
    for number in range(10):
        world.log("here", str(number))
    assert [line.split()[-1] for line in world.trace.lines] == ["5", "6", "7", "8", "9"]
    assert world.trace_digest() != whole
