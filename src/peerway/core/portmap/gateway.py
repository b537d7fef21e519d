"""One gateway, asked for one port: which of its protocols is used, and the life of the mapping.

    ASKING ---best protocol known---> REQUESTING ---granted---> HOLDING: renewed, checked, verified
      ^  `--none left--> RESTING       ^    |                     |
      |                     |          |    `-- denied --> ASKING |
      `------ retry --------'          `---- restarted, lost, not forwarding
                                                                leave()
                            LEAVING: removed, or LEAVE_S is over -> LEFT

All protocols are asked at once whether the gateway speaks them; the best of those that answer is asked
for the mapping (`race`), the next if it will not. What each protocol demands is in its client, when to
renew in `lease`, how to see from outside whether the port is forwarded in `outside`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from enum import Enum, auto

from peerway.core.machine import Composite, Datagram, Event, Rng, UdpAddress
from peerway.core.portmap.client import (
    Answered,
    ClientEvent,
    Denied,
    Granted,
    NotSpoken,
    Released,
    StateLost,
    Trying,
)
from peerway.core.portmap.events import (
    GatewayLeft,
    GatewaySpeaks,
    NatBeyondFound,
    PortMapped,
    PortMappingFailed,
    PortMappingLost,
    PortMappingRemoved,
    PortMappingRenewed,
    PortMappingVerified,
)
from peerway.core.portmap.external import Beyond, is_usable
from peerway.core.portmap.lease import LIFETIME_S, NONCE_SIZE, Lease, renewal_offsets
from peerway.core.portmap.leftovers import PATIENCE_S, Leftovers
from peerway.core.portmap.outside import OutsideCheck, Seen, Unseen
from peerway.core.portmap.picture import Picture
from peerway.core.portmap.race import HEAD_START_S, best_protocol, is_undecided
from peerway.core.portmap.report import GatewayReport, PortMapping, Protocol
from peerway.core.portmap.speakers import Said, Speakers
from peerway.core.portmap.uplink import Uplink

CHECK_S = 120.0  # between two looks whether the gateway still knows us
VERIFY_EVERY = 5  # checks: then also from outside
RETRY_S = 600.0  # between two rounds of asking a gateway that gives nothing
SHORTEST_RETRY_S = 30.0
LEAVE_S = 1.0  # for the gateway to confirm that a mapping is gone
RESTORE_WITHIN_S = 1.0  # a gateway that restarted is asked at some moment within, not by all at once
REPAIR_PORTS = (20_000, 60_000)
_SPEAKERS, _OUTSIDE = "speakers", "outside"
_HOLDING_TIMERS = ("renew", "expire", "check")
_ALL_TIMERS = ("head start", "leftovers", "restore", "retry", *_HOLDING_TIMERS)


class Phase(Enum):
    """Where the life of the mapping stands."""

    ASKING = auto()
    REQUESTING = auto()
    HOLDING = auto()
    RESTING = auto()
    LEAVING = auto()
    LEFT = auto()


class Gateway(Composite[str]):
    """Gets and keeps a mapping for `uplink`; `leftovers` are leases of earlier runs at this gateway."""

    def __init__(self, uplink: Uplink, leftovers: tuple[Lease, ...], rng: Rng, now: float) -> None:
        super().__init__()
        self.uplink = uplink
        self.phase = Phase.ASKING
        self.mapping: PortMapping | None = None
        self._rng = rng
        self._speakers = Speakers(uplink, rng)
        self._adopt(_SPEAKERS, self._speakers)
        self._outside = OutsideCheck(rng)
        self._adopt(_OUTSIDE, self._outside)
        self._picture = Picture()
        self._leftovers = Leftovers(leftovers)
        self._retry_in = RETRY_S
        self._waited = False
        self._lease: Lease | None = None
        self._why = "the gateway offers it"
        self._renewals: Iterator[float] = iter(())
        self._granted_at = now
        self._checks = 0
        self._repairs = 0
        self._told_beyond = Beyond()
        self._socket = UdpAddress("", 0)
        self._ask_all(now)
        if leftovers:
            self._timers.set("leftovers", now + PATIENCE_S, "port mapping: wait no longer for old ones to go")

    # --- what is known

    @property
    def leases(self) -> tuple[Lease, ...]:
        """What may exist at the gateway and is ours to remove."""
        return (*((self._lease,) if self._lease is not None else ()), *self._leftovers.leases)

    @property
    def report(self) -> GatewayReport:
        """Everything, for people."""
        return self._picture.report(self.uplink, self.mapping, gave_up=self.phase is Phase.RESTING)

    def owns_socket(self, local: UdpAddress) -> bool:
        """Whether a socket belongs to the clients."""
        return self._speakers.owns_socket(local)

    def owns_stream(self, stream: str) -> bool:
        """Whether a stream belongs to the clients."""
        return self._speakers.owns_stream(stream)

    # --- inputs

    def use_speakers(self, use: Callable[[Speakers], None], now: float) -> None:
        """Hand the clients what is theirs: a socket, a datagram, a stream's news."""
        use(self._speakers)
        self._finish(now)

    def announced(self, datagram: Datagram, now: float) -> None:
        """The gateway said something to everybody: it has just started, perhaps."""
        if self.phase is Phase.RESTING:
            self._ask_all(now)
        else:
            for data in datagram.segments():
                self._speakers.announced(data, now)
        self._finish(now)

    def stun_received(self, datagram: Datagram, now: float) -> bool:
        """A STUN message that came to a shared socket; whether it was for us."""
        taken = self._outside.receive(datagram, now)
        if taken:
            self._finish(now)
        return taken

    def observed(self, socket: UdpAddress, seen_by: Mapping[UdpAddress, UdpAddress], now: float) -> None:
        """Where STUN servers saw the shared `socket` that the mapping leads to."""
        self._socket, self._picture.seen_by = socket, seen_by
        if self.mapping is not None and self.mapping.verified is None and not self._outside.is_busy:
            self._verify(now)
        self._finish(now)

    def came_unasked(self) -> None:
        """A peer's probe came from where nothing was sent to: the mapping let it in."""
        if self.mapping is not None and self.mapping.verified is None:
            self._verified("a peer's probe got in from where nothing was sent to")

    def look_again(self, now: float) -> None:
        """The network changed: is everything as it was?"""
        if self.phase is Phase.HOLDING:
            self._check(now)
        elif self.phase is Phase.RESTING:
            self._ask_all(now)
        self._finish(now)

    def leave(self, now: float) -> None:
        """Remove what is mapped, and end: `GatewayLeft` says when, after `LEAVE_S` at the latest."""
        if self.phase in (Phase.LEAVING, Phase.LEFT):
            return
        for name in _ALL_TIMERS:
            self._timers.cancel(name)
        self._outside.stop()
        self.phase = Phase.LEAVING
        self.mapping = None
        for protocol in Protocol:
            self._speakers.stop_asking(protocol, now)
        if self._lease is None:
            self._left()
        else:
            self._timers.set("leave", now + LEAVE_S, f"port mapping: {self.uplink.gateway} does not answer")
            self._speakers.release(self._lease, now)
        self._finish(now)

    def handle_timeout(self, now: float) -> None:
        """Run what is due."""
        super().handle_timeout(now)
        self._finish(now)

    # --- asking and requesting

    def _ask_all(self, now: float) -> None:
        self.phase = Phase.ASKING
        self._retry_in = RETRY_S
        self._waited = False
        self._picture.ask_again()
        self._timers.cancel("retry")
        self._timers.set("head start", now + HEAD_START_S, "port mapping: take what has answered")
        for protocol in Protocol:
            self._speakers.probe(protocol, now)

    def _consider(self, now: float) -> bool:
        """Ask the best protocol for the mapping when it is time to; whether anything was asked."""
        standings, failed = self._picture.standings, self._picture.failed
        releasing = self._leftovers.to_release(standings)
        for lease in releasing:
            self._speakers.release(lease, now)
        if self.phase is not Phase.ASKING or self._leftovers.block(standings):
            return bool(releasing)
        protocol = best_protocol(standings, failed, waited=self._waited)
        if protocol is not None:
            nonce = self._rng.randbytes(NONCE_SIZE) if protocol is Protocol.PCP else b""
            internal = self.uplink.internal
            self._request(Lease(protocol, self.uplink.gateway, internal, internal.port, nonce), now)
        elif self._waited and not is_undecided(standings, failed):
            self._rest(now)
        return protocol is not None

    def _request(self, lease: Lease, now: float) -> None:
        self.phase = Phase.REQUESTING
        self._lease = _as_asked(lease)
        self._speakers.map(self._lease, now)

    def _rest(self, now: float) -> None:
        self.phase = Phase.RESTING
        retry_in = max(self._retry_in, SHORTEST_RETRY_S)
        self._timers.set("retry", now + retry_in, f"port mapping: ask {self.uplink.gateway} again")
        self._events.append(PortMappingFailed(self.uplink.gateway, self._picture.failure, retry_in))

    def _give_up_on(self, protocol: Protocol, reason: str) -> None:
        self._picture.failed[protocol] = reason
        self._lease = None
        self.phase = Phase.ASKING

    # --- holding

    def _hold(self, lease: Lease, now: float) -> None:
        known = self.mapping
        self.phase = Phase.HOLDING
        self._lease = lease
        self._picture.maps_at(lease.external_ip)
        self._granted_at = now
        self._renewals = renewal_offsets(lease, self._rng)
        self._arm_renewal(now)
        self._timers.cancel("expire")
        if lease.lifetime_s:
            self._timers.set("expire", now + lease.lifetime_s, "port mapping: the lease is over")
        if known is not None and known.external == _external(lease):
            self.mapping = replace(known, lifetime_s=lease.lifetime_s)
            self._events.append(PortMappingRenewed(self.mapping))
        else:
            self._map(lease, self._why if known is None else "the gateway has moved it", now)

    def _map(self, lease: Lease, why: str, now: float) -> None:
        """From now on the mapping is this one."""
        uplink = self.uplink
        self.mapping = PortMapping(
            *(lease.protocol, uplink.interface, uplink.gateway, uplink.internal, _external(lease)),
            lease.lifetime_s,
        )
        self._checks = 0
        self._timers.set("check", now + CHECK_S, "port mapping: does the gateway still know us?")
        self._events.append(PortMapped(self.mapping, why))
        self._verify(now)

    def _arm_renewal(self, now: float) -> None:
        offset = next(self._renewals, None)
        self._timers.cancel("renew")
        if offset is not None:
            self._timers.set("renew", max(self._granted_at + offset, now + 1), "port mapping: renew")

    def _lose(self, reason: str) -> None:
        """The mapping is not there any more."""
        if self.mapping is not None:
            self._events.append(PortMappingLost(self.mapping, reason))
        self.mapping = None
        self._why = f"made again: {reason}"
        self._outside.stop()
        for name in _HOLDING_TIMERS:
            self._timers.cancel(name)

    def _check(self, now: float) -> None:
        if self._lease is None:
            return
        self._checks += 1
        self._timers.set("check", now + CHECK_S, "port mapping: does the gateway still know us?")
        self._speakers.probe(self._lease.protocol, now)
        if self._checks % VERIFY_EVERY == 0:
            self._verify(now)

    # --- seeing from outside

    def _verify(self, now: float) -> None:
        if self.mapping is not None and self._picture.seen_by:
            self._outside.check(self.mapping.external, self._socket, self._picture.seen_by, now)

    def _verified(self, how: str) -> None:
        if self.mapping is not None and not self.mapping.verified:
            self.mapping = replace(self.mapping, verified=True)
            self._events.append(PortMappingVerified(self.mapping, how))
        self._repairs = 0

    def _not_forwarded(self, how: str, now: float) -> None:
        """Make it anew at another port, then in another protocol; then leave it, whoever may be wrong."""
        if self.mapping is None or self._lease is None:
            return
        self.mapping = replace(self.mapping, verified=False)
        lease = self._lease
        failed = {**self._picture.failed, lease.protocol: "what it maps is not forwarded"}
        other = best_protocol(self._picture.standings, failed, waited=True)
        self._repairs += 1
        if self._repairs == 1 or (self._repairs == 2 and other is not None):
            self._lose(f"it does not forward: {how}")
            self._speakers.release(lease, now)
        if self._repairs == 1:
            first, end = REPAIR_PORTS
            self._request(replace(lease, external_port=first + self._rng.randrange(end - first)), now)
        elif self._repairs == 2 and other is not None:
            self._give_up_on(lease.protocol, failed[lease.protocol])

    # --- what the clients say

    def _child_event(self, key: str, event: Event, now: float) -> None:
        if isinstance(event, Said):
            self._said(event.protocol, event.event, now)
        elif isinstance(event, Seen):
            self._verified(event.how)
        elif isinstance(event, Unseen):
            if event.sent:
                self._not_forwarded(event.how, now)
        else:
            self._events.append(event)
            return
        self._touch(_SPEAKERS)  # they may have been asked something more
        self._touch(_OUTSIDE)

    def _said(self, protocol: Protocol, event: ClientEvent, now: float) -> None:
        if isinstance(event, Released):
            self._released(event)
        elif self.phase in (Phase.LEAVING, Phase.LEFT):
            return
        elif isinstance(event, Answered):
            self._answered(protocol, event, now)
        elif isinstance(event, NotSpoken):
            self._not_spoken(protocol, event)
        elif isinstance(event, Trying):
            if self.phase in (Phase.REQUESTING, Phase.HOLDING):
                self._lease = event.lease
        elif isinstance(event, Granted):
            self._granted(event.lease, now)
        elif isinstance(event, Denied):
            self._denied(protocol, event)
        elif isinstance(event, StateLost):
            self._state_lost(protocol, event, now)

    def _holds_by(self, protocol: Protocol) -> bool:
        return self._lease is not None and self._lease.protocol is protocol

    def _answered(self, protocol: Protocol, event: Answered, now: float) -> None:
        if self._picture.answered(protocol, event):
            self._events.append(GatewaySpeaks(self.uplink.gateway, protocol, event.detail))
        lease, mapping = self._lease, self.mapping
        if lease is not None and mapping is not None and self._holds_by(protocol) and event.external_ip:
            moved = replace(lease, external_ip=event.external_ip)
            if _external(moved) != mapping.external:
                self._lease = moved
                self._map(moved, "the gateway has another address", now)

    def _not_spoken(self, protocol: Protocol, event: NotSpoken) -> None:
        if self.phase is Phase.HOLDING and self._holds_by(protocol):
            return  # whoever mapped for us speaks it; the lease tells when that is over
        self._picture.not_spoken(protocol, event)
        if self.phase is Phase.REQUESTING and self._holds_by(protocol):
            self._give_up_on(protocol, event.reason)

    def _granted(self, lease: Lease, now: float) -> None:
        if self.phase not in (Phase.REQUESTING, Phase.HOLDING):
            self._speakers.release(lease, now)
        elif is_usable(lease.external_ip):
            self._hold(lease, now)
        else:
            self._speakers.release(lease, now)
            self._lose("the gateway names no usable address")
            self._give_up_on(lease.protocol, f"the gateway's address {lease.external_ip} is of no use")

    def _denied(self, protocol: Protocol, event: Denied) -> None:
        if event.nat_beyond:
            self._picture.says_nat_beyond = event.reason
        if self.phase is Phase.HOLDING and not event.retry_after_s:
            return  # no answer to a renewal: there will be others before the lease is over
        if self.phase in (Phase.REQUESTING, Phase.HOLDING) and self._holds_by(protocol):
            self._lose(event.reason)
            self._retry_in = min(self._retry_in, event.retry_after_s or RETRY_S)
            self._give_up_on(protocol, event.reason)

    def _state_lost(self, protocol: Protocol, event: StateLost, now: float) -> None:
        """The gateway has forgotten us: ask for the same again (RFC 6886 3.7, RFC 6887 8.5)."""
        if self.phase is Phase.HOLDING and self._holds_by(protocol):
            self._lose(event.reason)
            self.phase = Phase.REQUESTING
            within = self._rng.uniform(0.0, RESTORE_WITHIN_S)
            self._timers.set("restore", now + within, "port mapping: make it again")

    def _released(self, event: Released) -> None:
        leftover = self._leftovers.released(event.lease, event.error)
        self._events.append(PortMappingRemoved(event.lease, event.error))
        if self.phase is Phase.LEAVING and not leftover:
            if not event.error:
                self._lease = None
            self._left()

    def _left(self) -> None:
        self.phase = Phase.LEFT
        self._timers.cancel("leave")
        self._speakers.close()
        self._events.append(GatewayLeft())

    # --- time

    def _timer_expired(self, name: str, now: float) -> None:
        if name == "head start":
            self._waited = True
        elif name == "leftovers":
            for protocol in self._leftovers.give_up():
                self._speakers.stop_asking(protocol, now)
        elif name == "retry":
            self._ask_all(now)
        elif name == "restore" and self._lease is not None:
            self._request(self._lease, now)
        elif name == "renew" and self._lease is not None:
            self._arm_renewal(now)
            self._speakers.map(_as_asked(self._lease), now, renewal=True)
        elif name == "expire":
            self._lose("it ran out, and the gateway did not answer")
            self._lease = None
            self._ask_all(now)
        elif name == "check":
            self._check(now)
        elif name == "leave":
            self._left()

    def _finish(self, now: float) -> None:
        """Let what was said have its effect, until nothing more follows from it."""
        asked = True
        while asked:
            self._touch(_SPEAKERS)
            self._touch(_OUTSIDE)
            self._settle(now)
            asked = self.phase not in (Phase.LEAVING, Phase.LEFT) and self._consider(now)
        beyond = self._picture.beyond
        if beyond.nat and beyond != self._told_beyond:
            self._events.append(NatBeyondFound(self.uplink.gateway, beyond.reason))
        self._told_beyond = beyond


def _external(lease: Lease) -> UdpAddress:
    return UdpAddress(lease.external_ip, lease.external_port)


def _as_asked(lease: Lease) -> Lease:
    """What to ask for when it is asked for again: the usual lifetime, unless it must have no end."""
    return replace(lease, lifetime_s=LIFETIME_S if lease.lifetime_s else 0)
