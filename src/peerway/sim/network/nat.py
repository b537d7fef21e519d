"""One NAT or stateful firewall: pure, no links, no packets, only who becomes whom.

A *mapping* ties an inside address and port to an outside one; how many mappings an inside one
has is the NAT's `mapping`. A *session* is a mapping with one remote address and port; the inside
begins it, or the outside where `filtering` lets it in unasked. Sessions die when idle, and
mappings with the last of their sessions. A firewall is a NAT that does not translate: the
outside address is the inside one.

This is how Linux tracks connections: of the outside it sees a tuple, outside address and port
and remote address and port, that no two sessions may share. Should a new session's tuple be
taken, it gets another port, however its mapping was, and so does what the host begins thereafter.

RFC 4787 speaks of permits of an inside address, routers keep them for each mapping; we do
as the routers, and it differs only where the mapping is not endpoint-independent.

An inside endpoint may be *forwarded*: it has asked for an outside port of its own, which then is
its only one, and open to everybody (RFC 6887 calls that an explicit mapping).

**Poisoning.** Linux tracks what it lets into itself. With its INPUT chain open, a packet
from outside that matches no session leaves one of the router's own. When the inside host then
sends to that peer the tuple is taken, and it gets another, random port.
"""

from __future__ import annotations

import math
import random
from enum import Enum

from peerway.core.machine import UdpAddress
from peerway.core.nat import Filtering, Mapping
from peerway.sim.network.behaviour import Hairpin, NatBehaviour, Pooling
from peerway.sim.network.ports import PortAllocator
from peerway.sim.network.sessions import Mapped, Session, SessionTable, tuple_of

__all__ = ["Hairpin", "Nat", "NatBehaviour", "Pooling", "Refusal"]

STREAM_AFTER_S = 2.0  # Linux: nf_conntrack_proto_udp.c


class Refusal(Enum):
    """Why a packet was dropped."""

    UDP_BLOCKED = "udp blocked"
    NO_MAPPING = "no mapping"
    FILTERED = "filtered"
    NO_FREE_PORT = "no free port"
    NO_HAIRPIN = "no hairpin"
    SESSION_LIMIT = "session limit"


class Nat:
    """A NAT with the address `outside_ip`, or several; a firewall needs none.

    `boots` counts how often it began with nothing.
    """

    def __init__(
        self, behaviour: NatBehaviour, outside_ip: str | tuple[str, ...], rng: random.Random
    ) -> None:
        self.behaviour = behaviour
        self.outside_ips = _all(outside_ip)
        self.boots = 0
        self._rng = rng
        self.reboot()

    def reboot(self, outside_ip: str | tuple[str, ...] = ()) -> None:
        """Forget everything, and come back with other outside addresses where there are any."""
        behaviour = self.behaviour
        self.boots += 1
        self.outside_ips = _all(outside_ip) or self.outside_ips
        self._allocator = PortAllocator(behaviour, self.outside_ips, self._rng)
        self._table = SessionTable(behaviour.session_limit, behaviour.host_session_limit)
        self._forwards: dict[UdpAddress, Mapped] = {}  # by inside endpoint, and by outside one
        self._forwarded: dict[UdpAddress, Mapped] = {}
        self.behave(behaviour)

    def behave(self, behaviour: NatBehaviour) -> None:
        """Do so from now on; the mappings and sessions that there are remain."""
        self.behaviour = behaviour
        self._is_easy = behaviour.mapping is Mapping.ENDPOINT_INDEPENDENT
        self._has_doors = behaviour.filtering is not Filtering.ADDRESS_AND_PORT_DEPENDENT
        self._allocator.behaviour = behaviour
        self._table.limit, self._table.host_limit = behaviour.session_limit, behaviour.host_session_limit

    # --- ports that the inside asks for ----------------------------------------------

    def forward(self, inside: UdpAddress, port: int, until: float, now: float) -> int:
        """Tie `inside` to an outside port until then, both ways and for everybody; the port, 0 for none left.

        It is `port`, or the next that is free; who has one keeps it.
        """
        known = self._forwards.get(inside)
        if known is not None and known.dies > now:
            known.dies = until
            return known.outside.port
        outside_ip = self.forward_ip(inside.ip)
        for candidate in range(max(port, 1024), 65536):
            outside = UdpAddress(outside_ip, candidate)
            taken, door = self._forwarded.get(outside), self._table.doors.get(outside)
            others = door is not None and door.is_in_use(now) and door.owner.inside != inside
            if (taken is None or taken.dies <= now) and not others:
                self._forwards[inside] = self._forwarded[outside] = Mapped(inside, outside, None, until)
                return candidate
        return 0

    def forward_ip(self, inside_ip: str) -> str:
        """The outside address of the ports that are tied to `inside_ip`."""
        return self._allocator.paired_ip(inside_ip)

    def unforward(self, inside: UdpAddress) -> None:
        """What `inside` had asked for is as it was before."""
        known = self._forwards.pop(inside, None)
        if known is not None:
            self._forwarded.pop(known.outside, None)

    # --- packets -------------------------------------------------------------------

    def outbound(self, source: UdpAddress, destination: UdpAddress, now: float) -> UdpAddress | Refusal:
        """The source that the outside sees of a packet from inside."""
        if self.behaviour.udp_blocked:
            return Refusal.UDP_BLOCKED
        session = self._table.from_inside.get((source.ip, source.port, destination.ip, destination.port))
        if session is None or session.expires <= now:
            begun = self._begin(source, destination, now)
            if isinstance(begun, Refusal):
                return begun
            session = begun
        mapping = session.mapping
        assert mapping is not None  # the router's own have no inside
        self._refresh(session, mapping, now)
        session.has_been_out = True
        if self._has_doors:
            self._keep_open(session, mapping, now)
        else:
            mapping.door.owner = mapping
        return mapping.outside

    def inbound(self, source: UdpAddress, destination: UdpAddress, now: float) -> UdpAddress | Refusal:
        """The inside address that a packet from outside is for."""
        if self.behaviour.udp_blocked:
            return Refusal.UDP_BLOCKED
        session = self._table.from_outside.get((destination.ip, destination.port, source.ip, source.port))
        if session is None or session.expires <= now:
            return self._unasked(source, destination, now)
        if session.mapping is None:
            return self._refuse(source, destination, now)
        self._received(session, session.mapping, now)
        return session.mapping.inside

    def hairpin(
        self, source: UdpAddress, destination: UdpAddress, now: float
    ) -> tuple[UdpAddress, UdpAddress] | Refusal:
        """Source and destination of a packet from inside to our own outside address."""
        if self.behaviour.hairpin is Hairpin.NONE:
            return Refusal.NO_HAIRPIN
        outside = self.outbound(source, destination, now)
        if isinstance(outside, Refusal):
            return outside
        inside = self.inbound(outside, destination, now)
        if isinstance(inside, Refusal):
            return inside
        return (source if self.behaviour.hairpin is Hairpin.INTERNAL_SOURCE else outside, inside)

    def error_inbound(self, source: UdpAddress, destination: UdpAddress, now: float) -> UdpAddress | Refusal:
        """The inside address that an ICMP error about something sent to `source` is for."""
        session = self._table.from_outside.get(tuple_of(destination, source))
        if session is None or session.expires <= now or session.mapping is None:
            return Refusal.NO_MAPPING
        return session.mapping.inside

    def error_outbound(self, source: UdpAddress, destination: UdpAddress, now: float) -> UdpAddress | Refusal:
        """The source that the outside sees of an ICMP error about something sent by `destination`."""
        session = self._table.from_inside.get(tuple_of(source, destination))
        if session is None or session.expires <= now or session.mapping is None:
            return Refusal.NO_MAPPING
        return session.mapping.outside

    def stream_ip(self, inside_ip: str) -> str:
        """The source address that the outside sees of a byte stream from `inside_ip`."""
        return self._allocator.outside_ip(inside_ip) if self.behaviour.translates else inside_ip

    # --- sessions ------------------------------------------------------------------

    def _begin(self, source: UdpAddress, destination: UdpAddress, now: float) -> Session | Refusal:
        if not self._table.has_room(source.ip, now):
            return Refusal.SESSION_LIMIT
        mapping = self._mapping_for(source, destination, now)
        return Refusal.NO_FREE_PORT if mapping is None else self._table.open(mapping, destination, now)

    def _refresh(self, session: Session, mapping: Mapped, now: float) -> None:
        idle, stream_idle = self.behaviour.idle_s, self.behaviour.stream_idle_s
        if stream_idle is not None and session.has_been_in and session.has_been_out:
            idle = stream_idle if now > session.begun + STREAM_AFTER_S else idle
        session.expires = min(now + idle, mapping.dies)
        if session.expires > mapping.expires:
            mapping.expires = session.expires

    def _received(self, session: Session, mapping: Mapped, now: float) -> None:
        """A packet of `session` came from outside."""
        if self.behaviour.inbound_refreshes:
            self._refresh(session, mapping, now)
            if self._has_doors and self.behaviour.memory_s is None:
                self._keep_open(session, mapping, now)
        session.has_been_in = True

    # --- mappings ------------------------------------------------------------------

    def _mapping_for(self, source: UdpAddress, destination: UdpAddress, now: float) -> Mapped | None:
        forwarded = self._forwards.get(source)
        if forwarded is not None and forwarded.dies > now:
            return forwarded
        key = (source, self._dependent_on(destination))
        newest = self._table.mappings.get(key)
        known = newest.living(now) if newest is not None else None
        if known is not None and not self._table.is_taken(known.outside, destination, now):
            return known
        mapping = self._new_mapping(source, destination, now)
        if mapping is not None:
            if mapping.is_new:
                mapping.older = known
            self._table.mappings[key] = mapping
        return mapping

    def _dependent_on(self, remote: UdpAddress) -> UdpAddress | str | None:
        """What of `remote` the mapping depends on."""
        if self._is_easy:
            return None
        return remote.ip if self.behaviour.mapping is Mapping.ADDRESS_DEPENDENT else remote

    def _new_mapping(self, source: UdpAddress, destination: UdpAddress, now: float) -> Mapped | None:
        proposals = self._allocator.proposals(source, now) if self.behaviour.translates else (source,)
        for outside in proposals:
            forwarded = self._forwarded.get(outside)
            if forwarded is not None and forwarded.dies > now:
                continue
            if self._table.is_taken(outside, destination, now):
                continue
            door = self._table.doors.get(outside)
            if door is None or not door.is_in_use(now):
                return self._map(source, outside, now)
            if door.owner.inside == source and door.owner.expires > now:
                if self._is_easy or not self.behaviour.translates:
                    return door.owner
            elif self.behaviour.overloads and self._allocator.preserves(source, outside):
                return self._map(source, outside, now)
        return None

    def _map(self, source: UdpAddress, outside: UdpAddress, now: float) -> Mapped:
        lifetime, door = self.behaviour.lifetime_s, self._table.doors.get(outside)
        if door is not None and not door.is_in_use(now):
            door = None
        mapping = Mapped(source, outside, door, math.inf if lifetime is None else now + lifetime)
        self._table.doors[outside] = mapping.door
        return mapping

    # --- who gets in unasked -------------------------------------------------------

    def _keep_open(self, session: Session, mapping: Mapped, now: float) -> None:
        """Let in whom the filtering allows now that `session` is in use."""
        memory, door = self.behaviour.memory_s, mapping.door
        if door.owner is not mapping and not door.is_open(now):
            door.owner = mapping
        until = session.expires if memory is None else min(now + memory, mapping.dies)
        door.keep_open(self._whom(session.remote.ip), until)

    def _whom(self, remote_ip: str) -> str:
        return "" if self.behaviour.filtering is Filtering.ENDPOINT_INDEPENDENT else remote_ip

    def _unasked(self, source: UdpAddress, destination: UdpAddress, now: float) -> UdpAddress | Refusal:
        """A packet that belongs to no session."""
        forwarded = self._forwarded.get(destination)
        if forwarded is not None and forwarded.dies > now:
            return self._let_in(forwarded, source, now)
        if self._has_doors:
            door = self._table.doors.get(destination)
            if door is not None and door.open_until.get(self._whom(source.ip), 0.0) > now:
                return self._admit(door.owner, source, now)
        return self._refuse(source, destination, now)

    def _admit(self, mapping: Mapped, source: UdpAddress, now: float) -> UdpAddress | Refusal:
        if not self._is_easy:
            # The answer gets a mapping of its own, so here is no session to be had.
            if self.behaviour.inbound_refreshes and self.behaviour.memory_s is None:
                until = min(now + self.behaviour.idle_s, mapping.dies)
                mapping.door.keep_open(self._whom(source.ip), until)
                mapping.expires = max(mapping.expires, until)
            return mapping.inside
        known = self._table.from_inside.get(tuple_of(mapping.inside, source))
        if known is None or known.expires <= now:
            if not self._table.has_room(mapping.inside.ip, now):
                return Refusal.SESSION_LIMIT
            session = self._table.open(mapping, source, now)
            self._refresh(session, mapping, now)
            self._received(session, mapping, now)
        return mapping.inside

    def _let_in(self, forwarded: Mapped, source: UdpAddress, now: float) -> UdpAddress | Refusal:
        """What comes for a forwarded port; what the host had begun with that remote goes on there."""
        if not self._table.has_room(forwarded.inside.ip, now):
            return Refusal.SESSION_LIMIT
        session = self._table.open(forwarded, source, now)
        self._refresh(session, forwarded, now)
        self._received(session, forwarded, now)
        return forwarded.inside

    def _refuse(self, source: UdpAddress, destination: UdpAddress, now: float) -> Refusal:
        """A packet for nobody inside; where the INPUT chain is open it leaves a session of our own."""
        if self.behaviour.input_open and self._table.has_room("", now):
            self._table.open_own(destination, source, now, now + self.behaviour.idle_s)
        door = self._table.doors.get(destination)
        return Refusal.NO_MAPPING if door is None or door.owner.expires <= now else Refusal.FILTERED


def _all(ips: str | tuple[str, ...]) -> tuple[str, ...]:
    return ips if isinstance(ips, tuple) else (ips,) if ips else ()
