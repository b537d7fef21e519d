"""One connection with one peer: the exchange of signals, the paths, and QUIC over the best of them.

    dial:    hello and QUIC's first flight at once, over the relay  ->  established
    accept:  an authorised hello  ->  QUIC's Initial  ->  the client's signature  ->  established

The paths are looked for as soon as the peer has proven by signals that it is there; until
then QUIC's datagrams go the way the signals go. The two know nothing of each other: moving
from the relay to a direct path changes an address beneath QUIC, never QUIC.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TypeVar

from peerway.core.budget import ProbeBudget
from peerway.core.flight import Flight, still_open
from peerway.core.identity import SecretKey
from peerway.core.machine import (
    Address,
    Composite,
    Event,
    Output,
    RelayAddress,
    Rng,
    Transmit,
    UdpAddress,
)
from peerway.core.path.agent import PathAgent, PeerSilent, RoundBegun
from peerway.core.path.choice import PathKey, PathView
from peerway.core.path.events import (
    LocalCandidates,
    PathDoubted,
    PathLost,
    PathProven,
    PathRecovered,
    PathSelected,
)
from peerway.core.path.survey import Surroundings
from peerway.core.probe.message import ProbeOpener, ProbeSealer, derive_keys
from peerway.core.quic.events import SessionClosed, SessionEnded, SessionEstablished
from peerway.core.quic.session import QuicSession
from peerway.core.signal.message import Birth, Signal
from peerway.core.signal.session import (
    CandidatesAcknowledged,
    CandidatesReceived,
    PeerProven,
    RoundReceived,
    SignalSession,
    State,
)

DIAL_TIMEOUT_S = 20.0
MAX_EARLY_PROBES = 8
LINGER_S = 3.0
CODE_UNREACHABLE = 0x10

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class LinkEstablished(Event):
    """Both signatures are checked; the connection is the application's."""


@dataclass(frozen=True, slots=True)
class LinkClosed(Event):
    """The connection is over. `code` 0: as wanted. What had arrived can still be read."""

    code: int
    reason: str
    by_peer: bool


@dataclass(frozen=True, slots=True)
class LinkEnded(Event):
    """Late datagrams of the peer need no answer any more: the link can be forgotten."""


@dataclass(frozen=True, slots=True)
class GatherWanted(Event):
    """What we know of our own addresses may be out of date; `force`: a path was lost, so it surely is."""

    force: bool = False


class Link(Composite[str]):
    """The connection; made by `dial` or `accept` around a fresh exchange of signals and session."""

    def __init__(
        self,
        key: SecretKey,
        session: SignalSession,
        quic: QuicSession,
        surroundings: Surroundings,
        budget: ProbeBudget,
        rng: Rng,
    ) -> None:
        super().__init__()
        self.peer = session.peer
        self.is_established = False
        self.is_closed = False
        self.dialled = False
        self._key = key
        self._budget = budget
        self._rng = rng
        self._session = session
        self._quic = quic
        self._agent: PathAgent | None = None
        self._surroundings = surroundings
        self._selected_remote: Address | None = None
        self._flight = Flight()
        self._last_ways: tuple[PathKey, ...] = ()
        self._early_probes: deque[tuple[bytes, UdpAddress | None, Address]] = deque(maxlen=MAX_EARLY_PROBES)
        self._adopt("signal", session)
        self._adopt("quic", quic)
        self._adopt("flight", self._flight)

    @classmethod
    def dial(
        cls,
        key: SecretKey,
        session: SignalSession,
        quic: QuicSession,
        routes: tuple[Address, ...],
        admission: bytes,
        surroundings: Surroundings,
        budget: ProbeBudget,
        rng: Rng,
        now: float,
    ) -> Link:
        """Begin a connection with the session's peer, who can be met at `routes`.

        `admission` is the secret of the peer's ticket, or empty.
        """
        link = cls(key, session, quic, surroundings, budget, rng)
        link.dialled = True
        link._tell_candidates(now)
        for route in routes:
            session.add_route(route, now)
        session.dial(quic.original_destination_connection_id, admission, now)
        link._timers.set("give up", now + DIAL_TIMEOUT_S, "dial: give up")
        link._settle(now)
        return link

    @classmethod
    def accept(
        cls,
        key: SecretKey,
        session: SignalSession,
        quic: QuicSession,
        hello: Signal,
        route: Address,
        surroundings: Surroundings,
        budget: ProbeBudget,
        rng: Rng,
        now: float,
    ) -> Link:
        """Take up the authorised `hello` that came by `route`."""
        link = cls(key, session, quic, surroundings, budget, rng)
        link._tell_candidates(now)
        session.answer(hello, route, now)
        link._timers.set("give up", now + DIAL_TIMEOUT_S, "accept: the dialler went away")
        link._settle(now)
        return link

    # --- signals and probes

    @property
    def secret(self) -> bytes:
        """Our secret of this exchange: the echo that signals of it carry."""
        return self._session.secret

    @property
    def peer_secret(self) -> bytes:
        """The peer's secret of this exchange, empty until it is known."""
        return self._session.peer_secret

    @property
    def peer_born(self) -> Birth:
        """When the peer entered this exchange, as it says."""
        return self._session.peer_born

    @property
    def is_proven(self) -> bool:
        """Whether the peer has shown by signals that it is there now."""
        return self._session.state is State.PROVEN

    def signal_received(self, signal: Signal, route: Address, now: float) -> None:
        """A signal of this exchange."""
        if self.is_closed:
            return
        if self._session.receive(signal, route, now) and isinstance(route, RelayAddress) and self._agent:
            self._agent.add_relay(route, now)
            self._touch("path")
        self._touch("signal")
        self._settle(now)

    def learn_route(self, route: Address, now: float) -> None:
        """Another way on which the peer seems to be met."""
        if self.is_closed:
            return
        self._session.learn_route(route, now)
        self._touch("signal")
        self._settle(now)

    def probe_received(self, data: bytes, local: UdpAddress | None, remote: Address, now: float) -> None:
        """A probe that names our index."""
        if self._agent is None:
            # the peer proved us first; its signal to us is still on its way
            if not self.is_closed:
                self._early_probes.append((data, local, remote))
            return
        self._agent.probe_received(data, local, remote, now)
        self._touch("path")
        self._settle(now)

    def surroundings_changed(self, surroundings: Surroundings, now: float) -> None:
        """What the node knows of itself has changed."""
        if self.is_closed:
            self._last_ways = still_open(self._last_ways, surroundings.sockets)
            self._flight.sockets_changed(surroundings.sockets)
            return
        old, self._surroundings = self._surroundings, surroundings
        if self._agent is not None and (old.sockets, old.policy) != (
            surroundings.sockets,
            surroundings.policy,
        ):
            self._agent.set_sockets(surroundings.sockets, surroundings.policy, now)
            self._touch("path")
        if old.candidates != surroundings.candidates:
            self._tell_candidates(now)
            self._touch("signal")
        self._peer_may_be_ready(now)
        self._settle(now)

    def network_changed(self, moved: Collection[int], now: float) -> None:
        """The machine's addresses changed: tell the peer where we are and probe again.

        In the families `moved` what we send comes from elsewhere now.
        """
        if self.is_closed:
            return
        self._session.repeat(now)
        self._touch("signal")
        if self._agent is not None:
            self._agent.network_changed(moved, now)
            self._touch("path")
        self._settle(now)

    def dial_again(self, routes: tuple[Address, ...], admission: bytes, now: float) -> None:
        """Somebody else wants this dial, and has a ticket with these `routes`, perhaps a newer one."""
        if self.is_closed or self.is_proven:
            return
        further = [route for route in routes if route not in self._session.routes]
        for route in further:
            self._session.add_route(route, now)
        self._session.dial(self._quic.original_destination_connection_id, admission, now)
        self._touch("signal")
        self._flight.send_again(_as_ways(further))
        self._touch("flight")
        self._timers.set("give up", now + DIAL_TIMEOUT_S, "dial: give up")
        self._settle(now)

    def verify(self, now: float) -> None:
        """Somebody says that the peer is gone: see whether it still answers."""
        if self._agent is not None:
            self._agent.verify(now)
            self._touch("path")
        self._settle(now)

    def relay_down(self, url: str, now: float) -> None:
        """The connection to a relay is gone, and with it every path through it."""
        if self._agent is not None:
            self._agent.remove_relay(url, now)
            self._touch("path")
        self._settle(now)

    def relay_up(self, url: str, now: float) -> None:
        """A relay stands again; when the peer was met there, tell it where we are now."""
        routes = [r for r in self._session.routes if isinstance(r, RelayAddress) and r.url == url]
        if self.is_closed or not routes:
            return
        if self._agent is not None:
            for route in routes:
                self._agent.add_relay(route, now)
            self._touch("path")
        else:
            self._flight.send_again(_as_ways(routes))
            self._touch("flight")
        self._session.repeat(now)
        self._touch("signal")
        self._settle(now)

    @property
    def routes(self) -> tuple[Address, ...]:
        """Where signals to the peer go."""
        return self._session.routes

    # --- QUIC

    def quic_received(
        self, data: bytes, segment_size: int, local: UdpAddress | None, remote: Address, now: float
    ) -> None:
        """QUIC datagrams with a connection id of this link, from wherever they came."""
        if self._agent is not None:
            datagrams = -(-len(data) // segment_size) if segment_size else 1
            self._agent.data_received(local, remote, datagrams)
        self._quic.receive(data, segment_size, now)
        self._touch("quic")
        self._settle_when_polled(now)

    def with_session(self, use: Callable[[QuicSession], Result], now: float) -> Result:
        """Use the session and its streams; what follows from it happens when this is polled."""
        result = use(self._quic)
        self._touch("quic")
        self._settle_when_polled(now)
        return result

    def close(self, code: int, reason: str, now: float) -> None:
        """End the connection; the peer is told `code` and `reason`."""
        self.with_session(lambda session: session.close(code, reason, now), now)
        self._settle(now)

    def ask(self, question: Callable[[QuicSession], Result]) -> Result:
        """What the session knows; to ask changes nothing."""
        return question(self._quic)

    def ping(self, now: float) -> bool:
        """Ping the peer once on the path in use; False when there is none."""
        sent = self._agent is not None and self._agent.ping(now)
        if self._agent is not None:
            self._touch("path")
        self._settle(now)
        return sent

    def abandon(self, now: float, reason: str = "given up") -> None:
        """Nobody waits for this dial any more."""
        self._say_goodbye(0, "", now)
        self._over(0, reason, by_peer=False, now=now)
        self._settle(now)

    def path(self) -> tuple[PathView | None, float]:
        """The path in use, None when none is known to work, and since when."""
        if self._agent is None:
            return None, 0.0
        return self._agent.selected_view(), self._agent.selected_at

    # --- inside

    def _data_moved(self, woke: bool) -> None:
        if woke:
            self._touch("path")

    def _child_transmit(self, key: str, output: Output, now: float) -> None:
        if key != "quic" or not isinstance(output, Transmit):
            self._transmits.append(output)
        elif self._agent is None:
            # nothing is proven yet, or all is over: QUIC goes every way the signals go
            self._flight.send(output, self._last_ways or _as_ways(self._session.routes), now)
            self._touch("flight")
        elif self._agent.selected is not None:
            ways = [way for way in (self._agent.selected, self._agent.companion) if way is not None]
            self._flight.send(output, ways, now)
            self._touch("flight")
            for way in ways:
                self._data_moved(self._agent.data_sent(way, len(output.segments), now))
        else:
            self._drop("quic: no path")

    def _child_event(self, key: str, event: Event, now: float) -> None:
        if key == "signal":
            self._signal_event(event, now)
        elif key == "path":
            self._path_event(event, now)
        elif isinstance(event, SessionEstablished):
            self.is_established = True
            self._flight.established()
            self._timers.cancel("give up")
            self._events.append(LinkEstablished())
        elif isinstance(event, SessionEnded):
            if not self._flight.is_parting:
                self._timers.set("linger", now, "link: quic is done")
        elif isinstance(event, SessionClosed):
            self._over(event.code, event.reason, event.by_peer, now)
        else:
            self._events.append(event)

    def _signal_event(self, event: Event, now: float) -> None:
        if isinstance(event, PeerProven):
            self._start_agent(event, now)
            self._events.append(GatherWanted())  # it may have been long in coming
        elif isinstance(event, CandidatesReceived) and self._agent is not None:
            self._agent.set_candidates(event.candidates, now)
            self._touch("path")
        elif isinstance(event, RoundReceived) and self._agent is not None:
            self._agent.join_round(event.number, now)
            self._touch("path")
        elif isinstance(event, CandidatesAcknowledged):
            self._peer_may_be_ready(now)

    def _start_agent(self, proven: PeerProven, now: float) -> None:
        seal_key, open_key = derive_keys(
            self._key.node_id, self._session.secret, self.peer, proven.peer_secret
        )
        sealer = ProbeSealer(seal_key, proven.peer_index)
        opener, policy = ProbeOpener(open_key), self._surroundings.policy
        self._agent = PathAgent(sealer, opener, policy, self._budget, self._rng, now)
        self._adopt("path", self._agent)
        self._agent.set_sockets(self._surroundings.sockets, self._surroundings.policy, now)
        for route in self._session.routes:
            if isinstance(route, RelayAddress):
                self._agent.add_relay(route, now)
        for data, local, remote in self._early_probes:
            self._agent.probe_received(data, local, remote, now)
        self._early_probes.clear()

    def _tell_candidates(self, now: float) -> None:
        known = self._surroundings
        self._session.set_candidates(known.candidates, now)
        self._events.append(LocalCandidates(known.candidates, known.mapping.value))

    def _peer_may_be_ready(self, now: float) -> None:
        """Pings may go once the peer knows all our addresses, for then it has sent towards them."""
        if self._agent is not None and self._surroundings.gathered and self._session.is_acknowledged:
            self._agent.peer_ready(now)
            self._touch("path")

    def _path_event(self, event: Event, now: float) -> None:
        self._events.append(event)
        if isinstance(event, RoundBegun):
            self._session.set_round(event.number, now)
            self._touch("signal")
            self._events.append(GatherWanted())
        elif isinstance(event, PathDoubted | PathLost):
            if event.remote == self._selected_remote:
                self._flight.path_failed()
            if isinstance(event, PathLost):
                self._session.repeat(now)
                self._touch("signal")
                self._events.append(GatherWanted(force=True))
        elif isinstance(event, PathSelected):
            self._selected_remote = event.remote
            self._switched(now)
        elif isinstance(event, PathProven | PathRecovered):
            if event.remote == self._selected_remote and self._flight.has_failed:
                self._switched(now)  # there was no better one to go by, and QUIC's back-off has grown
        elif isinstance(event, PeerSilent):
            self._say_goodbye(CODE_UNREACHABLE, str(event), now)
            self._over(CODE_UNREACHABLE, str(event), by_peer=False, now=now)

    def _switched(self, now: float) -> None:
        """The path in use works, and what it replaces did not, or had ceased to: QUIC is not to wait."""
        if self._agent is None or self._agent.selected is None:
            return
        self._flight.switched(self._agent.selected, now)
        self._touch("flight")
        if self.is_established:
            self._quic.path_switched(now)
            self._touch("quic")

    def _timer_expired(self, name: str, now: float) -> None:
        if name == "linger":
            self._events.append(LinkEnded())
            return
        reason = "the handshake did not finish" if self.is_proven else "the peer did not answer"
        self._say_goodbye(CODE_UNREACHABLE, reason, now)
        self._over(CODE_UNREACHABLE, f"{reason} within {DIAL_TIMEOUT_S:.0f} s", by_peer=False, now=now)

    def _say_goodbye(self, code: int, reason: str, now: float) -> None:
        self._quic.close(code, reason, now)
        self._touch("quic")
        if self._agent is None or self._agent.selected is not None:
            while (output := self._quic.poll_transmit()) is not None:
                self._child_transmit("quic", output, now)

    def _over(self, code: int, reason: str, by_peer: bool, now: float) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        if self._agent is not None and self._agent.selected is not None:
            self._last_ways = (self._agent.selected,)
            if not by_peer:
                self._flight.part(self._agent.selected, _as_ways(self._session.routes), now)
                self._touch("flight")
        self._agent = None
        self._release("path")
        self._release("signal")
        self._timers.cancel("give up")
        self._timers.set("linger", now + LINGER_S, "link: late datagrams may still come")
        self._events.append(LinkClosed(code, reason, by_peer))


def _as_ways(routes: Iterable[Address]) -> list[PathKey]:
    return [(None, route) for route in routes]
