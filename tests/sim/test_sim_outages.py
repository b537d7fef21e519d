"""How long a transfer waits for what happens beneath it."""

import pytest
from tests.sim.two_homes import TwoHomes

from peerway.core.path.events import PathKind

CHUNK = bytes(10_000)
EVERY_S = 0.02


class Flow:
    """Left sends to right all the time. `waits` are the pauses between arrivals, each with its end."""

    def __init__(self, kind, seed):
        self.homes = TwoHomes(kind, kind, seed, quic=False, is_traced=False)
        self.homes.dial()
        self.stream = self.homes.open_stream()
        self.world = self.homes.world
        self.arrived_at = self.world.now
        self.waits = []
        self.run_for(3.0)

    def run_for(self, seconds):
        end = self.world.now + seconds
        while self.world.now < end:
            self.homes.left.write(self.homes.link, self.stream, CHUNK)
            self.world.run_for(EVERY_S)
            if self.homes.right.read(self.homes.right_link, self.stream):
                self.waits.append((self.world.now - self.arrived_at, self.world.now))
                self.arrived_at = self.world.now

    def longest_wait(self):
        """How long it was, and when it ended."""
        return max(self.waits)


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_router_that_restarts_costs_a_moment_and_not_the_direct_path(seed):
    flow = Flow("eim-apdf", seed)
    assert flow.homes.both_direct()
    flow.run_for(0.03 * seed)  # at any time between two pings
    flow.homes.topology.right_home.reboot()
    flow.run_for(3.0)
    assert flow.longest_wait()[0] < 0.5
    paths = flow.homes.left.paths[flow.homes.link]
    assert [path.kind for path in paths] == [PathKind.RELAY, PathKind.DIRECT]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_goes_by_the_relay_goes_on_at_once_when_the_line_is_back(seed):
    flow = Flow("edm", seed)
    uplink = flow.homes.topology.right_home.uplink
    uplink.up = False
    flow.run_for(5.0)
    uplink.up = True
    back_at = flow.world.now
    flow.run_for(7.0)
    assert flow.longest_wait()[1] < back_at + 1.0
