"""What those who never spoke to a node receive from it: what an attacker could turn it into.

A peer names addresses, and whoever forges a source makes its victim the one who is answered. So
whatever a node is told, somebody whom it never heard of may get little: what `HarmLimits` say,
and beyond it no more than what came in the victim's name, since to send that the attacker could
have done himself.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from peerway.core.machine import UdpAddress

WINDOW_S = 1.0


@dataclass(frozen=True, slots=True)
class HarmLimits:
    """What one node may send to one IP address in any second, and to one port of it in all.

    The latter grows by `lasting_per_s` packets and as many times `packet_bytes` for each second
    since the first. `bytes` are of UDP payload. `reflected`: how many bytes may be sent for each
    that came in the victim's name (RFC 9000 section 8.1: 3), and how many packets for each packet.
    """

    packets_in_a_second: int = 90
    bytes_in_a_second: int = 8_000
    packets: int = 100
    bytes: int = 10_000
    lasting_per_s: float = 2.5
    packet_bytes: int = 100
    reflected: int = 3


@dataclass(slots=True)
class _Account:
    """`recent` are times and sizes within the window; `named` is what came in the victim's name."""

    began: float
    recent: deque[tuple[float, int]] = field(default_factory=deque)
    recent_bytes: int = 0
    packets: int = 0
    bytes: int = 0
    named_packets: int = 0
    named_bytes: int = 0
    is_reported: bool = False

    def add(self, size: int, now: float) -> None:
        self.packets += 1
        self.bytes += size
        self.recent.append((now, size))
        self.recent_bytes += size
        while self.recent[0][0] <= now - WINDOW_S:
            self.recent_bytes -= self.recent.popleft()[1]


_Victim = str | UdpAddress


class Harm:
    """The accounts of one node's packets, by IP address and by address and port."""

    def __init__(self, limits: HarmLimits) -> None:
        self._limits = limits
        self._accounts: dict[_Victim, _Account] = {}
        self._spoke: dict[_Victim, None] = {}

    def heard(self, source: UdpAddress, size: int, now: float, *, forged: bool) -> None:
        """The node received something from `source`, or in its name."""
        for victim in (source.ip, source):
            if not forged:
                self._spoke[victim] = None
            elif victim not in self._spoke:
                account = self._account(victim, now)
                account.named_packets += 1
                account.named_bytes += size

    def sent(self, destination: UdpAddress, size: int, now: float) -> list[str]:
        """The node sent something there; what is too much about it, once for each victim."""
        excesses = []
        for victim in (destination.ip, destination):
            if victim in self._spoke:
                continue
            account = self._account(victim, now)
            account.add(size, now)
            excess = self._in_a_second(account) if victim is destination.ip else self._in_all(account, now)
            if excess and not account.is_reported:
                account.is_reported = True
                excesses.append(f"{victim} never spoke and got {excess}")
        return excesses

    def worst(self) -> tuple[int, int]:
        """Packets and bytes of those that got most, of the IP addresses that never spoke."""
        silent = [
            account
            for victim, account in self._accounts.items()
            if isinstance(victim, str) and victim not in self._spoke
        ]
        return max((a.packets for a in silent), default=0), max((a.bytes for a in silent), default=0)

    def _account(self, victim: _Victim, now: float) -> _Account:
        return self._accounts.setdefault(victim, _Account(now))

    def _in_a_second(self, account: _Account) -> str:
        limits = self._limits
        most = limits.packets_in_a_second + limits.reflected * account.named_packets
        most_bytes = limits.bytes_in_a_second + limits.reflected * account.named_bytes
        if len(account.recent) > most:
            return f"{len(account.recent)} packets within a second, the limit is {most}"
        if account.recent_bytes > most_bytes:
            return f"{account.recent_bytes} bytes within a second, the limit is {most_bytes}"
        return ""

    def _in_all(self, account: _Account, now: float) -> str:
        limits = self._limits
        lasting = limits.lasting_per_s * (now - account.began)
        most = limits.packets + int(lasting) + limits.reflected * account.named_packets
        most_bytes = (
            limits.bytes + int(lasting * limits.packet_bytes) + limits.reflected * account.named_bytes
        )
        if account.packets > most:
            return f"{account.packets} packets, the limit is {most}"
        if account.bytes > most_bytes:
            return f"{account.bytes} bytes, the limit is {most_bytes}"
        return ""
