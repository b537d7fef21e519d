"""The population is what it says: shares add up, draws follow them, and a seed decides everything."""

import random
import re
from collections import Counter
from pathlib import Path

import pytest

from peerway.core.nat import Mapping
from peerway.sim.network.behaviour import Hairpin
from peerway.sim.outlook import outlook
from peerway.sim.population.draw import POPULATION, Aids, draw_endpoint, draw_pair
from peerway.sim.population.means import MEANS
from peerway.sim.soundness import problem_of

DRAWS = 6000
PAGE = (Path(__file__).parents[2] / "docs" / "explanation" / "population.md").read_text()


@pytest.fixture(scope="module")
def drawn():
    rng = random.Random(7)
    return [draw_endpoint(rng) for _ in range(DRAWS)]


def of(drawn, name):
    return [end for end in drawn if end.network == name]


def share_of(ends, holds):
    return sum(map(holds, ends)) / len(ends)


def test_the_shares_are_of_one_whole():
    assert sum(network.share for network in POPULATION) == pytest.approx(1.0, abs=1e-12)
    assert len({network.name for network in POPULATION}) == len(POPULATION)


def test_the_share_with_ipv6_is_what_is_measured_of_the_world():
    assert sum(network.share * network.ipv6 for network in POPULATION) == pytest.approx(0.44, abs=0.005)


def test_draws_follow_the_shares(drawn):
    counts = Counter(end.network for end in drawn)
    expected = {network.name: DRAWS * network.share for network in POPULATION}
    chi_square = sum((counts[name] - mean) ** 2 / mean for name, mean in expected.items())
    assert chi_square < 18.48  # exceeded by chance once in a hundred times, with 7 degrees of freedom


def test_what_is_drawn_within_a_class_follows_its_shares(drawn):
    homes, cellular, carried = of(drawn, "home"), of(drawn, "cellular"), of(drawn, "cgn")
    dependent = Mapping.ADDRESS_AND_PORT_DEPENDENT
    assert 0.46 < share_of(homes, lambda end: end.boxes[0].input_open) < 0.54
    assert 0.30 < share_of(homes, lambda end: end.boxes[0].hairpin is Hairpin.EXTERNAL_SOURCE) < 0.37
    assert 0.36 < share_of(homes, lambda end: end.has_ipv6) < 0.44
    assert 0.31 < share_of(homes, lambda end: end.maps_ports) < 0.39
    assert 0.35 < share_of(cellular, lambda end: end.boxes[0].mapping is dependent) < 0.45
    assert 0.07 < share_of(carried, lambda end: end.boxes[0].mapping is dependent) < 0.15
    assert not any(end.maps_ports for end in carried)


def test_parameters_stay_within_their_bounds(drawn):
    for end in of(drawn, "home-cone") + of(drawn, "home-edm") + of(drawn, "enterprise"):
        assert 30.0 <= end.boxes[0].idle_s <= 300.0
    for end in of(drawn, "cellular") + of(drawn, "cgn"):
        carrier = end.boxes[0]
        assert 10.0 <= carrier.idle_s <= 200.0
        assert carrier.block_ports in (512, 1024, 2048)
        first, end_of_block = carrier.port_range
        assert end_of_block - first == carrier.block_ports
        assert 1024 <= first < end_of_block <= 65536
    for end in of(drawn, "cellular"):
        assert 0.012 <= end.quality.delay_s <= 0.11
        assert 0.0 <= end.quality.loss <= 0.02


def test_a_home_behind_a_carrier_is_behind_both_nats():
    seed = next(seed for seed in range(1000) if draw_pair(seed).left.network == "cgn")
    pair = draw_pair(seed)
    way = [router.name for router in pair.scenario.plan.way_up("left-home")]
    assert way == ["left-home", "left-carrier"]
    assert len(pair.left.boxes) == 2


def test_each_pair_can_be_run():
    assert [problem_of(draw_pair(seed).scenario) for seed in range(200)] == [""] * 200


def test_a_seed_gives_the_same_pair_again_and_another_seed_another():
    assert draw_pair(5) == draw_pair(5)
    assert draw_pair(5) != draw_pair(6)


def test_a_pair_without_an_aid_is_the_same_but_for_that():
    seed = next(
        seed for seed in range(1000) if draw_pair(seed).left.has_ipv6 and draw_pair(seed).left.maps_ports
    )
    one, other = draw_pair(seed), draw_pair(seed, Aids(ipv6=False, port_mapping=False))
    assert (one.left.boxes, one.right.quality) == (other.left.boxes, other.right.quality)
    assert [host.interfaces[0].families for host in other.scenario.plan.hosts] == [(4,), (4,)]
    assert one.scenario.plan.router("left-home").maps_ports
    assert not other.scenario.plan.router("left-home").maps_ports


@pytest.mark.parametrize(
    ("aids", "least", "most"),
    [
        (Aids(ipv6=False, port_mapping=False), 0.71, 0.76),
        (Aids(port_mapping=False), 0.74, 0.79),
        (Aids(), 0.78, 0.83),
    ],
)
def test_without_guessing_ports_so_many_can_meet(aids, least, most):
    plans = [draw_pair(seed, aids).scenario.plan for seed in range(1000)]
    outlooks = Counter(outlook(plan, "left", "right") for plan in plans)
    assert least < outlooks["direct"] / 1000 < most
    assert 0.045 < outlooks["relay"] / 1000 < 0.075  # 1 - 0.97²: one of the two at least has no UDP
    assert outlooks["unsure"] == 0


def test_the_page_about_the_population_has_it_as_it_is():
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) % \| .* \| (\d+) % \| \w+ \|$", PAGE, re.MULTILINE)
    assert rows == [
        (network.name, f"{100 * network.share:.0f}", f"{100 * network.ipv6:.0f}") for network in POPULATION
    ]


def test_the_page_about_the_population_has_every_means():
    assert re.findall(r"^\| `([a-z0-9-]+)` \| [^|]* \|$", PAGE, re.MULTILINE) == [
        means.name for means in MEANS
    ]
