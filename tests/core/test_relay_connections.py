"""Which key a node shows to which relay, and how long relays are kept."""

import random

import pytest

from peerway.core.identity import SecretKey
from peerway.core.machine import CloseStream, OpenStream, RelayAddress
from peerway.core.relay.connections import HomeRelayChanged, RelayConnections
from peerway.core.relay.server import RelayServer
from peerway.core.relay.url import RelayUrl

HOME = "http://home.test:3340"
OTHER = "http://other.test:3340"
KEY = SecretKey(b"h" * 32)


def made():
    connections = RelayConnections((HOME,), KEY, random.Random(1))
    for url in (HOME, OTHER):
        connections.keep(RelayUrl.parse(url), 0.0)
    return connections


def events(connections):
    found = []
    while (event := connections.poll_event()) is not None:
        found.append(event)
    return found


def test_only_the_home_relay_sees_the_key_made_from_our_identity():
    connections = made()
    assert connections._keepers[HOME]._fresh_key() == KEY.box_secret
    shown = [connections._keepers[OTHER]._fresh_key() for _ in range(3)]
    assert len(set(shown)) == 3
    assert KEY.box_secret not in shown


def test_each_relay_is_connected_to_once():
    connections = made()
    connections.keep(RelayUrl.parse(OTHER), 1.0)
    assert [event.url for event in events(connections) if isinstance(event, OpenStream)] == [HOME, OTHER]


def test_what_nobody_needs_is_let_go_and_home_is_not():
    connections = made()
    events(connections)
    connections.forget_all_but({OTHER}, 1.0)
    assert events(connections) == []
    connections.forget_all_but(set(), 2.0)
    assert [type(event) for event in events(connections)] == [CloseStream]
    assert HOME in connections
    assert OTHER not in connections
    assert connections.state(OTHER) == (False, "not in use")


def test_packets_for_a_relay_that_was_let_go_are_dropped_and_counted():
    connections = made()
    connections.send(RelayAddress("http://never.test:3340", b"k" * 32), (b"packet",), 0.0)
    assert connections.drops["relay: not connected to it any more"] == 1


# --- home


NEAR, FAR = "http://near.test:3340", "http://far.test:3340"


class TwoRelays:
    """Two relays of our own, each a real server that answers after its own time."""

    def __init__(self, *delays):
        self.delays = dict(zip((FAR, NEAR), delays, strict=True))
        self.servers = {url: RelayServer(random.Random(url)) for url in self.delays}
        self.connections = RelayConnections((FAR, NEAR), KEY, random.Random(1))
        self.changes = []
        self.due = []  # what the servers have written: when it arrives, the stream, the bytes
        self.now = 0.0
        for url in self.delays:
            self.connections.keep(RelayUrl.parse(url), 0.0)
        self.run_for(0.0)

    def settle(self):
        while (event := self.connections.poll_event()) is not None:
            if isinstance(event, OpenStream):
                self.servers[event.url].stream_accepted(event.stream, "192.0.2.1", self.now)
                self.connections.stream_opened(event.stream, self.now)
            elif isinstance(event, HomeRelayChanged):
                self.changes.append(event.url)
        for output in iter(self.connections.poll_transmit, None):
            self.servers[output.stream.split()[0]].stream_data(output.stream, output.data, self.now)
        for url, server in self.servers.items():
            for answer in iter(server.poll_transmit, None):
                self.due.append((self.now + self.delays[url], answer.stream, answer.data))

    def run_for(self, seconds):
        end = self.now + seconds
        self.settle()
        while True:
            machines = (self.connections, *self.servers.values())
            deadlines = [deadline.at for m in machines if (deadline := m.poll_deadline()) is not None]
            times = [at for at, _, _ in self.due] + deadlines
            if not times or min(times) > end:
                self.now = end
                return
            self.now = min(times)
            arrived = [entry for entry in self.due if entry[0] <= self.now]
            self.due = [entry for entry in self.due if entry[0] > self.now]
            for _, stream, data in arrived:
                self.connections.stream_data(stream, data, self.now)
            for machine in machines:
                machine.handle_timeout(self.now)
            self.settle()


def test_the_nearer_of_two_becomes_home_and_both_stay_ours():
    relays = TwoRelays(0.08, 0.02)
    relays.run_for(2.0)
    assert relays.connections.own == (NEAR, FAR)
    assert relays.changes == [NEAR]


def test_a_home_that_stands_is_not_left_before_it_was_measured():
    relays = TwoRelays(0.02, 0.02)
    relays.run_for(2.0)
    assert (relays.connections.own, relays.changes) == ((FAR, NEAR), [])


def test_each_is_measured_twice_at_first_and_then_every_five_minutes():
    relays = TwoRelays(0.08, 0.02)
    relays.run_for(2.0)
    keeper = relays.connections._keepers[NEAR]
    assert keeper.round_trip == pytest.approx(0.02)
    assert len(keeper._round_trips) == 2
    relays.delays[NEAR] = 0.07
    relays.run_for(310.0)
    assert keeper.round_trip == pytest.approx(0.02)  # the least of three counts
    relays.run_for(600.0)
    assert keeper.round_trip == pytest.approx(0.07)
    assert relays.connections.own[0] == NEAR


def test_a_home_that_closes_is_left_at_once():
    relays = TwoRelays(0.08, 0.02)
    relays.run_for(2.0)
    relays.connections.stream_closed(f"{NEAR} 1", "reset", relays.now)
    relays.settle()
    assert relays.connections.own == (FAR, NEAR)


def test_without_relays_of_our_own_there_is_no_home():
    assert RelayConnections((), KEY, random.Random(1)).own == ()
