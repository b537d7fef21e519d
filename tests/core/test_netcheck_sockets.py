import pytest

from peerway.core.machine import CloseSocket, OpenSocket, UdpAddress
from peerway.core.netcheck.sockets import MAX_SOCKETS, NamedSockets

ONE, TWO, SIX = UdpAddress("0.0.0.0", 1), UdpAddress("0.0.0.0", 2), UdpAddress("::", 3)


@pytest.fixture
def sockets():
    return NamedSockets()


def test_sockets_come_in_the_order_of_asking_each_family_by_itself(sockets):
    assert sockets.want("a", 4) == OpenSocket("", "0.0.0.0")
    assert sockets.want("six", 6) == OpenSocket("", "::")
    assert sockets.want("b", 4) == OpenSocket("", "0.0.0.0")
    assert [sockets.opened(local) for local in (SIX, ONE, TWO)] == ["six", "a", "b"]
    assert [sockets.local(name) for name in ("a", "b", "six", "c")] == [ONE, TWO, SIX, None]


def test_what_is_open_awaited_or_refused_is_not_asked_for_again(sockets):
    sockets.want("a", 4)
    assert sockets.want("a", 4) is None
    sockets.opened(ONE)
    assert sockets.want("a", 4) is None
    sockets.want("b", 4)
    assert sockets.failed("0.0.0.0", "too many open files") == "b"
    assert sockets.want("b", 4) is None
    assert (sockets.error("a"), sockets.error("b")) == ("", "too many open files")


def test_nobody_asked_for_what_comes_unasked(sockets):
    assert sockets.opened(ONE) is None
    assert sockets.failed("::", "no") is None


def test_at_the_end_all_are_given_back_and_late_ones_are_nobodys(sockets):
    for name in ("a", "b"):
        sockets.want(name, 4)
    sockets.opened(ONE)
    assert sockets.give_back() == [CloseSocket(ONE)]
    assert sockets.opened(TWO) is None
    assert sockets.give_back() == []


def test_there_is_a_limit(sockets):
    asked = [sockets.want(str(number), 4) for number in range(MAX_SOCKETS + 1)]
    assert [request is None for request in asked] == [False] * 64 + [True]
    assert sockets.error("64") == "64 are open already"
