"""Between our addresses and the tuples the socket module speaks.

The text of a link-local IPv6 address carries its zone (`fe80::1%2`): without it an answer
could not be sent back to where a datagram came from.
"""

from __future__ import annotations

import errno
import socket

from peerway.core.machine import UdpAddress

SocketAddress = tuple[str, int] | tuple[str, int, int, int]


def family_of(ip: str) -> socket.AddressFamily:
    """The family an address in text form belongs to."""
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def to_socket_address(address: UdpAddress) -> SocketAddress:
    """What `sendmsg` and `bind` want; no name is ever looked up.

    `OSError` (EINVAL) when it is not an IP address, or its zone names no interface of ours.
    """
    family = family_of(address.ip)
    ip, _, zone = address.ip.partition("%")
    try:
        socket.inet_pton(family, ip)
    except (OSError, ValueError):
        raise OSError(errno.EINVAL, f"{address.ip!r} is not an IP address") from None
    if family == socket.AF_INET:
        return ip, address.port
    return ip, address.port, 0, _zone_index(zone)


def from_socket_address(address: SocketAddress) -> UdpAddress:
    """The address of a tuple that the socket module gave out."""
    if len(address) == 4 and address[3]:
        return UdpAddress(f"{address[0].partition('%')[0]}%{address[3]}", address[1])
    return UdpAddress(address[0], address[1])


def _zone_index(zone: str) -> int:
    if not zone:
        return 0
    return int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
