"""Asking a relay's HTTP server for the page that proves it is one, and how long that takes.

    stream opened -> GET /generate_204 -> GET /derp/latency-check on the same connection -> done

The first request carries a challenge; only who speaks HTTP as relays do has the answer to it. The
second is timed: the connection stands, so that the time is one round trip and the server's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import h11

from peerway.core.machine import CloseStream, Event, Leaf, OpenStream, StreamWrite
from peerway.core.netcheck.knowledge import PORTAL_STATUSES
from peerway.core.netcheck.probes import Outcome, Page, Refusal, Silence
from peerway.core.relay.url import RelayUrl

PATIENCE_S = 3.0  # for connection, TLS and both requests
MAX_HEAD = 16 << 10  # bytes


@dataclass(frozen=True, slots=True)
class PageSeen(Event):
    """What came of it."""

    outcome: Outcome


class PageProbe(Leaf):
    """One look at the HTTP server at `url`, over the stream `stream`; `challenge` is 1 to 64 letters."""

    def __init__(self, url: RelayUrl, stream: str, challenge: str, now: float) -> None:
        super().__init__()
        self._url = url
        self._stream = stream
        self._challenge = challenge
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._page: Page | None = None
        self._asked_at = now
        self._done = False
        self._timers.set("patience", now + PATIENCE_S, f"netcheck: {url} does not answer")
        self._events.append(OpenStream(stream, str(url)))

    def stream_opened(self, now: float) -> None:
        """The connection stands."""
        self._request("/generate_204", (("X-Tailscale-Challenge", self._challenge),))

    def stream_data(self, data: bytes, now: float) -> None:
        """Bytes from the server."""
        if self._done or not data:
            return
        try:
            self._http.receive_data(data)
            while not self._done and (event := self._http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                self._took(event, now)
        except h11.RemoteProtocolError as error:
            self._drop("not HTTP")
            self._finish(self._page or Refusal(f"what answers does not speak HTTP ({error})"))

    def stream_closed(self, error: str, now: float) -> None:
        """The connection ended, or never stood."""
        self._end(self._page or Silence(error or "closed without an answer"))

    def _took(self, event: h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED], now: float) -> None:
        if isinstance(event, h11.Response):
            self._answered(event, now)
        elif isinstance(event, h11.ConnectionClosed):
            self._finish(self._page or Silence("closed without an answer"))
        elif isinstance(event, h11.EndOfMessage) and self._page is not None:
            self._ask_again(self._page, now)

    def _answered(self, response: h11.Response, now: float) -> None:
        if self._page is not None:
            page = self._page
            self._finish(Page(page.status, page.genuine, page.diverts, now - self._asked_at))
            return
        proof = next((value for key, value in response.headers if key == b"x-tailscale-response"), b"")
        genuine = response.status_code == 204 and proof == f"response {self._challenge}".encode()
        diverts = not genuine and response.status_code in PORTAL_STATUSES
        self._page = Page(response.status_code, genuine, diverts)
        if not genuine:
            self._finish(self._page)

    def _ask_again(self, page: Page, now: float) -> None:
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._asked_at = now
            self._request("/derp/latency-check", ())
        else:
            self._finish(page)

    def _request(self, target: str, headers: tuple[tuple[str, str], ...]) -> None:
        request = h11.Request(method="GET", target=target, headers=[("Host", self._url.authority), *headers])
        data = (self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        self._transmits.append(StreamWrite(self._stream, data))

    def _timer_expired(self, name: str, now: float) -> None:
        self._finish(self._page or Silence(f"no answer within {PATIENCE_S:g} s"))

    def _finish(self, outcome: Outcome) -> None:
        if not self._done:
            self._events.append(CloseStream(self._stream))
            self._end(outcome)

    def _end(self, outcome: Outcome) -> None:
        if not self._done:
            self._done = True
            self._timers.cancel("patience")
            self._events.append(PageSeen(outcome))
