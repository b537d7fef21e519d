"""Speaks PCP with one gateway (RFC 6887)."""

from __future__ import annotations

from dataclasses import replace

from peerway.core.machine import Event, Rng, UdpAddress, WireError
from peerway.core.portmap import pcp
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
from peerway.core.portmap.epoch import PcpEpoch
from peerway.core.portmap.lease import LONGEST_S, Lease
from peerway.core.portmap.pcp import Failure, Mapped, Result, WrongVersion

FIRST_PAUSE_S = 3.0  # RFC 6887 8.1.1: IRT; then twice as long each time, up to MRT
LONGEST_PAUSE_S = 1024.0
JITTER = 0.1  # of a pause, either way
SENDS = 5  # the RFC never gives up; whoever waits for a mapping does
RENEWAL_PATIENCE_S = 4.0  # a renewal is sent once; the next is no sooner
_QUICK = (0.0, 0.25, 0.75, 1.75, 3.75)  # a release cannot wait for 3 s: whoever asks is about to end
RETRY_S = 30.0  # RFC 6887 7.4: for short-lifetime errors that name no time
RETRY_LATE_S = 1800.0  # and for long-lifetime errors
_PASSING = (Result.NETWORK_FAILURE, Result.NO_RESOURCES, Result.USER_EX_QUOTA)
_GONE = (Result.NOT_AUTHORIZED,)  # miniupnpd, of a mapping that is not there


class PcpClient(QuestionClient):
    """A probe is an ANNOUNCE: does a server answer, and has it lost its state?"""

    def __init__(self, gateway: str, local: UdpAddress, our_ip: str, rng: Rng) -> None:
        super().__init__(gateway, local)
        self._our_ip = our_ip
        self._rng = rng
        self._epoch = PcpEpoch()
        self._answered = False

    def announced(self, data: bytes, now: float) -> None:
        """What the server sent to everybody: it has restarted, perhaps."""
        answer = pcp.parse(data)
        if not isinstance(answer, pcp.Announced):
            raise WireError("pcp: not an announcement")
        if self._answered:
            self._note_epoch(answer.epoch, now)

    def _build(self, question: Question) -> bytes:
        lease = question.lease
        if lease is None:
            return pcp.build_announce(self._our_ip)
        internal = lease.internal.port
        if question.kind is Kind.RELEASE:
            return pcp.build_map(self._our_ip, lease.nonce, internal, 0, "", 0)
        return pcp.build_map(
            self._our_ip, lease.nonce, internal, lease.external_port, lease.external_ip, lease.lifetime_s
        )

    def _schedule(self, question: Question) -> tuple[float, ...]:
        if question.kind is Kind.RENEW:
            return (0.0, RENEWAL_PATIENCE_S)
        if question.kind is Kind.RELEASE:
            return _QUICK
        offsets, pause = [0.0], FIRST_PAUSE_S
        for _ in range(SENDS):
            offsets.append(offsets[-1] + pause * self._rng.uniform(1 - JITTER, 1 + JITTER))
            pause = min(2 * pause, LONGEST_PAUSE_S)
        return tuple(offsets)

    def _answer(self, data: bytes, now: float) -> None:
        answer = pcp.parse(data)
        if isinstance(answer, WrongVersion):
            self._not_spoken(answer.version)
        elif isinstance(answer, Failure):
            self._failed(answer, now)
        elif isinstance(answer, Mapped):
            self._mapped(answer, now)
        elif self._current is not None and self._current.kind is Kind.PROBE:
            self._finish()
            self._answers(Answered(), answer.epoch, now)
        else:
            raise WireError("pcp: an answer to no question")

    def _mapped(self, answer: Mapped, now: float) -> None:
        released = answer.lifetime == 0
        lease = self._lease_of(answer.nonce, *((Kind.RELEASE,) if released else (Kind.MAP, Kind.RENEW)))
        if lease.internal.port != answer.internal_port:
            raise WireError("pcp: an answer to no question")
        self._finish()
        self._epoch.goes_on(answer.epoch, now)
        if released:
            self._events.append(Released(lease))
        elif answer.external_port:
            lifetime = min(answer.lifetime, LONGEST_S)
            granted = replace(lease, external_port=answer.external_port, lifetime_s=lifetime)
            self._events.append(Granted(replace(granted, external_ip=answer.external_ip)))
        else:
            self._events.append(Denied(lease, "the gateway grants a port it does not name", RETRY_LATE_S))

    def _lease_of(self, nonce: bytes, *kinds: Kind) -> Lease:
        lease = self._is_about(*kinds)
        if lease is None or lease.nonce != nonce:
            raise WireError("pcp: an answer to no question")
        return lease

    def _failed(self, answer: Failure, now: float) -> None:
        current = self._current
        if current is None:
            raise WireError("pcp: an answer to no question")
        if answer.result == Result.UNSUPP_VERSION:
            self._not_spoken(pcp.VERSION)
            return
        reason = pcp.meaning(answer.result)
        mismatch = answer.result == Result.ADDRESS_MISMATCH
        if not answer.nonce and current.kind is Kind.PROBE:
            self._finish()
            self._answers(Answered(detail=reason), answer.epoch, now)
            return
        lease = self._lease_of(answer.nonce, Kind.MAP, Kind.RENEW, Kind.RELEASE)
        self._finish()
        if current.kind is Kind.RELEASE:
            self._events.append(Released(lease, "" if answer.result in _GONE else reason))
        else:
            self._events.append(Denied(lease, reason, _retry_after(answer), mismatch))

    def _not_spoken(self, version: int) -> None:
        if self._current is None:
            raise WireError("pcp: an answer to no question")
        self._finish()
        spoken = "it speaks NAT-PMP" if version == 0 else "it speaks another version of PCP"
        self._events.append(NotSpoken(spoken, refuses=True))

    def _answers(self, answered: Event, epoch: int, now: float) -> None:
        self._answered = True
        self._note_epoch(epoch, now)
        self._events.append(answered)

    def _note_epoch(self, epoch: int, now: float) -> None:
        if not self._epoch.goes_on(epoch, now):
            self._events.append(StateLost("the gateway has restarted"))


def _retry_after(answer: Failure) -> float:
    """How long the server wants to be left alone (RFC 6887 7.4), within reason."""
    usual = RETRY_S if answer.result in _PASSING else RETRY_LATE_S
    return float(min(answer.lifetime, LONGEST_S)) if answer.lifetime else usual
