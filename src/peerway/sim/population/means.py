"""By what means two nodes came to a direct path: told from the path that carries data, not predicted.

What counts is where each end is sent to, how its peer came to know that address, and which boxes of
the internet as it was built stand before it. `MEANS` is an open list: the first that applies names
the path, and a new way to get through is a new entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from peerway.core.machine import Address, UdpAddress
from peerway.core.path.candidate import CandidateKind
from peerway.core.path.events import (
    CandidateLearned,
    LocalCandidates,
    PathEvent,
    PathKind,
    PathProven,
    PathSelected,
)
from peerway.sim.conversation import Conversation
from peerway.sim.network.behaviour import NatBehaviour
from peerway.sim.plan import InternetPlan
from peerway.sim.scenario import Side, other

Happened = TypeVar("Happened", bound=PathEvent)


@dataclass(frozen=True, slots=True)
class PathEnd:
    """One end of a direct path.

    `address`: where its peer sends to. `told`: how the end said it can be reached there, None where
    it did not and the peer knows from what came from there. `is_own`: that of an interface of its
    own, which nothing translates. `outside_ips`: as which servers saw it. `boxes`: the NATs and
    firewalls between it and the core.
    """

    address: UdpAddress
    told: CandidateKind | None
    is_own: bool
    outside_ips: tuple[str, ...]
    boxes: tuple[NatBehaviour, ...]


@dataclass(frozen=True, slots=True)
class DirectPath:
    """The direct path in use; `round_trip_s` as its chooser measured it then."""

    left: PathEnd
    right: PathEnd
    is_lan: bool
    round_trip_s: float | None

    @property
    def ends(self) -> tuple[PathEnd, PathEnd]:
        """Both."""
        return self.left, self.right

    @property
    def family(self) -> int:
        """The IP version, 4 or 6."""
        return 6 if is_ipv6(self.left.address) else 4

    @property
    def is_hairpin(self) -> bool:
        """Whether an end is sent to at an outside address that both have."""
        turned = (self.left, self.right), (self.right, self.left)
        return any(not end.is_own and end.address.ip in peer.outside_ips for end, peer in turned)


@dataclass(frozen=True, slots=True)
class Means:
    """One way to get through: `name` for programs, `explanation` for people."""

    name: str
    explanation: str
    applies: Callable[[DirectPath], bool]


MEANS = (
    Means("same-network", "on one network", lambda path: path.is_lan),
    Means("ipv6", "over IPv6, which nothing translates", lambda path: path.family == 6),
    Means("hairpin", "turned round at a NAT of both", lambda path: path.is_hairpin),
    Means(
        "port-mapping",
        "at a port that a router opened when asked to",
        lambda path: any(end.told is CandidateKind.PORT_MAPPED for end in path.ends),
    ),
    Means(
        "open-host",
        "one end is open to everybody",
        lambda path: any(end.is_own and not end.boxes for end in path.ends),
    ),
    Means(
        "heard-first",
        "heard first at a port that nobody knew: symmetric NAT, open filter",
        lambda path: any(end.told is None for end in path.ends),
    ),
    Means("firewall", "a firewall opened from inside", lambda path: any(end.is_own for end in path.ends)),
    Means("punched", "both NATs opened from inside", lambda path: True),
)


def means_of(path: DirectPath) -> str:
    """The name of the first means that applies."""
    return next(means.name for means in MEANS if means.applies(path))


def direct_path(talk: Conversation) -> DirectPath | None:
    """The direct path that the left end's data took last; None unless there was one, proven by both.

    Each end chooses for itself: the right one may have taken a path of the other family.
    """
    chosen = _last_direct(_events(talk, "left", PathSelected))
    if chosen is None or not isinstance(chosen.remote, UdpAddress):
        return None
    family = is_ipv6(chosen.remote)
    back = _last_direct(_events(talk, "right", PathSelected), family)
    back = back or _last_direct(_events(talk, "right", PathProven), family)
    if back is None or not isinstance(back.remote, UdpAddress):
        return None
    left, right = _end(talk, "left", back.remote), _end(talk, "right", chosen.remote)
    return DirectPath(left, right, chosen.kind is PathKind.LAN, chosen.round_trip)


def is_ipv6(address: Address | None) -> bool:
    """Whether it is a UDP address of that family."""
    return isinstance(address, UdpAddress) and ":" in address.ip


def _last_direct(
    events: Sequence[PathSelected | PathProven], family: bool | None = None
) -> PathSelected | PathProven | None:
    for event in reversed(events):
        is_direct = event.kind in (PathKind.DIRECT, PathKind.LAN)
        if is_direct and family in (None, is_ipv6(event.remote)):
            return event
    return None


def _end(talk: Conversation, side: Side, address: UdpAddress) -> PathEnd:
    """The end `side` of a path on which it is sent to at `address`."""
    learned = (event.candidate for event in _events(talk, other(side), CandidateLearned))
    told = [c.kind for c in learned if c.address == address and c.kind is not CandidateKind.PEER_REFLEXIVE]
    candidates = (c for event in _events(talk, side, LocalCandidates) for c in event.candidates)
    outside = (c.address.ip for c in candidates if c.kind is CandidateKind.REFLEXIVE)
    return PathEnd(
        address,
        told[-1] if told else None,
        any(address.ip == interface.ip for interface in talk.internet.hosts[side].addresses),
        tuple(dict.fromkeys(outside)),
        _boxes(talk.internet.plan, side, 6 if is_ipv6(address) else 4),
    )


def _events(talk: Conversation, side: Side, kind: type[Happened]) -> list[Happened]:
    return [event for _, _, event in talk.node(side).events if isinstance(event, kind)]


def _boxes(plan: InternetPlan, side: Side, family: int) -> tuple[NatBehaviour, ...]:
    """What stands between the host's first interface of the family and the core."""
    interface = next(each for each in plan.host(side).interfaces if family in each.families)
    above = plan.way_up(interface.router)
    return tuple(b for b in (r.nat4 if family == 4 else r.nat6 for r in above) if b is not None)
