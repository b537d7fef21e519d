"""Shares and quantiles of samples, and that their intervals hold the truth as often as they say."""

import math
import random

import pytest

from peerway.sim.population.estimate import Estimate, quantile, quantiles, share


def test_a_share_has_wilsons_interval():
    found = share(8, 10)
    assert found.value == 0.8
    assert found.low == pytest.approx(0.4902, abs=1e-4)
    assert found.high == pytest.approx(0.9433, abs=1e-4)


def test_none_and_all_are_shares_that_are_not_certain():
    none, every = share(0, 20), share(20, 20)
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(0.1611, abs=1e-4)
    assert (every.value, every.high) == (1.0, 1.0)
    assert every.low == pytest.approx(0.8389, abs=1e-4)


def test_of_nothing_the_share_is_unknown():
    found = share(0, 0)
    assert math.isnan(found.value)
    assert (found.low, found.high) == (0.0, 1.0)


def test_quantiles_are_by_nearest_rank():
    ordered = [float(number) for number in range(1, 101)]
    assert [quantile(ordered, level).value for level in (0.01, 0.5, 0.95, 0.99)] == [1.0, 50.0, 95.0, 99.0]
    assert quantile([7.0], 0.5) == Estimate(7.0, None, None)


def test_the_median_of_six_lies_between_the_least_and_the_largest():
    # that all six are on one side of it has a chance of 1/64 each way; of five it would be 1/32
    assert quantile([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.5) == Estimate(3.0, 1.0, 6.0)
    assert quantile([1.0, 2.0, 3.0, 4.0, 5.0], 0.5) == Estimate(3.0, None, None)


def test_ranks_about_the_median_of_a_hundred_are_the_tables():
    ordered = [float(number) for number in range(1, 101)]
    assert quantile(ordered, 0.5) == Estimate(50.0, 40.0, 61.0)


def test_the_tail_of_a_small_sample_has_no_upper_bound():
    found = quantiles(range(50))
    assert (found.count, found.p99.value, found.p99.high) == (50, 49, None)
    assert found.p99.low == 47


def test_an_empty_sample_has_no_quantiles():
    assert quantiles([]) is None


def test_shares_hold_the_truth_in_19_of_20_samples():
    rng = random.Random(1)
    held = 0
    for _ in range(1000):
        found = share(sum(rng.random() < 0.76 for _ in range(300)), 300)
        held += found.low <= 0.76 <= found.high
    assert 935 <= held <= 965


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_quantiles_hold_the_truth_in_at_least_19_of_20_samples(level):
    rng = random.Random(2)
    truth = math.exp(-2 * math.log(1 - level))  # of a Pareto distribution: a heavy tail
    held = 0
    for _ in range(400):
        found = quantile(sorted(rng.paretovariate(0.5) for _ in range(200)), level)
        held += found.low <= truth <= found.high
    assert 376 <= held <= 396
