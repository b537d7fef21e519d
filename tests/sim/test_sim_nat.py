"""A NAT by itself: who becomes whom, for how long, and who gets in."""

import random

import pytest

from peerway.core.machine import UdpAddress
from peerway.core.nat import Filtering, Mapping, PortAllocation, old_name
from peerway.sim.network.nat import Hairpin, Nat, NatBehaviour, Pooling, Refusal

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


# --- overloading


def test_neighbours_with_one_port_both_keep_it_towards_different_servers():
    box = nat()
    assert box.outbound(INSIDE, A, 0.0) == OUTSIDE
    assert box.outbound(NEIGHBOUR, B, 0.0) == OUTSIDE
    assert box.inbound(A, OUTSIDE, 0.0) == INSIDE
    assert box.inbound(B, OUTSIDE, 0.0) == NEIGHBOUR


def test_who_meets_a_neighbour_at_a_server_gets_another_port_and_keeps_it_from_then_on():
    box = nat()
    box.outbound(INSIDE, A, 0.0)
    assert [box.outbound(NEIGHBOUR, remote, 0.0).port for remote in (B, A, A_OTHER_PORT, B)] == [
        41641,
        9829,
        9829,
        41641,
    ]


def test_without_overloading_the_second_gets_another_port_towards_everyone():
    box = nat(overloads=False)
    assert box.outbound(INSIDE, A, 0.0) == OUTSIDE
    assert [box.outbound(NEIGHBOUR, remote, 0.0).port for remote in (B, A)] == [9829, 9829]
    assert box.inbound(B, OUTSIDE, 0.0) is Refusal.FILTERED


def test_a_stranger_at_an_overloaded_port_reaches_who_had_it_first_until_that_is_over():
    box = nat(filtering=NO_FILTER)
    box.outbound(INSIDE, A, 0.0)
    box.outbound(NEIGHBOUR, B, 10.0)
    strangers = [UdpAddress("192.0.2.77", port) for port in range(3)]
    assert box.inbound(strangers[0], OUTSIDE, 11.0) == INSIDE
    box.outbound(NEIGHBOUR, B, 39.0)
    assert box.inbound(strangers[1], OUTSIDE, 40.0) == INSIDE
    box.outbound(NEIGHBOUR, B, 71.0)
    assert box.inbound(strangers[2], OUTSIDE, 72.0) == NEIGHBOUR


def test_a_mapping_found_again_after_a_detour_is_the_old_one():
    box = nat(input_open=True, idle_s=30.0)
    box.outbound(INSIDE, A, 0.0)
    box.inbound(B, OUTSIDE, 0.0)
    assert box.outbound(INSIDE, B, 1.0).port == 9829
    box.outbound(INSIDE, A, 25.0)
    assert box.outbound(INSIDE, B, 32.0) == OUTSIDE


# --- time


def test_a_session_that_went_both_ways_for_two_seconds_lives_longer_on_linux():
    box = nat(stream_idle_s=120.0)
    box.outbound(INSIDE, A, 0.0)
    assert box.inbound(A, OUTSIDE, 1.0) == INSIDE
    assert box.inbound(A, OUTSIDE, 31.0) is Refusal.NO_MAPPING
    box.outbound(INSIDE, A, 40.0)
    assert box.inbound(A, OUTSIDE, 41.0) == INSIDE
    box.outbound(INSIDE, A, 42.1)
    assert box.inbound(A, OUTSIDE, 162.0) == INSIDE
    assert box.inbound(A, OUTSIDE, 282.0) is Refusal.NO_MAPPING


def test_a_session_in_one_direction_stays_a_short_one_on_linux():
    box = nat(stream_idle_s=120.0)
    for now in (0.0, 20.0, 40.0):
        box.outbound(INSIDE, A, now)
    assert box.inbound(A, OUTSIDE, 70.0) is Refusal.NO_MAPPING


def test_memory_lets_strangers_in_after_the_sessions_are_gone():
    box = nat(filtering=NO_FILTER, idle_s=30.0, memory_s=120.0)
    box.outbound(INSIDE, A, 0.0)
    assert box.inbound(B, OUTSIDE, 119.0) == INSIDE
    assert box.inbound(B, OUTSIDE, 148.0) == INSIDE
    assert box.inbound(A, OUTSIDE, 148.0) is Refusal.FILTERED


def test_what_begins_while_only_the_memory_is_left_is_a_new_mapping():
    box = nat(filtering=NO_FILTER, idle_s=30.0, memory_s=120.0, ports=PortAllocation.RANDOM)
    old = box.outbound(INSIDE, A, 0.0)
    new = box.outbound(INSIDE, A, 60.0)
    assert new != old
    assert [box.inbound(B, outside, 61.0) for outside in (old, new)] == [INSIDE, INSIDE]


def test_memory_of_a_restricted_cone_is_by_address():
    box = nat(filtering=BY_ADDRESS, idle_s=30.0, memory_s=120.0)
    box.outbound(INSIDE, A, 0.0)
    box.outbound(INSIDE, B, 60.0)
    assert box.inbound(A_OTHER_PORT, OUTSIDE, 119.0) == INSIDE
    assert box.inbound(A, OUTSIDE, 121.0) is Refusal.FILTERED
    assert box.inbound(B, OUTSIDE, 179.0) == INSIDE


def test_a_mapping_dies_at_the_end_of_its_life_whatever_passes():
    box = nat(lifetime_s=100.0, ports=PortAllocation.RANDOM, filtering=NO_FILTER)
    port = box.outbound(INSIDE, A, 0.0).port
    for now in range(10, 100, 10):
        assert box.outbound(INSIDE, A, float(now)).port == port
    assert box.inbound(A, UdpAddress("198.51.100.1", port), 99.9) == INSIDE
    assert box.inbound(A, UdpAddress("198.51.100.1", port), 100.0) is Refusal.NO_MAPPING
    assert box.outbound(INSIDE, A, 100.0).port != port


def test_a_stranger_let_in_keeps_the_mapping_alive():
    box = nat(filtering=NO_FILTER, idle_s=30.0)
    box.outbound(INSIDE, A, 0.0)
    for now in (20.0, 40.0, 60.0):
        assert box.inbound(B, OUTSIDE, now) == INSIDE
    assert box.inbound(A, OUTSIDE, 80.0) == INSIDE


def test_a_symmetric_nat_without_a_filter_lets_strangers_in_and_answers_them_from_another_port():
    box = nat(mapping=APD, filtering=NO_FILTER, ports=PortAllocation.SEQUENTIAL)
    outside = box.outbound(INSIDE, A, 0.0)
    for now in (20.0, 40.0):
        assert box.inbound(B, outside, now) == INSIDE
    assert box.outbound(INSIDE, B, 41.0).port == outside.port + 1


# --- how much


def test_sessions_are_limited_in_all_until_some_have_died():
    box = nat(session_limit=2)
    box.outbound(INSIDE, A, 0.0)
    box.outbound(NEIGHBOUR, B, 10.0)
    assert box.outbound(INSIDE, B, 29.0) is Refusal.SESSION_LIMIT
    assert box.outbound(INSIDE, A, 29.0) == OUTSIDE
    assert box.outbound(INSIDE, A_OTHER_PORT, 40.0) == OUTSIDE
    assert box.outbound(INSIDE, B, 41.0) is Refusal.SESSION_LIMIT


def test_sessions_are_limited_for_each_host_inside():
    box = nat(host_session_limit=2)
    for remote in (A, B):
        box.outbound(INSIDE, remote, 0.0)
    assert box.outbound(INSIDE, A_OTHER_PORT, 0.0) is Refusal.SESSION_LIMIT
    assert box.outbound(NEIGHBOUR, A_OTHER_PORT, 0.0) == OUTSIDE
    assert box.outbound(INSIDE, A_OTHER_PORT, 30.0) == OUTSIDE


def test_strangers_let_in_count_as_sessions():
    box = nat(filtering=NO_FILTER, host_session_limit=2)
    box.outbound(INSIDE, A, 0.0)
    assert box.inbound(B, OUTSIDE, 0.0) == INSIDE
    assert box.inbound(A_OTHER_PORT, OUTSIDE, 0.0) is Refusal.SESSION_LIMIT


def test_a_full_table_takes_no_poison():
    box = nat(input_open=True, session_limit=1)
    box.inbound(A, OUTSIDE, 0.0)
    box.inbound(B, OUTSIDE, 0.0)
    assert box.outbound(INSIDE, B, 0.0) is Refusal.SESSION_LIMIT
    assert box.outbound(INSIDE, B, 30.0) == OUTSIDE


def test_dead_sessions_are_removed_and_the_living_stay():
    box = nat(mapping=APD, ports=PortAllocation.RANDOM, idle_s=30.0)
    kept = box.outbound(INSIDE, A, 0.0)
    for number in range(5000):
        now = number * 0.1
        box.outbound(INSIDE, UdpAddress("192.0.2.9", number + 1), now)
        assert box.outbound(INSIDE, A, now) == kept
    assert len(box._table.from_outside) < 1500
    assert len(box._table.doors) < 1500
    assert box.inbound(A, kept, 500.0) == INSIDE


# --- several addresses, hairpins, reboots


def pool(pooling, hosts=20):
    box = Nat(NatBehaviour(pooling=pooling, mapping=APD), ("198.51.100.1", "198.51.100.2"), random.Random(1))
    return [
        {box.outbound(UdpAddress(f"10.1.0.{host}", 5000), remote, 0.0).ip for remote in (A, B, A_OTHER_PORT)}
        for host in range(hosts)
    ]


def test_paired_pooling_gives_a_host_one_address_and_hosts_different_ones():
    pools = pool(Pooling.PAIRED)
    assert {len(ips) for ips in pools} == {1}
    assert set.union(*pools) == {"198.51.100.1", "198.51.100.2"}


def test_arbitrary_pooling_gives_a_host_several_addresses():
    assert 2 in {len(ips) for ips in pool(Pooling.ARBITRARY)}


def test_hairpin_may_show_the_inside_source():
    box = nat(hairpin=Hairpin.INTERNAL_SOURCE, filtering=NO_FILTER)
    box.outbound(INSIDE, A, 0.0)
    assert box.hairpin(NEIGHBOUR, OUTSIDE, 0.0) == (NEIGHBOUR, INSIDE)


def test_a_host_that_knocks_at_its_neighbours_port_from_the_same_gets_another():
    box = nat(hairpin=Hairpin.EXTERNAL_SOURCE, filtering=NO_FILTER)
    box.outbound(INSIDE, A, 0.0)
    assert box.hairpin(NEIGHBOUR, OUTSIDE, 0.0) == (UdpAddress("198.51.100.1", 9829), INSIDE)


def test_a_reboot_may_bring_another_address():
    box = nat()
    box.outbound(INSIDE, A, 0.0)
    box.reboot("198.51.100.77")
    assert box.inbound(A, OUTSIDE, 0.0) is Refusal.NO_MAPPING
    assert box.outbound(INSIDE, A, 0.0) == UdpAddress("198.51.100.77", 41641)
    assert (box.outside_ips, box.boots) == (("198.51.100.77",), 2)


# --- ICMP errors


def test_an_icmp_error_follows_the_session_it_is_about_and_keeps_nothing_alive():
    box = nat()
    box.outbound(INSIDE, A, 0.0)
    assert box.error_inbound(A, OUTSIDE, 29.0) == INSIDE
    assert box.error_outbound(INSIDE, A, 29.0) == OUTSIDE
    assert box.error_inbound(A, OUTSIDE, 30.0) is Refusal.NO_MAPPING
    assert box.error_outbound(INSIDE, A, 30.0) is Refusal.NO_MAPPING
    assert box.error_inbound(B, OUTSIDE, 1.0) is Refusal.NO_MAPPING


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


def test_after_a_collision_has_died_the_mapping_from_before_counts_again():
    behaviour = NatBehaviour(ports=PortAllocation.RANDOM, input_open=True)
    nat = Nat(behaviour, "198.51.100.1", random.Random(1))
    inside, server = UdpAddress("192.168.1.2", 1000), UdpAddress("203.0.113.10", 3478)
    peer = UdpAddress("192.0.2.1", 2000)
    mapped = nat.outbound(inside, server, 0.0)
    nat.inbound(peer, mapped, 1.0)  # comes too early, and so the way back is taken
    diverted = nat.outbound(inside, peer, 2.0)
    assert diverted != mapped
    nat.outbound(inside, server, 25.0)
    assert nat.outbound(inside, server, 40.0) == mapped
    assert nat.outbound(inside, UdpAddress("192.0.2.2", 1), 40.0) == mapped
    assert nat.outbound(inside, peer, 40.0) == mapped
