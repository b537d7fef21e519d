"""The bench of a kernel's NAT in the lab."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address

from tests.lab.ground_truth import Endpoint, TooLate

from peerway.lab.faults import Faults
from peerway.lab.laboratory import Laboratory
from peerway.lab.messages import Done
from peerway.lab.sockets import Count, Counted, OpenSocket, Shoot
from peerway.lab.topology import SERVER, SERVER_IPS

SETTLE_S = 0.12
LATE_S = 0.3
PORTS_EACH = 1000  # of the server, for each bench


class KernelBench:
    """The home called `name` of a laboratory, one of several that share its server; see `open_bench`."""

    def __init__(self, lab: Laboratory, number: int, name: str, one: str, two: str, outside: str) -> None:
        self.A, self.B = SERVER_IPS
        self.one, self.two, self.outside = one, two, outside
        self._lab = lab
        self._host, self._router = name, f"{name}-router"
        self._first_port = 10_000 + number * PORTS_EACH

    async def open(self, *endpoints: Endpoint) -> None:
        await asyncio.gather(*(self._open(endpoint) for endpoint in endpoints))

    async def _open(self, endpoint: Endpoint) -> None:
        ip, port = self._real(endpoint)
        await self._lab.order(self._machine(endpoint), OpenSocket(f"{ip} {port}", port, ip), Done)

    async def send(self, source: Endpoint, to: Endpoint, ttl: int = 0) -> None:
        ip, port = self._real(source)
        order = Shoot(f"{ip} {port}", self._real(to), ttl=ttl)
        await self._lab.order(self._machine(source), order, Done)

    async def settle(self) -> None:
        await asyncio.sleep(SETTLE_S)

    async def heard(self, at: Endpoint) -> tuple[Endpoint, ...]:
        ip, port = self._real(at)
        counted = await self._lab.order(self._machine(at), Count(f"{ip} {port}"), Counted)
        return tuple(self._as_asked(*source) for source in counted.sources)

    async def limit_times(self, idle_s: int, stream_s: int) -> None:
        await Faults(self._lab).set_udp_timeout(self._router, idle_s, stream_s)

    def start_clock(self) -> None:
        self._begun = asyncio.get_running_loop().time()

    async def until(self, seconds: float) -> None:
        left = self._begun + seconds - asyncio.get_running_loop().time()
        if left < -LATE_S:
            raise TooLate(f"{-left:.2f} s late at {seconds} s")
        await asyncio.sleep(max(left, 0))

    def _machine(self, endpoint: Endpoint) -> str:
        return SERVER if endpoint[0] in SERVER_IPS else self._host

    def _real(self, endpoint: Endpoint) -> Endpoint:
        ip, port = endpoint
        return (ip, self._first_port + port) if ip in SERVER_IPS else endpoint

    def _as_asked(self, ip: str, port: int) -> Endpoint:
        return (ip, port - self._first_port) if ip in SERVER_IPS else (ip, port)


async def open_bench(lab: Laboratory, number: int, name: str) -> KernelBench:
    """The bench of the home `name`, whose host gets a second address to be the second host."""
    device = lab.topology.machines[name].devices[0]
    one, two = device.ips[0], str(IPv4Address(device.ips[0]) + 1)
    await lab.run(name, "sh", input=_SECOND_HOST.format(address=f"{two}/24", device=device.name))
    public = lab.topology.public_ip(name)
    return KernelBench(lab, number, name, one, two, "" if public == one else public)


# What one host sends to the other may come back to where it left, with a source that is its own.
_SECOND_HOST = """
ip address add {address} dev {device}
sysctl -qw net.ipv4.conf.all.accept_local=1
"""
