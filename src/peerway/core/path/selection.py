"""Which path carries the data now, and which one beside it; and what there is to say when that changes.

The choice itself is `choose`; here it is remembered. A direct path that loses much is reinforced:
what is sent on it goes by a relay too, its companion.
"""

from __future__ import annotations

from collections.abc import Sequence

from peerway.core.path.choice import PathKey, PathView, choose
from peerway.core.path.events import PathEvent, PathKind, PathReinforced, PathSelected

REINFORCE_ABOVE_LOSS, REINFORCE_BELOW_LOSS = 0.2, 0.1  # of probes, there or back


class Selection:
    """`selected` and `companion` are None where there is no such path; `since`: when `selected` was."""

    def __init__(self, now: float) -> None:
        self.selected: PathKey | None = None
        self.companion: PathKey | None = None
        self.since = now

    def update(self, paths: Sequence[PathView], now: float) -> list[PathEvent]:
        """Choose again among the usable `paths`; what has changed."""
        return [*self._select(paths, now), *self._reinforce(paths)]

    def _select(self, paths: Sequence[PathView], now: float) -> list[PathEvent]:
        decision = choose(paths, self.selected)
        if decision.key == self.selected:
            return []
        self.selected, self.since = decision.key, now
        chosen = self._chosen(paths)
        return [
            PathSelected(
                remote=chosen.key[1] if chosen is not None else None,
                kind=chosen.kind if chosen is not None else None,
                round_trip=chosen.round_trip if chosen is not None else None,
                at=now,
                reason=decision.reason,
            )
        ]

    def _reinforce(self, paths: Sequence[PathView]) -> list[PathEvent]:
        carrying = self._chosen(paths)
        before, self.companion = self.companion, self._best_companion(carrying, paths)
        if self.companion == before or carrying is None:
            return []
        remote = self.companion[1] if self.companion is not None else None
        return [PathReinforced(carrying.key[1], remote, carrying.loss)]

    def _best_companion(self, carrying: PathView | None, paths: Sequence[PathView]) -> PathKey | None:
        threshold = REINFORCE_ABOVE_LOSS if self.companion is None else REINFORCE_BELOW_LOSS
        if carrying is None or carrying.kind is PathKind.RELAY or carrying.loss <= threshold:
            return None
        relays = [path for path in paths if path.kind is PathKind.RELAY and not path.doubted]
        return min(relays, key=lambda path: path.cost).key if relays else None

    def _chosen(self, paths: Sequence[PathView]) -> PathView | None:
        return next((path for path in paths if path.key == self.selected), None)
