"""Addresses as STUN writes them: family, port, IP; plain or XORed with the header (RFC 8489 14.1, 14.2)."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address

from peerway.core.ip import parse_ip
from peerway.core.machine import UdpAddress, WireError

FAMILY_IPV4 = 1
FAMILY_IPV6 = 2
_SIZE_BY_FAMILY = {FAMILY_IPV4: 4, FAMILY_IPV6: 16}
_FAMILY_BY_SIZE = {4: FAMILY_IPV4, 16: FAMILY_IPV6}
_CACHED_ADDRESSES = 4096


@lru_cache(maxsize=_CACHED_ADDRESSES)
def pack_ip(ip: str) -> bytes:
    """The 4 or 16 bytes of an address in text form; an IPv4-mapped IPv6 address is its IPv4 address.

    A dual-stack socket reports IPv4 sources as mapped; no peer could use such an address.
    Raises `ValueError` when `ip` is not an address.
    """
    address = parse_ip(ip)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.packed
    return address.packed


@lru_cache(maxsize=_CACHED_ADDRESSES)
def unpack_ip(packed: bytes) -> str:
    """The canonical text form of 4 or 16 bytes."""
    address = parse_ip(packed)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def xor(data: bytes, mask: bytes) -> bytes:
    """`data` with as many bytes of `mask` XORed into it."""
    size = len(data)
    mixed = int.from_bytes(data, "big") ^ int.from_bytes(mask[:size], "big")
    return mixed.to_bytes(size, "big")


def build_address(address: UdpAddress, mask: bytes = bytes(16)) -> bytes:
    """The value of an address attribute; `mask` is bytes 4 to 20 of the header for a XORed one."""
    packed = pack_ip(address.ip)
    port = address.port.to_bytes(2, "big")
    return bytes((0, _FAMILY_BY_SIZE[len(packed)])) + xor(port, mask) + xor(packed, mask)


def parse_address(value: bytes, mask: bytes = bytes(16)) -> UdpAddress:
    """The inverse of `build_address`. The first byte is ignored (RFC 8489 14.1)."""
    if len(value) < 4 or _SIZE_BY_FAMILY.get(value[1]) != len(value) - 4:
        raise WireError("the address is neither an IPv4 nor an IPv6 one")
    port = int.from_bytes(xor(value[2:4], mask), "big")
    return UdpAddress(unpack_ip(xor(value[4:], mask)), port)
