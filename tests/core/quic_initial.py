"""Opens QUIC Initial packets (RFC 9001 5.2), which anyone on the path can, to see the TLS hellos."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
SERVER_NAME, ALPN, KEY_SHARE = 0, 16, 51  # TLS extensions
X25519MLKEM768 = 0x11EC


def expand(secret: bytes, label: bytes, size: int) -> bytes:
    full = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes([len(full)]) + full + b"\0"
    return HKDFExpand(SHA256(), size, info).derive(secret)


def varint(data: bytes, at: int) -> tuple[int, int]:
    size = 1 << (data[at] >> 6)
    return int.from_bytes(data[at : at + size], "big") & ((1 << (8 * size - 2)) - 1), at + size


def crypto_bytes(datagrams: list[bytes], destination: bytes, side: bytes) -> bytes:
    """The CRYPTO stream in the first Initial of each datagram; `side` is b"client in" or b"server in"."""
    extract = HMAC(SALT, SHA256())
    extract.update(destination)
    secret = expand(extract.finalize(), side, 32)
    pieces: dict[int, bytes] = {}
    for datagram in datagrams:
        if datagram[0] & 0xF0 == 0xC0:
            pieces.update(crypto_frames(open_initial(datagram, secret)))
    return b"".join(pieces[offset] for offset in sorted(pieces))


def open_initial(datagram: bytes, secret: bytes) -> bytes:
    key, iv, hp = (
        expand(secret, b"quic key", 16),
        expand(secret, b"quic iv", 12),
        expand(secret, b"quic hp", 16),
    )
    at = 6 + datagram[5]
    at += 1 + datagram[at]
    token, at = varint(datagram, at)
    length, at = varint(datagram, at + token)
    mask = Cipher(algorithms.AES(hp), modes.ECB()).encryptor().update(datagram[at + 4 : at + 20])
    header = bytearray(datagram[:at])
    header[0] ^= mask[0] & 0x0F
    size = (header[0] & 3) + 1
    number = bytes(a ^ b for a, b in zip(datagram[at : at + size], mask[1 : 1 + size], strict=True))
    nonce = (int.from_bytes(iv, "big") ^ int.from_bytes(number, "big")).to_bytes(12, "big")
    return AESGCM(key).decrypt(nonce, datagram[at + size : at + length], bytes(header) + number)


def crypto_frames(payload: bytes) -> dict[int, bytes]:
    frames: dict[int, bytes] = {}
    at = 0
    while at < len(payload):
        kind = payload[at]
        at += 1
        if kind == 2:  # ACK without further ranges
            for _ in range(4):
                _, at = varint(payload, at)
        elif kind == 6:
            offset, at = varint(payload, at)
            size, at = varint(payload, at)
            frames[offset] = payload[at : at + size]
            at += size
        else:
            assert kind in (0, 1), f"frame {kind}"
    return frames


def extensions(hello: bytes) -> dict[int, bytes]:
    """The TLS extensions of a ClientHello or ServerHello."""
    is_client = hello[0] == 1
    at = 4 + 2 + 32
    at += 1 + hello[at]
    if is_client:
        at += 2 + int.from_bytes(hello[at : at + 2], "big")
        at += 1 + hello[at]
    else:
        at += 3
    end = at + 2 + int.from_bytes(hello[at : at + 2], "big")
    at += 2
    found = {}
    while at < end:
        kind, size = int.from_bytes(hello[at : at + 2], "big"), int.from_bytes(hello[at + 2 : at + 4], "big")
        found[kind] = hello[at + 4 : at + 4 + size]
        at += 4 + size
    return found
