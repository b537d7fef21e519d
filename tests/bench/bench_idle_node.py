"""What a node pays for a thousand peers that it knows and that say nothing.

Packets are counted in the simulated internet, where nothing else sends any; processor and memory are
those of a real process, less what it uses when it knows nobody.
"""

import sys
import time

import pytest
from tests.bench import programs
from tests.bench.crowd import IDLE_AFTER_S
from tests.bench.figures import complete

from peerway.core.path import usage
from peerway.core.signal.door import Admission
from peerway.sim.network.host import Host
from peerway.sim.network.tree import Router
from peerway.sim.network.world import World
from peerway.sim.nodes import SimNode, run_server

PEERS = 1000
SIMULATED_PEERS = 250
SECRET = b"s" * 16
RELAY = "http://server.test:3340"
WATCHED_S = 15.0


def simulated_packets():
    """Packets a peer, both ways, in the minute after all have spoken, and in one when all are idle."""
    world = World(3)
    world.names["server.test"] = ("203.0.113.10",)
    core = Router(world, "core")
    server = Host(world, "server")
    server.attach(core, "203.0.113.10/24")
    run_server(world, server)
    hub_host = Host(world, "hub")
    hub_host.attach(core, "203.0.113.20/24")
    hub = SimNode(world, hub_host, (RELAY,), admission=Admission(secret=SECRET))
    world.run_for(2.0)
    for number in range(SIMULATED_PEERS):
        host = Host(world, f"peer{number}")
        host.attach(core, f"198.51.{number // 200}.{1 + number % 200}/24")
        peer = SimNode(world, host)
        link = peer.dial(hub.ticket(SECRET))
        world.run_for(0.05)
        peer.write(link, peer.open_stream(link), b"good day")
    world.run_for(3.0)
    seen = []
    world.end_taps.append(lambda sighting: seen.append(sighting) if sighting.node == "hub" else None)
    counts = []
    for pause in (0.0, 2 * usage.IDLE_AFTER_S):
        world.run_for(pause)
        seen.clear()
        world.run_for(60.0)
        counts.append(len(seen))
    assert len(hub.machine._links) == SIMULATED_PEERS
    first, idle = [count / SIMULATED_PEERS for count in counts]
    return {"packets_each_in_the_first_minute": first, "packets_each_a_minute_when_idle": idle}


def cpu_over(program, seconds):
    used = program.cpu_seconds()
    time.sleep(seconds)
    return 60 * (program.cpu_seconds() - used) / seconds


def real_process():
    command = (sys.executable, "-m", "tests.bench.crowd")
    with (
        programs.peerway_serve("--plain") as (_, url),
        programs.running(*command, "hub") as hub,
        programs.running(*command, "peers", cpu=programs.LOAD_CPU) as peers,
    ):
        hub.tell({"url": url})
        ticket = hub.hear()["ticket"]
        alone = cpu_over(hub, WATCHED_S)
        before = hub.resident_bytes()
        peers.tell({"ticket": ticket, "peers": PEERS})
        assert peers.hear() == {"connected": PEERS}
        time.sleep(2 * IDLE_AFTER_S)
        each = (hub.resident_bytes() - before) / PEERS
        return {"bytes_each": each, "cpu_s_a_minute": cpu_over(hub, WATCHED_S), "cpu_s_a_minute_alone": alone}


@pytest.mark.skipif(sys.platform != "linux", reason="measures by /proc")
def bench_a_node_with_a_thousand_silent_peers(results):
    figures = complete(simulated_packets() | real_process())
    cpu, alone = (1000 * figures[key] for key in ("cpu_s_a_minute", "cpu_s_a_minute_alone"))
    print(
        f"\n{PEERS} peers known and silent: {cpu:.0f} ms of processor a minute ({alone:.0f} with none), "
        f"{figures['bytes_each'] / 1000:.0f} kB each, "
        f"{figures['packets_each_a_minute_when_idle']:g} packets a minute each "
        f"({figures['packets_each_in_the_first_minute']:.1f} in the first)"
    )
    results.write("idle-node", {"bench": "idle-node", "peers": PEERS, "figures": figures})
