"""The real STUN and relay machines in the simulated internet."""

import random

import pytest
from tests.sim.topology import KINDS, pair

from peerway.core.machine import Leaf, UdpAddress
from peerway.core.relay import greeting
from peerway.core.relay.keeper import RelayDown, RelayKeeper, RelayPackets, RelayUp
from peerway.core.relay.server import RelayServer
from peerway.core.stun.client import MappingLearned, QueryFailed, StunClient
from peerway.core.stun.server import StunServer
from peerway.sim.network.tree import LinkQuality

SERVERS = (UdpAddress("203.0.113.10", 3478), UdpAddress("203.0.113.11", 3478))
RELAY = "http://server.test:3340"


def run_stun_server(topology):
    for server in SERVERS:
        topology.server.run(StunServer(), [topology.server.open_udp(server.port, server.ip)])


def mappings(kind, access):
    """What the left host's one socket looks like from each server, by its STUN client."""
    topology = pair(kind, "open", 1, access)
    run_stun_server(topology)
    local = topology.left.open_udp(41641)
    client = StunClient(random.Random(1))
    driver = topology.left.run(client)
    for server in SERVERS:
        driver.call(lambda now, server=server: client.query(server, local, now))
    topology.world.run_for(60.0)
    outcomes = {event.server: event for _, event in driver.events}
    return [outcomes[server] for server in SERVERS]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_two_stun_servers_tell_an_easy_nat_from_a_hard_one(kind):
    outcomes = mappings(kind, LinkQuality(delay_s=0.02))
    if kind in ("udp-blocked", "udp-rejected"):
        assert [type(outcome) for outcome in outcomes] == [QueryFailed, QueryFailed]
        return
    first, second = outcomes
    assert (first.mapped == second.mapped) is (kind not in ("edm", "adm", "edm-seq", "cgn-edm"))
    assert first.mapped.ip == "198.51.100.1"
    assert first.round_trip == pytest.approx(0.044)


def test_stun_gets_its_answer_through_loss():
    outcomes = mappings("eim-apdf", LinkQuality(loss=0.4))
    assert [type(outcome) for outcome in outcomes] == [MappingLearned, MappingLearned]


class Postman(RelayKeeper):
    """A keeper as a whole program: it owns its only stream."""

    def __init__(self, name):
        self.key = random.Random(name).randbytes(32)
        self.public_key = greeting.public_key(self.key)
        super().__init__(RELAY, lambda: self.key, random.Random(name))

    def stream_opened(self, stream, now):
        super().stream_opened(now)

    def stream_data(self, stream, data, now):
        super().stream_data(data, now)

    def stream_closed(self, stream, error, now):
        super().stream_closed(error, now)

    def stream_paused(self, stream, now):
        super().stream_paused(now)

    def stream_resumed(self, stream, now):
        super().stream_resumed(now)


def relay_world(left, right, access):
    topology = pair(left, right, 1, access)
    relay = RelayServer(topology.world.rng("relay"))
    topology.server.run(relay, listen=[3340])
    drivers = [host.run(Postman(host.name)) for host in (topology.left, topology.right)]
    for driver in drivers:
        driver.call(driver.machine.start)
    return topology, relay, *drivers


def events_of(driver, kind):
    return [event for _, event in driver.events if isinstance(event, kind)]


def test_two_hosts_without_udp_meet_at_the_relay():
    topology, relay, left, right = relay_world("udp-blocked", "udp-blocked", LinkQuality(delay_s=0.02))
    topology.world.run_for(1.0)
    assert (relay.client_count, left.machine.is_up, right.machine.is_up) == (2, True, True)
    left.call(lambda now: left.machine.send(right.machine.public_key, (b"one", b"two"), now))
    topology.world.run_for(1.0)
    events = events_of(right, RelayPackets)
    assert [packet for event in events for packet in event.packets] == [b"one", b"two"]
    assert {event.source for event in events} == {left.machine.public_key}


def test_relay_carries_everything_in_order_through_loss_and_a_slow_link():
    access = LinkQuality(delay_s=0.02, jitter_s=0.02, loss=0.1, rate=10_000_000.0)
    topology, relay, left, right = relay_world("edm", "eim-apdf", access)
    assert topology.world.run_while(lambda: relay.client_count < 2, limit_s=10.0)
    sent = [bytes([number % 256]) * 1000 for number in range(400)]
    for packet in sent:
        left.call(lambda now, packet=packet: left.machine.send(right.machine.public_key, (packet,), now))
    topology.world.run_for(30.0)
    assert [packet for event in events_of(right, RelayPackets) for packet in event.packets] == sent


def test_relay_is_found_again_after_an_outage():
    topology, relay, left, _ = relay_world("eim-apdf", "open", LinkQuality())
    topology.world.run_for(1.0)
    topology.left_home.uplink.up = False
    topology.world.run_for(200.0)
    assert not left.machine.is_up
    topology.left_home.uplink.up = True
    topology.world.run_for(60.0)
    assert left.machine.is_up
    assert len(events_of(left, RelayUp)) == 2
    assert events_of(left, RelayDown)[0].reason == "the relay did not answer for 2 s"
    assert relay.client_count == 2


def test_a_day_at_the_relay_breaks_no_contract_and_keeps_the_connection():
    topology, _, left, right = relay_world("eim-apdf", "edm", LinkQuality(jitter_s=0.05, loss=0.02))
    topology.world.run_for(86_400.0)
    assert [len(events_of(driver, RelayUp)) for driver in (left, right)] == [1, 1]


def test_machines_without_a_relays_inputs_are_not_asked_for_them():
    topology = pair("open", "open", seed=1)
    driver = topology.left.run(Leaf())
    driver.tell("stream_paused", "s")
    assert driver.machine.poll_event() is None
