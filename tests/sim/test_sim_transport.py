"""What the simulator's transport does beyond what `tests/core` asks of every transport."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.quic_pair import SERVER, START, STRANGER, Raw, TransportEnd, Wire

from peerway.core.demux import Kind, connection_id_of, split
from peerway.core.quic.events import ConnectionIdIssued, ConnectionIdRetired
from peerway.core.quic.transport import HandshakeCompleted, PipeReceived, TransportClosed, TransportEnded
from peerway.sim.transport.stand_in import SimTransports


def new_pair(seed=1, **link):
    return Raw(SimTransports(random.Random(seed)), seed=seed, **link)


def received(end):
    return b"".join(event.data for event in end.of(PipeReceived))


def goodbye(end):
    return end.of(TransportClosed)


# --- the handshake


def test_the_handshake_takes_the_round_trips_and_bytes_of_quic():
    pair = new_pair(delay=0.1)
    pair.keep = True
    assert pair.run(1, lambda: HandshakeCompleted() in pair.client.events)
    assert pair.now == pytest.approx(START + 0.2)
    assert [len(datagram) for datagram in pair.sent[:5]] == [1200, 1200, 1200, 1200, 502]
    assert pair.run(1, lambda: HandshakeCompleted() in pair.server.events)
    assert pair.now == pytest.approx(START + 0.3)


def test_datagrams_look_like_quic_and_go_to_announced_ids():
    pair = new_pair()
    pair.keep = True
    pair.connect()
    pair.client.transport.send(bytes(3000))
    pair.run(1)
    assert {kind for datagram in pair.sent for kind, _, _ in split(datagram, 0)} == {Kind.QUIC}
    announced = {
        connection_id
        for end in (pair.client, pair.server)
        for connection_id in (
            *end.transport.connection_ids,
            *(event.connection_id for event in end.of(ConnectionIdIssued)),
        )
    }
    assert len(announced) == 5
    assert {connection_id_of(datagram) for datagram in pair.sent} <= announced
    dialled = pair.client.transport.original_destination_connection_id
    assert pair.server.of(ConnectionIdRetired) == [ConnectionIdRetired(dialled)]


def test_a_connection_id_is_never_given_twice():
    factory = SimTransports(random.Random(1))
    ids = [factory.new_connection_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {len(connection_id) for connection_id in ids} == {8}


def test_flights_that_are_lost_go_again():
    pair = new_pair()
    pair.loss = 1.0
    pair.run(0.6)
    pair.loss = 0.0
    assert pair.run(1, lambda: HandshakeCompleted() in pair.server.events)
    assert pair.now == pytest.approx(START + 0.666 + 0.06)


def test_a_flight_of_which_a_part_is_lost_is_no_flight():
    pair = new_pair()
    pair.spoil = lambda datagram: None if pair.datagrams == 1 else datagram
    pair.run(0.6)
    assert pair.datagrams == 2
    assert pair.run(1, lambda: HandshakeCompleted() in pair.server.events)


def test_a_client_without_anything_to_say_still_tells_the_server_that_it_has_the_keys():
    pair = new_pair()
    pair.spoil = lambda datagram: None if pair.datagrams == 6 else datagram
    assert pair.run(1, lambda: HandshakeCompleted() in pair.server.events)
    assert pair.client.of(HandshakeCompleted) == pair.server.of(HandshakeCompleted) == [HandshakeCompleted()]


def test_whoever_answers_in_the_servers_place_shows_its_own_key():
    factory = SimTransports(random.Random(1))
    client = TransportEnd(factory.dial(START))
    dialled = client.transport.original_destination_connection_id
    stranger = TransportEnd(factory.accept(STRANGER, dialled, START))
    server = TransportEnd(factory.accept(SERVER, dialled, START))
    flight = [segment for group in client.drain(START) for segment in group]
    for segment in flight:
        server.receive(segment, 0, START)
    Wire(client, stranger).settle()
    for segment in flight:
        stranger.receive(segment, 0, START)
    wire = Wire(client, stranger)
    assert wire.run(5, lambda: HandshakeCompleted() in stranger.events)
    assert client.transport.peer_certificate_key() == STRANGER.node_id.public
    assert client.transport.take_binding_secret() == stranger.transport.take_binding_secret()
    secret = server.transport.take_binding_secret()
    assert secret not in (b"", client.transport._binding_secret)


# --- what is lost, late, or somebody else's


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_everything_arrives_although_a_third_is_lost_both_ways(seed):
    pair = new_pair(seed, loss=0.3)
    assert pair.run(60, lambda: HandshakeCompleted() in pair.server.events)
    rng = random.Random(seed)
    up, down = rng.randbytes(200_000), rng.randbytes(200_000)
    pair.client.transport.send(up)
    pair.server.transport.send(down)
    assert pair.run(300, lambda: received(pair.server) == up and received(pair.client) == down)
    assert pair.client.transport.drops == pair.server.transport.drops == {}


def test_everything_arrives_in_order_although_the_network_does_not_keep_it():
    pair = new_pair().connect()
    rng = random.Random(1)
    carry = pair._carry

    def shaken(segment, other):
        pair.delay = rng.uniform(0.001, 0.1)
        carry(segment, other)

    pair._carry = shaken
    data = rng.randbytes(300_000)
    pair.client.transport.send(data)
    assert pair.run(60, lambda: received(pair.server) == data)


def test_a_replayed_datagram_is_dropped_and_counted():
    pair = new_pair()
    pair.keep = True
    pair.connect()
    pair.client.transport.send(bytes(5000))
    pair.run(1)
    heard, sent = list(pair.server.events), list(pair.sent)
    pair.sent.clear()
    for datagram in sent:
        pair.server.receive(datagram, 0, pair.now)
    pair.run(1)
    assert pair.server.events == heard
    assert pair.sent == []
    assert sum(pair.server.transport.drops.values()) == len(sent)
    assert set(pair.server.transport.drops) == {"quic: replayed", "quic: not authentic"}


def test_a_reflected_datagram_is_dropped():
    pair = new_pair()
    pair.keep = True
    pair.connect()
    heard = list(pair.client.events)
    for datagram in (pair.sent[0], pair.sent[-1]):
        pair.client.receive(datagram, 0, pair.now)
    assert pair.client.events == heard
    assert pair.client.transport.drops == {"quic: not authentic": 2}


def test_an_altered_datagram_is_dropped_whatever_byte_it_is():
    pair = new_pair()
    pair.keep = True
    pair.connect()
    pair.client.transport.send(b"hello")
    pair.run(1)
    heard = list(pair.server.events)
    for datagram in (pair.sent[0], pair.sent[-2]):
        for position in range(0, len(datagram), 7):
            altered = bytearray(datagram)
            altered[position] ^= 0x20
            pair.server.receive(bytes(altered), 0, pair.now)
        pair.server.receive(datagram[:-1], 0, pair.now)
    pair.run(1)
    assert pair.server.events == heard
    assert set(pair.server.transport.drops) == {"quic: not authentic"}


def test_a_network_that_alters_every_tenth_datagram_only_slows_it():
    pair = new_pair()
    pair.spoil = lambda datagram: datagram[:-1] + b"?" if pair.datagrams % 10 == 0 else datagram
    pair.connect()
    data = random.Random(2).randbytes(200_000)
    pair.client.transport.send(data)
    assert pair.run(60, lambda: received(pair.server) == data)
    assert pair.server.transport.drops["quic: not authentic"] > 10


@given(data=st.binary(max_size=80), first=st.sampled_from([0x00, 0x40, 0xC0]))
def test_any_bytes_are_dropped_without_an_answer(data, first):
    pair = new_pair()
    for end in (pair.client, pair.server):
        pair.settle()
        pair.datagrams = 0
        end.receive(bytes([first]) + data, 0, pair.now)
        pair.settle()
        assert sum(end.transport.drops.values()) == 1
        assert pair.datagrams == 0


def test_who_relays_sees_nothing_of_what_is_said():
    pair = new_pair()
    pair.keep = True
    pair.connect()
    pair.client.transport.send(b"a secret of ours" * 1000)
    pair.run(5)
    assert received(pair.server) == b"a secret of ours" * 1000
    assert not any(b"a secret" in datagram for datagram in pair.sent)
    assert not any(SERVER.node_id.public in datagram for datagram in pair.sent)


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others():
    def bytes_of(seed):
        pair = new_pair(seed)
        pair.keep = True
        pair.run(1)
        pair.client.transport.send(bytes(50_000))
        pair.client.transport.ping()
        pair.run(5)
        pair.client.transport.close(3, "done")
        pair.run(5)
        return pair.sent

    assert bytes_of(1) == bytes_of(1)
    assert not set(bytes_of(1)) & set(bytes_of(2))


# --- silence


def test_nothing_is_sent_when_nothing_is_outstanding():
    pair = new_pair().connect()
    pair.client.transport.send(bytes(10_000))
    pair.run(5)
    sent = pair.datagrams
    assert pair.client.transport.deadline() is None
    assert pair.server.transport.deadline() is None
    pair.run(3600)
    assert pair.datagrams == sent


def test_a_peer_that_is_silent_is_probed_ever_more_seldom_until_a_ping_ends_that():
    pair = new_pair().connect()
    pair.client.transport.send(bytes(100_000))
    pair.run(0.1)
    pair.loss, pair.datagrams = 1.0, 0
    pair.run(300)
    assert 5 < pair.datagrams < 120
    silent = pair.datagrams
    pair.loss = 0.0
    pair.client.transport.ping()
    pair.run(0.05)
    assert pair.datagrams > silent
    assert pair.run(1, lambda: len(received(pair.server)) == 100_000)


# --- the end


def test_a_goodbye_that_was_lost_is_repeated_to_a_peer_that_goes_on_talking():
    pair = new_pair().connect()
    pair.run(1)
    pair.server.transport.send(bytes(100_000))
    pair.run(0.01)
    pair.spoil = lambda datagram: None if len(datagram) < 100 else datagram
    pair.client.transport.close(5, "no more")
    pair.settle()
    pair.spoil = lambda datagram: datagram
    assert pair.run(1, lambda: bool(goodbye(pair.server)))
    assert goodbye(pair.server) == [TransportClosed(5, "no more", by_peer=True, is_application=True)]
    assert pair.run(5, lambda: TransportEnded() in pair.client.events)
    pair.client.receive(b"late", 0, pair.now)
    assert pair.client.transport.drops == {"quic: after the end": 1}


def test_two_goodbyes_that_cross_end_both_without_another_word():
    pair = new_pair().connect()
    pair.run(1)
    pair.datagrams = 0
    pair.client.transport.close(1, "")
    pair.server.transport.close(2, "")
    pair.run(10)
    assert pair.datagrams == 2
    assert goodbye(pair.client) == goodbye(pair.server) == []
    assert TransportEnded() in pair.client.events
    assert TransportEnded() in pair.server.events


def test_a_client_that_gives_up_in_the_handshake_tells_the_server():
    pair = new_pair()
    pair.run(0.03)
    pair.client.transport.close(7, "never mind")
    pair.run(0.1)
    assert goodbye(pair.server) == [TransportClosed(7, "never mind", by_peer=True, is_application=True)]


def test_a_server_that_gives_up_in_the_handshake_tells_the_client():
    pair = new_pair()
    pair.run(0.03)
    pair.server.transport.close(8, "not today")
    pair.run(0.1)
    assert goodbye(pair.client) == [TransportClosed(8, "not today", by_peer=True, is_application=True)]


def test_a_server_nobody_dialled_ends_without_a_word():
    pair = new_pair()
    pair.server.transport.close(8, "not today")
    assert pair.server.transport.next_event() == TransportEnded()
    assert pair.server.transport.transmits(START) == []


def test_what_is_done_after_the_close_does_nothing():
    pair = new_pair().connect()
    pair.run(1)
    pair.client.transport.close(1, "")
    pair.client.transport.close(2, "again")
    pair.client.transport.send(b"too late")
    pair.client.transport.ping()
    assert pair.client.transport.backlog() == 0
    pair.run(5)
    assert [event.code for event in goodbye(pair.server)] == [1]
    assert received(pair.server) == b""
