"""Which protocol to ask for a mapping: the best that the gateway is known to speak, after a fair start."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from peerway.core.portmap.report import Protocol, Standing

HEAD_START_S = 0.3  # how long a worse protocol waits for a better one that has not answered yet


def best_protocol(
    standings: Mapping[Protocol, Standing], failed: Collection[Protocol], *, waited: bool
) -> Protocol | None:
    """The protocol to ask now; None while it is worth waiting, and when there is none left.

    `waited`: the head start is over. PCP before NAT-PMP before UPnP: newer ones tell more, and UPnP
    takes many calls to a parser that often is poor.
    """
    for protocol in Protocol:
        standing = standings.get(protocol, Standing.UNKNOWN)
        if protocol in failed:
            continue
        if standing is Standing.SPEAKS:
            return protocol
        if standing is Standing.UNKNOWN and not waited:
            return None
    return None


def is_undecided(standings: Mapping[Protocol, Standing], failed: Collection[Protocol]) -> bool:
    """Whether some protocol may still turn out to be of use."""
    return any(
        standings.get(protocol, Standing.UNKNOWN) in (Standing.UNKNOWN, Standing.SPEAKS)
        for protocol in Protocol
        if protocol not in failed
    )
