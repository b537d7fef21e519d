"""All connections of a node: who may begin one, and which of them a datagram belongs to.

Links are known by number, also to the application; every event of one leaves wrapped in
`LinkEvent`. What is decided here is only who gives way: when both sides dial at once the dial
of the lower node id goes on, and a peer's newest proven connection takes the place of older ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from peerway.core.budget import DialBudget, ProbeBudget
from peerway.core.demux import Kind, connection_id_of
from peerway.core.identity import NodeId, SecretKey
from peerway.core.link import GatherWanted, Link, LinkClosed, LinkEnded, LinkEstablished
from peerway.core.link_table import MAX_LINKS, LinkTable
from peerway.core.machine import (
    Address,
    Composite,
    Datagram,
    Event,
    PeerwayError,
    RelayAddress,
    Rng,
    UdpAddress,
    WireError,
)
from peerway.core.path.survey import Surroundings
from peerway.core.probe.message import index_of
from peerway.core.quic.events import ConnectionIdIssued, ConnectionIdRetired
from peerway.core.quic.session import QuicSession
from peerway.core.quic.transport import TransportFactory
from peerway.core.signal.door import Admission, Door
from peerway.core.signal.message import RUN_SIZE, Birth, Signal, sender_of
from peerway.core.signal.session import SignalSession
from peerway.core.ticket import Ticket

CODE_SUPERSEDED = 0x11
MAX_SPENT_SECRETS = 1024  # of exchanges that are over; the oldest is forgotten

Result = TypeVar("Result")


class TooManyConnections(PeerwayError):
    """The node has as many connections as it can have."""


@dataclass(frozen=True, slots=True)
class LinkEvent(Event):
    """Something happened to link number `link`, whose other end is `peer`."""

    link: int
    peer: NodeId
    event: Event


@dataclass(frozen=True, slots=True)
class DialMoved(Event):
    """Both dialled at once: the dial `link` is given up for `successor`, which the peer began."""

    link: int
    successor: int


@dataclass(frozen=True, slots=True)
class LinkGone(Event):
    """A link is over for good: what only it needed can be let go."""

    link: int


class Links(Composite[int]):
    """The connections of the node whose key is `key`. `budget` is what their probes may spend."""

    def __init__(
        self,
        key: SecretKey,
        admission: Admission,
        budget: ProbeBudget,
        rng: Rng,
        transports: TransportFactory,
    ) -> None:
        super().__init__()
        self._key = key
        self._transports = transports
        self._rng = rng
        self._budget = budget
        self._door = Door(key, admission)
        self._dials = DialBudget()
        self._table = LinkTable(rng)
        self._unread: dict[int, Link] = {}
        self._run = rng.randbytes(RUN_SIZE)
        self._exchanges = 0
        self._spent: dict[tuple[NodeId, bytes], None] = {}
        self._surroundings = Surroundings()

    def __len__(self) -> int:
        return len(self._table)

    # --- from the application

    def connected_or_dialling(self, peer: NodeId) -> int | None:
        """The link with `peer` that stands, or will if the peer is there; None when there is none."""
        for number, link in self._table.of_peer(peer):
            if link.is_established or link.is_proven or link.dialled:
                return number
        return None

    def require_room(self) -> None:
        """`TooManyConnections` when no other can be begun."""
        if self._table.is_full:
            raise TooManyConnections(f"this node has {MAX_LINKS} connections, its limit: close some first")

    def dial(self, ticket: Ticket, routes: tuple[Address, ...], now: float) -> int:
        """Begin a connection with the ticket's node, who can be met at `routes`; the number of its link."""
        index = self._table.new_index()
        session = self._new_session(ticket.node_id, index)
        quic = QuicSession.dial(self._key, ticket.node_id, now, self._transports)
        around, budget, rng = self._surroundings, self._budget, self._rng
        link = Link.dial(self._key, session, quic, routes, ticket.secret, around, budget, rng, now)
        number = self._adopt_link(link, index)
        self._settle(now)
        return number

    def call(self, number: int, use: Callable[[Link], Result], now: float) -> Result:
        """Use link `number`, and let what follows from it happen. `KeyError` when it was released.

        A link that is over can still be read from until `release`.
        """
        link = self._table.get(number)
        if link is None:
            return use(self._unread[number])
        result = use(link)
        self._touch(number)
        self._settle(now)
        return result

    def with_session(self, number: int, use: Callable[[QuicSession], Result], now: float) -> Result:
        """Use the streams of link `number`; what follows from it happens when this is polled."""
        link = self._table.get(number)
        if link is None:
            return self._unread[number].with_session(use, now)
        result = link.with_session(use, now)
        self._touch(number)
        self._settle_when_polled(now)
        return result

    def ask(self, number: int, question: Callable[[Link], Result]) -> Result:
        """What link `number` knows, or knew; to ask changes nothing. `KeyError` when it was released."""
        link = self._table.get(number)
        return question(self._unread[number] if link is None else link)

    def release(self, number: int) -> None:
        """The link is over and what it held has been taken."""
        self._unread.pop(number, None)

    # --- what has changed around us

    def surroundings_changed(self, surroundings: Surroundings, now: float) -> None:
        """What the node knows of itself."""
        self._surroundings = surroundings
        self._each(lambda link: link.surroundings_changed(surroundings, now), now)

    def network_changed(self, moved: Collection[int], now: float) -> None:
        """The machine's addresses or routes changed; in the families `moved` it sends from elsewhere."""
        self._each(lambda link: link.network_changed(moved, now), now)

    def relay_up(self, url: str, now: float) -> None:
        """A relay stands again."""
        self._each(lambda link: link.relay_up(url, now), now)

    def relay_down(self, url: str, now: float) -> None:
        """The connection to a relay is gone."""
        self._each(lambda link: link.relay_down(url, now), now)

    def peer_gone(self, relay: RelayAddress, now: float) -> None:
        """A relay says that it has no such client: see whether the peer still answers."""
        self._each(lambda link: link.verify(now) if relay in link.routes else None, now)

    def relays_needed(self) -> set[str]:
        """The URLs of the relays on which peers are met."""
        return {
            route.url for _, link in self._table for route in link.routes if isinstance(route, RelayAddress)
        }

    def _each(self, use: Callable[[Link], None], now: float) -> None:
        for number, link in self._table:
            use(link)
            self._touch(number)
        self._settle(now)

    # --- what arrives

    def receive(
        self,
        kind: Kind,
        data: bytes,
        segment_size: int,
        local: UdpAddress | None,
        remote: Address,
        now: float,
    ) -> None:
        """Datagrams of one kind; `segment_size` is 0 for a single one."""
        if kind is Kind.QUIC:
            self._quic_received(data, segment_size, local, remote, now)
            self._settle_when_polled(now)
        else:
            self._others_received(kind, Datagram(data, remote, local, segment_size), now)
            self._settle(now)  # QUIC's first datagrams may come right behind the hello that names them

    def _others_received(self, kind: Kind, datagram: Datagram, now: float) -> None:
        for segment in datagram.segments():
            try:
                if kind is Kind.SIGNAL:
                    self._signal_received(segment, datagram.remote, now)
                elif kind is Kind.PROBE:
                    self._probe_received(segment, datagram.local, datagram.remote, now)
                else:
                    raise WireError(f"{kind.name.lower()}: nobody waits for it")
            except WireError as error:
                self._drop(error.reason)

    def _quic_received(
        self, data: bytes, segment_size: int, local: UdpAddress | None, remote: Address, now: float
    ) -> None:
        try:
            connection_id = connection_id_of(data)
            if segment_size:
                last = data[(len(data) - 1) // segment_size * segment_size :]
                if connection_id_of(last) != connection_id:
                    for start in range(0, len(data), segment_size):
                        self._quic_received(data[start : start + segment_size], 0, local, remote, now)
                    return
        except WireError as error:
            self._drop(error.reason)
            return
        number = self._table.with_connection_id(connection_id)
        if number is None:
            self._drop("quic: no connection has this id")
            return
        self._table[number].quic_received(data, segment_size, local, remote, now)
        self._touch(number)

    def _probe_received(self, data: bytes, local: UdpAddress | None, remote: Address, now: float) -> None:
        number = self._table.at_index(index_of(data))
        if number is None:
            raise WireError("probe: no exchange has this index")
        self._table[number].probe_received(data, local, remote, now)
        self._touch(number)

    def _signal_received(self, data: bytes, source: Address, now: float) -> None:
        sender = sender_of(data)
        known = self._table.of_peer(sender)
        if known:
            is_route = any(source in link.routes for _, link in known)
            signal = self._door.open_known(data, sender, source, now, is_route=is_route)
        else:
            signal = self._door.open_stranger(data, sender, source, now)
        for number, link in known:
            if signal.echo == link.secret or (not signal.echo and signal.secret == link.peer_secret):
                link.signal_received(signal, source, now)
                self._touch(number)
                if link.is_proven and not link.dialled:
                    self._peer_began(number, link)
                return
        if signal.echo:
            raise WireError("signal: its echo is of no exchange of ours")
        self._hello_received(signal, source, known, now)

    def _hello_received(
        self, hello: Signal, source: Address, known: list[tuple[int, Link]], now: float
    ) -> None:
        """Somebody wants to begin, or somebody replays that he once did: nothing gives way to that yet.

        When we dial the same node and have the lower node id, it is ours that goes on.
        """
        if (hello.sender, hello.secret) in self._spent:
            raise WireError("signal: hello of an exchange that is over")
        dial = next((number for number, link in known if link.dialled and not link.is_established), None)
        if dial is not None and self._key.node_id < hello.sender:
            self._table[dial].learn_route(source, now)
            self._touch(dial)
            return
        if any(hello.body.born.is_before(link.peer_born) for _, link in known):
            # the peer knew it when it entered the other: it has not begun anew, both dialled at once
            raise WireError("signal: hello of an exchange older than one that stands")
        if dial is None and not self._door.admits(hello):
            raise WireError("signal: hello of somebody we do not admit")
        if not hello.body.dial:
            raise WireError("signal: hello without a dial")
        if not self._dials.allows(hello.sender, source, now):
            raise WireError("signal: too many dials")
        self._make_room(hello.sender, source, now)
        if self._table.is_full:
            raise WireError("signal: too many links")
        self._events.append(GatherWanted())
        index = self._table.new_index()
        session = self._new_session(hello.sender, index)
        quic = QuicSession.accept(self._key, hello.sender, hello.body.dial, now, self._transports)
        around, budget, rng = self._surroundings, self._budget, self._rng
        link = Link.accept(self._key, session, quic, hello, source, around, budget, rng, now)
        self._adopt_link(link, index, pending_from=source)

    def _make_room(self, peer: NodeId, source: Address, now: float) -> None:
        """The oldest of a crowd gives way, first of those that have proven nothing.

        To refuse the new ones instead would let a few replayed hellos keep their sender out.
        """
        while crowd := self._table.crowd(peer, source):
            unproven = [number for number in crowd if not self._table[number].is_proven]
            oldest = (unproven or crowd)[0]
            self._drop("signal: an exchange that gave way to a newer one")
            self._table.settled(oldest)
            self._table[oldest].abandon(now, "it gave way to a newer one")
            self._touch(oldest)

    def _peer_began(self, number: int, link: Link) -> None:
        """The peer of a link that it began is there. When we dial it, the lower node id's dial goes on."""
        if link.peer < self._key.node_id:
            for other, rival in self._table.of_peer(link.peer):
                if rival.dialled and not rival.is_established:
                    self._move_dial(other, number)

    # --- what the links say

    def _child_event(self, key: int, event: Event, now: float) -> None:
        number, link = key, self._table.get(key)
        if link is None:
            return
        if isinstance(event, ConnectionIdIssued):
            if not self._table.issue(number, event.connection_id):
                self._drop("quic: a connection id that is in use")
        elif isinstance(event, ConnectionIdRetired):
            self._table.retire(number, event.connection_id)
        elif isinstance(event, GatherWanted):
            self._events.append(event)
        elif isinstance(event, LinkEnded):
            self._remove_link(number)
        else:
            if isinstance(event, LinkEstablished):
                self._established(number, link, now)
            self._events.append(LinkEvent(number, link.peer, event))
            if isinstance(event, LinkClosed):
                self._table.settled(number)
                self._unread[number] = link
                self._spend(link)

    def _established(self, number: int, link: Link, now: float) -> None:
        """The peer's newest proven connection takes the place of older ones and of our own dials."""
        self._table.settled(number)
        for other, rival in self._table.of_peer(link.peer):
            if other == number:
                continue
            if rival.is_established:
                rival.close(CODE_SUPERSEDED, "the peer began a new connection", now)
                self._touch(other)
            elif rival.dialled:
                self._move_dial(other, number)

    def _move_dial(self, number: int, successor: int) -> None:
        self._events.append(DialMoved(number, successor))
        self._remove_link(number)

    def _adopt_link(self, link: Link, index: int, pending_from: Address | None = None) -> int:
        number = self._table.add(link, index, pending_from)
        self._adopt(number, link)
        return number

    def _new_session(self, peer: NodeId, index: int) -> SignalSession:
        self._exchanges += 1
        born = Birth(self._run, self._exchanges)
        return SignalSession(self._key, peer, self._door.shared_with(peer), index, self._rng, born)

    def _spend(self, link: Link) -> None:
        # a hello that took a slow way, or that somebody repeats, begins nothing any more
        self._spent[link.peer, link.peer_secret] = None
        if len(self._spent) > MAX_SPENT_SECRETS:
            del self._spent[next(iter(self._spent))]

    def _remove_link(self, number: int) -> None:
        self._table.remove(number)
        self._release(number)
        self._events.append(LinkGone(number))
