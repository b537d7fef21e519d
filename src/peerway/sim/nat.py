"""One NAT or stateful firewall: pure, no links, no packets, only who becomes whom.

A mapping ties an inside address to an outside one; how many mappings an inside address has
is the NAT's `mapping`. A mapping holds permits, made by what went out through it; whom a
permit lets in is the NAT's `filtering`. Mappings and permits die when idle. A firewall is
a NAT that does not translate: the outside address is the inside one.

RFC 4787 speaks of permits of an inside address, routers keep them for each mapping; we do
as the routers, and it differs only where the mapping is not endpoint-independent.

**Poisoning.** Linux tracks what it lets into itself. With its INPUT chain open, a packet
from outside that matches no mapping leaves an entry (peer, outside address). When the
inside host then sends to that peer the tuple is taken, and it gets another, random port.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import Enum

from peerway.core.machine import UdpAddress
from peerway.core.nat import Filtering, Mapping, PortAllocation
from peerway.sim.behaviour import Hairpin, NatBehaviour, Pooling

__all__ = ["Hairpin", "Nat", "NatBehaviour", "Pooling", "Refusal"]

PERMITS_LIMIT = 65_536  # for each mapping; the oldest goes
POISON_LIMIT = 65_536  # the oldest goes
POISON_S = 30.0  # Linux: nf_conntrack_udp_timeout
RANDOM_PORTS = (1024, 65536)
SEQUENTIAL_PORTS = (30000, 34096)
ALLOCATION_TRIES = 256

_Scope = UdpAddress | str | None


class Refusal(Enum):
    """Why a packet was dropped."""

    UDP_BLOCKED = "udp blocked"
    NO_MAPPING = "no mapping"
    FILTERED = "filtered"
    NO_FREE_PORT = "no free port"
    NO_HAIRPIN = "no hairpin"


@dataclass(slots=True)
class _Entry:
    inside: UdpAddress
    outside: UdpAddress
    key: tuple[UdpAddress, _Scope]
    expires: float
    permits: dict[_Scope, float] = field(default_factory=dict)


def _scope(dependence: Mapping | Filtering, remote: UdpAddress) -> _Scope:
    """The part of `remote` that matters."""
    if dependence in (Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT):
        return None
    by_address = dependence in (Mapping.ADDRESS_DEPENDENT, Filtering.ADDRESS_DEPENDENT)
    return remote.ip if by_address else remote


class Nat:
    """A NAT with the address `outside_ip`, or several; a firewall needs none."""

    def __init__(
        self, behaviour: NatBehaviour, outside_ip: str | tuple[str, ...], rng: random.Random
    ) -> None:
        self.behaviour = behaviour
        self.outside_ips = _all(outside_ip)
        self.boots = 1
        self._rng = rng
        self._entries: dict[tuple[UdpAddress, _Scope], _Entry] = {}
        self._diverted: dict[tuple[UdpAddress, _Scope], _Entry] = {}
        self._by_outside: dict[UdpAddress, _Entry] = {}
        self._poison: dict[tuple[UdpAddress, UdpAddress], float] = {}
        self._next_port = SEQUENTIAL_PORTS[0]

    def outbound(self, source: UdpAddress, destination: UdpAddress, now: float) -> UdpAddress | Refusal:
        """The source that the outside sees of a packet from inside."""
        if self.behaviour.udp_blocked:
            return Refusal.UDP_BLOCKED
        entry = self._live(self._diverted.get((source, destination)), now)
        if entry is None:
            entry = self._entry_for(source, destination, now)
        if entry is None:
            return Refusal.NO_FREE_PORT
        entry.expires = now + self.behaviour.idle_s
        scope = _scope(self.behaviour.filtering, destination)
        entry.permits.pop(scope, None)
        entry.permits[scope] = entry.expires
        if len(entry.permits) > PERMITS_LIMIT:
            del entry.permits[next(iter(entry.permits))]
        return entry.outside

    def inbound(self, source: UdpAddress, destination: UdpAddress, now: float) -> UdpAddress | Refusal:
        """The inside address that a packet from outside is for."""
        if self.behaviour.udp_blocked:
            return Refusal.UDP_BLOCKED
        entry = self._live(self._by_outside.get(destination), now)
        scope = _scope(self.behaviour.filtering, source)
        if entry is not None and entry.permits.get(scope, now) > now:
            if self.behaviour.inbound_refreshes:
                entry.expires = entry.permits[scope] = now + self.behaviour.idle_s
            return entry.inside
        if self.behaviour.input_open:
            self._poison.pop((source, destination), None)
            self._poison[source, destination] = now + POISON_S
            if len(self._poison) > POISON_LIMIT:
                del self._poison[next(iter(self._poison))]
        return Refusal.NO_MAPPING if entry is None else Refusal.FILTERED

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
        return inside if isinstance(inside, Refusal) else (outside, inside)

    def error_inbound(self, source: UdpAddress, destination: UdpAddress, now: float) -> UdpAddress | Refusal:
        """The inside address that an ICMP error about something sent to `source` is for."""
        entry = self._live(self._by_outside.get(destination), now)
        return entry.inside if entry is not None else Refusal.NO_MAPPING

    def error_outbound(self, source: UdpAddress, destination: UdpAddress, now: float) -> UdpAddress | Refusal:
        """The source that the outside sees of an ICMP error about something sent by `destination`."""
        entry = self._live(self._entries.get((source, _scope(self.behaviour.mapping, destination))), now)
        return entry.outside if entry is not None else Refusal.NO_MAPPING

    def reboot(self, outside_ip: str | tuple[str, ...] = ()) -> None:
        """Forget everything, and come back with other outside addresses where there are any."""
        self.boots += 1
        self.outside_ips = _all(outside_ip) or self.outside_ips
        for table in (self._entries, self._diverted, self._by_outside, self._poison):
            table.clear()

    def _entry_for(self, source: UdpAddress, destination: UdpAddress, now: float) -> _Entry | None:
        key = (source, _scope(self.behaviour.mapping, destination))
        entry = self._live(self._entries.get(key), now)
        if entry is None:
            entry = self._create(key, self._allocate(source, self.behaviour.ports, now), now)
            if entry is None:
                return None
            self._entries[key] = entry
        scope = _scope(self.behaviour.filtering, destination)
        if entry.permits.get(scope, now) > now:
            return entry  # the flow is older than any poison
        if self._poison.get((destination, entry.outside), now) > now:
            key = (source, destination)
            entry = self._create(key, self._allocate(source, PortAllocation.RANDOM, now), now)
            if entry is not None:
                self._diverted[key] = entry
        return entry

    def _create(
        self, key: tuple[UdpAddress, _Scope], outside: UdpAddress | None, now: float
    ) -> _Entry | None:
        if outside is None:
            return None
        entry = _Entry(key[0], outside, key, now + self.behaviour.idle_s)
        self._by_outside[outside] = entry
        return entry

    def _live(self, entry: _Entry | None, now: float) -> _Entry | None:
        if entry is None or now < entry.expires:
            return entry
        del self._by_outside[entry.outside]
        table = self._entries if self._entries.get(entry.key) is entry else self._diverted
        del table[entry.key]
        return None

    def _allocate(self, source: UdpAddress, ports: PortAllocation, now: float) -> UdpAddress | None:
        if not self.behaviour.translates:
            return source
        if ports is PortAllocation.PRESERVING:
            preserved = UdpAddress(self.outside_ips[0], source.port)
            if self._live(self._by_outside.get(preserved), now) is None:
                return preserved
        sequential = ports is PortAllocation.SEQUENTIAL
        tries = SEQUENTIAL_PORTS[1] - SEQUENTIAL_PORTS[0] if sequential else ALLOCATION_TRIES
        for _ in range(tries):
            port = self._port_in_turn() if sequential else self._rng.randrange(*RANDOM_PORTS)
            outside = UdpAddress(self.outside_ips[0], port)
            if self._live(self._by_outside.get(outside), now) is None:
                return outside
        return None

    def _port_in_turn(self) -> int:
        port = self._next_port
        self._next_port = port + 1 if port + 1 < SEQUENTIAL_PORTS[1] else SEQUENTIAL_PORTS[0]
        return port


def _all(ips: str | tuple[str, ...]) -> tuple[str, ...]:
    return ips if isinstance(ips, tuple) else (ips,) if ips else ()
