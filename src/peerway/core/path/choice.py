"""Which path carries the data: one pure function of what is known of the paths.

A direct path that lives beats any relay. Among direct paths the least round trip wins, made
worse by loss; within a margin they count as equal, and then LAN goes before internet, IPv6
before IPv4, and the one in use stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerway.core.machine import Address, UdpAddress
from peerway.core.path.events import PathKind

MARGIN_S = 0.005
MARGIN_SHARE = 0.2
STAY_LEEWAY = 1.5  # margins that an IPv6 path in use may be behind
UNKNOWN_ROUND_TRIP_S = 1.0
LOSS_COST_S = 0.2  # what losing every packet would add, beside being sent again

PathKey = tuple[UdpAddress | None, Address]


@dataclass(frozen=True, slots=True)
class PathView:
    """What choice knows of a path. `round_trip`: seconds, windowed minimum; `loss`: 0 to 1."""

    key: PathKey
    kind: PathKind
    doubted: bool = False
    round_trip: float | None = None
    loss: float = 0.0

    @property
    def is_v6(self) -> bool:
        """Whether it is a direct path over IPv6: no NAT on it can forget us or run out of ports."""
        remote = self.key[1]
        return isinstance(remote, UdpAddress) and ":" in remote.ip

    @property
    def cost(self) -> float:
        """Expected seconds for a datagram to make the round, sent again when lost."""
        round_trip = UNKNOWN_ROUND_TRIP_S if self.round_trip is None else self.round_trip
        return round_trip / (1 - min(self.loss, 0.9)) + LOSS_COST_S * self.loss


@dataclass(frozen=True, slots=True)
class Decision:
    """The path to use (None: there is none) and why."""

    key: PathKey | None
    reason: str


def choose(paths: Sequence[PathView], current: PathKey | None) -> Decision:
    """The path that data should travel on; the same one as long as none is clearly better."""
    sound = [path for path in paths if not path.doubted]
    if not sound:
        return _last_resort(paths, current)
    direct = [path for path in sound if path.kind is not PathKind.RELAY]
    rivals = direct or sound
    best = min(path.cost for path in rivals)
    margin = max(MARGIN_S, MARGIN_SHARE * best)
    equals = [path for path in rivals if path.cost <= best + _leeway(path, current) * margin]
    chosen = min(equals, key=lambda path: _preference(path, current))
    return Decision(chosen.key, _reason(chosen, equals, direct, current))


def _last_resort(paths: Sequence[PathView], current: PathKey | None) -> Decision:
    if not paths:
        return Decision(None, "no path works")
    if any(path.key == current for path in paths):
        return Decision(current, "every path is in doubt")
    return Decision(min(paths, key=lambda path: path.cost).key, "every path is in doubt")


def _leeway(path: PathView, current: PathKey | None) -> float:
    # IPv6 displaces what is as good; were it left as easily, the two would take turns
    return STAY_LEEWAY if path.is_v6 and path.key == current else 1.0


def _preference(path: PathView, current: PathKey | None) -> tuple[bool, bool, bool, float]:
    return (path.kind is not PathKind.LAN, not path.is_v6, path.key != current, path.cost)


def _reason(
    chosen: PathView, equals: Sequence[PathView], direct: Sequence[PathView], current: PathKey | None
) -> str:
    if chosen.kind is PathKind.RELAY:
        return "no direct path works"
    if chosen.key == current:
        return "nothing is clearly better"
    if chosen.kind is PathKind.LAN and len(equals) > 1:
        return "on the local network"
    if len(direct) == 1:
        return "the only direct path"
    if chosen.is_v6 and not all(path.is_v6 for path in equals):
        return "as good as IPv4, and without a NAT"
    return "the least round trip of the direct paths"
