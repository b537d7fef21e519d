"""A relay that reflects, replays, alters, misattributes or reorders what it carries."""

import pytest

from peerway.core.identity import SecretKey
from peerway.core.relay.frames import KEY_SIZE, FrameType, build_packets
from peerway.core.relay.server import RelayServer
from peerway.core.relay.session import PacketsSent
from peerway.core.signal.door import Admission
from peerway.sim.nodes import RELAY_PORT, SimNode, run_server
from peerway.sim.topology import SERVER_NAME, pair

RELAY = f"http://{SERVER_NAME}:{RELAY_PORT}"
SECRET = b"s" * 16
RECV_PACKET = FrameType.RECV_PACKET


class HostileRelay(RelayServer):
    """Delivers what it should and, beside it, what `mischief` makes of it."""

    def __init__(self, rng, mischief):
        super().__init__(rng)
        self.mischief = mischief
        self.seen = []

    def _forward(self, sender, sent, now):
        packets = list(_packets(bytes(sent.frames)))
        self.carry(sender, sent.destination, packets, now)

    def carry(self, sender, destination, packets, now):
        self.seen.append((sender, destination, list(packets)))
        for source, target, made in self.mischief(self, sender, destination, packets):
            frames = build_packets(RECV_PACKET, source.key, made)
            super()._forward(source, PacketsSent(target, frames, len(made)), now)


def _packets(frames):
    """The packets in back-to-back RecvPacket frames: type 1, length 4, source 32, packet."""
    while frames:
        size = int.from_bytes(frames[1:5], "big")
        yield frames[5 + KEY_SIZE : 5 + size]
        frames = frames[5 + size :]


def honest(relay, sender, destination, packets):
    yield sender, destination, packets


def reflects(relay, sender, destination, packets):
    yield sender, destination, packets
    yield sender, sender.key, packets


def replays(relay, sender, destination, packets):
    yield sender, destination, packets
    yield from relay.seen[-20:]


def alters(relay, sender, destination, packets):
    yield sender, destination, packets
    for position in (0, 5, 40, -1):
        yield sender, destination, [_flip(packet, position) for packet in packets]


def reorders(relay, sender, destination, packets):
    yield sender, destination, list(reversed(packets))


def doubles(relay, sender, destination, packets):
    yield sender, destination, [packet for packet in packets for _ in range(3)]


def lies_about_senders(relay, sender, destination, packets):
    yield sender, destination, packets
    for other, _, _ in relay.seen[-5:]:
        yield other, destination, packets


def _flip(packet, position):
    changed = bytearray(packet)
    if changed:
        changed[position % len(changed)] ^= 0x01
    return bytes(changed)


class Homes:
    def __init__(self, mischief, left="eim-apdf", right="eim-apdf"):
        topology = pair(left, right, 7)
        self.world = topology.world
        self.relay = HostileRelay(self.world.rng("relay"), mischief)
        run_server(self.world, topology.server, self.relay)
        self.relay_driver = topology.server._drivers[0]
        self.left = SimNode(self.world, topology.left, (RELAY,))
        self.right = SimNode(self.world, topology.right, (RELAY,), admission=Admission(secret=SECRET))
        self.world.run_for(2.0)

    def inject(self, sender, destination, packets):
        """The relay delivers something on its own account."""

        def deliver(now):
            self.relay.carry(sender, destination, packets, now)
            self.relay._settle(now)

        self.relay_driver.call(deliver)

    def talk(self, data):
        link = self.left.dial(self.right.ticket(SECRET))
        assert self.world.run_while(lambda: not self.right.established, 10.0)
        (right_link,) = self.right.established
        stream = self.left.open_stream(link)
        self.left.write(link, stream, data)
        self.world.run_for(3.0)
        return self.right.read(right_link, stream)


DATA = bytes(range(256)) * 400


@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize(
    "mischief", [honest, reflects, replays, alters, reorders, doubles, lies_about_senders]
)
def test_a_hostile_relay_changes_nothing_that_arrives(mischief, blocked):
    homes = Homes(mischief, "udp-blocked" if blocked else "eim-apdf")
    assert homes.talk(DATA) == DATA
    assert len(homes.left.established) == len(homes.right.established) == 1
    assert homes.left.closed == homes.right.closed == {}
    assert homes.left.is_direct(1) is not blocked


def test_reflected_and_replayed_signals_are_counted_and_change_no_state():
    homes = Homes(honest)
    homes.talk(b"x")
    links = dict(iter(homes.left.machine._links._table))
    before = len(homes.left.events), len(homes.right.events)
    for sender, destination, packets in list(homes.relay.seen):
        signals = [packet for packet in packets if packet[0] == 4]
        if signals:
            homes.relay.mischief = lambda *args, s=sender, d=destination, p=signals: [
                (s, d, p),
                (s, s.key, p),
            ]
            homes.inject(sender, destination, signals)
    homes.world.run_for(1.0)
    assert (len(homes.left.events), len(homes.right.events)) == before
    assert dict(iter(homes.left.machine._links._table)) == links


def test_a_replayed_hello_begins_no_second_connection():
    homes = Homes(honest)
    homes.talk(b"x")
    sender, destination, packets = next(seen for seen in homes.relay.seen if seen[2][0][0] == 4)
    homes.left.close(1)
    homes.world.run_for(30.0)
    assert len(homes.right.machine._links) == 0
    for _ in range(5):
        homes.inject(sender, destination, packets)
        homes.world.run_for(0.5)
    assert len(homes.right.machine._links) <= 1
    homes.world.run_for(30.0)
    assert len(homes.right.machine._links) == 0
    assert len(homes.right.established) == 1


def test_a_stranger_costs_one_box_and_gets_nothing_on_the_wire():
    homes = Homes(honest)
    homes.left.dial(homes.right.ticket(b"w" * 16))
    homes.world.run_for(15.0)
    right_key = SecretKey(homes.right.machine.key.seed).node_id.box_public()
    from_right = [packets for sender, _, packets in homes.relay.seen if sender.key == right_key]
    assert from_right == []
    assert len(homes.right.machine._links) == 0
    assert homes.right.machine._links._door._shared == {}
