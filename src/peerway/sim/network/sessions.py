"""What a NAT remembers: mappings, the sessions they are used for, and the doors they stand behind.

Nothing is removed when it dies, only when its place is wanted or all is swept, so look at
`expires`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from peerway.core.machine import UdpAddress

SWEEP_FROM = 1024  # sessions; from so many on, what is dead is removed now and then

Tuple = tuple[str, int, str, int]  # one end's address and port, the remote's


def tuple_of(end: UdpAddress, remote: UdpAddress) -> Tuple:
    """What sessions are found by: an inside or outside endpoint, and a remote one."""
    return (end.ip, end.port, remote.ip, remote.port)


class Door:
    """An outside endpoint as the unasked see it.

    They reach its `owner`, if they come before `open_until`: by remote address, "" for anyone.
    It remains the owner's though others use it, until it is closed to everyone. (So it is where
    nftables learns, whose `update` leaves what it finds.)
    """

    __slots__ = ("open_until", "owner")

    def __init__(self, owner: Mapped) -> None:
        self.owner = owner
        self.open_until: dict[str, float] = {}

    def is_open(self, now: float) -> bool:
        """Whether it is to anyone at all."""
        return any(until > now for until in self.open_until.values())

    def is_in_use(self, now: float) -> bool:
        """Whether its owner has sessions, or it is open though there are none."""
        return self.owner.expires > now or self.is_open(now)

    def keep_open(self, who: str, until: float) -> None:
        """Be open to `who` at least until then."""
        self.open_until[who] = max(until, self.open_until.get(who, 0.0))


class Mapped:
    """An inside endpoint tied to an outside one, until `expires`. `dies` is the limit to that.

    `older` is what the inside endpoint was tied to before, where it got another for a collision:
    once this one has died, that one counts again if it lives.
    """

    __slots__ = ("dies", "door", "expires", "inside", "older", "outside")

    def __init__(self, inside: UdpAddress, outside: UdpAddress, door: Door | None, dies: float) -> None:
        self.inside = inside
        self.outside = outside
        self.door = door or Door(self)
        self.expires = 0.0
        self.older: Mapped | None = None
        self.dies = dies

    @property
    def is_new(self) -> bool:
        """Whether it was never used."""
        return self.expires == 0.0

    def living(self, now: float) -> Mapped | None:
        """The newest that lives, of this one and those it took the place of."""
        mapping: Mapped | None = self
        while mapping is not None and mapping.expires <= now:
            mapping = mapping.older
        return mapping


class Session:
    """A mapping in use towards `remote`, or a session of the router's own, without a mapping."""

    __slots__ = ("begun", "expires", "has_been_in", "has_been_out", "mapping", "remote")

    def __init__(self, mapping: Mapped | None, remote: UdpAddress, now: float) -> None:
        self.mapping = mapping
        self.remote = remote
        self.begun = now
        self.expires = now
        self.has_been_in = False
        self.has_been_out = False


class SessionTable:
    """All of it. No more than `limit` sessions in all, and `host_limit` for an inside host.

    Both limits may be changed at any time.
    """

    def __init__(self, limit: int, host_limit: int | None) -> None:
        self.from_inside: dict[Tuple, Session] = {}
        self.from_outside: dict[Tuple, Session] = {}
        self.mappings: dict[Hashable, Mapped] = {}
        self.doors: dict[UdpAddress, Door] = {}
        self.limit = limit
        self.host_limit = host_limit
        self._of_host: Counter[str] = Counter()
        self._sweep_size = SWEEP_FROM
        self._nothing_dies_before = 0.0

    def has_room(self, host: str, now: float) -> bool:
        """Whether the inside host may have another session ("": the router itself)."""
        if len(self.from_outside) >= self._sweep_size:
            self._sweep(now)
            self._sweep_size = max(SWEEP_FROM, 2 * len(self.from_outside))
        if self._is_full(host):
            self._sweep(now)
        return not self._is_full(host)

    def is_taken(self, outside: UdpAddress, remote: UdpAddress, now: float) -> bool:
        """Whether `remote` has a session with `outside` already, or is the same."""
        session = self.from_outside.get(tuple_of(outside, remote))
        return outside == remote or (session is not None and session.expires > now)

    def open(self, mapping: Mapped, remote: UdpAddress, now: float) -> Session:
        """A new session, in the place of dead ones."""
        inside, outside = tuple_of(mapping.inside, remote), tuple_of(mapping.outside, remote)
        for dead in (self.from_inside.get(inside), self.from_outside.get(outside)):
            if dead is not None:
                self._forget(dead)
        session = self.from_inside[inside] = self.from_outside[outside] = Session(mapping, remote, now)
        self._of_host[mapping.inside.ip] += 1
        self._nothing_dies_before = now
        return session

    def open_own(self, outside: UdpAddress, remote: UdpAddress, now: float, expires: float) -> None:
        """A new session of the router's own, in the place of another such."""
        session = self.from_outside[tuple_of(outside, remote)] = Session(None, remote, now)
        session.expires = expires
        self._nothing_dies_before = min(self._nothing_dies_before, expires)

    def _is_full(self, host: str) -> bool:
        if len(self.from_outside) >= self.limit:
            return True
        return self.host_limit is not None and self._of_host[host] >= self.host_limit

    def _forget(self, session: Session) -> None:
        mapping = session.mapping
        if mapping is None:
            return  # another takes its place at once
        inside, outside = tuple_of(mapping.inside, session.remote), tuple_of(mapping.outside, session.remote)
        if self.from_inside.get(inside) is session:
            del self.from_inside[inside]
            self._of_host[mapping.inside.ip] -= 1
        if self.from_outside.get(outside) is session:
            del self.from_outside[outside]

    def _sweep(self, now: float) -> None:
        """Remove what is dead, unless nothing can be."""
        if now < self._nothing_dies_before:
            return
        for session in [s for s in self.from_inside.values() if s.expires <= now]:
            self._forget(session)
        self.from_outside = {key: s for key, s in self.from_outside.items() if s.expires > now}
        self.mappings = {key: alive for key, m in self.mappings.items() if (alive := m.living(now))}
        in_use = [s.mapping for s in self.from_inside.values() if s.mapping is not None]
        self.doors = {outside: door for outside, door in self.doors.items() if door.is_in_use(now)}
        self.doors |= {mapping.outside: mapping.door for mapping in in_use}
        for door in self.doors.values():
            door.open_until = {who: until for who, until in door.open_until.items() if until > now}
        self._nothing_dies_before = min((s.expires for s in self.from_outside.values()), default=now)
