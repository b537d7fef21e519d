"""Which port a NAT gives: kept, in sequence, at random, from a block, of the same parity."""

import random

import pytest

from peerway.core.machine import UdpAddress
from peerway.core.nat import Mapping, PortAllocation
from peerway.sim.network.behaviour import NatBehaviour
from peerway.sim.network.nat import Nat, Refusal

INSIDE = UdpAddress("10.1.0.2", 41641)
NEIGHBOUR = UdpAddress("10.1.0.3", 41641)
A = UdpAddress("203.0.113.10", 3478)

PRESERVING, RANDOM, SEQUENTIAL = PortAllocation


def nat(ports, seed=1, **behaviour):
    symmetric = {"mapping": Mapping.ADDRESS_AND_PORT_DEPENDENT, "ports": ports, **behaviour}
    return Nat(NatBehaviour(**symmetric), "198.51.100.1", random.Random(seed))


def ports(box, count, inside=INSIDE, every_s=0.0, first=1):
    """The outside ports of so many sessions, begun one after the other."""
    given = []
    for number in range(count):
        outside = box.outbound(inside, UdpAddress("192.0.2.9", first + number), number * every_s)
        given.append(outside if isinstance(outside, Refusal) else outside.port)
    return given


def test_a_port_outside_of_the_range_is_not_kept():
    box = nat(PRESERVING, mapping=Mapping.ENDPOINT_INDEPENDENT, port_range=(20000, 20512))
    outside = box.outbound(INSIDE, A, 0.0)
    assert 20000 <= outside.port < 20512
    assert ports(box, 20) == [outside.port] * 20


def test_a_port_inside_of_the_range_is_kept():
    box = nat(PRESERVING, port_range=(41000, 42000), mapping=Mapping.ENDPOINT_INDEPENDENT)
    assert ports(box, 3) == [41641, 41641, 41641]


@pytest.mark.parametrize(("port", "low", "high"), [(53, 1, 511), (700, 600, 1023), (5000, 1024, 65535)])
def test_who_cannot_keep_a_port_gets_one_of_its_kind(port, low, high):
    box = nat(PRESERVING)
    box.outbound(UdpAddress("10.1.0.2", port), A, 0.0)
    others = {box.outbound(UdpAddress(f"10.1.0.{host}", port), A, 0.0).port for host in range(3, 100)}
    assert low <= min(others)
    assert max(others) <= high
    assert len(others) == 97


def test_random_ports_spread_over_the_range_and_none_is_given_twice():
    given = ports(nat(RANDOM), 2000)
    assert len(set(given)) == 2000
    assert min(given) < 2000
    assert max(given) > 64000


def test_a_small_range_is_used_up_to_its_last_port():
    given = ports(nat(RANDOM, port_range=(20000, 20008)), 9)
    assert sorted(given[:8]) == list(range(20000, 20008))
    assert given[8] is Refusal.NO_FREE_PORT


def test_ports_in_sequence_may_be_several_apart_and_those_in_between_serve_when_they_are_used_up():
    assert ports(nat(SEQUENTIAL, port_step=2, port_range=(50000, 50006)), 4) == [50000, 50002, 50004, 50001]


def test_others_behind_the_nat_take_ports_in_between():
    box = nat(SEQUENTIAL, other_ports_per_s=10.0, port_range=(1024, 65536))
    given = ports(box, 101, every_s=1.0)
    assert 1024 < given[0] + 1 < given[1]
    assert 1000 < given[-1] - given[0] < 1200  # 100 seconds of 10, and our own 100
    assert given == ports(nat(SEQUENTIAL, other_ports_per_s=10.0, port_range=(1024, 65536)), 101, every_s=1.0)


def test_a_busy_nat_moves_on_by_thousands():
    given = ports(nat(SEQUENTIAL, other_ports_per_s=1000.0, port_range=(1024, 65536)), 2, every_s=10.0)
    assert 9_500 < given[1] - given[0] < 10_500


@pytest.mark.parametrize("allocation", [RANDOM, SEQUENTIAL])
def test_parity_is_kept(allocation):
    box = nat(allocation, keeps_parity=True)
    assert {port % 2 for port in ports(box, 50, UdpAddress("10.1.0.2", 5000))} == {0}
    assert {port % 2 for port in ports(box, 50, UdpAddress("10.1.0.2", 5001), first=100)} == {1}


def test_each_host_has_a_block_of_its_own():
    box = nat(RANDOM, block_ports=64, port_range=(10000, 10128))
    assert sorted(ports(box, 64)) == list(range(10000, 10064))
    assert ports(box, 65)[64] is Refusal.NO_FREE_PORT
    assert sorted(ports(box, 64, NEIGHBOUR)) == list(range(10064, 10128))
    assert ports(box, 1, UdpAddress("10.1.0.4", 1)) == [Refusal.NO_FREE_PORT]


def test_blocks_are_forgotten_by_a_reboot():
    box = nat(SEQUENTIAL, block_ports=64, port_range=(10000, 10064))
    ports(box, 1)
    box.reboot()
    assert ports(box, 2, NEIGHBOUR) == [10000, 10001]
