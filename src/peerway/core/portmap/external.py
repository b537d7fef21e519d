"""Is the address that a gateway calls its own an address of the Internet, or is there another NAT beyond?

A gateway can only open its own door. Behind a second NAT its outside address is one of another private
network, and a mapping there is of use to those only who are in that network too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass

from peerway.core.ip import parse_ip

_SHARED = ipaddress.IPv4Network("100.64.0.0/10")  # RFC 6598: between a carrier's NAT and its customers
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


@dataclass(frozen=True, slots=True)
class Beyond:
    """Whether there is another NAT beyond the gateway, None when nobody can tell yet; and how we know."""

    nat: bool | None = None
    reason: str = ""


def is_public(ip: str) -> bool:
    """Whether an IPv4 address is one of the Internet."""
    address = parse_ip(ip)
    return address.is_global and not address.is_multicast


def is_usable(ip: str) -> bool:
    """Whether somebody, somewhere, might be reached at this address: a host's, not this machine's own."""
    try:
        address = parse_ip(ip)
    except ValueError:
        return False
    here = address.is_loopback or address.is_link_local or address.is_unspecified
    return not (here or address.is_multicast or address == _BROADCAST)


def look_beyond(external_ip: str, has_no_address: bool, says_so: str, observed: Collection[str]) -> Beyond:
    """What to think of a gateway at `external_ip` ("" when unknown).

    `has_no_address`: it says that it has none. `says_so`: its word that there is another NAT, or "".
    `observed`: the public addresses that servers on the Internet saw us come from.
    """
    seen = ", ".join(sorted(observed))
    if says_so:
        return Beyond(True, says_so)
    if not external_ip:
        if has_no_address and observed:
            return Beyond(True, f"the gateway has no public address, yet the Internet sees us at {seen}")
        return Beyond()
    if not is_public(external_ip):
        return Beyond(True, f"the gateway's own address, {external_ip}, is {_sort(external_ip)}")
    if observed and external_ip not in observed:
        return Beyond(True, f"the gateway's own address is {external_ip}, the Internet sees us at {seen}")
    return Beyond(False, f"the Internet sees us at it: {external_ip}") if observed else Beyond()


def _sort(ip: str) -> str:
    address = parse_ip(ip)
    if address.version == 4 and address in _SHARED:
        return "one of a carrier's NAT (100.64.0.0/10)"
    return "a private or reserved one"
