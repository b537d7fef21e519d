"""The probe on the wire.

    0x05 | receiver's index 4 | counter 8 | ChaCha20-Poly1305(ping or pong)

    ping: 0x01 | flags 1 | token 8 | zeros up to the wanted size
    pong: 0x02 | token of the ping 8 | data datagrams that arrived on this path 8
          | family 1 (0 relay, 4, 6) | address 16 | port 2

The counter is the nonce and never repeats under a key; each direction has its own key,
made from both secrets that the two nodes exchanged in signals. The token is random, so that
only who received a ping can answer it: counters rise by one, and a peer that guessed them could
vouch for an address that is not its own. The smallest ping is as large as a pong, so that an
answer is never larger than what asked for it.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from peerway.core.identity import NodeId
from peerway.core.ip import parse_ip
from peerway.core.machine import Address, UdpAddress, WireError

FIRST_BYTE = 0x05
HEADER = struct.Struct("!BIQ")
TAG_SIZE = 16
OVERHEAD = HEADER.size + TAG_SIZE
TOKEN_SIZE = 8
REPLAY_WINDOW = 4096  # the relay and a direct path reorder by whole flights
LATE_S = 5.0  # more than a relay keeps a probe back
MARK_EVERY_S = 1.0
FULL_SIZE = 1200  # the size of the datagrams that carry data

_PING, _PONG = 1, 2
_FLAG_CARRIES_DATA = 1
_PING_HEAD = struct.Struct("!BB8s")
_PONG_BODY = struct.Struct("!B8sQB16sH")
PING_MIN_PLAINTEXT = _PONG_BODY.size


@dataclass(frozen=True, slots=True)
class Ping:
    """`token`: 8 random bytes. `carries_data`: its sender sends data on this path now. `size`: of the
    whole datagram.
    """

    token: bytes
    carries_data: bool = False
    size: int = OVERHEAD + PING_MIN_PLAINTEXT


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers the ping that had `token`; `observed` is where that ping came from, None over a relay."""

    token: bytes
    data_received: int
    observed: UdpAddress | None


class ProbeSealer:
    """Seals probes for one peer; counters rise from 1."""

    def __init__(self, key: bytes, receiver_index: int) -> None:
        self._aead = ChaCha20Poly1305(key)
        self._index = receiver_index
        self._counter = 0

    def seal(self, message: Ping | Pong) -> tuple[int, bytes]:
        """The counter it got, and the datagram."""
        self._counter += 1
        header = HEADER.pack(FIRST_BYTE, self._index, self._counter)
        return self._counter, header + self._aead.encrypt(_nonce(self._counter), _encode(message), header)


class ReplayWindow:
    """Which of the last `REPLAY_WINDOW` counters were seen; what is older counts as seen."""

    def __init__(self) -> None:
        self.highest = 0
        self._seen = 0

    def admit(self, counter: int) -> bool:
        """Note the counter as seen; False when it was already."""
        if counter > self.highest:
            shift = counter - self.highest
            self._seen = (
                ((self._seen << shift) | 1) & ((1 << REPLAY_WINDOW) - 1) if shift < REPLAY_WINDOW else 1
            )
            self.highest = counter
            return True
        age = self.highest - counter
        if age >= REPLAY_WINDOW or self._seen >> age & 1 or counter == 0:
            return False
        self._seen |= 1 << age
        return True


class Lateness:
    """Tells a probe that comes late, `LATE_S` after later ones, from one that is merely overtaken.

    Many probes never arrive, an opener by design. Who keeps one has a first copy in his hand: the
    window does not know it, so time has to.
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()  # when which counter had been reached

    def is_late(self, counter: int, now: float) -> bool:
        """Whether what was sent after this probe came long ago; notes that it has come."""
        marks = self._marks
        while len(marks) > 1 and marks[1][0] <= now - LATE_S:
            marks.popleft()
        is_late = bool(marks) and marks[0][0] <= now - LATE_S and counter <= marks[0][1]
        if not marks or (counter > marks[-1][1] and now - marks[-1][0] >= MARK_EVERY_S):
            marks.append((now, counter))
        return is_late


@dataclass(frozen=True, slots=True)
class OpenedProbe:
    """A probe of the peer. `is_first`: no copy of it came before; of what is old nobody can tell."""

    counter: int
    message: Ping | Pong
    is_first: bool


class ProbeOpener:
    """Opens the probes of one peer, and tells first ones from copies."""

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)
        self._window = ReplayWindow()

    @property
    def highest(self) -> int:
        """The counter of the newest probe that was opened, 0 before the first."""
        return self._window.highest

    def open(self, data: bytes) -> OpenedProbe:
        """What the probe says; `WireError` when forged, altered or malformed."""
        if len(data) < OVERHEAD + 1 or data[0] != FIRST_BYTE:
            raise WireError("probe: too short")
        header = data[: HEADER.size]
        _, _, counter = HEADER.unpack(header)
        try:
            plaintext = self._aead.decrypt(_nonce(counter), data[HEADER.size :], header)
        except InvalidTag:
            raise WireError("probe: does not open") from None
        # only here, after the tag was checked, may the window move
        is_first = self._window.admit(counter)
        return OpenedProbe(counter, _decode(plaintext, len(data)), is_first)


def index_of(data: bytes) -> int:
    """Which of the receiver's exchanges a probe is for; `WireError` when it is too short to say."""
    if len(data) < OVERHEAD + 1:
        raise WireError("probe: too short")
    return int.from_bytes(data[1:5], "big")


def derive_keys(own: NodeId, own_secret: bytes, peer: NodeId, peer_secret: bytes) -> tuple[bytes, bytes]:
    """The 32-byte keys for sealing and for opening, from both sides' signal secrets."""
    lower_first = own < peer
    secrets = own_secret + peer_secret if lower_first else peer_secret + own_secret
    ids = own.public + peer.public if lower_first else peer.public + own.public
    material = HKDF(SHA256(), 64, salt=None, info=b"peerway probe 1" + ids).derive(secrets)
    from_lower, from_higher = material[:32], material[32:]
    return (from_lower, from_higher) if lower_first else (from_higher, from_lower)


def observed_address(remote: Address) -> UdpAddress | None:
    """What a pong says of where its ping came from."""
    return remote if isinstance(remote, UdpAddress) else None


def _nonce(counter: int) -> bytes:
    return b"\0\0\0\0" + counter.to_bytes(8, "big")


def _encode(message: Ping | Pong) -> bytes:
    if isinstance(message, Ping):
        flags = _FLAG_CARRIES_DATA if message.carries_data else 0
        head = _PING_HEAD.pack(_PING, flags, message.token)
        return head.ljust(max(PING_MIN_PLAINTEXT, message.size - OVERHEAD), b"\0")
    if message.observed is None:
        return _PONG_BODY.pack(_PONG, message.token, message.data_received, 0, b"", 0)
    ip = parse_ip(message.observed.ip)
    return _PONG_BODY.pack(
        _PONG, message.token, message.data_received, ip.version, ip.packed, message.observed.port
    )


def _decode(plaintext: bytes, size: int) -> Ping | Pong:
    if plaintext[0] == _PING:
        if len(plaintext) < PING_MIN_PLAINTEXT:
            raise WireError("probe: a ping shorter than its pong")
        _, flags, token = _PING_HEAD.unpack_from(plaintext)
        return Ping(token, bool(flags & _FLAG_CARRIES_DATA), size)
    if plaintext[0] != _PONG or len(plaintext) != _PONG_BODY.size:
        raise WireError("probe: neither ping nor pong")
    _, token, received, family, packed, port = _PONG_BODY.unpack(plaintext)
    if family == 0:
        return Pong(token, received, None)
    if family not in (4, 6):
        raise WireError("probe: unknown address family", str(family))
    ip = parse_ip(packed[:4] if family == 4 else packed)
    return Pong(token, received, UdpAddress(str(ip), port))
