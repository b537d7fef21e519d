"""Does the gateway forward what it says it maps? Seen from outside, with a STUN server's help (RFC 5780).

A server that has another address, or another port, is asked to answer from there, and to the mapped
port where that is not the one we are seen at. Nothing was ever sent to that other place, so an answer
from it got in by the mapping, or through a NAT so open that it needs none. Which servers can is seen
by asking in the ordinary way first; no answer from one that can, three times, means: not forwarded.

    check() -> a server that sees us at the mapped address --can answer from elsewhere--> detour
                  `- none -> Unseen(None)                     answered -> Seen   silent -> Unseen(False)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from peerway.core.machine import Composite, Datagram, Event, Rng, UdpAddress
from peerway.core.stun.client import Detour, MappingLearned, QueryFailed, Schedule, StunClient

SCHEDULE = Schedule((0.0, 0.5, 1.5), 3.0)
MAX_SERVERS = 4


@dataclass(frozen=True, slots=True)
class Seen(Event):
    """Something that nobody had asked for came in; `how` says from where."""

    how: str


@dataclass(frozen=True, slots=True)
class Unseen(Event):
    """Nothing came in, though it was sent (`sent`); or nobody could send it."""

    sent: bool
    how: str


class OutsideCheck(Composite[str]):
    """One check at a time; a new one replaces what is under way."""

    def __init__(self, rng: Rng) -> None:
        super().__init__()
        self._rng = rng
        self._stun = StunClient(rng, SCHEDULE)
        self._adopt("stun", self._stun)
        self._external: UdpAddress | None = None
        self._local = UdpAddress("", 0)
        self._servers: list[UdpAddress] = []

    def check(
        self,
        external: UdpAddress,
        local: UdpAddress,
        servers: Mapping[UdpAddress, UdpAddress],
        now: float,
    ) -> None:
        """Is `external` forwarded to our socket `local`? `servers`: where each saw that socket."""
        self.stop()
        self._external, self._local = external, local
        self._servers = [server for server, seen in servers.items() if seen.ip == external.ip][:MAX_SERVERS]
        self._ask_next(now)
        self._finish(now)

    @property
    def is_busy(self) -> bool:
        """Whether a check is under way."""
        return self._external is not None

    def stop(self) -> None:
        """Forget what is under way."""
        self._external = None
        self._stun.cancel(self._local)

    def receive(self, datagram: Datagram, now: float) -> bool:
        """A STUN message that came to the shared socket; whether it was for us."""
        taken = len(self._stun) > 0 and self._stun.receive(datagram, now)
        if taken:
            self._finish(now)
        return taken

    def _ask_next(self, now: float) -> None:
        if self._servers:
            self._stun.query(self._servers[0], self._local, now)
        elif self._external is not None:
            self._external = None
            self._events.append(Unseen(False, "no STUN server could try"))

    def _child_event(self, key: str, event: Event, now: float) -> None:
        if self._external is None:
            return
        if isinstance(event, MappingLearned):
            self._answered(event, self._external, now)
        elif isinstance(event, QueryFailed):
            self._failed(event, now)
        self._touch(key)  # it may have been asked something more

    def _answered(self, event: MappingLearned, external: UdpAddress, now: float) -> None:
        if event.detour is not None:
            self._external = None
            self._events.append(Seen(f"{event.detour.origin}, to which nothing was sent, got in"))
            return
        if event.other is None or event.mapped.ip != external.ip:
            self._servers.pop(0)
            self._ask_next(now)
            return
        seen_elsewhere = event.mapped.port != external.port
        detour = Detour(
            event.other,
            self._local if seen_elsewhere else None,
            external.port if seen_elsewhere else 0,
            any_port=True,
        )
        self._stun.query(event.server, self._local, now, detour)

    def _failed(self, event: QueryFailed, now: float) -> None:
        if event.detour is not None and not event.answered:
            self._external = None
            self._events.append(
                Unseen(True, f"what {event.server} sent from {event.detour.origin} did not arrive")
            )
            return
        self._servers.pop(0)
        self._ask_next(now)

    def _finish(self, now: float) -> None:
        self._touch("stun")
        self._settle(now)
