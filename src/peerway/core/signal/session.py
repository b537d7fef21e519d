"""One exchange of signals with one peer: two fresh secrets, echoed, and what they let us learn.

    DIALLING   we sent a hello and know nothing of the peer yet
    ANSWERING  an authorised hello came; we answer, and believe nothing until our secret is echoed
    PROVEN     our secret came back: the peer is here, now, and holds its key

Only a signal with the right echo and a rising counter has effect. Both sides send the whole
of what they have to say each time (dial, candidates), with a new counter, until the other
acknowledges a counter at or past the first that carried it: so nothing is ever half-said,
and loss and reordering cost time only. Whoever began over UDP repeats until it is answered, and
we answer each time; on our own account nothing is repeated to an address that has not proven
anything (RFC 9000 section 8 has the same rule for servers).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from enum import Enum, auto

from peerway.core.identity import NodeId, SecretKey
from peerway.core.machine import Address, Event, Leaf, RelayAddress, Rng, Transmit
from peerway.core.path.candidate import Candidate
from peerway.core.signal.message import SECRET_SIZE, Birth, Body, Signal, build
from peerway.core.signal.routes import Routes

RETRANSMIT_FIRST_S = 0.25
RETRANSMIT_CAP_S = 3.0
RETRANSMIT_GIVE_UP_S = 30.0


class State(Enum):
    """How far the exchange has come."""

    DIALLING = auto()
    ANSWERING = auto()
    PROVEN = auto()


@dataclass(frozen=True, slots=True)
class PeerProven(Event):
    """Our secret was echoed; `peer_secret` and `peer_index` are the peer's for this exchange."""

    peer_secret: bytes
    peer_index: int


@dataclass(frozen=True, slots=True)
class CandidatesReceived(Event):
    """The addresses the peer says it might be reached at, all of them, replacing what it said before."""

    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class RoundReceived(Event):
    """The peer has begun a round of probing; it is later than any we knew of."""

    number: int


@dataclass(frozen=True, slots=True)
class CandidatesAcknowledged(Event):
    """The peer knows our candidates as they are now, and has begun to send towards them."""


@dataclass(frozen=True, slots=True)
class SignalUnanswered(Event):
    """What we last said was repeated for `seconds` without an answer; we stopped repeating it."""

    seconds: float


class SignalSession(Leaf):
    """The exchange with `peer` under one secret of ours; see the module's text. `born`: when it began."""

    def __init__(
        self, key: SecretKey, peer: NodeId, shared: bytes, index: int, rng: Rng, born: Birth | None = None
    ) -> None:
        super().__init__()
        self.peer = peer
        self.state = State.DIALLING
        self.secret = rng.randbytes(SECRET_SIZE)
        self.peer_secret = b""
        self.peer_born = Birth()
        self._key = key
        self._shared = shared
        self._rng = rng
        self._body = Body(index=index, born=born or Birth())
        self._routes = Routes()
        self._counter = 0
        self._content_counter = 0
        self._peer_counter = 0
        self._peer_acknowledged = 0
        self._peer_round = 0
        self._acknowledged_content = 0
        self._peer_candidates: tuple[Candidate, ...] | None = None
        self._repeat_after = RETRANSMIT_FIRST_S
        self._content_since = 0.0

    @property
    def routes(self) -> tuple[Address, ...]:
        """Where signals go."""
        return tuple(self._routes)

    def add_route(self, route: Address, now: float) -> None:
        """Another way signals can reach the peer; past the limit it is ignored."""
        self._introduce(route, is_new=self._routes.give(route))

    def learn_route(self, route: Address, now: float) -> None:
        """A signal of the peer that is none of this exchange came by this way."""
        self._introduce(route, is_new=self._routes.learn(route))

    def _introduce(self, route: Address, *, is_new: bool) -> None:
        if is_new and (self._timers.next is not None or self._unacknowledged):
            self._send_to((route,), wants_answer=True)

    @property
    def is_acknowledged(self) -> bool:
        """Whether the peer knows all that we have to say as it is now."""
        return self.state is State.PROVEN and self._counter > 0 and not self._unacknowledged

    def dial(self, connection_id: bytes, admission: bytes, now: float) -> None:
        """Begin: send the hello that names our QUIC dial and, on first contact, the ticket's secret.

        Begun again by a ticket without one, the secret of the first stays.
        """
        self._body = replace(self._body, dial=connection_id, admission=admission or self._body.admission)
        self._say(now)

    def answer(self, hello: Signal, route: Address, now: float) -> None:
        """Take up an authorised hello and answer it the way it came."""
        self.state = State.ANSWERING
        self.peer_secret = hello.secret
        self.peer_born = hello.body.born
        self._peer_counter = hello.counter
        self._routes.signal_came(route)
        self._say(now, (route,))

    def set_candidates(self, candidates: tuple[Candidate, ...], now: float) -> None:
        """Tell the peer where we might be reached, again when it has changed."""
        if candidates == self._body.candidates:
            return
        self._body = replace(self._body, candidates=candidates)
        if self._counter:
            self._say(now)

    def set_round(self, number: int, now: float) -> None:
        """Tell the peer that we have begun this round of probing."""
        self._body = replace(self._body, round=number)
        self._say(now)

    def repeat(self, now: float) -> None:
        """Say it all again: the way to the peer may have changed, or the peer forgot us."""
        self._say(now)

    def receive(self, signal: Signal, route: Address, now: float) -> bool:
        """Take a signal of this peer; False when it had no effect (and was counted)."""
        if not self._belongs(signal):
            return False
        if signal.counter <= self._peer_counter:
            return self._receive_copy(signal, route)
        self._peer_counter = signal.counter
        self._routes.signal_came(route)
        if self.state is not State.PROVEN and signal.echo:
            self.state = State.PROVEN
            self.peer_secret = signal.secret
            self.peer_born = signal.body.born
            self._body = replace(self._body, admission=b"")
            self._events.append(PeerProven(signal.secret, signal.body.index))
        if self.state is State.PROVEN:
            self._learn(signal.body, now)
        if signal.body.wants_answer:
            self._send_to((route,), wants_answer=self._unacknowledged)
        return True

    def _receive_copy(self, signal: Signal, route: Address) -> bool:
        """All that a copy of the latest signal can do is to show another way, and be answered there."""
        if signal.counter < self._peer_counter or not self._routes.copy_came(route):
            self._drop("signal: replayed or late")
            return False
        if signal.body.wants_answer:
            self._send_to((route,), wants_answer=self._unacknowledged)
        return True

    def _belongs(self, signal: Signal) -> bool:
        if not signal.echo:
            # a hello repeated by the peer we are answering: it has not heard us yet
            if self.state is not State.ANSWERING or signal.secret != self.peer_secret:
                self._drop("signal: hello for an exchange that is past it")
                return False
        elif not hmac.compare_digest(signal.echo, self.secret):
            self._drop("signal: wrong echo")
            return False
        elif self.peer_secret and signal.secret != self.peer_secret:
            self._drop("signal: our secret is paired with another")
            return False
        return True

    def _learn(self, body: Body, now: float) -> None:
        if body.candidates != self._peer_candidates:
            self._peer_candidates = body.candidates
            self._events.append(CandidatesReceived(body.candidates))
        if body.round > self._peer_round:
            self._peer_round = body.round
            self._events.append(RoundReceived(body.round))
        self._peer_acknowledged = max(self._peer_acknowledged, body.acknowledged)
        if not self._unacknowledged:
            self._timers.cancel("repeat")
            if self._acknowledged_content < self._content_counter:
                self._acknowledged_content = self._content_counter
                self._events.append(CandidatesAcknowledged())

    @property
    def _unacknowledged(self) -> bool:
        return self._peer_acknowledged < self._content_counter

    @property
    def _proven_routes(self) -> tuple[Address, ...]:
        """All, but for addresses that have given no sign of being the peer's."""
        if self.state is State.ANSWERING:
            return tuple(route for route in self._routes if isinstance(route, RelayAddress))
        return tuple(self._routes)

    def _say(self, now: float, routes: tuple[Address, ...] | None = None) -> None:
        self._content_counter = self._counter + 1
        self._content_since = now
        self._repeat_after = RETRANSMIT_FIRST_S
        self._send_to(self._proven_routes if routes is None else routes, wants_answer=True)
        self._timers.set("repeat", now + self._repeat_after, "signal: repeat until acknowledged")

    def _timer_expired(self, name: str, now: float) -> None:
        elapsed = now - self._content_since
        if elapsed >= RETRANSMIT_GIVE_UP_S:
            self._events.append(SignalUnanswered(elapsed))
            return
        self._send_to(self._proven_routes, wants_answer=True)
        self._repeat_after = min(2 * self._repeat_after, RETRANSMIT_CAP_S)
        self._timers.set("repeat", now + self._repeat_after, "signal: repeat until acknowledged")

    def _send_to(self, routes: tuple[Address, ...], *, wants_answer: bool) -> None:
        self._counter += 1
        # a hello's candidates are not acted on before its sender is proven, so neither acknowledged
        acknowledged = self._peer_counter if self.state is State.PROVEN else 0
        signal = Signal(
            sender=self._key.node_id,
            receiver=self.peer,
            secret=self.secret,
            echo=self.peer_secret,
            counter=self._counter,
            body=replace(self._body, acknowledged=acknowledged, wants_answer=wants_answer),
        )
        data = build(signal, self._shared, self._rng)
        for route in routes:
            self._transmits.append(Transmit((data,), route))
