"""Hundreds of drawn internets hold to what must be true; what fails is reported, and made small."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from peerway.sim.campaign import SeedResult, Tally, run_scenario, run_seed, run_seeds, shrink_scenario
from peerway.sim.draw import draw
from peerway.sim.homes import CONE, FIREWALL, HOME, SYMMETRIC
from peerway.sim.kinds import behind, kind_of, pair_of_kinds
from peerway.sim.named import ASKED_ABOUT, NAMED
from peerway.sim.regressions import REGRESSIONS
from peerway.sim.run import run
from peerway.sim.soundness import problem_of

ROOT = Path(__file__).parents[2]
SEEDS = 300
DIGESTS = """
from peerway.sim.draw import draw
from peerway.sim.named import NAMED
from peerway.sim.run import run
for scenario in (*map(draw, (3, 17, 40, 72)), NAMED["roam"].scenario):
    print(run(scenario, is_traced=True).digest)
print(run(NAMED["roam"].scenario, is_traced=True, quic=True).digest)
"""


@pytest.mark.timeout(600)
def test_the_first_seeds_hold():
    tally, failures = Tally(), {}
    for result in run_seeds(range(SEEDS), jobs=2):
        tally.add(result)
        if result.failure:
            failures[result.seed] = result.failure
    assert failures == {}
    assert tally.seeds == SEEDS
    assert tally.outcomes["direct", "direct"] > SEEDS // 2
    assert tally.outcomes["relay", "relay"] > SEEDS // 20
    assert not {("direct", "relay"), ("relay", "direct")} & set(tally.outcomes)


def test_a_name_is_given_once():
    assert len(NAMED) == len(ASKED_ABOUT) + len(REGRESSIONS)


@pytest.mark.parametrize("name", NAMED)
def test_every_scenario_with_a_name_holds(name):
    assert problem_of(NAMED[name].scenario) == ""
    assert run(NAMED[name].scenario).violations == ()


@pytest.mark.parametrize(
    ("name", "expected", "outcome"),
    [
        ("two-homes", "direct", "direct"),
        ("one-lan", "direct", "direct"),
        ("two-symmetric", "guessing", "relay"),
        ("symmetric-and-cone", "direct", "direct"),
        ("hairpin", "direct", "direct"),
        ("no-hairpin", "relay", "relay"),
        ("ipv6", "direct", "direct"),
    ],
)
def test_what_people_ask_about_comes_out_as_it_must(name, expected, outcome):
    verdict = run(NAMED[name].scenario)
    assert (verdict.expected, verdict.outcome) == (expected, outcome)


def test_a_run_is_the_same_in_every_process():
    found = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT / "src")}
        finished = subprocess.run(
            [sys.executable, "-c", DIGESTS], env=environment, capture_output=True, text=True, check=True
        )
        found.add(finished.stdout)
    (digests,) = found
    assert len(set(digests.split())) == 6


def test_tracing_changes_nothing():
    plain, traced = run(draw(40)), run(draw(40), is_traced=True)
    assert plain == replace(traced, trace=(), digest="")
    assert len(traced.trace) > 100
    assert len(traced.digest) == 64


def test_a_seed_brings_the_same_wherever_it_runs():
    (result,) = run_seeds([5], jobs=1)
    assert replace(result, cpu_s=0.0) == replace(run_seed(5), cpu_s=0.0)


def test_a_failure_is_made_small_and_keeps_the_end_of_its_trace(monkeypatch):
    monkeypatch.setattr("peerway.sim.meeting.CERTAIN_S", 0.0)
    monkeypatch.setattr("peerway.sim.meeting.outlook", lambda plan, left, right: "relay")
    small = shrink_scenario(NAMED["roam"].scenario)
    assert small.verdict.violations[0].what == "direct, though the oracle knows no way"
    assert len(small.verdict.trace) == 40
    assert len(small.scenario.actions) < 3
    assert all(router.nat4 is None for router in small.scenario.plan.routers)


def test_what_does_not_fail_is_not_made_small():
    assert shrink_scenario(NAMED["two-homes"].scenario) is None


def test_a_tally_counts_outcomes_failures_and_luck():
    good = run_scenario(NAMED["two-homes"].scenario)
    lucky = replace(good, verdict=replace(good.verdict, expected="guessing", notes=("direct by luck",)))
    tally = Tally()
    for result in (good, good, lucky, SeedResult(9, None, "its process died")):
        tally.add(result)
    assert (tally.seeds, tally.failed, tally.by_luck) == (4, 1, 1)
    assert tally.outcomes == Counter({("direct", "direct"): 2, ("guessing", "direct"): 1})
    assert tally.direct_s == [good.verdict.direct_s] * 3


def test_a_lost_seed_is_a_failure_of_its_own_kind():
    lost = SeedResult(9, None, "its process died")
    assert lost.failure == lost.symptom == "its process died"


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        (HOME, "eim-apdf"),
        (CONE, "eim-eif"),
        (SYMMETRIC, "edm"),
        (FIREWALL, "firewall"),
        (replace(HOME, udp_blocked=True), "udp-blocked"),
    ],
)
def test_a_box_is_called_what_the_lab_calls_it(box, kind):
    assert kind_of(box) == kind


def test_what_a_host_stands_behind_is_told_from_the_inside_out():
    assert behind(NAMED["hairpin"].scenario.plan, "left") == "eim-apdf+eim-apdf"
    assert pair_of_kinds(NAMED["two-symmetric"].scenario.plan, "left", "right") == ("edm", "edm")
    assert pair_of_kinds(NAMED["one-lan"].scenario.plan, "left", "right") == ("same-lan", "same-lan")
