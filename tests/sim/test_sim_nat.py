"""A NAT by itself: who becomes whom, for how long, and who gets in."""

import random

import pytest

from peerway.core.machine import UdpAddress
from peerway.core.nat import Filtering, Mapping, PortAllocation, old_name
from peerway.sim.nat import Hairpin, Nat, NatBehaviour, Refusal

INSIDE = UdpAddress("10.1.0.2", 41641)
NEIGHBOUR = UdpAddress("10.1.0.3", 41641)
OUTSIDE = UdpAddress("198.51.100.1", 41641)
A = UdpAddress("203.0.113.10", 3478)
A_OTHER_PORT = UdpAddress("203.0.113.10", 3479)
B = UdpAddress("203.0.113.11", 3478)

EI, AD, APD = Mapping
NO_FILTER, BY_ADDRESS, BY_PORT = Filtering


def nat(**behaviour):
    return Nat(NatBehaviour(**behaviour), "198.51.100.1", random.Random(1))


@pytest.mark.parametrize(
    ("mapping", "ports"),
    [
        (EI, [30000, 30000, 30000, 30000]),
        (AD, [30000, 30000, 30001, 30000]),
        (APD, [30000, 30001, 30002, 30000]),
    ],
)
def test_the_outside_port_depends_on_what_the_mapping_says(mapping, ports):
    box = nat(mapping=mapping, ports=PortAllocation.SEQUENTIAL)
    assert [box.outbound(INSIDE, remote, 0.0).port for remote in (A, A_OTHER_PORT, B, A)] == ports


@pytest.mark.parametrize(
    ("filtering", "let_in"),
    [(NO_FILTER, [True, True, True]), (BY_ADDRESS, [True, True, False]), (BY_PORT, [True, False, False])],
)
def test_who_gets_in_depends_on_what_the_filtering_says(filtering, let_in):
    box = nat(filtering=filtering)
    box.outbound(INSIDE, A, 0.0)
    answers = [box.inbound(remote, OUTSIDE, 1.0) for remote in (A, A_OTHER_PORT, B)]
    assert answers == [INSIDE if let_in_ else Refusal.FILTERED for let_in_ in let_in]


def test_nobody_gets_in_where_nothing_went_out():
    assert nat(filtering=NO_FILTER).inbound(A, OUTSIDE, 0.0) is Refusal.NO_MAPPING


def test_port_is_preserved_until_a_neighbour_wants_the_same():
    box = nat()
    assert box.outbound(INSIDE, A, 0.0) == OUTSIDE
    other = box.outbound(NEIGHBOUR, A, 0.0)
    assert other == UdpAddress("198.51.100.1", 9829)
    assert box.inbound(A, other, 0.0) == NEIGHBOUR
    assert box.inbound(A, OUTSIDE, 0.0) == INSIDE


def test_random_ports_are_those_of_the_seed():
    box = nat(mapping=APD, ports=PortAllocation.RANDOM)
    assert [box.outbound(INSIDE, remote, 0.0).port for remote in (A, A_OTHER_PORT, B)] == [9829, 38327, 56561]


def test_sequential_ports_come_round_and_skip_those_in_use():
    box = nat(mapping=APD, ports=PortAllocation.SEQUENTIAL)
    box.outbound(INSIDE, A, 29.0)
    for port in range(1, 4096):
        assert box.outbound(INSIDE, UdpAddress("192.0.2.9", port), 0.0).port == 30000 + port
    assert box.outbound(INSIDE, B, 29.0) is Refusal.NO_FREE_PORT
    assert box.outbound(INSIDE, B, 30.0).port == 30001


def test_mapping_dies_when_idle_and_its_port_is_free_again():
    box = nat(idle_s=30.0)
    box.outbound(INSIDE, A, 0.0)
    assert box.inbound(A, OUTSIDE, 29.9) == INSIDE
    assert box.inbound(A, OUTSIDE, 59.8) == INSIDE
    assert box.inbound(A, OUTSIDE, 89.9) is Refusal.NO_MAPPING
    assert box.outbound(NEIGHBOUR, A, 90.0) == OUTSIDE


def test_inbound_packets_keep_nothing_alive_where_they_do_not_refresh():
    box = nat(idle_s=30.0, inbound_refreshes=False)
    box.outbound(INSIDE, A, 0.0)
    assert box.inbound(A, OUTSIDE, 29.9) == INSIDE
    assert box.inbound(A, OUTSIDE, 30.0) is Refusal.NO_MAPPING


def test_a_permit_dies_though_its_mapping_lives():
    box = nat(idle_s=30.0)
    box.outbound(INSIDE, A, 0.0)
    box.outbound(INSIDE, B, 20.0)
    assert box.inbound(A, OUTSIDE, 31.0) is Refusal.FILTERED
    assert box.inbound(B, OUTSIDE, 31.0) == INSIDE


def test_firewall_leaves_addresses_alone_and_lets_in_answers_only():
    box = nat(translates=False)
    host = UdpAddress("192.0.2.1", 41641)
    assert box.inbound(A, host, 0.0) is Refusal.NO_MAPPING
    assert box.outbound(host, A, 0.0) == host
    assert box.inbound(A, host, 1.0) == host
    assert box.inbound(B, host, 1.0) is Refusal.FILTERED
    assert box.inbound(A, host, 31.0) is Refusal.NO_MAPPING


def test_hairpin_shows_the_outside_source():
    box = nat(hairpin=Hairpin.EXTERNAL_SOURCE, filtering=NO_FILTER)
    box.outbound(INSIDE, A, 0.0)
    neighbour = UdpAddress("10.1.0.3", 5000)
    assert box.hairpin(neighbour, OUTSIDE, 0.0) == (UdpAddress("198.51.100.1", 5000), INSIDE)


def test_hairpin_is_filtered_as_what_comes_from_outside():
    box = nat(hairpin=Hairpin.EXTERNAL_SOURCE)
    box.outbound(INSIDE, A, 0.0)
    assert box.hairpin(NEIGHBOUR, OUTSIDE, 0.0) is Refusal.FILTERED


def test_without_hairpin_nothing_turns_round():
    box = nat(filtering=NO_FILTER)
    box.outbound(INSIDE, A, 0.0)
    assert box.hairpin(NEIGHBOUR, OUTSIDE, 0.0) is Refusal.NO_HAIRPIN


def test_unsolicited_packet_poisons_the_way_back_to_its_sender_only():
    box = nat(input_open=True)
    assert box.outbound(INSIDE, A, 0.0) == OUTSIDE
    assert box.inbound(B, OUTSIDE, 1.0) is Refusal.FILTERED
    diverted = box.outbound(INSIDE, B, 2.0)
    assert diverted == UdpAddress("198.51.100.1", 9829)
    assert box.outbound(INSIDE, B, 3.0) == diverted
    assert box.outbound(INSIDE, A, 3.0) == OUTSIDE
    assert box.inbound(B, OUTSIDE, 4.0) is Refusal.FILTERED
    assert box.inbound(B, diverted, 4.0) == INSIDE


def test_poison_wears_off_unless_it_is_renewed():
    for renewed, port in ((False, 41641), (True, 9829)):
        box = nat(input_open=True)
        box.inbound(B, OUTSIDE, 0.0)
        if renewed:
            box.inbound(B, OUTSIDE, 20.0)
        assert box.outbound(INSIDE, B, 30.0).port == port


def test_a_flow_that_began_inside_cannot_be_poisoned():
    box = nat(input_open=True)
    box.outbound(INSIDE, B, 0.0)
    assert box.inbound(B, OUTSIDE, 1.0) == INSIDE
    assert box.outbound(INSIDE, B, 2.0) == OUTSIDE


def test_a_careful_router_is_not_poisoned():
    box = nat(input_open=False)
    box.inbound(B, OUTSIDE, 0.0)
    assert box.outbound(INSIDE, B, 1.0) == OUTSIDE


def test_udp_blocked_lets_nothing_through():
    box = nat(udp_blocked=True)
    assert box.outbound(INSIDE, A, 0.0) is Refusal.UDP_BLOCKED
    assert box.inbound(A, OUTSIDE, 0.0) is Refusal.UDP_BLOCKED


def test_reboot_forgets_every_mapping():
    box = nat()
    box.outbound(INSIDE, A, 0.0)
    box.reboot()
    assert box.inbound(A, OUTSIDE, 0.0) is Refusal.NO_MAPPING


def test_permits_of_one_mapping_are_limited_and_the_oldest_goes(monkeypatch):
    monkeypatch.setattr("peerway.sim.nat.PERMITS_LIMIT", 2)
    box = nat()
    for remote in (A, A_OTHER_PORT, A, B):
        box.outbound(INSIDE, remote, 0.0)
    assert box.inbound(A_OTHER_PORT, OUTSIDE, 0.0) is Refusal.FILTERED
    assert box.inbound(A, OUTSIDE, 0.0) == INSIDE


def test_poison_is_limited_and_the_oldest_goes(monkeypatch):
    monkeypatch.setattr("peerway.sim.nat.POISON_LIMIT", 1)
    box = nat(input_open=True)
    box.inbound(A, OUTSIDE, 0.0)
    box.inbound(B, OUTSIDE, 0.0)
    assert box.outbound(INSIDE, A, 0.0) == OUTSIDE


@pytest.mark.parametrize(
    ("mapping", "filtering", "name"),
    [
        (EI, NO_FILTER, "full cone"),
        (EI, BY_ADDRESS, "restricted cone"),
        (EI, BY_PORT, "port-restricted cone"),
        (AD, NO_FILTER, "symmetric"),
        (APD, BY_PORT, "symmetric"),
    ],
)
def test_old_names(mapping, filtering, name):
    assert old_name(mapping, filtering) == name
