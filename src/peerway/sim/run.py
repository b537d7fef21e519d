"""Runs a scenario and holds it to what must be true.

After the first dial and after every action the two must **settle**: data passes both ways
wherever any path exists, and the path is direct exactly where the oracle says so. Each within
a stated virtual time. What goes wrong is collected as `Violation`s, never raised.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

from peerway.sim.attack.attacker import Attacker
from peerway.sim.attack.bad_peer import BadPeer
from peerway.sim.attack.manners import MANNERS
from peerway.sim.attack.strategies import HARMLESS
from peerway.sim.conversation import Conversation
from peerway.sim.internet import Internet
from peerway.sim.network.tap import Moment
from peerway.sim.outlook import Outlook, comes_back_the_same, is_calm, outlook, relayed
from peerway.sim.plan import CORE
from peerway.sim.scenario import (
    SIDES,
    Action,
    Block,
    Dial,
    HangUp,
    Partition,
    Pause,
    Reboot,
    Restart,
    Roam,
    Scenario,
    Side,
    Sleep,
    Transfer,
    Unplug,
    other,
)
from peerway.sim.soundness import check
from peerway.sim.watch.monitor import Monitor

START_S = 3.0  # for relays to be reached and addresses to be gathered
DATA_WITHIN_S = 60.0  # a relay that was away is tried again after 45 s at most
DIRECT_WITHIN_S = 200.0  # three rounds of probing, each of which opens routers to another depth
MOVED_DIRECT_WITHIN_S = 680.0  # and a pause, in which routers forget where somebody was before
TALK_EVERY_S = 20.0
DIAL_WITHIN_S = 20.0
RELAY_MISSED_WITHIN_S = 80.0  # a relay that is silent for 70 s is asked, and then reached anew
CERTAIN_S = 3.0  # what may not become direct is watched so long
FIRST_DIRECT_WITHIN_S = 10.0  # where nothing is left to chance
AT_ONCE_S = 5.0  # what a path that was not touched takes, at most
USED_FOR_S = 50.0  # a connection is kept ready so long after its last use, and a little longer
SURVIVES_S = 20.0  # without any path a connection outlives this much, and may end after it
CLOSED_WITHIN_S = 10.0
FORGOTTEN_AFTER_S = 25.0  # after the end nothing is left; a dial that gave way may be answered for 20 s
IDLE_AFTER_S = 90.0  # in a connection that nobody uses nothing is sent
NOTE_SIZE = 2_000
ALL_SAID_S = 0.1  # by then what arrived last has been acknowledged
BY_LUCK = "direct by luck"
ATTACKS_PER_S = 10.0
GUESTS_STAY_S = 20.0  # and vanish without a word


@dataclass(frozen=True, slots=True)
class Violation:
    """What was not as it must be, and when."""

    at: float
    what: str

    def __str__(self) -> str:
        return f"{self.at:.3f} {self.what}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a scenario went.

    What came of the first dial: `outcome` ("direct", "relay" or "failed"), what the oracle `expected`,
    and the seconds from it to the first byte and until both ends sent directly. `probes_sent` is of
    both ends; `bytes_ok`: what arrived was what had been sent. `trace` and `digest` are empty
    unless the run was traced.
    """

    seed: int
    violations: tuple[Violation, ...]
    expected: Outlook
    outcome: str
    first_byte_s: float | None
    direct_s: float | None
    probes_sent: int
    bytes_ok: bool
    notes: tuple[str, ...]
    virtual_s: float
    trace: tuple[str, ...] = ()
    digest: str = ""


def run(
    scenario: Scenario, *, quic: bool = False, is_traced: bool = False, is_watched: bool = True
) -> Verdict:
    """Run it to its end or to the first violation; the options are those of `Run`."""
    return Run(scenario, quic=quic, is_traced=is_traced, is_watched=is_watched).to_the_end()


class _Stop(Exception):
    """The first violation ends the run: what follows from it tells nothing new."""


class Run:
    """One run of one scenario, step by step; `UnsoundError` where it cannot be run.

    `quic`: see `Conversation`. `is_watched`: the monitor sees each packet, which costs as much
    again. `on_action` is told of each action as it begins.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        quic: bool = False,
        is_traced: bool = False,
        is_watched: bool = True,
    ) -> None:
        check(scenario)
        self.scenario = scenario
        self.internet = Internet(scenario.plan, scenario.seed, is_traced)
        self.world = self.internet.world
        self.world.trace.has_contents = not quic
        self.monitor = Monitor(self.world, tuple(self.internet.relays), looks_only=not is_watched)
        self.talk = Conversation(self.internet, quic=quic, monitor=self.monitor)
        self._let_attack()
        self._let_in()
        self.violations: list[Violation] = []
        self.notes: list[str] = []
        self.on_action: Callable[[Action], None] = lambda action: None
        self.first_byte_s: float | None = None
        self.direct_s: float | None = None
        self._dialled_at = 0.0
        self._outcome = "failed"
        self._expected = self._outlook()
        self._is_wanted = False
        self._may_end = False
        self._has_moved = False
        self._relay_missed_by = 0.0

    def _let_attack(self) -> None:
        attacks = [strategy for strategy in HARMLESS if strategy.name in self.scenario.attacks]
        if attacks:
            host, targets = self.internet.stranger("attacker"), [self.talk.node_id(side) for side in SIDES]
            Attacker(
                self.world,
                host,
                self.internet.uplinks,
                attacks,
                targets=targets,
                per_s=ATTACKS_PER_S,
                watches=Moment.ARRIVED,
            )

    def _let_in(self) -> None:
        for number, guest in enumerate(self.scenario.guests, 1):
            host, ticket = self.internet.stranger(f"guest{number}"), self.talk.ticket(guest.of)
            found = BadPeer(self.world, host, ticket, MANNERS[guest.manners], self.talk.transports)
            self.talk.admit(guest.of, found.machine.key.node_id)
            self.monitor.know(found.machine.key.node_id, host.name)
            self.world.after(GUESTS_STAY_S, host.stop, found.driver)

    def to_the_end(self) -> Verdict:
        """All of it."""
        try:
            self.world.run_for(START_S)
            for action in self.scenario.actions:
                self.world.log("scenario", repr(action))
                self.on_action(action)
                self._do(action)
                self._look()
            self._do(HangUp("left"))
            self._look()
        except _Stop:
            pass
        except Exception as error:  # noqa: BLE001 a machine that raises is what we look for
            self._record(f"{type(error).__name__}: {error}")
            self.notes.append(traceback.format_exc())
        return self._verdict()

    def _verdict(self) -> Verdict:
        return Verdict(
            self.scenario.seed,
            tuple(self.violations),
            self._expected,
            self._outcome,
            self.first_byte_s,
            self.direct_s,
            self.talk.probes_sent,
            not self.talk.errors,
            tuple(self.notes),
            self.world.now,
            *((tuple(self.world.trace.lines), self.world.trace_digest()) if self.world.is_traced else ()),
        )

    def _look(self) -> None:
        """Nothing happened that never may, whoever means harm."""
        self.monitor.look()
        self._record_what_was_seen()
        if self.violations:
            raise _Stop

    def _record(self, what: str) -> None:
        self.violations.append(Violation(self.world.now, what))

    def _record_what_was_seen(self) -> None:
        for seen in self.monitor.violations[:1]:
            at, what = seen.split(" ", 1)
            self.violations.append(Violation(float(at), what))

    def _fail(self, what: str) -> NoReturn:
        self._record_what_was_seen()  # this may follow from it
        self._record(what)
        raise _Stop

    # --- actions

    def _do(self, action: Action) -> None:
        match action:
            case Dial(by):
                self._dial(SIDES if by == "both" else (by,))
            case HangUp(by):
                self._hang_up(by)
            case Transfer(by, size):
                if self._is_wanted:
                    self._exchange({by: size}, DATA_WITHIN_S)
            case Pause(seconds):
                self._pause(seconds)
            case Restart(side):
                self._restart(side)
            case Sleep(side, seconds):
                self._sleep(side, seconds)
            case Unplug(side, seconds):
                self._unplug(side, seconds)
            case Roam(side, router):
                self._roam(side, router)
            case Reboot(router, renumber, 0):
                self._reboot(router, renumber)
                self._settle()
            case Reboot():
                self._reboot_under(action)
            case Block(router, seconds):
                self._block(router, seconds)
            case Partition(name, seconds):
                self._partition(name, seconds)

    def _dial(self, sides: tuple[Side, ...]) -> None:
        if self._is_wanted or not relayed(self.internet.plan, *SIDES):
            return
        self._is_wanted = True
        if self.first_byte_s is None:
            self._expected = self._outlook()
        self._connect(sides)
        self._settle()

    def _connect(self, sides: tuple[Side, ...]) -> None:
        """Dial, and let the first byte go and come back."""
        if not self._meet(sides):
            self._fail(f"no connection {DIAL_WITHIN_S:.0f} s after the dial of {' and '.join(sides)}")
        caller = sides[0]
        for side in (caller, other(caller)):
            self._exchange({side: NOTE_SIZE}, DATA_WITHIN_S)
        if self.first_byte_s is None:
            self.first_byte_s = self.world.now - self._dialled_at

    def _meet(self, sides: tuple[Side, ...]) -> bool:
        """Dial; once more where a connection to the relay may be gone, and nobody has used it since."""
        for at in (self.world.now, self._relay_missed_by):
            self.world.run_until(max(at, self.world.now))
            self._dialled_at = self.world.now
            for side in sides:
                self.talk.dial(side)
            if self.world.run_while(lambda: not self.talk.is_up, DIAL_WITHIN_S):
                return True
            if self.world.now >= self._relay_missed_by:
                return False
        return False

    def _hang_up(self, by: Side) -> None:
        if not self._is_wanted:
            return
        self._is_wanted = False
        self.talk.close(by)
        reachable = relayed(self.internet.plan, *SIDES)
        if reachable and not self.world.run_while(lambda: self.talk.is_open(other(by)), CLOSED_WITHIN_S):
            self._fail(f"{other(by)} did not hear within {CLOSED_WITHIN_S:.0f} s that {by} hung up")
        self.world.run_for(FORGOTTEN_AFTER_S)
        for side in SIDES:
            if not self.talk.is_open(side) and (left := self._leftovers(side)):
                self._fail(f"{side} has not forgotten a connection that is over: {left}")

    def _leftovers(self, side: Side) -> str:
        return self.talk.node(side).leftovers(self.talk.node_id(other(side)))

    def _pause(self, seconds: float) -> None:
        # a relay's false word is looked into, and a lost packet that somebody sends again is answered
        quiet = 0.0 if self.scenario.is_hostile else seconds - IDLE_AFTER_S
        began, is_ready = self.world.now, seconds <= USED_FOR_S and self._are_direct and self._is_calm
        self.world.run_for(seconds - max(quiet, 0.0))
        if self._is_wanted and is_ready:
            for side in SIDES:  # not both at once, for that opens all anew
                self._exchange({side: NOTE_SIZE}, AT_ONCE_S)
            for side in SIDES:
                if self.talk.is_relayed_since(side, began):
                    self._fail(f"{side} lost a direct path within {seconds:.0f} s in which nothing was said")
        if quiet > 0:
            sent = {side: self.internet.hosts[side].packets_sent for side in SIDES}
            self.world.run_for(quiet)
            for side in SIDES:
                more = self.internet.hosts[side].packets_sent - sent[side]
                if more and not self._asks_a_router(side):
                    self._fail(f"{side} sent {more} packets though nothing was said for {IDLE_AFTER_S:.0f} s")
        self._settle()

    def _asks_a_router(self, side: Side) -> bool:
        """Whether it has a port of a router's, and sees now and then that it still has."""
        plan = self.internet.plan
        inside = [interface.router for interface in plan.host(side).interfaces if interface.router != CORE]
        return any(plan.router(router).maps_ports for router in inside)

    def _restart(self, side: Side) -> None:
        self.talk.restart(side)
        self.world.run_for(START_S)
        self._may_end = True
        if self._is_wanted and relayed(self.internet.plan, *SIDES):
            self._connect((side,))
        self._settle()

    def _sleep(self, side: Side, seconds: float) -> None:
        self.internet.hosts[side].sleep()
        self.world.run_for(seconds)
        self._may_end |= seconds >= SURVIVES_S
        self._relay_missed_by = self.world.now + RELAY_MISSED_WITHIN_S
        self.internet.hosts[side].wake()
        self._settle()

    def _unplug(self, side: Side, seconds: float) -> None:
        interface = self.internet.unplug(side)
        began = self.world.now
        if seconds > 2 * SURVIVES_S:
            self._settle()
        self.world.run_until(began + seconds)
        self._may_end |= seconds >= SURVIVES_S
        self._has_moved = True
        self.internet.plug(side, interface)
        self._settle()

    def _roam(self, side: Side, router: str) -> None:
        host = self.internet.plan.host(side)
        first = replace(host.interfaces[0], router=router)
        self._has_moved = True
        self.internet.move(side, replace(host, interfaces=(first, *host.interfaces[1:])))
        self._settle()

    def _reboot(self, router: str, renumber: bool) -> None:
        self.internet.reboot(router, renumber)
        self._relay_missed_by = self.world.now + RELAY_MISSED_WITHIN_S

    def _reboot_under(self, reboot: Reboot) -> None:
        """Whoever only takes has then said all there is to say, and opens no router again by himself."""
        for side in SIDES:
            self._send_if_up(side, reboot.under)
            self.world.run_for(ALL_SAID_S)
            is_same = not reboot.renumber and comes_back_the_same(self.internet.plan, reboot.router)
            is_ready, began = is_same and self._is_calm and self._are_direct, self.world.now
            self._reboot(reboot.router, reboot.renumber)
            self._send_if_up(side, reboot.under)
            for end in SIDES:
                if is_ready and self.talk.is_relayed_since(end, began):
                    self._fail(f"{end} lost a direct path by the restart of {reboot.router}")
            self._settle()

    def _send_if_up(self, side: Side, size: int) -> None:
        if self._is_wanted and self.talk.is_up:
            self._exchange({side: size}, DATA_WITHIN_S)

    def _block(self, router: str, seconds: float) -> None:
        is_calm = self._is_calm
        before = self.internet.block(router)
        began, has_relay = self.world.now, self.talk.has_relay
        if self._is_wanted and self.talk.is_up and has_relay and seconds > AT_ONCE_S:
            self._exchange(dict.fromkeys(SIDES, NOTE_SIZE), AT_ONCE_S if is_calm else DATA_WITHIN_S)
        self.world.run_until(began + seconds)
        self._may_end |= seconds >= SURVIVES_S and not has_relay
        self.internet.unblock(before)
        self._settle()

    def _partition(self, name: str, seconds: float) -> None:
        is_calm = self._is_calm
        self.internet.cut(name)
        began = self.world.now
        is_untouched = self._are_direct and name in self.internet.relays
        if self._is_wanted and is_untouched and self.talk.is_up and seconds > AT_ONCE_S:
            self._exchange(dict.fromkeys(SIDES, NOTE_SIZE), AT_ONCE_S if is_calm else DATA_WITHIN_S)
        self.world.run_until(began + seconds)
        self._may_end |= seconds >= SURVIVES_S
        self.internet.mend(name)
        self._settle()

    # --- what must hold after each

    @property
    def _are_direct(self) -> bool:
        return all(self.talk.is_direct(side) for side in SIDES)

    @property
    def _is_calm(self) -> bool:
        """Whether nothing but our own deeds disturbs the two."""
        return not self.scenario.is_hostile and is_calm(self.internet.plan)

    def _outlook(self) -> Outlook:
        """The oracle's word. Whoever sends in another's name can poison a router that takes it."""
        plan = self.internet.plan
        is_poisonable = any(router.nat4 is not None and router.nat4.input_open for router in plan.routers)
        word = outlook(plan, *SIDES)
        return "unsure" if word == "direct" and self.scenario.attacks and is_poisonable else word

    def _settle(self) -> None:
        """Data passes wherever it can, and the path is what the oracle says."""
        if not self._is_wanted:
            return
        expected, by_relay = self._outlook(), relayed(self.internet.plan, *SIDES)
        if not by_relay and not (expected == "direct" and self._are_direct):
            self._may_end = True  # they may find each other or not: nothing carries their signals
            return
        self._talk_again(by_relay)
        self._find_path(expected)
        self._talk_again(by_relay)
        self._may_end = False

    def _talk_again(self, by_relay: bool) -> None:
        """Data passes both ways, in a new connection where the old one had reason to end."""
        for _ in range(1 + self._may_end):
            if not self.talk.is_up:
                self._revive(by_relay)
            if self._exchange(dict.fromkeys(SIDES, NOTE_SIZE), DATA_WITHIN_S):
                return
        self._fail(f"the connection ended: {self.talk.last_closure}")

    def _revive(self, by_relay: bool) -> None:
        """Begin again, on the side that knows of no connection."""
        if not self._may_end:
            self._fail(f"the connection ended: {self.talk.last_closure}")
        if not by_relay:
            raise _Stop  # nothing carries a dial, and nothing had to
        without = tuple(side for side in SIDES if not self.talk.is_open(side))
        self._connect(without[:1] or SIDES[:1])

    def _exchange(self, sizes: Mapping[Side, int], within_s: float) -> bool:
        """Each side named sends so many bytes, which arrive; False when the connection ended first."""
        for side, size in sizes.items():
            self.talk.send(side, size)
        talk = self.talk
        self.world.run_while(lambda: talk.is_up and not talk.all_arrived, within_s)
        if talk.errors:
            self._fail(talk.errors[0])
        if talk.is_up and not talk.all_arrived:
            late = ", ".join(side for side in SIDES if not talk.has_arrived(side))
            self._fail(f"what {late} sent did not arrive within {within_s:.0f} s")
        return talk.is_up

    def _talk_until_direct(self, limit_s: float) -> bool:
        """Whether both become direct in time, in use all along: for who is idle no path is looked for."""
        end = self.world.now + limit_s
        while not self.world.run_while(
            lambda: not self._are_direct, min(TALK_EVERY_S, max(end - self.world.now, 0.0))
        ):
            if self.world.now >= end:
                return False
            if self.talk.is_up:
                self._exchange(dict.fromkeys(SIDES, 1), DATA_WITHIN_S)
        return True

    def _find_path(self, expected: Outlook) -> None:
        if expected == "direct":
            is_first = self._outcome == "failed"
            limit_s = MOVED_DIRECT_WITHIN_S if self._has_moved else DIRECT_WITHIN_S
            if is_first and self._is_calm:
                limit_s = FIRST_DIRECT_WITHIN_S
            if not self._talk_until_direct(limit_s):
                self._fail(f"not direct within {limit_s:.0f} s, though that is possible")
            self._has_moved = False
        else:
            self.world.run_for(CERTAIN_S)
            if expected == "relay" and any(self.talk.is_direct(side) for side in SIDES):
                self._fail("direct, though the oracle knows no way")
        if self._outcome == "failed":
            self._outcome = "direct" if self._are_direct else "relay"
            if self._are_direct:
                self.direct_s = max(self.talk.direct_since(side) for side in SIDES) - self._dialled_at
        if expected == "guessing" and self._are_direct:
            self.notes.append(BY_LUCK)
