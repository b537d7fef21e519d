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
    PathSelected,
)
from peerway.core.path.survey import Surroundings
from peerway.core.probe.message import ProbeOpener, ProbeSealer, derive_keys
from peerway.core.quic.events import SessionClosed, SessionEnded, SessionEstablished
from peerway.core.quic.session import QuicSession
from peerway.core.signal.message import Signal
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
FAREWELL_FIRST_S, FAREWELL_FOR_S = 0.1, 1.0  # goodbye is said again after 0.1, 0.3, 0.9 and 2.7 s
ACKNOWLEDGEMENT_SIZE = 200  # bytes that QUIC needs at most to say what arrived
RESEND_AFTER_S = 0.5  # in a handshake: by then the peer has answered, or never heard us
SWALLOWED_WITHIN_S = 5.0  # what was sent before that has arrived, or QUIC has sent it again
RESEND_BATCHES = 2  # what a doubted path may have swallowed last is sent again on the next best
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
        self._resend = False
        self._farewell: tuple[PathKey, ...] = ()
        self._last_sent: deque[Transmit] = deque(maxlen=RESEND_BATCHES)
        self._last_sent_at = 0.0
        self._closed_at = 0.0
        self._early_probes: deque[tuple[bytes, UdpAddress | None, Address]] = deque(maxlen=MAX_EARLY_PROBES)
        self._adopt("signal", session)
        self._adopt("quic", quic)

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
            self._send_again([(None, route) for route in routes])
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
            self._data_moved(self._agent.data_received(local, remote, datagrams, now))
        self._quic.receive(data, segment_size, now)
        self._touch("quic")
        self._settle(now)

    def with_session(self, use: Callable[[QuicSession], Result], now: float) -> Result:
        """Use the session and its streams, and let what follows from it happen."""
        result = use(self._quic)
        self._touch("quic")
        self._settle(now)
        return result

    def close(self, code: int, reason: str, now: float) -> None:
        """End the connection; the peer is told `code` and `reason`."""
        self.with_session(lambda session: session.close(code, reason, now), now)

    def ping(self, now: float) -> bool:
        """Ping the peer once on the path in use; False when there is none."""
        sent = self._agent is not None and self._agent.ping(now)
        if self._agent is not None:
            self._touch("path")
        self._settle(now)
        return sent

    def abandon(self, now: float, reason: str = "given up") -> None:
        """Nobody waits for this dial any more."""
        self._quic.close(0, "", now)
        self._touch("quic")
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
        elif self._agent is not None and self._agent.selected is not None:
            self._send_data(output, self._agent, self._agent.selected, now)
        elif self._agent is None:
            # nothing is proven yet, or all is over: QUIC goes every way the signals go
            self._remember(output, now)
            ways = self._farewell or tuple((None, route) for route in self._session.routes)
            self._transmits.extend(Transmit(output.segments, way[1], way[0]) for way in ways)
        else:
            self._drop("quic: no path")

    def _send_data(self, output: Transmit, agent: PathAgent, path: PathKey, now: float) -> None:
        self._remember(output, now)
        for way in (path,) if agent.companion is None else (path, agent.companion):
            self._transmits.append(Transmit(output.segments, way[1], way[0]))
            self._data_moved(agent.data_sent(way, len(output.segments), now))

    def _child_event(self, key: str, event: Event, now: float) -> None:
        if key == "signal":
            self._signal_event(event, now)
        elif key == "path":
            self._path_event(event, now)
        elif isinstance(event, SessionEstablished):
            self.is_established = True
            self._timers.cancel("give up")
            self._events.append(LinkEstablished())
        elif isinstance(event, SessionEnded):
            if "farewell" not in self._timers:
                self._timers.set("linger", now, "link: quic is done")
        elif isinstance(event, SessionClosed):
            self._over(event.code, event.reason, event.by_peer, now)
        else:
            self._events.append(event)

    def _signal_event(self, event: Event, now: float) -> None:
        if isinstance(event, PeerProven):
            self._start_agent(event, now)
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
            self._resend |= event.remote == self._selected_remote
            if isinstance(event, PathLost):
                self._session.repeat(now)
                self._touch("signal")
                self._events.append(GatherWanted(force=True))
        elif isinstance(event, PathSelected):
            self._switched(event, now)
        elif isinstance(event, PeerSilent):
            self._quic.close(CODE_UNREACHABLE, str(event), now)
            self._touch("quic")
            self._over(CODE_UNREACHABLE, str(event), by_peer=False, now=now)

    def _switched(self, event: PathSelected, now: float) -> None:
        # a handshake that met no path yet would wait for QUIC's back-off, which may be long by now
        waits = not self.is_established and now - self._last_sent_at >= RESEND_AFTER_S
        swallowed = self._resend and now - self._last_sent_at < SWALLOWED_WITHIN_S
        resend = swallowed or waits
        if resend and event.kind is not None and self._agent and self._agent.selected:
            self._send_again([self._agent.selected])
        self._resend = False
        self._selected_remote = event.remote
        if self.is_established and event.kind is not None:
            self._quic.path_switched(now)
            self._touch("quic")

    def _part(self, ways: tuple[PathKey, ...], by_peer: bool, now: float) -> None:
        """QUIC says goodbye once, and on a path that loses much the peer would wait for us in vain."""
        relays: tuple[PathKey, ...] = tuple(
            (None, route) for route in self._session.routes if isinstance(route, RelayAddress)
        )
        self._farewell = tuple(dict.fromkeys(ways + relays))
        if by_peer or not self._last_sent:
            return
        goodbye = self._last_sent[-1]
        self._last_sent.clear()
        self._last_sent.append(goodbye)
        self._send_again([way for way in self._farewell if way not in ways])
        self._timers.set("farewell", now + FAREWELL_FIRST_S, "link: say goodbye again")

    def _remember(self, sent: Transmit, now: float) -> None:
        # in a handshake mere acknowledgements must not push out what the peer waits for
        if self.is_established or len(sent.segments[0]) > ACKNOWLEDGEMENT_SIZE:
            self._last_sent.append(sent)
            self._last_sent_at = now

    def _send_again(self, ways: Iterable[PathKey]) -> None:
        """What was sent last, by other ways: QUIC drops what has arrived already."""
        for sent in self._last_sent:
            self._transmits.extend(Transmit(sent.segments, remote, local) for local, remote in ways)

    def _timer_expired(self, name: str, now: float) -> None:
        if name == "linger":
            self._events.append(LinkEnded())
            return
        if name == "farewell":
            self._send_again(self._farewell)
            if now - self._closed_at < FAREWELL_FOR_S:
                again = now + 2 * max(now - self._closed_at, FAREWELL_FIRST_S)
                self._timers.set("farewell", again, "link: say goodbye again")
            return
        reason = "the handshake did not finish" if self.is_proven else "the peer did not answer"
        self._quic.close(CODE_UNREACHABLE, reason, now)
        self._touch("quic")
        self._over(CODE_UNREACHABLE, f"{reason} within {DIAL_TIMEOUT_S:.0f} s", by_peer=False, now=now)

    def _over(self, code: int, reason: str, by_peer: bool, now: float) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self._closed_at = now
        if self._agent is not None and self._agent.selected is not None:
            self._part((self._agent.selected,), by_peer=by_peer, now=now)
        self._agent = None
        self._release("path")
        self._release("signal")
        self._timers.cancel("give up")
        self._timers.set("linger", now + LINGER_S, "link: late datagrams may still come")
        self._events.append(LinkClosed(code, reason, by_peer))
