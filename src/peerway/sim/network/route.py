"""The way of a byte stream through the network, found once and then kept.

A stream is cut off, for good, when a NAT or firewall on its way forgets it (as TCP is by most
that reboot), or when the host it began on has left its network.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from peerway.sim.network.link import Link, NetworkNode
from peerway.sim.network.tree import Hop, Router


@dataclass(frozen=True, slots=True)
class StreamRoute:
    """From a host to `end`, which sees it come from `source_ip`. `boots`: of the NATs, as they were."""

    hops: tuple[Hop, ...]
    boots: tuple[int, ...]
    source_ip: str
    end: NetworkNode

    def delay(self, outwards: bool) -> float | None:
        """Seconds for a piece of a byte stream, away from the host it began on or back; None while cut."""
        if self._is_parted:
            return None
        total = 0.0
        for hop in self.hops:
            delay = hop.link.stream_delay(hop.upwards is outwards)
            if delay is None:
                return None
            total += delay
        return total

    @property
    def is_cut(self) -> bool:
        """Whether nothing gets through, or nothing back."""
        return self._is_parted or any(hop.link.is_cut for hop in self.hops)

    @property
    def _is_parted(self) -> bool:
        for hop, following in pairwise(self.hops):
            router = hop.link.upper if hop.upwards else hop.link.lower
            if isinstance(router, Router) and router.parts(hop.link, following.link):
                return True
        return False

    def rate(self, outwards: bool) -> float | None:
        """The least rate of its links in bits/s, None where none has one."""
        qualities = (hop.link.quality if hop.upwards is outwards else hop.link.downward for hop in self.hops)
        return min((quality.rate for quality in qualities if quality.rate is not None), default=None)

    @property
    def loses(self) -> bool:
        """Whether what passes may be lost on the way, and sent again."""
        return any(hop.link.loses for hop in self.hops)

    @property
    def is_forgotten(self) -> bool:
        """Whether a NAT on the way knows nothing of it any more."""
        return _boots(self.hops) != self.boots


def find_route(first: Link, source_ip: str, ip: str) -> StreamRoute | None:
    """The way from the host below `first`, whose address there is `source_ip`, to the host at `ip`."""
    hops = (Hop(first, upwards=True), *first.upper.stream_hops(ip))
    end = hops[-1].link.lower
    if len(hops) < 2 or isinstance(end, Router):
        return None
    for hop in hops:
        if hop.nat is not None and hop.nat.behaviour.translates:
            source_ip = hop.nat.stream_ip(source_ip)
    return StreamRoute(hops, _boots(hops), source_ip, end)


def _boots(hops: tuple[Hop, ...]) -> tuple[int, ...]:
    return tuple(hop.nat.boots for hop in hops if hop.nat is not None)
