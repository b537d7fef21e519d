"""NAT-PMP on the wire (RFC 6886): requests of 2 and 12 bytes, answers of 12 and 16.

A failure may be cut short after its result: 8 bytes are enough for one.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum

from peerway.core.machine import WireError

PORT = 5351  # the gateway's, RFC 6886 1.1
ANNOUNCEMENT_PORT = 5350  # ours, on 224.0.0.1, RFC 6886 3.2.1
VERSION = 0
_ADDRESS, _MAP_UDP = 0, 1
_ANSWER = 128  # added to the opcode
_HEAD = struct.Struct(">BBHI")  # version, opcode, result, seconds since the gateway's start
_MAP_REQUEST = struct.Struct(">BBHHHI")
_MAP_ANSWER = struct.Struct(">HHI")  # internal port, external port, lifetime
_LARGEST = 16


class Result(IntEnum):
    """What became of a request (RFC 6886 3.5)."""

    SUCCESS = 0
    UNSUPPORTED_VERSION = 1
    NOT_AUTHORIZED = 2
    NETWORK_FAILURE = 3
    OUT_OF_RESOURCES = 4
    UNSUPPORTED_OPCODE = 5


MEANINGS = {
    Result.UNSUPPORTED_VERSION: "it does not speak NAT-PMP",
    Result.NOT_AUTHORIZED: "port mapping is switched off in the gateway, or not allowed to us",
    Result.NETWORK_FAILURE: "the gateway has no public address itself: it is offline, or behind another NAT",
    Result.OUT_OF_RESOURCES: "the gateway has no port left",
    Result.UNSUPPORTED_OPCODE: "the gateway cannot map ports",
}


@dataclass(frozen=True, slots=True)
class ExternalAddress:
    """The gateway's outside address, and how many seconds ago it started."""

    epoch: int
    ip: str


@dataclass(frozen=True, slots=True)
class Mapped:
    """`external_port` leads to our `internal_port` for `lifetime` seconds; 0: it is deleted."""

    epoch: int
    internal_port: int
    external_port: int
    lifetime: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A request failed. `about_mapping` tells which kind of request; `result` is any number but 0."""

    epoch: int
    about_mapping: bool
    result: int


Answer = ExternalAddress | Mapped | Failure


def build_address_request() -> bytes:
    """Ask for the gateway's outside address."""
    return bytes((VERSION, _ADDRESS))


def build_map_request(internal_port: int, external_port: int, lifetime: int) -> bytes:
    """Ask for a UDP mapping; a lifetime of 0 deletes it, and then `external_port` must be 0 too."""
    return _MAP_REQUEST.pack(VERSION, _MAP_UDP, 0, internal_port, external_port, lifetime)


def parse(data: bytes) -> Answer:
    """What a gateway says; `WireError` for anything else."""
    if not _HEAD.size <= len(data) <= _LARGEST:
        raise WireError("nat-pmp: a wrong size")
    version, opcode, result, epoch = _HEAD.unpack_from(data)
    if version != VERSION:
        raise WireError("nat-pmp: another version")
    if opcode not in (_ANSWER + _ADDRESS, _ANSWER + _MAP_UDP):
        raise WireError("nat-pmp: not an answer to a question of ours")
    about_mapping = opcode == _ANSWER + _MAP_UDP
    if result != Result.SUCCESS:
        return Failure(epoch, about_mapping, result)
    body = data[_HEAD.size :]
    if about_mapping:
        if len(body) != _MAP_ANSWER.size:
            raise WireError("nat-pmp: a wrong size")
        return Mapped(epoch, *_MAP_ANSWER.unpack(body))
    if len(body) != 4:
        raise WireError("nat-pmp: a wrong size")
    return ExternalAddress(epoch, str(ipaddress.IPv4Address(body)))


def meaning(result: int) -> str:
    """A result, for people."""
    known = {int(code): text for code, text in MEANINGS.items()}
    return known.get(result, f"the gateway answers with NAT-PMP result {result}")
