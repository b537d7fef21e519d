"""The survey: all that a node knows of itself, in one value, kept up to date.

Its sockets (those of further uplinks included), the networks it is on, the addresses it might
be reached at, and what its NAT is like. Whoever needs to know is told of each change.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from peerway.core.machine import (
    CloseSocket,
    Composite,
    Datagram,
    Event,
    InterfaceAddress,
    Rng,
    Transmit,
    UdpAddress,
)
from peerway.core.path.candidate import Candidate, TargetPolicy, networks_of
from peerway.core.path.gather import CandidatesChanged, Gatherer, MappingVerdict
from peerway.core.path.uplinks import Uplinks, families_moved


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a node knows of itself: its sockets, whom it may probe, where it might be reached.

    `gathered`: every STUN server asked has answered or failed.
    """

    sockets: tuple[UdpAddress, ...] = ()
    policy: TargetPolicy = field(default_factory=TargetPolicy)
    candidates: tuple[Candidate, ...] = ()
    gathered: bool = False
    mapping: MappingVerdict = MappingVerdict.UNKNOWN


@dataclass(frozen=True, slots=True)
class SurroundingsChanged(Event):
    """Something of it is different now."""

    surroundings: Surroundings


class Survey(Composite[str]):
    """Keeps `surroundings`. `stun` are servers to ask, as (host, port); `static` addresses we are told of."""

    def __init__(self, rng: Rng, stun: tuple[tuple[str, int], ...], static: tuple[UdpAddress, ...]) -> None:
        super().__init__()
        self.surroundings = Surroundings()
        self._interfaces: tuple[InterfaceAddress, ...] = ()
        self._first_sockets: tuple[UdpAddress, ...] = ()
        self._uplinks = Uplinks()
        self._gatherer = Gatherer(rng, static)
        self._adopt("gather", self._gatherer)
        for host, port in stun:
            self._gatherer.add_server(host, port)

    def start(self, sockets: tuple[UdpAddress, ...], now: float) -> None:
        """The sockets that a node begins with, which send by whatever route the system favours."""
        self._first_sockets = sockets
        self._set_sockets(now)
        self._finish(now)

    def add_server(self, host: str, port: int, now: float) -> None:
        """Another STUN server to ask."""
        self._gatherer.add_server(host, port)
        self._finish(now)

    def allow_loopback(self, now: float) -> None:
        """A relay of ours is on this very machine, which then is the whole of our world."""
        policy = replace(self.surroundings.policy, loopback=True)
        self._change(replace(self.surroundings, policy=policy))
        self._finish(now)

    def interfaces_changed(self, addresses: tuple[InterfaceAddress, ...], now: float) -> tuple[int, ...]:
        """The machine's addresses are these now; what servers saw may be out of date.

        The families, 4 and 6, in which the system sends from elsewhere than it did: there it surely is.
        """
        moved = families_moved(self._interfaces, addresses)
        self._interfaces = addresses
        self._events.extend(self._uplinks.interfaces_changed(addresses))
        self._set_sockets(now)
        policy = replace(self.surroundings.policy, networks=networks_of(addresses))
        self._change(replace(self.surroundings, policy=policy))
        self._gatherer.set_interfaces(addresses, moved, now)
        self._finish(now)
        return moved

    def socket_opened(self, interface: str, local: UdpAddress, now: float) -> None:
        """A socket that `OpenSocket` asked for."""
        if self._uplinks.socket_opened(interface, local):
            self._set_sockets(now)
        else:
            self._events.append(CloseSocket(local))
        self._finish(now)

    def socket_failed(self, interface: str, ip: str) -> None:
        """A socket that `OpenSocket` asked for cannot be had for now."""
        self._uplinks.socket_failed(interface, ip)

    def set_mapped(self, addresses: tuple[UdpAddress, ...], now: float) -> None:
        """The outside addresses that gateways forward to us."""
        self._gatherer.set_mapped(addresses, now)
        self._finish(now)

    def seen_by(self) -> dict[UdpAddress, dict[UdpAddress, UdpAddress]]:
        """Where STUN servers saw each of our sockets."""
        return {socket: self._gatherer.observed(socket) for socket in self.surroundings.sockets}

    def resolved(self, name: str, ips: tuple[str, ...], now: float) -> None:
        """The addresses of a STUN server's host."""
        self._gatherer.resolved(name, ips, now)
        self._finish(now)

    def receive(self, datagram: Datagram, now: float) -> None:
        """A STUN message."""
        self._gatherer.receive(datagram, now)
        self._finish(now)

    def transmit_failed(self, transmit: Transmit, error: str, now: float) -> None:
        """The system refused to send something, perhaps a question to a STUN server."""
        self._gatherer.transmit_failed(transmit, error, now)
        self._finish(now)

    def refresh(self, now: float, *, force: bool = False) -> None:
        """Ask the servers again when what they said may be out of date."""
        self._gatherer.refresh(now, force=force)
        self._finish(now)

    def _set_sockets(self, now: float) -> None:
        sockets = self._first_sockets + self._uplinks.sockets
        if sockets != self.surroundings.sockets:
            self._gatherer.set_sockets(sockets, now)
            self._change(replace(self.surroundings, sockets=sockets))

    def _child_event(self, key: str, event: Event, now: float) -> None:
        if isinstance(event, CandidatesChanged):
            known = replace(self.surroundings, candidates=event.candidates, mapping=event.mapping)
            self._change(replace(known, gathered=event.complete))
        else:
            self._events.append(event)

    def _change(self, changed: Surroundings) -> None:
        if changed != self.surroundings:
            self.surroundings = changed
            self._events.append(SurroundingsChanged(changed))

    def _finish(self, now: float) -> None:
        self._touch("gather")
        self._settle(now)
