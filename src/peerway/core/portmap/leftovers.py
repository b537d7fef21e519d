"""What an earlier run mapped at a gateway and did not remove: it goes before anything new is asked for.

In this order, because a gateway may know mappings by our port alone: removing the old one last would
take the new one with it. And not for ever: after `PATIENCE_S` what is left stays for another time.
"""

from __future__ import annotations

from collections.abc import Mapping

from peerway.core.portmap.lease import Lease
from peerway.core.portmap.report import Protocol, Standing

PATIENCE_S = 3.0
MAX_LEFTOVERS = 8  # at one gateway


class Leftovers:
    """The leases of earlier runs at one gateway."""

    def __init__(self, leases: tuple[Lease, ...]) -> None:
        self.leases = leases[:MAX_LEFTOVERS]
        self._asked: set[Lease] = set()
        self._over = not self.leases

    def to_release(self, standings: Mapping[Protocol, Standing]) -> list[Lease]:
        """Those whose protocol is known to be spoken, and that nobody was asked to release yet."""
        if self._over:
            return []
        ready = [
            lease
            for lease in self.leases
            if lease not in self._asked and standings.get(lease.protocol) is Standing.SPEAKS
        ]
        self._asked.update(ready)
        return ready

    def block(self, standings: Mapping[Protocol, Standing]) -> bool:
        """Whether a new mapping must wait for these to go."""
        waited_for = (Standing.UNKNOWN, Standing.SPEAKS)
        return not self._over and any(
            standings.get(lease.protocol, Standing.UNKNOWN) in waited_for for lease in self.leases
        )

    def released(self, lease: Lease, error: str) -> bool:
        """Whether `lease` is one of these; it is gone, unless there was an error."""
        if lease not in self._asked:
            return False
        self._asked.discard(lease)
        remaining = tuple(other for other in self.leases if other != lease)
        self.leases = (*remaining, lease) if error else remaining
        self._over = self._over or bool(error) or not remaining
        return True

    def give_up(self) -> frozenset[Protocol]:
        """Wait no longer; the protocols in which a release is still asked for."""
        self._over = True
        return frozenset(lease.protocol for lease in self._asked)
