"""Byte streams: in order, whole, late; refused, broken, closed."""

import random

import pytest
from tests.sim.topology import pair
from tests.sim.toy_machines import Answerer, Caller

from peerway.sim.network.host import Host
from peerway.sim.network.tree import Bursts, LinkQuality, Router
from peerway.sim.network.world import World

URL = "http://server.test:3340"


def client_and_server(**quality):
    world = World(1)
    world.names["server.test"] = ("203.0.113.10",)
    core = Router(world, "core")
    client, server = Host(world, "client"), Host(world, "server")
    link = client.attach(core, "192.0.2.1/24", quality=LinkQuality(**{"delay_s": 0.04, **quality}))
    server.attach(core, "203.0.113.10/24", quality=LinkQuality(delay_s=0.01))
    answerer = Answerer()
    answerer.driver = server.run(answerer, listen=[3340])
    caller = Caller()
    return world, client.run(caller), answerer, link


def call(driver, action):
    driver.call(lambda now: action(driver.machine))


def test_stream_opens_after_one_round_trip_and_carries_both_ways():
    world, client, answerer, _ = client_and_server()
    call(client, lambda machine: machine.open(URL))
    world.run_for(1.0)
    stream = answerer.inputs[0][1]
    assert answerer.inputs == [("accepted", stream, "192.0.2.1", 0.07)]
    assert client.machine.inputs == [("opened", "s", 0.12)]
    call(client, lambda machine: machine.write(b"hello"))
    world.run_for(0.0999)
    assert (answerer.received, client.machine.received) == (b"hello", b"")
    world.run_for(0.0002)
    assert client.machine.received == b"hello"


def test_address_in_the_url_needs_no_name():
    world, client, _, _ = client_and_server()
    call(client, lambda machine: machine.open("http://203.0.113.10:3340"))
    world.run_for(1.0)
    assert client.machine.inputs == [("opened", "s", 0.1)]


def test_bytes_arrive_whole_and_in_order_through_loss_and_jitter():
    world, client, answerer, _ = client_and_server(loss=0.3, jitter_s=0.1)
    call(client, lambda machine: machine.open(URL))
    world.run_for(10.0)
    sent = random.Random(1).randbytes(50_000)
    for start in range(0, len(sent), 500):
        call(client, lambda machine, start=start: machine.write(sent[start : start + 500]))
    world.run_for(60.0)
    assert answerer.received == sent
    assert client.machine.received == sent


def test_bursts_of_losses_delay_streams_too():
    def seconds_for(size, **quality):
        world, client, answerer, _ = client_and_server(**quality)
        call(client, lambda machine: machine.open(URL))
        world.run_for(5.0)
        call(client, lambda machine: machine.write(bytes(size)))
        began = world.now
        assert world.run_while(lambda: len(answerer.received) < size, 60.0)
        return world.now - began

    clean = seconds_for(200_000)
    assert seconds_for(200_000, bursts=Bursts(begin=0.05, end=0.3)) > clean + 0.2


def test_a_link_that_turns_bad_for_ever_carries_no_stream():
    world, client, answerer, link = client_and_server()
    call(client, lambda machine: machine.open(URL))
    world.run_for(1.0)
    link.quality = LinkQuality(bursts=Bursts(begin=1.0, end=0.0))
    assert not link.is_cut
    call(client, lambda machine: machine.write(b"lost"))
    world.run_for(20.0)
    assert link.is_cut
    assert answerer.received == b""
    assert client.machine.inputs[-1][:3] == ("closed", "s", "timed out")


def pieces_of(writes, every_s, **quality):
    """In what pieces that many writes of ten bytes arrive."""
    world, client, answerer, _ = client_and_server(**quality)
    pieces = []
    answerer.stream_data = lambda stream, data, now: pieces.append(data)
    call(client, lambda machine: machine.open(URL))
    world.run_for(1.0)
    for number in range(writes):
        world.after(number * every_s, call, client, lambda machine: machine.write(b"0123456789"))
    world.run_for(10.0)
    assert b"".join(pieces) == b"0123456789" * writes
    return [len(piece) for piece in pieces]


def test_what_is_written_at_one_moment_arrives_together():
    assert pieces_of(1, 0.0) == [10]
    assert pieces_of(100, 0.0) == [1000]


def test_writes_do_not_arrive_in_the_pieces_they_were_made_in():
    pieces = pieces_of(40, 0.001)
    assert len(pieces) > 40
    assert {1, 9} & set(pieces)


def test_segments_of_a_lossy_stream_are_lost_each_by_itself():
    assert max(pieces_of(1000, 0.0, loss=0.2)) == 1448


@pytest.mark.parametrize(
    ("url", "error", "at"),
    [
        ("http://nobody.test:3340", "name not found", 0.02),
        ("http://server.test:9", "connection refused", 0.12),
        ("http://203.0.113.99:3340", "timed out", 15.0),
    ],
)
def test_stream_that_cannot_be_opened_says_why(url, error, at):
    world, client, _, _ = client_and_server()
    call(client, lambda machine: machine.open(url))
    world.run_for(60.0)
    assert client.machine.inputs == [("closed", "s", error, at)]


def test_close_flushes_and_is_seen_by_the_other_end_alone():
    world, client, answerer, _ = client_and_server()
    call(client, lambda machine: machine.open(URL))
    world.run_for(1.0)
    call(client, lambda machine: (machine.write(b"last words"), machine.close()))
    world.run_for(1.0)
    assert answerer.received == b"last words"
    assert answerer.inputs[1:] == [("closed", answerer.inputs[0][1], "", 1.05)]
    assert client.machine.inputs == [("opened", "s", 0.12)]
    assert client.machine.received == b""


def test_stream_given_up_while_it_is_made_is_never_opened():
    world, client, answerer, _ = client_and_server()
    call(client, lambda machine: machine.open(URL))
    call(client, lambda machine: machine.close())
    world.run_for(1.0)
    assert (client.machine.inputs, answerer.inputs) == ([], [])
    call(client, lambda machine: machine.open(URL))
    world.run_for(0.06)
    call(client, lambda machine: machine.close())
    world.run_for(1.0)
    assert client.machine.inputs == []
    assert [entry[0] for entry in answerer.inputs] == ["accepted", "closed"]


def test_server_sees_the_outermost_address():
    topology = pair("edm", "udp-blocked", seed=1)
    answerer = Answerer()
    topology.server.run(answerer, listen=[3340])
    for host in (topology.left, topology.right):
        call(host.run(Caller()), lambda machine: machine.open(URL))
    topology.world.run_for(1.0)
    assert [entry[2] for entry in answerer.inputs] == ["198.51.100.1", "192.0.2.1"]


@pytest.mark.parametrize("kind", ["firewall", "eim-eif"])
def test_no_stream_comes_in_from_outside(kind):
    topology = pair(kind, "open", seed=1)
    answerer = Answerer()
    topology.left.run(answerer, listen=[3340])
    driver = topology.right.run(Caller())
    call(driver, lambda machine: machine.open("http://198.51.100.1:3340"))
    topology.world.run_for(60.0)
    assert driver.machine.inputs == [("closed", "s", "timed out", 15.0)]
    assert answerer.inputs == []


def test_short_outage_delays_and_a_long_one_breaks_it_for_who_writes():
    world, client, answerer, link = client_and_server()
    call(client, lambda machine: machine.open(URL))
    world.run_for(1.0)
    link.up = False
    call(client, lambda machine: machine.write(b"late"))
    world.run_for(10.0)
    assert answerer.received == b""
    link.up = True
    world.run_for(1.0)
    assert answerer.received == client.machine.received == b"late"
    link.up = False
    call(client, lambda machine: machine.write(b"never"))
    world.run_for(20.0)
    assert [entry[::2] for entry in client.machine.inputs[1:]] == [("closed", "timed out")]
    stream = answerer.inputs[0][1]
    assert answerer.inputs[1:] == []
    link.up = True
    call(answerer.driver, lambda machine: machine.write(b"anybody there?", stream))
    world.run_for(1.0)
    assert [entry[::2] for entry in answerer.inputs[1:]] == [("closed", "connection reset")]
    assert client.machine.received == b"late"


def test_slow_stream_asks_its_writer_to_wait():
    world, client, answerer, _ = client_and_server(rate=8_000_000.0)
    call(client, lambda machine: machine.open(URL))
    world.run_for(1.0)
    for _ in range(300):
        call(client, lambda machine: machine.write(bytes(1000)))
    world.run_for(0.1)
    assert client.machine.inputs[1:] == [("paused", "s")]
    assert 40_000 <= len(answerer.received) <= 60_000
    world.run_for(0.3)
    assert client.machine.inputs[1:] == [("paused", "s"), ("resumed", "s")]
    assert len(answerer.received) == 300_000


def opened(kind="eim-apdf"):
    topology = pair(kind, "open", seed=1)
    answerer = Answerer()
    answerer.driver = topology.server.run(answerer, listen=[3340])
    client = topology.left.run(Caller())
    call(client, lambda machine: machine.open(URL))
    topology.world.run_for(1.0)
    assert client.machine.inputs[0][0] == "opened"
    return topology, client, answerer, answerer.inputs[0][1]


def test_a_nat_that_reboots_breaks_it_for_who_writes_from_inside():
    topology, client, answerer, _ = opened()
    topology.left_home.reboot()
    call(client, lambda machine: machine.write(b"hello?"))
    topology.world.run_for(60.0)
    assert client.machine.inputs[1:] == [("closed", "s", "connection reset", 1.024)]
    assert (answerer.received, answerer.inputs[1:]) == (b"", [])


def test_a_nat_that_reboots_breaks_it_for_who_writes_from_outside_after_a_while():
    topology, client, answerer, stream = opened()
    topology.left_home.reboot()
    call(answerer.driver, lambda machine: machine.write(b"hello?", stream))
    topology.world.run_for(60.0)
    assert answerer.inputs[1:] == [("closed", stream, "timed out", 16.2)]
    assert (client.machine.received, client.machine.inputs[1:]) == (b"", [])


def test_a_stream_made_after_the_reboot_is_whole():
    topology, client, answerer, _ = opened()
    topology.left_home.reboot("198.51.100.77")
    call(client, lambda machine: (machine.close(), machine.open(URL, "t")))
    topology.world.run_for(1.0)
    call(client, lambda machine: machine.write(b"hello", "t"))
    topology.world.run_for(1.0)
    assert client.machine.received == b"hello"
    assert answerer.inputs[-1][2] == "198.51.100.77"


def test_who_roams_loses_it_in_time():
    topology, client, answerer, _ = opened()
    topology.left.detach("eth0")
    topology.left.attach(topology.right_home, "192.0.2.7/24")
    call(client, lambda machine: machine.write(b"hello?"))
    topology.world.run_for(60.0)
    assert client.machine.inputs[1:] == [("closed", "s", "timed out", 16.2)]
    call(client, lambda machine: machine.open(URL, "t"))
    topology.world.run_for(1.0)
    assert answerer.inputs[-1][2] == "192.0.2.7"


def test_a_short_sleep_delays_it_and_a_long_one_breaks_it():
    topology, client, answerer, stream = opened()
    for nap, sent, received in ((10.0, b"one", b"one"), (60.0, b"two", b"one")):
        topology.left.sleep()
        call(answerer.driver, lambda machine, sent=sent: machine.write(sent, stream))
        topology.world.run_for(nap)
        topology.left.wake()
        topology.world.run_for(1.0)
        assert client.machine.received == received
    assert answerer.inputs[1:] == [("closed", stream, "timed out", 27.2)]
    assert client.machine.inputs[1:] == []
    call(client, lambda machine: machine.write(b"still there?"))
    topology.world.run_for(1.0)
    assert client.machine.inputs[1:] == [("closed", "s", "connection reset", 73.024)]


def test_nobody_opens_it_to_one_who_sleeps():
    world, client, answerer, _ = client_and_server()
    answerer.driver.host.sleep()
    call(client, lambda machine: machine.open(URL))
    world.run_for(60.0)
    assert client.machine.inputs == [("closed", "s", "timed out", 15.02)]
    answerer.driver.host.wake()
    assert answerer.inputs == []


def test_a_link_that_is_deaf_one_way_breaks_it_both_ways():
    world, client, answerer, link = client_and_server()
    call(client, lambda machine: machine.open(URL))
    world.run_for(1.0)
    link.set_quality(LinkQuality(), downward=LinkQuality(loss=1.0))
    call(client, lambda machine: machine.write(b"hello?"))
    world.run_for(60.0)
    assert [entry[::2] for entry in client.machine.inputs[1:]] == [("closed", "timed out")]
    assert answerer.received == b""


def test_the_next_address_is_tried_when_one_is_silent():
    world, client, _, _ = client_and_server()
    world.names["server.test"] = ("203.0.113.99", "2001:db8::1", "203.0.113.10")
    call(client, lambda machine: machine.open(URL))
    world.run_for(1.0)
    assert client.machine.inputs == [("opened", "s", 0.37)]


def test_without_a_way_out_it_fails_at_once():
    world, client, _, _ = client_and_server()
    client.host.detach("eth0")
    call(client, lambda machine: machine.open("http://203.0.113.10:3340"))
    world.run_for(1.0)
    assert client.machine.inputs == [("closed", "s", "network is unreachable", 0.0)]


def test_the_slower_way_is_the_slower_way():
    world, client, answerer, link = client_and_server()
    link.set_quality(LinkQuality(delay_s=0.04), downward=LinkQuality(delay_s=0.04, rate=80_000.0))
    call(client, lambda machine: machine.open(URL))
    world.run_for(1.0)
    call(client, lambda machine: machine.write(bytes(10_000)))
    world.run_for(0.1)
    assert len(answerer.received) == 10_000
    assert client.machine.received == b""
    world.run_for(1.1)
    assert len(client.machine.received) == 10_000


def test_a_partition_breaks_it_though_every_link_is_up():
    topology, client, answerer, _ = opened("open")
    core = topology.left_home.uplink.upper
    core.part(topology.left_home.uplink, topology.server.link())
    call(client, lambda machine: machine.write(b"hello?"))
    topology.world.run_for(10.0)
    assert answerer.received == b""
    call(client, lambda machine: machine.open(URL, "t"))
    topology.world.run_for(20.0)
    assert [entry[:3] for entry in client.machine.inputs[1:]] == [
        ("closed", "s", "timed out"),
        ("closed", "t", "timed out"),
    ]
    core.unite(topology.left_home.uplink, topology.server.link())
    call(client, lambda machine: machine.open(URL, "u"))
    topology.world.run_for(1.0)
    assert client.machine.inputs[-1][:2] == ("opened", "u")
