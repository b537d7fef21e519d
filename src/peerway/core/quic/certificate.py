"""The certificate a node shows as a QUIC server: its Ed25519 key in a fixed frame (RFC 5280, RFC 8410).

Serial number, names and dates are the same for every node, so a certificate says nothing but the
key, and is the same every time. It is recognised by its bytes, never parsed: no two parsers can
disagree about which key is in it.
"""

from __future__ import annotations

import base64

from peerway.core.identity import KEY_SIZE, SIGNATURE_SIZE, SecretKey

_SEQUENCE, _SET, _INTEGER, _BIT_STRING, _OCTET_STRING, _OID = 0x30, 0x31, 0x02, 0x03, 0x04, 0x06
_UTF8, _UTC_TIME, _GENERALIZED_TIME, _EXPLICIT_0 = 0x0C, 0x17, 0x18, 0xA0
_NO_UNUSED_BITS = b"\0"


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    return bytes([tag, size] if size < 0x80 else [tag, 0x81, size]) + content


_ED25519 = _der(_SEQUENCE, _der(_OID, bytes.fromhex("2b6570")))  # 1.3.101.112, RFC 8410 3
_COMMON_NAME = _der(_OID, bytes.fromhex("550403"))
_NAME = _der(_SEQUENCE, _der(_SET, _der(_SEQUENCE, _COMMON_NAME, _der(_UTF8, b"peerway"))))
_VALIDITY = _der(
    _SEQUENCE,
    _der(_UTC_TIME, b"200101000000Z"),
    _der(_GENERALIZED_TIME, b"99991231235959Z"),  # RFC 5280 4.1.2.5: no well-defined end
)
_VERSION_3 = _der(_EXPLICIT_0, _der(_INTEGER, b"\x02"))
_SERIAL = _der(_INTEGER, b"\x01")


def _to_be_signed(public: bytes) -> bytes:
    key = _der(_SEQUENCE, _ED25519, _der(_BIT_STRING, _NO_UNUSED_BITS, public))
    return _der(_SEQUENCE, _VERSION_3, _SERIAL, _ED25519, _NAME, _VALIDITY, _NAME, key)


def _signed(to_be_signed: bytes, signature: bytes) -> bytes:
    return _der(_SEQUENCE, to_be_signed, _ED25519, _der(_BIT_STRING, _NO_UNUSED_BITS, signature))


_BLANK = _signed(_to_be_signed(bytes(KEY_SIZE)), bytes(SIGNATURE_SIZE))
_KEY_END = len(_BLANK) - len(_ED25519) - len(_der(_BIT_STRING, _NO_UNUSED_BITS, bytes(SIGNATURE_SIZE)))
_KEY_START = _KEY_END - KEY_SIZE


def build_certificate(key: SecretKey) -> bytes:
    """The node's self-signed certificate, DER."""
    to_be_signed = _to_be_signed(key.node_id.public)
    return _signed(to_be_signed, key.sign(to_be_signed))


def certified_key(certificate: bytes) -> bytes | None:
    """The 32-byte key in a certificate made by `build_certificate`; None for any other certificate.

    The signature is not looked at: TLS proves that the server holds the key.
    """
    blank = certificate[:_KEY_START] + bytes(KEY_SIZE) + certificate[_KEY_END:-SIGNATURE_SIZE]
    if len(certificate) != len(_BLANK) or blank != _BLANK[:-SIGNATURE_SIZE]:
        return None
    return certificate[_KEY_START:_KEY_END]


def build_private_key(key: SecretKey) -> bytes:
    """The node's secret key as PKCS #8, DER (RFC 8410 7)."""
    version = _der(_INTEGER, b"\0")
    return _der(_SEQUENCE, version, _ED25519, _der(_OCTET_STRING, _der(_OCTET_STRING, key.seed)))


def pem(label: str, der: bytes) -> bytes:
    """DER as PEM text (RFC 7468)."""
    text = base64.b64encode(der)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    frame = f"-----BEGIN {label}-----\n".encode(), f"\n-----END {label}-----\n".encode()
    return frame[0] + b"\n".join(lines) + frame[1]
