"""Clocks that leap: after a suspend by hours, and inputs that carry a time long past.

A machine's time is `peerway.io.clock`'s, which never goes back and does not care what date it is. All
the same a stale time must do no harm, and a leap forward is what every laptop sees.
"""

import pytest
from tests.sim.two_homes import SECRET, TwoHomes

DAY = 86_400.0
DATA = bytes(range(256)) * 2000


class Clock:
    """A host's own view of the world's time: `offset` seconds ahead, and `stale` for the next calls."""

    def __init__(self, node):
        self._world = node.world
        self._driver = node.driver
        self.offset = 0.0
        self.stale = 0
        node.driver._world = self

    @property
    def now(self):
        if self.stale:
            self.stale -= 1
            return self._world.now + self.offset - DAY
        return self._world.now + self.offset

    def at(self, when, *what):
        self._world.at(max(when - self.offset, self._world.now), *what)

    def __getattr__(self, name):
        return getattr(self._world, name)

    def leap(self, seconds):
        """Time goes on by so much at once, and the driver looks what is due."""
        self.offset += seconds
        self._driver._alarm = None
        self._driver._look_at_deadline()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("hours", [1.0, 24.0])
def test_after_a_leap_forward_the_nodes_meet_again_and_are_direct(side, hours):
    homes = TwoHomes()
    clock = Clock(getattr(homes, side))
    homes.dial()
    assert homes.world.run_while(lambda: not homes.both_direct(), 5.0)
    clock.leap(hours * 3600)
    homes.world.run_for(5.0)
    assert homes.left.closed == {}
    stream = homes.open_stream()
    assert homes.transfer(stream, DATA, DATA) == (DATA, DATA)
    assert homes.world.run_while(lambda: not homes.both_direct(), 10.0)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_leap_in_the_middle_of_a_transfer_loses_nothing(side):
    homes = TwoHomes()
    clock = Clock(getattr(homes, side))
    homes.dial()
    stream = homes.open_stream()
    homes.left.write(homes.link, stream, DATA)
    homes.world.run_for(0.02)
    clock.leap(DAY)
    assert homes.transfer(stream, b"", DATA) == (DATA, DATA)
    assert homes.left.closed == {}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("calls", [1, 7, 100])
def test_a_time_long_past_now_and_then_changes_nothing(side, calls):
    homes = TwoHomes()
    clock = Clock(getattr(homes, side))
    homes.dial()
    stream = homes.open_stream()
    at_right, at_left = bytearray(), bytearray()
    for _ in range(10):
        clock.stale = calls
        up, down = homes.transfer(stream, DATA, DATA, limit_s=1.0)
        at_right += up
        at_left += down
    clock.stale = 0
    up, down = homes.transfer(stream, DATA, DATA, limit_s=5.0)
    assert at_right + up == DATA * 11
    assert at_left + down == DATA * 11
    assert homes.left.closed == {}
    assert homes.world.run_while(lambda: not homes.both_direct(), 10.0)


def test_a_dial_across_a_leap_comes_to_an_end_and_the_next_one_works():
    homes = TwoHomes()
    clock = Clock(homes.left)
    homes.left.dial(homes.right.ticket(SECRET))
    clock.leap(DAY)
    homes.world.run_for(5.0)
    homes.dial()
    assert homes.transfer(homes.open_stream(), DATA, DATA) == (DATA, DATA)
