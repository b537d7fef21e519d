"""How a STUN message is laid out: a 20-byte header, then attributes of type, length, value (RFC 8489 5, 14).

    0                   1                   2                   3
    |0 0|  message type (14 bits)   |  length of the attributes     |
    |  magic cookie 0x2112a442 (in RFC 3489: random, like the rest) |
    |  transaction id (12 bytes)                                    |

Which attributes count is written as a table: after MESSAGE-INTEGRITY only two may follow,
everything else there is not covered by the HMAC and is ignored; nothing follows FINGERPRINT.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from peerway.core.machine import WireError

HEADER_SIZE = 20
COOKIE = b"\x21\x12\xa4\x42"
TRANSACTION_ID_SIZE = 12
CLASSIC_TRANSACTION_ID_SIZE = 16  # RFC 3489 11.1: the place of the cookie belongs to it
MAX_ATTRIBUTES = 64  # far more than any real message has; a message with more is refused

MESSAGE_INTEGRITY = 0x0008
MESSAGE_INTEGRITY_SHA256 = 0x001C
FINGERPRINT = 0x8028

# RFC 8489 14.5, 14.6, 14.7: what still counts after one of these.
MAY_FOLLOW: dict[int, frozenset[int]] = {
    MESSAGE_INTEGRITY: frozenset({MESSAGE_INTEGRITY_SHA256, FINGERPRINT}),
    MESSAGE_INTEGRITY_SHA256: frozenset({FINGERPRINT}),
    FINGERPRINT: frozenset(),
}


def is_stun(data: bytes) -> bool:
    """Whether a datagram is for STUN at all: its first byte is 0-3 and the cookie is in place."""
    return len(data) >= HEADER_SIZE and data[0] < 4 and data[4:8] == COOKIE


def check_header(data: bytes) -> None:
    """`WireError` unless the header is there, its top bits are zero and its length is that of `data`."""
    if len(data) < HEADER_SIZE:
        raise WireError("shorter than a STUN header")
    if data[0] & 0xC0:
        raise WireError("the two top bits of a STUN message are zero")
    length = int.from_bytes(data[2:4], "big")
    if length % 4:
        raise WireError("the length of a STUN message is a multiple of 4")
    if length != len(data) - HEADER_SIZE:
        raise WireError(f"the header says {length} bytes of attributes, {len(data) - HEADER_SIZE} came")


def walk(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Every attribute of a message with a good header: its offset in `data`, type and value.

    Raises `WireError` at an attribute running past the end, and past `MAX_ATTRIBUTES`.
    """
    offset = HEADER_SIZE
    for _ in range(MAX_ATTRIBUTES):
        if offset == len(data):
            return
        kind, size = struct.unpack_from(">HH", data, offset)
        end = offset + 4 + size
        if end > len(data):
            raise WireError(f"attribute {kind:#06x} runs past the end of the message")
        yield offset, kind, data[offset + 4 : end]
        offset = end + -end % 4
    if offset != len(data):
        raise WireError(f"more than {MAX_ATTRIBUTES} attributes")


def walk_significant(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Like `walk`, without the attributes that RFC 8489 says to ignore after an integrity attribute.

    Raises `WireError` also at an attribute after FINGERPRINT, which is the last by definition.
    """
    last = None
    for offset, kind, value in walk(data):
        if last == FINGERPRINT:
            raise WireError(f"attribute {kind:#06x} after FINGERPRINT")
        if last is not None and kind not in MAY_FOLLOW[last]:
            continue
        if kind in MAY_FOLLOW:
            last = kind
        yield offset, kind, value


def frame_attribute(kind: int, value: bytes) -> bytes:
    """Type, length, value, and zeros up to a multiple of 4 bytes."""
    return struct.pack(">HH", kind, len(value)) + value + bytes(-len(value) % 4)
