"""What a client may send by a relay's limits, and what each limit does when it is reached."""

import random

from tests.core.relay_network import RelayNetwork

from peerway.core.relay.frames import FrameType, build_frame, build_packets
from peerway.core.relay.limits import Allowance, HoldStream, RelayLimits, ReleaseStream
from peerway.core.relay.server import ConnectionRefused, RelayServer

SLOW = RelayLimits(bytes_per_s=1000.0, bytes_burst=2000.0, packets_per_s=10.0, packets_burst=20.0)


def test_an_allowance_holds_a_burst_and_fills_up_again():
    allowance = Allowance(SLOW, 100.0)
    assert allowance.spend(2000, 0, 100.0) == 100.0
    assert allowance.spend(500, 0, 100.0) == 100.5
    assert allowance.spend(0, 0, 100.5) == 100.5
    assert allowance.spend(2000, 0, 200.0) == 200.0


def test_packets_are_counted_beside_bytes():
    allowance = Allowance(SLOW, 100.0)
    assert allowance.spend(0, 20, 100.0) == 100.0
    assert allowance.spend(0, 5, 100.0) == 100.5


def test_an_allowance_that_was_not_used_for_a_day_holds_one_burst():
    allowance = Allowance(SLOW, 0.0)
    assert allowance.spend(3000, 0, 86_400.0) == 86_401.0


def test_time_that_goes_back_takes_nothing_away():
    allowance = Allowance(SLOW, 100_000.0)
    assert allowance.spend(1000, 0, 100_000.0) == 99_999.0
    assert allowance.spend(500, 0, 13_600.0) == 99_999.5
    assert allowance.spend(500, 0, 100_000.0) == 100_000.0


def holds(network):
    return [event for event in network.server_events if isinstance(event, HoldStream | ReleaseStream)]


def test_a_client_that_sends_too_many_bytes_is_read_again_once_they_are_paid_for():
    network = RelayNetwork(RelayLimits(bytes_per_s=1000.0, bytes_burst=2000.0))
    network.join("alice")
    network.join("bob")
    network.advance(10.0)
    network.send("alice", "bob", bytes(3000))
    assert len(network.received("bob")) == 1
    assert holds(network) == [HoldStream("alice")]
    network.advance(1.0)
    assert holds(network) == [HoldStream("alice")]
    network.advance(0.1)  # the frame's head is paid for, too
    assert holds(network) == [HoldStream("alice"), ReleaseStream("alice")]
    assert network.server.drops["client held up"] == 1
    network.send("bob", "alice", b"bob is not held up")
    assert len(network.received("alice")) == 1


def test_a_client_that_sends_too_many_packets_is_held_up_however_small_they_are():
    network = RelayNetwork(RelayLimits(packets_per_s=10.0, packets_burst=20.0))
    network.join("alice")
    bob = network.join("bob")
    network.advance(10.0)
    network.server.stream_data(
        "alice", build_packets(FrameType.SEND_PACKET, bob.public_key, [b"a"] * 21 + [b"bc"] * 4), network.now
    )
    network.settle()
    assert len(network.received("bob")) == 25
    network.advance(0.49)
    assert holds(network) == [HoldStream("alice")]
    network.advance(0.02)
    assert holds(network) == [HoldStream("alice"), ReleaseStream("alice")]


def test_frames_that_are_no_packets_count_as_packets():
    network = RelayNetwork(RelayLimits(packets_per_s=10.0, packets_burst=20.0))
    network.join("alice")
    network.server.stream_data("alice", build_frame(FrameType.NOTE_PREFERRED, b"\x01") * 30, network.now)
    network.settle()
    assert holds(network) == [HoldStream("alice")]


def test_what_still_arrives_from_a_client_that_is_held_up_prolongs_it():
    network = RelayNetwork(RelayLimits(bytes_per_s=1000.0, bytes_burst=2000.0))
    network.join("alice")
    network.join("bob")
    network.send("alice", "bob", bytes(3000))
    network.advance(0.5)
    network.send("alice", "bob", bytes(1000))
    network.advance(1.0)
    assert holds(network) == [HoldStream("alice")]
    network.advance(2.0)
    assert holds(network) == [HoldStream("alice"), ReleaseStream("alice")]


def test_a_stranger_that_uploads_a_body_without_end_is_held_up_as_well():
    server = RelayServer(random.Random(1), RelayLimits(bytes_per_s=1000.0, bytes_burst=2000.0))
    server.stream_accepted("stranger", "192.0.2.1", 5.0)
    head = b"GET /derp/probe HTTP/1.1\r\nHost: r\r\nContent-Length: 1000000000\r\n\r\n"
    server.stream_data("stranger", head + bytes(4000), 5.0)
    assert server.poll_event() == HoldStream("stranger")
    server.handle_timeout(15.0)
    assert server.stream_count == 0
    assert server.drops == {"client held up": 1, "handshake timeout": 1}


def test_handshakes_in_progress_are_limited_for_each_address():
    network = RelayNetwork(RelayLimits(handshakes_per_ip=2))
    network.join("alice", ip="192.0.2.7")
    for name in ("idle 1", "idle 2", "idle 3"):
        network.server.stream_accepted(name, "192.0.2.7", network.now)
    network.settle()
    assert network.closed_by_server == ["idle 3"]
    refused = ConnectionRefused("idle 3", "192.0.2.7", "too many handshakes from one address")
    assert network.server_events[-1] == refused
    assert network.join("bob", ip="192.0.2.8").connected
    network.server.stream_closed("idle 1", "", network.now)
    assert network.join("carol", ip="192.0.2.7").connected
    network.advance(10.0)
    assert network.server._handshakes_per_ip == {}


def test_how_much_waits_for_a_slow_reader_and_how_long_can_be_chosen():
    network = RelayNetwork(RelayLimits(queue_packets=3, unread_s=1.0))
    network.join("alice")
    network.join("slow")
    network.pause("slow")
    network.send("alice", "slow", *(b"%d" % number for number in range(5)))
    assert network.server.drops["queue full"] == 2
    network.advance(1.0)
    assert network.closed_by_server == ["slow"]


def test_when_too_many_do_not_read_those_of_longest_standing_are_closed_sooner():
    network = RelayNetwork(RelayLimits(unread_clients=2, unread_crowded_s=1.0))
    for name in ("first", "second", "third", "fourth", "fifth"):
        network.join(name)
    network.pause("first")
    network.pause("second")
    network.advance(0.5)
    network.pause("third")
    assert network.closed_by_server == []
    network.resume("second")
    network.advance(0.6)
    network.pause("fourth")
    network.settle()
    assert network.closed_by_server == ["first"]
    assert network.server_events[-1].reason == "took no bytes, as too many do not"
    network.pause("fifth")
    network.settle()
    assert network.closed_by_server == ["first"]
    assert network.server.drops["client does not read"] == 1
    network.leave("third")
    network.resume("fourth")
    network.resume("fifth")
    assert network.server._paused == {}


def test_who_reads_slowly_is_left_alone_while_few_do():
    network = RelayNetwork(RelayLimits(unread_clients=2))
    for name in ("first", "second"):
        network.join(name)
        network.pause(name)
    network.advance(29.0)
    assert network.closed_by_server == []
