"""Packets as they must not be: a bit flipped, cut short, too long, or noise."""

from __future__ import annotations

import random

NOISE_BYTES = 1400  # at most
EXCESS_BYTES = 64  # at most


def damaged(packet: bytes, rng: random.Random) -> bytes:
    """`packet` with one bit changed, its end missing, or something behind it."""
    return (flipped if rng.random() < 0.5 else resized)(packet, rng)


def resized(packet: bytes, rng: random.Random) -> bytes:
    """`packet` with its end missing, or something behind it."""
    if rng.random() < 0.5:
        return packet + rng.randbytes(rng.randrange(1, EXCESS_BYTES))
    return packet[: rng.randrange(len(packet))] if packet else b""


def flipped(packet: bytes, rng: random.Random) -> bytes:
    """`packet` with one bit changed."""
    if not packet:
        return packet
    changed = bytearray(packet)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def noise(first_byte: int, rng: random.Random) -> bytes:
    """Random bytes behind `first_byte`."""
    return bytes([first_byte]) + rng.randbytes(rng.randrange(NOISE_BYTES))
