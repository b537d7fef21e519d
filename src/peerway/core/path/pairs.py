"""Which pairs of addresses there are to probe: made of sockets and candidates, bounded, given up.

Whoever has the table says what becomes of a pair that is new (`_begin`).
"""

from __future__ import annotations

import math

from peerway.core.budget import ProbeBudget
from peerway.core.machine import Address, Composite, RelayAddress, Rng, UdpAddress
from peerway.core.path.candidate import Candidate, CandidateKind, RefusedError, TargetPolicy
from peerway.core.path.choice import PathKey
from peerway.core.path.events import CandidateLearned, CandidateRefused, PathKind
from peerway.core.path.pair import Pair, PairState
from peerway.core.probe.message import ProbeOpener, ProbeSealer

MAX_PAIRS = 48
MAX_PEER_REFLEXIVE = 16
MAX_CLIENTS_PER_RELAY = 2  # the peer has one key there at a time; a relay may say anything


class PairTable(Composite[PathKey]):
    """The pairs of our sockets with the peer's addresses. `sealer` and `opener` hold their probe keys."""

    def __init__(
        self,
        sealer: ProbeSealer,
        opener: ProbeOpener,
        policy: TargetPolicy,
        budget: ProbeBudget,
        rng: Rng,
    ) -> None:
        super().__init__()
        self._sealer = sealer
        self._opener = opener
        self._policy = policy
        self._budget = budget
        self._rng = rng
        self._pairs: dict[PathKey, Pair] = {}
        self._sockets: tuple[UdpAddress, ...] = ()
        self._candidates: tuple[Candidate, ...] = ()
        self._reflexive: list[Candidate] = []
        self._dirty = False  # whether the choice among them is to be made again

    def _begin(self, pair: Pair, now: float) -> None:
        """A pair of a socket and an address that the peer named is new."""
        raise NotImplementedError

    # --- what is known of the peer

    def _is_named(self, remote: Address) -> bool:
        """Whether the peer says, or has shown, that it is there."""
        addresses = (candidate.address for candidate in (*self._candidates, *self._reflexive))
        return isinstance(remote, RelayAddress) or remote in addresses

    def _check(self, candidate: Candidate) -> bool:
        try:
            self._policy.check(candidate.address)
        except RefusedError as error:
            self._events.append(CandidateRefused(candidate, str(error)))
            return False
        return True

    def _make_pairs(self, now: float) -> None:
        for candidate in self._candidates:
            try:
                self._policy.check(candidate.address)
            except RefusedError:
                continue
            for socket in self._sockets:
                key = (socket, candidate.address)
                if key in self._pairs or not _same_family(socket, candidate.address):
                    continue
                if len(self._pairs) >= MAX_PAIRS:
                    self._drop("path: too many pairs")
                    return
                self._begin(self._add(key, self._kind_of(candidate.address)), now)

    def _in_the_peers_order(self) -> list[tuple[PathKey, Pair]]:
        """Public addresses before private ones, of which one may happen to be our own router's.

        What a router gives for a packet to itself it may give for all that is begun after it.
        """
        order: dict[Address, int] = {
            candidate.address: number for number, candidate in enumerate(self._candidates)
        }
        return sorted(self._pairs.items(), key=lambda item: order.get(item[0][1], -1))

    def _kind_of(self, remote: UdpAddress) -> PathKind:
        return PathKind.LAN if self._policy.is_lan(remote) else PathKind.DIRECT

    def _add(self, key: PathKey, kind: PathKind) -> Pair:
        pair = Pair(key[0], key[1], kind, self._sealer, self._budget, self._rng, self._opener.highest)
        self._pairs[key] = pair
        self._adopt(key, pair)
        return pair

    def _remove(self, key: PathKey) -> None:
        del self._pairs[key]
        self._release(key)
        self._dirty = True

    def _learn_reflexive(self, local: UdpAddress | None, remote: UdpAddress) -> Pair | None:
        """The pair of an address nobody named, but from which the peer pings; None where there is no room."""
        candidate = Candidate(CandidateKind.PEER_REFLEXIVE, remote)
        if len(self._reflexive) >= MAX_PEER_REFLEXIVE or len(self._pairs) >= MAX_PAIRS:
            self._forget_reflexive()
        if len(self._pairs) >= MAX_PAIRS or len(self._reflexive) >= MAX_PEER_REFLEXIVE:
            self._drop("path: too many addresses of one peer")
            return None
        self._events.append(CandidateLearned(candidate))
        if not self._check(candidate):
            return None
        self._reflexive.append(candidate)
        return self._add((local, remote), self._kind_of(remote))

    def _forget_reflexive(self) -> None:
        for candidate in self._reflexive:
            keys = [key for key in self._pairs if key[1] == candidate.address]
            if not any(is_proven(self._pairs[key]) for key in keys):
                for key in keys:
                    self._remove(key)
                self._reflexive.remove(candidate)
                return

    # --- relays

    def _add_relay(self, relay: RelayAddress, selected: PathKey | None) -> Pair | None:
        """The pair of a relay by which the peer is met; None where it cannot be had."""
        self._make_room_at(relay.url, selected)
        if len(self._pairs) >= MAX_PAIRS:
            self._give_up_one()
        return self._add((None, relay), PathKind.RELAY) if len(self._pairs) < MAX_PAIRS else None

    def _make_room_at(self, url: str, selected: PathKey | None) -> None:
        """Of a relay's clients only the newest stays beside the one that answered last."""
        keys = [key for key in self._pairs if isinstance(key[1], RelayAddress) and key[1].url == url]
        keys.sort(key=lambda key: (key == selected, self._pairs[key].answered_at or -math.inf))
        for key in keys[: max(0, len(keys) + 1 - MAX_CLIENTS_PER_RELAY)]:
            self._remove(key)

    def _give_up_one(self) -> None:
        """Of all addresses the one that was named last: by the relay the peer was met, by them it may be."""
        for key in reversed(self._pairs):
            if key[0] is not None and not is_proven(self._pairs[key]):
                self._remove(key)
                return


def is_proven(pair: Pair) -> bool:
    """Whether the path works, or did a moment ago."""
    return pair.state in (PairState.PROVEN, PairState.DOUBTED)


def _same_family(one: UdpAddress, other: UdpAddress) -> bool:
    return (":" in one.ip) == (":" in other.ip)
