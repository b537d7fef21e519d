"""The single things a check does, and what comes of each.

A probe is a value: the plan asks for it, the machine carries it out once, and its outcome is kept
under it. Sockets go by names; one that was not named before is opened, and is at a port of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from peerway.core.machine import UdpAddress


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the STUN `server` from the socket `socket`.

    `origin`: the answer is to come from there. `arrives_at`: it is to come to that socket, of which
    the server has told what it sees. `since`, `age_s`: not before what it told of that socket is so old.
    """

    socket: str
    server: UdpAddress
    origin: UdpAddress | None = None
    arrives_at: str = ""
    since: str = ""
    age_s: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether it is an ordinary question: what does the server see of this socket?"""
        return self.origin is None and not self.arrives_at


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask the HTTP server at `url`, a relay's, for the page that proves it is one."""

    url: str


@dataclass(frozen=True, slots=True)
class Meet:
    """Have two sockets send to each other's outside addresses, as `server` saw them."""

    one: str
    other: str
    server: UdpAddress


Probe = Ask | Fetch | Meet


@dataclass(frozen=True, slots=True)
class Answer:
    """The server saw the socket come from `mapped`; `at` is when we heard.

    `round_trip` is None where the question was sent more than once; `other` is from where else the
    server answers.
    """

    mapped: UdpAddress
    local: UdpAddress
    round_trip: float | None
    other: UdpAddress | None
    at: float


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing came back; `reason` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something came back that is of no use; `reason` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Page:
    """An HTTP server answered.

    `genuine`: it knows what only a relay knows. `diverts`: it answered in a way that portals do,
    with a page of its own or by sending us elsewhere. `round_trip` is that of a request on the
    connection that stood, None where there was none.
    """

    status: int
    genuine: bool
    diverts: bool
    round_trip: float | None = None


@dataclass(frozen=True, slots=True)
class Met:
    """What came of two sockets sending to each other's outside addresses.

    `arrived`: something did. `inside_source`: it showed the inside address of the sender.
    """

    arrived: bool
    inside_source: bool = False


Outcome = Answer | Silence | Refusal | Page | Met
