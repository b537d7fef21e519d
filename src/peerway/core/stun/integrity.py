"""Proofs at the end of a STUN message: two HMACs and a CRC (RFC 8489 14.5-14.7).

Each covers the message up to itself, with the header's length rewritten to end after it: so a
proof can be added to, and checked in, a message that others follow. A `key` is the password
of a short-term credential, or what RFC 8489 9.2.2 derives for a long-term one.
"""

from __future__ import annotations

import hmac
import zlib

from peerway.core.stun.framing import (
    FINGERPRINT,
    HEADER_SIZE,
    MAX_ATTRIBUTES,
    MAY_FOLLOW,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    check_header,
    frame_attribute,
    walk,
    walk_significant,
)

SHA1_SIZE = 20
SHA256_SIZE = 32
FINGERPRINT_XOR = 0x5354554E  # "STUN": RFC 8489 14.7
_FINGERPRINT_SIZE = 4


def add_integrity(data: bytes, key: bytes) -> bytes:
    """The message `data` with MESSAGE-INTEGRITY (HMAC-SHA1) added.

    `ValueError` when it has an attribute that nothing of the kind may follow.
    """
    digest = hmac.digest(key, _covered(data, len(data), SHA1_SIZE), "sha1")
    return _append(data, MESSAGE_INTEGRITY, digest)


def add_integrity_sha256(data: bytes, key: bytes, size: int = SHA256_SIZE) -> bytes:
    """The message with MESSAGE-INTEGRITY-SHA256 added, truncated to `size` bytes (16 to 32, of 4)."""
    if not 16 <= size <= SHA256_SIZE or size % 4:
        raise ValueError("MESSAGE-INTEGRITY-SHA256 has 16 to 32 bytes, a multiple of 4")
    digest = hmac.digest(key, _covered(data, len(data), size), "sha256")
    return _append(data, MESSAGE_INTEGRITY_SHA256, digest[:size])


def add_fingerprint(data: bytes) -> bytes:
    """The message with FINGERPRINT added."""
    return _append(data, FINGERPRINT, _fingerprint(data, len(data)))


def integrity_is_right(data: bytes, key: bytes) -> bool:
    """Whether the message has a MESSAGE-INTEGRITY made with `key`. `WireError` when it is no message."""
    found = _find(data, MESSAGE_INTEGRITY)
    if found is None:
        return False
    offset, digest = found
    expected = hmac.digest(key, _covered(data, offset, SHA1_SIZE), "sha1")
    return hmac.compare_digest(digest, expected)


def integrity_sha256_is_right(data: bytes, key: bytes, minimum: int = SHA256_SIZE) -> bool:
    """Whether the message has a MESSAGE-INTEGRITY-SHA256 made with `key`, of `minimum` bytes at least.

    Truncated ones count only where a usage of STUN says so (RFC 8489 14.6): hence the default.
    """
    found = _find(data, MESSAGE_INTEGRITY_SHA256)
    if found is None:
        return False
    offset, digest = found
    expected = hmac.digest(key, _covered(data, offset, len(digest)), "sha256")
    return minimum <= len(digest) and hmac.compare_digest(digest, expected[: len(digest)])


def fingerprint_is_right(data: bytes) -> bool:
    """Whether the message ends with the FINGERPRINT of its bytes."""
    found = _find(data, FINGERPRINT)
    return found is not None and found[1] == _fingerprint(data, found[0])


def _find(data: bytes, kind: int) -> tuple[int, bytes] | None:
    check_header(data)
    for offset, found, value in walk_significant(data):
        if found == kind:
            return offset, value
    return None


def _covered(data: bytes, end: int, size: int) -> bytes:
    """The bytes before `end` as if the message ended with an attribute of `size` bytes there."""
    length = end + 4 + size - HEADER_SIZE
    return data[:2] + length.to_bytes(2, "big") + data[4:end]


def _fingerprint(data: bytes, end: int) -> bytes:
    crc = zlib.crc32(_covered(data, end, _FINGERPRINT_SIZE)) ^ FINGERPRINT_XOR
    return crc.to_bytes(_FINGERPRINT_SIZE, "big")


def _append(data: bytes, kind: int, value: bytes) -> bytes:
    check_header(data)
    if sum(1 for _ in walk(data)) >= MAX_ATTRIBUTES:
        raise ValueError(f"a message with {MAX_ATTRIBUTES} attributes takes no further one")
    for _, earlier, _ in walk_significant(data):
        if kind not in MAY_FOLLOW.get(earlier, (kind,)):
            raise ValueError(f"attribute {kind:#06x} cannot follow {earlier:#06x}")
    return _covered(data, len(data), len(value)) + frame_attribute(kind, value)
