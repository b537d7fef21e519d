"""Packet protection as in QUIC: AES-GCM over the packet, with its header as associated data.

Only the keys are a simulation's: they come from a secret that both ends are given, not from an
exchange.
"""

from __future__ import annotations

from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
TAG_BYTES = 16
NUMBER_BYTES = 4
_NONCE_BYTES = 12


def derive(secret: bytes, label: bytes) -> bytes:
    """A key of 32 bytes, which tells nothing of `secret`, also 32 bytes."""
    return blake2b(label, key=secret, digest_size=KEY_BYTES).digest()


class Keys:
    """Those of one connection, as one of its ends uses them: a key for each direction."""

    def __init__(self, secret: bytes, *, is_client: bool) -> None:
        client, server = AESGCM(derive(secret, b"client")), AESGCM(derive(secret, b"server"))
        self._own, self._peer = (client, server) if is_client else (server, client)

    def seal(self, header: bytes, body: bytes) -> bytes:
        """A datagram. `header` ends in the packet's number: no two may have the same."""
        return header + self._own.encrypt(_nonce(header), body, header)

    def open(self, datagram: bytes, header_size: int) -> bytes | None:
        """The body; None when it was not the peer that made this datagram."""
        header = datagram[:header_size]
        try:
            return self._peer.decrypt(_nonce(header), datagram[header_size:], header)
        except InvalidTag:
            return None


def _nonce(header: bytes) -> bytes:
    return header[-NUMBER_BYTES:].rjust(_NONCE_BYTES, b"\0")
