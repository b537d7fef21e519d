"""A whole node, pure: wires the survey of its surroundings, its relays and its links together.

It decides nothing itself. What arrives is told apart by its first byte and given to whom it
belongs; what the machines want of the outside leaves as transmits and events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from peerway.core.budget import ProbeBudget
from peerway.core.demux import Kind, coalesce, split
from peerway.core.identity import SecretKey
from peerway.core.link import GatherWanted, Link
from peerway.core.links import LinkEvent, LinkGone, Links, Result
from peerway.core.machine import (
    Address,
    Composite,
    Datagram,
    Event,
    InterfaceAddress,
    OpenSocket,
    Output,
    RelayAddress,
    Rng,
    Transmit,
    UdpAddress,
)
from peerway.core.path.candidate import Candidate, CandidateKind
from peerway.core.path.events import CandidateLearned
from peerway.core.path.survey import Surroundings, SurroundingsChanged, Survey
from peerway.core.places import is_loopback
from peerway.core.portmap.lease import Lease
from peerway.core.portmap.mapper import MappedAddressesChanged, PortMapper
from peerway.core.portmap.report import GatewayReport, PortMapping
from peerway.core.quic.qh3_transport import Qh3Transport
from peerway.core.quic.session import QuicSession
from peerway.core.quic.transport import TransportFactory
from peerway.core.relay.connections import RelayConnections
from peerway.core.relay.keeper import RelayDown, RelayPackets, RelayPeerGone, RelayUp
from peerway.core.relay.url import RelayUrl
from peerway.core.signal.door import Admission
from peerway.core.ticket import Ticket

_SURVEY, _MAPPER, _RELAYS, _LINKS = "survey", "mapper", "relays", "links"


class NodeMachine(Composite[str]):
    """The machine behind `peerway.Node`.

    `relays` are kept connected: the nearest is home. `stun` are servers beside the relays' own, as
    (host, port). `static` are addresses we are configured to be reachable at. `transports` makes
    what streams stand on. With `portmap`, gateways are asked to map our ports. `relay_token` is shown
    to our own relays.
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
        transports: TransportFactory = Qh3Transport,
        portmap: bool = True,
        relay_token: str = "",
    ) -> None:
        super().__init__()
        self.key = key
        self.budget = ProbeBudget()
        self._questions: deque[Output] = deque()  # to STUN servers
        self._survey = Survey(rng, stun, static)
        self._adopt(_SURVEY, self._survey)
        own_relays = tuple(dict.fromkeys(str(RelayUrl.parse(url)) for url in relays))
        # whoever is met on this very machine needs no port of a gateway's
        at_home = bool(relays) and all(is_loopback(RelayUrl.parse(url).host) for url in relays)
        self._mapper = PortMapper(rng, active=portmap and not at_home)
        self._adopt(_MAPPER, self._mapper)
        self._sockets_asked: deque[str] = deque()  # by whom; the answers come in the same order
        self._relays = RelayConnections(own_relays, key, rng, relay_token)
        self._adopt(_RELAYS, self._relays)
        self._links = Links(key, admission or Admission(), self.budget, rng, transports)
        self._adopt(_LINKS, self._links)

    # --- from the operating system

    def start(self, sockets: tuple[UdpAddress, ...], now: float, leftovers: tuple[Lease, ...] = ()) -> None:
        """The UDP sockets are open: connect to the relays and gather.

        `leftovers` are mappings of runs that were killed, for their gateways to forget.
        """
        self._mapper.remember(leftovers, now)
        self._survey.start(sockets, now)
        for url in self._relays.own:
            self._keep_relay(url, now)
        self._survey_called(now)

    def interfaces_changed(self, addresses: tuple[InterfaceAddress, ...], now: float) -> None:
        """The machine's addresses are these now."""
        moved = self._survey.interfaces_changed(addresses, now)
        self._mapper.interfaces_changed(addresses, now)
        self._touch(_MAPPER)
        self._relays.network_changed(now, moved=bool(moved))
        self._touch(_RELAYS)
        self._survey_called(now)
        self._links.network_changed(moved, now)
        self._touch(_LINKS)
        self._settle(now)

    def socket_opened(self, interface: str, local: UdpAddress, now: float) -> None:
        """A socket that `OpenSocket` asked for."""
        asker = self._sockets_asked.popleft()
        if asker == _MAPPER:
            self._mapper.socket_opened(local, now)
        else:
            self._survey.socket_opened(interface, local, now)
        self._touch(asker)
        self._settle(now)

    def socket_failed(self, interface: str, ip: str, error: str, now: float) -> None:
        """A socket that `OpenSocket` asked for cannot be had."""
        self._drop(f"no socket: {error}")
        asker = self._sockets_asked.popleft()
        if asker == _MAPPER:
            self._mapper.socket_failed(error, now)
        else:
            self._survey.socket_failed(interface, ip)
        self._touch(asker)
        self._settle(now)

    def receive(self, datagram: Datagram, now: float) -> None:
        """Datagrams that came to one of our sockets."""
        if self._mapper.owns_socket(datagram.local):
            self._mapper.receive(datagram, now)
            self._touch(_MAPPER)
            self._settle(now)
            return
        for kind, data, segment_size in split(datagram.data, datagram.segment_size):
            if kind is Kind.STUN:
                self._stun_received(Datagram(data, datagram.remote, datagram.local, segment_size), now)
            else:
                self._links.receive(kind, data, segment_size, datagram.local, datagram.remote, now)
                self._touch(_LINKS)
        self._settle_when_polled(now)

    def _stun_received(self, datagram: Datagram, now: float) -> None:
        if self._mapper.stun_received(datagram, now):
            self._touch(_MAPPER)
        else:
            self._survey.receive(datagram, now)
            self._touch(_SURVEY)

    def transmit_failed(self, transmit: Transmit, error: str, now: float) -> None:
        """The system refused to send. Only the survey minds; the others notice that no answer comes."""
        self._drop(f"send: {error}")
        self._survey.transmit_failed(transmit, error, now)
        self._survey_called(now)

    def resolved(self, name: str, ips: tuple[str, ...], now: float) -> None:
        """The addresses of a STUN server's host."""
        self._survey.resolved(name, ips, now)
        self._survey_called(now)

    def stream_opened(self, stream: str, now: float) -> None:
        """A stream to a relay, or a gateway, stands."""
        if self._mapper.owns_stream(stream):
            self._mapper.stream_opened(stream, now)
            self._touch(_MAPPER)
        else:
            self._relays.stream_opened(stream, now)
        self._relays_called(now)

    def stream_data(self, stream: str, data: bytes, now: float) -> None:
        """Bytes from a relay, or a gateway."""
        if self._mapper.owns_stream(stream):
            self._mapper.stream_data(stream, data, now)
            self._touch(_MAPPER)
        else:
            self._relays.stream_data(stream, data, now)
        self._relays_called(now)

    def stream_closed(self, stream: str, error: str, now: float) -> None:
        """A stream to a relay, or a gateway, ended or could not be opened."""
        if self._mapper.owns_stream(stream):
            self._mapper.stream_closed(stream, error, now)
            self._touch(_MAPPER)
        else:
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

        When one with that node stands already, or the peer's own dial has proven itself, that one; a
        dial that is under way goes on, by this ticket as well. `TooManyConnections` at the limit.
        """
        number = self._links.connected_or_dialling(ticket.node_id)
        if number is None:
            self._links.require_room()
        elif self._links.ask(number, lambda link: link.is_proven or link.is_established):
            return number
        box_public = ticket.node_id.box_public()
        urls = [self._keep_relay(url, now) for url in ticket.relays or self._relays.own]
        routes: tuple[Address, ...] = tuple(RelayAddress(url, box_public) for url in urls)
        routes += ticket.addresses
        self._survey.refresh(now)
        self._touch(_SURVEY)
        if number is None:
            number = self._links.dial(ticket, routes, now)
        else:
            self._links.call(number, lambda link: link.dial_again(routes, ticket.secret, now), now)
        self._touch(_LINKS)
        self._settle(now)
        return number

    def call(self, number: int, use: Callable[[Link], Result], now: float) -> Result:
        """Use link `number`, and let what follows from it happen. `KeyError` when it was released.

        A link that is over can still be read from until `release`.
        """
        result = self._links.call(number, use, now)
        self._touch(_LINKS)
        self._settle(now)
        return result

    def with_session(self, number: int, use: Callable[[QuicSession], Result], now: float) -> Result:
        """Use the streams of link `number`; what follows from it happens when this is polled."""
        result = self._links.with_session(number, use, now)
        self._touch(_LINKS)
        self._settle_when_polled(now)
        return result

    def ask(self, number: int, question: Callable[[Link], Result]) -> Result:
        """What link `number` knows, or knew; to ask changes nothing. `KeyError` when it was released."""
        return self._links.ask(number, question)

    def release(self, number: int) -> None:
        """The link is over and what it held has been taken."""
        self._links.release(number)

    def leave(self, now: float) -> None:
        """Give back what would outlive us, mapped ports: `PortMappingsGivenBack` says when that is done."""
        self._mapper.leave(now)
        self._touch(_MAPPER)
        self._settle(now)

    def relay_state(self, url: str) -> tuple[bool, str]:
        """Whether the relay is connected, and the last error when it is not."""
        return self._relays.state(url)

    @property
    def home_relays(self) -> tuple[str, ...]:
        """The relays kept connected, in canonical form; the first is home."""
        return self._relays.own

    @property
    def connection_count(self) -> int:
        """Connections that stand, begin, or linger after their end."""
        return len(self._links)

    @property
    def surroundings(self) -> Surroundings:
        """What the node knows of itself."""
        return self._survey.surroundings

    @property
    def port_mappings(self) -> tuple[PortMapping, ...]:
        """The ports that gateways forward to us."""
        return self._mapper.mappings

    @property
    def gateways(self) -> tuple[GatewayReport, ...]:
        """What is known of the gateways around us."""
        return self._mapper.reports

    # --- relays and STUN servers

    def _keep_relay(self, text: str, now: float) -> str:
        """Have a connection to the relay kept; its URL in canonical form."""
        relay = RelayUrl.parse(text)
        if is_loopback(relay.host):
            self._survey.allow_loopback(now)
        self._relays.keep(relay, now)
        self._touch(_RELAYS)
        self._survey.add_server(relay.host, relay.stun_port, now)
        self._touch(_SURVEY)
        return str(relay)

    def _survey_called(self, now: float) -> None:
        self._touch(_SURVEY)
        self._settle(now)

    def _relays_called(self, now: float) -> None:
        self._touch(_RELAYS)
        self._settle(now)

    def poll_transmit(self) -> Output | None:
        """The next bytes to send: questions to STUN servers before anything to a peer.

        A router that keeps ports gives one that somebody uses with this server to nobody else; what
        it gives instead it shows the peer as well, if the server was first, and else does not.
        """
        if self._unsettled_at is not None:
            self._settle(self._unsettled_at)
        return self._questions.popleft() if self._questions else super().poll_transmit()

    # --- what the children say

    def _child_transmit(self, key: str, output: Output, now: float) -> None:
        if isinstance(output, Transmit) and isinstance(output.remote, RelayAddress):
            self._relays.send(output.remote, output.segments, now)
            self._touch(_RELAYS)
        elif key == _SURVEY:
            self._questions.append(output)
        else:
            self._transmits.append(output)

    def _child_event(self, key: str, event: Event, now: float) -> None:
        if isinstance(event, SurroundingsChanged):
            self._links.surroundings_changed(event.surroundings, now)
            self._mapper.set_sockets(event.surroundings.sockets, now)
            self._mapper.observed(self._survey.seen_by(), now)
            self._touch(_MAPPER)
        elif isinstance(event, MappedAddressesChanged):
            self._survey.set_mapped(event.addresses, now)
            self._touch(_SURVEY)
        elif isinstance(event, RelayPackets):
            self._relay_packets(event, now)
        elif isinstance(event, RelayPeerGone):
            self._links.peer_gone(RelayAddress(event.url, event.key), now)
        elif isinstance(event, GatherWanted):
            self._survey.refresh(now, force=event.force)
            self._touch(_SURVEY)
        elif isinstance(event, LinkGone):
            self._relays.forget_all_but(self._links.relays_needed(), now)
            self._touch(_RELAYS)
        else:
            if isinstance(event, RelayUp):
                self._links.relay_up(event.url, now)
            elif isinstance(event, RelayDown):
                self._links.relay_down(event.url, now)
            elif isinstance(event, OpenSocket):
                self._sockets_asked.append(key)
            elif isinstance(event, LinkEvent) and isinstance(event.event, CandidateLearned):
                self._candidate_learned(event.event.candidate, now)
            self._events.append(event)
        self._touch(_LINKS)

    def _candidate_learned(self, candidate: Candidate, now: float) -> None:
        """A peer that gets in from an address nobody named shows that something lets it."""
        near = self._survey.surroundings.policy.is_lan(candidate.address)
        if candidate.kind is CandidateKind.PEER_REFLEXIVE and not near:
            self._mapper.came_unasked(now)
            self._touch(_MAPPER)

    def _relay_packets(self, event: RelayPackets, now: float) -> None:
        source = RelayAddress(event.url, event.source)
        for data, size in coalesce(event.packets):
            for kind, part, segment_size in split(data, size):
                self._links.receive(kind, part, segment_size, None, source, now)
