"""The HTTP/1.1 a relay server speaks before DERP takes the connection over.

`GET /derp` with `Upgrade: DERP` is answered 101 and everything behind it is DERP; with
`Derp-Fast-Start: 1` the 101 itself is left out, as Tailscale's clients want it. Probes of latency
and of captive portals are answered here, on connections that never become DERP.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

import h11

from peerway.core.relay.access import Access

MAX_HEAD = 8 << 10  # bytes of a request before its body
MAX_REQUESTS = 32  # on one connection, then it is closed: a reader that never reads cannot pile up answers

_CHALLENGE = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_NO_CACHE = (b"Cache-Control", b"no-cache, no-store, must-revalidate, no-transform, max-age=0")

Headers = list[tuple[bytes, bytes]]


class HttpNext(Enum):
    """What becomes of the connection after the bytes that were just read."""

    MORE = "more requests may follow"
    DERP = "DERP from here on"
    CLOSE = "close it"


@dataclass(frozen=True, slots=True)
class HttpStep:
    """What to write, how to go on, and with DERP the bytes that came behind the request."""

    write: bytes
    then: HttpNext
    rest: bytes = b""
    refused: str = ""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    reason: bytes
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


_UNAUTHORIZED = _Answer(
    401, b"Unauthorized", b"this relay is not open to all\n", ((b"WWW-Authenticate", b"Bearer"),)
)


class HttpFront:
    """One connection's HTTP, from its first byte to the upgrade. `token` is what its client showed there."""

    def __init__(self, access: Access | None = None) -> None:
        self.token = b""
        self._access = access or Access()
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._request: h11.Request | None = None
        self._requests = 0

    def receive(self, data: bytes) -> HttpStep:
        """Take the next bytes. After a step that ends in DERP or CLOSE there must be no other."""
        written: list[bytes] = []
        try:
            self._connection.receive_data(data)
            while True:
                event = self._connection.next_event()
                if event is h11.NEED_DATA:
                    return HttpStep(b"".join(written), HttpNext.MORE)
                if isinstance(event, h11.ConnectionClosed):
                    return HttpStep(b"".join(written), HttpNext.CLOSE)
                if isinstance(event, h11.Request):
                    self._request = event
                elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                    step = self._end_of_request(self._request)
                    written.append(step.write)
                    if step.then is not HttpNext.MORE:
                        return HttpStep(b"".join(written), step.then, step.rest, step.refused)
        except h11.RemoteProtocolError as error:
            written.append(self._reject(error))
            return HttpStep(b"".join(written), HttpNext.CLOSE, refused=f"not HTTP: {error}")

    def _end_of_request(self, request: h11.Request) -> HttpStep:
        self._requests += 1
        answer = _answer(request)
        if answer is None:
            self.token = _bearer_token(request)
            if self._access.wants_token and not self._access.admits_token(self.token):
                written = self._respond(_UNAUTHORIZED, head=False, last=True)
                return HttpStep(written, HttpNext.CLOSE, refused="token not admitted")
            rest = self._connection.trailing_data[0]
            fast_start = _header(request, b"derp-fast-start") == b"1"
            return HttpStep(b"" if fast_start else self._switch(), HttpNext.DERP, rest)
        last = self._requests >= MAX_REQUESTS
        written = self._respond(answer, request.method == b"HEAD", last)
        if self._connection.our_state is h11.DONE and self._connection.their_state is h11.DONE:
            self._connection.start_next_cycle()
            return HttpStep(written, HttpNext.MORE)
        return HttpStep(written, HttpNext.CLOSE)

    def _switch(self) -> bytes:
        headers: Headers = [(b"Upgrade", b"DERP"), (b"Connection", b"Upgrade"), (b"Derp-Version", b"2")]
        response = h11.InformationalResponse(status_code=101, headers=headers, reason=b"Switching Protocols")
        return self._connection.send(response) or b""

    def _respond(self, answer: _Answer, head: bool, last: bool) -> bytes:
        headers: Headers = list(answer.headers)
        if answer.status != 204:
            headers += [(b"Content-Type", b"text/plain"), (b"Content-Length", b"%d" % len(answer.body))]
        if last:
            headers.append((b"Connection", b"close"))
        response = h11.Response(status_code=answer.status, headers=headers, reason=answer.reason)
        written = self._connection.send(response) or b""
        if answer.body and not head:
            written += self._connection.send(h11.Data(data=answer.body)) or b""
        return written + (self._connection.send(h11.EndOfMessage()) or b"")

    def _reject(self, error: h11.RemoteProtocolError) -> bytes:
        return self._respond(_Answer(error.error_status_hint, b"Bad Request"), head=False, last=True)


def _answer(request: h11.Request) -> _Answer | None:
    """The answer to a request; None for one that upgrades to DERP."""
    path = request.target.split(b"?", 1)[0]
    if path not in (b"/derp", b"/derp/probe", b"/derp/latency-check", b"/generate_204"):
        return _Answer(404, b"Not Found", b"nothing here; the relay is at /derp\n")
    if request.method != b"GET" and not (request.method == b"HEAD" and path != b"/derp"):
        return _Answer(405, b"Method Not Allowed", headers=((b"Allow", b"GET"),))
    if path == b"/generate_204":
        return _no_content(request)
    if path != b"/derp":
        return _Answer(200, b"OK", headers=((b"Access-Control-Allow-Origin", b"*"),))
    if _header(request, b"upgrade").lower() != b"derp":
        headers = ((b"Upgrade", b"DERP"), (b"Connection", b"Upgrade"))
        return _Answer(426, b"Upgrade Required", b"this is a DERP relay; it needs Upgrade: DERP\n", headers)
    return None


def _no_content(request: h11.Request) -> _Answer:
    """204, with proof that no captive portal made it up where the client asks for that."""
    challenge = _header(request, b"x-tailscale-challenge")
    if _CHALLENGE.fullmatch(challenge):
        return _Answer(
            204, b"No Content", headers=(_NO_CACHE, (b"X-Tailscale-Response", b"response " + challenge))
        )
    return _Answer(204, b"No Content", headers=(_NO_CACHE,))


def _bearer_token(request: h11.Request) -> bytes:
    """What stands behind `Authorization: Bearer` (RFC 6750 2.1), empty without."""
    scheme, _, token = _header(request, b"authorization").partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _header(request: h11.Request, name: bytes) -> bytes:
    return next((value for key, value in request.headers if key == name), b"")
