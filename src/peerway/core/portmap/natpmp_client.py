"""Speaks NAT-PMP with one gateway (RFC 6886)."""

from __future__ import annotations

from dataclasses import replace

from peerway.core.machine import UdpAddress, WireError
from peerway.core.portmap import natpmp
from peerway.core.portmap.client import (
    Answered,
    Denied,
    Granted,
    Kind,
    NotSpoken,
    Question,
    QuestionClient,
    Released,
    StateLost,
)
from peerway.core.portmap.epoch import NatPmpEpoch
from peerway.core.portmap.lease import LONGEST_S
from peerway.core.portmap.natpmp import Failure, Mapped, Result

# RFC 6886 3.1: nine times, the first pause 250 ms, each pause twice the one before.
_SCHEDULE = tuple(0.25 * (2**attempt - 1) for attempt in range(10))
RETRY_SOON_S, RETRY_LATE_S = 60.0, 1800.0  # the protocol names none: RFC 6887's magnitudes
_NOT_SPOKEN = (Result.UNSUPPORTED_VERSION, Result.UNSUPPORTED_OPCODE)
_PASSING = (Result.NETWORK_FAILURE, Result.OUT_OF_RESOURCES)


class NatPmpClient(QuestionClient):
    """A probe asks for the gateway's outside address: only that answer tells it."""

    def __init__(self, gateway: str, local: UdpAddress) -> None:
        super().__init__(gateway, local)
        self._epoch = NatPmpEpoch()
        self._external_ip = ""

    def announced(self, data: bytes, now: float) -> None:
        """What the gateway sent to everybody: its address is new, or it has restarted."""
        answer = natpmp.parse(data)
        if not isinstance(answer, natpmp.ExternalAddress):
            raise WireError("nat-pmp: not an announcement")
        if self._external_ip:  # else the question is still open, and its answer says the same
            self._note_epoch(answer.epoch, now)
            self._learn(answer.ip)

    def _build(self, question: Question) -> bytes:
        lease = question.lease
        if lease is None:
            return natpmp.build_address_request()
        # The RFC wants 0 as the external port of a release and has the gateway ignore it; miniupnpd
        # goes by it, and takes 0 for the internal port: somebody else's mapping, perhaps.
        lifetime = 0 if question.kind is Kind.RELEASE else lease.lifetime_s
        return natpmp.build_map_request(lease.internal.port, lease.external_port, lifetime)

    def _schedule(self, question: Question) -> tuple[float, ...]:
        return _SCHEDULE

    def _answer(self, data: bytes, now: float) -> None:
        answer = natpmp.parse(data)
        if isinstance(answer, Failure):
            self._failed(answer, now)
        elif isinstance(answer, Mapped):
            self._mapped(answer, now)
        elif self._current is not None and self._current.kind is Kind.PROBE:
            self._finish()
            self._note_epoch(answer.epoch, now)
            self._learn(answer.ip)
        else:
            raise WireError("nat-pmp: an answer to no question")

    def _mapped(self, answer: Mapped, now: float) -> None:
        released = answer.lifetime == 0
        kinds = (Kind.RELEASE,) if released else (Kind.MAP, Kind.RENEW)
        lease = self._is_about(*kinds)
        if lease is None or lease.internal.port != answer.internal_port:
            raise WireError("nat-pmp: an answer to no question")
        self._finish()
        self._epoch.goes_on(answer.epoch, now)
        if released:
            self._events.append(Released(lease))
        elif answer.external_port and self._external_ip:
            lifetime = min(answer.lifetime, LONGEST_S)
            granted = replace(lease, external_port=answer.external_port, lifetime_s=lifetime)
            self._events.append(Granted(replace(granted, external_ip=self._external_ip)))
        else:
            self._events.append(Denied(lease, "the gateway grants a port it does not name", RETRY_LATE_S))

    def _failed(self, answer: Failure, now: float) -> None:
        current = self._current
        if current is None or answer.about_mapping == (current.kind is Kind.PROBE):
            raise WireError("nat-pmp: an answer to no question")
        self._finish()
        reason = natpmp.meaning(answer.result)
        if answer.result in _NOT_SPOKEN:
            self._events.append(NotSpoken(reason, refuses=True))
        elif current.lease is None:
            self._external_ip = ""
            self._note_epoch(answer.epoch, now)
            no_address = answer.result == Result.NETWORK_FAILURE
            self._events.append(Answered("", reason, has_no_address=no_address))
        elif current.kind is Kind.RELEASE:
            # miniupnpd says "not authorized" of a mapping that is not there any more
            gone = answer.result == Result.NOT_AUTHORIZED
            self._events.append(Released(current.lease, "" if gone else reason))
        else:
            retry = RETRY_SOON_S if answer.result in _PASSING else RETRY_LATE_S
            self._events.append(Denied(current.lease, reason, retry))

    def _note_epoch(self, epoch: int, now: float) -> None:
        if not self._epoch.goes_on(epoch, now):
            self._events.append(StateLost("the gateway has restarted"))

    def _learn(self, ip: str) -> None:
        self._external_ip = "" if ip == "0.0.0.0" else ip
        self._events.append(Answered(self._external_ip, has_no_address=not self._external_ip))
