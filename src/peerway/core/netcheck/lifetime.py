"""How long a NAT remembers a mapping on which nothing passes (RFC 5780 4.6).

A trial lasts as long as the age it tries: a fresh socket asks a server, and rests. Then another socket
asks the same server to answer to the first one. If that arrives, the mapping has lived so long; to
ask from the first socket itself would make it anew. First several ages are tried side by side, each
the double of the one before; then ages halfway between the longest that lived and the shortest
that did not, until they are close.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from peerway.core.machine import UdpAddress
from peerway.core.netcheck.knowledge import Knowledge
from peerway.core.netcheck.probes import Answer, Ask, Probe, Silence

LADDER_S = (7.5, 15.0, 30.0, 60.0, 120.0, 240.0)
CLOSE_S = 2.0
CLOSE_SHARE = 0.1  # of the age
LONGEST_S = 900.0  # what all trials together may take


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A mapping lives for `at_least_s` seconds, and is gone after `less_than_s`, None: none was."""

    at_least_s: float
    less_than_s: float | None


def lifetime(known: Knowledge, helper: UdpAddress) -> Lifetime | None:
    """What the trials show; None when they show nothing."""
    results = _results(known, helper)
    if not any(alive is not None for alive in results.values()):
        return None
    return Lifetime(*_bounds(results))


def trials(known: Knowledge, helper: UdpAddress) -> Iterator[Probe]:
    """The probes of all trials that are to be made as things stand."""
    results = _results(known, helper)
    longest_alive, shortest_dead = _bounds(results)
    ages = [age for age in LADDER_S if shortest_dead is None or age <= shortest_dead]
    ages += [age for age in results if age not in ages and results[age] is not None]
    useless = any(alive is None and age in LADDER_S for age, alive in results.items())
    if shortest_dead is not None and not useless:
        between = (longest_alive + shortest_dead) / 2
        if shortest_dead - longest_alive > max(CLOSE_S, CLOSE_SHARE * shortest_dead):
            ages.append(between)
    for age in ages:
        yield from _trial(age, helper)


def _trial(age: float, helper: UdpAddress) -> tuple[Ask, Ask, Ask]:
    """A socket that rests, the question that is to wake it, and whether the helper answers at all."""
    resting, waking = f"rest {age:g}", f"wake {age:g}"
    return (
        Ask(resting, helper),
        Ask(waking, helper, arrives_at=resting, since=resting, age_s=age),
        Ask(waking, helper, since=resting, age_s=age),
    )


def _results(known: Knowledge, helper: UdpAddress) -> dict[float, bool | None]:
    """Ages that were tried to the end, and whether the mapping lived; None: the trial showed nothing."""
    ages = [p.age_s for p in known.outcomes if isinstance(p, Ask) and p.arrives_at and p.server == helper]
    return {age: _lived(known, *_trial(age, helper)) for age in ages}


def _lived(known: Knowledge, resting: Ask, waking: Ask, control: Ask) -> bool | None:
    if isinstance(known.outcomes.get(waking), Answer):
        return True
    before, now = known.answer(resting), known.answer(control)
    same_way_out = before is not None and now is not None and before.mapped.ip == now.mapped.ip
    return False if same_way_out and isinstance(known.outcomes.get(waking), Silence) else None


def _bounds(results: dict[float, bool | None]) -> tuple[float, float | None]:
    dead = min((age for age, alive in results.items() if alive is False), default=None)
    alive = [age for age, lived in results.items() if lived and (dead is None or age < dead)]
    return max(alive, default=0.0), dead
