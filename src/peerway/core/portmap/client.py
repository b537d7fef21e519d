"""What a gateway's clients, one for each protocol, have in common: what they tell, and how two of them ask.

NAT-PMP and PCP share a shape: small questions, one at a time (RFC 6886 3.2, 6887 8.1.1), each repeated
until an answer comes or its schedule ends. UPnP has dialogues instead (`igd_client`), and tells the same.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from peerway.core.machine import Datagram, Event, Leaf, Transmit, UdpAddress, WireError
from peerway.core.portmap.lease import Lease

SERVER_PORT = 5351  # of NAT-PMP and PCP alike
MAX_QUESTIONS = 16


class ClientEvent(Event):
    """What a client tells of its gateway."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Answered(ClientEvent):
    """The gateway speaks the protocol. `external_ip` is "" where it does not say; `detail` for people.

    `has_no_address`: it says that it has no outside address.
    """

    external_ip: str = ""
    detail: str = ""
    has_no_address: bool = False


@dataclass(frozen=True, slots=True)
class NotSpoken(ClientEvent):
    """The gateway does not answer, or (`refuses`) says that it does not speak this."""

    reason: str
    refuses: bool = False


@dataclass(frozen=True, slots=True)
class Trying(ClientEvent):
    """`lease` is asked for now: from here on it may exist."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Granted(ClientEvent):
    """The gateway maps, with the port, address and lifetime in `lease`."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Denied(ClientEvent):
    """The gateway does not map, or did not answer; ask again after `retry_after_s` at the earliest.

    `nat_beyond`: it says that there is another NAT.
    """

    lease: Lease
    reason: str
    retry_after_s: float
    nat_beyond: bool = False


@dataclass(frozen=True, slots=True)
class Released(ClientEvent):
    """The mapping is gone; with an `error`, nobody knows."""

    lease: Lease
    error: str = ""


@dataclass(frozen=True, slots=True)
class StateLost(ClientEvent):
    """The gateway has forgotten, or changed, what it mapped for us."""

    reason: str


class Kind(Enum):
    """What a question is about."""

    PROBE = auto()  # are you there, and has anything changed?
    MAP = auto()
    RENEW = auto()
    RELEASE = auto()


@dataclass(frozen=True, slots=True)
class Question:
    """One question; all but a probe are about a lease."""

    kind: Kind
    lease: Lease | None = None


class QuestionClient(Leaf):
    """Asks the gateway at `gateway`, from our socket bound to `local`, one question after the other."""

    def __init__(self, gateway: str, local: UdpAddress) -> None:
        super().__init__()
        self._server = UdpAddress(gateway, SERVER_PORT)
        self._local = local
        self._waiting: deque[Question] = deque()
        self._current: Question | None = None
        self._sends: deque[float] = deque()
        self._give_up_at = 0.0

    # --- what is asked of it

    def probe(self, now: float) -> None:
        """See whether the gateway is there and remembers us."""
        if not any(question.kind is Kind.PROBE for question in self._open_questions()):
            self._ask(Question(Kind.PROBE), now)

    def map(self, lease: Lease, now: float, *, renewal: bool = False) -> None:
        """Have `lease` granted, or prolonged."""
        self._events.append(Trying(lease))
        self._ask(Question(Kind.RENEW if renewal else Kind.MAP, lease), now)

    def release(self, lease: Lease, now: float) -> None:
        """Have `lease` removed."""
        self._ask(Question(Kind.RELEASE, lease), now)

    def stop_asking(self, now: float) -> None:
        """Forget every question; answers that still come are ignored."""
        self._waiting.clear()
        self._finish()

    def receive(self, datagram: Datagram, now: float) -> None:
        """What came to our socket; only what the gateway's server says counts."""
        if datagram.remote != self._server:
            self._drop("from another address")
            return
        for data in datagram.segments():
            try:
                self._answer(data, now)
            except WireError as error:
                self._drop(str(error))
        self._next(now)

    # --- for the protocols

    def _build(self, question: Question) -> bytes:
        """The question on the wire."""
        raise NotImplementedError

    def _schedule(self, question: Question) -> tuple[float, ...]:
        """When to send it, in seconds from the first time, and when to give up."""
        raise NotImplementedError

    def _answer(self, data: bytes, now: float) -> None:
        """An answer: `_finish` the question it belongs to, and tell."""
        raise NotImplementedError

    def _is_about(self, *kinds: Kind) -> Lease | None:
        """The lease in question, when the current one is of one of these kinds."""
        current = self._current
        return current.lease if current is not None and current.kind in kinds else None

    def _finish(self) -> None:
        self._current = None
        self._timers.cancel("ask")

    # --- inside

    def _open_questions(self) -> list[Question]:
        return [*self._waiting, *([self._current] if self._current else [])]

    def _ask(self, question: Question, now: float) -> None:
        if len(self._waiting) >= MAX_QUESTIONS:
            self._drop("too many questions wait")
            return
        if self._current is not None and self._current.kind is Kind.PROBE:
            self._finish()  # nobody waits for that as somebody waits for this; it is asked again
        self._waiting.append(question)
        self._next(now)

    def _next(self, now: float) -> None:
        if self._current is None and self._waiting:
            self._current = self._waiting.popleft()
            *sends, give_up = self._schedule(self._current)
            self._sends = deque(now + offset for offset in sends)
            self._give_up_at = now + give_up
            self._send(now)

    def _send(self, now: float) -> None:
        if self._current is None:
            return
        self._transmits.append(Transmit((self._build(self._current),), self._server, self._local))
        while self._sends and self._sends[0] <= now:  # whoever was late does not catch up
            self._sends.popleft()
        at = self._sends[0] if self._sends else self._give_up_at
        self._timers.set("ask", at, f"port mapping: ask {self._server} again")

    def _timer_expired(self, name: str, now: float) -> None:
        if self._sends:
            self._send(now)
            return
        question = self._current
        self._finish()
        if question is not None:
            self._events.append(_unanswered(question))
        self._next(now)


def _unanswered(question: Question) -> Event:
    if question.lease is None:
        return NotSpoken("no answer")
    if question.kind is Kind.RELEASE:
        return Released(question.lease, "no answer")
    return Denied(question.lease, "no answer", 0.0)
