"""The ways out of this machine that have a gateway which may be asked for a port."""

from __future__ import annotations

from dataclasses import dataclass

from peerway.core.ip import parse_ip
from peerway.core.machine import InterfaceAddress, UdpAddress
from peerway.core.portmap.external import is_public

MAX_UPLINKS = 4
_WILDCARD = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Uplink:
    """A way out: the interface, its gateway, and our address there with the port that is to be reached."""

    interface: str
    gateway: str
    internal: UdpAddress


def uplinks(addresses: tuple[InterfaceAddress, ...], sockets: tuple[UdpAddress, ...]) -> tuple[Uplink, ...]:
    """The uplinks behind a NAT, the system's favourite first, with the socket that sends by each.

    Who has a public IPv4 address needs no mapping. A socket bound to an interface's address sends by
    that interface; the one bound to no address in particular sends by the favourite.
    """
    v4 = [address for address in addresses if parse_ip(address.ip).version == 4]
    ways_out = sorted((a.metric or 0, a) for a in v4 if a.metric is not None or a.gateway)
    found: dict[str, Uplink] = {}
    for position, (_, address) in enumerate(ways_out):
        socket = _socket_of(address.ip, sockets, favourite=position == 0)
        if socket is not None and address.gateway and not is_public(address.ip):
            internal = UdpAddress(address.ip, socket.port)
            found.setdefault(address.interface, Uplink(address.interface, address.gateway, internal))
    return tuple(found.values())[:MAX_UPLINKS]


def _socket_of(ip: str, sockets: tuple[UdpAddress, ...], *, favourite: bool) -> UdpAddress | None:
    bound_to = (ip, _WILDCARD) if favourite else (ip,)
    return next((socket for socket in sockets if socket.ip in bound_to), None)
