"""Keeps a port mapped at every gateway there is, and gives all of them back at the end.

A gateway comes and goes with the interface that leads to it. What could not be removed, because the
interface went away or an earlier run was killed, is a *leftover*: it is remembered, and removed when
its gateway is met again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

from peerway.core.machine import (
    CloseSocket,
    Composite,
    Datagram,
    Event,
    InterfaceAddress,
    OpenSocket,
    Rng,
    UdpAddress,
)
from peerway.core.portmap.events import GatewayLeft, PortMappingsGivenBack, RememberLeases
from peerway.core.portmap.gateway import Gateway
from peerway.core.portmap.lease import Lease
from peerway.core.portmap.natpmp import ANNOUNCEMENT_PORT
from peerway.core.portmap.report import GatewayReport, PortMapping, Protocol
from peerway.core.portmap.uplink import Uplink, uplinks

MAX_LEFTOVERS = 32  # remembered, of all gateways; the oldest are forgotten
_ANNOUNCEMENTS = OpenSocket("", "0.0.0.0", ANNOUNCEMENT_PORT, shared=True)


@dataclass(frozen=True, slots=True)
class MappedAddressesChanged(Event):
    """The outside addresses that lead to us are these now."""

    addresses: tuple[UdpAddress, ...]


class PortMapper(Composite[Uplink]):
    """The gateways of one node. Not `active`, it asks nobody for anything."""

    def __init__(self, rng: Rng, *, active: bool = True) -> None:
        super().__init__()
        self._rng = rng
        self._active = active
        self._leftovers: dict[Lease, float] = {}  # and when each is over
        self._interfaces: tuple[InterfaceAddress, ...] = ()
        self._sockets: tuple[UdpAddress, ...] = ()
        self._gateways: dict[Uplink, Gateway] = {}
        self._asked: deque[tuple[Gateway, Protocol] | None] = deque()
        self._announcements: UdpAddress | None = None
        self._listens = False
        self._leaving = False
        self._seen: Mapping[UdpAddress, Mapping[UdpAddress, UdpAddress]] = {}
        self._told_leases: tuple[Lease, ...] = ()
        self._told_addresses: tuple[UdpAddress, ...] = ()

    # --- what is known

    @property
    def mappings(self) -> tuple[PortMapping, ...]:
        """The mappings that stand."""
        return tuple(gateway.mapping for gateway in self._gateways.values() if gateway.mapping is not None)

    @property
    def reports(self) -> tuple[GatewayReport, ...]:
        """What is known of each gateway."""
        return tuple(gateway.report for gateway in self._gateways.values())

    def owns_socket(self, local: UdpAddress | None) -> bool:
        """Whether a socket is one that gateways are asked from."""
        return local is not None and (
            local == self._announcements
            or any(gateway.owns_socket(local) for gateway in self._gateways.values())
        )

    # --- inputs

    def remember(self, leftovers: tuple[Lease, ...], now: float) -> None:
        """What runs before this one did not remove; to be told before there are gateways."""
        self._leave_behind(leftovers, now)
        self._told_leases = tuple(self._leftovers)

    def interfaces_changed(self, addresses: tuple[InterfaceAddress, ...], now: float) -> None:
        """The machine's addresses and gateways are these now."""
        self._interfaces = addresses
        for key, gateway in self._gateways.items():
            gateway.look_again(now)
            self._touch(key)
        self._update(now)

    def set_sockets(self, sockets: tuple[UdpAddress, ...], now: float) -> None:
        """The sockets that are to be reached."""
        self._sockets = sockets
        self._update(now)

    def socket_opened(self, local: UdpAddress, now: float) -> None:
        """The socket asked for the longest ago."""
        place = self._asked.popleft()
        if place is None and not self._leaving:
            self._announcements = local
        elif place is None or not self._is_here(place[0]):
            self._events.append(CloseSocket(local))
        else:
            gateway, protocol = place
            gateway.use_speakers(lambda s: s.socket_opened(protocol, local, now), now)
            self._touch(gateway.uplink)
        self._finish(now)

    def socket_failed(self, error: str, now: float) -> None:
        """The socket asked for the longest ago cannot be had."""
        place = self._asked.popleft()
        if place is None:
            self._drop(f"no socket for announcements: {error}")
        elif self._is_here(place[0]):
            gateway, protocol = place
            gateway.use_speakers(lambda s: s.socket_failed(protocol, error), now)
            self._touch(gateway.uplink)
        self._finish(now)

    def receive(self, datagram: Datagram, now: float) -> None:
        """What came to a socket of ours."""
        for key, gateway in list(self._gateways.items()):
            if datagram.local is not None and gateway.owns_socket(datagram.local):
                self._use(key, lambda g: g.use_speakers(lambda s: s.receive(datagram, now), now))
            elif datagram.local == self._announcements and _came_from(datagram, key.gateway):
                self._use(key, lambda g: g.announced(datagram, now))
        self._finish(now)

    def stun_received(self, datagram: Datagram, now: float) -> bool:
        """A STUN message that came to a shared socket; whether it was for us."""
        for key, gateway in self._gateways.items():
            if gateway.stun_received(datagram, now):
                self._touch(key)
                self._finish(now)
                return True
        return False

    def owns_stream(self, stream: str) -> bool:
        """Whether a stream leads to a gateway."""
        return any(gateway.owns_stream(stream) for gateway in self._gateways.values())

    def stream_opened(self, stream: str, now: float) -> None:
        """A stream to a gateway stands."""
        self._with_stream(stream, lambda g: g.use_speakers(lambda s: s.stream_opened(stream, now), now), now)

    def stream_data(self, stream: str, data: bytes, now: float) -> None:
        """Bytes from a gateway."""
        self._with_stream(
            stream, lambda g: g.use_speakers(lambda s: s.stream_data(stream, data, now), now), now
        )

    def stream_closed(self, stream: str, error: str, now: float) -> None:
        """A stream to a gateway ended, or could not be opened."""
        self._with_stream(
            stream, lambda g: g.use_speakers(lambda s: s.stream_closed(stream, error, now), now), now
        )

    def observed(self, seen: Mapping[UdpAddress, Mapping[UdpAddress, UdpAddress]], now: float) -> None:
        """Where STUN servers saw each of the sockets that are to be reached."""
        self._seen = seen
        for key in self._gateways:
            self._show_seen(key, now)
        self._finish(now)

    def came_unasked(self, now: float) -> None:
        """A peer's probe came from where nothing was sent to. With several mappings nobody knows by which."""
        mapped = [key for key, gateway in self._gateways.items() if gateway.mapping is not None]
        if len(mapped) == 1:
            self._use(mapped[0], Gateway.came_unasked)
            self._finish(now)

    def leave(self, now: float) -> None:
        """Give everything back; `PortMappingsGivenBack` says when that is done."""
        self._leaving = True
        if not self._gateways:
            self._events.append(PortMappingsGivenBack())
        self._let_go(tuple(self._gateways), now)
        self._finish(now)

    def handle_timeout(self, now: float) -> None:
        """Run what is due."""
        super().handle_timeout(now)
        self._finish(now)

    # --- inside

    def _wanted(self) -> tuple[Uplink, ...]:
        if self._leaving or not self._active:
            return ()
        return uplinks(self._interfaces, self._sockets)

    def _update(self, now: float) -> None:
        """Take up new gateways, and let go of those that are not there any more."""
        wanted = self._wanted()
        self._let_go([uplink for uplink in self._gateways if uplink not in wanted], now)
        for uplink in wanted:
            if uplink not in self._gateways:
                self._take_up(uplink, now)
        self._finish(now)

    def _let_go(self, gone: Collection[Uplink], now: float) -> None:
        for uplink in gone:
            self._use(uplink, lambda gateway: gateway.leave(now))

    def _take_up(self, uplink: Uplink, now: float) -> None:
        here = [
            lease
            for lease, over_at in self._leftovers.items()
            if (lease.gateway, lease.internal.ip) == (uplink.gateway, uplink.internal.ip) and now < over_at
        ]
        self._leftovers = {
            lease: over_at
            for lease, over_at in self._leftovers.items()
            if lease not in here and now < over_at
        }
        gateway = self._gateways[uplink] = Gateway(uplink, tuple(here), self._rng, now)
        self._adopt(uplink, gateway)
        self._show_seen(uplink, now)
        for protocol in Protocol:
            self._asked.append((gateway, protocol))
            self._events.append(OpenSocket("", uplink.internal.ip))
        if not self._listens:
            self._listens = True
            self._asked.append(None)
            self._events.append(_ANNOUNCEMENTS)

    def _is_here(self, gateway: Gateway) -> bool:
        """Whether it is still the one we deal with: it may have gone, and come back as another."""
        return self._gateways.get(gateway.uplink) is gateway

    def _show_seen(self, uplink: Uplink, now: float) -> None:
        internal = uplink.internal
        for socket in (internal, UdpAddress("0.0.0.0", internal.port)):
            seen_by = self._seen.get(socket)
            if seen_by is not None:
                self._use(uplink, partial(Gateway.observed, socket=socket, seen_by=seen_by, now=now))

    def _use(self, uplink: Uplink, use: Callable[[Gateway], None]) -> None:
        gateway = self._gateways.get(uplink)
        if gateway is not None:
            use(gateway)
            self._touch(uplink)

    def _with_stream(self, stream: str, use: Callable[[Gateway], None], now: float) -> None:
        for key, gateway in list(self._gateways.items()):
            if gateway.owns_stream(stream):
                self._use(key, use)
        self._finish(now)

    def _child_event(self, key: Uplink, event: Event, now: float) -> None:
        if not isinstance(event, GatewayLeft):
            self._events.append(event)
            return
        gateway = self._gateways.pop(key)
        self._leave_behind(gateway.leases, now)
        self._release(key)
        if self._leaving and not self._gateways:
            self._events.append(PortMappingsGivenBack())
        elif key in self._wanted():  # it went away and came back meanwhile
            self._take_up(key, now)

    def _leave_behind(self, leases: tuple[Lease, ...], now: float) -> None:
        """Remember these for as long as they may exist: later, the port may be somebody else's."""
        for lease in leases:
            self._leftovers[lease] = now + lease.lifetime_s if lease.lifetime_s else math.inf
        while len(self._leftovers) > MAX_LEFTOVERS:
            del self._leftovers[next(iter(self._leftovers))]

    def _finish(self, now: float) -> None:
        self._settle(now)
        leases = (*self._leftovers, *(lease for g in self._gateways.values() for lease in g.leases))
        if leases != self._told_leases:
            self._told_leases = leases
            self._events.append(RememberLeases(leases))
        addresses = tuple(mapping.external for mapping in self.mappings)
        if addresses != self._told_addresses:
            self._told_addresses = addresses
            self._events.append(MappedAddressesChanged(addresses))


def _came_from(datagram: Datagram, ip: str) -> bool:
    return isinstance(datagram.remote, UdpAddress) and datagram.remote.ip == ip
