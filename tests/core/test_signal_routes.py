import pytest

from peerway.core.machine import RelayAddress, UdpAddress
from peerway.core.signal.routes import MAX_GIVEN, MAX_ROUTES, Routes


def udp(number):
    return UdpAddress("198.51.100.66", number)


def at_relay(name, number=0):
    return RelayAddress(f"http://{name}", bytes([number]) * 32)


def test_what_was_given_stays_whatever_is_learned():
    routes = Routes()
    given = [at_relay("home"), udp(1)]
    assert all(routes.give(route) for route in given)
    for number in range(2, 200):
        routes.signal_came(udp(number))
        routes.signal_came(at_relay("home", number))
    assert list(routes)[:2] == given
    assert len(list(routes)) == 6


def test_of_each_place_the_newest_two_are_kept():
    routes = Routes()
    for number in (1, 2, 3, 2):
        routes.learn(udp(number))
        routes.learn(at_relay("a", number))
        routes.learn(at_relay("b", number))
    assert sorted(map(str, routes)) == sorted(
        ["198.51.100.66:2", "198.51.100.66:3"] + ["relay http://a"] * 2 + ["relay http://b"] * 2
    )
    assert {route.key[0] for route in routes if isinstance(route, RelayAddress)} == {2, 3}


def test_a_flood_from_one_place_takes_no_other_places_place():
    routes = Routes()
    routes.signal_came(at_relay("honest"))
    for number in range(100):
        routes.signal_came(udp(number))
        routes.signal_came(at_relay("lying", number))
    assert at_relay("honest") in routes


def test_no_more_are_kept_than_the_limits_say():
    routes = Routes()
    assert [routes.give(udp(number)) for number in range(MAX_GIVEN + 2)] == [True] * MAX_GIVEN + [False] * 2
    for name in "abcdefgh":
        routes.learn(at_relay(name))
    assert len(list(routes)) == MAX_ROUTES == 12


@pytest.mark.parametrize("order", [("give", "learn"), ("learn", "give")])
def test_a_route_is_new_once(order):
    routes = Routes()
    assert [getattr(routes, verb)(udp(1)) for verb in order] == [True, False]
    assert list(routes) == [udp(1)]


def test_copies_show_two_ways_of_each_place_and_each_but_once():
    routes = Routes()
    routes.signal_came(udp(1))
    assert [routes.copy_came(udp(number)) for number in (1, 2, 2, 3)] == [False, True, False, False]
    assert [routes.copy_came(at_relay("a", number)) for number in (1, 2, 3)] == [True, True, False]
    routes.signal_came(udp(3))
    assert routes.copy_came(udp(1))
