"""A scenario as data: an internet, two nodes in it, and what happens to them one after the other.

Nothing in it depends on how it ends, so that leaving any part out leaves a scenario too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from peerway.sim.plan import InternetPlan

Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")


def other(side: Side) -> Side:
    """The peer's side."""
    return "right" if side == "left" else "left"


@dataclass(frozen=True, slots=True)
class Dial:
    """One side dials, or both at the same time; nothing where they are connected already."""

    by: Literal["left", "right", "both"]


@dataclass(frozen=True, slots=True)
class HangUp:
    """One side ends the connection."""

    by: Side


@dataclass(frozen=True, slots=True)
class Transfer:
    """One side sends so many bytes."""

    by: Side
    size: int


@dataclass(frozen=True, slots=True)
class Pause:
    """For so many seconds nothing is sent."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Restart:
    """A node's program is killed and begins anew with the same key; its peer is not told."""

    side: Side


@dataclass(frozen=True, slots=True)
class Sleep:
    """A host sleeps so many seconds."""

    side: Side
    seconds: float


@dataclass(frozen=True, slots=True)
class Unplug:
    """The interface that a host sends by is gone for so many seconds, and comes back with new addresses."""

    side: Side
    seconds: float


@dataclass(frozen=True, slots=True)
class Roam:
    """A host leaves its networks for the inside of `router`."""

    side: Side
    router: str


@dataclass(frozen=True, slots=True)
class Reboot:
    """A router forgets its mappings; with `renumber` it comes back with another public address.

    With `under` it does so twice: between so many bytes of left's and as many more, then of right's.
    """

    router: str
    renumber: bool = False
    under: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """For so many seconds a router forwards no UDP, as by somebody's new rule; what is streamed passes."""

    router: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Partition:
    """The link upwards of a router or relay, or all of a host's, is cut for so many seconds."""

    name: str
    seconds: float


Action = Dial | HangUp | Transfer | Pause | Restart | Sleep | Unplug | Roam | Reboot | Block | Partition


@dataclass(frozen=True, slots=True)
class Guest:
    """A third node, at the core, that one side admits, and that has the `manners` of that name.

    `peerway.sim.attack.manners.MANNERS` has them.
    """

    of: Side
    manners: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """`plan` has hosts called "left" and "right"; both know all of `plan.relays`, and each other.

    `seed` is for everything that is left to chance while it runs. `attacks` are names of
    strategies (`peerway.sim.attack.strategies.HARMLESS`) by which somebody at the core attacks all along,
    and `guests` dial one of the two before anything else happens, and vanish after a minute.
    """

    seed: int
    plan: InternetPlan
    actions: tuple[Action, ...]
    attacks: tuple[str, ...] = ()
    guests: tuple[Guest, ...] = ()

    @property
    def is_hostile(self) -> bool:
        """Whether somebody means harm."""
        lies = any(relay.mischief is not None for relay in self.plan.relays)
        return bool(self.attacks or self.guests) or lies


@dataclass(frozen=True, slots=True)
class NamedScenario:
    """A scenario, and in one sentence what it is about."""

    name: str
    explanation: str
    scenario: Scenario
