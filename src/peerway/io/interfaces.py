"""The addresses of this machine's network interfaces, and word of their changes.

On Linux the kernel tells (a netlink socket); elsewhere, or where netlink is forbidden, we
look every `POLL_S`. Either way the callback runs only when the addresses or the default
routes are other than before: interfaces of containers come and go all the time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import ifaddr

from peerway.core.machine import InterfaceAddress
from peerway.io import routes as routes_out
from peerway.io.routes import DefaultRoute
from peerway.io.udp_options import ON_LINUX

POLL_S = 5.0
SETTLE_S = 0.2  # changes come in bursts: an interface, its addresses, its routes
NETLINK_READS_PER_WAKE = 64

# rtnetlink(7): RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE
_NETLINK_ROUTE = 0
_NETLINK_GROUPS = 0x001 | 0x010 | 0x040 | 0x100 | 0x400

# if_addr.h: IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE
_IFA_F_OUT_OF_USE = 0x08 | 0x20 | 0x40

# netdevice(7)
_SIOCGIFFLAGS = 0x8913
_IFF_UP_AND_RUNNING = 0x1 | 0x40
_IFREQ = struct.Struct("=16sH22x")

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
_Picture = tuple[tuple[InterfaceAddress, ...], tuple[str, ...]]


def interface_addresses() -> tuple[InterfaceAddress, ...]:
    """The addresses others could reach us by, sorted; without loopback, interfaces that are down,
    link-local IPv6 (which means nothing without a zone), and IPv6 that is not to be used (any more)."""
    found: set[InterfaceAddress] = set()
    out_of_use = _ipv6_out_of_use()
    routes = routes_out.default_routes()
    usable: dict[str, bool] = {}
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            ip = ipaddress.ip_address(entry.ip if isinstance(entry.ip, str) else entry.ip[0])
            if _leads_nowhere(ip) or (adapter.nice_name, ip) in out_of_use:
                continue
            name = adapter.nice_name
            if name not in usable:
                usable[name] = _is_running(name)
            if usable[name]:
                metric, gateway = _way_out(name, ip, entry.network_prefix, routes)
                found.add(InterfaceAddress(name, str(ip), entry.network_prefix, metric, gateway))
    return tuple(sorted(found))


def watch_interfaces(
    on_change: Callable[[tuple[InterfaceAddress, ...]], None], loop: asyncio.AbstractEventLoop | None = None
) -> InterfaceWatch:
    """Call back with the new addresses after addresses or default routes changed, until closed."""
    return InterfaceWatch(on_change, loop)


class InterfaceWatch:
    """A running watch; `addresses` is what it saw last."""

    def __init__(
        self,
        on_change: Callable[[tuple[InterfaceAddress, ...]], None],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._on_change = on_change
        self._timer: asyncio.TimerHandle | None = None
        self._netlink = self._listen()
        self._seen = _picture()
        if self._netlink is None:
            self._look_after(POLL_S)

    @property
    def addresses(self) -> tuple[InterfaceAddress, ...]:
        """The addresses at the last look."""
        return self._seen[0]

    @property
    def is_told(self) -> bool:
        """Whether the system tells of changes; otherwise we look every `POLL_S`."""
        return self._netlink is not None

    def close(self) -> None:
        """Stop and free everything. Harmless when repeated."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._netlink is not None:
            self._loop.remove_reader(self._netlink)
            self._netlink.close()
            self._netlink = None

    def _listen(self) -> socket.socket | None:
        try:
            netlink = _open_netlink()
        except OSError:
            return None
        if netlink is None:
            return None
        try:
            self._loop.add_reader(netlink, self._told)
        except NotImplementedError:
            netlink.close()
            return None
        return netlink

    def _told(self) -> None:
        # What the messages say is of no interest: whoever wakes us up makes us look.
        if self._netlink is None:
            return
        for _ in range(NETLINK_READS_PER_WAKE):
            try:
                self._netlink.recv(65_536)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: so much changed that messages were lost
                break
        if self._timer is None:
            self._look_after(SETTLE_S)

    def _look_after(self, delay: float) -> None:
        self._timer = self._loop.call_later(delay, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._netlink is None:
            self._look_after(POLL_S)
        picture = _picture()
        if picture != self._seen:
            self._seen = picture
            self._on_change(picture[0])


def _picture() -> _Picture:
    return interface_addresses(), routes_out.fingerprint()


def _way_out(
    interface: str, ip: _Ip, prefix_length: int, routes: tuple[DefaultRoute, ...]
) -> tuple[int | None, str]:
    """Metric and gateway of the best default route by this interface; a gateway elsewhere is none."""
    ours = [
        route for route in routes if route.version == ip.version and route.leaves_by in (interface, str(ip))
    ]
    if not ours:
        return None, ""
    best = min(ours, key=lambda route: route.metric or 0)
    network = ipaddress.ip_network((ip, prefix_length), strict=False)
    near = best.gateway and ipaddress.ip_address(best.gateway) in network
    return best.metric, best.gateway if near else ""


def _leads_nowhere(ip: _Ip) -> bool:
    return ip.is_loopback or ip.is_unspecified or ip.is_multicast or (ip.version == 6 and ip.is_link_local)


def _ipv6_out_of_use() -> set[tuple[str, _Ip]]:
    """Interface and address of what is deprecated, still being checked for duplicates, or is one.

    Systems that change their IPv6 address every day keep the former ones for a week.
    """
    # Columns: address, interface index, prefix length, scope, flags, interface
    rows = [line.split() for line in _read_if_inet6()]
    return {
        (row[5], ipaddress.IPv6Address(int(row[0], 16)))
        for row in rows
        if len(row) == 6 and int(row[4], 16) & _IFA_F_OUT_OF_USE
    }


def _read_if_inet6() -> list[str]:
    try:
        return Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines()
    except OSError:
        return []


def _is_running(interface: str) -> bool:
    """Whether the interface is up and has a carrier; True where that cannot be told."""
    if not ON_LINUX:
        return True
    import fcntl  # not on Windows

    request = _IFREQ.pack(interface.encode()[:15], 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe, _SIOCGIFFLAGS, request)
        except OSError:
            return True
    flags: int = _IFREQ.unpack(answer)[1]
    return flags & _IFF_UP_AND_RUNNING == _IFF_UP_AND_RUNNING


def _open_netlink() -> socket.socket | None:
    if not ON_LINUX or not hasattr(socket, "AF_NETLINK"):
        return None
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE)
    try:
        netlink.setblocking(False)
        netlink.bind((0, _NETLINK_GROUPS))
    except OSError:
        netlink.close()
        raise
    return netlink
