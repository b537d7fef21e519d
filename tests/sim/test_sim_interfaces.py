"""Which interface a packet leaves by, and with what source."""

from tests.sim.toy_machines import Scribe

from peerway.core.machine import InterfaceAddress, OpenSocket, UdpAddress
from peerway.sim.network.host import Host
from peerway.sim.network.nat import NatBehaviour
from peerway.sim.network.tree import LinkQuality, Router
from peerway.sim.network.world import World

SERVER = UdpAddress("203.0.113.10", 7)
SERVER_6 = UdpAddress("2001:db8:ffff::1", 7)


class TwoUplinks:
    """A host with Wi-Fi (attached first, metric 600) and Ethernet (metric 100), a server that sees it."""

    def __init__(self, wifi=600, ethernet=100):
        self.world = World(1)
        self.core = Router(self.world, "core")
        self.server = Host(self.world, "server")
        self.server.attach(self.core, "203.0.113.10/24", "2001:db8:ffff::1/64")
        self.server.open_udp(7)
        self.server.open_udp(7, "::")
        self.seen = self.server.run(Scribe()).machine
        homes = [
            Router(self.world, f"home{number}", self.core, NatBehaviour(), f"198.51.100.{number}")
            for number in (1, 2)
        ]
        self.host = Host(self.world, "host")
        self.host.attach(homes[0], "10.1.0.2/24", "2001:db8:1::2/64", interface="wlan0", metric=wifi)
        self.host.attach(homes[1], "10.2.0.2/24", "2001:db8:2::2/64", interface="eth0", metric=ethernet)
        self.homes = homes

    def run(self, *sockets):
        for bound in sockets:
            self.host.open_udp(bound.port, bound.ip)
        self.driver = self.host.run(Scribe())
        return self.driver

    def send(self, to=SERVER, local=None, data=b"hello"):
        self.seen.datagrams.clear()
        self.driver.call(lambda now: self.driver.machine.send(to, data, local=local))
        self.world.run_for(1.0)
        return [str(datagram.remote) for datagram in self.seen.datagrams]


ANY = UdpAddress("0.0.0.0", 5000)
ANY_6 = UdpAddress("::", 5000)


def test_machine_is_told_of_metrics():
    network = TwoUplinks()
    assert network.host.addresses[0] == InterfaceAddress("wlan0", "10.1.0.2", 24)
    assert [address.metric for address in network.host.addresses] == [600, 600, 100, 100]


def test_the_least_metric_wins_in_either_family():
    network = TwoUplinks()
    network.run(ANY, ANY_6)
    assert network.send() == ["198.51.100.2:5000"]
    assert network.send(SERVER_6) == ["[2001:db8:2::2]:5000"]


def test_equal_metrics_go_by_the_name_of_the_interface():
    network = TwoUplinks(wifi=0, ethernet=0)
    network.run(ANY)
    assert network.send() == ["198.51.100.2:5000"]


def test_without_a_default_route_only_neighbours_are_reached():
    network = TwoUplinks(wifi=None, ethernet=None)
    driver = network.run(ANY)
    neighbour = Host(network.world, "neighbour")
    neighbour.attach(network.homes[0], "10.1.0.3/24")
    neighbour.open_udp(7)
    machine = neighbour.run(Scribe()).machine
    assert network.send() == []
    assert driver.machine.inputs[-1] == ("failed", str(SERVER), "network is unreachable")
    network.send(UdpAddress("10.1.0.3", 7))
    assert [str(datagram.remote) for datagram in machine.datagrams] == ["10.1.0.2:5000"]


def test_a_socket_bound_to_an_address_still_goes_where_the_routes_say():
    network = TwoUplinks()
    local = UdpAddress("10.1.0.2", 5000)
    network.run(local)
    assert network.send(local=local) == ["198.51.100.2:5000"]


def test_a_socket_tied_to_an_interface_leaves_there_alone():
    network = TwoUplinks()
    driver = network.run(ANY)
    driver.call(lambda now: driver.machine.ask(OpenSocket("wlan0", "10.1.0.2")))
    local = driver.machine.inputs[-1][2]
    assert network.send(local=local) == ["198.51.100.1:49152"]
    assert network.send() == ["198.51.100.2:5000"]


def test_when_the_favourite_is_gone_the_other_serves():
    network = TwoUplinks()
    network.run(ANY)
    network.host.detach("eth0")
    assert network.send() == ["198.51.100.1:5000"]


def test_there_is_no_socket_on_an_interface_that_is_not_there():
    network = TwoUplinks()
    driver = network.run(ANY)
    driver.call(lambda now: driver.machine.ask(OpenSocket("wwan0", "10.1.0.2")))
    assert driver.machine.inputs[-1] == ("failed", "wwan0", "10.1.0.2", "host has no interface wwan0")


def test_what_is_for_an_unplugged_interface_is_lost_without_a_word():
    network = TwoUplinks()
    driver = network.run(ANY)
    network.host.attach_unplugged("172.17.0.1/16", interface="docker0")
    assert network.send(UdpAddress("172.17.0.5", 7)) == []
    assert "drop nobody there" in network.world.trace.lines[-1]
    assert [entry[0] for entry in driver.machine.inputs] == ["interfaces", "interfaces"]
    assert network.send() == ["198.51.100.2:5000"]


def test_what_is_for_an_absent_neighbour_does_not_go_further():
    network = TwoUplinks()
    network.run(ANY)
    network.server.attach(network.core, "10.2.0.99/32", interface="eth1")
    assert network.send(UdpAddress("10.2.0.99", 7)) == []


def test_the_smallest_network_is_the_nearest():
    network = TwoUplinks()
    network.run(ANY)
    network.host.attach(network.homes[0], "10.2.0.130/25", interface="eth1", metric=None)
    neighbour = Host(network.world, "neighbour")
    neighbour.attach(network.homes[0], "10.2.0.131/25")
    neighbour.open_udp(7)
    machine = neighbour.run(Scribe()).machine
    network.send(UdpAddress("10.2.0.131", 7))
    assert [str(datagram.remote) for datagram in machine.datagrams] == ["10.2.0.130:5000"]


def test_who_sends_to_its_own_address_hears_itself():
    network = TwoUplinks()
    driver = network.run(ANY)
    network.send(UdpAddress("10.1.0.2", 5000))
    assert [str(datagram.remote) for datagram in driver.machine.datagrams] == ["10.1.0.2:5000"]


# --- too big


def test_what_exceeds_the_first_link_is_refused_by_the_system():
    network = TwoUplinks()
    driver = network.run(ANY, ANY_6)
    network.host.link("eth0").quality = LinkQuality(mtu=1280)
    assert network.send(data=bytes(1252)) == ["198.51.100.2:5000"]
    assert network.send(data=bytes(1253)) == []
    assert driver.machine.inputs[-1] == ("failed", str(SERVER), "message too long")
    assert network.send(SERVER_6, data=bytes(1232)) == ["[2001:db8:2::2]:5000"]
    assert network.send(SERVER_6, data=bytes(1233)) == []
    assert driver.machine.inputs[-1] == ("failed", str(SERVER_6), "message too long")


def narrow_uplink(heeds, **quality):
    network = TwoUplinks()
    network.host.heeds_too_big = heeds
    driver = network.run(ANY)
    network.homes[1].uplink.quality = LinkQuality(mtu=1280, **quality)
    assert network.send(data=bytes(1252)) == ["198.51.100.2:5000"]
    assert network.send(data=bytes(1253)) == []
    assert network.send(data=bytes(1253)) == []
    told = [line for line in network.world.trace.lines if "host receive" in line and "too big: 1280" in line]
    return len(told), [entry for entry in driver.machine.inputs if entry[0] == "failed"]


def test_a_router_says_what_is_too_big_and_our_sockets_do_not_care():
    assert narrow_uplink(heeds=False) == (2, [])


def test_a_socket_that_heeds_the_path_mtu_refuses_what_was_too_big_before():
    assert narrow_uplink(heeds=True) == (1, [("failed", str(SERVER), "message too long")])


def test_a_black_hole_says_nothing():
    assert narrow_uplink(heeds=True, tells_too_big=False) == (0, [])


def test_the_word_that_something_is_too_big_comes_back_through_nats():
    world = World(1)
    core = Router(world, "core")
    carrier = Router(world, "carrier", core, NatBehaviour(), "198.51.100.1")
    home = Router(world, "home", carrier, NatBehaviour(), "100.64.0.2")
    host, server = Host(world, "host"), Host(world, "server")
    host.attach(home, "192.168.1.2/24")
    server.attach(core, "203.0.113.10/24", downward=LinkQuality(mtu=1000))
    host.open_udp(5000)
    driver = host.run(Scribe())
    driver.call(lambda now: driver.machine.send(SERVER, bytes(1000)))
    world.run_for(1.0)
    assert "203.0.113.10:7 > 192.168.1.2:5000 ttl 62 too big: 1000" in world.trace.lines[-1]


def test_the_word_that_an_answer_is_too_big_reaches_who_gave_it():
    world = World(1)
    core = Router(world, "core")
    home = Router(world, "home", core, NatBehaviour(), "198.51.100.1")
    host, server = Host(world, "host"), Host(world, "server")
    host.attach(home, "192.168.1.2/24", downward=LinkQuality(mtu=1000))
    server.attach(core, "203.0.113.10/24")
    host.open_udp(5000)
    server.open_udp(7)
    client, answerer = host.run(Scribe()), server.run(Scribe())
    client.call(lambda now: client.machine.send(SERVER))
    world.run_for(1.0)
    answerer.call(lambda now: answerer.machine.send(UdpAddress("198.51.100.1", 5000), bytes(1000)))
    world.run_for(1.0)
    assert "server receive 198.51.100.1:5000 > 203.0.113.10:7 ttl 63 too big: 1000" in world.trace.lines[-1]
