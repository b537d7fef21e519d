"""A check in the simulated internet: a host behind whatever there is, a server, and what came of it."""

import random

from peerway.core.machine import UdpAddress
from peerway.core.netcheck.knowledge import Question
from peerway.core.netcheck.machine import CheckDone, Netcheck
from peerway.core.relay.url import RelayUrl
from peerway.sim.network.host import Host
from peerway.sim.network.tree import LinkQuality, Router
from peerway.sim.network.world import World
from peerway.sim.nodes import run_server

RELAY = RelayUrl.parse("http://relay.test:3340")
SERVER_IPS = ("203.0.113.10", "203.0.113.11")
SERVER_IPS_V6 = ("2001:db8:1::10", "2001:db8:2::10")
PUBLIC_IP = "198.51.100.1"
ACCESS = LinkQuality(delay_s=0.02)


class Checked:
    """A host with `nat` (and `nat6`) before it, the server, and checks that run there."""

    def __init__(self, nat=None, nat6=None, *, seed=1, access=ACCESS, v4=True, v6=False, server_v6=False):
        self.world = World(seed)
        self.core = Router(self.world, "core")
        self.server = Host(self.world, "server")
        server_ips = SERVER_IPS + (SERVER_IPS_V6 if server_v6 else ())
        self.server.attach(self.core, *(f"{ip}/{64 if ':' in ip else 24}" for ip in server_ips))
        self.world.names["relay.test"] = SERVER_IPS[:1] + (SERVER_IPS_V6[:1] if server_v6 else ())
        self.home = Router(self.world, "home", self.core, nat, PUBLIC_IP, nat6, quality=access)
        self.host = Host(self.world, "host")
        translates = nat is not None and nat.translates
        self.own_ip = "10.0.0.2" if translates else PUBLIC_IP
        addresses = [f"{self.own_ip}/24"] * v4 + ["2001:db8:9::2/64"] * v6
        self.host.attach(self.home, *addresses)

    def serve(self, world_of=run_server):
        world_of(self.world, self.server)
        return self

    def check(self, *, relays=(RELAY,), stun=(), limit_s=20.0, gateways=tuple, **wishes):
        """Run a check to its end; the report, the seconds it took, and the driver."""
        machine = Netcheck(Question(relays, stun, **wishes), random.Random(1), gateways)
        driver = self.host.run(machine, ())
        began = self.world.now
        driver.call(lambda now: machine.start(self.host.addresses, now))
        assert self.world.run_while(lambda: not done(driver), limit_s), "the check did not end"
        at, report = done(driver)[0]
        return report, at - began, driver

    def sent_from_the_host(self):
        """For each port of the host: the places that it has sent to."""
        found = {}
        for line in self.world.trace.lines:
            words = line.split()
            if words[1] == "host" and words[2] == "send":
                source, target = address(words[3]), address(words[5])
                found.setdefault(source.port, []).append(target)
        return found


def done(driver):
    return [(at, event.report) for at, event in driver.events if isinstance(event, CheckDone)]


def address(text):
    ip, _, port = text.rpartition(":")
    return UdpAddress(ip.strip("[]"), int(port))
