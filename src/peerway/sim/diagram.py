"""A run as a Mermaid sequence diagram: who sent whom what kind of datagram, and what came of it.

A `Recorder` watches a run by its taps and listeners. What of one kind goes the same way again and
again is one arrow with a count, until something happens that is worth a note, or for a moment
nothing does. Of what is too long the middle is left out: a failure is at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from peerway.core.demux import KINDS, Kind
from peerway.core.link import LinkClosed, LinkEstablished
from peerway.core.links import LinkEvent
from peerway.core.machine import Event
from peerway.core.path.events import (
    PathDoubted,
    PathEvent,
    PathLost,
    PathProven,
    PathRecovered,
    PathReinforced,
    PathSelected,
)
from peerway.core.relay.keeper import RelayDown, RelayUp
from peerway.sim.attack.hostile_relay import Carried
from peerway.sim.network.tap import Loss, Moment, Sighting
from peerway.sim.plan import CORE, InternetPlan
from peerway.sim.run import Run, Verdict
from peerway.sim.scenario import SIDES, Action, Scenario, Side
from peerway.sim.written import written

QUIET_S = 0.5  # after so much silence what is sent counts anew
MOST_LINES = 300
FIRST_LINES = 40  # of those kept, the others being the last

_WORDS = {Kind.STUN: "STUN", Kind.SIGNAL: "signal", Kind.PROBE: "probe", Kind.QUIC: "QUIC"}
_TOLD = (PathSelected, PathProven, PathDoubted, PathLost, PathRecovered, PathReinforced)
_RESERVED = str.maketrans({";": ",", "#": "", "\n": " "})


@dataclass(frozen=True, slots=True)
class Arrow:
    """What goes from one participant to another; `loss` is why it gets no further."""

    source: str
    target: str
    kind: str
    loss: str = ""


@dataclass(frozen=True, slots=True)
class Flight:
    """So many of the same, the first and the last when."""

    arrow: Arrow
    first: float
    last: float
    count: int = 1


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened on one side; to both where `over` is None."""

    at: float
    over: Side | None
    text: str


class Recorder:
    """Watches a run from its beginning. `steps` is what happened, in order."""

    def __init__(self, run: Run) -> None:
        self.plan = run.internet.plan
        self.steps: list[Flight | Note] = []
        self._world = run.world
        self._keys = {run.talk.node(side).machine.key.node_id.box_public(): side for side in SIDES}
        self._flying: dict[Arrow, Flight] = {}
        self._heard_at = 0.0
        run.world.end_taps.append(self._sighted)
        run.world.loss_taps.append(self._lost)
        run.talk.listeners.append(self._said)
        run.on_action = self._began
        for name, server in run.internet.servers.items():
            server.watchers += (partial(self._relayed, name),)

    def finish(self, verdict: Verdict) -> None:
        """Nothing comes any more."""
        for violation in verdict.violations:
            self._note(None, f"VIOLATED: {violation.what}", violation.at)
        self._land()

    # --- packets

    def _sighted(self, sighting: Sighting) -> None:
        if sighting.moment is Moment.ARRIVED:
            self._fly(Arrow(sighting.origin, sighting.node, _kind(sighting.data)))

    def _lost(self, loss: Loss) -> None:
        self._fly(Arrow(loss.origin, loss.node, _kind(loss.data), loss.reason))

    def _relayed(self, relay: str, carried: Carried, is_here: bool) -> None:
        kind = _kind(carried.packet)
        source, target = self._keys.get(carried.source), self._keys.get(carried.destination)
        if source is not None:
            self._fly(Arrow(source, relay, kind, "" if is_here else "its receiver is not here"))
        if target is not None and is_here:
            self._fly(Arrow(relay, target, kind))

    def _fly(self, arrow: Arrow) -> None:
        now = self._world.now
        if now - self._heard_at > QUIET_S:
            self._land()
        self._heard_at = now
        before = self._flying.get(arrow)
        self._flying[arrow] = (
            Flight(arrow, before.first, now, before.count + 1) if before else Flight(arrow, now, now)
        )

    def _land(self) -> None:
        self.steps.extend(self._flying.values())
        self._flying.clear()

    # --- what is worth a note

    def _began(self, action: Action) -> None:
        self._note(None, written(action))

    def _said(self, side: Side, event: Event) -> None:
        inner = event.event if isinstance(event, LinkEvent) else event
        match inner:
            case LinkEstablished():
                self._note(side, "connected")
            case LinkClosed(code, reason, by_peer):
                by = "the peer" if by_peer else "us"
                self._note(side, f"closed by {by}, code {code}: {reason or 'as wanted'}")
            case RelayUp(url):
                self._note(side, f"relay {url} reached")
            case RelayDown(url, reason):
                self._note(side, f"relay {url} gone: {reason}")
            case PathEvent() if isinstance(inner, _TOLD):
                self._note(side, str(inner))

    def _note(self, over: Side | None, text: str, at: float | None = None) -> None:
        self._land()
        self.steps.append(Note(self._world.now if at is None else at, over, text))


def sequence_diagram(scenario: Scenario, quic: bool = False) -> str:
    """Run the scenario and draw what happened, as the text of a Mermaid diagram."""
    run = Run(scenario, quic=quic)
    recorder = Recorder(run)
    recorder.finish(run.to_the_end())
    return render(recorder.plan, recorder.steps)


def render(plan: InternetPlan, steps: list[Flight | Note]) -> str:
    """The steps as the text of a Mermaid diagram."""
    arrows = [step.arrow for step in steps if isinstance(step, Flight)]
    present = dict.fromkeys(end for arrow in arrows for end in (arrow.source, arrow.target))
    names = [name for name in _in_order(plan) if name in present or name in SIDES]
    names += [name for name in present if name not in names]  # strangers that no plan knows
    aliases = {name: f"p{number}" for number, name in enumerate(names, 1)}
    lines = [f"participant {aliases[name]} as {name.translate(_RESERVED)}" for name in names]
    lines += _shortened([_line(step, aliases) for step in steps], f"{aliases['left']},{aliases['right']}")
    return "\n".join(["sequenceDiagram", *(f"    {line}" for line in lines)]) + "\n"


def _in_order(plan: InternetPlan) -> Iterator[str]:
    """All who may take part, each once: left, what it stands behind, the core, relays, the same of right."""
    left, right = (
        [router.name for interface in plan.host(side).interfaces for router in plan.way_up(interface.router)]
        for side in SIDES
    )
    others = [router.name for router in plan.routers if router.name not in (*left, *right)]
    middle = [CORE, *(relay.name for relay in plan.relays), *others]
    hosts = [host.name for host in plan.hosts if host.name not in SIDES]
    yield from dict.fromkeys(("left", *left, *middle, *hosts, *reversed(right), "right"))


def _line(step: Flight | Note, aliases: dict[str, str]) -> str:
    if isinstance(step, Note):
        over = aliases[step.over] if step.over else f"{aliases['left']},{aliases['right']}"
        return f"Note over {over}: {step.at:.3f} {step.text.translate(_RESERVED)}"
    arrow = step.arrow
    first, last = f"{step.first:.3f}", f"{step.last:.3f}"
    when = first if first == last else f"{first}-{last}"
    what = arrow.kind if step.count == 1 else f"{arrow.kind} x{step.count}"
    sign, why = ("-x", f" lost: {arrow.loss}") if arrow.loss else ("->>", "")
    return f"{aliases[arrow.source]}{sign}{aliases[arrow.target]}: {when} {what}{why}"


def _shortened(lines: list[str], over: str) -> list[str]:
    left_out = len(lines) - MOST_LINES
    if left_out <= 0:
        return lines
    gap = f"Note over {over}: here {left_out} lines are left out"
    return [*lines[:FIRST_LINES], gap, *lines[FIRST_LINES + left_out :]]


def _kind(data: bytes) -> str:
    return _WORDS.get(KINDS[data[0]], "other") if data else "empty"
