"""The oracle against an exhaustive toy: whatever it calls direct happens, and nothing else does."""

import itertools
from dataclasses import replace

import pytest
from tests.sim.topology import KINDS, pair
from tests.sim.toy_machines import punch

from peerway.core.nat import Filtering, Mapping, PortAllocation
from peerway.sim.network.nat import NatBehaviour
from peerway.sim.oracle import direct_possible

EXPECTED = """
            open   firewall eim-eif eim-adf eim-apdf edm    adm    edm-seq poisoned udp-blocked
open        direct direct   direct  direct  direct   direct direct direct  direct   relay
firewall    direct direct   direct  direct  direct   guess  guess  guess   direct   relay
eim-eif     direct direct   direct  direct  direct   direct direct direct  direct   relay
eim-adf     direct direct   direct  direct  direct   direct direct direct  direct   relay
eim-apdf    direct direct   direct  direct  direct   guess  guess  guess   direct   relay
edm         direct guess    direct  direct  guess    guess  guess  guess   guess    relay
adm         direct guess    direct  direct  guess    guess  guess  guess   guess    relay
edm-seq     direct guess    direct  direct  guess    guess  guess  guess   guess    relay
poisoned    direct direct   direct  direct  direct   guess  guess  guess   direct   relay
udp-blocked relay  relay    relay   relay   relay    relay  relay  relay   relay    relay
"""


def expected_cells():
    header, *rows = (line.split() for line in EXPECTED.strip().splitlines())
    for row in rows:
        for right, word in zip(header, row[1:], strict=True):
            yield row[0], right, "guessing" if word == "guess" else word


@pytest.mark.parametrize(("left", "right", "word"), list(expected_cells()))
def test_every_pair_of_kinds_is_judged_and_punched_as_written(left, right, word):
    topology = pair(left, right, seed=1)
    assert topology.expected == word
    met = punch(topology)
    assert bool(met["left"] and met["right"]) is (word == "direct")


BEHAVIOURS = [
    NatBehaviour(mapping=mapping, filtering=filtering, ports=PortAllocation.RANDOM)
    for mapping, filtering in itertools.product(Mapping, Filtering)
]


@pytest.mark.parametrize("left", BEHAVIOURS, ids=lambda b: f"{b.mapping.name}-{b.filtering.name}")
def test_every_mapping_and_filtering_is_judged_as_it_turns_out(left, monkeypatch):
    for right in BEHAVIOURS:
        monkeypatch.setitem(KINDS, "left", left)
        monkeypatch.setitem(KINDS, "right", right)
        topology = pair("left", "right", seed=1)
        met = punch(topology)
        outcome = "direct" if met["left"] and met["right"] else "guessing"
        assert (right.mapping, right.filtering, topology.expected) == (
            right.mapping,
            right.filtering,
            outcome,
        )


def test_boxes_in_a_row_count_as_the_worst_of_each():
    careful, cone = NatBehaviour(), NatBehaviour(filtering=Filtering.ENDPOINT_INDEPENDENT)
    hard_cone = replace(cone, mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT)
    assert direct_possible([cone, careful], [cone]) == "direct"
    assert direct_possible([hard_cone], [cone]) == "direct"
    assert direct_possible([hard_cone], [cone, careful]) == "guessing"
    assert direct_possible([], [cone, NatBehaviour(udp_blocked=True)]) == "relay"
