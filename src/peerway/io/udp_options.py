"""What a UDP socket of ours is set to, system by system.

Linux's numbers stand here because Python's socket module lacks them, and so that nothing
of Linux is needed to import this elsewhere. Every option is a wish: a system without it
serves more slowly, not less.

IP_RECVERR stays off on purpose. With it, the answer to one destination (a closed port, a
probe whose TTL ran out, both ordinary while paths are tried) fails the next send to
another; and a socket in error makes uvloop stop reading it for good, and asyncio spin.
Without it a socket that is not connected hears of no ICMP.
"""

from __future__ import annotations

import errno
import socket
import sys
from dataclasses import dataclass

ON_LINUX = sys.platform in ("linux", "android")

SOL_UDP = 17
UDP_SEGMENT = 103
UDP_GRO = 104

BUFFER_BYTES = 4 * 1024 * 1024
_SMALLEST_BUFFER_BYTES = 128 * 1024

_LINUX_IP_UNICAST_IF = 50
_LINUX_IPV6_UNICAST_IF = 76
_LINUX_IP_MTU_DISCOVER = 10
_LINUX_IPV6_MTU_DISCOVER = 23
_LINUX_PMTUDISC_PROBE = 3
_LINUX_SO_SNDBUFFORCE = 32
_LINUX_SO_RCVBUFFORCE = 33
_DARWIN_IP_DONTFRAG = 28
_DARWIN_IPV6_DONTFRAG = 62
_WINDOWS_DONTFRAGMENT = 14


@dataclass(frozen=True, slots=True)
class Offload:
    """What the kernel does for us: `gso` splits one send, `gro` joins what arrives, `ttl_control`
    takes a TTL along with a single send."""

    gso: bool
    gro: bool
    ttl_control: bool


def prepare(sock: socket.socket) -> Offload:
    """Set every wished option on an unbound socket and tell what the system can do."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    _forbid_fragments(sock)
    _enlarge(sock, socket.SO_RCVBUF, _LINUX_SO_RCVBUFFORCE)
    _enlarge(sock, socket.SO_SNDBUF, _LINUX_SO_SNDBUFFORCE)
    if not ON_LINUX:
        return Offload(gso=False, gro=False, ttl_control=False)
    return Offload(
        gso=_try(sock, SOL_UDP, UDP_SEGMENT, 0), gro=_try(sock, SOL_UDP, UDP_GRO, 1), ttl_control=True
    )


def send_by(sock: socket.socket, interface: str) -> None:
    """Have all that is sent leave by `interface`, whatever route is the system's favourite.

    Raises `OSError` when there is no such interface, or the system knows no such wish.
    """
    index = socket.if_nametoindex(interface).to_bytes(4, "big")
    if not ON_LINUX:
        raise OSError(errno.EOPNOTSUPP, f"cannot choose the interface {interface} on this system")
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _LINUX_IPV6_UNICAST_IF, index)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _LINUX_IP_UNICAST_IF, index)


def share_port(sock: socket.socket) -> None:
    """Let other programs bind the same port; whatever is sent to a group then reaches all of them."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if not ON_LINUX and hasattr(socket, "SO_REUSEPORT"):  # what the BSDs want for this
        _try(sock, socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def ttl_option(sock: socket.socket) -> tuple[int, int]:
    """Level and name of the socket option that holds the TTL of what is sent."""
    if sock.family == socket.AF_INET6:
        return socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS
    return socket.IPPROTO_IP, socket.IP_TTL


def ttl_control(sock: socket.socket) -> tuple[int, int]:
    """Level and type of the control message that sets the TTL of one send (`Offload.ttl_control`)."""
    if sock.family == socket.AF_INET6:
        return socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT
    return socket.IPPROTO_IP, socket.IP_TTL


def _forbid_fragments(sock: socket.socket) -> None:
    six = sock.family == socket.AF_INET6
    level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
    if ON_LINUX:
        # PROBE: DF is set, and the kernel's own idea of the path MTU, which strangers can
        # shrink with forged ICMP, stops nothing.
        option = _LINUX_IPV6_MTU_DISCOVER if six else _LINUX_IP_MTU_DISCOVER
        _try(sock, level, option, _LINUX_PMTUDISC_PROBE)
    elif sys.platform == "darwin":
        _try(sock, level, _DARWIN_IPV6_DONTFRAG if six else _DARWIN_IP_DONTFRAG, 1)
    elif sys.platform == "win32":
        _try(sock, level, _WINDOWS_DONTFRAGMENT, 1)


def _enlarge(sock: socket.socket, option: int, forced: int) -> None:
    # FORCE needs CAP_NET_ADMIN. Linux caps the plain option silently, BSDs refuse what is too much.
    if ON_LINUX and _try(sock, socket.SOL_SOCKET, forced, BUFFER_BYTES):
        return
    size = BUFFER_BYTES
    while size >= _SMALLEST_BUFFER_BYTES and not _try(sock, socket.SOL_SOCKET, option, size):
        size //= 2


def _try(sock: socket.socket, level: int, option: int, value: int) -> bool:
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True
