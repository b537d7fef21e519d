"""The default routes of this machine: the interfaces that lead out, and the gateways they lead to.

On Linux the kernel's tables say it all. Elsewhere `netstat` (macOS, BSD) or `route print`
(Windows) is asked for the IPv4 gateway; where that fails too, it is simply not known.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from peerway.io.udp_options import ON_LINUX

_TABLE_BYTES = 64 * 1024  # default routes stand first; a router's full table is not ours to read
_COMMAND_TIMEOUT_S = 2.0
_NO_GATEWAY = "00000000"

# Documentation addresses (RFC 5737, RFC 3849): asking the way there sends nothing.
_SOMEWHERE_V4 = ("192.0.2.1", 9)
_SOMEWHERE_V6 = ("2001:db8::1", 9)


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """A default route. `leaves_by` is the name of an interface, or (Windows) its address.

    `metric` is None where the system tells none; `gateway` "" where the route has none, and in IPv6,
    where nobody has asked for it so far.
    """

    version: int
    leaves_by: str
    gateway: str = ""
    metric: int | None = None


def default_routes() -> tuple[DefaultRoute, ...]:
    """The default routes of both families, as far as they can be told."""
    if ON_LINUX:
        return (*_linux_v4(), *_linux_v6())
    return _elsewhere(_source_towards(socket.AF_INET, _SOMEWHERE_V4))


def fingerprint() -> tuple[str, ...]:
    """A text that changes when the way to the Internet does, at little cost."""
    if ON_LINUX:
        v4 = [f"{row[0]} {row[2]} {row[6]}" for row in _rows_v4()]
        return (*v4, *(f"{row[9]} {row[4]} {row[5]}" for row in _rows_v6()))
    return _source_towards(socket.AF_INET, _SOMEWHERE_V4), _source_towards(socket.AF_INET6, _SOMEWHERE_V6)


# --- Linux -----------------------------------------------------------------------------


def _linux_v4() -> list[DefaultRoute]:
    return [DefaultRoute(4, row[0], _hexadecimal_ip(row[2]), int(row[6])) for row in _rows_v4()]


def _linux_v6() -> list[DefaultRoute]:
    return [DefaultRoute(6, row[9], metric=int(row[5], 16)) for row in _rows_v6()]


def _rows_v4() -> list[list[str]]:
    # Columns: interface, destination, gateway, flags, refcnt, use, metric, mask, ...
    rows = [line.split() for line in _read_table("/proc/net/route")[1:]]
    return [row for row in rows if len(row) > 7 and row[1] == row[7] == "00000000"]


def _rows_v6() -> list[list[str]]:
    # Columns: destination, its prefix, source, its prefix, next hop, metric, refcnt, use, flags, interface
    rows = [line.split() for line in _read_table("/proc/net/ipv6_route")]
    return [row for row in rows if len(row) > 9 and row[1] == "00" and row[9] != "lo"]


def _read_table(path: str) -> list[str]:
    try:
        with Path(path).open(encoding="ascii") as table:
            return table.read(_TABLE_BYTES).splitlines()
    except OSError:
        return []


def _hexadecimal_ip(text: str) -> str:
    """The kernel prints the address as a number of this machine's own byte order."""
    if text == _NO_GATEWAY:
        return ""
    return socket.inet_ntoa(struct.pack("=I", int(text, 16)))


# --- elsewhere -------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _elsewhere(source: str) -> tuple[DefaultRoute, ...]:
    """Asked once for each address that we send from: it starts a process."""
    if not source:
        return ()
    if sys.platform == "win32":
        return parse_route_print(_output("route", "print", "-4", "0.0.0.0"))
    return parse_netstat(_output("netstat", "-rn", "-f", "inet"))


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=_COMMAND_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("ascii", "replace")


def parse_netstat(text: str) -> tuple[DefaultRoute, ...]:
    """The default routes in what `netstat -rn -f inet` prints on macOS and the BSDs."""
    # Columns: destination, gateway, flags, interface, ...
    rows = [line.split() for line in text.splitlines()]
    found = [row for row in rows if len(row) > 3 and row[0] in ("default", "0.0.0.0/0") and _is_ip(row[1])]
    return tuple(DefaultRoute(4, row[3], row[1]) for row in found)


def parse_route_print(text: str) -> tuple[DefaultRoute, ...]:
    """The default routes in what `route print -4` prints on Windows, in whatever language."""
    # Columns: destination, mask, gateway, the interface's address, metric
    rows = [line.split() for line in text.splitlines()]
    found = [row for row in rows if len(row) == 5 and row[0] == row[1] == "0.0.0.0" and _is_ip(row[2])]
    return tuple(DefaultRoute(4, row[3], row[2], int(row[4])) for row in found if row[4].isdecimal())


def _is_ip(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return not ipaddress.IPv4Address(text).is_unspecified
    return False


def _source_towards(family: socket.AddressFamily, somewhere: tuple[str, int]) -> str:
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        probe.connect(somewhere)
        return str(probe.getsockname()[0])
    return ""
