"""Whole nodes dial across simulated NATs: no socket, no clock, no task."""

import pytest
from tests.sim.two_homes import RELAY, SECRET, TwoHomes

from peerway.core.quic.events import StreamOpened
from peerway.sim.homes import TWO_SYMMETRIC
from peerway.sim.network.link import LinkQuality
from peerway.sim.run import run
from peerway.sim.scenario import Dial, Pause, Scenario


def test_two_homes_meet_through_the_relay_and_then_directly():
    homes = TwoHomes()
    dialled_at = homes.world.now
    homes.dial()
    assert homes.world.run_while(lambda: not homes.both_direct(), 3.0), homes.left.story(homes.link)
    assert homes.world.now - dialled_at < 1.0
    first = homes.left.paths[homes.link][0]
    assert first.reason == "no direct path works"


@pytest.mark.parametrize("right", ["open", "firewall", "eim-eif", "eim-adf", "eim-apdf"])
@pytest.mark.parametrize("left", ["open", "firewall", "eim-eif", "eim-adf", "eim-apdf"])
def test_easy_kinds_end_direct(left, right):
    homes = TwoHomes(left, right)
    homes.dial()
    assert homes.world.run_while(lambda: not homes.both_direct(), 3.0), homes.left.story(homes.link)


@pytest.mark.parametrize(
    ("left", "right"), [("edm", "eim-adf"), ("eim-eif", "edm"), ("poisoned", "poisoned")]
)
def test_kinds_that_need_care_end_direct(left, right):
    homes = TwoHomes(left, right)
    homes.dial()
    assert homes.world.run_while(lambda: not homes.both_direct(), 3.0), homes.left.story(homes.link)


@pytest.mark.parametrize(("left", "right"), [("edm", "edm"), ("udp-blocked", "open"), ("eim-apdf", "edm")])
def test_other_kinds_stay_on_the_relay_and_carry_data(left, right):
    homes = TwoHomes(left, right)
    link = homes.dial()
    homes.world.run_for(5.0)
    assert not homes.left.is_direct(link)
    stream = homes.left.open_stream(link)
    homes.left.write(link, stream, b"hello")
    homes.world.run_for(1.0)
    assert homes.right.read(homes.right_link, stream) == b"hello"


def test_a_transfer_crosses_the_switch_whole():
    homes = TwoHomes()
    link = homes.dial()
    stream = homes.left.open_stream(link)
    data = bytes(range(256)) * 4096
    homes.left.write(link, stream, data)
    got = b""
    for _ in range(400):
        homes.world.run_for(0.01)
        if any(isinstance(event, StreamOpened) for _, _, event in homes.right.events):
            got += homes.right.read(homes.right_link, stream)
    assert got == data
    assert homes.both_direct()


def test_a_dial_goes_on_as_soon_as_the_relay_is_reached():
    homes = TwoHomes()
    line = homes.topology.left_home.uplink
    line.up = False
    homes.world.run_for(20.0)  # the relay connection has broken
    link = homes.left.dial(homes.right.ticket(SECRET))
    homes.world.run_for(9.0)  # signals are repeated each 3 s by now, and QUIC waits even longer
    line.up = True
    relay_is_up = homes.left.machine.relay_state
    homes.world.run_while(lambda: not relay_is_up(RELAY)[0], 20.0)
    reached_at = homes.world.now
    homes.world.run_while(lambda: link not in homes.left.established, 20.0)
    assert homes.left.established[link] - reached_at < 0.8


def test_a_stranger_gets_no_answer_and_leaves_no_trace():
    homes = TwoHomes()
    link = homes.left.dial(homes.right.ticket(b"x" * 16))
    homes.world.run_for(5.0)
    assert homes.left.established == {}
    assert homes.right.events == []
    assert homes.right.machine._links.drops["signal: hello of somebody we do not admit"] >= 1
    homes.world.run_for(20.0)
    assert "did not answer" in homes.left.closed[link].reason


def test_both_dial_at_once_and_one_connection_remains():
    homes = TwoHomes()
    one = homes.left.dial(homes.right.ticket(SECRET))
    other = homes.right.dial(homes.left.ticket(SECRET))
    homes.world.run_for(3.0)
    assert homes.left.final(one) in homes.left.established
    assert homes.right.final(other) in homes.right.established
    assert len(homes.left.established) == len(homes.right.established) == 1
    assert homes.left.is_direct(one)


def test_the_first_flight_counts_when_it_arrives_in_one_read_with_the_hello():
    homes = TwoHomes()
    forward = homes.right.machine.stream_data
    read: list[tuple[str, bytes]] = []

    def gather(stream, data, now):
        read.append((stream, data))
        if sum(len(data) for _, data in read) > 2400:  # two full datagrams, and a hello before them
            forward(stream, b"".join(data for _, data in read), now)
            homes.right.machine.stream_data = forward

    homes.right.machine.stream_data = gather
    dialled_at = homes.world.now
    link = homes.dial()
    assert read[0][1][5 + 32] == 0x04
    assert homes.left.established[link] - dialled_at < 0.1


def test_closing_tells_the_peer():
    homes = TwoHomes()
    link = homes.dial()
    homes.world.run_for(1.0)
    homes.left.close(link)
    homes.world.run_for(5.0)
    assert homes.right.closed[homes.right_link].by_peer
    assert len(homes.left.machine._links) == len(homes.right.machine._links) == 0


def test_a_goodbye_is_repeated_where_much_is_lost():
    for seed in range(5):
        homes = TwoHomes(seed=seed)
        homes.dial()
        homes.world.run_for(2.0)
        homes.topology.left_home.uplink.quality = LinkQuality(loss=0.6)
        homes.topology.server.link().up = False  # nor is there a relay to say it by
        homes.left.close(homes.link)
        homes.world.run_for(4.0)
        assert homes.right.closed[homes.right_link].by_peer


def test_what_is_repeated_as_a_goodbye_is_one():
    homes = TwoHomes()
    link = homes.dial()
    homes.world.run_while(lambda: not homes.both_direct(), 3.0)
    homes.left.write(link, homes.left.open_stream(link), bytes(400_000))
    homes.world.run_for(0.02)
    machine, now = homes.left.machine, homes.world.now
    machine.call(link, lambda found: found.abandon(now), now)
    kept = machine.ask(link, lambda found: list(found._flight._kept))
    assert kept
    assert all(sum(map(len, batch.segments)) < 100 for batch in kept)


def test_an_idle_connection_sends_nothing():
    homes = TwoHomes()
    homes.dial()
    homes.world.run_for(120.0)
    homes.world.trace.lines.clear()
    homes.world.run_for(50.0)
    assert [line for line in homes.world.trace.lines if " send " in line] == []


def test_in_a_round_of_probing_stun_servers_are_asked_before_the_peer_is_sent_anything():
    # a router gives a second remote the port that it gave the first, but not always the other way round
    scenario = Scenario(1, TWO_SYMMETRIC, (Dial("left"), Pause(30.0), Pause(30.0)))
    lines = run(scenario, is_traced=True).trace
    begun, who = next(line.split()[:2] for line in lines if "RoundBegun" in line)
    sent = [line.split()[5] for line in lines if line.startswith(f"{begun} {who} send")]
    assert sent[:2] == ["203.0.113.10:3478", "203.0.113.11:3478"]
    assert len(sent) > 2
