"""The sealed JSON by which a DERP client and its server introduce themselves.

Each side seals with NaCl's box between the client's key and the key the server made for this
connection: opening it proves who is at the other end, and nothing recorded can be played again.
"""

from __future__ import annotations

import msgspec
from nacl import bindings, exceptions

from peerway.core.machine import WireError
from peerway.core.relay.frames import KEY_SIZE, NONCE_SIZE, PROTOCOL_VERSION, FrameType, build_frame


class _Info(msgspec.Struct):
    """ClientInfo and ServerInfo; what else may be inside is of no concern to us."""

    version: int = 0


def public_key(private_key: bytes) -> bytes:
    """The X25519 public key of a 32-byte private key."""
    return bindings.crypto_scalarmult_base(private_key)


def build_client_info(private_key: bytes, server_key: bytes, nonce: bytes) -> bytes:
    """The ClientInfo frame. Raises `WireError` when no box can be made for that server key."""
    info = msgspec.json.encode({"version": PROTOCOL_VERSION, "CanAckPings": True})
    return build_frame(
        FrameType.CLIENT_INFO, public_key(private_key) + _seal(info, nonce, server_key, private_key)
    )


def open_client_info(payload: bytes, server_private_key: bytes) -> bytes:
    """The key of the client that sealed a ClientInfo payload. Raises `WireError`."""
    client_key = payload[:KEY_SIZE]
    _open(payload[KEY_SIZE:], client_key, server_private_key)
    return client_key


def build_server_info(server_private_key: bytes, client_key: bytes, nonce: bytes) -> bytes:
    """The ServerInfo frame."""
    info = msgspec.json.encode({"version": PROTOCOL_VERSION})
    return build_frame(FrameType.SERVER_INFO, _seal(info, nonce, client_key, server_private_key))


def open_server_info(payload: bytes, server_key: bytes, private_key: bytes) -> None:
    """Check that the server of this connection sealed a ServerInfo payload. Raises `WireError`."""
    _open(payload, server_key, private_key)


def _seal(message: bytes, nonce: bytes, receiver: bytes, private_key: bytes) -> bytes:
    try:
        return nonce + bindings.crypto_box(message, nonce, receiver, private_key)
    except exceptions.CryptoError:
        raise WireError("a key no box can be made for") from None


def _open(box: bytes, sender: bytes, private_key: bytes) -> None:
    try:
        text = bindings.crypto_box_open(box[NONCE_SIZE:], box[:NONCE_SIZE], sender, private_key)
    except exceptions.CryptoError:
        raise WireError("an info box that does not open") from None
    try:
        info = msgspec.json.decode(text, type=_Info)
    except (msgspec.MsgspecError, RecursionError):
        raise WireError("an info box without the JSON it should hold") from None
    if info.version < PROTOCOL_VERSION:
        raise WireError(f"DERP version {info.version}; {PROTOCOL_VERSION} is needed")
