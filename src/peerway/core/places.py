"""Places as people write them: a server by name or number, an address of our own by number."""

from __future__ import annotations

import ipaddress
import re

from peerway.core.machine import PeerwayError, UdpAddress
from peerway.core.path.candidate import plain_ip
from peerway.core.relay.url import STUN_PORT

_BRACKETED = re.compile(r"\[([^\[\]]+)\](?::([0-9]{1,5}))?")
_PLAIN = re.compile(r"([^\[\]:\s]+)(?::([0-9]{1,5}))?")


def parse_stun_server(text: str) -> tuple[str, int]:
    """A STUN server as `host`, `host:port` or `[v6]:port`; PeerwayError for anything else."""
    host, port = _split(text)
    if not host or not 0 < int(port or STUN_PORT) < 65536:
        raise PeerwayError(f"{text!r} is not a STUN server: write host, host:port or [IPv6]:port")
    return host, int(port or STUN_PORT)


def parse_advertised(text: str) -> UdpAddress:
    """An address others reach us at, as `ip:port` or `[v6]:port`; PeerwayError for anything else.

    Names are none: the address is told to peers as it is.
    """
    host, port = _split(text)
    ip = _ip(host)
    if ip is None or ip.is_unspecified or ip.is_multicast or not 0 < int(port or 0) < 65536:
        raise PeerwayError(
            f"{text!r} is not an address to advertise: write the outside IP:PORT, or [IPv6]:PORT"
        )
    return UdpAddress(str(ip), int(port))


def is_loopback(host: str) -> bool:
    """Whether a server runs on this very machine, which then is the whole of a node's world."""
    ip = _ip(host)
    return host == "localhost" if ip is None else ip.is_loopback


def _split(text: str) -> tuple[str, str]:
    """Host, "" where nothing makes sense, and port, "" where there is none."""
    if _ip(text) is not None:
        return text, ""
    if found := _BRACKETED.fullmatch(text):
        return (found[1], found[2] or "") if _ip(found[1]) is not None else ("", "")
    found = _PLAIN.fullmatch(text)
    return (found[1], found[2] or "") if found else ("", "")


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(plain_ip(text))
    except ValueError:
        return None
