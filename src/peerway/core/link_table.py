"""Which link a datagram, a signal or an event belongs to: the tables a node looks things up in."""

from __future__ import annotations

from collections.abc import Iterator

from peerway.core.identity import NodeId
from peerway.core.link import Link
from peerway.core.machine import Address, Rng

MAX_LINKS = 4096
MAX_PENDING = 256  # accepted hellos that have not become connections
MAX_PENDING_PER_SOURCE = 8
MAX_PENDING_PER_PEER = 8


class LinkTable:
    """Links by number, peer, probe index and QUIC connection id."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._links: dict[int, Link] = {}
        self._last = 0
        self._by_peer: dict[NodeId, list[int]] = {}
        self._by_index: dict[int, int] = {}
        self._index_of: dict[int, int] = {}
        self._by_connection_id: dict[bytes, int] = {}
        self._connection_ids: dict[int, dict[bytes, None]] = {}
        self._pending: dict[int, Address] = {}

    def __len__(self) -> int:
        return len(self._links)

    def __getitem__(self, number: int) -> Link:
        return self._links[number]

    def __iter__(self) -> Iterator[tuple[int, Link]]:
        return iter(list(self._links.items()))

    def get(self, number: int | None) -> Link | None:
        """The link with that number, None when it is over."""
        return None if number is None else self._links.get(number)

    def new_index(self) -> int:
        """An index, not 0, at which no link receives probes yet."""
        while (index := self._rng.randrange(1 << 32)) in self._by_index or index == 0:
            pass
        return index

    def add(self, link: Link, index: int, pending_from: Address | None = None) -> int:
        """Take in a link that receives probes at `index`; its number.

        `pending_from`: a hello from there began it, and it counts against the limits until `settled`.
        """
        self._last += 1
        number = self._last
        self._links[number] = link
        self._by_peer.setdefault(link.peer, []).append(number)
        self._by_index[index] = number
        self._index_of[number] = index
        self._connection_ids[number] = {}
        if pending_from is not None:
            self._pending[number] = pending_from
        return number

    def remove(self, number: int) -> None:
        """The link is over."""
        link = self._links.pop(number)
        numbers = self._by_peer[link.peer]
        numbers.remove(number)
        if not numbers:
            del self._by_peer[link.peer]
        del self._by_index[self._index_of.pop(number)]
        for connection_id in self._connection_ids.pop(number):
            self._by_connection_id.pop(connection_id, None)
        self.settled(number)

    @property
    def is_full(self) -> bool:
        """Whether no link at all can be added."""
        return len(self._links) >= MAX_LINKS

    def crowd(self, peer: NodeId, source: Address) -> list[int]:
        """The pending links of which one must go before `peer` can begin another from `source`.

        Oldest first; empty when there is room.
        """
        of_peer = [number for number in self._by_peer.get(peer, ()) if number in self._pending]
        of_source = [number for number, other in self._pending.items() if other == source]
        for crowd, most in (
            (of_peer, MAX_PENDING_PER_PEER),
            (of_source, MAX_PENDING_PER_SOURCE),
            (list(self._pending), MAX_PENDING),
        ):
            if len(crowd) >= most:
                return crowd
        return []

    def settled(self, number: int) -> None:
        """The link became a connection, or is over: it is not pending any more."""
        self._pending.pop(number, None)

    def of_peer(self, peer: NodeId) -> list[tuple[int, Link]]:
        """The links with `peer` that are not over, oldest first."""
        links = ((number, self._links[number]) for number in self._by_peer.get(peer, ()))
        return [(number, link) for number, link in links if not link.is_closed]

    def at_index(self, index: int) -> int | None:
        """The link that receives probes at `index`."""
        return self._by_index.get(index)

    def with_connection_id(self, connection_id: bytes) -> int | None:
        """The link that one of our QUIC connection ids belongs to."""
        return self._by_connection_id.get(connection_id)

    def issue(self, number: int, connection_id: bytes) -> bool:
        """`connection_id` leads to link `number` from now on; False when it leads elsewhere already."""
        if self._by_connection_id.setdefault(connection_id, number) != number:
            return False
        self._connection_ids[number][connection_id] = None
        return True

    def retire(self, number: int, connection_id: bytes) -> None:
        """`connection_id` leads nowhere any more."""
        if self._connection_ids[number].pop(connection_id, 0) is None:
            del self._by_connection_id[connection_id]
