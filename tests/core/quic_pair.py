"""Two machines joined in memory by a link with delay and loss, on a clock that jumps to what is next."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from typing import Protocol

from peerway.core.identity import SecretKey
from peerway.core.machine import Event, Transmit
from peerway.core.quic.events import (
    SessionClosed,
    SessionEnded,
    SessionEstablished,
    StreamOpened,
    StreamReadable,
)
from peerway.core.quic.qh3_transport import Qh3Transport
from peerway.core.quic.session import QuicSession
from peerway.core.quic.transport import HandshakeCompleted, StreamTransport, TransportFactory

CLIENT = SecretKey(bytes([1]) * 32)
SERVER = SecretKey(bytes([2]) * 32)
STRANGER = SecretKey(bytes([3]) * 32)
START = 1000.0


class End(Protocol):
    """One end of the link: a session, or a bare transport that a test misbehaves with."""

    def receive(self, data: bytes, segment_size: int, now: float) -> None: ...
    def handle_timeout(self, now: float) -> None: ...
    def drain(self, now: float) -> Iterator[tuple[bytes, ...]]: ...
    def deadline(self) -> float | None: ...


class SessionEnd:
    """A session and everything it said."""

    def __init__(self, session: QuicSession) -> None:
        self.session = session
        self.events: list[Event] = []
        self.react: Callable[[Event, float], None] = lambda event, now: None
        self.receive = session.receive
        self.handle_timeout = session.handle_timeout

    def drain(self, now: float) -> Iterator[tuple[bytes, ...]]:
        heard = True
        while heard:
            heard = False
            while (transmit := self.session.poll_transmit()) is not None:
                assert isinstance(transmit, Transmit)
                yield transmit.segments
            while (event := self.session.poll_event()) is not None:
                heard = True
                self.events.append(event)
                self.react(event, now)

    def deadline(self) -> float | None:
        deadline = self.session.poll_deadline()
        return None if deadline is None else deadline.at

    def of(self, kind: type[Event]) -> list:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def closed(self) -> SessionClosed | None:
        return next(iter(self.of(SessionClosed)), None)

    @property
    def is_established(self) -> bool:
        return bool(self.of(SessionEstablished))


class TransportEnd:
    """A bare transport and everything it said."""

    def __init__(self, transport: StreamTransport) -> None:
        self.transport = transport
        self.events: list[Event] = []
        self.react: Callable[[Event, float], None] = lambda event, now: None
        self.receive = transport.receive
        self.handle_timeout = transport.handle_timeout
        self._now = START

    def drain(self, now: float) -> Iterator[tuple[bytes, ...]]:
        self._now = now
        while (event := self.transport.next_event()) is not None:
            self.events.append(event)
            self.react(event, now)
        yield from self.transport.transmits(now)

    def of(self, kind: type[Event]) -> list:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def deadline(self) -> float | None:
        at = self.transport.deadline()
        return None if at is None else max(at, self._now + 0.001)


class Wire:
    """The link. `spoil` may change, drop (None) or pass what travels."""

    def __init__(self, left: End, right: End, delay: float = 0.02, loss: float = 0.0, seed: int = 1) -> None:
        self.now = START
        self.ends = (left, right)
        self.delay = delay
        self.loss = loss
        self.datagrams = 0
        self.sent: list[bytes] = []
        self.keep = False
        self.spoil: Callable[[bytes], bytes | None] = lambda datagram: datagram
        self._rng = random.Random(seed)
        self._flying: list[tuple[float, int, End, bytes]] = []

    def settle(self) -> None:
        """Drain both ends."""
        for end, other in (self.ends, self.ends[::-1]):
            for group in end.drain(self.now):
                for segment in group:
                    self._carry(segment, other)
            at = end.deadline()
            assert at is None or at > self.now, "a deadline that is not in the future after a drain"

    def _carry(self, segment: bytes, other: End) -> None:
        self.datagrams += 1
        if self.keep:
            self.sent.append(segment)
        spoiled = self.spoil(segment)
        if spoiled is not None and self._rng.random() >= self.loss:
            heapq.heappush(self._flying, (self.now + self.delay, self.datagrams, other, spoiled))

    def step(self, until: float) -> bool:
        """On to the next arrival or deadline; False when there is none before `until`."""
        self.settle()
        times = [at for end in self.ends if (at := end.deadline()) is not None]
        if self._flying:
            times.append(self._flying[0][0])
        if not times or min(times) > until:
            self.now = until
            return False
        self.now = max(self.now, min(times))
        while self._flying and self._flying[0][0] <= self.now:
            _, _, end, datagram = heapq.heappop(self._flying)
            end.receive(datagram, 0, self.now)
        for end in self.ends:
            at = end.deadline()
            if at is not None and at <= self.now:
                end.handle_timeout(self.now)
        self.settle()
        return True

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass until the condition holds; whether it did."""
        end = self.now + seconds
        while not until():
            if not self.step(end):
                return until()
        return True


class Raw(Wire):
    """Two bare transports."""

    def __init__(self, transports: TransportFactory = Qh3Transport, **link) -> None:
        self.client = TransportEnd(transports.dial(START))
        dialled = self.client.transport.original_destination_connection_id
        self.server = TransportEnd(transports.accept(SERVER, dialled, START))
        super().__init__(self.client, self.server, **link)

    def connect(self) -> Raw:
        assert self.run(10, lambda: HandshakeCompleted() in self.server.events)
        return self


class Pair(Wire):
    """A client's and a server's session over a wire."""

    def __init__(
        self,
        delay: float = 0.02,
        loss: float = 0.0,
        seed: int = 1,
        transports: TransportFactory = Qh3Transport,
    ) -> None:
        client = QuicSession.dial(CLIENT, SERVER.node_id, START, transports)
        dialled = client.original_destination_connection_id
        server = QuicSession.accept(SERVER, CLIENT.node_id, dialled, START, transports)
        self.client, self.server = SessionEnd(client), SessionEnd(server)
        super().__init__(self.client, self.server, delay, loss, seed)

    def establish(self, seconds: float = 30.0) -> Pair:
        """Run until both ends know each other."""
        assert self.run(seconds, lambda: self.client.is_established and self.server.is_established)
        return self

    def ended(self) -> bool:
        return bool(self.client.of(SessionEnded) and self.server.of(SessionEnded))


class Collector:
    """Reads whatever arrives at an end, stream by stream."""

    def __init__(self, end: SessionEnd, echo: bool = False) -> None:
        self.data: dict[int, bytearray] = {}
        self.ended: list[int] = []
        self._end = end
        self._echo = echo
        end.react = self._react

    def _react(self, event: Event, now: float) -> None:
        session = self._end.session
        if isinstance(event, StreamOpened):
            self.data.setdefault(event.stream, bytearray())
        elif isinstance(event, StreamReadable):
            data = session.read(event.stream, -1, now)
            self.data.setdefault(event.stream, bytearray()).extend(data)
            if self._echo:
                session.write(event.stream, data, now)
            if session.at_eof(event.stream):
                self.ended.append(event.stream)
                if self._echo:
                    session.write_eof(event.stream, now)
