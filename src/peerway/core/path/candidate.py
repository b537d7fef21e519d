"""Candidates: the addresses a node might be reached at, and which of a peer's we will try."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum

from peerway.core.ip import IpAddress, parse_ip
from peerway.core.machine import InterfaceAddress, UdpAddress

MAX_CANDIDATES = 16


class CandidateKind(IntEnum):
    """How the address was found; the numbers are on the wire."""

    HOST = 1  # an interface's own
    REFLEXIVE = 2  # what a STUN server saw
    PEER_REFLEXIVE = 3  # what an authenticated probe of the peer came from
    PORT_MAPPED = 4
    STATIC = 5  # configured, or named in a ticket


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """An address and how it was found."""

    kind: CandidateKind
    address: UdpAddress

    def __str__(self) -> str:
        return f"{self.address} ({self.kind.name.lower().replace('_', '-')})"


def plain_ip(text: str) -> str:
    """An IP address in canonical form; `ValueError` for anything else, a zone included: zones mean
    nothing on another machine."""
    ip = parse_ip(text)
    if isinstance(ip, ipaddress.IPv6Address) and ip.scope_id is not None:
        raise ValueError(f"{text!r} names a zone")
    return str(ip)


class RefusedError(ValueError):
    """A candidate no probe is sent to; the message says why."""


IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class TargetPolicy:
    """Which addresses may be probed at a peer's word, and which of them are near.

    A peer names these addresses; whatever it names, our probes must be no weapon.
    `networks` are those of our own interfaces. `loopback` is for nodes whose relay itself
    is on loopback: their whole world is one machine.
    """

    networks: tuple[IpNetwork, ...] = ()
    loopback: bool = False

    def check(self, address: UdpAddress) -> None:
        """Raise `RefusedError` unless `address` may be probed."""
        ip = parse_ip(address.ip)
        if not 0 < address.port < 65536:
            raise RefusedError(f"port {address.port}")
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            raise RefusedError("an IPv4-mapped address")
        if ip.is_unspecified or (ip.is_loopback and not self.loopback):
            raise RefusedError("a loopback or unspecified address")
        if ip.is_multicast or self._is_broadcast(ip):
            raise RefusedError("a multicast or broadcast address")
        if ip.is_link_local:
            raise RefusedError("a link-local address")

    def _is_broadcast(self, ip: IpAddress) -> bool:
        if ip.version == 6:
            return False
        return str(ip) == "255.255.255.255" or any(
            network.version == 4 and network.prefixlen < 31 and ip == network.broadcast_address
            for network in self.networks
        )

    def is_lan(self, address: UdpAddress) -> bool:
        """Whether `address` is on one of our own networks, so that no NAT of ours lies between."""
        ip = parse_ip(address.ip)
        return ip.is_loopback or any(
            ip.version == network.version and ip in network for network in self.networks
        )


def networks_of(addresses: tuple[InterfaceAddress, ...]) -> tuple[IpNetwork, ...]:
    """The networks our interfaces are on; single-address prefixes say nothing and are left out."""
    found = (
        ipaddress.ip_network(f"{address.ip}/{address.prefix_length}", strict=False) for address in addresses
    )
    return tuple(dict.fromkeys(network for network in found if network.num_addresses > 1))
