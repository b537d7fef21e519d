"""Whole nodes on hosts that have several ways out, roam, or sleep."""

from peerway.core.path.events import PathKind
from peerway.core.quic.events import StreamReadable
from peerway.core.signal.door import Admission
from peerway.sim.network.host import Host
from peerway.sim.network.link import LinkQuality
from peerway.sim.network.nat import NatBehaviour
from peerway.sim.network.tree import Router
from peerway.sim.network.world import World
from peerway.sim.nodes import SimNode, run_server
from peerway.sim.transport.stand_in import SimTransports

RELAY = "http://server.test:3340"
SECRET = b"s" * 16


class Internet:
    """A laptop on Ethernet and Wi-Fi, each behind a NAT of its own, and a desktop behind another."""

    def __init__(self):
        self.world = World(1)
        self.world.names["server.test"] = ("203.0.113.10",)
        self.core = Router(self.world, "core")
        self.server = Host(self.world, "server")
        self.server.attach(self.core, "203.0.113.10/24", "203.0.113.11/24")
        run_server(self.world, self.server)
        self.ethernet, self.wifi, self.cellular, home = (
            Router(self.world, name, self.core, NatBehaviour(), f"198.51.100.{number}")
            for number, name in enumerate(("ethernet", "wifi", "cellular", "home"), 1)
        )
        self.laptop, self.desktop = Host(self.world, "laptop"), Host(self.world, "desktop")
        self.laptop.attach(self.ethernet, "10.1.0.2/24", interface="eth0", metric=100)
        self.laptop.attach_unplugged("172.17.0.1/16", interface="docker0")
        self.desktop.attach(home, "10.9.0.2/24")

    def connect(self):
        transports = SimTransports(self.world.rng("transports"))
        options = {"transports": transports, "admission": Admission(secret=SECRET)}
        self.left = SimNode(self.world, self.laptop, (RELAY,), **options)
        self.right = SimNode(self.world, self.desktop, (RELAY,), **options)
        self.world.run_for(2.0)
        self.link = self.left.dial(self.right.ticket(SECRET))
        assert self.world.run_while(lambda: not self.right.established, 10.0)
        (self.right_link,) = self.right.established
        assert self.world.run_while(lambda: not self.is_direct(), 10.0)
        self.stream = self.left.open_stream(self.link)

    def is_direct(self):
        return self.left.is_direct(self.link) and self.right.is_direct(self.right_link)

    def seen_from(self):
        """The address that the desktop sends to."""
        selected = self.right.paths[self.right_link][-1]
        return selected.remote.ip if selected.kind is PathKind.DIRECT else selected.kind

    def talk(self, seconds):
        """Send a byte each 100 ms; how many arrived."""
        for _ in range(round(seconds * 10)):
            self.left.write(self.link, self.stream, b"x")
            self.world.run_for(0.1)
        return sum(
            len(self.right.read(self.right_link, event.stream))
            for _, link, event in self.right.events
            if link == self.right_link and isinstance(event, StreamReadable) and event.stream == self.stream
        )


def test_a_host_with_two_ways_out_uses_the_favourite_and_falls_back_to_the_other():
    internet = Internet()
    internet.laptop.attach(internet.wifi, "10.2.0.2/24", interface="wlan0", metric=600)
    internet.connect()
    assert internet.seen_from() == "198.51.100.1"
    assert internet.talk(3.0) == 30
    internet.ethernet.uplink.up = False
    assert internet.talk(10.0) == 100
    assert internet.seen_from() == "198.51.100.2"


def test_an_uplink_that_comes_later_is_used_when_the_first_is_gone():
    internet = Internet()
    internet.connect()
    assert internet.talk(1.0) == 10
    internet.laptop.attach(internet.cellular, "10.3.0.2/24", interface="wwan0", metric=700)
    assert internet.talk(5.0) == 50
    assert internet.seen_from() == "198.51.100.1"
    internet.laptop.detach("eth0")
    assert internet.talk(10.0) == 100
    assert internet.seen_from() == "198.51.100.3"


def test_a_host_that_roams_goes_on():
    internet = Internet()
    internet.connect()
    assert internet.talk(1.0) == 10
    internet.laptop.detach("eth0")
    internet.world.run_for(1.0)
    internet.laptop.attach(internet.wifi, "10.2.0.2/24", interface="wlan0")
    assert internet.talk(20.0) == 200
    assert internet.seen_from() == "198.51.100.2"


def test_a_host_that_napped_goes_on():
    internet = Internet()
    internet.connect()
    assert internet.talk(1.0) == 10
    internet.laptop.sleep()
    internet.world.run_for(20.0)
    internet.laptop.wake()
    assert internet.talk(20.0) == 200
    assert internet.is_direct()


def test_a_host_that_slept_for_hours_learns_that_its_peer_has_given_up_and_dials_anew():
    internet = Internet()
    internet.connect()
    internet.laptop.sleep()
    internet.world.run_for(10_000.0)
    assert "on no path" in internet.right.closed[internet.right_link].reason
    internet.laptop.wake()
    internet.left.write(internet.link, internet.stream, b"still there?")
    assert internet.world.run_while(lambda: internet.link not in internet.left.closed, 60.0)
    dialled = internet.left.dial(internet.right.ticket(SECRET))
    assert internet.world.run_while(lambda: not internet.left.is_direct(dialled), 20.0)


def test_a_line_that_is_deaf_one_way_is_left_for_the_other():
    internet = Internet()
    internet.laptop.attach(internet.wifi, "10.2.0.2/24", interface="wlan0", metric=600)
    internet.connect()
    internet.ethernet.uplink.set_quality(LinkQuality(), downward=LinkQuality(loss=1.0))
    assert internet.talk(10.0) == 100
    assert internet.seen_from() == "198.51.100.2"
