"""One HTTP exchange with a gateway, over a byte stream of its own: no redirects, no cookies, no patience.

    CONNECTING -> stream_opened -> ASKED -> an answer within the limits -> HttpAnswered
         `------------- error, timeout, too much, not HTTP -------------> HttpFailed

Whoever answers may be hostile: heads are bounded by h11, bodies by `limit`, and all of it together by
`PATIENCE_S`, so an answer without end costs no more than a short one.
"""

from __future__ import annotations

from dataclasses import dataclass

import h11

from peerway.core.machine import CloseStream, Event, Leaf, OpenStream, StreamWrite
from peerway.core.portmap.location import Location

PATIENCE_S = 5.0  # UPnP allows 30; a router next door answers in milliseconds
MAX_HEAD_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What to ask for at `location`; `limit` bytes of an answer's body are taken."""

    location: Location
    limit: int
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class HttpAnswered(Event):
    """The whole answer."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpFailed(Event):
    """There is no answer to use; `reason` is for people."""

    reason: str


class HttpExchange(Leaf):
    """Asks at once. `stream` is the name of the byte stream; whoever owns us sends its news here."""

    def __init__(self, stream: str, request: HttpRequest, now: float) -> None:
        super().__init__()
        self._stream = stream
        self._request = request
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._status = 0
        self._body = bytearray()
        self._over = False
        self._events.append(OpenStream(stream, request.location.origin))
        self._timers.set("patience", now + PATIENCE_S, f"port mapping: {request.location} does not answer")

    def stream_opened(self, now: float) -> None:
        """The stream stands: ask, once."""
        if self._over or self._connection.our_state is not h11.IDLE:
            return
        location = self._request.location
        headers = [
            ("Host", f"{location.host}:{location.port}"),
            ("Connection", "close"),
            *self._request.headers,
            *([("Content-Length", str(len(self._request.body)))] if self._request.body else []),
        ]
        head = h11.Request(method=self._request.method, target=location.path, headers=headers)
        written = self._connection.send(head) or b""
        if self._request.body:
            written += self._connection.send(h11.Data(data=self._request.body)) or b""
        written += self._connection.send(h11.EndOfMessage()) or b""
        self._transmits.append(StreamWrite(self._stream, written))

    def stream_data(self, data: bytes, now: float) -> None:
        """Part of the answer."""
        self._feed(data)

    def stream_closed(self, error: str, now: float) -> None:
        """The stream is over: an answer without a length ends so."""
        if self._connection.their_state is h11.SEND_BODY:
            self._feed(b"")
        if not self._over:
            self._end(HttpFailed(error), close=False)

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        if not self._over:
            self._end(HttpFailed("nobody waits for it any more"))

    def _timer_expired(self, name: str, now: float) -> None:
        self._end(HttpFailed(f"{self._request.location} did not answer within {PATIENCE_S:g} s"))

    def _feed(self, data: bytes) -> None:
        if self._over or self._connection.our_state is h11.IDLE:
            return  # nothing was asked yet
        try:
            self._connection.receive_data(data)
            while not self._over and self._step():
                pass
        except h11.RemoteProtocolError as error:
            self._end(HttpFailed(f"not HTTP: {error}"))

    def _step(self) -> bool:
        """Take one event of the answer; False when more bytes are needed."""
        event = self._connection.next_event()
        if isinstance(event, h11.Response):
            self._status = event.status_code
        elif isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) > self._request.limit:
                self._end(HttpFailed(f"an answer of more than {self._request.limit} bytes"))
        elif isinstance(event, h11.EndOfMessage):
            self._end(HttpAnswered(self._status, bytes(self._body)))
        elif not isinstance(event, h11.InformationalResponse):
            return False
        return True

    def _end(self, outcome: Event, *, close: bool = True) -> None:
        self._over = True
        self._timers.cancel("patience")
        if close:
            self._events.append(CloseStream(self._stream))
        self._events.append(outcome)
