"""A host with several ways out: which of its interfaces deserve a socket of their own.

The sockets a node begins with send by whatever route the system favours. Each further
interface with a default route gets a socket that sends by it alone, so that the paths over it
are probed, compared and fallen back to like any other.
"""

from __future__ import annotations

from collections.abc import Collection

from peerway.core.ip import parse_ip
from peerway.core.machine import CloseSocket, InterfaceAddress, OpenSocket, UdpAddress

MAX_FURTHER_UPLINKS = 3  # each family
_FOLLOWS_ROUTES = {4: "0.0.0.0", 6: "::"}


class Uplinks:
    """The sockets of further uplinks; asks for them as interfaces come and go."""

    def __init__(self) -> None:
        self._wanted: dict[tuple[str, str], None] = {}
        self._sockets: dict[tuple[str, str], UdpAddress] = {}

    @property
    def sockets(self) -> tuple[UdpAddress, ...]:
        """Those that are open."""
        return tuple(self._sockets.values())

    def interfaces_changed(self, addresses: tuple[InterfaceAddress, ...]) -> list[OpenSocket | CloseSocket]:
        """What is to be opened and closed, now that the interfaces are these."""
        wanted = further_uplinks(addresses)
        requests: list[OpenSocket | CloseSocket] = []
        for uplink in [uplink for uplink in self._sockets if uplink not in wanted]:
            requests.append(CloseSocket(self._sockets.pop(uplink)))
        requests.extend(OpenSocket(*uplink) for uplink in wanted if uplink not in self._wanted)
        self._wanted = dict.fromkeys(wanted)
        return requests

    def socket_opened(self, interface: str, local: UdpAddress) -> bool:
        """A socket we asked for is open; False when it is not wanted any more."""
        uplink = (interface, local.ip)
        if uplink not in self._wanted:
            return False
        self._sockets[uplink] = local
        return True

    def socket_failed(self, interface: str, ip: str) -> None:
        """A socket we asked for cannot be had: it is asked for again when the interfaces change."""
        self._wanted.pop((interface, ip), None)


def families_moved(
    before: tuple[InterfaceAddress, ...], now: tuple[InterfaceAddress, ...]
) -> tuple[int, ...]:
    """The families, 4 and 6, in which the system does not send from where it did any more."""
    return tuple(version for version in (4, 6) if _has_moved(_of(before, version), _of(now, version)))


def sends_elsewhere(socket: UdpAddress, moved: Collection[int]) -> bool:
    """Whether what `socket` sends comes from another address, now that these families have moved."""
    return socket.ip in [_FOLLOWS_ROUTES[version] for version in moved]


def _has_moved(before: list[InterfaceAddress], now: list[InterfaceAddress]) -> bool:
    old = _favourite(before)
    if old is not None:
        return _favourite(now) != old
    # no default route tells which it was: another has taken the place of one that is gone, or none has
    is_gone = any(address not in now for address in before)
    return is_gone and (not now or any(address not in before for address in now))


def _favourite(addresses: list[InterfaceAddress]) -> InterfaceAddress | None:
    ranked = [(address.metric, address) for address in addresses if address.metric is not None]
    return min(ranked)[1] if ranked else None


def _of(addresses: tuple[InterfaceAddress, ...], version: int) -> list[InterfaceAddress]:
    return [address for address in addresses if _version(address) == version]


def _version(address: InterfaceAddress) -> int:
    return parse_ip(address.ip).version


def further_uplinks(addresses: tuple[InterfaceAddress, ...]) -> list[tuple[str, str]]:
    """Interface and address of every way out but the favourite, best first, in each family."""
    found: list[tuple[str, str]] = []
    for version in (4, 6):
        ranked = sorted(
            (address.metric, address)
            for address in addresses
            if address.metric is not None and _version(address) == version
        )
        first_of_each = {address.interface: address for _, address in reversed(ranked)}
        in_order = dict.fromkeys(address.interface for _, address in ranked)
        further = [first_of_each[interface] for interface in in_order][1 : 1 + MAX_FURTHER_UPLINKS]
        found.extend((address.interface, address.ip) for address in further)
    return found
