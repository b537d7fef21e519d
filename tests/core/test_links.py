"""Hellos by the dozen, given to the links of one node."""

import random

import pytest

from peerway.core import link_table
from peerway.core.budget import ProbeBudget
from peerway.core.demux import Kind
from peerway.core.identity import SecretKey
from peerway.core.link import LinkClosed
from peerway.core.link_table import MAX_PENDING, MAX_PENDING_PER_PEER, MAX_PENDING_PER_SOURCE
from peerway.core.links import MAX_SPENT_SECRETS, LinkEvent, Links, TooManyConnections
from peerway.core.machine import RelayAddress, UdpAddress
from peerway.core.path.candidate import Candidate, CandidateKind
from peerway.core.signal.door import Admission
from peerway.core.signal.message import Birth, Body, Signal, build, parse
from peerway.sim.transport.stand_in import SimTransports

US = SecretKey(b"\x01" * 32)
TICKET = b"t" * 16
NOT_TOLD = Birth()
RELAY = RelayAddress("http://relay", b"k" * 32)


class Bench:
    def __init__(self):
        self.rng = random.Random(1)
        transports = SimTransports(self.rng)
        self.links = Links(US, Admission(secret=TICKET), ProbeBudget(), self.rng, transports)
        self.now = 0.0

    def hello(self, sender, number, born=NOT_TOLD):
        """The `number`-th hello of a sender, as it would be recorded."""
        secret = bytes([number]) * 32
        body = Body(dial=b"dial %d" % number, admission=TICKET, born=born)
        signal = Signal(sender.node_id, US.node_id, secret, b"", 1, body)
        return build(signal, sender.shared_with(US.node_id.box_public()), self.rng)

    def arrive(self, data, source):
        self.now += 0.01
        self.links.receive(Kind.SIGNAL, data, 0, None, source, self.now)

    def answer_of(self, sender):
        """The last signal that was sent to `sender`."""
        found = None
        while (transmit := self.links.poll_transmit()) is not None:
            for segment in transmit.segments:
                if segment[0] == 4:
                    try:
                        found = parse(segment, sender, sender.shared_with(US.node_id.box_public()))
                    except ValueError:
                        continue
        return found

    def prove(self, sender, answer, number, source):
        """The sender of hello `number` echoes our secret."""
        signal = Signal(sender.node_id, US.node_id, bytes([number]) * 32, answer.secret, 2, Body(index=7))
        self.arrive(build(signal, sender.shared_with(US.node_id.box_public()), self.rng), source)

    def closed(self):
        out = []
        while (event := self.links.poll_event()) is not None:
            if isinstance(event, LinkEvent) and isinstance(event.event, LinkClosed):
                out.append((event.link, event.event.reason))
        return out

    @property
    def pending(self):
        return list(self.links._table._pending)


PEER = SecretKey(b"\x02" * 32)


@pytest.mark.parametrize("same_source", [False, True])
def test_old_hellos_replayed_do_not_keep_their_sender_out(same_source):
    bench = Bench()
    for number in range(20):
        elsewhere = UdpAddress("192.0.2.66", 1 + number)
        bench.arrive(bench.hello(PEER, number), RELAY if same_source else elsewhere)
    assert len(bench.pending) == MAX_PENDING_PER_PEER == MAX_PENDING_PER_SOURCE == 8
    bench.arrive(bench.hello(PEER, 100), RELAY)
    assert bench.answer_of(PEER).echo == bytes([100]) * 32
    assert bench.pending == list(range(14, 22))
    assert bench.closed() == [(number, "it gave way to a newer one") for number in range(1, 14)]


def test_who_has_proven_to_be_there_does_not_give_way_to_hellos():
    bench = Bench()
    bench.arrive(bench.hello(PEER, 1), RELAY)
    bench.prove(PEER, bench.answer_of(PEER), 1, RELAY)
    for number in range(2, 40):
        bench.arrive(bench.hello(PEER, number), RELAY)
    assert bench.pending[0] == 1
    assert len(bench.pending) == MAX_PENDING_PER_PEER


def test_a_flood_of_many_senders_does_not_keep_others_out():
    bench = Bench()
    for number in range(300):
        bench.now += 0.1
        sender = SecretKey(number.to_bytes(32, "big"))
        bench.arrive(bench.hello(sender, 1), RelayAddress("http://relay", sender.seed))
        assert len(bench.pending) <= MAX_PENDING
    bench.arrive(bench.hello(PEER, 1), RELAY)
    assert bench.answer_of(PEER).echo == bytes([1]) * 32
    assert len(bench.pending) == MAX_PENDING == 256


def test_however_many_kinds_of_nonsense_come_the_reasons_are_few():
    bench = Bench()
    for size in range(1, 3000, 7):
        bench.arrive(b"\x04" + bench.rng.randbytes(size), RELAY)
    for number in range(50):
        bench.now += 1.0
        nowhere = Candidate(CandidateKind.HOST, UdpAddress(f"nowhere {number}", 1))
        body = Body(dial=b"dial", admission=TICKET, candidates=(nowhere,))
        signal = Signal(PEER.node_id, US.node_id, b"s" * 32, b"", 1, body)
        bench.arrive(build(signal, PEER.shared_with(US.node_id.box_public()), bench.rng), RELAY)
    assert bench.links.drops["signal: a candidate that is no address"] == 50
    assert set(bench.links.drops) <= {
        "signal: too short or too long",
        "signal: too many from there",
        "signal: a candidate that is no address",
        "the node id is not a valid Ed25519 public key",
        "the box does not open",
    }


def test_one_peer_crowds_out_nobody_else():
    bench = Bench()
    bench.arrive(bench.hello(PEER, 1), RELAY)
    bad = SecretKey(b"\x03" * 32)
    for number in range(100):
        bench.arrive(bench.hello(bad, number), UdpAddress("192.0.2.66", 1 + number))
    assert bench.pending[0] == 1
    assert len(bench.pending) == 1 + MAX_PENDING_PER_PEER


def test_a_hello_of_an_exchange_that_is_over_begins_nothing():
    bench = Bench()
    hello = bench.hello(PEER, 1)
    bench.arrive(hello, RELAY)
    (number,) = (number for number, _ in bench.links._table)
    bench.links.call(number, lambda link: link.close(0, "", bench.now), bench.now)
    bench.arrive(hello, RELAY)
    assert bench.links.drops["signal: hello of an exchange that is over"] == 1
    bench.arrive(bench.hello(PEER, 2), RELAY)
    assert bench.links.drops["signal: hello of an exchange that is over"] == 1


OLDER = "signal: hello of an exchange older than one that stands"


def test_a_hello_from_before_an_exchange_that_stands_begins_nothing():
    bench = Bench()
    bench.arrive(bench.hello(PEER, 1, Birth(b"one run.", 7)), RELAY)
    bench.arrive(bench.hello(PEER, 2, Birth(b"one run.", 6)), RELAY)
    assert bench.links.drops[OLDER] == 1
    assert bench.pending == [1]


@pytest.mark.parametrize("born", [Birth(b"one run.", 8), Birth(b"another.", 1)], ids=["later", "another run"])
def test_a_hello_of_a_later_exchange_or_another_run_begins_one(born):
    bench = Bench()
    bench.arrive(bench.hello(PEER, 1, Birth(b"one run.", 7)), RELAY)
    bench.arrive(bench.hello(PEER, 2, born), RELAY)
    assert bench.links.drops[OLDER] == 0
    assert bench.pending == [1, 2]


def test_a_peer_that_dials_on_and_on_is_taken_up_twice_a_second():
    bench = Bench()
    for number in range(60):
        bench.arrive(bench.hello(PEER, number), RELAY)
    assert bench.links.drops["signal: too many dials"] == 60 - 41  # the burst, and one for 0.6 s
    assert bench.links.drops["signal: an exchange that gave way to a newer one"] == 41 - MAX_PENDING_PER_PEER
    bench.now += 1.0
    bench.arrive(bench.hello(PEER, 100), RELAY)
    assert bench.answer_of(PEER).echo == bytes([100]) * 32


def test_a_peers_dials_repeated_from_elsewhere_do_not_use_up_its_own():
    bench = Bench()
    for number in range(60):
        bench.arrive(bench.hello(PEER, number), UdpAddress("192.0.2.66", 5))
    bench.arrive(bench.hello(PEER, 100), RELAY)
    assert bench.answer_of(PEER).echo == bytes([100]) * 32


def begun(bench):
    """An exchange with PEER, who has proven to be there; returns our last signal to it."""
    bench.arrive(bench.hello(PEER, 1), RELAY)
    bench.prove(PEER, bench.answer_of(PEER), 1, RELAY)


def false_signal():
    """What anybody can send in PEER's name: a signal that does not open."""
    return b"\x04" + PEER.node_id.public + bytes(200)


def test_false_signals_in_a_known_peers_name_are_opened_as_often_as_strangers_may():
    bench = Bench()
    begun(bench)
    for number in range(200):
        bench.arrive(false_signal(), UdpAddress("192.0.2.66", 1 + number))
    assert bench.links.drops["the box does not open"] < 60
    assert bench.links.drops["signal: too many from there"] > 140
    bench.arrive(bench.hello(PEER, 2), RELAY)
    assert bench.answer_of(PEER).echo == bytes([2]) * 32


def test_false_signals_from_where_the_peer_is_known_are_opened_fifty_times_a_second():
    bench = Bench()
    begun(bench)
    for _ in range(400):
        bench.arrive(false_signal(), RELAY)
    assert 280 < bench.links.drops["the box does not open"] < 310  # a burst of 100, and 50 a second
    assert bench.links.drops["signal: too many of one peer"] > 90
    elsewhere = RelayAddress("http://another", b"k" * 32)
    bench.arrive(bench.hello(PEER, 2), elsewhere)
    assert bench.answer_of(PEER).echo == bytes([2]) * 32


def test_a_node_with_as_many_links_as_it_can_have_dials_no_more(monkeypatch):
    monkeypatch.setattr(link_table, "MAX_LINKS", 3)
    bench = Bench()
    for number in range(3):
        bench.links.require_room()
        bench.arrive(bench.hello(SecretKey(bytes([50 + number]) * 32), 1), RELAY)
    with pytest.raises(TooManyConnections, match="its limit: close some first"):
        bench.links.require_room()
    bench.arrive(bench.hello(PEER, 1), RELAY)
    assert bench.links.drops["signal: too many links"] == 1


def test_the_spent_secrets_remembered_are_bounded():
    bench = Bench()
    for number in range(1100):
        bench.now += 0.5
        sender = SecretKey((1000 + number).to_bytes(32, "big"))
        bench.arrive(bench.hello(sender, 1), RelayAddress("http://relay", sender.seed))
        newest = max(number for number, _ in bench.links._table)
        bench.links.call(newest, lambda link: link.close(0, "", bench.now), bench.now)
        bench.links.handle_timeout(bench.now)
    assert len(bench.links._spent) == MAX_SPENT_SECRETS == 1024


def test_probes_that_come_before_we_know_the_peer_are_kept_by_the_few():
    bench = Bench()
    bench.arrive(bench.hello(PEER, 1), RELAY)
    ((_, link),) = bench.links._table
    for number in range(50):
        link.probe_received(bytes([5, number]), None, RELAY, bench.now)
    assert [data[1] for data, _, _ in link._early_probes] == list(range(42, 50))
