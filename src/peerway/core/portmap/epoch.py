"""Has the gateway forgotten everything? Its answers count the seconds since it started; a jump tells.

A gateway that restarted, or whose table was cleared, begins counting anew. Both protocols let clients
compare its clock with their own, each by a rule of its own.
"""

from __future__ import annotations


class NatPmpEpoch:
    """RFC 6886 3.6: the gateway's clock may run an eighth slower than ours, and be 2 s behind that."""

    def __init__(self) -> None:
        self._seen: tuple[int, float] | None = None

    def goes_on(self, epoch: int, now: float) -> bool:
        """Whether an answer with this `epoch` comes from the same run of the gateway as those before."""
        seen, self._seen = self._seen, (epoch, now)
        return seen is None or epoch >= seen[0] + (now - seen[1]) * 7 / 8 - 2


class PcpEpoch:
    """RFC 6887 8.5: back by more than a second, or either clock faster than the other by a sixteenth."""

    def __init__(self) -> None:
        self._seen: tuple[int, float] | None = None

    def goes_on(self, epoch: int, now: float) -> bool:
        """Whether an answer with this `epoch` comes from a server that kept its state."""
        seen, self._seen = self._seen, (epoch, now)
        if seen is None:
            return True
        theirs, ours = epoch - seen[0], now - seen[1]
        return theirs >= -1 and ours + 2 >= theirs - theirs / 16 and theirs + 2 >= ours - ours / 16
