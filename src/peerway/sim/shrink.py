"""Makes a failing scenario as small as it can be while it still fails in the same way.

Step after step something is left out or made plain: actions, routers, relays, interfaces, then
every field that differs from its default, then the numbers that have none. A step is kept when
what is left still fails. It ends when no step is, or after so many runs. What a step does follows
from the fields of the dataclasses alone, so that new actions and new fields shrink as well.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import cast

from peerway.sim.plan import InternetPlan, RouterPlan
from peerway.sim.run import Verdict
from peerway.sim.scenario import Action, Guest, Scenario
from peerway.sim.soundness import names_of, problem_of
from peerway.sim.written import default_of

RUNS = 400

Fails = Callable[[Scenario], bool]


def symptom(verdict: Verdict) -> str:
    """How a run failed first, without its times and sizes; "" when it did not."""
    return re.sub(r"[0-9.]+", "#", verdict.violations[0].what) if verdict.violations else ""


def shrink(scenario: Scenario, fails: Fails, runs: int = RUNS) -> Scenario:
    """The smallest scenario found, in at most so many calls of `fails`, for which that is true.

    `scenario` itself is one. The same `scenario` and `fails` give the same result.
    """
    return Shrinking(scenario, fails, runs).to_the_end()


class Shrinking:
    """The search: `best` is the smallest so far, `runs_made` how often a scenario was tried."""

    def __init__(self, scenario: Scenario, fails: Fails, runs: int = RUNS) -> None:
        self.best = scenario
        self.runs_made = 0
        self._fails = fails
        self._runs = runs
        self._tried = {scenario}

    def to_the_end(self) -> Scenario:
        """Until nothing can be left out."""
        while self._pass():
            pass
        return self.best

    def _pass(self) -> bool:
        """Try each step once, on what the steps before it left; whether any helped."""
        before, position = self.best, 0
        steps = list(simpler(self.best))
        while position < len(steps):
            if self._still_fails(steps[position]):
                # what came before this step did not help a moment ago: go on from here
                self.best = steps[position]
                steps = list(simpler(self.best))
            else:
                position += 1
        return self.best != before

    def _still_fails(self, candidate: Scenario) -> bool:
        if candidate in self._tried or self.runs_made >= self._runs or problem_of(candidate):
            return False
        self._tried.add(candidate)
        self.runs_made += 1
        return self._fails(candidate)


def simpler(scenario: Scenario) -> Iterator[Scenario]:
    """Scenarios a step simpler, the bold steps first. Some cannot be run."""
    for actions in _shorter(scenario.actions):
        yield replace(scenario, actions=cast("tuple[Action, ...]", actions))
    for attacks in _shorter(scenario.attacks):
        yield replace(scenario, attacks=cast("tuple[str, ...]", attacks))
    for guests in _shorter(scenario.guests):
        yield replace(scenario, guests=cast("tuple[Guest, ...]", guests))
    for router in scenario.plan.routers:
        yield from _without_router(scenario, router)
    for plan in _simpler(scenario.plan):
        yield _tidied(scenario, cast("InternetPlan", plan))
    for position, action in enumerate(scenario.actions):
        for easier in _simpler(action):
            actions = (*scenario.actions[:position], easier, *scenario.actions[position + 1 :])
            yield replace(scenario, actions=cast("tuple[Action, ...]", actions))


# --- the parts that refer to each other


def _without_router(scenario: Scenario, router: RouterPlan) -> Iterator[Scenario]:
    """What was behind the router is behind its uplink, or hosts are behind another router."""
    others = [other for other in scenario.plan.routers if other is not router]
    routers = tuple(
        replace(other, uplink=router.uplink) if other.uplink == router.name else other for other in others
    )
    for target in dict.fromkeys((router.uplink, *(other.name for other in others))):
        hosts = tuple(
            replace(
                host,
                interfaces=tuple(
                    replace(interface, router=target) if interface.router == router.name else interface
                    for interface in host.interfaces
                ),
            )
            for host in scenario.plan.hosts
        )
        yield _tidied(scenario, replace(scenario.plan, routers=routers, hosts=hosts))


def _tidied(scenario: Scenario, plan: InternetPlan) -> Scenario:
    """The scenario on `plan`, without what is about parts that are no more."""
    names = set(names_of(plan))
    plan = replace(plan, down=tuple(name for name in plan.down if name in names))
    actions = tuple(
        action
        for action in scenario.actions
        if all(getattr(action, name, None) in (None, *names) for name in ("router", "name"))
    )
    return replace(scenario, plan=plan, actions=actions)


# --- any value


def _simpler(value: object, default: object = MISSING) -> Iterator[object]:
    """Values in the place of `value`, each a step simpler; its default is the simplest."""
    if value == default:
        return
    if default is not MISSING:
        yield default
    if isinstance(value, tuple):
        yield from _shorter(value)
        for position, item in enumerate(value):
            for easier in _simpler(item):
                yield (*value[:position], easier, *value[position + 1 :])
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            for easier in _simpler(getattr(value, field.name), default_of(field)):
                yield replace(value, **{field.name: easier})
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _rounder(value, has_default=default is not MISSING)
    elif value == "both":
        yield from ("left", "right")


def _shorter(items: tuple[object, ...]) -> Iterator[tuple[object, ...]]:
    """Without so many in a row: first half of them, then fewer, then each alone."""
    size = max(len(items) // 2, 1)
    while items:
        for start in range(0, len(items), size):
            yield items[:start] + items[start + size :]
        if size == 1:
            return
        size //= 2


def _rounder(value: int | float, *, has_default: bool) -> Iterator[int | float]:
    """Numbers with fewer digits; where no default says what is plain, smaller ones down to 1 too."""
    if value <= 0 or not math.isfinite(value):
        return
    for digits in (1, 2):
        rounded = float(f"{value:.{digits - 1}e}")
        if len(f"{rounded:g}") < len(repr(value).removesuffix(".0")):
            yield type(value)(rounded)
    if not has_default:
        for smaller in (1, value / 10, value / 2):
            if 1 <= smaller < value:
                yield type(value)(float(f"{smaller:.0e}"))
