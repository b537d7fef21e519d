import random
from dataclasses import replace

from peerway.core.machine import Datagram, InterfaceAddress, Resolve, UdpAddress
from peerway.core.path.candidate import MAX_CANDIDATES, Candidate, CandidateKind
from peerway.core.path.gather import MAX_REFLEXIVE, CandidatesChanged, Gatherer, MappingVerdict
from peerway.core.stun.server import StunServer

SOCKET = UdpAddress("0.0.0.0", 41641)
SERVER = UdpAddress("203.0.113.10", 3478)
SECOND = UdpAddress("203.0.113.11", 3478)
MAPPED = UdpAddress("198.51.100.1", 5000)
ETH = InterfaceAddress("eth0", "192.168.1.2", 24)


class Bench:
    def __init__(self):
        self.gatherer = Gatherer(random.Random(1))
        self.servers = {SERVER: StunServer(), SECOND: StunServer()}
        self.told = []
        self.resolves = []
        self.asked = 0

    def drain(self, now, mapped=MAPPED, answering=(SERVER, SECOND)):
        while (transmit := self.gatherer.poll_transmit()) is not None:
            self.asked += 1
            if transmit.remote not in answering:
                continue
            server = self.servers[transmit.remote]
            server.receive(Datagram(transmit.segments[0], mapped, transmit.remote), now)
            answer = server.poll_transmit()
            self.gatherer.receive(Datagram(answer.segments[0], transmit.remote, transmit.local), now)
        while (event := self.gatherer.poll_event()) is not None:
            if isinstance(event, CandidatesChanged):
                self.told.append(event)
            elif isinstance(event, Resolve):
                self.resolves.append(event.name)

    def start(self):
        self.gatherer.add_server("stun.test", 3478)
        self.gatherer.set_sockets((SOCKET,), 0.0)
        self.gatherer.set_interfaces((ETH,), (), 0.0)
        self.drain(0.0)
        self.gatherer.resolved("stun.test", (SERVER.ip, SECOND.ip), 0.0)


HOST = Candidate(CandidateKind.HOST, UdpAddress("192.168.1.2", 41641))
REFLEXIVE = Candidate(CandidateKind.REFLEXIVE, MAPPED)


def test_a_way_out_with_a_hard_nat_does_not_crowd_out_another():
    hard, easy = UdpAddress("10.2.0.2", 41641), UdpAddress("192.168.1.2", 41641)
    gatherer = Gatherer(random.Random(1))
    servers = [UdpAddress(f"203.0.113.{number}", 3478) for number in range(1, 9)]
    gatherer.add_server("stun.test", 3478)
    gatherer.set_sockets((hard, easy), 0.0)
    gatherer.resolved("stun.test", tuple(server.ip for server in servers), 0.0)
    asked = sorted(iter(gatherer.poll_transmit, None), key=lambda transmit: transmit.local == easy)
    for number, transmit in enumerate(asked):
        mapped = MAPPED if transmit.local == easy else UdpAddress("198.51.100.2", 30_000 + number)
        server = StunServer()
        server.receive(Datagram(transmit.segments[0], mapped, transmit.remote), 0.0)
        answer = server.poll_transmit().segments[0]
        gatherer.receive(Datagram(answer, transmit.remote, transmit.local), 0.0)
    reflexive = [c.address for c in gatherer.candidates if c.kind is CandidateKind.REFLEXIVE]
    assert len(reflexive) == MAX_REFLEXIVE
    assert MAPPED in reflexive[:2]


def test_own_addresses_are_told_before_any_server_answered():
    bench = Bench()
    bench.start()
    assert bench.told[-1] == CandidatesChanged((HOST,), False)
    assert bench.resolves == ["stun.test"]


def test_what_servers_saw_goes_first_and_completes_the_list():
    bench = Bench()
    bench.start()
    bench.drain(0.05)
    assert bench.told[-1] == CandidatesChanged((REFLEXIVE, HOST), True, MappingVerdict.ENDPOINT_INDEPENDENT)
    assert bench.gatherer.observed(SOCKET) == {SERVER: MAPPED, SECOND: MAPPED}


def test_a_server_no_way_leads_to_is_not_waited_for():
    bench = Bench()
    bench.start()
    unreachable = list(iter(bench.gatherer.poll_transmit, None))
    for transmit in unreachable:
        bench.gatherer.transmit_failed(transmit, "Network is unreachable", 0.0)
    bench.drain(0.0)
    assert len(unreachable) == 2
    assert bench.told[-1] == CandidatesChanged((HOST,), True)


def test_servers_that_never_answer_complete_the_list_too():
    bench = Bench()
    bench.start()
    now = 0.0
    bench.drain(now, answering=())
    while (deadline := bench.gatherer.poll_deadline()) is not None:
        now = deadline.at
        bench.gatherer.handle_timeout(now)
        bench.drain(now, answering=())
    assert bench.told[-1] == CandidatesChanged((HOST,), True)


def test_a_fresh_answer_is_not_asked_for_again():
    bench = Bench()
    bench.start()
    bench.drain(0.05)
    asked = bench.asked
    bench.gatherer.refresh(5.0)
    bench.drain(5.0)
    assert bench.asked == asked
    bench.gatherer.refresh(30.0)
    bench.drain(30.0, mapped=UdpAddress("198.51.100.1", 6000))
    assert bench.asked == asked + 2
    assert bench.told[-1].candidates[0].address.port == 6000


def test_names_that_could_not_be_looked_up_are_looked_up_again():
    bench = Bench()
    bench.start()
    bench.gatherer.add_server("other.test", 3478)
    bench.gatherer.resolved("stun.test", (), 0.0)
    bench.gatherer.resolved("other.test", (), 0.0)
    bench.drain(0.0)
    bench.resolves.clear()
    bench.gatherer.refresh(30.0)
    bench.gatherer.refresh(30.0)
    bench.drain(30.0)
    assert bench.resolves == ["other.test"]
    assert bench.gatherer.candidates == (REFLEXIVE, HOST)
    bench.gatherer.resolved("other.test", ("203.0.113.11",), 31.0)
    assert bench.gatherer.complete


def test_after_a_move_names_are_looked_up_and_asked_anew():
    bench = Bench()
    bench.start()
    bench.drain(0.0, answering=())
    bench.resolves.clear()
    asked = bench.asked
    bench.gatherer.set_interfaces((replace(ETH, ip="10.0.0.2"),), (4,), 3.0)
    bench.drain(3.0)
    assert bench.resolves == ["stun.test"]
    assert bench.asked == asked + 2
    assert bench.told[-1].complete


def test_a_default_route_that_appears_puts_its_interface_first():
    bench = Bench()
    bench.start()
    other = InterfaceAddress("wlan0", "10.0.0.2", 24)
    bench.gatherer.set_interfaces((ETH, other), (), 0.0)
    bench.gatherer.set_interfaces((ETH, replace(other, metric=100)), (), 1.0)
    bench.drain(1.0)
    hosts = [c.address.ip for c in bench.gatherer.candidates if c.kind is CandidateKind.HOST]
    assert hosts == [other.ip, ETH.ip]


def test_when_no_server_said_anything_the_next_to_care_asks_again():
    bench = Bench()
    bench.start()
    bench.drain(0.0, answering=())
    while (deadline := bench.gatherer.poll_deadline()) is not None:
        bench.gatherer.handle_timeout(deadline.at)
        bench.drain(deadline.at, answering=())
    bench.gatherer.refresh(10.0)
    bench.drain(10.0)
    assert bench.gatherer.candidates == (REFLEXIVE, HOST)


def test_what_was_asked_in_vain_so_far_is_asked_from_the_beginning_when_somebody_needs_to_know():
    bench = Bench()
    bench.start()
    bench.drain(0.0, answering=())
    bench.gatherer.refresh(0.5)
    bench.drain(0.5, answering=())
    assert bench.asked == 2
    bench.gatherer.refresh(4.0)
    bench.drain(4.0)
    assert bench.asked == 4
    assert bench.gatherer.candidates == (REFLEXIVE, HOST)


def test_to_ask_who_was_silent_makes_no_other_answer_fresh():
    bench = Bench()
    bench.start()
    bench.drain(0.0)
    bench.gatherer.add_server("other.test", 3478)
    bench.gatherer.resolved("other.test", ("203.0.113.12",), 19.0)
    bench.drain(19.0)
    asked = bench.asked
    bench.gatherer.refresh(21.0)
    bench.drain(21.0)
    assert bench.asked == asked + 2


def test_different_answers_of_two_servers_are_both_kept():
    bench = Bench()
    bench.start()
    bench.drain(0.05, answering=(SERVER,))
    bench.gatherer.refresh(1.0, force=True)
    bench.drain(1.0, mapped=UdpAddress("198.51.100.1", 7000), answering=(SECOND,))
    bench.gatherer.handle_timeout(1.5)
    bench.drain(1.5, mapped=UdpAddress("198.51.100.1", 7000), answering=(SECOND,))
    ports = {c.address.port for c in bench.told[-1].candidates if c.kind is CandidateKind.REFLEXIVE}
    assert ports == {5000, 7000}
    assert bench.told[-1].mapping is MappingVerdict.DEPENDENT


def test_one_answer_is_no_proof_of_an_easy_nat():
    bench = Bench()
    bench.start()
    bench.drain(0.05, answering=(SERVER,))
    assert bench.gatherer.observed(SOCKET) == {SERVER: MAPPED}
    assert bench.told[-1].mapping is MappingVerdict.UNKNOWN


def test_junk_that_no_name_gives_away_stands_behind_the_interface_that_leads_out():
    bench = Bench()
    junk = tuple(InterfaceAddress(f"a{n}", f"10.{n}.0.1", 16) for n in range(20))
    lan = InterfaceAddress("wlan0", "192.168.1.2", 24, metric=600)
    bench.start()
    bench.gatherer.set_interfaces((*junk, lan), (), 1.0)
    bench.drain(1.0)
    assert bench.told[-1].candidates[:2] == (REFLEXIVE, HOST)


def test_one_interface_with_many_addresses_leaves_room_for_its_other_family():
    bench = Bench()
    six = tuple(InterfaceAddress("eth0", f"2a00:1::{n:x}", 64, metric=1024) for n in range(1, 21))
    four = InterfaceAddress("eth0", "192.168.1.2", 24, metric=100)
    bench.start()
    bench.gatherer.set_sockets((SOCKET, UdpAddress("::", 41641)), 1.0)
    bench.gatherer.set_interfaces((*six, four), (), 1.0)
    bench.drain(1.0)
    first_six = Candidate(CandidateKind.HOST, UdpAddress("2a00:1::1", 41641))
    assert set(bench.told[-1].candidates[:3]) == {REFLEXIVE, first_six, HOST}


def test_junk_interfaces_never_push_out_the_good_ones():
    bench = Bench()
    junk = tuple(InterfaceAddress(f"docker{n}", f"172.{17 + n}.0.1", 16) for n in range(14))
    more = tuple(InterfaceAddress(f"br-{n:04x}", f"10.{n}.0.1", 16) for n in range(14))
    bench.start()
    bench.gatherer.set_interfaces((*junk, *more, ETH), (), 1.0)
    bench.drain(1.0)
    candidates = bench.told[-1].candidates
    assert len(candidates) == MAX_CANDIDATES
    assert candidates[:2] == (REFLEXIVE, HOST)


def test_of_very_many_servers_the_first_eight_are_asked():
    bench = Bench()
    bench.gatherer.add_server("stun.test", 3478)
    bench.gatherer.set_sockets((SOCKET,), 0.0)
    bench.gatherer.set_interfaces((ETH,), (), 0.0)
    bench.gatherer.resolved("stun.test", tuple(f"203.0.113.{number}" for number in range(1, 100)), 0.0)
    asked = set()
    while (transmit := bench.gatherer.poll_transmit()) is not None:
        asked.add(transmit.remote.ip)
    assert asked == {f"203.0.113.{number}" for number in range(1, 9)}


def test_names_of_servers_are_remembered_up_to_a_limit():
    bench = Bench()
    for number in range(100):
        bench.gatherer.add_server(f"stun{number}.test", 3478)
    bench.drain(0.0)
    assert bench.resolves == [f"stun{number}.test" for number in range(32)]
    assert bench.gatherer.drops["stun: too many servers"] == 68
