"""The seam: what the session stands on. QUIC in production, something deterministic in a simulator.

A transport is a secure, reliable pipe: an ordered stream of bytes each way, carried by datagrams.
The session lays its streams in that one pipe. After every input the owner takes `transmits(now)`
and `next_event()` until there is nothing more, and looks at `deadline()`.

Nothing a peer sends raises here: it is counted in `drops`, or the transport ends with
`TransportClosed`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from peerway.core.identity import SecretKey
from peerway.core.machine import Event

MAX_GROUP_SEGMENTS = 64  # Linux UDP_MAX_SEGMENTS of old; newer kernels take 128
MAX_GROUP_BYTES = 65_000  # what one UDP_SEGMENT send may hold, less room for headers


@dataclass(frozen=True, slots=True)
class HandshakeCompleted(Event):
    """Keys are agreed; `peer_certificate_key` and `take_binding_secret` have their answers."""


@dataclass(frozen=True, slots=True)
class PipeReceived(Event):
    """The next bytes of the pipe, in order."""

    data: bytes


@dataclass(frozen=True, slots=True)
class TransportClosed(Event):
    """The connection is over. `is_application`: `code` is what one side's `close` was given."""

    code: int
    reason: str
    by_peer: bool
    is_application: bool


@dataclass(frozen=True, slots=True)
class TransportEnded(Event):
    """Nothing is left to be sent or waited for after the close."""


class StreamTransport(Protocol):
    """A secure, reliable pipe over datagrams."""

    drops: Counter[str]

    @property
    def original_destination_connection_id(self) -> bytes:
        """What the client's first datagram is addressed to, by which a server tells a new dial."""

    @property
    def connection_ids(self) -> tuple[bytes, ...]:
        """Those we answer to from the start; others come and go by events."""

    def receive(self, data: bytes, segment_size: int, now: float) -> None:
        """A datagram, or several of `segment_size` bytes each (0: one) and a last shorter one."""

    def handle_timeout(self, now: float) -> None:
        """The deadline passed. Early, late and spurious calls are harmless."""

    def transmits(self, now: float) -> list[tuple[bytes, ...]]:
        """Datagrams to send now, grouped: equal sizes, only the last of a group shorter."""

    def deadline(self) -> float | None:
        """When to call `handle_timeout`; may lie in the past."""

    def next_event(self) -> Event | None:
        """The next of this module's events, or `ConnectionIdIssued` or `ConnectionIdRetired`."""

    def send(self, data: bytes | memoryview) -> None:
        """Append to the pipe; the bytes are copied. The client speaks first."""

    def backlog(self) -> int:
        """Bytes given to `send` and never yet put in a datagram."""

    def ping(self) -> None:
        """Send something that must be acknowledged, at once, whatever back-off is in force."""

    def close(self, code: int, reason: str) -> None:
        """End the connection; what was not sent yet is lost. `TransportEnded` follows in time."""

    def peer_certificate_key(self) -> bytes | None:
        """The 32-byte Ed25519 key the server proved to hold; None when it showed no such key."""

    def take_binding_secret(self) -> bytes:
        """A secret only the two ends of this connection know; it is forgotten here. Empty if unknown."""


class TransportFactory(Protocol):
    """Makes transports. `key` is the server's own: it proves to hold it."""

    def dial(self, now: float) -> StreamTransport:
        """The client's end of a new connection."""

    def accept(
        self, key: SecretKey, original_destination_connection_id: bytes, now: float
    ) -> StreamTransport:
        """The server's end of the connection whose first datagram is addressed to that id."""


def group_segments(datagrams: list[bytes]) -> list[tuple[bytes, ...]]:
    """`datagrams` in order, in groups for one system call each: equal sizes, the last perhaps shorter."""
    groups: list[tuple[bytes, ...]] = []
    sizes = list(map(len, datagrams))
    start = 0
    while start < len(sizes):
        size = sizes[start]
        most = max(min(MAX_GROUP_SEGMENTS, MAX_GROUP_BYTES // max(size, 1)), 1)
        run = sizes[start : start + most]
        count = len(run)
        if run.count(size) != count:
            count = next(index for index, other in enumerate(run) if other != size)
            count += run[count] < size
        groups.append(tuple(datagrams[start : start + count]))
        start += count
    return groups
