"""What a node knows of itself, in both families, and that it looks anew when the network changes."""

import random

from peerway.core.machine import Datagram, InterfaceAddress, OpenSocket, UdpAddress
from peerway.core.path.candidate import MAX_CANDIDATES, Candidate, CandidateKind
from peerway.core.path.survey import Survey
from peerway.core.stun.server import StunServer

V4, V6 = UdpAddress("0.0.0.0", 41641), UdpAddress("::", 41641)
SERVERS = (UdpAddress("203.0.113.10", 3478), UdpAddress("2001:db8::10", 3478))
ETH_V4 = InterfaceAddress("eth0", "192.168.1.2", 24, 0)
ETH_V6 = InterfaceAddress("eth0", "2001:db8:1::2", 64, 0)
MOVED_V4 = InterfaceAddress("eth0", "192.168.7.2", 24, 0)
STATIC = UdpAddress("198.51.100.7", 41641)


class Bench:
    """A survey, and servers that see its IPv4 socket come from `outside` and its IPv6 socket as it is."""

    def __init__(self, static=()):
        self.outside = UdpAddress("198.51.100.1", 5000)
        self.asked = []
        self.opens = []
        self.server = StunServer()
        self.survey = Survey(random.Random(1), (("stun.test", 3478),), static)
        self.survey.start((V4, V6), 0.0)
        self.survey.interfaces_changed((ETH_V4, ETH_V6), 0.0)
        self.survey.resolved("stun.test", tuple(server.ip for server in SERVERS), 0.0)
        self.settle(0.02)

    def settle(self, now):
        while (transmit := self.survey.poll_transmit()) is not None:
            self.asked.append((transmit.local, transmit.remote))
            seen = self.outside if transmit.local == V4 else UdpAddress(ETH_V6.ip, V6.port)
            self.server.receive(Datagram(transmit.segments[0], seen, transmit.remote), now)
            answer = self.server.poll_transmit()
            self.survey.receive(Datagram(answer.segments[0], transmit.remote, transmit.local), now)
        self.opens += [event for event in iter(self.survey.poll_event, None) if isinstance(event, OpenSocket)]

    def found(self, kind):
        return [c.address for c in self.survey.surroundings.candidates if c.kind is kind]


def test_each_family_asks_the_servers_of_its_own_from_its_own_socket():
    bench = Bench()
    assert sorted(bench.asked) == [(V4, SERVERS[0]), (V6, SERVERS[1])]
    assert bench.found(CandidateKind.REFLEXIVE) == [bench.outside, UdpAddress(ETH_V6.ip, 41641)]
    # an outside address that is our own is one candidate, not two
    assert bench.found(CandidateKind.HOST) == [UdpAddress(ETH_V4.ip, 41641)]
    assert bench.survey.surroundings.gathered


def test_a_change_of_the_network_is_answered_by_asking_everybody_at_once():
    bench = Bench()
    bench.asked.clear()
    bench.outside = UdpAddress("192.0.2.1", 7000)
    bench.survey.interfaces_changed((MOVED_V4, ETH_V6), 1.0)
    bench.settle(1.0)
    assert sorted(bench.asked) == [(V4, SERVERS[0]), (V6, SERVERS[1])]
    assert set(bench.found(CandidateKind.REFLEXIVE)) == {bench.outside, UdpAddress(ETH_V6.ip, 41641)}
    assert bench.found(CandidateKind.HOST) == [UdpAddress(MOVED_V4.ip, 41641)]


def test_configured_and_seen_addresses_are_never_starved_by_interfaces():
    bench = Bench(static=(STATIC,))
    junk = [InterfaceAddress(f"docker{n}", f"172.{17 + n}.0.1", 16) for n in range(14)]
    more = [InterfaceAddress(f"veth{n}", f"fd00:{n:x}::1", 64) for n in range(20)]
    bench.survey.interfaces_changed((*junk, *more, ETH_V4, ETH_V6), 1.0)
    bench.settle(1.0)
    candidates = bench.survey.surroundings.candidates
    assert len(candidates) == MAX_CANDIDATES
    assert candidates[:4] == (
        Candidate(CandidateKind.STATIC, STATIC),
        Candidate(CandidateKind.REFLEXIVE, bench.outside),
        Candidate(CandidateKind.REFLEXIVE, UdpAddress(ETH_V6.ip, 41641)),
        Candidate(CandidateKind.HOST, UdpAddress(ETH_V4.ip, 41641)),
    )
    assert bench.opens == []  # none of the junk leads anywhere


def test_addresses_that_may_be_probed_follow_the_interfaces():
    bench = Bench()
    assert bench.survey.surroundings.policy.is_lan(UdpAddress("192.168.1.9", 1))
    bench.survey.interfaces_changed((MOVED_V4,), 1.0)
    policy = bench.survey.surroundings.policy
    assert not policy.is_lan(UdpAddress("192.168.1.9", 1))
    assert policy.is_lan(UdpAddress("192.168.7.9", 1))
