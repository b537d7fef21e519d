"""Telling the protocols on one socket apart, by the first byte (RFC 9443 leaves 4-15 free)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum, auto

from peerway.core.machine import WireError
from peerway.core.probe import message as probe
from peerway.core.signal import message as signal

CONNECTION_ID_SIZE = 8
_LONG_HEADER = 0x80


class Kind(Enum):
    """What a datagram is."""

    STUN = auto()
    SIGNAL = auto()
    PROBE = auto()
    QUIC = auto()
    UNKNOWN = auto()


def _kind_of(first_byte: int) -> Kind:
    if first_byte == signal.FIRST_BYTE:
        return Kind.SIGNAL
    if first_byte == probe.FIRST_BYTE:
        return Kind.PROBE
    if first_byte <= 3:
        return Kind.STUN
    if 0x40 <= first_byte <= 0x7F or first_byte >= 0xC0:
        return Kind.QUIC
    return Kind.UNKNOWN


KINDS = tuple(_kind_of(byte) for byte in range(256))
_NUMBERS = bytes(kind.value for kind in KINDS)


def split(data: bytes, segment_size: int) -> Iterator[tuple[Kind, bytes, int]]:
    """`data`, coalesced in `segment_size` steps (0: a single datagram), cut into runs of one kind.

    Yields kind, bytes, segment size. A buffer full of QUIC, the common case, comes back whole.
    """
    if not data:
        return
    if not segment_size or segment_size >= len(data):
        yield KINDS[data[0]], data, 0
        return
    kinds = data[::segment_size].translate(_NUMBERS)
    if kinds.count(kinds[0]) == len(kinds):
        yield KINDS[data[0]], data, segment_size
        return
    start = 0
    for index in range(1, len(kinds) + 1):
        if index == len(kinds) or kinds[index] != kinds[start]:
            yield Kind(kinds[start]), data[start * segment_size : index * segment_size], segment_size
            start = index


def coalesce(packets: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    """Packets joined into runs that look as if the kernel had coalesced them: bytes, segment size."""
    start = 0
    for index in range(1, len(packets) + 1):
        size = len(packets[start])
        if index < len(packets) and len(packets[index - 1]) == size and len(packets[index]) <= size:
            continue
        yield b"".join(packets[start:index]), size
        start = index


def connection_id_of(data: bytes) -> bytes:
    """The destination connection id of a QUIC packet; `WireError` when it is cut short."""
    if data[0] & _LONG_HEADER:
        size = data[5] if len(data) > 5 else 255
        connection_id = data[6 : 6 + size]
    else:
        size = CONNECTION_ID_SIZE
        connection_id = data[1 : 1 + size]
    if len(connection_id) < size:
        raise WireError("quic: cut short")
    return connection_id
