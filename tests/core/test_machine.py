"""Timers, and machines made of machines."""

import random
from dataclasses import dataclass

import pytest

from peerway.core.machine import Composite, Deadline, Event, Leaf, Timers, Transmit, UdpAddress

SOMEWHERE = UdpAddress("203.0.113.1", 9)


@dataclass(frozen=True, slots=True)
class Rang(Event):
    name: str


class Bell(Leaf):
    """Rings when it is told to, and says so."""

    def set(self, at, reason="bell"):
        self._timers.set("ring", at, reason)

    def stop(self):
        self._timers.cancel("ring")

    def say(self, name):
        self._transmits.append(Transmit((name.encode(),), SOMEWHERE))
        self._events.append(Rang(name))

    def _timer_expired(self, name, now):
        self.say(name)


class Tower(Composite[str]):
    """Bells by name. `react(name)` is called whenever one rang."""

    def __init__(self, *names):
        super().__init__()
        self.bells = {name: Bell() for name in names}
        for name, bell in self.bells.items():
            self._adopt(name, bell)
        self.react = lambda name: None
        self._settle(0.0)

    def use(self, name, use, now=0.0):
        use(self.bells[name])
        self._touch(name)
        self._settle(now)

    def set(self, name, at, reason="bell"):
        self.use(name, lambda bell: bell.set(at, reason))

    def remove(self, name):
        self._release(name)

    def add_back(self, name):
        self._adopt(name, self.bells[name])

    def touch(self, name):
        self._touch(name)

    def _child_event(self, key, event, now):
        self._events.append(Rang(f"{key} {event.name}"))
        self.react(key)


def heard(tower):
    events = []
    while (event := tower.poll_event()) is not None:
        events.append(event.name)
    return events


def test_the_earliest_timer_is_next_whatever_is_set_moved_or_cancelled():
    timers = Timers()
    assert timers.next is None
    timers.set("b", 2.0)
    timers.set("a", 1.0, "why")
    assert timers.next == Deadline(1.0, "why")
    timers.set("a", 3.0)
    assert timers.next == Deadline(2.0, "b")
    timers.cancel("b")
    timers.cancel("never set")
    assert timers.next == Deadline(3.0, "a")
    assert timers.expired(2.9) == []
    timers.set("c", 0.5)
    assert timers.expired(3.0) == ["c", "a"]
    assert timers.next is None


def test_timers_agree_with_a_plain_table():
    rng = random.Random(1)
    timers, table = Timers(), {}
    for step in range(2000):
        name, at = rng.choice("abcd"), float(rng.randrange(50) + step / 10)
        if rng.random() < 0.6:
            timers.set(name, at)
            table[name] = at
        elif rng.random() < 0.5:
            timers.cancel(name)
            table.pop(name, None)
        else:
            due = sorted((when, name) for name, when in table.items() if when <= at)
            assert timers.expired(at) == [name for _, name in due]
            table = {name: when for name, when in table.items() if when > at}
        following = timers.next
        assert (None if following is None else following.at) == min(table.values(), default=None)


def test_children_are_drained_in_the_order_they_were_touched():
    tower = Tower("a", "b")
    tower.bells["a"].say("late")
    tower.bells["b"].say("early")
    tower.touch("b")
    tower.touch("a")
    tower.touch("b")
    tower.use("a", lambda bell: None)
    assert heard(tower) == ["b early", "a late"]
    assert [tower.poll_transmit().segments for _ in range(2)] == [(b"early",), (b"late",)]


def test_the_deadline_is_the_earliest_of_the_children_and_ones_own():
    tower = Tower("a", "b")
    assert tower.poll_deadline() is None
    tower.set("a", 5.0, "of a")
    tower.set("b", 3.0, "of b")
    assert tower.poll_deadline() == Deadline(3.0, "of b")
    tower.set("b", 7.0)
    assert tower.poll_deadline() == Deadline(5.0, "of a")
    tower.set("a", 5.0, "of a, for another reason")
    assert tower.poll_deadline() == Deadline(5.0, "of a, for another reason")
    tower._timers.set("own", 4.0, "of the tower")
    assert tower.poll_deadline() == Deadline(4.0, "of the tower")
    tower.use("a", lambda bell: bell.stop())
    tower._timers.cancel("own")
    assert tower.poll_deadline().at == 7.0


def test_children_that_are_due_ring_and_the_others_do_not():
    tower = Tower("a", "b", "c")
    for name, at in (("a", 2.0), ("b", 1.0), ("c", 3.0)):
        tower.set(name, at)
    tower.handle_timeout(2.0)
    assert heard(tower) == ["b ring", "a ring"]
    assert tower.poll_deadline().at == 3.0
    tower.handle_timeout(2.5)
    assert heard(tower) == []


def test_a_child_that_is_released_is_not_heard_of_again():
    tower = Tower("a", "b")
    tower.set("a", 1.0)
    tower.set("b", 1.0)
    tower.react = lambda name: tower.remove("b" if name == "a" else "a")
    tower.bells["a"].say("last words")
    tower.touch("a")
    tower.bells["b"].say("nobody listens")
    tower.touch("b")
    tower.handle_timeout(0.5)
    assert heard(tower) == ["a last words"]
    tower.handle_timeout(1.0)
    assert heard(tower) == ["a ring"]
    tower.remove("a")
    tower.remove("a")
    tower.touch("a")
    assert tower.poll_deadline() is None


def test_a_key_can_be_used_again_even_while_the_old_child_waits_to_be_drained():
    tower = Tower("a")
    tower.set("a", 1.0)
    tower.touch("a")
    tower.remove("a")
    tower.add_back("a")
    with pytest.raises(ValueError, match="already"):
        tower.add_back("a")
    tower.handle_timeout(0.5)
    assert tower.poll_deadline().at == 1.0
    tower.handle_timeout(1.0)
    assert heard(tower) == ["a ring"]


def test_a_child_that_is_asked_again_and_again_leaves_no_heap_of_old_wakeups():
    tower = Tower("a", "b")
    tower.set("b", 5.0)
    for turn in range(10_000):
        tower.set("a", 10.0 + turn)
    assert len(tower._wakeups) < 100
    assert tower.poll_deadline().at == 5.0
    tower.handle_timeout(5.0)
    assert tower.poll_deadline().at == 10_009.0


def test_what_is_counted_includes_children_and_those_that_are_gone():
    tower = Tower("one", "two", "three")
    tower.bells["one"].drops["cracked"] += 1
    tower.bells["two"].drops["cracked"] += 2
    tower.bells["three"].drops = tower.drops
    tower.drops["struck by lightning"] += 1
    tower.remove("one")
    assert tower.counted() == {"cracked": 3, "struck by lightning": 1}
    tower.add_back("one")
    tower.remove("two")
    tower.remove("three")
    assert tower.counted() == {"cracked": 4, "struck by lightning": 1}


class Row(Tower):
    """Takes inputs in rows."""

    def use_later(self, name, use, now=0.0):
        use(self.bells[name])
        self._touch(name)
        self._settle_when_polled(now)


@pytest.mark.parametrize(
    "poll",
    [
        lambda row: row.poll_transmit().segments == (b"one",),
        lambda row: row.poll_event().name == "a one",
        lambda row: row.poll_deadline().at == 9.0,
    ],
)
def test_a_row_of_inputs_is_drained_by_whichever_poll_comes_first(poll):
    row = Row("a")
    reactions = []
    row.react = reactions.append
    row.use_later("a", lambda bell: bell.say("one"))
    row.use_later("a", lambda bell: bell.set(9.0))
    row.use_later("a", lambda bell: bell.say("two"))
    assert reactions == []
    assert poll(row)
    assert reactions == ["a", "a"]


def test_an_input_that_drains_at_once_drains_the_row_before_it_too():
    row = Row("a", "b")
    row.use_later("a", lambda bell: bell.say("first"))
    row.use("b", lambda bell: bell.say("second"))
    assert heard(row) == ["a first", "b second"]
