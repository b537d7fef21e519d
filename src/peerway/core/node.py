"""A whole node, pure: wires gathering, relays, the door and the links together.

It decides nothing itself. What arrives is told apart by its first byte and given to whom it
belongs; what the machines want of the outside leaves as transmits and events. Links are
known to the caller by number; every event of one comes wrapped in `LinkEvent`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from peerway.core.budget import ProbeBudget
from peerway.core.demux import Kind, coalesce, connection_id_of, split
from peerway.core.identity import NodeId, SecretKey
from peerway.core.link import GatherWanted, Link, LinkClosed, LinkEnded, LinkEstablished, Surroundings
from peerway.core.links import LinkTable
from peerway.core.machine import (
    Address,
    CloseSocket,
    Composite,
    Datagram,
    Event,
    InterfaceAddress,
    Output,
    RelayAddress,
    Rng,
    Transmit,
    UdpAddress,
    WireError,
)
from peerway.core.path.candidate import networks_of
from peerway.core.path.gather import CandidatesChanged, Gatherer
from peerway.core.path.uplinks import Uplinks
from peerway.core.probe.message import index_of
from peerway.core.quic.events import ConnectionIdIssued, ConnectionIdRetired
from peerway.core.relay.connections import RelayConnections
from peerway.core.relay.keeper import RelayDown, RelayPackets, RelayPeerGone, RelayUp
from peerway.core.relay.url import RelayUrl
from peerway.core.signal.door import Admission, Door
from peerway.core.signal.message import Signal, sender_of
from peerway.core.signal.session import SignalSession
from peerway.core.ticket import Ticket

CODE_SUPERSEDED = 0x11

ChildKey = tuple[str, int]
Result = TypeVar("Result")
_GATHER: ChildKey = ("gather", 0)
_RELAYS: ChildKey = ("relays", 0)


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


class NodeMachine(Composite[ChildKey]):
    """The machine behind `peerway.Node`.

    `relays` are kept connected: the first is home. `stun` are servers beside the relays' own, as
    (host, port). `static` are addresses we are configured to be reachable at.
    """

    def __init__(
        self,
        key: SecretKey,
        rng: Rng,
        *,
        admission: Admission | None = None,
        relays: tuple[str, ...] = (),
        stun: tuple[tuple[str, int], ...] = (),
        static: tuple[UdpAddress, ...] = (),
    ) -> None:
        super().__init__()
        self.key = key
        self.budget = ProbeBudget()
        self._rng = rng
        self._door = Door(key, admission or Admission())
        self._home_relays = tuple(dict.fromkeys(str(RelayUrl.parse(url)) for url in relays))
        self._surroundings = Surroundings()
        self._gatherer = Gatherer(rng, static)
        for host, port in stun:
            self._gatherer.add_server(host, port)
        self._adopt(_GATHER, self._gatherer)
        self._relays = RelayConnections(self._home_relays, key.box_secret, rng)
        self._adopt(_RELAYS, self._relays)
        self._links = LinkTable(rng)
        self._first_sockets: tuple[UdpAddress, ...] = ()
        self._uplinks = Uplinks()
        self._unread: dict[int, Link] = {}

    # --- from the operating system

    def start(self, sockets: tuple[UdpAddress, ...], now: float) -> None:
        """The UDP sockets are open: connect to the relays and gather."""
        self._first_sockets = sockets
        self._set_sockets(now)
        for url in self._home_relays:
            self._keep_relay(url, now)
        self._settle(now)

    def interfaces_changed(self, addresses: tuple[InterfaceAddress, ...], now: float) -> None:
        """The machine's addresses are these now."""
        self._events.extend(self._uplinks.interfaces_changed(addresses))
        self._set_sockets(now)
        policy = replace(self._surroundings.policy, networks=networks_of(addresses))
        self._surroundings = replace(self._surroundings, policy=policy)
        self._gatherer.set_interfaces(addresses, now)
        self._refresh(now, force=True)
        self._relays.retry_all(now)
        self._touch(_RELAYS)
        for number, link in self._links:
            link.surroundings_changed(self._surroundings, now)
            link.network_changed(now)
            self._touch(("link", number))
        self._settle(now)

    def socket_opened(self, interface: str, local: UdpAddress, now: float) -> None:
        """A socket that `OpenSocket` asked for."""
        if self._uplinks.socket_opened(interface, local):
            self._set_sockets(now)
        else:
            self._events.append(CloseSocket(local))
        self._settle(now)

    def receive(self, datagram: Datagram, now: float) -> None:
        """Datagrams that came to one of our sockets."""
        for kind, data, segment_size in split(datagram.data, datagram.segment_size):
            if kind is Kind.STUN:
                self._gatherer.receive(replace(datagram, data=data, segment_size=segment_size), now)
                self._touch(_GATHER)
            else:
                self._dispatch(kind, data, segment_size, datagram.local, datagram.remote, now)
        self._settle(now)

    def transmit_failed(self, transmit: Transmit, error: str, now: float) -> None:
        """The system refused to send; the machines notice by the answer that stays out."""
        self._drop(f"send: {error}")

    def resolved(self, name: str, ips: tuple[str, ...], now: float) -> None:
        """The addresses of a STUN server's host."""
        self._gatherer.resolved(name, ips, now)
        self._touch(_GATHER)
        self._settle(now)

    def stream_opened(self, stream: str, now: float) -> None:
        """A stream to a relay stands."""
        self._relays.stream_opened(stream, now)
        self._relays_called(now)

    def stream_data(self, stream: str, data: bytes, now: float) -> None:
        """Bytes from a relay."""
        self._relays.stream_data(stream, data, now)
        self._relays_called(now)

    def stream_closed(self, stream: str, error: str, now: float) -> None:
        """A stream to a relay ended or could not be opened."""
        self._relays.stream_closed(stream, error, now)
        self._relays_called(now)

    def stream_paused(self, stream: str, now: float) -> None:
        """A stream to a relay takes no more for now."""
        self._relays.stream_paused(stream, now)
        self._relays_called(now)

    def stream_resumed(self, stream: str, now: float) -> None:
        """A stream to a relay takes bytes again."""
        self._relays.stream_resumed(stream, now)
        self._relays_called(now)

    # --- from the application

    def dial(self, ticket: Ticket, now: float) -> int:
        """Begin a connection with the ticket's node; the number of its link.

        When one with that node stands already, or the peer's own dial has proven itself, that one.
        """
        for number, link in self._links.of_peer(ticket.node_id):
            if link.is_established or link.is_proven or link.dialled:
                return number
        box_public = ticket.node_id.box_public()
        routes: list[Address] = [
            RelayAddress(self._keep_relay(url, now), box_public) for url in ticket.relays or self._home_relays
        ]
        routes.extend(ticket.addresses)
        self._refresh(now)
        index = self._links.new_index()
        session = SignalSession(
            self.key, ticket.node_id, self._door.shared_with(ticket.node_id), index, self._rng
        )
        link = Link.dial(
            self.key, session, tuple(routes), ticket.secret, self._surroundings, self.budget, now
        )
        number = self._adopt_link(link, index)
        self._settle(now)
        return number

    def call(self, number: int, use: Callable[[Link], Result], now: float) -> Result:
        """Use link `number`, and let what follows from it happen. `KeyError` when it was released.

        A link that is over can still be read from until `release`.
        """
        link = self._links.get(number)
        if link is None:
            return use(self._unread[number])
        result = use(link)
        self._touch(("link", number))
        self._settle(now)
        return result

    def release(self, number: int) -> None:
        """The link is over and what it held has been taken."""
        self._unread.pop(number, None)

    def relay_state(self, url: str) -> tuple[bool, str]:
        """Whether the relay is connected, and the last error when it is not."""
        return self._relays.state(url)

    @property
    def home_relays(self) -> tuple[str, ...]:
        """The relays kept connected, in canonical form; the first is home."""
        return self._home_relays

    @property
    def surroundings(self) -> Surroundings:
        """What the node knows of itself."""
        return self._surroundings

    # --- telling apart what arrives

    def _dispatch(
        self,
        kind: Kind,
        data: bytes,
        segment_size: int,
        local: UdpAddress | None,
        remote: Address,
        now: float,
    ) -> None:
        if kind is Kind.QUIC:
            self._quic_received(data, segment_size, local, remote, now)
            return
        for segment in Datagram(data, remote, local, segment_size).segments():
            try:
                if kind is Kind.SIGNAL:
                    self._signal_received(segment, remote, now)
                elif kind is Kind.PROBE:
                    self._probe_received(segment, local, remote, now)
                else:
                    raise WireError(f"{kind.name.lower()}: nobody waits for it")
            except WireError as error:
                self._drop(str(error))

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
            self._drop(str(error))
            return
        number = self._links.with_connection_id(connection_id)
        if number is None:
            self._drop("quic: no connection has this id")
            return
        self._links[number].quic_received(data, segment_size, local, remote, now)
        self._touch(("link", number))

    def _probe_received(self, data: bytes, local: UdpAddress | None, remote: Address, now: float) -> None:
        number = self._links.at_index(index_of(data))
        if number is None:
            raise WireError("probe: no exchange has this index")
        self._links[number].probe_received(data, local, remote, now)
        self._touch(("link", number))

    def _signal_received(self, data: bytes, source: Address, now: float) -> None:
        sender = sender_of(data)
        known = self._links.of_peer(sender)
        if known:
            signal = self._door.open_known(data, sender)
        else:
            signal = self._door.open_stranger(data, sender, source, now)
        for number, link in known:
            if signal.echo == link.secret or (not signal.echo and signal.secret == link.peer_secret):
                link.signal_received(signal, source, now)
                self._touch(("link", number))
                return
        if signal.echo:
            raise WireError("signal: its echo is of no exchange of ours")
        self._hello_received(signal, source, known, now)

    def _hello_received(
        self, hello: Signal, source: Address, known: list[tuple[int, Link]], now: float
    ) -> None:
        """Somebody wants to begin. When we dial the same node, the lower node id's dial goes on."""
        dial = next((number for number, link in known if link.dialled and not link.is_established), None)
        if dial is not None and self.key.node_id < hello.sender:
            self._links[dial].add_route(source, now)
            self._touch(("link", dial))
            return
        if dial is None and not self._door.admits(hello):
            raise WireError("signal: hello of somebody we do not admit")
        if not hello.body.dial:
            raise WireError("signal: hello without a dial")
        if not self._links.has_room_for(source):
            raise WireError("signal: too many exchanges begun")
        self._refresh(now)
        index = self._links.new_index()
        session = SignalSession(
            self.key, hello.sender, self._door.shared_with(hello.sender), index, self._rng
        )
        link = Link.accept(self.key, session, hello, source, self._surroundings, self.budget, now)
        number = self._adopt_link(link, index, pending_from=source)
        if dial is not None:
            self._move_dial(dial, number, now)

    # --- relays and STUN servers

    def _keep_relay(self, text: str, now: float) -> str:
        """Have a connection to the relay kept; its URL in canonical form."""
        relay = RelayUrl.parse(text)
        if _is_loopback(relay.host):
            policy = replace(self._surroundings.policy, loopback=True)
            self._surroundings = replace(self._surroundings, policy=policy)
        self._relays.keep(relay, now)
        self._touch(_RELAYS)
        self._gatherer.add_server(relay.host, relay.stun_port)
        self._touch(_GATHER)
        return str(relay)

    def _set_sockets(self, now: float) -> None:
        sockets = self._first_sockets + self._uplinks.sockets
        if sockets == self._surroundings.sockets:
            return
        self._surroundings = replace(self._surroundings, sockets=sockets)
        self._gatherer.set_sockets(sockets, now)
        self._touch(_GATHER)
        for number, link in self._links:
            link.surroundings_changed(self._surroundings, now)
            self._touch(("link", number))

    def _refresh(self, now: float, *, force: bool = False) -> None:
        self._gatherer.refresh(now, force=force)
        self._touch(_GATHER)

    def _relays_called(self, now: float) -> None:
        self._touch(_RELAYS)
        self._settle(now)

    def _forget_relays(self, now: float) -> None:
        """Let go of relays that only a connection that is over needed."""
        needed = {
            route.url for _, link in self._links for route in link.routes if isinstance(route, RelayAddress)
        }
        self._relays.forget_all_but(needed, now)
        self._touch(_RELAYS)

    # --- what the children say

    def _child_transmit(self, key: ChildKey, output: Output, now: float) -> None:
        if isinstance(output, Transmit) and isinstance(output.remote, RelayAddress):
            self._relays.send(output.remote, output.segments, now)
            self._touch(_RELAYS)
        else:
            self._transmits.append(output)

    def _child_event(self, key: ChildKey, event: Event, now: float) -> None:
        if key == _RELAYS:
            self._relay_event(event, now)
        elif key != _GATHER:
            self._link_event(key[1], event, now)
        else:
            if isinstance(event, CandidatesChanged):
                self._surroundings = replace(
                    self._surroundings,
                    candidates=event.candidates,
                    gathered=event.complete,
                    mapping=event.mapping,
                )
                for number, link in self._links:
                    link.surroundings_changed(self._surroundings, now)
                    self._touch(("link", number))
            self._events.append(event)

    def _relay_event(self, event: Event, now: float) -> None:
        if isinstance(event, RelayPackets):
            source = RelayAddress(event.url, event.source)
            for data, size in coalesce(event.packets):
                for kind, part, segment_size in split(data, size):
                    self._dispatch(kind, part, segment_size, None, source, now)
            return
        if isinstance(event, RelayPeerGone):
            gone = RelayAddress(event.url, event.key)
            for number, link in self._links:
                if gone in link.routes:
                    link.verify(now)
                    self._touch(("link", number))
            return
        if isinstance(event, RelayUp | RelayDown):
            for number, link in self._links:
                if isinstance(event, RelayUp):
                    link.relay_up(event.url, now)
                else:
                    link.relay_down(event.url, now)
                self._touch(("link", number))
        self._events.append(event)

    def _link_event(self, number: int, event: Event, now: float) -> None:
        link = self._links.get(number)
        if link is None:
            return
        if isinstance(event, ConnectionIdIssued):
            if not self._links.issue(number, event.connection_id):
                self._drop("quic: a connection id that is in use")
        elif isinstance(event, ConnectionIdRetired):
            self._links.retire(number, event.connection_id)
        elif isinstance(event, GatherWanted):
            self._refresh(now, force=True)
        elif isinstance(event, LinkEnded):
            self._remove_link(number, now)
        else:
            if isinstance(event, LinkEstablished):
                self._established(number, link, now)
            self._events.append(LinkEvent(number, link.peer, event))
            if isinstance(event, LinkClosed):
                self._links.settled(number)
                self._unread[number] = link

    def _established(self, number: int, link: Link, now: float) -> None:
        """The peer's newest proven connection takes the place of older ones and of our own dials."""
        self._links.settled(number)
        for other, rival in self._links.of_peer(link.peer):
            if other == number:
                continue
            if rival.is_established:
                rival.close(CODE_SUPERSEDED, "the peer began a new connection", now)
                self._touch(("link", other))
            elif rival.dialled:
                self._move_dial(other, number, now)

    def _move_dial(self, number: int, successor: int, now: float) -> None:
        self._events.append(DialMoved(number, successor))
        self._remove_link(number, now)

    def _adopt_link(self, link: Link, index: int, pending_from: Address | None = None) -> int:
        number = self._links.add(link, index, pending_from)
        self._adopt(("link", number), link)
        for connection_id in link.connection_ids:  # its first packets may come with the hello
            self._links.issue(number, connection_id)
        return number

    def _remove_link(self, number: int, now: float) -> None:
        self._links.remove(number)
        self._release(("link", number))
        self._forget_relays(now)


def _is_loopback(host: str) -> bool:
    """Whether the relay runs on this very machine, which then is the whole of the node's world."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
