"""Runs a scenario and holds it to what must be true.

After the first dial and after every action the two must settle (see `meeting`), and all along nothing
may happen that never may. What goes wrong is collected as `Violation`s, never raised.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

from peerway.sim.attack.attacker import Attacker
from peerway.sim.attack.bad_peer import BadPeer
from peerway.sim.attack.manners import MANNERS
from peerway.sim.attack.strategies import HARMLESS
from peerway.sim.conversation import Conversation
from peerway.sim.internet import Internet
from peerway.sim.meeting import DATA_WITHIN_S, NOTE_SIZE, RELAY_MISSED_WITHIN_S, Failed, Meeting, Stop
from peerway.sim.network.tap import Moment
from peerway.sim.outlook import Outlook, comes_back_the_same, relayed
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
AT_ONCE_S = 5.0  # what a path that was not touched takes, at most
USED_FOR_S = 50.0  # a connection is kept ready so long after its last use, and a little longer
SURVIVES_S = 20.0  # without any path a connection outlives this much, and may end after it
CLOSED_WITHIN_S = 10.0
FORGOTTEN_AFTER_S = 25.0  # after the end nothing is left; a dial that gave way may be answered for 20 s
REPLAYED_FOR_S = 60.0  # who keeps a dial back that gave way has it answered, for 20 s each time
IDLE_AFTER_S = 90.0  # in a connection that nobody uses nothing is sent
STREAMED_WHEN_IDLE = 60  # bytes: relays are asked whether they are there; the least packet has 100
ALL_SAID_S = 0.1  # by then what arrived last has been acknowledged
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
    both ends; `bytes_ok`: what arrived was what had been sent. `family` is 4 or 6 where they became
    direct, `expected_family` where only one can. `trace` and `digest` are empty
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
    family: int | None = None
    expected_family: int | None = None
    trace: tuple[str, ...] = ()
    digest: str = ""


def run(
    scenario: Scenario, *, quic: bool = False, is_traced: bool = False, is_watched: bool = True
) -> Verdict:
    """Run it to its end or to the first violation; the options are those of `Run`."""
    return Run(scenario, quic=quic, is_traced=is_traced, is_watched=is_watched).to_the_end()


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
        self.meeting = Meeting(scenario, self.internet, self.talk)
        self._let_attack()
        self._let_in()
        self.violations: list[Violation] = []
        self.on_action: Callable[[Action], None] = lambda action: None

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
        except Failed as failed:
            self._record_what_was_seen()  # this may follow from it
            self._record(str(failed))
        except Stop:
            pass
        except Exception as error:  # noqa: BLE001 a machine that raises is what we look for
            self._record(f"{type(error).__name__}: {error}")
            self.meeting.notes.append(traceback.format_exc())
        return self._verdict()

    def _verdict(self) -> Verdict:
        return Verdict(
            self.scenario.seed,
            tuple(self.violations),
            self.meeting.expected,
            self.meeting.outcome,
            self.meeting.first_byte_s,
            self.meeting.direct_s,
            self.talk.probes_sent,
            not self.talk.errors,
            tuple(self.meeting.notes),
            self.world.now,
            self.meeting.family,
            self.meeting.expected_family,
            *((tuple(self.world.trace.lines), self.world.trace_digest()) if self.world.is_traced else ()),
        )

    def _look(self) -> None:
        """Nothing happened that never may, whoever means harm."""
        self.monitor.look()
        self._record_what_was_seen()
        if self.talk.errors:
            self._record(self.talk.errors[0])
        if self.violations:
            raise Stop

    def _record(self, what: str) -> None:
        self.violations.append(Violation(self.world.now, what))

    def _record_what_was_seen(self) -> None:
        for seen in self.monitor.violations[:1]:
            at, what = seen.split(" ", 1)
            self.violations.append(Violation(float(at), what))

    # --- actions

    def _do(self, action: Action) -> None:
        match action:
            case Dial(by):
                self.meeting.dial(SIDES if by == "both" else (by,))
            case HangUp(by):
                self._hang_up(by)
            case Transfer(by, size):
                if self.meeting.is_wanted:
                    self.meeting.exchange({by: size}, DATA_WITHIN_S)
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
                self.meeting.settle()
            case Reboot():
                self._reboot_under(action)
            case Block(router, seconds):
                self._block(router, seconds)
            case Partition(name, seconds):
                self._partition(name, seconds)

    def _hang_up(self, by: Side) -> None:
        if not self.meeting.is_wanted:
            return
        self.meeting.is_wanted = False
        self.talk.close(by)
        reachable = relayed(self.internet.plan, *SIDES)
        if reachable and not self.world.run_while(lambda: self.talk.is_open(other(by)), CLOSED_WITHIN_S):
            raise Failed(f"{other(by)} did not hear within {CLOSED_WITHIN_S:.0f} s that {by} hung up")
        self.world.run_for(FORGOTTEN_AFTER_S)
        if self.scenario.is_hostile:
            self.world.run_while(lambda: any(map(self._leftovers, SIDES)), REPLAYED_FOR_S)
        for side in SIDES:
            if left := self._leftovers(side):
                raise Failed(f"{side} has not forgotten a connection that is over: {left}")

    def _leftovers(self, side: Side) -> str:
        if self.talk.is_open(side):
            return ""
        return self.talk.node(side).leftovers(self.talk.node_id(other(side)))

    def _pause(self, seconds: float) -> None:
        # a relay's false word is looked into, and a lost packet that somebody sends again is answered
        quiet = 0.0 if self.scenario.is_hostile else seconds - IDLE_AFTER_S
        is_used = seconds <= USED_FOR_S and self.meeting.are_direct and self.meeting.is_calm
        began = self.world.now
        self.world.run_for(seconds - max(quiet, 0.0))
        if self.meeting.is_wanted and is_used:
            for side in SIDES:  # not both at once, for that opens all anew
                self.meeting.exchange({side: NOTE_SIZE}, AT_ONCE_S)
            for side in SIDES:
                if self.talk.is_relayed_since(side, began):
                    raise Failed(f"{side} lost a direct path within {seconds:.0f} s without a word")
        if quiet > 0:
            self._be_quiet(quiet)
        self.meeting.settle()

    def _be_quiet(self, seconds: float) -> None:
        """Nothing has been said for so long that nothing is sent any more."""
        sent = {side: self.internet.hosts[side].packets_sent for side in SIDES}
        streamed = {side: self.talk.bytes_streamed(side) for side in SIDES}
        self.world.run_for(seconds)
        for side in SIDES:
            if self._asks_a_router(side):
                continue  # and tells the peer where it is now
            if (more := self.talk.bytes_streamed(side) - streamed[side]) > STREAMED_WHEN_IDLE:
                raise Failed(f"{side} sent {more} bytes to relays after {IDLE_AFTER_S:.0f} s without a word")
            if more := self.internet.hosts[side].packets_sent - sent[side]:
                raise Failed(f"{side} sent {more} packets after {IDLE_AFTER_S:.0f} s without a word")

    def _asks_a_router(self, side: Side) -> bool:
        """Whether it has a port of a router's, and sees now and then that it still has."""
        plan = self.internet.plan
        return any(plan.router(interface.router).maps_ports for interface in plan.host(side).interfaces)

    def _restart(self, side: Side) -> None:
        self.talk.restart(side)
        self.world.run_for(START_S)
        self.meeting.may_end = True
        if self.meeting.is_wanted and relayed(self.internet.plan, *SIDES):
            self.meeting.connect((side,))
        self.meeting.settle()

    def _sleep(self, side: Side, seconds: float) -> None:
        self.internet.hosts[side].sleep()
        self.world.run_for(seconds)
        self.meeting.may_end |= seconds >= SURVIVES_S
        self.meeting.relay_missed_by = self.world.now + RELAY_MISSED_WITHIN_S
        self.internet.hosts[side].wake()
        self.meeting.settle()

    def _unplug(self, side: Side, seconds: float) -> None:
        interface = self.internet.unplug(side)
        began = self.world.now
        if seconds > 2 * SURVIVES_S:
            self.meeting.settle()
        self.world.run_until(began + seconds)
        self.meeting.may_end |= seconds >= SURVIVES_S
        self.meeting.has_moved = True
        self.internet.plug(side, interface)
        self.meeting.settle()

    def _roam(self, side: Side, router: str) -> None:
        host = self.internet.plan.host(side)
        first = replace(host.interfaces[0], router=router)
        self.meeting.has_moved = True
        self.internet.move(side, replace(host, interfaces=(first, *host.interfaces[1:])))
        self.meeting.settle()

    def _reboot(self, router: str, renumber: bool) -> None:
        self.internet.reboot(router, renumber)
        self.meeting.has_moved |= renumber
        self.meeting.relay_missed_by = self.world.now + RELAY_MISSED_WITHIN_S

    def _reboot_under(self, reboot: Reboot) -> None:
        """Whoever only takes has then said all there is to say, and opens no router again by himself."""
        for side in SIDES:
            self._send_if_up(side, reboot.under)
            self.world.run_for(ALL_SAID_S)
            is_same = not reboot.renumber and comes_back_the_same(self.internet.plan, reboot.router)
            is_ready, began = is_same and self.meeting.is_calm and self.meeting.are_direct, self.world.now
            self._reboot(reboot.router, reboot.renumber)
            self._send_if_up(side, reboot.under)
            for end in SIDES:
                if is_ready and self.talk.is_relayed_since(end, began):
                    raise Failed(f"{end} lost a direct path by the restart of {reboot.router}")
            self.meeting.settle()

    def _send_if_up(self, side: Side, size: int) -> None:
        if self.meeting.is_wanted and self.talk.is_up:
            self.meeting.exchange({side: size}, DATA_WITHIN_S)

    def _block(self, router: str, seconds: float) -> None:
        is_calm = self.meeting.is_calm
        before = self.internet.block(router)
        began, has_relay = self.world.now, self.talk.has_relay
        if self.meeting.is_wanted and self.talk.is_up and has_relay and seconds > AT_ONCE_S:
            self.meeting.exchange(dict.fromkeys(SIDES, NOTE_SIZE), AT_ONCE_S if is_calm else DATA_WITHIN_S)
        self.world.run_until(began + seconds)
        self.meeting.may_end |= seconds >= SURVIVES_S and not has_relay
        self.internet.unblock(before)
        self.meeting.settle()

    def _partition(self, name: str, seconds: float) -> None:
        is_calm = self.meeting.is_calm
        self.internet.cut(name)
        began = self.world.now
        is_untouched = self.meeting.are_direct and name in self.internet.relays
        if self.meeting.is_wanted and is_untouched and self.talk.is_up and seconds > AT_ONCE_S:
            self.meeting.exchange(dict.fromkeys(SIDES, NOTE_SIZE), AT_ONCE_S if is_calm else DATA_WITHIN_S)
        self.world.run_until(began + seconds)
        self.meeting.may_end |= seconds >= SURVIVES_S
        self.meeting.relay_missed_by = self.world.now + RELAY_MISSED_WITHIN_S
        self.internet.mend(name)
        self.meeting.settle()
