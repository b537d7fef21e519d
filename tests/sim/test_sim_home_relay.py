"""Which of several relays is home: the nearest, not at every whim, and never one that is gone."""

import pytest

from peerway.core.relay.connections import HomeRelayChanged
from peerway.core.signal.door import Admission
from peerway.sim.network.host import Host
from peerway.sim.network.tree import LinkQuality, Router
from peerway.sim.network.world import World
from peerway.sim.nodes import SimNode, run_server
from peerway.sim.transport.stand_in import SimTransports

SECRET = b"s" * 16


class Relays:
    """A node on the core, and a relay for each of the delays (milliseconds one way), in that order."""

    def __init__(self, *delays, seed=1):
        self.world = World(seed)
        self.core = Router(self.world, "core")
        self.transports = SimTransports(self.world.rng("transports"))
        self.links, self.urls = [], []
        for number, delay in enumerate(delays, 1):
            host = Host(self.world, f"relay-{number}")
            ip = f"203.0.113.{number}"
            self.links.append(host.attach(self.core, f"{ip}/24", quality=LinkQuality(delay_s=delay / 1000)))
            run_server(self.world, host)
            self.urls.append(f"http://{ip}:3340")
        self.node = self.add_node("node", "198.51.100.1", self.urls)
        self.world.run_for(3.0)

    def add_node(self, name, ip, urls):
        host = Host(self.world, name)
        host.attach(self.core, f"{ip}/24")
        return SimNode(
            self.world, host, tuple(urls), admission=Admission(secret=SECRET), transports=self.transports
        )

    @property
    def home(self):
        return self.urls.index(self.node.machine.home_relays[0]) + 1

    def is_now(self, number, delay):
        self.links[number - 1].quality = LinkQuality(delay_s=delay / 1000)

    def changes(self):
        return [event for _, event in self.node.driver.events if isinstance(event, HomeRelayChanged)]


def test_the_nearest_relay_is_home_whatever_the_order():
    assert Relays(80, 10, 40).home == 2
    assert Relays(10, 80, 40).home == 1


def test_the_home_stands_first_in_the_ticket_and_the_others_behind_it():
    relays = Relays(80, 10, 40)
    assert relays.node.ticket().relays == (relays.urls[1], relays.urls[0], relays.urls[2])


@pytest.mark.parametrize(
    ("before", "now", "moves"),
    [
        ((20, 60), (60, 20), True),
        ((20, 60), (20, 19), False),
        ((20, 60), (20, 16), False),  # a gain of 8 ms on the round trip
        ((100, 150), (100, 80), False),  # of 40 ms, but more than two thirds remain
        ((100, 150), (100, 60), True),
    ],
)
def test_home_moves_only_when_it_is_worth_it(before, now, moves):
    relays = Relays(*before)
    assert relays.home == 1
    for number, delay in enumerate(now, 1):
        relays.is_now(number, delay)
    relays.world.run_for(1000.0)  # several measurements: the least of three counts
    assert relays.home == (2 if moves else 1)


def test_a_home_that_is_gone_is_left_at_once_and_not_gone_back_to_for_nothing():
    relays = Relays(20, 22)
    assert relays.home == 1
    relays.links[0].up = False
    assert relays.world.run_while(lambda: relays.home == 1, 200.0)
    relays.links[0].up = True
    relays.world.run_for(300.0)
    assert relays.node.machine.relay_state(relays.urls[0])[0]
    assert relays.home == 2
    assert [event.url for event in relays.changes()] == [relays.urls[1]]


def test_a_first_relay_that_never_answers_is_not_waited_for():
    relays = Relays(20, 40)
    relays.links[0].up = False
    late = relays.add_node("late", "198.51.100.2", relays.urls)
    relays.world.run_for(1.0)
    assert late.machine.home_relays == (relays.urls[1], relays.urls[0])


def test_with_one_relay_nothing_is_measured():
    relays = Relays(20)
    keeper = relays.node.machine._relays._keepers[relays.urls[0]]
    assert keeper.round_trip is None


def test_a_peer_meets_us_by_the_ticket_whichever_relay_is_home():
    relays = Relays(80, 10)
    peer = relays.add_node("peer", "198.51.100.3", relays.urls[:1])
    relays.world.run_for(1.0)
    link = peer.dial(relays.node.ticket(SECRET))
    assert relays.world.run_while(lambda: link not in peer.established, 5.0)
