"""A relay that withholds, delays, reorders, repeats, alters, reflects and misattributes what it carries."""

from dataclasses import replace

import pytest
from tests.sim.topology import SERVER_NAME, pair

from peerway.core.signal.door import Admission
from peerway.sim.attack.hostile_relay import HostileRelay, Mischief
from peerway.sim.nodes import RELAY_PORT, SimNode, run_server

RELAY = f"http://{SERVER_NAME}:{RELAY_PORT}"
SECRET = b"s" * 16
SIGNAL = 0x04
DEEDS = {
    "nothing": Mischief(),
    "drops": Mischief(drop=0.2),
    "delays": Mischief(delay=0.2, delay_s=0.5),
    "reorders": Mischief(reorder=0.5),
    "duplicates": Mischief(duplicate=1.0),
    "alters": Mischief(alter=1.0),
    "corrupts": Mischief(alter=0.2, drop=0.2),
    "reflects": Mischief(reflect=1.0),
    "replays": Mischief(replay=1.0),
    "lies about senders": Mischief(lie=0.3),
    "denies": Mischief(deny=0.5),
    "everything": Mischief(0.05, 0.1, 0.5, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2, 0.1),
}


class Homes:
    def __init__(self, mischief, left="eim-apdf", right="eim-apdf"):
        topology = pair(left, right, 7)
        self.world = topology.world
        self.relay = HostileRelay(self.world.rng("relay"), self.world.rng("mischief"), mischief)
        run_server(self.world, topology.server, self.relay)
        self.relay_driver = topology.server._drivers[0]
        admission = Admission(secret=SECRET)
        self.left = SimNode(self.world, topology.left, (RELAY,), admission=admission, key=b"l" * 32)
        self.right = SimNode(self.world, topology.right, (RELAY,), admission=admission, key=b"r" * 32)
        self.world.run_for(2.0)

    def say(self, carried):
        """The relay delivers something on its own account."""
        self.relay_driver.call(lambda now: self.relay.say(carried, now))

    def talk(self, data):
        link = self.left.dial(self.right.ticket(SECRET))
        assert self.world.run_while(lambda: not self.right.established, 10.0)
        (right_link,) = self.right.established
        stream = self.left.open_stream(link)
        self.left.write(link, stream, data)
        got = b""

        def reading():
            nonlocal got
            got += self.right.read(right_link, stream)
            return len(got) < len(data)

        self.world.run_for(1.0)
        self.world.run_while(reading, 60.0)
        self.world.run_for(2.0)
        return got


DATA = bytes(range(256)) * 400


@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize("deed", DEEDS)
def test_a_hostile_relay_changes_nothing_that_arrives(deed, blocked):
    homes = Homes(DEEDS[deed], "udp-blocked" if blocked else "eim-apdf")
    assert homes.talk(DATA) == DATA
    assert len(homes.left.established) == len(homes.right.established) == 1
    assert homes.left.closed == homes.right.closed == {}
    assert homes.left.is_direct(1) is not blocked


def test_reflected_and_replayed_signals_are_counted_and_change_no_state():
    homes = Homes(Mischief())
    homes.talk(b"x")
    links = dict(iter(homes.left.machine._links._table))
    before = len(homes.left.events), len(homes.right.events)
    for carried in list(homes.relay.seen):
        if carried.packet[0] == SIGNAL:
            homes.say(carried)
            homes.say(replace(carried, destination=carried.source))
    homes.world.run_for(1.0)
    assert (len(homes.left.events), len(homes.right.events)) == before
    assert dict(iter(homes.left.machine._links._table)) == links


def test_a_replayed_hello_begins_no_second_connection():
    homes = Homes(Mischief())
    homes.talk(b"x")
    hello = next(carried for carried in homes.relay.seen if carried.packet[0] == SIGNAL)
    homes.left.close(1)
    homes.world.run_for(30.0)
    assert len(homes.right.machine._links) == 0
    for _ in range(5):
        homes.say(hello)
        homes.world.run_for(0.5)
    assert len(homes.right.machine._links) <= 1
    homes.world.run_for(30.0)
    assert len(homes.right.machine._links) == 0
    assert len(homes.right.established) == 1


@pytest.mark.parametrize("replayed", [False, True])
def test_a_replayed_hello_takes_no_dials_place(replayed):
    homes = Homes(Mischief())
    lower, higher = sorted((homes.left, homes.right), key=lambda node: node.machine.key.node_id)
    lower.dial(higher.ticket(SECRET))
    homes.world.run_for(1.0)
    hello = next(carried for carried in homes.relay.seen if carried.packet[0] == SIGNAL)
    lower.close(1)
    homes.world.run_for(30.0)
    link = higher.dial(lower.ticket(SECRET))
    if replayed:
        homes.say(hello)
    homes.world.run_for(1.0)
    assert link in higher.established
    assert higher.moved == {}
    homes.world.run_for(30.0)
    assert higher.closed.keys() == {1}


def test_a_stranger_costs_one_box_and_gets_nothing_on_the_wire():
    homes = Homes(Mischief())
    homes.left.dial(homes.right.ticket(b"w" * 16))
    homes.world.run_for(15.0)
    right_key = homes.right.machine.key.node_id.box_public()
    from_right = [carried for carried in homes.relay.seen if carried.source == right_key]
    assert from_right == []
    assert len(homes.right.machine._links) == 0
    assert homes.right.machine._links._door._shared == {}
