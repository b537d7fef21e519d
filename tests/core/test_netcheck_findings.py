"""What answers show of mapping, filtering and allocation; and what they do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import UdpAddress
from peerway.core.nat import PortAllocation
from peerway.core.netcheck.allocation import Allocation, classify
from peerway.core.netcheck.findings import (
    FilteringFinding,
    MappingFinding,
    judge_filtering,
    judge_mapping,
)

LOCAL = UdpAddress("0.0.0.0", 41641)
OWN = frozenset({"10.0.0.2", "198.51.100.7"})
A1, A2 = UdpAddress("203.0.113.10", 3478), UdpAddress("203.0.113.10", 3479)
B1, B2 = UdpAddress("203.0.113.11", 3478), UdpAddress("203.0.113.11", 3479)


def seen(**ports):
    """What servers saw: the port for each of A1, A2, B1, B2 that was asked."""
    places = {"A1": A1, "A2": A2, "B1": B1, "B2": B2}
    return {places[name]: UdpAddress("198.51.100.1", port) for name, port in ports.items()}


# --- mapping


@pytest.mark.parametrize(
    ("answers", "finding"),
    [
        ({}, MappingFinding.UNKNOWN),
        (seen(A1=5000), MappingFinding.UNKNOWN),  # one answer proves nothing
        (seen(A1=5000, A2=5000), MappingFinding.UNKNOWN),  # nor do two ports of one address
        (seen(A1=5000, B1=5000), MappingFinding.ENDPOINT_INDEPENDENT),
        (seen(A1=5000, B2=5000), MappingFinding.ENDPOINT_INDEPENDENT),
        (seen(A1=5000, A2=5000, B1=5000, B2=5000), MappingFinding.ENDPOINT_INDEPENDENT),
        (seen(A1=5000, B1=6000), MappingFinding.DEPENDENT),  # two relays cannot tell on what
        (seen(A1=5000, B2=6000), MappingFinding.DEPENDENT),  # nor can they when the ports differ as well
        (seen(A1=5000, A2=5000, B1=6000), MappingFinding.ADDRESS_DEPENDENT),
        (seen(A1=5000, B1=6000, B2=6000), MappingFinding.ADDRESS_DEPENDENT),
        (seen(A1=5000, A2=7000), MappingFinding.ADDRESS_AND_PORT_DEPENDENT),
        (seen(A1=5000, A2=7000, B1=6000, B2=8000), MappingFinding.ADDRESS_AND_PORT_DEPENDENT),
    ],
)
def test_mapping_is_what_the_answers_prove_and_nothing_more(answers, finding):
    assert judge_mapping(answers, LOCAL, OWN) is finding


def test_an_outside_address_that_is_our_own_was_not_translated():
    answers = {A1: UdpAddress("198.51.100.7", 41641), B1: UdpAddress("198.51.100.7", 41641)}
    assert judge_mapping(answers, LOCAL, OWN) is MappingFinding.NONE


def test_our_own_address_with_another_port_was_translated():
    answers = {A1: UdpAddress("198.51.100.7", 9), B1: UdpAddress("198.51.100.7", 9)}
    assert judge_mapping(answers, LOCAL, OWN) is MappingFinding.ENDPOINT_INDEPENDENT


def test_an_outside_address_that_changes_is_a_mapping_that_depends():
    answers = {A1: UdpAddress("198.51.100.1", 5000), B1: UdpAddress("198.51.100.2", 5000)}
    assert judge_mapping(answers, LOCAL, OWN) is MappingFinding.DEPENDENT


# --- filtering


@pytest.mark.parametrize(
    ("from_elsewhere", "from_other_port", "finding"),
    [
        (True, True, FilteringFinding.ENDPOINT_INDEPENDENT),
        (True, False, FilteringFinding.ENDPOINT_INDEPENDENT),
        (True, None, FilteringFinding.ENDPOINT_INDEPENDENT),
        (False, True, FilteringFinding.ADDRESS_DEPENDENT),
        (None, True, FilteringFinding.NOT_BY_PORT),
        (False, False, FilteringFinding.ADDRESS_AND_PORT_DEPENDENT),
        (None, False, FilteringFinding.ADDRESS_AND_PORT_DEPENDENT),
        (False, None, FilteringFinding.UNKNOWN),
        (None, None, FilteringFinding.UNKNOWN),
    ],
)
def test_filtering_is_what_the_answers_prove_and_nothing_more(from_elsewhere, from_other_port, finding):
    assert judge_filtering(from_elsewhere, from_other_port) is finding


# --- allocation


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([], Allocation()),
        ([(1000, 5000), (1001, 6000)], Allocation(None, None, 5000, 6000, 2)),
        (
            [(1000, 1000), (1001, 1001), (1002, 1002)],
            Allocation(PortAllocation.PRESERVING, None, 1000, 1002, 3),
        ),
        (  # one port was taken
            [(1000, 1000), (1001, 40000), (1002, 1002)],
            Allocation(PortAllocation.PRESERVING, None, 1000, 40000, 3),
        ),
        (
            [(1000, 30000), (1001, 30001), (1002, 30002), (1003, 30003)],
            Allocation(PortAllocation.SEQUENTIAL, 1, 30000, 30003, 4),
        ),
        (  # parity is kept
            [(1000, 30000), (1002, 30002), (1004, 30004), (1006, 30006)],
            Allocation(PortAllocation.SEQUENTIAL, 2, 30000, 30006, 4),
        ),
        (  # downwards
            [(1000, 30009), (1001, 30008), (1002, 30007), (1003, 30006)],
            Allocation(PortAllocation.SEQUENTIAL, -1, 30006, 30009, 4),
        ),
        (  # others take ports in between
            [(1, 30000), (2, 30001), (3, 30005), (4, 30006), (5, 30019)],
            Allocation(PortAllocation.SEQUENTIAL, 1, 30000, 30019, 5),
        ),
        (  # the range has come to its end
            [(1, 34094), (2, 34095), (3, 30000), (4, 30001), (5, 30002)],
            Allocation(PortAllocation.SEQUENTIAL, 1, 30000, 34095, 5),
        ),
        (
            [(1, 40123), (2, 2001), (3, 61002), (4, 30004), (5, 15005)],
            Allocation(PortAllocation.RANDOM, None, 2001, 61002, 5),
        ),
        (  # a block of 512 ports, in no order
            [(1, 20123), (2, 20001), (3, 20502), (4, 20304), (5, 20111)],
            Allocation(PortAllocation.RANDOM, None, 20001, 20502, 5),
        ),
    ],
)
def test_allocation_is_classified_by_the_ports_that_were_given(samples, expected):
    assert classify(samples) == expected


@given(st.lists(st.tuples(st.integers(1, 65535), st.integers(1, 65535)), max_size=12))
def test_any_ports_are_classified(samples):
    found = classify(samples)
    assert found.samples == len(samples)
    assert (found.step is not None) == (found.kind is PortAllocation.SEQUENTIAL)
    assert all(found.lowest <= port <= found.highest for _, port in samples)
