"""A mapping as it is asked for, renewed, remembered and given back, and when it is renewed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from peerway.core.machine import Rng, UdpAddress
from peerway.core.portmap.report import Protocol

LIFETIME_S = 7200  # RFC 6886 3.3 recommends it; asked of every protocol
LONGEST_S = 86_400  # RFC 6887 15: a lifetime beyond all reason counts as a day
RECHECK_ENDLESS_S = 1200.0  # a mapping without an end is renewed all the same: gateways lose them
RENEWALS_APART_S = 4.0  # RFC 6887 11.2.1
NONCE_SIZE = 12


@dataclass(frozen=True, slots=True)
class Lease:
    """`internal` (our address and port there) reached by `external_port` of `gateway`.

    `nonce` is PCP's name for the mapping; `external_ip` "" while not known; a `lifetime_s` of 0 has
    no end. What is needed to remove it is all here, so that a later run can, after a crash.
    """

    protocol: Protocol
    gateway: str
    internal: UdpAddress
    external_port: int
    nonce: bytes = b""
    external_ip: str = ""
    lifetime_s: int = LIFETIME_S


def renewal_offsets(lease: Lease, rng: Rng) -> Iterator[float]:
    """Seconds after the grant at which a renewal is tried, ending before the lease does.

    PCP: within 1/2 to 5/8 of the lifetime, then 3/4 to 13/16, 7/8 to 29/32, and so on, at least 4 s
    apart (RFC 6887 11.2.1). The others: at 1/2, 3/4, 7/8 and so on (RFC 6886 3.3: like DHCP).
    """
    if not lease.lifetime_s:
        yield RECHECK_ENDLESS_S
        return
    left, previous = lease.lifetime_s / 2.0, 0.0
    while True:
        latest = left / 4 if lease.protocol is Protocol.PCP else 0.0
        offset = lease.lifetime_s - left + rng.uniform(0.0, latest)
        if offset - previous < RENEWALS_APART_S or offset >= lease.lifetime_s - 1:
            return
        yield offset
        left, previous = left / 2, offset
