"""A whole node, pure: wires the survey of its surroundings, its relays and its links together.

It decides nothing itself. What arrives is told apart by its first byte and given to whom it
belongs; what the machines want of the outside leaves as transmits and events.
"""

from __future__ import annotations

from collections.abc import Callable

from peerway.core.budget import ProbeBudget
from peerway.core.demux import Kind, coalesce, split
from peerway.core.identity import SecretKey
from peerway.core.ip import parse_ip
from peerway.core.link import GatherWanted, Link
from peerway.core.links import LinkGone, Links, Result
from peerway.core.machine import (
    Address,
    Composite,
    Datagram,
    Event,
    InterfaceAddress,
    Output,
    RelayAddress,
    Rng,
    Transmit,
    UdpAddress,
)
from peerway.core.path.survey import Surroundings, SurroundingsChanged, Survey
from peerway.core.quic.qh3_transport import Qh3Transport
from peerway.core.quic.transport import TransportFactory
from peerway.core.relay.connections import RelayConnections
from peerway.core.relay.keeper import RelayDown, RelayPackets, RelayPeerGone, RelayUp
from peerway.core.relay.url import RelayUrl
from peerway.core.signal.door import Admission
from peerway.core.ticket import Ticket

_SURVEY, _RELAYS, _LINKS = "survey", "relays", "links"


class NodeMachine(Composite[str]):
    """The machine behind `peerway.Node`.

    `relays` are kept connected: the nearest is home. `stun` are servers beside the relays' own, as
    (host, port). `static` are addresses we are configured to be reachable at. `transports` makes
    what streams stand on.
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
    ) -> None:
        super().__init__()
        self.key = key
        self.budget = ProbeBudget()
        self._survey = Survey(rng, stun, static)
        self._adopt(_SURVEY, self._survey)
        own_relays = tuple(dict.fromkeys(str(RelayUrl.parse(url)) for url in relays))
        self._relays = RelayConnections(own_relays, key.box_secret, rng)
        self._adopt(_RELAYS, self._relays)
        self._links = Links(key, admission or Admission(), self.budget, rng, transports)
        self._adopt(_LINKS, self._links)

    # --- from the operating system

    def start(self, sockets: tuple[UdpAddress, ...], now: float) -> None:
        """The UDP sockets are open: connect to the relays and gather."""
        self._survey.start(sockets, now)
        for url in self._relays.own:
            self._keep_relay(url, now)
        self._survey_called(now)

    def interfaces_changed(self, addresses: tuple[InterfaceAddress, ...], now: float) -> None:
        """The machine's addresses are these now."""
        moved = self._survey.interfaces_changed(addresses, now)
        self._relays.network_changed(now, moved=bool(moved))
        self._touch(_RELAYS)
        self._survey_called(now)
        self._links.network_changed(moved, now)
        self._touch(_LINKS)
        self._settle(now)

    def socket_opened(self, interface: str, local: UdpAddress, now: float) -> None:
        """A socket that `OpenSocket` asked for."""
        self._survey.socket_opened(interface, local, now)
        self._survey_called(now)

    def socket_failed(self, interface: str, ip: str, error: str, now: float) -> None:
        """A socket that `OpenSocket` asked for cannot be had."""
        self._drop(f"no socket: {error}")
        self._survey.socket_failed(interface, ip)

    def receive(self, datagram: Datagram, now: float) -> None:
        """Datagrams that came to one of our sockets."""
        for kind, data, segment_size in split(datagram.data, datagram.segment_size):
            if kind is Kind.STUN:
                self._survey.receive(Datagram(data, datagram.remote, datagram.local, segment_size), now)
                self._touch(_SURVEY)
            else:
                self._links.receive(kind, data, segment_size, datagram.local, datagram.remote, now)
                self._touch(_LINKS)
        self._settle(now)

    def transmit_failed(self, transmit: Transmit, error: str, now: float) -> None:
        """The system refused to send; the machines notice by the answer that stays out."""
        self._drop(f"send: {error}")

    def resolved(self, name: str, ips: tuple[str, ...], now: float) -> None:
        """The addresses of a STUN server's host."""
        self._survey.resolved(name, ips, now)
        self._survey_called(now)

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
        number = self._links.connected_or_dialling(ticket.node_id)
        if number is None:
            box_public = ticket.node_id.box_public()
            urls = [self._keep_relay(url, now) for url in ticket.relays or self._relays.own]
            routes: tuple[Address, ...] = tuple(RelayAddress(url, box_public) for url in urls)
            self._survey.refresh(now)
            self._touch(_SURVEY)
            number = self._links.dial(ticket, routes + ticket.addresses, now)
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

    def release(self, number: int) -> None:
        """The link is over and what it held has been taken."""
        self._links.release(number)

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

    # --- relays and STUN servers

    def _keep_relay(self, text: str, now: float) -> str:
        """Have a connection to the relay kept; its URL in canonical form."""
        relay = RelayUrl.parse(text)
        if _is_loopback(relay.host):
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

    # --- what the children say

    def _child_transmit(self, key: str, output: Output, now: float) -> None:
        if isinstance(output, Transmit) and isinstance(output.remote, RelayAddress):
            self._relays.send(output.remote, output.segments, now)
            self._touch(_RELAYS)
        else:
            self._transmits.append(output)

    def _child_event(self, key: str, event: Event, now: float) -> None:
        if isinstance(event, SurroundingsChanged):
            self._links.surroundings_changed(event.surroundings, now)
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
            self._events.append(event)
        self._touch(_LINKS)

    def _relay_packets(self, event: RelayPackets, now: float) -> None:
        source = RelayAddress(event.url, event.source)
        for data, size in coalesce(event.packets):
            for kind, part, segment_size in split(data, size):
                self._links.receive(kind, part, segment_size, None, source, now)


def _is_loopback(host: str) -> bool:
    """Whether the relay runs on this very machine, which then is the whole of the node's world."""
    try:
        return parse_ip(host).is_loopback
    except ValueError:
        return host == "localhost"
