"""The two of a run: how they meet and talk, and what must hold once something happened to them.

They must **settle**: data passes both ways wherever any path exists, and the path is direct exactly
where the oracle says so, each within a stated virtual time.
"""

from __future__ import annotations

from collections.abc import Mapping

from peerway.sim.conversation import Conversation
from peerway.sim.internet import Internet
from peerway.sim.outlook import Outlook, can_be_poisoned, is_calm, outlook, outlooks, relayed
from peerway.sim.scenario import SIDES, Scenario, Side, other

DATA_WITHIN_S = 60.0  # a relay that was away is tried again after 45 s at most
DIRECT_WITHIN_S = 200.0  # three rounds of probing, each of which opens routers to another depth
MOVED_DIRECT_WITHIN_S = 680.0  # and a pause, in which routers forget who was where
TALK_EVERY_S = 20.0
DIAL_WITHIN_S = 20.0
RELAY_MISSED_WITHIN_S = 80.0  # one that is silent for 70 s is asked; one that was away is tried every 45 s
CERTAIN_S = 3.0  # what may not become direct is watched so long
FIRST_DIRECT_WITHIN_S = 10.0  # where nothing is left to chance
NOTE_SIZE = 2_000
WAY_SIZE = 20_000  # so much shows which way it goes: probes and answers to strangers are far less
BY_LUCK = "direct by luck"


class Stop(Exception):
    """The run ends here: what would follow tells nothing new."""


class Failed(Stop):
    """Something is not as it must be."""


class Meeting:
    """The two of `scenario`, who talk by `talk` over `internet`.

    Whoever does something to them says here what it may bring about: `may_end`, that the connection
    is over; `has_moved`, that a router remembers where one of them was; `relay_missed_by`, when who
    waits has noticed at the latest that a relay forgot it.

    What came of the first dial: `outcome` ("direct", "relay" or "failed"), what the oracle `expected`,
    the seconds from it to the first byte and until both sent directly, and by which `family`.
    """

    def __init__(self, scenario: Scenario, internet: Internet, talk: Conversation) -> None:
        self.scenario = scenario
        self.internet = internet
        self.world = internet.world
        self.talk = talk
        self.notes: list[str] = []
        self.first_byte_s: float | None = None
        self.direct_s: float | None = None
        self.family: int | None = None
        self.outcome = "failed"
        self.is_wanted = False
        self.may_end = False
        self.has_moved = False
        self.relay_missed_by = 0.0
        self.expected = self.outlook()
        self.expected_family = self._only_family()
        self._dialled_at = 0.0

    # --- what is so

    @property
    def are_direct(self) -> bool:
        """Whether what both send travels directly now."""
        return all(self.talk.is_direct(side) for side in SIDES)

    @property
    def is_calm(self) -> bool:
        """Whether nothing but our own deeds disturbs the two."""
        return not self.scenario.is_hostile and is_calm(self.internet.plan)

    def outlook(self) -> Outlook:
        """The oracle's word. Whoever sends in another's name can poison a router, or keep its memory."""
        plan = self.internet.plan
        word = outlook(plan, *SIDES)
        if word == "direct" and self.scenario.attacks and (self.has_moved or can_be_poisoned(plan, *SIDES)):
            return "unsure"
        return word

    def _only_family(self) -> int | None:
        words = outlooks(self.internet.plan, *SIDES)
        possible = [family for family, word in words.items() if word != "relay"]
        return possible[0] if len(possible) == 1 and self.expected == "direct" else None

    # --- what they do

    def dial(self, sides: tuple[Side, ...]) -> None:
        """Connect, unless they are, or no relay would carry it."""
        if self.is_wanted or not relayed(self.internet.plan, *SIDES):
            return
        self.is_wanted = True
        if self.first_byte_s is None:
            self.expected = self.outlook()
            self.expected_family = self._only_family()
        self.connect(sides)
        self.settle()

    def connect(self, sides: tuple[Side, ...]) -> None:
        """Dial, and let the first byte go and come back."""
        if not self._meet(sides):
            raise Failed(f"no connection {DIAL_WITHIN_S:.0f} s after the dial of {' and '.join(sides)}")
        caller = sides[0]
        for side in (caller, other(caller)):
            self.exchange({side: NOTE_SIZE}, DATA_WITHIN_S)
        if self.first_byte_s is None:
            self.first_byte_s = self.world.now - self._dialled_at

    def _meet(self, sides: tuple[Side, ...]) -> bool:
        """Dial; once more where a connection to the relay may be gone, and nobody has used it since."""
        for at in (self.world.now, self.relay_missed_by):
            self.world.run_until(max(at, self.world.now))
            self._dialled_at = self.world.now
            for side in sides:
                self.talk.dial(side)
            if self.world.run_while(lambda: not self.talk.is_up, DIAL_WITHIN_S):
                return True
            if self.world.now >= self.relay_missed_by:
                return False
        return False

    def settle(self) -> None:
        """Data passes wherever it can, and the path is what the oracle says."""
        if not self.is_wanted:
            return
        expected, by_relay = self.outlook(), relayed(self.internet.plan, *SIDES)
        if not by_relay and not (expected == "direct" and self.are_direct):
            self.may_end = True  # they may find each other or not: nothing carries their signals
            return
        self._talk_again(by_relay)
        self._find_path(expected)
        self._look_which_way()
        self._talk_again(by_relay)
        self.may_end = False

    def _talk_again(self, by_relay: bool) -> None:
        """Data passes both ways, in a new connection where the old one had reason to end."""
        for _ in range(1 + self.may_end):
            if not self.talk.is_up:
                self._revive(by_relay)
            if self.exchange(dict.fromkeys(SIDES, NOTE_SIZE), DATA_WITHIN_S):
                return
        raise Failed(f"the connection ended: {self.talk.last_closure}")

    def _revive(self, by_relay: bool) -> None:
        """Begin again, on the side that knows of no connection."""
        if not self.may_end:
            raise Failed(f"the connection ended: {self.talk.last_closure}")
        if not by_relay:
            raise Stop  # nothing carries a dial, and nothing had to
        without = tuple(side for side in SIDES if not self.talk.is_open(side))
        self.connect(without[:1] or SIDES[:1])

    def exchange(self, sizes: Mapping[Side, int], within_s: float) -> bool:
        """Each side named sends so many bytes, which arrive; False when the connection ended first."""
        for side, size in sizes.items():
            self.talk.send(side, size)
        talk = self.talk
        self.world.run_while(lambda: talk.is_up and not talk.all_arrived, within_s)
        if talk.errors:
            raise Failed(talk.errors[0])
        if talk.is_up and not talk.all_arrived:
            late = ", ".join(side for side in SIDES if not talk.has_arrived(side))
            raise Failed(f"what {late} sent did not arrive within {within_s:.0f} s")
        return talk.is_up

    def _talk_until_direct(self, limit_s: float) -> bool:
        """Whether both become direct in time, in use all along: for who is idle no path is looked for."""
        end = self.world.now + limit_s
        while not self.world.run_while(
            lambda: not self.are_direct, min(TALK_EVERY_S, max(end - self.world.now, 0.0))
        ):
            if self.world.now >= end:
                return False
            if self.talk.is_up:
                self.exchange(dict.fromkeys(SIDES, 1), DATA_WITHIN_S)
        return True

    def _look_which_way(self) -> None:
        """What is said to go directly goes by a family that leads there, and not by a relay."""
        words = outlooks(self.internet.plan, *SIDES)
        for side in SIDES:
            family = self.talk.family(side)
            if family is not None and words[family] == "relay":
                raise Failed(f"{side} is direct by IPv{family}, though the oracle knows no such way")
        if not (self.talk.is_up and self.are_direct):
            return
        began, before = self.world.now, {side: self.internet.hosts[side].bytes_sent for side in SIDES}
        if not self.exchange(dict.fromkeys(SIDES, WAY_SIZE), DATA_WITHIN_S):
            return
        if any(self.talk.is_relayed_since(side, began) for side in SIDES):
            return  # an outage that was over was still missed
        for side in SIDES:
            if self.internet.hosts[side].bytes_sent - before[side] < WAY_SIZE:
                raise Failed(f"{side} sends by a relay what it says goes directly")

    def _find_path(self, expected: Outlook) -> None:
        if expected == "direct":
            is_first = self.outcome == "failed"
            limit_s = MOVED_DIRECT_WITHIN_S if self.has_moved else DIRECT_WITHIN_S
            if is_first and self.is_calm:
                limit_s = FIRST_DIRECT_WITHIN_S
            if not self._talk_until_direct(limit_s):
                raise Failed(f"not direct within {limit_s:.0f} s, though that is possible")
            self.has_moved = False
        else:
            self.world.run_for(CERTAIN_S)
            if expected == "relay" and any(self.talk.is_direct(side) for side in SIDES):
                raise Failed("direct, though the oracle knows no way")
        if self.outcome == "failed":
            self.outcome = "direct" if self.are_direct else "relay"
            if self.are_direct:
                left, right = (self.talk.family(side) for side in SIDES)
                self.family = left if left == right else None
                self.direct_s = max(self.talk.direct_since(side) for side in SIDES) - self._dialled_at
        if expected == "guessing" and self.are_direct:
            self.notes.append(BY_LUCK)
