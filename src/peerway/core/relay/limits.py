"""What one relay takes on: its limits, all in one place, and what a client may send by them.

What is beyond a limit is refused, dropped or made to wait, and counted in the relay's `drops`.
docs/reference/limits.md lists each with its counter.
"""

from __future__ import annotations

from dataclasses import dataclass

from peerway.core.machine import Event


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """What one relay takes on. Whoever is inside is thrown out for one thing only: not reading.

    `per_ip` counts streams, `handshakes_per_ip` those of them that are no clients yet, for each IPv4
    address or IPv6 /64. Loopback is not counted: there a TLS proxy speaks for everybody. `handshake_s`
    runs from the accepted connection (TLS included) to the identified client. A client that takes no
    bytes for `unread_s` is closed; until then `queue_packets` and `queue_bytes` wait for it, the newest.
    When more than `unread_clients` take nothing, the one of longest standing has `unread_crowded_s`.
    What a client sends beyond `packets_per_s` or `bytes_per_s` is read later.
    """

    clients: int = 10_000
    handshakes: int = 1_000
    handshakes_per_ip: int = 128
    per_ip: int = 256
    handshake_s: float = 10.0
    unread_s: float = 30.0
    unread_clients: int = 256
    unread_crowded_s: float = 1.0
    queue_packets: int = 512
    queue_bytes: int = 1 << 20
    packets_per_s: float = 200_000.0
    packets_burst: float = 20_000.0
    bytes_per_s: float = 125e6  # a gigabit per second
    bytes_burst: float = 16e6


@dataclass(frozen=True, slots=True)
class HoldStream(Event):
    """Read nothing from the stream until `ReleaseStream`: its client has sent more than it may."""

    stream: str


@dataclass(frozen=True, slots=True)
class ReleaseStream(Event):
    """Read from the stream again."""

    stream: str


class Allowance:
    """What one client may send: a bucket of bytes and one of packets.

    What was read is read, so either may be overdrawn, and the client waits until that is made good. Of
    a bucket only the moment is kept at which nothing is owed: it lies at most the burst's worth back.
    """

    __slots__ = ("_byte_s", "_bytes_at", "_bytes_burst_s", "_packet_s", "_packets_at", "_packets_burst_s")

    def __init__(self, limits: RelayLimits, now: float) -> None:
        self._byte_s, self._packet_s = 1 / limits.bytes_per_s, 1 / limits.packets_per_s
        self._bytes_burst_s = limits.bytes_burst / limits.bytes_per_s
        self._packets_burst_s = limits.packets_burst / limits.packets_per_s
        self._bytes_at = self._packets_at = now - max(self._bytes_burst_s, self._packets_burst_s)

    def spend(self, size: int, packets: int, now: float) -> float:
        """So much was read; the moment from which more may be, which is past unless it is overdrawn."""
        self._bytes_at = max(self._bytes_at, now - self._bytes_burst_s) + size * self._byte_s
        self._packets_at = max(self._packets_at, now - self._packets_burst_s) + packets * self._packet_s
        return max(self._bytes_at, self._packets_at)
