"""Listening sockets: one for each address, all on one port, IPv4 and IPv6 apart."""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from peerway.core.machine import PeerwayError, UdpAddress
from peerway.io.address import family_of, to_socket_address

EVERYWHERE = ("0.0.0.0", "::")
BACKLOG = 512  # connections the kernel accepts ahead of us
PORT_TRIES = 16  # ports tried until one is free at every address

logger = logging.getLogger("peerway.server")


class Bound(Protocol):
    """A bound socket of any kind."""

    @property
    def port(self) -> int: ...
    def close(self) -> None: ...


BoundT = TypeVar("BoundT", bound=Bound)


class ListenError(PeerwayError):
    """An address cannot be listened at. `host` and `port` say which, `error` is the system's."""

    def __init__(self, what: str, host: str, port: int, error: OSError) -> None:
        advice = {
            errno.EADDRINUSE: "another program has this port: choose another, or 0 for any",
            errno.EACCES: "ports below 1024 need privileges: choose a higher one",
            errno.EADDRNOTAVAIL: "this machine does not have that address",
        }.get(error.errno or 0, "check the address")
        super().__init__(
            f"cannot listen for {what} at {UdpAddress(host, port)}: {error.strerror or error}; {advice}"
        )
        self.host = host
        self.port = port
        self.error = error


def check_host(host: str) -> str:
    """The canonical form of an address to listen at. Raises ValueError for anything else."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise ValueError(
            f"{host!r} is not an IP address to listen at; 0.0.0.0 and :: are all of them"
        ) from None


def parse_place(text: str) -> tuple[str, int]:
    """Where to listen, as `ip:port` or `[v6]:port`. Raises ValueError for anything else."""
    host, separator, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is no place to listen at: write IP:PORT, such as 127.0.0.1:9464")
    return check_host(host), int(port)


def bind_all(what: str, hosts: Sequence[str], port: int, bind: Callable[[str, int], BoundT]) -> list[BoundT]:
    """Call `bind(host, port)` for each host, all with one port; returns what it returned.

    Port 0 is any port that is free at each host. One of the two unspecified addresses may be missing
    (a machine without IPv6, say) as long as the other is there. Raises `ListenError`.
    """
    tries = 1 if port else PORT_TRIES
    while True:
        tries -= 1
        try:
            return _bind_once(what, hosts, port, bind)
        except ListenError as error:
            if not tries or error.error.errno != errno.EADDRINUSE:
                raise


def _bind_once(
    what: str, hosts: Sequence[str], port: int, bind: Callable[[str, int], BoundT]
) -> list[BoundT]:
    bound: list[BoundT] = []
    missing: ListenError | None = None
    for host in hosts:
        try:
            bound.append(bind(host, port))
        except OSError as error:
            missing = ListenError(what, host, port, error)
            if host in EVERYWHERE and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                logger.warning("server not-listening for=%s host=%s error=%s", what, host, error)
                continue
            for other in bound:
                other.close()
            raise missing from None
        port = bound[0].port
    if not bound:
        raise missing or ValueError("no address to listen at")
    return bound


class TcpListener:
    """A listening TCP socket that never blocks. Raises OSError when it cannot be had."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.socket(family_of(host), socket.SOCK_STREAM)
        try:
            self._open(UdpAddress(host, port))
        except BaseException:
            self.socket.close()
            raise
        self.port = int(self.socket.getsockname()[1])

    def _open(self, address: UdpAddress) -> None:
        self.socket.setblocking(False)
        if sys.platform != "win32":  # there it would let two programs have one port
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.socket.family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.bind(to_socket_address(address))
        self.socket.listen(BACKLOG)

    def close(self) -> None:
        """Free the socket."""
        self.socket.close()
