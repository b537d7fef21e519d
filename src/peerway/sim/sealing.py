"""What stands in for packet protection: a keystream hides a packet, a tag shows who made it.

Enough for a simulation, where nobody breaks BLAKE2 or SHAKE: who has not got the keys reads
nothing, and can neither make nor alter a packet unnoticed. Not for anything else.
"""

from __future__ import annotations

from hashlib import blake2b, shake_128
from hmac import compare_digest

KEY_BYTES = 32
TAG_BYTES = 16


def derive(secret: bytes, label: bytes) -> bytes:
    """A key of 32 bytes, which tells nothing of `secret`, also 32 bytes."""
    return blake2b(label, key=secret, digest_size=KEY_BYTES).digest()


class Keys:
    """Those of one connection, as one of its ends uses them: a key for each direction."""

    def __init__(self, secret: bytes, *, is_client: bool) -> None:
        client, server = derive(secret, b"client"), derive(secret, b"server")
        self._own, self._peer = (client, server) if is_client else (server, client)

    def seal(self, header: bytes, body: bytes) -> bytes:
        """A datagram. `header` holds the packet's number: no two may have the same."""
        hidden = header + _hide(self._own, header, body)
        return hidden + _tag(self._own, hidden)

    def open(self, datagram: bytes, header_size: int) -> bytes | None:
        """The body; None when it was not the peer that made this datagram."""
        hidden, tag = datagram[:-TAG_BYTES], datagram[-TAG_BYTES:]
        if len(hidden) <= header_size or not compare_digest(_tag(self._peer, hidden), tag):
            return None
        return _hide(self._peer, hidden[:header_size], hidden[header_size:])


def _tag(key: bytes, data: bytes) -> bytes:
    return blake2b(data, key=key, digest_size=TAG_BYTES).digest()


def _hide(key: bytes, header: bytes, body: bytes) -> bytes:
    """`body` with the keystream over it, or without it again."""
    stream = shake_128(key + header).digest(len(body))
    return (int.from_bytes(body, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(body), "big")
