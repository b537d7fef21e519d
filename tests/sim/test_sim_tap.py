"""Taps see every packet on every link, and a host may send as anybody."""

from tests.sim.topology import pair
from tests.sim.toy_machines import Observer, Scribe

from peerway.core.machine import UdpAddress
from peerway.sim.conversation import Conversation
from peerway.sim.homes import TWO_HOMES
from peerway.sim.internet import Internet
from peerway.sim.network.host import Host
from peerway.sim.network.tap import Moment
from peerway.sim.network.tree import LinkQuality, Router
from peerway.sim.network.world import World

SERVER = UdpAddress("203.0.113.10", 3478)
INSIDE = UdpAddress("10.1.0.2", 41641)
OUTSIDE = UdpAddress("198.51.100.1", 41641)


def left_asks_the_server(quality=None):
    topology = pair("eim-apdf", "open", 1, *([quality] if quality else []))
    topology.left.open_udp(41641)
    machine = Scribe()
    driver = topology.left.run(machine)
    bound = topology.server.open_udp(SERVER.port, SERVER.ip)
    topology.server.run(Observer([bound]))
    return topology, machine, driver


def ask(driver):
    driver.call(lambda now: driver.machine.send(SERVER, b"who am I"))


def test_a_tap_sees_a_packet_at_both_ends_of_each_link_as_it_is_there():
    topology, _, driver = left_asks_the_server()
    seen = []
    topology.world.taps.append(seen.append)
    ask(driver)
    topology.world.run_for(1.0)
    there = [sighting for sighting in seen if sighting.origin == "left"]
    assert [(s.moment, s.link, s.node, s.source, s.ttl) for s in there] == [
        (Moment.SENT, "left-left-home", "left", INSIDE, 64),
        (Moment.ARRIVED, "left-left-home", "left-home", INSIDE, 64),
        (Moment.SENT, "left-home-core", "left-home", OUTSIDE, 63),
        (Moment.ARRIVED, "left-home-core", "core", OUTSIDE, 63),
        (Moment.SENT, "server-core", "core", OUTSIDE, 62),
        (Moment.ARRIVED, "server-core", "server", OUTSIDE, 62),
    ]
    assert {(s.destination, s.data) for s in there} == {(SERVER, b"who am I")}
    back = [sighting for sighting in seen if sighting.origin == "server"]
    assert [s.destination for s in back] == [OUTSIDE] * 4 + [INSIDE] * 2
    assert [round(s.at, 6) for s in seen] == sorted(round(s.at, 6) for s in seen)


def test_a_tap_at_the_ends_sees_a_packet_leave_one_host_and_come_to_the_other():
    topology, _, driver = left_asks_the_server()
    seen = []
    topology.world.end_taps.append(seen.append)
    ask(driver)
    topology.world.run_for(1.0)
    there = [sighting for sighting in seen if sighting.origin == "left"]
    assert [(s.moment, s.node, s.source) for s in there] == [
        (Moment.SENT, "left", INSIDE),
        (Moment.ARRIVED, "server", OUTSIDE),
    ]


def test_a_lost_packet_is_seen_where_it_was_sent_and_nowhere_else():
    topology, _, driver = left_asks_the_server(LinkQuality(loss=1.0))
    seen = []
    topology.world.taps.append(seen.append)
    ask(driver)
    topology.world.run_for(1.0)
    assert [(s.moment, s.node) for s in seen] == [
        (Moment.SENT, "left"),
        (Moment.ARRIVED, "left-home"),
        (Moment.SENT, "left-home"),
    ]


def test_each_packet_that_gets_no_further_is_shown_with_its_reason():
    topology, _, driver = left_asks_the_server(LinkQuality(loss=1.0))
    losses = []
    topology.world.loss_taps.append(losses.append)
    ask(driver)
    topology.world.run_for(1.0)
    assert [(loss.where, loss.node, loss.reason, loss.data, loss.origin) for loss in losses] == [
        ("left-home-core", "core", "lost", b"who am I", "left")
    ]
    topology.server.inject(SERVER, OUTSIDE, b"unasked")
    topology.server.inject(SERVER, UdpAddress("192.0.2.77", 1), b"to nobody")
    topology.world.run_for(1.0)
    assert [(loss.node, loss.reason, loss.data) for loss in losses[1:]] == [
        ("left-home", "lost", b"unasked"),
        ("core", "no route", b"to nobody"),
    ]


def test_a_relay_shows_what_it_is_given_to_carry():
    internet = Internet(TWO_HOMES, seed=1)
    talk = Conversation(internet)
    internet.world.run_for(3.0)
    carried = []
    internet.servers["relay1.test"].watchers = (lambda packet, is_here: carried.append((packet, is_here)),)
    talk.dial("left")
    internet.world.run_while(lambda: not talk.is_up, 20.0)
    first, _ = carried[0]
    keys = [talk.node(side).machine.key.node_id.box_public() for side in ("left", "right")]
    assert [first.source, first.destination] == keys
    assert first.packet[0] == 0x04  # a signal
    assert {is_here for _, is_here in carried} == {True}


def test_watching_changes_nothing():
    def digest(watched):
        topology, _, driver = left_asks_the_server(LinkQuality(jitter_s=0.01, loss=0.3))
        if watched:
            topology.world.taps.append(lambda sighting: None)
        for _ in range(20):
            ask(driver)
            topology.world.run_for(0.1)
        return topology.world.trace_digest()

    assert digest(watched=True) == digest(watched=False)


def test_an_injected_packet_has_the_source_it_claims_and_its_true_origin():
    topology, machine, driver = left_asks_the_server()
    mallory = Host(topology.world, "mallory")
    mallory.attach(Router(topology.world, "mallory-home", topology.left_home.uplink.upper), "192.0.2.66/24")
    ask(driver)
    topology.world.run_for(1.0)
    seen = []
    topology.world.taps.append(seen.append)
    assert mallory.inject(SERVER, OUTSIDE, b"forged")
    assert mallory.inject(UdpAddress("192.0.2.66", 7), OUTSIDE, b"as itself")
    topology.world.run_for(1.0)
    # the NAT lets in what claims to come from the server, and only that
    assert [(datagram.data, datagram.remote) for datagram in machine.datagrams][1:] == [(b"forged", SERVER)]
    assert {sighting.origin for sighting in seen} == {"mallory"}
    assert {(sighting.source, sighting.forged) for sighting in seen} == {
        (SERVER, True),
        (UdpAddress("192.0.2.66", 7), False),
    }


def test_a_host_without_a_link_injects_nothing():
    assert not Host(World(1), "lonely").inject(INSIDE, SERVER, b"x")
