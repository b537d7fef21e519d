"""The shrinker finds the smallest scenario that still fails, whatever the failure is about."""

from dataclasses import replace

from peerway.sim import (
    Bursts,
    Dial,
    Filtering,
    Guest,
    HangUp,
    HostPlan,
    InterfacePlan,
    InternetPlan,
    LinkQuality,
    NatBehaviour,
    Partition,
    Pause,
    Reboot,
    RelayPlan,
    Roam,
    RouterPlan,
    Scenario,
    Transfer,
)
from peerway.sim.run import Verdict, Violation, run
from peerway.sim.shrink import Shrinking, shrink, symptom
from peerway.sim.soundness import problem_of

CONE = NatBehaviour(filtering=Filtering.ENDPOINT_INDEPENDENT, idle_s=10.0, input_open=True)
BIG = Scenario(
    9,
    InternetPlan(
        (
            RouterPlan("carrier", nat4=CONE, nat6=NatBehaviour(translates=False), inside="100.64.0"),
            RouterPlan("left-home", "carrier", CONE, quality=LinkQuality(0.0123456, loss=0.05)),
            RouterPlan("right-home", nat4=CONE, quality=LinkQuality(bursts=Bursts(0.01, 0.3))),
            RouterPlan("elsewhere", nat4=CONE),
        ),
        (
            HostPlan("left", (InterfacePlan("left-home", (4, 6)),), port=41641),
            HostPlan("right", (InterfacePlan("right-home"),)),
        ),
        (RelayPlan("relay1.test", (4, 6)), RelayPlan("relay2.test")),
    ),
    (
        Dial("both"),
        Transfer("left", 123_456),
        Reboot("carrier", renumber=True),
        Pause(70.0),
        Roam("right", "elsewhere"),
        Partition("relay2.test", 15.0),
        HangUp("left"),
    ),
)
SMALLEST = Scenario(
    9,
    InternetPlan(
        (RouterPlan("elsewhere"),),
        (
            HostPlan("left", (InterfacePlan("elsewhere"),)),
            HostPlan("right", (InterfacePlan("elsewhere"),)),
        ),
    ),
    (),
)


def test_where_everything_fails_next_to_nothing_is_left():
    assert shrink(BIG, lambda scenario: True) == SMALLEST


def test_where_nothing_fails_all_is_left():
    assert shrink(BIG, lambda scenario: False) == BIG


def test_an_enemy_that_matters_is_the_only_one_that_is_kept():
    guests = (Guest("left", "behaves"), Guest("right", "never answers"))
    many = replace(BIG, attacks=("garbage", "reflections"), guests=guests)
    found = shrink(many, lambda scenario: "reflections" in scenario.attacks)
    assert found == replace(SMALLEST, attacks=("reflections",))
    found = shrink(many, lambda scenario: guests[1] in scenario.guests)
    assert found == replace(SMALLEST, guests=guests[1:])


def test_one_action_that_matters_is_all_that_is_kept():
    found = shrink(BIG, lambda scenario: any(isinstance(action, Roam) for action in scenario.actions))
    assert found == replace(SMALLEST, actions=(Roam("right", "elsewhere"),))


def test_one_field_that_matters_keeps_its_router_and_nothing_else():
    def fails(scenario):
        boxes = [router.nat4 for router in scenario.plan.routers if router.nat4]
        return any(box.filtering is Filtering.ENDPOINT_INDEPENDENT for box in boxes)

    (router,) = shrink(BIG, fails).plan.routers
    assert router.nat4 == NatBehaviour(filtering=Filtering.ENDPOINT_INDEPENDENT)
    assert router == RouterPlan(router.name, nat4=router.nat4)


def test_two_actions_that_matter_together_are_kept_in_their_order():
    def fails(scenario):
        kinds = [type(action) for action in scenario.actions]
        return Dial in kinds and Partition in kinds[kinds.index(Dial) :]

    found = shrink(BIG, fails)
    assert found.actions == (Dial("left"), Partition("relay2.test", 1.0))
    assert found.plan == replace(SMALLEST.plan, relays=(RelayPlan("relay2.test"),))


def test_numbers_become_round_and_no_smaller_than_they_must_be():
    found = shrink(BIG, lambda scenario: any(getattr(a, "size", 0) >= 1000 for a in scenario.actions))
    assert found.actions == (Transfer("left", 1000),)
    found = shrink(BIG, lambda scenario: any(r.quality.delay_s > 0.011 for r in scenario.plan.routers))
    assert [router.quality.delay_s for router in found.plan.routers] == [0.012]


def test_what_cannot_be_run_is_never_tried():
    tried = []

    def fails(scenario):
        tried.append(scenario)
        return len(scenario.plan.hosts[0].interfaces[0].families) == 2

    shrink(BIG, fails)
    assert {problem_of(scenario) for scenario in tried} == {""}
    assert len(set(tried)) == len(tried)


def test_the_number_of_runs_has_a_bound():
    shrinking = Shrinking(BIG, lambda scenario: len(scenario.actions) > 3, runs=10)
    assert len(shrinking.to_the_end().actions) <= len(BIG.actions)
    assert shrinking.runs_made == 10


def test_the_same_failure_shrinks_to_the_same_scenario():
    def fails(scenario):
        return sum(isinstance(action, Roam | Reboot) for action in scenario.actions) == 2

    assert shrink(BIG, fails) == shrink(BIG, fails)


def test_a_symptom_is_the_first_violation_without_its_numbers():
    first, second = Violation(1.0, "left sent 35 packets in 9.5 s"), Violation(2.0, "more")
    verdict = Verdict(1, (first, second), "direct", "direct", 0.1, 0.2, 9, True, (), 3.0)
    assert symptom(verdict) == "left sent # packets in # s"
    assert symptom(replace(verdict, violations=())) == ""


def test_a_real_bug_is_shrunk_to_what_it_takes(monkeypatch):
    # answers that stay out are not noticed: a path that dies is never left
    monkeypatch.setattr("peerway.core.path.pair.Pair._overdue", lambda pair, now: None)
    reboot = Reboot("right-home", renumber=True)
    actions = (Dial("both"), Transfer("left", 5000), Pause(5.0), reboot, HangUp("right"))
    scenario = replace(BIG, actions=actions)
    wanted = symptom(run(scenario))
    assert wanted == "what left sent did not arrive within # s"
    shrinking = Shrinking(scenario, lambda candidate: symptom(run(candidate)) == wanted)
    found = shrinking.to_the_end()
    assert found.actions == (Dial("left"), reboot)
    assert [router for router in found.plan.routers if router != RouterPlan(router.name)] == [
        RouterPlan("right-home", nat4=NatBehaviour())
    ]
    assert symptom(run(found)) == wanted
    assert shrinking.runs_made < 60
