"""How much a source may ask of us: a token bucket each, in a table of limited size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

MAX_SOURCES = 16_384
_ROUNDING = 1e-6  # of a token: what floating point loses in a day-long uptime


class SourceLimiter:
    """A bucket of `burst` tokens for each source, refilled with `rate_per_s` tokens a second.

    Of a bucket only the moment is kept at which it is full again. Past `max_sources` the source
    longest unheard of is forgotten, which gives it a full bucket: forged sources can win others
    a burst, but lock nobody out.
    """

    def __init__(self, rate_per_s: float, burst: float, max_sources: int = MAX_SOURCES) -> None:
        self.forgotten = 0
        self._rate = rate_per_s
        self._refill_s = 1 / rate_per_s
        self._burst = burst
        self._max_sources = max_sources
        self._full_at: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, source: bytes, wanted: int, now: float) -> int:
        """Spend up to `wanted` tokens of a source; how many there were."""
        full_at = self._full_at.get(source)
        if full_at is None:
            self._admit(source)
            full_at = now
        else:
            self._full_at.move_to_end(source)
            if full_at < now:
                full_at = now
        tokens = int(self._burst - (full_at - now) * self._rate + _ROUNDING)
        if tokens <= 0:
            return 0
        granted = wanted if wanted < tokens else tokens
        self._full_at[source] = full_at + granted * self._refill_s
        return granted

    def take_each(self, sources: Sequence[bytes], now: float) -> set[int]:
        """Spend a token of each source, in turn; the indexes of those that had none left."""
        full_at_of, renew, refill_s = self._full_at, self._full_at.move_to_end, self._refill_s
        last_token_at = now + (self._burst - 1 + _ROUNDING) * refill_s
        refused: set[int] = set()
        for index, source in enumerate(sources):
            full_at = full_at_of.get(source)
            if full_at is None:
                self._admit(source)
                full_at = now
            else:
                renew(source)
                if full_at < now:
                    full_at = now
            if full_at <= last_token_at:
                full_at_of[source] = full_at + refill_s
            else:
                refused.add(index)
        return refused

    def _admit(self, source: bytes) -> None:
        if len(self._full_at) >= self._max_sources:
            self._full_at.popitem(last=False)
            self.forgotten += 1
        self._full_at[source] = 0.0
