"""The bench of a simulated NAT."""

from __future__ import annotations

from dataclasses import replace

from tests.lab.ground_truth import Endpoint
from tests.sim.toy_machines import Scribe

from peerway.core.machine import UdpAddress
from peerway.sim.network.behaviour import NatBehaviour
from peerway.sim.network.driver import Driver
from peerway.sim.network.host import Host
from peerway.sim.network.tree import LinkQuality, Router
from peerway.sim.network.world import World

SETTLE_S = 0.1
LINE = LinkQuality(delay_s=0.001)


class SimBench:
    """Two inside hosts behind a router of that behaviour, and one outside, as in `tests.lab.ground_truth`."""

    def __init__(self, behaviour: NatBehaviour | None, seed: int) -> None:
        self.A, self.B = "203.0.113.10", "203.0.113.11"
        self._world = World(seed)
        core = Router(self._world, "core")
        middle = Router(self._world, "middle", core, quality=LINE)
        translates = behaviour is not None and behaviour.translates
        self.outside = "198.51.100.1" if translates else ""
        self._router = Router(self._world, "router", middle, behaviour, self.outside or (), quality=LINE)
        self.one, self.two = ("10.1.0.2", "10.1.0.3") if translates else ("198.51.100.2", "198.51.100.3")
        self._hosts: dict[str, Host] = {}
        for name, ips, router in (
            ("one", (self.one,), self._router),
            ("two", (self.two,), self._router),
            ("server", (self.A, self.B), core),
        ):
            host = Host(self._world, name)
            host.attach(router, *(f"{ip}/24" for ip in ips))
            self._hosts |= dict.fromkeys(ips, host)
        self._sockets: dict[Endpoint, tuple[Scribe, Driver]] = {}

    async def open(self, *endpoints: Endpoint) -> None:
        for ip, port in endpoints:
            host = self._hosts[ip]
            scribe = Scribe()
            self._sockets[ip, port] = scribe, host.run(scribe, [host.open_udp(port, ip)])

    async def send(self, source: Endpoint, to: Endpoint, ttl: int = 0) -> None:
        scribe, driver = self._sockets[source]
        driver.call(lambda now: scribe.send(UdpAddress(*to), ttl=ttl or None))

    async def settle(self) -> None:
        self._world.run_for(SETTLE_S)

    async def heard(self, at: Endpoint) -> tuple[Endpoint, ...]:
        datagrams = self._sockets[at][0].datagrams
        remotes = [datagram.remote for datagram in datagrams]
        datagrams.clear()
        return tuple(dict.fromkeys((to.ip, to.port) for to in remotes if isinstance(to, UdpAddress)))

    async def limit_times(self, idle_s: int, stream_s: int) -> None:
        nat = self._router.nat4
        if nat is not None:
            memory = None if nat.behaviour.memory_s is None else float(stream_s)
            nat.behaviour = replace(
                nat.behaviour, idle_s=float(idle_s), stream_idle_s=float(stream_s), memory_s=memory
            )

    def start_clock(self) -> None:
        self._begun = self._world.now

    async def until(self, seconds: float) -> None:
        self._world.run_until(self._begun + seconds)
