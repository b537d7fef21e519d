"""The search for how long a mapping lives: which ages are tried next, and what the trials show."""

import pytest

from peerway.core.machine import UdpAddress
from peerway.core.netcheck.knowledge import Knowledge, Question
from peerway.core.netcheck.lifetime import Lifetime, lifetime, trials
from peerway.core.netcheck.probes import Answer, Ask, Refusal, Silence

SERVER = UdpAddress("203.0.113.10", 3478)
LOCAL = UdpAddress("0.0.0.0", 50000)


def answer(ip="198.51.100.1"):
    return Answer(UdpAddress(ip, 6000), LOCAL, 0.02, None, 1.0)


SILENCE = Silence("no answer")


def tried(*, alive=(), dead=(), control=answer, waking=SILENCE):
    """What is known once these ages were tried."""
    known = Knowledge(Question(stun=((SERVER.ip, SERVER.port),)))
    for age in (*alive, *dead):
        rest, wake = f"rest {age:g}", f"wake {age:g}"
        known.outcomes[Ask(rest, SERVER)] = answer()
        known.outcomes[Ask(wake, SERVER, arrives_at=rest, since=rest, age_s=age)] = (
            answer() if age in alive else waking
        )
        known.outcomes[Ask(wake, SERVER, since=rest, age_s=age)] = control()
    return known


def ages(known):
    return sorted({probe.age_s for probe in trials(known, SERVER) if probe.arrives_at})


def test_at_first_six_ages_are_tried_side_by_side():
    assert ages(tried()) == [7.5, 15, 30, 60, 120, 240]
    probes = list(trials(tried(), SERVER))[:3]
    assert probes == [
        Ask("rest 7.5", SERVER),
        Ask("wake 7.5", SERVER, arrives_at="rest 7.5", since="rest 7.5", age_s=7.5),
        Ask("wake 7.5", SERVER, since="rest 7.5", age_s=7.5),
    ]


@pytest.mark.parametrize(
    ("alive", "dead", "next_age"),
    [
        ((7.5, 15), (30,), 22.5),
        ((7.5, 15, 22.5), (30,), 26.25),
        ((7.5, 15, 22.5, 26.25), (30,), 28.125),
        ((), (7.5,), 3.75),
        ((7.5, 15, 30, 60, 120), (240,), 180),
    ],
)
def test_then_the_age_between_the_longest_that_lived_and_the_shortest_that_did_not(alive, dead, next_age):
    assert next_age in ages(tried(alive=alive, dead=dead))
    assert max(ages(tried(alive=alive, dead=dead))) == min(dead)


@pytest.mark.parametrize(
    ("alive", "dead"), [((7.5, 15, 22.5, 26.25, 28.125), (30,)), ((7.5, 15, 30, 60, 120, 220), (240,))]
)
def test_the_search_ends_when_they_are_close(alive, dead):
    assert ages(tried(alive=alive, dead=dead)) == sorted((*alive, *dead))
    assert lifetime(tried(alive=alive, dead=dead), SERVER) == Lifetime(alive[-1], dead[0])


def test_a_mapping_that_always_lived_has_no_upper_bound():
    known = tried(alive=(7.5, 15, 30, 60, 120, 240))
    assert ages(known) == [7.5, 15, 30, 60, 120, 240]
    assert lifetime(known, SERVER) == Lifetime(240, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"control": lambda: SILENCE},  # the server itself is gone
        {"control": lambda: answer("198.51.100.2")},  # another address: the question went astray
        {"waking": Refusal("420")},  # the server does not do it
    ],
)
def test_a_trial_that_proves_nothing_shows_nothing_and_ends_the_search(wrong):
    known = tried(dead=(7.5, 15, 30, 60, 120, 240), **wrong)
    assert lifetime(known, SERVER) is None
    assert ages(known) == [7.5, 15, 30, 60, 120, 240]


def test_before_any_trial_nothing_is_known():
    assert lifetime(tried(), SERVER) is None
