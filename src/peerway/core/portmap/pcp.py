"""PCP on the wire (RFC 6887): the ANNOUNCE and MAP opcodes, for UDP ports of our own.

    request    version 2 | opcode | reserved 2 | lifetime 4 | our address 16
    answer     version 2 | 128 + opcode | reserved 1 | result 1 | lifetime 4 | epoch 4 | reserved 12
    MAP, both  nonce 12 | protocol 1 | reserved 3 | internal port 2 | external port 2 | external address 16

IPv4 addresses are written as IPv4-mapped IPv6 ones. Options, which we never ask for, may follow an
answer; they are walked over. A server that does not speak version 2 answers in its own: that is
`WrongVersion`, and the version 0 is that of NAT-PMP.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum

from peerway.core.machine import WireError

VERSION = 2
NONCE_SIZE = 12
MAX_SIZE = 1100  # bytes, RFC 6887 7
_ANNOUNCE, _MAP = 0, 1
_ANSWER = 128
_UDP = 17
_REQUEST = struct.Struct(">BBHI16s")
_HEAD = struct.Struct(">BBBBII12x")
_MAPPING = struct.Struct(">12sB3xHH16s")
_OPTION = struct.Struct(">BxH")
_UNSUPPORTED_VERSION_SIZE = 4  # of an answer in a version we cannot read: its first bytes mean the same
_NO_ADDRESS = ipaddress.IPv6Address("::ffff:0.0.0.0").packed


class Result(IntEnum):
    """What became of a request (RFC 6887 7.4)."""

    SUCCESS = 0
    UNSUPP_VERSION = 1
    NOT_AUTHORIZED = 2
    MALFORMED_REQUEST = 3
    UNSUPP_OPCODE = 4
    UNSUPP_OPTION = 5
    MALFORMED_OPTION = 6
    NETWORK_FAILURE = 7
    NO_RESOURCES = 8
    UNSUPP_PROTOCOL = 9
    USER_EX_QUOTA = 10
    CANNOT_PROVIDE_EXTERNAL = 11
    ADDRESS_MISMATCH = 12
    EXCESSIVE_REMOTE_PEERS = 13


MEANINGS = {
    Result.UNSUPP_VERSION: "it does not speak this version of PCP",
    Result.NOT_AUTHORIZED: "port mapping is switched off in the gateway, or not allowed to us",
    Result.UNSUPP_OPCODE: "the gateway cannot map ports",
    Result.UNSUPP_PROTOCOL: "the gateway cannot map UDP",
    Result.NETWORK_FAILURE: "the gateway has no public address itself: it is offline, or behind another NAT",
    Result.NO_RESOURCES: "the gateway cannot map now: no port is left, or it has no public address itself",
    Result.USER_EX_QUOTA: "the gateway gives us no further port",
    Result.CANNOT_PROVIDE_EXTERNAL: "the gateway cannot give that port",
    Result.ADDRESS_MISMATCH: "there is another NAT between us and the PCP server",
}


@dataclass(frozen=True, slots=True)
class Announced:
    """The server is there; it started, or lost its state, `epoch` seconds ago."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Mapped:
    """`external_ip` and `external_port` lead to our `internal_port` for `lifetime` s; 0: it is deleted."""

    epoch: int
    nonce: bytes
    internal_port: int
    external_ip: str
    external_port: int
    lifetime: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A request failed. `nonce` names the mapping, and is empty when it was no request for one.

    Do not ask again within `lifetime` seconds. `result` is any number but 0.
    """

    epoch: int
    nonce: bytes
    result: int
    lifetime: int


@dataclass(frozen=True, slots=True)
class WrongVersion:
    """The server speaks another version: `version`, 0 for NAT-PMP."""

    version: int


Answer = Announced | Mapped | Failure | WrongVersion


def build_announce(our_ip: str) -> bytes:
    """Ask whether a server is there."""
    return _REQUEST.pack(VERSION, _ANNOUNCE, 0, 0, _pack(our_ip))


def build_map(
    our_ip: str, nonce: bytes, internal_port: int, external_port: int, external_ip: str, lifetime: int
) -> bytes:
    """Ask for a UDP mapping, at `external_ip` ("" for any) and `external_port` if that can be.

    A lifetime of 0 deletes the mapping with this nonce.
    """
    head = _REQUEST.pack(VERSION, _MAP, 0, lifetime, _pack(our_ip))
    return head + _MAPPING.pack(
        nonce, _UDP, internal_port, external_port, _pack(external_ip) if external_ip else _NO_ADDRESS
    )


def parse(data: bytes) -> Answer:
    """What a server says; `WireError` for anything else."""
    if len(data) < _UNSUPPORTED_VERSION_SIZE:
        raise WireError("pcp: cut short")
    if data[0] != VERSION:
        return _other_version(data)
    if len(data) > MAX_SIZE or len(data) % 4 or len(data) < _HEAD.size:
        raise WireError("pcp: a wrong size")
    _, opcode, _, result, lifetime, epoch = _HEAD.unpack_from(data)
    if opcode == _ANSWER + _ANNOUNCE:
        _walk_options(data, _HEAD.size)
        return Announced(epoch) if result == Result.SUCCESS else Failure(epoch, b"", result, lifetime)
    if opcode != _ANSWER + _MAP:
        raise WireError("pcp: not an answer to a question of ours")
    return _mapping(data, result, lifetime, epoch)


def _mapping(data: bytes, result: int, lifetime: int, epoch: int) -> Answer:
    if len(data) < _HEAD.size + _MAPPING.size:
        raise WireError("pcp: a wrong size")
    nonce, protocol, internal_port, external_port, external_ip = _MAPPING.unpack_from(data, _HEAD.size)
    if result != Result.SUCCESS:
        return Failure(epoch, nonce, result, lifetime)
    if protocol != _UDP:
        raise WireError("pcp: a mapping for another protocol")
    _walk_options(data, _HEAD.size + _MAPPING.size)
    return Mapped(epoch, nonce, internal_port, _unpack(external_ip), external_port, lifetime)


def _other_version(data: bytes) -> WrongVersion:
    # NAT-PMP has its result one byte further to the left; with 16 bits it ends in the same place.
    if not data[1] & _ANSWER or data[3] != Result.UNSUPP_VERSION:
        raise WireError("pcp: another version")
    return WrongVersion(data[0])


def _walk_options(data: bytes, offset: int) -> None:
    while offset < len(data):
        _, size = _OPTION.unpack_from(data, offset)
        offset += _OPTION.size + size + -size % 4
    if offset != len(data):
        raise WireError("pcp: an option runs past the end")


def meaning(result: int) -> str:
    """A result, for people."""
    known = {int(code): text for code, text in MEANINGS.items()}
    return known.get(result, f"the gateway answers with PCP result {result}")


def _pack(ip: str) -> bytes:
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv4Address):
        address = ipaddress.IPv6Address(f"::ffff:{address}")
    return address.packed


def _unpack(packed: bytes) -> str:
    address = ipaddress.IPv6Address(packed)
    return str(address.ipv4_mapped or address)
