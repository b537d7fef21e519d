"""The client machine and the server machine, back to back."""

import random
from dataclasses import replace

import pytest
from tests.core.relay_network import URL, RelayNetwork, private_key

from peerway.core.machine import CloseStream
from peerway.core.relay.client import (
    PeerGone,
    RelayClient,
    RelayConnected,
    RelayDisconnected,
    RelayHealthChanged,
    RelayRestarting,
)
from peerway.core.relay.frames import (
    FrameType,
    PeerGoneReason,
    build_frame,
    build_packets,
    build_ping,
    build_pong,
)
from peerway.core.relay.limits import HoldStream, RelayLimits, ReleaseStream
from peerway.core.relay.server import ClientConnected, ClientDisconnected, ConnectionRefused


def key_of(name):
    return RelayClient(URL, name, private_key(name), random.Random(0)).public_key


def test_a_client_connects_and_both_sides_know():
    network = RelayNetwork()
    alice = network.join("alice", ip="192.0.2.9")
    assert alice.connected
    assert alice.events == [RelayConnected("alice")]
    assert network.server_events == [ClientConnected("alice", "192.0.2.9", alice.public_key)]
    assert (network.server.client_count, network.server.stream_count) == (1, 1)


def test_packets_go_both_ways_and_name_their_sender():
    network = RelayNetwork()
    alice, bob = network.join("alice"), network.join("bob")
    network.send("alice", "bob", b"one", b"two", b"")
    network.send("bob", "alice", b"three")
    assert network.received("bob") == [
        (alice.public_key, b"one"),
        (alice.public_key, b"two"),
        (alice.public_key, b""),
    ]
    assert network.received("alice") == [(bob.public_key, b"three")]


def test_a_client_can_send_to_itself():
    network = RelayNetwork()
    alice = network.join("alice")
    network.send("alice", "alice", b"hello")
    assert network.received("alice") == [(alice.public_key, b"hello")]


def test_packets_of_one_read_for_one_destination_become_one_write():
    network = RelayNetwork()
    alice, bob, carol = network.join("alice"), network.join("bob"), network.join("carol")
    network.writes_to.clear()
    mixed = b"".join(
        build_packets(FrameType.SEND_PACKET, key, [b"%d" % number])
        for number, key in enumerate([bob.public_key, carol.public_key] * 3)
    )
    network.server.stream_data("alice", mixed, network.now)
    network.settle()
    assert len(network.writes_to["bob"]) == 1
    assert len(network.writes_to["carol"]) == 1
    assert [packet for _, packet in network.received("bob")] == [b"0", b"2", b"4"]
    assert [packet for _, packet in network.received("carol")] == [b"1", b"3", b"5"]
    assert alice.events == [RelayConnected("alice")]


def test_consecutive_packets_of_one_source_are_one_event():
    network = RelayNetwork()
    bob = network.join("bob")
    one, two = b"1" * 32, b"2" * 32
    bob.stream_data(
        build_packets(FrameType.RECV_PACKET, one, [b"a", b"b"])
        + build_packets(FrameType.RECV_PACKET, two, [b"c"])
        + build_packets(FrameType.RECV_PACKET, one, [b"d"])
        + build_frame(FrameType.KEEP_ALIVE)
        + build_packets(FrameType.RECV_PACKET, one, [b"e"]),
        network.now,
    )
    network.settle()
    assert [(event.source_key, event.packets) for event in bob.events[1:]] == [
        (one, (b"a", b"b")),
        (two, (b"c",)),
        (one, (b"d",)),
        (one, (b"e",)),
    ]


def test_the_largest_packet_passes():
    network = RelayNetwork()
    alice, _ = network.join("alice"), network.join("bob")
    packet = random.Random(2).randbytes(65536)
    network.send("alice", "bob", packet)
    assert network.received("bob") == [(alice.public_key, packet)]


def test_a_packet_past_the_limit_raises_at_the_sender():
    network = RelayNetwork()
    network.join("alice")
    with pytest.raises(ValueError, match="65537"):
        network.send("alice", "alice", bytes(65537))


def test_packets_sent_while_connecting_follow_the_introduction():
    network = RelayNetwork()
    network.join("bob")
    alice = RelayClient(URL, "alice", private_key("alice"), random.Random(3))
    alice.send_packet(key_of("bob"), [b"early"], network.now)
    alice.events = []
    network.clients["alice"] = alice
    network.server.stream_accepted("alice", "192.0.2.1", network.now)
    alice.stream_opened(network.now)
    network.settle()
    assert network.received("bob") == [(alice.public_key, b"early")]


def test_the_newest_of_two_connections_with_one_key_wins():
    network = RelayNetwork()
    old = network.join("old", key=private_key("same"))
    bob = network.join("bob")
    network.send("old", "bob", b"x")
    new = network.join("new", key=private_key("same"))
    assert old.events[1:] == [
        RelayHealthChanged("old", "replaced by a newer connection with the same key"),
        RelayDisconnected("old", "replaced by a newer connection with the same key"),
    ]
    assert new.connected
    network.send("bob", "new", b"to the newest")
    assert network.received("new") == [(bob.public_key, b"to the newest")]
    assert network.received("old") == []
    assert network.events("bob", PeerGone) == []
    assert network.server.client_count == 2
    assert ClientDisconnected("old", "192.0.2.1", old.public_key, "replaced by a newer connection") in (
        network.server_events
    )


def test_who_exchanged_packets_with_either_connection_is_told_when_the_newest_leaves():
    network = RelayNetwork()
    old = network.join("old", key=private_key("same"))
    network.join("bob")
    network.send("old", "bob", b"x")
    network.join("new", key=private_key("same"))
    network.leave("new")
    assert network.events("bob", PeerGone) == [PeerGone("bob", old.public_key, PeerGoneReason.DISCONNECTED)]


def test_both_ends_of_an_exchange_are_told_when_the_other_leaves_and_nobody_else():
    network = RelayNetwork()
    alice = network.join("alice")
    for name in ("sent-to", "sent-by", "stranger"):
        network.join(name)
    network.send("alice", "sent-to", b"x")
    network.send("sent-by", "alice", b"x")
    network.leave("alice", "connection reset")
    gone = PeerGoneReason.DISCONNECTED
    assert network.events("sent-to", PeerGone) == [PeerGone("sent-to", alice.public_key, gone)]
    assert network.events("sent-by", PeerGone) == [PeerGone("sent-by", alice.public_key, gone)]
    assert network.events("stranger", PeerGone) == []
    assert network.server_events[-1] == ClientDisconnected(
        "alice", "192.0.2.1", alice.public_key, "connection reset"
    )


def test_a_peer_that_left_is_told_of_once():
    network = RelayNetwork()
    network.join("alice")
    network.join("bob")
    network.send("alice", "bob", b"x")
    network.leave("alice")
    network.join("alice")
    network.leave("alice")
    assert len(network.events("bob", PeerGone)) == 1


def test_sending_to_nobody_is_answered_at_most_once_a_second_for_each_destination():
    network = RelayNetwork()
    alice = network.join("alice")
    nobody, noone = b"n" * 32, b"m" * 32
    for _ in range(3):
        alice.send_packet(nobody, [b"x", b"y"], network.now)
        alice.send_packet(noone, [b"x"], network.now)
        network.settle()
    not_here = PeerGoneReason.NOT_HERE
    assert network.events("alice", PeerGone) == [
        PeerGone("alice", nobody, not_here),
        PeerGone("alice", noone, not_here),
    ]
    network.advance(1.0)
    alice.send_packet(nobody, [b"x"], network.now)
    network.settle()
    assert network.events("alice", PeerGone)[2:] == [PeerGone("alice", nobody, not_here)]
    assert network.server.drops["destination not here"] == 10


def test_a_scan_for_keys_is_answered_for_256_destinations_a_second():
    network = RelayNetwork()
    alice = network.join("alice")
    for second in range(2):
        for number in range(300):
            alice.send_packet((1000 * second + number).to_bytes(32, "big"), [b"x"], network.now)
        network.settle()
        assert len(network.events("alice", PeerGone)) == 256 * (second + 1)
        network.advance(1.0)


def test_only_so_many_correspondents_are_remembered():
    network = RelayNetwork(RelayLimits(per_ip=2000))
    alice = network.join("alice")
    network.join("first")
    network.send("alice", "first", b"x")
    session = network.server._by_key[alice.public_key]
    for number in range(1024):
        session.meet(number.to_bytes(32, "big"))
    assert len(session.correspondents) == 1024
    network.leave("alice")
    assert network.events("first", PeerGone) == []


# --- slow readers


def test_a_slow_reader_gets_the_newest_512_packets_and_the_rest_is_counted():
    network = RelayNetwork()
    network.join("alice")
    network.join("slow")
    network.join("bob")
    network.pause("slow")
    network.send("alice", "slow", *(b"%d" % number for number in range(600)))
    network.send("alice", "bob", b"unharmed")
    assert network.received("slow") == []
    assert network.received("bob") == [(key_of("alice"), b"unharmed")]
    network.resume("slow")
    assert [packet for _, packet in network.received("slow")] == [b"%d" % number for number in range(88, 600)]
    assert network.server.drops["queue full"] == 88
    network.send("alice", "slow", b"as before")
    assert network.received("slow")[-1] == (key_of("alice"), b"as before")


def test_a_slow_reader_holds_at_most_a_mebibyte():
    network = RelayNetwork()
    network.join("alice")
    network.join("slow")
    network.pause("slow")
    for number in range(40):
        network.send("alice", "slow", bytes([number]) * 50_000)
    network.resume("slow")
    # 20 frames of 50,037 bytes fit into 1,048,576.
    assert [packet[0] for _, packet in network.received("slow")] == list(range(20, 40))
    assert network.server.drops["queue full"] == 20


def test_a_reader_paused_for_30_seconds_is_closed():
    network = RelayNetwork()
    slow = network.join("slow")
    network.pause("slow")
    network.advance(29.9)
    assert network.closed_by_server == []
    network.advance(0.2)
    assert network.closed_by_server == ["slow"]
    assert network.server_events[-2:] == [
        CloseStream("slow"),
        ClientDisconnected("slow", "192.0.2.1", slow.public_key, "took no bytes for 30 s"),
    ]
    assert network.server.drops["client does not read"] == 1


def test_a_reader_that_resumes_in_time_stays():
    network = RelayNetwork()
    network.join("slow")
    for _ in range(3):
        network.pause("slow")
        network.advance(29.0)
        network.resume("slow")
    assert network.closed_by_server == []


def test_a_paused_client_keeps_the_newest_512_packets():
    network = RelayNetwork()
    alice = network.join("alice")
    network.join("bob")
    alice.stream_paused(network.now)
    network.send("alice", "bob", *(b"%d" % number for number in range(600)))
    assert network.received("bob") == []
    alice.stream_resumed(network.now)
    network.settle()
    assert [packet for _, packet in network.received("bob")] == [b"%d" % number for number in range(88, 600)]
    assert alice.drops["queue full"] == 88


def test_a_client_whose_stream_stays_paused_gives_up():
    network = RelayNetwork()
    alice = network.join("alice")
    alice.stream_paused(network.now)
    network.advance(30.0)
    assert alice.events[-1] == RelayDisconnected("alice", "the relay took no bytes for 30 s")


# --- keeping alive


def test_keep_alives_come_every_60_seconds_give_or_take_5():
    network = RelayNetwork()
    network.join("alice")
    network.writes_to.clear()
    network.advance(54.9)
    assert network.writes_to == {}
    network.advance(600.0)
    assert 9 <= len(network.writes_to["alice"]) <= 12
    assert set(network.writes_to["alice"]) == {b"\x06\x00\x00\x00\x00"}
    assert network.clients["alice"].connected


def test_a_paused_stream_gets_no_keep_alive():
    network = RelayNetwork()
    network.join("alice")
    network.writes_to.clear()
    network.advance(54.0)
    network.pause("alice")
    network.advance(12.0)
    network.resume("alice")
    assert network.writes_to == {}


def test_a_server_silent_for_longer_than_an_interval_is_asked_whether_it_is_there():
    network = RelayNetwork()
    alice = network.join("alice")
    network.server.handle_timeout = lambda now: None
    network.server.poll_deadline = lambda: None
    network.advance(250.0)
    assert alice.connected
    network.server.stream_data = lambda stream, data, now: None
    network.advance(31.0)
    assert alice.connected
    network.advance(2.0)
    assert alice.events[-1] == RelayDisconnected("alice", "the relay did not answer for 2 s")


def test_a_server_that_was_silent_for_two_intervals_while_we_slept_is_dead():
    network = RelayNetwork()
    alice = network.join("alice")
    alice.handle_timeout(network.now + 121.0)
    assert alice.poll_event() == CloseStream("alice")
    assert alice.poll_event() == RelayDisconnected("alice", "the relay was silent for 120 s")


def test_anything_heard_counts_as_life():
    network = RelayNetwork()
    alice = network.join("alice")
    network.server.handle_timeout = lambda now: None
    network.server.poll_deadline = lambda: None
    for _ in range(5):
        network.advance(100.0)
        network.send("alice", "alice", b"x")
    assert alice.connected


@pytest.mark.parametrize("paused", [False, True])
def test_pings_are_answered_by_both_ends(paused):
    network = RelayNetwork()
    alice = network.join("alice")
    network.writes_to.clear()
    if paused:
        network.pause("alice")
        alice.stream_paused(network.now)
    network.server.stream_data("alice", build_frame(FrameType.PING, b"12345678"), network.now)
    alice.stream_data(build_frame(FrameType.PING, b"abcdefgh and more"), network.now)
    if paused:
        network.settle()
        assert network.writes_to == {}
        network.resume("alice")
        alice.stream_resumed(network.now)
    assert alice.poll_transmit().data == build_frame(FrameType.PONG, b"abcdefgh")
    network.settle()
    assert network.writes_to["alice"] == [build_frame(FrameType.PONG, b"12345678")]


def test_a_flood_of_pings_is_answered_four_at_a_read():
    network = RelayNetwork()
    alice = network.join("alice")
    network.writes_to.clear()
    flood = build_frame(FrameType.PING, b"12345678") * 10
    alice.stream_data(flood, network.now)
    network.server.stream_data("alice", flood, network.now)
    network.settle()
    assert len(network.writes_to["alice"]) == 4
    assert network.server.drops["too many pings"] == 6
    assert alice.drops["too many pings"] == 6


# --- who gets in


def test_a_key_that_is_not_allowed_is_told_so_and_closed():
    network = RelayNetwork(allow=lambda key: key == key_of("alice"))
    assert network.join("alice").connected
    mallory = network.join("mallory")
    assert mallory.events == [
        RelayHealthChanged("mallory", "this relay does not admit this key"),
        RelayDisconnected("mallory", "this relay does not admit this key"),
    ]
    assert network.server_events[-1] == ConnectionRefused("mallory", "192.0.2.1", "key not admitted")
    assert network.server.client_count == 1


def test_a_check_that_raises_or_answers_something_else_admits_nobody():
    def broken(key):
        raise OSError("the directory does not answer")

    assert not RelayNetwork(allow=broken).join("alice").connected
    assert not RelayNetwork(allow=lambda key: "yes").join("alice").connected


def test_nobody_with_a_key_that_is_not_allowed_evicts_or_reaches_anyone():
    allowed = [True]
    network = RelayNetwork(allow=lambda key: allowed[0])
    old = network.join("old", key=private_key("same"))
    allowed[0] = False
    new = RelayClient(URL, "new", private_key("same"), random.Random(5))
    new.send_packet(old.public_key, [b"early"], network.now)
    new.events = []
    network.clients["new"] = new
    network.server.stream_accepted("new", "192.0.2.1", network.now)
    new.stream_opened(network.now)
    network.settle()
    assert old.connected
    assert network.received("old") == []


def test_a_full_relay_refuses_new_keys_but_not_those_inside():
    network = RelayNetwork(RelayLimits(clients=2))
    network.join("alice")
    network.join("bob")
    carol = network.join("carol")
    assert carol.events[-1] == RelayDisconnected("carol", "this relay is full")
    assert network.join("bob again", key=private_key("bob")).connected
    assert network.server.client_count == 2
    assert network.server.drops["too many clients"] == 1


@pytest.mark.parametrize(
    ("ips", "counted_together"),
    [
        (("192.0.2.1", "192.0.2.1", "192.0.2.1"), True),
        (("192.0.2.1", "192.0.2.2", "192.0.2.3"), False),
        (("2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::1"), True),
        (("2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:2::1"), False),
        (("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"), True),
        (("fe80::1%eth0", "fe80::2%eth0", "fe80::3%eth0"), True),
        (("127.0.0.1", "127.0.0.1", "127.0.0.1"), False),
        (("::1", "::1", "::1"), False),
    ],
)
def test_streams_are_limited_per_address_or_ipv6_site(ips, counted_together):
    network = RelayNetwork(RelayLimits(per_ip=2))
    for number, ip in enumerate(ips):
        network.join(f"client {number}", ip=ip)
    assert network.server.stream_count == (2 if counted_together else 3)
    assert network.server.drops["too many connections from one address"] == int(counted_together)
    if counted_together:
        network.leave("client 0")
        network.join("client 4", ip=ips[0])
        assert network.server.stream_count == 2


def test_handshakes_in_progress_are_limited():
    network = RelayNetwork(RelayLimits(handshakes=2))
    network.join("alice")
    for name in ("idle 1", "idle 2", "idle 3"):
        network.server.stream_accepted(name, "192.0.2.1", network.now)
    network.settle()
    assert network.closed_by_server == ["idle 3"]
    assert network.server_events[-1] == ConnectionRefused("idle 3", "192.0.2.1", "too many handshakes")
    network.advance(10.0)
    assert network.join("bob").connected


def test_a_stream_name_is_used_once():
    network = RelayNetwork()
    network.join("alice")
    with pytest.raises(ValueError, match="alice"):
        network.server.stream_accepted("alice", "192.0.2.1", network.now)


def test_what_concerns_streams_that_are_over_is_ignored():
    network = RelayNetwork()
    network.server.stream_data("never", b"x", network.now)
    network.server.stream_closed("never", "", network.now)
    network.server.stream_paused("never", network.now)
    network.server.stream_resumed("never", network.now)
    assert network.server.poll_event() is None
    assert network.server.poll_transmit() is None


# --- the end


def test_a_draining_server_delivers_what_waits_says_when_to_come_back_and_closes():
    network = RelayNetwork()
    network.join("alice")
    network.join("bob")
    network.server.stream_accepted("undecided", "192.0.2.1", network.now)
    network.pause("bob")
    network.send("alice", "bob", b"accepted")
    network.server.drain(network.now)
    network.settle()
    assert network.received("bob") == [(key_of("alice"), b"accepted")]
    for name in ("alice", "bob"):
        (restarting,) = network.events(name, RelayRestarting)
        assert 0 <= restarting.reconnect_in <= 2.0
        assert restarting.try_for == 5.0
        assert network.events(name, RelayDisconnected)
        assert network.events(name, PeerGone) == []
    assert sorted(network.closed_by_server) == ["alice", "bob", "undecided"]
    assert network.server.stream_count == 0
    network.server.stream_accepted("late", "192.0.2.1", network.now)
    network.settle()
    assert network.server_events[-1] == ConnectionRefused("late", "192.0.2.1", "shutting down")


def drained(server):
    """What a server wrote to each stream, and which it closed."""
    written, closed = {}, []
    while (output := server.poll_transmit()) is not None:
        written[output.stream] = written.get(output.stream, b"") + output.data
    while (event := server.poll_event()) is not None:
        closed += [event.stream] if isinstance(event, CloseStream) else []
    return written, closed


def test_a_client_is_let_go_when_it_says_that_it_has_everything_and_what_it_sends_meanwhile_is_counted():
    network = RelayNetwork()
    alice, bob = network.join("alice"), network.join("bob")
    network.server.drain(network.now)
    written, closed = drained(network.server)
    assert sorted(written) == ["alice", "bob"]
    assert closed == []
    ping = written["alice"][-8:]
    assert written["alice"].endswith(build_ping(ping))
    late = build_packets(FrameType.SEND_PACKET, bob.public_key, [b"late", b"later"])
    network.server.stream_data("alice", build_pong(bytes(8)) + late, network.now)
    assert drained(network.server) == ({}, [])
    network.server.stream_data("alice", late + build_pong(ping) + build_ping(bytes(8)), network.now)
    assert drained(network.server) == ({}, ["alice"])
    assert network.server.drops == {"shutting down": 4}
    assert network.server.client_count == 1
    assert alice.connected


def test_a_client_that_was_held_up_is_read_again_at_the_end():
    network = RelayNetwork(RelayLimits(bytes_per_s=1000.0, bytes_burst=2000.0))
    network.join("alice")
    network.join("bob")
    network.clients["alice"].send_packet(key_of("bob"), [bytes(5000)], network.now)
    network.settle()
    assert network.server_events[-1] == HoldStream("alice")
    network.server.drain(network.now)
    network.settle()
    assert ReleaseStream("alice") in network.server_events
    assert network.server.stream_count == 0


def test_a_client_that_closes_says_why_and_is_forgotten():
    network = RelayNetwork()
    alice = network.join("alice")
    alice.close("no longer needed", network.now)
    alice.close("twice", network.now)
    network.settle()
    assert alice.events[1:] == [CloseStream("alice"), RelayDisconnected("alice", "no longer needed")]
    assert network.server.client_count == 0
    alice.send_packet(alice.public_key, [b"late"], network.now)
    alice.stream_data(b"late", network.now)
    alice.stream_paused(network.now)
    alice.stream_resumed(network.now)
    network.settle()
    assert alice.drops == {"relay connection closed": 1, "data on a stream that is not open": 1}
    assert alice.poll_deadline() is None


def test_the_same_seed_and_inputs_give_the_same_bytes():
    def run():
        network = RelayNetwork(seed=7)
        network.join("alice")
        network.join("bob")
        network.send("alice", "bob", b"x")
        network.advance(500.0)
        network.leave("alice")
        return network.writes_to, network.server_events

    assert run() == run()


def test_after_a_drain_every_deadline_lies_in_the_future():
    network = RelayNetwork()
    network.join("alice")
    network.server.stream_accepted("idle", "192.0.2.1", network.now)
    network.settle()
    for _ in range(20):
        deadline = network.server.poll_deadline()
        assert deadline.at > network.now
        assert deadline.reason.startswith("relay: ")
        network.now = deadline.at
        network.server.handle_timeout(network.now)
        network.settle()


def test_limits_are_values():
    assert replace(RelayLimits(), clients=1) == RelayLimits(clients=1)
