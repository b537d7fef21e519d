import pytest

from peerway.core.relay.home import HomeChoice, choose_home

NEAR, FAR, THIRD = "http://near:3340", "http://far:3340", "http://third:3340"


def chosen(current=None, **milliseconds):
    names = {"near": NEAR, "far": FAR, "third": THIRD}
    trips = {names[k]: None if v is None else v / 1000 for k, v in milliseconds.items()}
    return choose_home(trips, current).url


def test_the_nearest_relay_becomes_home():
    assert chosen(far=80, near=20, third=50) == NEAR


def test_of_equals_the_first_becomes_home():
    assert chosen(far=20, near=20) == FAR


@pytest.mark.parametrize(
    ("far", "near", "moves"),
    [
        (40, 20, True),
        (40, 31, False),  # a gain of 9 ms is too little
        (31, 20, True),
        (300, 210, False),  # a gain of 90 ms, but more than two thirds of it remain
        (300, 190, True),
        (12, 1, True),
        (9, 0, False),
    ],
)
def test_home_changes_only_for_a_gain_of_10_ms_and_a_third(far, near, moves):
    assert chosen(FAR, far=far, near=near) == (NEAR if moves else FAR)


def test_a_home_that_cannot_be_reached_is_left_at_once():
    assert chosen(FAR, far=None, near=300) == NEAR
    assert chosen(FAR, near=300) == NEAR


def test_without_any_relay_there_is_no_home():
    assert choose_home({}) == HomeChoice(None, "no relay can be reached")
    assert chosen(FAR, far=None, near=None) is None


def test_the_choice_says_why():
    assert choose_home({FAR: 0.04, NEAR: 0.035}, FAR).reason == (
        "stays: another is no nearer than it is worth, 35 ms against 40 ms"
    )
    assert choose_home({FAR: 0.04, NEAR: 0.02}, FAR).reason == "nearer: 20 ms against 40 ms"
    assert choose_home({FAR: 0.04}, FAR).reason == "the nearest: 40 ms"
    assert choose_home({FAR: 0.04}, NEAR).reason == "the nearest that can be reached: 40 ms"
