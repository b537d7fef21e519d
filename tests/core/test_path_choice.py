import pytest

from peerway.core.machine import RelayAddress, UdpAddress
from peerway.core.path.choice import Decision, PathView, choose
from peerway.core.path.events import PathKind

SOCKET = UdpAddress("0.0.0.0", 41641)
LAN = (SOCKET, UdpAddress("192.168.1.3", 41641))
WAN = (SOCKET, UdpAddress("203.0.113.7", 41641))
OTHER = (SOCKET, UdpAddress("198.51.100.9", 41641))
V6 = (UdpAddress("::", 41641), UdpAddress("2001:db8::7", 41641))
RELAY = (None, RelayAddress("http://relay", b"k" * 32))


def view(key, rtt, kind=PathKind.DIRECT, **more):
    return PathView(key, kind, round_trip=rtt, **more)


def relay(rtt=0.001, **more):
    return view(RELAY, rtt, PathKind.RELAY, **more)


def test_without_any_path_there_is_none():
    assert choose([], None) == Decision(None, "no path works")


def test_the_relay_carries_until_something_direct_works():
    assert choose([relay()], None).key == RELAY


def test_a_live_direct_path_never_loses_to_a_relay():
    assert choose([relay(0.001), view(WAN, 0.4)], RELAY).key == WAN


def test_a_doubted_direct_path_loses_to_a_relay():
    assert choose([relay(0.2), view(WAN, 0.01, doubted=True)], WAN).key == RELAY


def test_when_all_are_in_doubt_the_one_in_use_stays():
    paths = [relay(doubted=True), view(WAN, 0.01, doubted=True)]
    assert choose(paths, WAN).key == WAN
    assert choose(paths, None).key == RELAY


def test_lan_goes_before_wan_when_they_are_as_good():
    assert choose([view(WAN, 0.0012), view(LAN, 0.001, PathKind.LAN)], WAN).key == LAN


def test_the_better_of_two_direct_paths_is_chosen():
    assert choose([view(WAN, 0.080), view(OTHER, 0.005)], WAN).key == OTHER


def test_a_little_better_is_no_reason_to_move():
    assert choose([view(WAN, 0.100), view(OTHER, 0.085)], WAN).key == WAN
    assert choose([view(WAN, 0.004), view(OTHER, 0.001)], WAN).key == WAN


@pytest.mark.parametrize("current", [None, WAN, V6])
def test_ipv6_goes_first_when_it_is_as_good(current):
    assert choose([view(WAN, 0.020), view(V6, 0.022)], current).key == V6


def test_ipv6_and_ipv4_do_not_take_turns_at_the_margin():
    assert choose([view(WAN, 0.100), view(V6, 0.119)], WAN).key == V6
    assert choose([view(WAN, 0.100), view(V6, 0.125)], WAN).key == WAN
    assert choose([view(WAN, 0.100), view(V6, 0.125)], V6).key == V6


@pytest.mark.parametrize("current", [None, WAN, V6])
def test_ipv6_that_is_slower_is_left(current):
    assert choose([view(WAN, 0.020), view(V6, 0.030)], current).key == WAN


def test_the_local_network_goes_before_ipv6():
    assert choose([view(LAN, 0.001, PathKind.LAN), view(V6, 0.001)], V6).key == LAN


def test_loss_counts():
    assert choose([view(WAN, 0.010, loss=0.3), view(OTHER, 0.020, loss=0.0)], WAN).key == OTHER


def test_every_decision_has_a_reason():
    for paths, current in (
        ([relay()], None),
        ([view(WAN, 0.01)], None),
        ([view(WAN, 0.01)], WAN),
        ([view(WAN, 0.01), view(OTHER, 0.05)], None),
        ([view(WAN, 0.01), view(LAN, 0.01, PathKind.LAN)], None),
        ([view(WAN, 0.01), view(V6, 0.01)], WAN),
    ):
        assert choose(paths, current).reason
