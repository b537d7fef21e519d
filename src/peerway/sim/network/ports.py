"""Which outside address and port a NAT tries for a new mapping, one after the other.

What is tried and in which order is decided here; whether it is free, by the NAT's table.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from peerway.core.machine import UdpAddress
from peerway.core.nat import PortAllocation
from peerway.sim.network.behaviour import NatBehaviour, Pooling

ALL_PORTS = (1, 65536)
# Linux (nf_nat_core.c) looks for another port among the equals of the one it cannot keep.
PRIVILEGED_PORTS = ((1, 512), (600, 1024))
USER_PORTS = (1024, 65536)
SEQUENTIAL_PORTS = (30000, 34096)
TRIES = 4096
_NORMAL_FROM = 500.0  # where a Poisson distribution is a normal one for all purposes


class PortAllocator:
    """Proposes outside endpoints for a NAT that has the addresses `outside_ips`.

    Its `behaviour` may be changed at any time.
    """

    def __init__(self, behaviour: NatBehaviour, outside_ips: tuple[str, ...], rng: random.Random) -> None:
        self.behaviour = behaviour
        self._outside_ips = outside_ips
        self._rng = rng
        self._paired: dict[str, str] = {}
        self._blocks: dict[tuple[str, str], int] = {}
        self._blocks_given: dict[str, int] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._counted_at = 0.0

    def outside_ip(self, inside_ip: str) -> str:
        """The outside address for something new from `inside_ip`."""
        if self.behaviour.pooling is Pooling.ARBITRARY and len(self._outside_ips) > 1:
            return self._rng.choice(self._outside_ips)
        return self.paired_ip(inside_ip)

    def paired_ip(self, inside_ip: str) -> str:
        """The outside address that `inside_ip` has for good, however others are chosen."""
        if len(self._outside_ips) == 1:
            return self._outside_ips[0]
        if inside_ip not in self._paired:
            self._paired[inside_ip] = self._rng.choice(self._outside_ips)
        return self._paired[inside_ip]

    def preserves(self, inside: UdpAddress, outside: UdpAddress) -> bool:
        """Whether `outside` was proposed because it keeps the port of `inside`."""
        return self.behaviour.ports is PortAllocation.PRESERVING and inside.port == outside.port

    def proposals(self, inside: UdpAddress, now: float) -> Iterator[UdpAddress]:
        """What may become the outside endpoint of `inside`, best first; empty where its block is."""
        ip = self.outside_ip(inside.ip)
        if self.behaviour.ports is PortAllocation.SEQUENTIAL:
            ports = self._in_sequence(ip, self._range(ip, inside), now)
        else:
            ports = self._kept_or_random(inside.port, self._range(ip, inside))
        parity = inside.port % 2 if self.behaviour.keeps_parity else None
        for port in ports:
            if parity is None or port % 2 == parity:
                yield UdpAddress(ip, port)

    def _range(self, ip: str, inside: UdpAddress) -> tuple[int, int]:
        behaviour = self.behaviour
        if behaviour.block_ports:
            return self._block(ip, inside.ip)
        if behaviour.port_range is not None:
            return behaviour.port_range
        return SEQUENTIAL_PORTS if behaviour.ports is PortAllocation.SEQUENTIAL else ALL_PORTS

    def _block(self, ip: str, inside_ip: str) -> tuple[int, int]:
        """The ports of one inside host; none where all blocks are given."""
        size = self.behaviour.block_ports
        first, end = self.behaviour.port_range or USER_PORTS
        number = self._blocks.get((ip, inside_ip))
        if number is None:
            number = self._blocks_given.get(ip, 0)
            if first + (number + 1) * size > end:
                return (first, first)
            self._blocks_given[ip] = number + 1
            self._blocks[ip, inside_ip] = number
        return (first + number * size, first + (number + 1) * size)

    def _kept_or_random(self, port: int, among: tuple[int, int]) -> Iterator[int]:
        first, end = among
        if self.behaviour.ports is PortAllocation.PRESERVING and first <= port < end:
            yield port
        if among == ALL_PORTS:
            first, end = next((range_ for range_ in PRIVILEGED_PORTS if port < range_[1]), USER_PORTS)
        if first < end:
            start = self._rng.randrange(first, end)
            for offset in range(min(end - first, TRIES)):
                yield first + (start - first + offset) % (end - first)

    def _in_sequence(self, ip: str, among: tuple[int, int], now: float) -> Iterator[int]:
        first, end = among
        if first >= end:
            return
        step, counter = self.behaviour.port_step, (ip, first)
        start = self._next.get(counter, first) + step * self._taken_by_others(now)
        for offset in range(min(end - first, TRIES)):
            port = first + (start + offset - first) % (end - first)
            self._next[counter] = port + step
            yield port

    def _taken_by_others(self, now: float) -> int:
        """Ports that everybody else took since last time: a Poisson process."""
        mean = self.behaviour.other_ports_per_s * (now - self._counted_at)
        self._counted_at = now
        if mean > _NORMAL_FROM:
            return max(0, round(self._rng.gauss(mean, mean**0.5)))
        count, left = 0, mean
        while left > 0.0 and (left := left - self._rng.expovariate(1.0)) > 0.0:
            count += 1
        return count
