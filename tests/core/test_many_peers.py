"""One node with a hundred peers: each is heard once, the dead are noticed, nothing is left behind."""

from peerway.core.quic.events import StreamOpened
from peerway.core.signal.door import Admission
from peerway.sim.network.host import Host
from peerway.sim.network.tree import Router
from peerway.sim.network.world import World
from peerway.sim.nodes import SimNode, run_server

SECRET = b"s" * 16
RELAY = "http://server.test:3340"
PEERS = 100


class Crowd:
    def __init__(self):
        self.world = World(3)
        self.world.names["server.test"] = ("203.0.113.10",)
        core = Router(self.world, "core")
        server = Host(self.world, "server")
        server.attach(core, "203.0.113.10/24")
        run_server(self.world, server)
        hub_host = Host(self.world, "hub")
        hub_host.attach(core, "203.0.113.20/24")
        self.hub = SimNode(self.world, hub_host, (RELAY,), admission=Admission(secret=SECRET))
        self.hosts, self.peers = [], []
        for number in range(PEERS):
            host = Host(self.world, f"peer{number}")
            host.attach(core, f"198.51.{100 + number // 200}.{1 + number % 200}/24")
            self.hosts.append(host)
            self.peers.append(SimNode(self.world, host))
        self.world.run_for(2.0)
        for number, peer in enumerate(self.peers):
            link = peer.dial(self.hub.ticket(SECRET))
            self.world.run_for(0.05)
            stream = peer.open_stream(link)
            peer.write(link, stream, f"I am {number}".encode())
        self.world.run_for(3.0)

    def heard(self):
        out = {}
        for _, link, event in self.hub.events:
            if isinstance(event, StreamOpened):
                out.setdefault(link, []).append(self.hub.read(link, event.stream))
        return out


def test_each_peer_is_heard_once_and_directly():
    crowd = Crowd()
    heard = crowd.heard()
    assert sorted(text for texts in heard.values() for text in texts) == sorted(
        f"I am {number}".encode() for number in range(PEERS)
    )
    assert len(heard) == PEERS
    assert all(crowd.hub.is_direct(link) for link in heard)


def test_the_dead_are_noticed_and_the_living_are_kept():
    crowd = Crowd()
    crowd.world.run_for(100.0)
    for host in crowd.hosts[: PEERS // 2]:
        host.detach("eth0")
    crowd.world.run_for(200.0)
    dead = len(crowd.hub.closed)
    for link in crowd.heard():
        if link not in crowd.hub.closed:
            crowd.hub.write(link, crowd.hub.open_stream(link), b"still there?")
    crowd.world.run_for(60.0)
    assert len(crowd.hub.closed) == PEERS // 2 >= dead
    assert len(crowd.hub.machine._links) == PEERS // 2
    assert {closed.reason for closed in crowd.hub.closed.values()} == {
        "the peer answered on no path for 30 s"
    }


def test_when_all_hang_up_nothing_is_left():
    crowd = Crowd()
    for peer in crowd.peers:
        peer.close(1)
    crowd.world.run_for(10.0)
    machine = crowd.hub.machine
    for link in list(crowd.hub.closed):
        machine.release(link)
    assert len(machine._links) == 0
    assert machine._links._table._by_connection_id == {}
    assert machine._links._table._by_index == {}
    assert machine._links._table._pending == {}
    assert machine._links._unread == {}
    assert len(machine._children) == 4
    assert machine._links._children == {}
    for peer in crowd.peers:
        assert len(peer.machine._links) == 0
        assert not peer.machine._relays._keepers
