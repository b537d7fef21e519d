"""The frames of DERP version 2, as Tailscale's derper and its clients speak them.

A frame is a type (1 byte), the length of the payload (4 bytes, big-endian) and the payload. Keys
are X25519 public keys of 32 bytes. `FrameDecoder` turns a byte stream into frames; it holds every
payload to the least and the greatest size its type can have, so the functions that take a payload
apart never meet a short one. Frames of unknown types come through: whoever reads skips them.

Packets come in runs: frames back to back with one key and one size, which is what bulk traffic is. A
run is unpacked as a table, header and packet a row, which costs a fraction of taking each frame apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from peerway.core.machine import WireError

PROTOCOL_VERSION = 2
KEY_SIZE = 32
NONCE_SIZE = 24
MAX_PACKET = 64 << 10  # bytes of one packet, without its key
MAX_INFO = 1 << 20  # bytes of the JSON in ClientInfo and ServerInfo
MAX_SMALL = 1 << 10  # bytes of frames that carry next to nothing
KEEP_ALIVE_S = 60.0  # between two KeepAlive frames of a server, give or take its jitter
MAGIC = "DERP🔑".encode()

_HEADER = Struct(">BI")
_RESTARTING = Struct(">II")
_BOX_OVERHEAD = 16
PING_SIZE = 8

_PACKET_HEADER = _HEADER.size + KEY_SIZE

Frame = tuple[int, bytes]


class FrameType(IntEnum):
    """What a frame is: the first byte of it."""

    SERVER_KEY = 0x01  # magic, server key
    CLIENT_INFO = 0x02  # client key, nonce, box of JSON
    SERVER_INFO = 0x03  # nonce, box of JSON
    SEND_PACKET = 0x04  # destination key, packet
    RECV_PACKET = 0x05  # source key, packet
    KEEP_ALIVE = 0x06
    NOTE_PREFERRED = 0x07  # 0 or 1
    PEER_GONE = 0x08  # key, reason
    PEER_PRESENT = 0x09  # key, and in newer servers an address
    FORWARD_PACKET = 0x0A  # source key, destination key, packet
    WATCH_CONNS = 0x10
    CLOSE_PEER = 0x11  # key
    PING = 0x12  # 8 bytes to be sent back
    PONG = 0x13
    HEALTH = 0x14  # text; empty: all is well again
    RESTARTING = 0x15  # milliseconds until to reconnect, milliseconds to go on trying


class PeerGoneReason(IntEnum):
    """Why a relay says that a peer is gone."""

    DISCONNECTED = 0x00
    NOT_HERE = 0x01
    MESH_BROKE = 0xF0


_PACKETS = (int(FrameType.SEND_PACKET), int(FrameType.RECV_PACKET))
_SIZES: dict[int, tuple[int, int]] = {
    FrameType.SERVER_KEY: (len(MAGIC) + KEY_SIZE, MAX_SMALL),
    FrameType.SEND_PACKET: (KEY_SIZE, KEY_SIZE + MAX_PACKET),
    FrameType.RECV_PACKET: (KEY_SIZE, KEY_SIZE + MAX_PACKET),
    FrameType.FORWARD_PACKET: (2 * KEY_SIZE, 2 * KEY_SIZE + MAX_PACKET),
    FrameType.KEEP_ALIVE: (0, MAX_SMALL),
    FrameType.NOTE_PREFERRED: (1, MAX_SMALL),
    FrameType.PEER_GONE: (KEY_SIZE, MAX_SMALL),
    FrameType.PEER_PRESENT: (KEY_SIZE, MAX_SMALL),
    FrameType.CLOSE_PEER: (KEY_SIZE, MAX_SMALL),
    FrameType.PING: (PING_SIZE, MAX_SMALL),
    FrameType.PONG: (PING_SIZE, MAX_SMALL),
    FrameType.RESTARTING: (_RESTARTING.size, MAX_SMALL),
}


class PacketRun(NamedTuple):
    """SendPacket or RecvPacket frames that lie back to back: packets of one size, with one key."""

    kind: int
    key: bytes
    packets: list[bytes]

    def forwarded(self, source: bytes) -> bytes:
        """The RecvPacket frames that carry these packets on, as coming from `source`."""
        header = _HEADER.pack(FrameType.RECV_PACKET, KEY_SIZE + len(self.packets[0])) + source
        return header.join([b"", *self.packets])


@lru_cache
def _size_limits(info_limit: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How many bytes a frame of each of the 256 types has at least, and at most."""
    sizes = dict(_SIZES)
    box = NONCE_SIZE + _BOX_OVERHEAD
    sizes[FrameType.CLIENT_INFO] = (KEY_SIZE + box, KEY_SIZE + box + info_limit)
    sizes[FrameType.SERVER_INFO] = (box, box + info_limit)
    limits = [sizes.get(kind, (0, MAX_PACKET)) for kind in range(256)]
    return tuple(least for least, _ in limits), tuple(most for _, most in limits)


class FrameDecoder:
    """Cuts a byte stream into frames, in whatever pieces it comes.

    `info_limit` bounds the JSON in ClientInfo and ServerInfo, in bytes. After `WireError` the
    stream makes no sense any more and the decoder is of no further use.
    """

    __slots__ = ("_largest", "_partial", "_smallest", "_wanted")

    def __init__(self, info_limit: int = MAX_INFO) -> None:
        self._smallest, self._largest = _size_limits(info_limit)
        self._partial = bytearray()
        self._wanted = 0

    def feed(self, data: bytes | memoryview) -> list[Frame | PacketRun]:
        """Take the next bytes of the stream; returns what they complete: packets in runs, others as
        (type, payload). Nothing of it refers to `data`.

        Raises `WireError` for a frame larger or smaller than its type can be.
        """
        frames: list[Frame | PacketRun] = []
        view = memoryview(data)
        if self._partial:
            view = self._complete(view, frames)
        if not self._partial:
            self._partial += self._cut(view, frames)
        return frames

    def _complete(self, view: memoryview, frames: list[Frame | PacketRun]) -> memoryview:
        """Add to the frame that has begun what is missing of it; returns what is left."""
        partial = self._partial
        while True:
            missing = self._wanted - len(partial)
            partial += view[:missing]
            view = view[missing:]
            if len(partial) < self._wanted:
                return view
            if not self._cut(memoryview(bytes(partial)), frames):
                self._partial = bytearray()
                return view

    def _cut(self, view: memoryview, frames: list[Frame | PacketRun]) -> memoryview:
        """Cut whole frames off; returns what is left, and knows how much of it a frame needs (`_wanted`)."""
        unpack, smallest, largest = _HEADER.unpack_from, self._smallest, self._largest
        offset, end = 0, len(view)
        self._wanted = _HEADER.size
        while end - offset >= _HEADER.size:
            kind, length = unpack(view, offset)
            if not smallest[kind] <= length <= largest[kind]:
                raise WireError(f"a frame of type {kind:#04x} with {length} bytes")
            stride = _HEADER.size + length
            if offset + stride > end:
                self._wanted = stride
                break
            if kind in _PACKETS:
                whole = view[offset : end - (end - offset) % stride]
                offset += stride * _take_run(whole, kind, length - KEY_SIZE, frames)
            else:
                frames.append((kind, bytes(view[offset + _HEADER.size : offset + stride])))
                offset += stride
        return view[offset:]


def _take_run(view: memoryview, kind: int, size: int, frames: list[Frame | PacketRun]) -> int:
    """Add to `frames` the packets of `size` bytes in frames with the same header; returns how many."""
    header = bytes(view[:_PACKET_HEADER])
    key = header[_HEADER.size :]
    last = frames[-1] if frames else None
    if isinstance(last, PacketRun) and last[:2] == (kind, key) and len(last.packets[0]) == size:
        packets = last.packets
    else:
        packets = []
        frames.append(PacketRun(kind, key, packets))
    before = len(packets)
    for each_header, packet in _layout(size).iter_unpack(view):
        if each_header != header:
            break
        packets.append(packet)
    return len(packets) - before


@lru_cache(maxsize=256)
def _layout(size: int) -> Struct:
    """A frame whose packet has `size` bytes."""
    return Struct(f"{_PACKET_HEADER}s{size}s")


def split_frames(wire: bytes) -> list[bytes]:
    """The single frames of whole frames back to back."""
    frames = []
    offset = 0
    while offset < len(wire):
        start = offset
        offset += _HEADER.size + int(_HEADER.unpack_from(wire, start)[1])
        frames.append(wire[start:offset])
    return frames


def build_frame(kind: FrameType, payload: bytes = b"") -> bytes:
    """One frame."""
    return _HEADER.pack(kind, len(payload)) + payload


def build_packets(kind: FrameType, key: bytes, packets: Iterable[bytes]) -> bytes:
    """A SendPacket (`key`: to whom) or RecvPacket (from whom) frame for each packet, back to back.

    Raises ValueError for a key that is not 32 bytes or a packet larger than 64 KiB.
    """
    if len(key) != KEY_SIZE:
        raise ValueError(f"a relay key has {KEY_SIZE} bytes, not {len(key)}")
    parts: list[bytes] = []
    size, prefix = -1, b""
    for packet in packets:
        if len(packet) != size:
            size = len(packet)
            if size > MAX_PACKET:
                raise ValueError(f"a packet of {size} bytes; a relay takes {MAX_PACKET}")
            prefix = _HEADER.pack(kind, KEY_SIZE + size) + key
        parts += (prefix, packet)
    return b"".join(parts)


def build_server_key(key: bytes) -> bytes:
    """The ServerKey frame: a server's first, with the key of this connection."""
    return build_frame(FrameType.SERVER_KEY, MAGIC + key)


def parse_server_key(payload: bytes) -> bytes:
    """The key in a ServerKey payload. Raises `WireError` when the magic is wrong."""
    if not payload.startswith(MAGIC):
        raise WireError("a ServerKey frame without DERP's magic")
    return payload[len(MAGIC) : len(MAGIC) + KEY_SIZE]


def build_peer_gone(key: bytes, reason: PeerGoneReason) -> bytes:
    """The PeerGone frame: the client `key` is not, or no longer, to be reached here."""
    return build_frame(FrameType.PEER_GONE, key + bytes([reason]))


def parse_peer_gone(payload: bytes) -> tuple[bytes, PeerGoneReason]:
    """Key and reason of a PeerGone payload; no reason, or one unknown, reads as DISCONNECTED."""
    reason = payload[KEY_SIZE] if len(payload) > KEY_SIZE else 0
    known = reason in (PeerGoneReason.NOT_HERE, PeerGoneReason.MESH_BROKE)
    return payload[:KEY_SIZE], PeerGoneReason(reason) if known else PeerGoneReason.DISCONNECTED


def build_ping(payload: bytes) -> bytes:
    """A Ping with 8 bytes to be sent back."""
    return build_frame(FrameType.PING, payload)


def build_pong(ping_payload: bytes) -> bytes:
    """The Pong frame that answers a Ping."""
    return build_frame(FrameType.PONG, ping_payload[:PING_SIZE])


def build_restarting(reconnect_in: float, try_for: float) -> bytes:
    """The Restarting frame: come back in `reconnect_in` seconds, go on trying for `try_for` seconds."""
    return build_frame(
        FrameType.RESTARTING, _RESTARTING.pack(round(reconnect_in * 1000), round(try_for * 1000))
    )


def parse_restarting(payload: bytes) -> tuple[float, float]:
    """Seconds until to reconnect, and seconds to go on trying."""
    reconnect_in, try_for = _RESTARTING.unpack_from(payload)
    return reconnect_in / 1000, try_for / 1000


def build_health(problem: str) -> bytes:
    """The Health frame: what is wrong with this connection, empty when all is well again."""
    return build_frame(FrameType.HEALTH, problem.encode())


def readable(text: bytes) -> str:
    """What a stranger says (a Health payload, say), fit to show: one line, at most 256 characters."""
    decoded = text[:1024].decode("utf-8", "replace")
    return "".join(character if character.isprintable() else " " for character in decoded)[:256].strip()
