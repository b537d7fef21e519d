"""How a client proves who it is, inside QUIC.

TLS authenticates the server only. The client signs a statement that names itself by its key, the
server, and this very connection (through a secret of its handshake), so that nobody can use the
signature anywhere else.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from peerway.core.identity import NodeId, SecretKey

LABEL = b"peerway client 1"
_BINDING_INFO = LABEL + b" binding"
_BINDING_SIZE = 32


def _statement(server: NodeId, binding_secret: bytes) -> bytes:
    binding = HKDF(SHA256(), _BINDING_SIZE, salt=None, info=_BINDING_INFO).derive(binding_secret)
    return LABEL + server.public + binding


def sign_client(key: SecretKey, server: NodeId, binding_secret: bytes) -> bytes:
    """The client's 64-byte signature for a connection to `server` with this secret."""
    return key.sign(_statement(server, binding_secret))


def is_client(client: NodeId, server: NodeId, binding_secret: bytes, signature: bytes) -> bool:
    """Whether `client` signed for this connection to `server`."""
    return bool(binding_secret) and client.verify(signature, _statement(server, binding_secret))
