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


def shared_with(peer_key: bytes, private_key: bytes) -> bytes:
    """What the boxes between the two are sealed with. Raises `WireError` when it would be no secret."""
    try:
        return bindings.crypto_box_beforenm(peer_key, private_key)
    except (exceptions.CryptoError, RuntimeError):
        raise WireError("a key no box can be made for") from None


def build_client_info(client_key: bytes, shared: bytes, nonce: bytes) -> bytes:
    """The ClientInfo frame."""
    info = msgspec.json.encode({"version": PROTOCOL_VERSION, "CanAckPings": True})
    return build_frame(FrameType.CLIENT_INFO, client_key + _seal(info, nonce, shared))


def open_client_info(payload: bytes, server_private_key: bytes) -> tuple[bytes, bytes]:
    """Who sealed a ClientInfo payload: the client's key, and the shared one. Raises `WireError`."""
    client_key = payload[:KEY_SIZE]
    shared = shared_with(client_key, server_private_key)
    _open(payload[KEY_SIZE:], shared)
    return client_key, shared


def build_server_info(shared: bytes, nonce: bytes) -> bytes:
    """The ServerInfo frame."""
    return build_frame(
        FrameType.SERVER_INFO, _seal(msgspec.json.encode({"version": PROTOCOL_VERSION}), nonce, shared)
    )


def open_server_info(payload: bytes, shared: bytes) -> None:
    """Check that the server of this connection sealed a ServerInfo payload. Raises `WireError`."""
    _open(payload, shared)


def _seal(message: bytes, nonce: bytes, shared: bytes) -> bytes:
    return nonce + bindings.crypto_box_afternm(message, nonce, shared)


def _open(box: bytes, shared: bytes) -> None:
    try:
        text = bindings.crypto_box_open_afternm(box[NONCE_SIZE:], box[:NONCE_SIZE], shared)
    except exceptions.CryptoError:
        raise WireError("an info box that does not open") from None
    try:
        info = msgspec.json.decode(text, type=_Info)
    except (msgspec.MsgspecError, RecursionError):
        raise WireError("an info box without the JSON it should hold") from None
    if info.version < PROTOCOL_VERSION:
        raise WireError(f"DERP version {info.version}; {PROTOCOL_VERSION} is needed")
