"""Pairs come out the same in whatever process, and are summed up and drawn as they came out."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from peerway.sim.campaign import SeedResult
from peerway.sim.population.pairs import PairResult, pair_seeds, run_pair, run_pairs
from peerway.sim.population.plot import plot
from peerway.sim.population.summary import summarize
from peerway.sim.run import Verdict, Violation
from peerway.sim.workers import Done, Lost


def without_cost(result):
    return replace(result, run=replace(result.run, cpu_s=0.0))


def pair(seed, left="home", right="home", means="punched", expected="direct", direct_s=0.6, probes=30):
    outcome = "direct" if means else "relay"
    verdict = Verdict(seed, (), expected, outcome, 0.5, direct_s if means else None, probes, True, (), 5.0)
    run = SeedResult(seed, verdict, "", left, right)
    family, round_trip_s = (6 if means == "ipv6" else 4, 0.1) if means else (None, None)
    return PairResult(run, ("eim-apdf", "eim-apdf"), False, means, family, round_trip_s)


RESULTS = [
    pair(0, direct_s=0.4),
    pair(1, direct_s=0.8),
    pair(2, "cellular", "home", means="ipv6", direct_s=0.6),
    pair(3, "home", "cellular", means="", expected="guessing", probes=100),
    pair(4, "udp-blocked", "public", means="", expected="relay", probes=90),
]


def test_results_are_the_same_from_any_number_of_processes_and_in_order():
    seeds = pair_seeds(3, 12)
    here = [without_cost(run_pair(seed)) for seed in seeds]
    assert [result.run.seed for result in here] == list(range(3_000_000, 3_000_012))
    assert [without_cost(result) for result in run_pairs(seeds, jobs=2)] == here


def test_the_oracle_is_right_about_the_first_pairs():
    results = [run_pair(seed) for seed in pair_seeds(0, 25)]
    assert [result.failure for result in results] == [""] * 25
    assert {(result.expected, result.outcome) for result in results} == {
        ("direct", "direct"),
        ("guessing", "relay"),
        ("relay", "relay"),
    }
    for result in results:
        is_direct = result.outcome == "direct"
        assert bool(result.means) is (result.run.verdict.direct_s is not None) is is_direct
        assert result.run.verdict.first_byte_s > 0


def test_populations_have_no_pair_in_common():
    assert not set(pair_seeds(0, 1_000_000)) & set(pair_seeds(1, 1_000_000))


def test_a_pair_that_was_lost_is_a_failure_in_its_place(monkeypatch):
    def run_many(task, numbers, jobs, limit_s):
        yield Done(6, task(6))
        yield Lost(4, "its process died")
        yield Done(5, task(5))

    monkeypatch.setattr("peerway.sim.population.pairs.run_many", run_many)
    results = list(run_pairs([4, 5, 6], jobs=1))
    assert [result.run.seed for result in results] == [4, 5, 6]
    assert [result.failure for result in results] == ["its process died", "", ""]
    assert results[0].run.left == run_pair(4).run.left
    assert results[0].expected == ""


def test_a_summary_counts_outcomes_means_and_classes():
    summary = summarize(RESULTS)
    assert summary.pairs == 5
    assert {outcome: found.value for outcome, found in summary.outcomes.items()} == {
        "direct": 0.6,
        "relay": 0.4,
        "failed": 0.0,
    }
    assert [(means.name, means.share.value) for means in summary.means] == [("ipv6", 0.2), ("punched", 0.4)]
    assert summary.foreseen == {("direct", "direct"): 3, ("guessing", "relay"): 1, ("relay", "relay"): 1}
    assert {cell: (found.pairs, found.share.value) for cell, found in summary.cells.items()} == {
        ("public", "udp-blocked"): (1, 0.0),
        ("home", "home"): (2, 1.0),
        ("home", "cellular"): (2, 0.5),
    }


def test_a_summary_has_the_times_of_those_that_came_so_far():
    summary = summarize(RESULTS)
    assert (summary.first_byte_ms.count, summary.first_byte_ms.p50.value) == (5, 500.0)
    assert (summary.direct_ms.count, summary.direct_ms.p50.value) == (3, 600.0)
    assert summary.direct_ms.p99.value == 800.0
    assert (summary.probes_direct.p50.value, summary.probes_relay.p50.value) == (30.0, 90.0)
    assert summary.round_trip_ms.p50.value == pytest.approx(100.0)


def test_what_was_not_as_it_must_be_is_a_failure_whatever_came_of_it():
    whole = pair(1)
    violation = Violation(3.0, "not direct within 200 s, though that is possible")
    verdict = replace(whole.run.verdict, violations=(violation,))
    broken = replace(whole, run=replace(whole.run, verdict=verdict))
    assert broken.outcome == "failed"
    assert summarize([broken]).outcomes["failed"].value == 1.0


def texts(svg):
    root = ElementTree.fromstring(svg)
    return [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_picture_says_what_the_summary_does():
    words = texts(plot(RESULTS, summarize(RESULTS)))
    assert words[0] == "60.0 % of 5 pairs of strangers become direct"
    assert words[1].startswith("95 % confidence: 23.1 % to 88.2 %. Simulated: the population is a model")
    assert {"p50 600", "p95 800", "p99 800", "first byte (5 pairs)", "direct path (3 pairs)"} <= set(words)
    assert "40.0 % direct: both NATs opened from inside" in words
    assert "20.0 % relayed: no UDP gets through" in words


def test_a_picture_of_pairs_that_never_became_direct_says_so():
    results = RESULTS[3:]
    assert "no pair became direct" in texts(plot(results, summarize(results)))
