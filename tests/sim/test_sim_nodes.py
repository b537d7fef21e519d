"""Whole nodes over the simulator's transport: the same in every run, whatever happens to them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.sim.two_homes import SECRET, TwoHomes

from peerway.core.path.events import PathKind
from peerway.sim.network.tree import LinkQuality

ROOT = Path(__file__).parents[2]
ROUGH = LinkQuality(delay_s=0.02, jitter_s=0.03, loss=0.05, rate=20_000_000.0)
DATA = bytes(range(200)) * 1000


def meet(seed, **quality):
    homes = TwoHomes(seed=seed, quic=False, **quality)
    homes.dial()
    return homes


def transfer(seed):
    """Half of it over the relay, the rest directly."""
    homes = meet(seed)
    homes.transfer(homes.open_stream(), DATA, DATA)
    return homes


def rough_lines(seed):
    homes = meet(seed, access=ROUGH)
    homes.transfer(homes.open_stream(), DATA, DATA)
    return homes


def symmetric(seed):
    homes = meet(seed, left="edm", right="edm")
    homes.transfer(homes.open_stream(), DATA, b"")
    return homes


def both_dial(seed):
    homes = TwoHomes(seed=seed, quic=False)
    homes.left.dial(homes.right.ticket(SECRET))
    homes.right.dial(homes.left.ticket(SECRET))
    homes.world.run_for(3.0)
    return homes


def router_reboots(seed):
    homes = meet(seed)
    stream = homes.open_stream()
    homes.transfer(stream, DATA, b"")
    homes.topology.right_home.reboot()
    homes.transfer(stream, DATA, DATA)
    return homes


def line_cut(seed):
    homes = meet(seed)
    stream = homes.open_stream()
    homes.topology.left_home.uplink.up = False
    homes.world.run_for(2.0)
    homes.topology.left_home.uplink.up = True
    homes.transfer(stream, DATA, DATA)
    homes.left.close(homes.link)
    homes.world.run_for(10.0)
    return homes


STORIES = {
    story.__name__: story for story in (transfer, rough_lines, symmetric, both_dial, router_reboots, line_cut)
}


def digests(seed):
    return [f"{name} {story(seed).world.trace_digest()}" for name, story in STORIES.items()]


def test_nodes_go_from_the_relay_to_a_direct_path_while_data_moves_both_ways():
    homes = meet(1)
    assert homes.left.paths[homes.link][-1].kind is PathKind.RELAY
    stream = homes.open_stream()
    assert homes.transfer(stream, DATA, DATA) == (DATA, DATA)
    assert homes.both_direct()


@pytest.mark.parametrize("story", [rough_lines, router_reboots, line_cut])
def test_data_arrives_whole_whatever_happens_on_the_way(story, monkeypatch):
    arrived = []
    move = TwoHomes.transfer
    monkeypatch.setattr(
        TwoHomes, "transfer", lambda homes, *given: arrived.append((move(homes, *given), given[1:]))
    )
    story(2)
    assert all(got == given for got, given in arrived)
    assert arrived


def test_a_run_does_not_depend_on_the_process():
    outputs = set()
    for hash_seed in ("1", "2"):
        path = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
        command = "from tests.sim.test_sim_nodes import digests; print(*digests(7), sep='\\n')"
        finished = subprocess.run(
            [sys.executable, "-c", command], env=environment, cwd=ROOT, capture_output=True, check=True
        )
        outputs.add(finished.stdout.decode().strip())
    assert outputs == {"\n".join(digests(7))}


def test_another_seed_is_another_run():
    assert not set(digests(7)) & set(digests(8))
