"""What happens on the way to a path, as events: the raw material of `explain`, logs and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from peerway.core.machine import Address, Event, UdpAddress
from peerway.core.path.candidate import Candidate


class PathKind(Enum):
    """What lies between: nothing but a local network, the internet, or a relay."""

    LAN = "lan"
    DIRECT = "direct"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class PathEvent(Event):
    """The root of everything that can be told about one connection's paths."""

    def __str__(self) -> str:
        return type(self).__name__


@dataclass(frozen=True, slots=True)
class LocalCandidates(PathEvent):
    """We told the peer where we might be reached. `mapping`: what is known of our NAT, in words."""

    candidates: tuple[Candidate, ...]
    mapping: str

    def __str__(self) -> str:
        listed = ", ".join(map(str, self.candidates)) or "none"
        return f"own candidates: {listed}; NAT mapping {self.mapping}"


@dataclass(frozen=True, slots=True)
class CandidateLearned(PathEvent):
    """The peer might be reached at this address."""

    candidate: Candidate

    def __str__(self) -> str:
        return f"candidate of the peer: {self.candidate}"


@dataclass(frozen=True, slots=True)
class CandidateRefused(PathEvent):
    """No probe goes to this address."""

    candidate: Candidate
    reason: str

    def __str__(self) -> str:
        return f"candidate of the peer refused: {self.candidate}: {self.reason}"


@dataclass(frozen=True, slots=True)
class ProbingStarted(PathEvent):
    """Pings go to this address from now on."""

    local: UdpAddress | None
    remote: Address

    def __str__(self) -> str:
        by = f" from {self.local}" if self.local and self.local.ip not in ("0.0.0.0", "::") else ""
        return f"probing {self.remote}{by}"


@dataclass(frozen=True, slots=True)
class ProbeAnswered(PathEvent):
    """The first answer of this address."""

    remote: Address
    round_trip: float
    observed: UdpAddress | None

    def __str__(self) -> str:
        seen = f", saw us at {self.observed}" if self.observed else ""
        return f"answer from {self.remote} after {1000 * self.round_trip:.1f} ms{seen}"


@dataclass(frozen=True, slots=True)
class PathProven(PathEvent):
    """Full-size datagrams pass both ways on this path."""

    remote: Address
    kind: PathKind
    round_trip: float

    def __str__(self) -> str:
        return f"both directions proven: {self.remote}, {1000 * self.round_trip:.1f} ms"


@dataclass(frozen=True, slots=True)
class PathDoubted(PathEvent):
    """Expected answers stay out on this path; data moves elsewhere until it is clear."""

    remote: Address
    reason: str

    def __str__(self) -> str:
        return f"in doubt: {self.remote}: {self.reason}"


@dataclass(frozen=True, slots=True)
class PathRecovered(PathEvent):
    """A doubted path answers again."""

    remote: Address

    def __str__(self) -> str:
        return f"answers again: {self.remote}"


@dataclass(frozen=True, slots=True)
class PathLost(PathEvent):
    """The path is dead; it must be proven anew."""

    remote: Address
    reason: str

    def __str__(self) -> str:
        return f"lost: {self.remote}: {self.reason}"


@dataclass(frozen=True, slots=True)
class PathSelected(PathEvent):
    """Data travels on this path from now on; `remote` None: there is no path at all."""

    remote: Address | None
    kind: PathKind | None
    round_trip: float | None
    at: float
    reason: str

    def __str__(self) -> str:
        return (
            f"data now travels via {self.remote}: {self.reason}" if self.remote else f"no path: {self.reason}"
        )


@dataclass(frozen=True, slots=True)
class PathReinforced(PathEvent):
    """What is sent on a path that loses much also goes by the relay; `relay` None: no longer."""

    remote: Address
    relay: Address | None
    loss: float

    def __str__(self) -> str:
        share = f"{self.remote} loses {100 * self.loss:.0f} % of probes"
        return (
            f"{share}: data also goes via {self.relay}" if self.relay else f"{share}: it carries alone again"
        )


@dataclass(frozen=True, slots=True)
class DataConfirmed(PathEvent):
    """The peer reports that full-size data arrives on this path."""

    remote: Address

    def __str__(self) -> str:
        return f"data arrives via {self.remote}"


@dataclass(frozen=True, slots=True)
class PingAnswered(PathEvent):
    """A ping that somebody asked for was answered."""

    remote: Address
    kind: PathKind
    round_trip: float

    def __str__(self) -> str:
        return f"pong via {self.remote} {1000 * self.round_trip:.1f} ms"
