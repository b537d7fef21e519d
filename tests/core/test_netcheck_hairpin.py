"""Two sockets that send to each other's outside addresses."""

import random

import pytest

from peerway.core.machine import Datagram, RelayAddress, UdpAddress
from peerway.core.netcheck.hairpin import HairpinProbe, HairpinSeen
from peerway.core.netcheck.probes import Answer, Met

ONE, OTHER = UdpAddress("0.0.0.0", 50001), UdpAddress("0.0.0.0", 50002)
OUTSIDE_ONE, OUTSIDE_OTHER = UdpAddress("198.51.100.1", 6001), UdpAddress("198.51.100.1", 6002)


@pytest.fixture
def probe():
    one = Answer(OUTSIDE_ONE, ONE, 0.02, None, 1.0)
    other = Answer(OUTSIDE_OTHER, OTHER, 0.02, None, 1.0)
    return HairpinProbe(one, other, random.Random(1), 1.0)


def sent(probe):
    return list(iter(probe.poll_transmit, None))


def seen(probe):
    return [event.outcome for event in iter(probe.poll_event, None) if isinstance(event, HairpinSeen)]


def test_each_socket_sends_to_the_others_outside_address(probe):
    assert [(t.local, t.remote) for t in sent(probe)] == [(ONE, OUTSIDE_OTHER), (OTHER, OUTSIDE_ONE)]


@pytest.mark.parametrize(
    ("source", "inside"), [(OUTSIDE_ONE, False), (UdpAddress("198.51.100.1", 9), False), (ONE, True)]
)
def test_a_packet_that_arrives_shows_hairpin_and_what_source_it_has(probe, source, inside):
    packet = sent(probe)[0].segments[0]
    assert probe.receive(Datagram(packet, source, OTHER), 1.01)
    assert seen(probe) == [Met(True, inside_source=inside)]
    probe.handle_timeout(2.0)
    assert sent(probe) == []
    probe.handle_timeout(3.0)
    assert seen(probe) == []


@pytest.mark.parametrize(
    ("data", "local"), [(b"", ONE), (bytes(20), ONE), (None, UdpAddress("0.0.0.0", 50003)), (None, None)]
)
def test_nothing_else_shows_anything(probe, data, local):
    packet = sent(probe)[0].segments[0] if data is None else data
    assert not probe.receive(Datagram(packet, RelayAddress("http://r", bytes(32)), local), 1.01)
    assert seen(probe) == []


def test_six_packets_in_vain_show_that_there_is_none(probe):
    count, ends = len(sent(probe)), []
    while (deadline := probe.poll_deadline()) is not None:
        probe.handle_timeout(deadline.at)
        count += len(sent(probe))
        ends += [(deadline.at, outcome) for outcome in seen(probe)]
    assert (count, ends) == (6, [(2.2, Met(False))])
