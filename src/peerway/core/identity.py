"""Who a node is: an Ed25519 key pair, and the X25519 keys and boxes derived from it.

A node is its public key; nothing else identifies it. Signatures prove it inside QUIC, and
the X25519 form of the same key (libsodium's conversion) seals signals and names the node
to its home relay.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from functools import lru_cache

from nacl import bindings
from nacl.exceptions import CryptoError

from peerway.core.machine import PeerwayError, WireError

KEY_SIZE = 32
NONCE_SIZE = bindings.crypto_box_NONCEBYTES
BOX_OVERHEAD = bindings.crypto_box_ZEROBYTES - bindings.crypto_box_BOXZEROBYTES
SIGNATURE_SIZE = bindings.crypto_sign_BYTES
DERIVED_KEPT = 4096  # forms of public keys that are asked for again and again


class KeyTextError(PeerwayError, ValueError):
    """A text that was meant to be a node id or a key and is not."""


def encode_text(raw: bytes) -> str:
    """Base32, lower case, without padding: how keys and tickets are written."""
    return base64.b32encode(raw).decode("ascii").lower().rstrip("=")


def decode_text(text: str) -> bytes:
    """The bytes of `encode_text`; `binascii.Error` when the text is not base32."""
    if not text.isascii():
        raise binascii.Error("not ASCII")
    return base64.b32decode(text.upper() + "=" * (-len(text) % 8))


@lru_cache(maxsize=DERIVED_KEPT)
def _text_of(public: bytes) -> str:
    return encode_text(public)


@lru_cache(maxsize=DERIVED_KEPT)
def _box_public_of(public: bytes) -> bytes:
    try:
        return bindings.crypto_sign_ed25519_pk_to_curve25519(public)
    except (CryptoError, RuntimeError):
        raise WireError("the node id is not a valid Ed25519 public key") from None


@dataclass(frozen=True, slots=True, order=True)
class NodeId:
    """A node's Ed25519 public key, 32 bytes. `str()` gives 52 characters of base32."""

    public: bytes

    def __post_init__(self) -> None:
        if len(self.public) != KEY_SIZE:
            raise ValueError(f"a node id is {KEY_SIZE} bytes, not {len(self.public)}")

    def __str__(self) -> str:
        return _text_of(self.public)

    def __repr__(self) -> str:
        return f"NodeId({self.short})"

    @property
    def short(self) -> str:
        """The first ten characters, enough to tell nodes apart in a log."""
        return str(self)[:10]

    @classmethod
    def parse(cls, text: str) -> NodeId:
        """The node id written as `text`; `KeyTextError` when it is not one."""
        try:
            raw = decode_text(text.strip())
        except binascii.Error:
            raise KeyTextError(f"{text!r} is not a node id: it has characters outside base32") from None
        if len(raw) != KEY_SIZE:
            raise KeyTextError(f"{text!r} is not a node id: it has {len(raw)} bytes instead of {KEY_SIZE}")
        return cls(raw)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` (64 bytes) over `message` was made by this node."""
        if len(signature) != SIGNATURE_SIZE:
            return False
        try:
            bindings.crypto_sign_open(signature + message, self.public)
        except CryptoError:
            return False
        return True

    def box_public(self) -> bytes:
        """The X25519 form of the key, 32 bytes; `WireError` when the key is no point of the curve."""
        return _box_public_of(self.public)


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A node's secret: the 32-byte Ed25519 seed. Never printed."""

    seed: bytes = field(repr=False)
    node_id: NodeId = field(init=False)
    _signing: bytes = field(init=False, repr=False, compare=False)
    box_secret: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.seed) != KEY_SIZE:
            raise ValueError(f"a secret key is {KEY_SIZE} bytes, not {len(self.seed)}")
        public, signing = bindings.crypto_sign_seed_keypair(self.seed)
        object.__setattr__(self, "node_id", NodeId(public))
        object.__setattr__(self, "_signing", signing)
        object.__setattr__(self, "box_secret", bindings.crypto_sign_ed25519_sk_to_curve25519(signing))

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature over `message`."""
        return bindings.crypto_sign(message, self._signing)[:SIGNATURE_SIZE]

    def shared_with(self, box_public: bytes) -> bytes:
        """The 32-byte key that boxes between us and `box_public` are sealed with.

        `WireError` when `box_public` is a point that would give a key anyone knows.
        """
        try:
            return bindings.crypto_box_beforenm(box_public, self.box_secret)
        except (CryptoError, RuntimeError):
            raise WireError("the peer's key is of small order") from None


def seal(plaintext: bytes, nonce: bytes, shared: bytes) -> bytes:
    """`plaintext` as a NaCl box under `shared`, 16 bytes longer."""
    return bindings.crypto_box_afternm(plaintext, nonce, shared)


def unseal(box: bytes, nonce: bytes, shared: bytes) -> bytes:
    """What `seal` was given; `WireError` when the box was made with another key or altered."""
    try:
        return bindings.crypto_box_open_afternm(box, nonce, shared)
    except (CryptoError, ValueError):
        raise WireError("the box does not open") from None
