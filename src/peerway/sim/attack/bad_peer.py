"""A peer who is admitted and then does as it likes within the protocol.

It speaks signals, probes and the transport well enough to be taken for a peer, over a relay and
from an address of its own. What it does beyond that is its `Manners` (`peerway.sim.attack.manners`).
"""

from __future__ import annotations

from dataclasses import dataclass

from peerway.core.demux import Kind, connection_id_of, split
from peerway.core.identity import SecretKey
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
    WireError,
)
from peerway.core.path.candidate import Candidate, CandidateKind
from peerway.core.probe.message import (
    FULL_SIZE,
    TOKEN_SIZE,
    Ping,
    Pong,
    ProbeOpener,
    ProbeSealer,
    derive_keys,
    index_of,
    observed_address,
)
from peerway.core.quic.session import QuicSession
from peerway.core.quic.transport import TransportFactory
from peerway.core.relay.connections import RelayConnections
from peerway.core.relay.keeper import RelayPackets
from peerway.core.relay.url import RelayUrl
from peerway.core.signal.message import parse
from peerway.core.signal.session import PeerProven, SignalSession
from peerway.core.ticket import Ticket
from peerway.sim.attack.attacker import same_family
from peerway.sim.attack.manners import Manners
from peerway.sim.network.host import Host
from peerway.sim.network.interfaces import WILDCARDS
from peerway.sim.network.world import World

EXCHANGES_KEPT = 64


@dataclass(frozen=True, slots=True)
class Forged(Event):
    """Send this in the name of `source`."""

    source: UdpAddress
    destination: UdpAddress
    data: bytes


@dataclass(slots=True)
class _Exchange:
    """One dial: its signals, its transport, and its probes once the victim has proven itself."""

    signals: SignalSession
    quic: QuicSession
    sealer: ProbeSealer | None = None
    opener: ProbeOpener | None = None
    met_at: UdpAddress | None = None
    tokens: tuple[bytes, ...] = ()


class BadPeerMachine(Composite[str]):
    """Dials the ticket's node at once, and behaves by its manners towards it."""

    def __init__(
        self, key: SecretKey, ticket: Ticket, manners: Manners, transports: TransportFactory, rng: Rng
    ) -> None:
        super().__init__()
        self.key = key
        self._victim = ticket.node_id
        self._ticket = ticket
        self._manners = manners
        self._transports = transports
        self._rng = rng
        self._shared = key.shared_with(ticket.node_id.box_public())
        self._exchanges: dict[int, _Exchange] = {}
        self._dials = 0
        self._changes = 0
        self._own: tuple[Candidate, ...] = ()
        urls = tuple(str(RelayUrl.parse(url)) for url in ticket.relays)
        box_public = ticket.node_id.box_public()
        self._routes = tuple(RelayAddress(url, box_public) for url in urls) + ticket.addresses
        self._relays = RelayConnections(urls, key, rng)
        self._adopt("relays", self._relays)

    # --- inputs

    def start(self, own: tuple[UdpAddress, ...], now: float) -> None:
        """Connect to the relays and dial; `own` are the addresses that we have ourselves."""
        self._own = tuple(Candidate(CandidateKind.HOST, address) for address in own)
        for route in self._routes:
            if isinstance(route, RelayAddress):
                self._relays.keep(RelayUrl.parse(route.url), now)
        self._dial(now)
        if len(self._manners.named) > 1:
            self._timers.set("change", now + self._manners.each_s)
        if self._manners.forged_per_s:
            self._timers.set("forge", now + 1 / self._manners.forged_per_s)
        if self._manners.dials_per_s:
            self._timers.set("dial", now + 1 / self._manners.dials_per_s)
        self._finish(now)

    def interfaces_changed(self, addresses: tuple[InterfaceAddress, ...], now: float) -> None:
        """Of no interest."""

    def stream_opened(self, stream: str, now: float) -> None:
        """A relay's."""
        self._relays.stream_opened(stream, now)
        self._finish(now)

    def stream_data(self, stream: str, data: bytes, now: float) -> None:
        """A relay's."""
        self._relays.stream_data(stream, data, now)
        self._finish(now)

    def stream_closed(self, stream: str, error: str, now: float) -> None:
        """A relay's."""
        self._relays.stream_closed(stream, error, now)
        self._finish(now)

    def receive(self, datagram: Datagram, now: float) -> None:
        """Datagrams to our socket."""
        self._received(datagram.data, datagram.segment_size, datagram.remote, now)
        self._finish(now)

    # --- the protocol

    def _dial(self, now: float) -> None:
        self._dials += 1
        number = self._dials
        signals = SignalSession(self.key, self._victim, self._shared, number, self._rng)
        quic = QuicSession.dial(self.key, self._victim, now, self._transports)
        self._exchanges[number] = _Exchange(signals, quic)
        self._adopt(f"signals {number}", signals)
        self._adopt(f"quic {number}", quic)
        signals.set_candidates(self._candidates(), now)
        for route in self._routes:
            signals.add_route(route, now)
        signals.dial(quic.original_destination_connection_id, self._ticket.secret, now)
        if len(self._exchanges) > EXCHANGES_KEPT:
            oldest = next(iter(self._exchanges))
            del self._exchanges[oldest]
            self._release(f"signals {oldest}")
            self._release(f"quic {oldest}")

    def _candidates(self) -> tuple[Candidate, ...]:
        named = self._manners.named
        if not named:
            return self._own
        return tuple(
            Candidate(CandidateKind.REFLEXIVE, address) for address in named[self._changes % len(named)]
        )

    def _received(self, data: bytes, size: int, remote: Address, now: float) -> None:
        for kind, part, segment_size in split(data, size):
            for packet in Datagram(part, remote, None, segment_size).segments():
                try:
                    self._take(kind, packet, remote, now)
                except WireError as error:
                    self._drop(str(error))

    def _take(self, kind: Kind, packet: bytes, remote: Address, now: float) -> None:
        if kind is Kind.SIGNAL:
            signal = parse(packet, self.key, self._shared)
            for number, exchange in self._exchanges.items():
                if signal.echo == exchange.signals.secret:
                    exchange.signals.receive(signal, remote, now)
                    self._touch(f"signals {number}")
        elif kind is Kind.PROBE:
            probed = self._exchanges.get(index_of(packet))
            if probed is not None and probed.opener is not None:
                self._probe(probed, probed.opener, packet, remote, now)
        elif kind is Kind.QUIC:
            connection_id = connection_id_of(packet)
            for number, exchange in self._exchanges.items():
                if connection_id in exchange.quic.connection_ids:
                    exchange.quic.receive(packet, 0, now)
                    self._touch(f"quic {number}")

    def _probe(
        self, exchange: _Exchange, opener: ProbeOpener, packet: bytes, remote: Address, now: float
    ) -> None:
        probe = opener.open(packet)
        if isinstance(remote, UdpAddress):
            exchange.met_at = remote
        if isinstance(probe.message, Ping):
            exchange.tokens = (*exchange.tokens[-3:], probe.message.token)
            if self._manners.answers:
                pong = Pong(probe.message.token, 0, observed_address(remote))
                self._say(exchange, pong, remote, now)
            if self._manners.pings:
                self._say(exchange, Ping(self._rng.randbytes(TOKEN_SIZE)), remote, now)

    def _say(self, exchange: _Exchange, message: Ping | Pong, remote: Address, now: float) -> None:
        if exchange.sealer is not None:
            self._route(Transmit((exchange.sealer.seal(message)[1],), remote), now)

    # --- the manners

    def _timer_expired(self, name: str, now: float) -> None:
        manners = self._manners
        if name == "change":
            self._changes += 1
            for number, exchange in self._exchanges.items():
                exchange.signals.set_candidates(self._candidates(), now)
                exchange.signals.set_round(self._changes, now)
                self._touch(f"signals {number}")
            self._timers.set("change", now + manners.each_s)
        elif name == "dial":
            self._dial(now)
            self._timers.set("dial", now + 1 / manners.dials_per_s)
        else:
            self._forge()
            self._timers.set("forge", now + 1 / manners.forged_per_s)

    def _forge(self) -> None:
        """Ping, answer and signal in the name of each."""
        for exchange in self._exchanges.values():
            if exchange.sealer is None or exchange.met_at is None:
                continue
            guesses = (*exchange.tokens, self._rng.randbytes(TOKEN_SIZE))
            messages: list[Ping | Pong] = [Pong(token, 0, None) for token in guesses]
            for source in self._names_towards(exchange.met_at):
                for message in (Ping(self._rng.randbytes(TOKEN_SIZE), size=FULL_SIZE), *messages):
                    _, data = exchange.sealer.seal(message)
                    self._events.append(Forged(source, exchange.met_at, data))

    # --- what the children say

    def _child_transmit(self, key: str, output: Output, now: float) -> None:
        if not isinstance(output, Transmit):
            self._transmits.append(output)
        elif key.startswith("quic"):
            for route in self._routes:
                self._route(Transmit(output.segments, route), now)
        else:
            self._route(output, now)
            self._signal_in_false_names(output)

    def _route(self, transmit: Transmit, now: float) -> None:
        if isinstance(transmit.remote, RelayAddress):
            self._relays.send(transmit.remote, transmit.segments, now)
            self._touch("relays")
        else:
            self._transmits.append(transmit)

    def _signal_in_false_names(self, output: Transmit) -> None:
        for exchange in self._exchanges.values():
            if exchange.met_at is not None:
                for source in self._names_towards(exchange.met_at):
                    self._events.append(Forged(source, exchange.met_at, output.segments[0]))

    def _names_towards(self, remote: UdpAddress) -> list[UdpAddress]:
        return [source for source in self._manners.in_whose_name if same_family(source, remote)]

    def _child_event(self, key: str, event: Event, now: float) -> None:
        if isinstance(event, RelayPackets):
            for packet in event.packets:
                self._received(packet, 0, RelayAddress(event.url, event.source), now)
        elif isinstance(event, PeerProven):
            exchange = self._exchanges[int(key.split()[1])]
            seal, opens = derive_keys(
                self.key.node_id, exchange.signals.secret, self._victim, event.peer_secret
            )
            exchange.sealer, exchange.opener = ProbeSealer(seal, event.peer_index), ProbeOpener(opens)
        else:
            self._events.append(event)

    def handle_timeout(self, now: float) -> None:
        """Run what is due."""
        super().handle_timeout(now)
        self._finish(now)

    def _finish(self, now: float) -> None:
        self._touch("relays")
        self._settle(now)


class BadPeer:
    """A `BadPeerMachine` on `host`, which has to have an address that can be reached from anywhere."""

    def __init__(
        self,
        world: World,
        host: Host,
        ticket: Ticket,
        manners: Manners,
        transports: TransportFactory,
        *,
        key: bytes = b"",
    ) -> None:
        rng = world.rng(f"{host.name}/bad peer")
        self.forged = 0
        self._host = host
        self.machine = BadPeerMachine(SecretKey(key or rng.randbytes(32)), ticket, manners, transports, rng)
        own = tuple(
            UdpAddress(address.ip, host.open_udp(ip=WILDCARDS[":" in address.ip]).port)
            for address in host.addresses
        )
        self.driver = host.run(self.machine, on_event=self._on_event)
        self.driver.call(lambda now: self.machine.start(own, now))

    def _on_event(self, event: Event, now: float) -> None:
        if isinstance(event, Forged):
            self.forged += self._host.inject(event.source, event.destination, event.data)
