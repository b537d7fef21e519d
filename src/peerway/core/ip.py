"""IP addresses, each parsed once: the same few are looked at for every datagram and candidate."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

IpAddress = IPv4Address | IPv6Address

_KEPT = 4096


@lru_cache(maxsize=_KEPT)
def parse_ip(ip: str | bytes) -> IpAddress:
    """The address that a text, or its 4 or 16 bytes, stands for; `ValueError` when it is none."""
    return ip_address(ip)
