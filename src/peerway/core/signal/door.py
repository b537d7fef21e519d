"""The door: who may begin an exchange with us, and what finding out may cost.

Until a sender is authorised nothing is sent to it and nothing is kept of it; the whole cost
of a stranger is one box opened, and how many of those there may be is bounded too. What a
relay says of where a signal came from only serves these bounds: it is no identity.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass

from peerway.core.budget import BoxBudget
from peerway.core.identity import NodeId, SecretKey
from peerway.core.machine import Address, WireError
from peerway.core.signal.message import Signal, parse

MAX_SHARED_KEYS = 1024


@dataclass(frozen=True)
class Admission:
    """Who may dial us: the nodes in `allow`, whoever shows `secret` (16 bytes, from a ticket of ours), and
    those `authorize` says yes to. With none of these, nobody.
    """

    allow: Collection[NodeId] = frozenset()
    secret: bytes = b""
    authorize: Callable[[NodeId], bool] | None = None

    def admits(self, sender: NodeId, shown: bytes) -> bool:
        """Whether `sender`, who showed the secret `shown`, may begin an exchange."""
        if sender in self.allow:
            return True
        if self.secret and hmac.compare_digest(self.secret, shown):
            return True
        return self.authorize is not None and self.authorize(sender)


class Door:
    """Opens signals within the budget, and says whom we admit."""

    def __init__(self, key: SecretKey, admission: Admission) -> None:
        self._key = key
        self._admission = admission
        self._budget = BoxBudget()
        self._shared: dict[NodeId, bytes] = {}

    def shared_with(self, peer: NodeId) -> bytes:
        """The key that boxes between us and `peer` are sealed with, remembered for a while."""
        shared = self._shared.pop(peer, None) or self._key.shared_with(peer.box_public())
        self._shared[peer] = shared
        if len(self._shared) > MAX_SHARED_KEYS:
            del self._shared[next(iter(self._shared))]
        return shared

    def open_known(
        self, data: bytes, sender: NodeId, source: Address, now: float, *, is_route: bool
    ) -> Signal:
        """Open a signal of a peer we have an exchange with; `is_route`: the peer is known at `source`.

        `WireError` when it is false or the budget is spent.
        """
        if is_route and not self._budget.allows_of_peer(sender, source, now):
            raise WireError("signal: too many of one peer")
        if not is_route and not self._budget.allows(source, now):
            raise WireError("signal: too many from there")
        return parse(data, self._key, self.shared_with(sender))

    def open_stranger(self, data: bytes, sender: NodeId, source: Address, now: float) -> Signal:
        """Open a signal of anybody else; `WireError` when it is false or the budget is spent.

        Nothing is remembered of the sender, not even the shared key.
        """
        if not self._budget.allows(source, now):
            raise WireError("signal: too many from there")
        return parse(data, self._key, self._key.shared_with(sender.box_public()))

    def admits(self, hello: Signal) -> bool:
        """Whether the sender of this opened hello may begin an exchange."""
        return self._admission.admits(hello.sender, hello.body.admission)
