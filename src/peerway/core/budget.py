"""What a node may spend on others: probes towards unproven addresses, boxes opened, dials taken up.

Every limit is a token bucket; tables of buckets are bounded and forget the longest unused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable
from functools import lru_cache

from peerway.core.ip import parse_ip
from peerway.core.machine import Address, RelayAddress, UdpAddress

PROBES_PER_S = 200.0  # towards addresses that have not answered, all peers together
PROBES_BURST = 100.0
PROBES_PER_NETWORK_PER_S = 40.0  # a /24 or a /48
PROBES_PER_NETWORK_BURST = 40.0
MAX_NETWORKS = 1024
PROBES_PER_ADDRESS_PER_S = 2.0  # however often a peer names it anew
PROBES_PER_ADDRESS_BURST = 60.0
MAX_ADDRESSES = 4096
BOXES_PER_S = 500.0  # of senders we have no exchange with
BOXES_BURST = 200.0
BOXES_PER_SOURCE_PER_S = 10.0
BOXES_PER_SOURCE_BURST = 20.0
BOXES_PER_ROUTE_PER_S = 50.0  # in the name of a peer we have an exchange with, from a place we know it at
BOXES_PER_ROUTE_BURST = 100.0
MAX_SOURCES = 4096
DIALS_PER_S = 50.0  # of those we admit, all together; taking one up costs milliseconds
DIALS_BURST = 256.0
DIALS_PER_PEER_PER_S = 2.0  # from one place, so that who copies a peer's hellos uses up his own
DIALS_PER_PEER_BURST = 40.0
MAX_DIALLERS = 4096


class TokenBucket:
    """`burst` tokens at most, `rate` of them coming back each second."""

    __slots__ = ("_burst", "_filled_at", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled_at: float | None = None

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Spend `amount` tokens, or nothing and False when there are not enough."""
        if self._filled_at is not None and now > self._filled_at:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now if self._filled_at is None else max(now, self._filled_at)
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True


class BucketTable:
    """A bucket for each key; past `limit` keys the longest unused is forgotten."""

    def __init__(self, rate: float, burst: float, limit: int) -> None:
        self._rate = rate
        self._burst = burst
        self._limit = limit
        self._buckets: dict[Hashable, TokenBucket] = {}

    def take(self, key: Hashable, now: float) -> bool:
        """Spend one token of `key`'s bucket."""
        bucket = self._buckets.pop(key, None) or TokenBucket(self._rate, self._burst)
        self._buckets[key] = bucket
        if len(self._buckets) > self._limit:
            del self._buckets[next(iter(self._buckets))]
        return bucket.take(now)

    def __len__(self) -> int:
        return len(self._buckets)


class ProbeBudget:
    """Probes towards addresses that have not proven anything yet."""

    def __init__(self) -> None:
        self.spent = 0
        self.refused = 0
        self._total = TokenBucket(PROBES_PER_S, PROBES_BURST)
        self._networks = BucketTable(PROBES_PER_NETWORK_PER_S, PROBES_PER_NETWORK_BURST, MAX_NETWORKS)
        self._addresses = BucketTable(PROBES_PER_ADDRESS_PER_S, PROBES_PER_ADDRESS_BURST, MAX_ADDRESSES)

    def allows(self, target: Address, now: float) -> bool:
        """Whether one more probe may go to `target` now; it is counted as sent when so."""
        allowed = isinstance(target, RelayAddress) or (
            self._addresses.take(target, now)
            and self._networks.take(network_of(target), now)
            and self._total.take(now)
        )
        if allowed:
            self.spent += 1
        else:
            self.refused += 1
        return allowed


class BoxBudget:
    """Boxes opened: what a flood of signals can cost, in whosever name it comes.

    In the name of a peer we have an exchange with, each place we know that peer at has a budget of its
    own; what comes from anywhere else is a stranger's.
    """

    def __init__(self) -> None:
        self._routes = BucketTable(BOXES_PER_ROUTE_PER_S, BOXES_PER_ROUTE_BURST, MAX_SOURCES)
        self._total = TokenBucket(BOXES_PER_S, BOXES_BURST)
        self._sources = BucketTable(BOXES_PER_SOURCE_PER_S, BOXES_PER_SOURCE_BURST, MAX_SOURCES)

    def allows(self, source: Address, now: float) -> bool:
        """Whether a box that came from `source` may be opened now."""
        return self._sources.take(_place_of(source), now) and self._total.take(now)

    def allows_of_peer(self, peer: Hashable, route: Address, now: float) -> bool:
        """Whether a box in the name of `peer` may be opened now; it came by a `route` to that peer."""
        return self._routes.take((peer, route), now)


class DialBudget:
    """Dials of others that are taken up: what an admitted peer can cost that begins again and again."""

    def __init__(self) -> None:
        self._total = TokenBucket(DIALS_PER_S, DIALS_BURST)
        self._diallers = BucketTable(DIALS_PER_PEER_PER_S, DIALS_PER_PEER_BURST, MAX_DIALLERS)

    def allows(self, peer: Hashable, source: Address, now: float) -> bool:
        """Whether a dial of `peer` that was announced from `source` may be taken up now."""
        return self._diallers.take((peer, _place_of(source)), now) and self._total.take(now)


def _place_of(source: Address) -> Hashable:
    return network_of(source) if isinstance(source, UdpAddress) else source


def network_of(address: UdpAddress) -> str:
    """The /24 of an IPv4 address, the /48 of an IPv6 one, as text."""
    return _network_of(address.ip)


@lru_cache(maxsize=MAX_SOURCES)
def _network_of(text: str) -> str:
    ip = parse_ip(text)
    prefix = 24 if ip.version == 4 else 48
    return str(ipaddress.ip_network((ip, prefix), strict=False))
