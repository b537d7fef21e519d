"""The small pure parts of port mapping: which protocol, when to renew, whose address, which way out."""

import random
from itertools import pairwise

import pytest

from peerway.core.machine import InterfaceAddress, UdpAddress
from peerway.core.portmap.epoch import NatPmpEpoch, PcpEpoch
from peerway.core.portmap.external import Beyond, is_usable, look_beyond
from peerway.core.portmap.lease import Lease, renewal_offsets
from peerway.core.portmap.leftovers import MAX_LEFTOVERS, Leftovers
from peerway.core.portmap.race import best_protocol, is_undecided
from peerway.core.portmap.report import Protocol, Standing
from peerway.core.portmap.uplink import Uplink, uplinks

PCP, PMP, UPNP = Protocol
SPEAKS, SILENT, UNKNOWN, REFUSES = Standing.SPEAKS, Standing.SILENT, Standing.UNKNOWN, Standing.REFUSES


# --- the race ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("standings", "failed", "waited", "best"),
    [
        ({}, (), False, None),
        ({}, (), True, None),
        ({PCP: SPEAKS}, (), False, PCP),
        ({PMP: SPEAKS}, (), False, None),
        ({PMP: SPEAKS}, (), True, PMP),
        ({PCP: REFUSES, PMP: SPEAKS}, (), False, PMP),
        ({PCP: SILENT, PMP: SILENT, UPNP: SPEAKS}, (), False, UPNP),
        ({PCP: SPEAKS, PMP: SPEAKS}, (PCP,), False, PMP),
        ({PCP: SPEAKS}, (PCP,), True, None),
        ({PCP: SPEAKS, PMP: SPEAKS, UPNP: SPEAKS}, (PCP, PMP, UPNP), True, None),
    ],
)
def test_the_best_protocol(standings, failed, waited, best):
    assert best_protocol(standings, failed, waited=waited) is best


def test_it_is_undecided_while_any_protocol_may_still_serve():
    assert is_undecided({}, ())
    assert is_undecided({PCP: SILENT, PMP: REFUSES}, ())
    assert is_undecided({PCP: SPEAKS, PMP: SILENT, UPNP: SILENT}, ())
    assert not is_undecided({PCP: SPEAKS, PMP: SILENT, UPNP: SILENT}, (PCP,))


# --- leases -------------------------------------------------------------------------------


def lease(protocol, lifetime_s=7200):
    return Lease(protocol, "192.168.1.1", UdpAddress("192.168.1.2", 5), 5, lifetime_s=lifetime_s)


def test_nat_pmp_renews_at_half_and_at_half_of_what_is_left():
    offsets = list(renewal_offsets(lease(PMP), random.Random(1)))
    assert offsets[:4] == [3600.0, 5400.0, 6300.0, 6750.0]
    assert offsets[-1] < 7200


@pytest.mark.parametrize("seed", range(20))
def test_pcp_renews_within_the_windows_of_the_rfc(seed):
    first, second, third, *_ = renewal_offsets(lease(PCP), random.Random(seed))
    assert 3600 <= first <= 4500
    assert 5400 <= second <= 5850
    assert 6300 <= third <= 6525


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize("lifetime", [1, 2, 5, 10, 60, 7200, 86_400])
def test_renewals_are_four_seconds_apart_and_end_before_the_lease(protocol, lifetime):
    offsets = [0.0, *renewal_offsets(lease(protocol, lifetime), random.Random(3))]
    assert all(later - earlier >= 4 for earlier, later in pairwise(offsets))
    assert offsets[-1] < lifetime


def test_a_lease_without_end_is_renewed_every_twenty_minutes():
    assert list(renewal_offsets(lease(UPNP, 0), random.Random(1))) == [1200.0]


def test_only_so_many_leftovers_are_looked_at():
    many = tuple(lease(PMP, number) for number in range(1, 40))
    leftovers = Leftovers(many)
    assert len(leftovers.to_release({PMP: SPEAKS})) == MAX_LEFTOVERS == 8
    assert leftovers.to_release({PMP: SPEAKS}) == []


def test_a_leftover_that_cannot_be_removed_blocks_nobody():
    leftovers = Leftovers((lease(PMP),))
    assert leftovers.block({})
    leftovers.to_release({PMP: SPEAKS})
    assert leftovers.released(lease(PMP), "refused")
    assert not leftovers.block({PMP: SPEAKS})
    assert leftovers.leases == (lease(PMP),)
    assert not leftovers.released(lease(PMP), "")


# --- has the gateway forgotten? -----------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "goes_on"),
    [
        ([(100, 0.0), (200, 100.0)], True),
        ([(100, 0.0), (187, 100.0)], True),  # an eighth slow
        ([(100, 0.0), (185, 100.0)], False),  # 100 + 87.5 - 2 = 185.5
        ([(100, 0.0), (0, 1.0)], False),
        ([(100, 0.0), (98, 0.0)], True),
        ([(100, 0.0), (97, 0.0)], False),
        ([(100, 0.0), (100_000, 1.0)], True),  # fast clocks are no sign
    ],
)
def test_nat_pmp_knows_a_restart_by_a_clock_that_fell_behind(answers, goes_on):
    epoch = NatPmpEpoch()
    assert [epoch.goes_on(*answer) for answer in answers] == [True, goes_on]


@pytest.mark.parametrize(
    ("answers", "goes_on"),
    [
        ([(100, 0.0), (200, 100.0)], True),
        ([(100, 0.0), (99, 0.0)], True),
        ([(100, 0.0), (98, 0.0)], False),  # back by more than a second
        ([(100, 0.0), (192, 100.0)], True),  # a sixteenth slow
        ([(100, 0.0), (191, 100.0)], False),
        ([(100, 0.0), (208, 100.0)], True),  # a sixteenth fast
        ([(100, 0.0), (209, 100.0)], False),
        ([(100, 0.0), (100_000, 1.0)], False),
    ],
)
def test_pcp_knows_a_restart_by_a_clock_that_differs(answers, goes_on):
    epoch = PcpEpoch()
    assert [epoch.goes_on(*answer) for answer in answers] == [True, goes_on]


# --- whose address? -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ip", "usable"),
    [
        ("203.1.113.7", True),
        ("10.0.0.1", True),
        ("100.64.0.1", True),
        ("198.51.100.1", True),
        ("0.0.0.0", False),
        ("127.0.0.1", False),
        ("169.254.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("", False),
        ("2001:4860::1", True),
        ("::1", False),
    ],
)
def test_an_address_somebody_might_be_reached_at(ip, usable):
    assert is_usable(ip) is usable


def test_nothing_known_is_nothing_thought():
    assert look_beyond("", False, "", ()) == Beyond()
    assert look_beyond("", True, "", ()) == Beyond()
    assert look_beyond("203.1.113.7", False, "", ()) == Beyond()


def test_the_internet_sees_us_at_the_gateways_address():
    assert look_beyond("203.1.113.7", False, "", ("203.1.113.7",)).nat is False


def test_the_gateways_own_word_goes_first():
    assert look_beyond("203.1.113.7", False, "it says so", ("203.1.113.7",)) == Beyond(True, "it says so")


# --- ways out ---------------------------------------------------------------------------------

SHARED = UdpAddress("0.0.0.0", 41641)
ETHERNET = InterfaceAddress("eth0", "192.168.1.2", 24, 100, "192.168.1.1")
WIFI = InterfaceAddress("wlan0", "192.168.7.2", 24, 600, "192.168.7.1")
TUNNEL = InterfaceAddress("tun0", "10.8.0.2", 24, 50)


def test_the_favourite_goes_by_the_shared_socket_and_others_by_their_own():
    own = UdpAddress("192.168.7.2", 7000)
    assert uplinks((WIFI, ETHERNET), (SHARED, own)) == (
        Uplink("eth0", "192.168.1.1", UdpAddress("192.168.1.2", 41641)),
        Uplink("wlan0", "192.168.7.1", own),
    )
    assert uplinks((WIFI, ETHERNET), (SHARED,)) == (
        Uplink("eth0", "192.168.1.1", UdpAddress("192.168.1.2", 41641)),
    )


def test_under_a_tunnel_the_shared_socket_goes_by_the_tunnel():
    own = UdpAddress("192.168.1.2", 7000)
    assert uplinks((TUNNEL, ETHERNET), (SHARED,)) == ()
    assert uplinks((TUNNEL, ETHERNET), (SHARED, own)) == (Uplink("eth0", "192.168.1.1", own),)


def test_where_metrics_are_not_known_the_first_with_a_gateway_is_the_favourite():
    plain = InterfaceAddress("en0", "192.168.1.2", 24, None, "192.168.1.1")
    other = InterfaceAddress("lo9", "10.0.0.1", 8)
    assert [u.interface for u in uplinks((other, plain), (SHARED,))] == ["en0"]


def test_there_is_a_limit():
    many = tuple(InterfaceAddress(f"p{n}", f"10.0.{n}.2", 24, n, f"10.0.{n}.1") for n in range(20))
    sockets = tuple(UdpAddress(f"10.0.{n}.2", 7000 + n) for n in range(20))
    assert len(uplinks(many, sockets)) == 4
