"""The oracle for whole internets: judged as written, and as it turns out for two who try."""

from dataclasses import replace

import pytest
from tests.sim.toy_machines import meet

from peerway.core.nat import Filtering, Mapping, PortAllocation
from peerway.sim.network.behaviour import Hairpin, NatBehaviour, Pooling
from peerway.sim.network.link import Bursts, LinkQuality
from peerway.sim.outlook import can_be_poisoned, comes_back_the_same, is_calm, outlook, outlooks, relayed
from peerway.sim.plan import CARRIER_NETWORK, HostPlan, InterfacePlan, InternetPlan, RelayPlan, RouterPlan

EASY = NatBehaviour()
CONE = NatBehaviour(filtering=Filtering.ENDPOINT_INDEPENDENT)
HARD = NatBehaviour(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, ports=PortAllocation.RANDOM)
FIREWALL = NatBehaviour(translates=False)
BLOCKED = NatBehaviour(udp_blocked=True)
TURNING = replace(EASY, hairpin=Hairpin.EXTERNAL_SOURCE)
RELAY = RelayPlan("relay.test", (4, 6))


def at(left, right, *routers, families=(4,), relays=(RELAY,)):
    hosts = (
        HostPlan("left", (InterfacePlan(left, families),)),
        HostPlan("right", (InterfacePlan(right, families),)),
    )
    return InternetPlan(routers, hosts, relays)


def homes(left, right, **more):
    return at("l", "r", RouterPlan("l", nat4=left), RouterPlan("r", nat4=right), **more)


def carried(carrier, left=EASY, right=EASY):
    return at(
        "l",
        "r",
        RouterPlan("carrier", nat4=carrier, inside=CARRIER_NETWORK),
        RouterPlan("l", "carrier", nat4=left),
        RouterPlan("r", "carrier", nat4=right),
    )


PLANS = {
    "two homes": (homes(EASY, EASY), "direct"),
    "one hard, one that hears everybody": (homes(HARD, CONE), "direct"),
    "one hard": (homes(HARD, EASY), "guessing"),
    "no UDP": (homes(EASY, BLOCKED), "relay"),
    "one LAN": (at("l", "l", RouterPlan("l", nat4=HARD)), "direct"),
    "one LAN without UDP beyond": (at("l", "l", RouterPlan("l", nat4=BLOCKED)), "direct"),
    "one carrier that turns": (carried(TURNING), "direct"),
    "one carrier that does not": (carried(EASY), "relay"),
    "one carrier, a hard home": (carried(TURNING, HARD), "guessing"),
    "in the carrier's network itself": (
        at(
            "carrier",
            "r",
            RouterPlan("carrier", nat4=EASY, inside=CARRIER_NETWORK),
            RouterPlan("r", "carrier", nat4=HARD),
        ),
        "direct",
    ),
    "in the carrier's network, behind a firewall": (
        at(
            "l",
            "r",
            RouterPlan("carrier", nat4=EASY, inside=CARRIER_NETWORK),
            RouterPlan("l", "carrier", nat4=FIREWALL),
            RouterPlan("r", "carrier", nat4=EASY),
        ),
        "relay",
    ),
    "IPv6 past a hard NAT": (
        at(
            "l",
            "r",
            RouterPlan("l", nat4=HARD, nat6=FIREWALL),
            RouterPlan("r", nat4=EASY, nat6=FIREWALL),
            families=(4, 6),
        ),
        "direct",
    ),
    "a link too narrow for full size": (
        at("l", "r", RouterPlan("l", quality=LinkQuality(mtu=1227)), RouterPlan("r")),
        "relay",
    ),
    "a link too narrow one way": (
        at("l", "r", RouterPlan("l", downward=LinkQuality(mtu=1227)), RouterPlan("r")),
        "relay",
    ),
    "a link just wide enough": (
        at("l", "r", RouterPlan("l", quality=LinkQuality(mtu=1228)), RouterPlan("r")),
        "direct",
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_it_is_judged_as_written(name):
    plan, expected = PLANS[name]
    assert outlook(plan, "left", "right") == expected


@pytest.mark.parametrize("name", PLANS)
def test_two_who_try_everything_meet_exactly_where_the_oracle_says(name):
    plan, expected = PLANS[name]
    assert meet(plan) is (expected == "direct")


def dual(left4, right4, left6=FIREWALL, right6=FIREWALL):
    left, right = RouterPlan("l", nat4=left4, nat6=left6), RouterPlan("r", nat4=right4, nat6=right6)
    return at("l", "r", left, right, families=(4, 6))


SECOND = InterfacePlan("m", (6,), "wwan0")
BY_FAMILY = {
    "both": (dual(EASY, EASY), {4: "direct", 6: "direct"}),
    "IPv6 past two hard NATs": (dual(HARD, HARD), {4: "guessing", 6: "direct"}),
    "IPv6 past a carrier": (
        at(
            "l",
            "r",
            RouterPlan("carrier", nat4=EASY, nat6=FIREWALL, inside=CARRIER_NETWORK),
            RouterPlan("l", "carrier", nat4=EASY, nat6=FIREWALL),
            RouterPlan("r", "carrier", nat4=EASY, nat6=FIREWALL),
            families=(4, 6),
        ),
        {4: "relay", 6: "direct"},
    ),
    "IPv4 where IPv6 is blocked": (
        dual(EASY, HARD, replace(FIREWALL, udp_blocked=True)),
        {4: "guessing", 6: "relay"},
    ),
    "no IPv6": (homes(EASY, CONE), {4: "direct", 6: "relay"}),
    "no IPv4": (homes(EASY, EASY, families=(6,)), {4: "relay", 6: "direct"}),
    "a hard NAT, and IPv6 by another interface": (
        InternetPlan(
            (RouterPlan("l", nat4=HARD), RouterPlan("m"), RouterPlan("r", nat4=HARD, nat6=FIREWALL)),
            (
                HostPlan("left", (InterfacePlan("l"), SECOND)),
                HostPlan("right", (InterfacePlan("r", (4, 6)),)),
            ),
        ),
        {4: "guessing", 6: "direct"},
    ),
    "a link too narrow for IPv6 alone": (
        at(
            "l",
            "r",
            RouterPlan("l", quality=LinkQuality(mtu=1240)),
            RouterPlan("r"),
            families=(4, 6),
        ),
        {4: "direct", 6: "relay"},
    ),
}


@pytest.mark.parametrize("name", BY_FAMILY)
def test_each_family_has_a_word_of_its_own_and_the_best_counts(name):
    plan, expected = BY_FAMILY[name]
    assert outlooks(plan, "left", "right") == expected
    best = next(word for word in ("direct", "guessing", "relay") if word in expected.values())
    assert outlook(plan, "left", "right") == best


OPEN_INPUT = replace(EASY, input_open=True)


@pytest.mark.parametrize(
    ("plan", "poisonable"),
    [
        (homes(EASY, EASY), False),
        (homes(OPEN_INPUT, EASY), True),
        (homes(EASY, OPEN_INPUT), True),
        (homes(OPEN_INPUT, CONE), False),
        (homes(OPEN_INPUT, replace(CONE, input_open=True)), True),
        (homes(OPEN_INPUT, None), False),
        (homes(OPEN_INPUT, HARD), False),  # there is no direct way to begin with
        (dual(OPEN_INPUT, EASY), False),
        (dual(OPEN_INPUT, EASY, replace(FIREWALL, udp_blocked=True)), True),
        (at("l", "l", RouterPlan("l", nat4=OPEN_INPUT)), False),
        (at("l", "r", RouterPlan("l"), RouterPlan("r"), RouterPlan("nobody's", nat4=OPEN_INPUT)), False),
    ],
)
def test_poisoned_is_who_needs_a_nat_that_strangers_can_spoil(plan, poisonable):
    assert can_be_poisoned(plan, "left", "right") is poisonable


def test_what_luck_decides_is_not_promised():
    assert outlook(homes(EASY, replace(EASY, idle_s=2.0)), "left", "right") == "unsure"
    assert outlook(homes(EASY, replace(EASY, session_limit=10)), "left", "right") == "unsure"
    outer = RouterPlan("outer", nat4=EASY, inside="10.0.0")
    for inner, word in ((EASY, "direct"), (HARD, "unsure")):
        mapping = RouterPlan("l", "outer", nat4=inner, maps_ports=True)
        assert outlook(at("l", "r", outer, mapping, RouterPlan("r", nat4=EASY)), "left", "right") == word
    lossy = at("l", "r", RouterPlan("l", quality=LinkQuality(loss=0.4)), RouterPlan("r"))
    assert outlook(lossy, "left", "right") == "unsure"


def test_a_hard_nat_behind_one_that_picks_an_address_for_each_port_is_luck():
    carrier = RouterPlan(
        "carrier", nat4=replace(EASY, pooling=Pooling.ARBITRARY), inside=CARRIER_NETWORK, outside_addresses=4
    )
    careful = RouterPlan("l", nat4=replace(EASY, filtering=Filtering.ADDRESS_DEPENDENT))
    hard, easy = (RouterPlan("r", "carrier", nat4=nat) for nat in (HARD, EASY))
    assert outlook(at("l", "r", careful, carrier, hard), "left", "right") == "unsure"
    assert outlook(at("l", "r", careful, carrier, easy), "left", "right") == "direct"


def test_who_has_no_family_in_common_has_only_the_relay():
    plan = at("l", "r", RouterPlan("l"), RouterPlan("r"))
    plan = plan.with_host(HostPlan("right", (InterfacePlan("r", (6,)),)))
    assert outlook(plan, "left", "right") == "relay"
    assert relayed(plan, "left", "right")
    assert not relayed(replace(plan, relays=(RelayPlan("relay.test", (4,)),)), "left", "right")


@pytest.mark.parametrize("cut", ["left", "l", "relay.test"])
def test_a_cut_leaves_what_does_not_need_it(cut):
    plan = homes(EASY, EASY).cut(cut)
    assert not relayed(plan, "left", "right")
    assert outlook(plan, "left", "right") == ("direct" if cut == "relay.test" else "relay")
    assert relayed(plan.mended(cut), "left", "right")


LOSSY = LinkQuality(loss=0.01)


@pytest.mark.parametrize(
    ("plan", "calm"),
    [
        (homes(EASY, HARD), True),
        (carried(EASY, replace(EASY, input_open=True)), True),
        (homes(EASY, replace(EASY, lifetime_s=300.0)), False),
        (homes(EASY, EASY).with_router(RouterPlan("l", nat4=EASY, quality=LOSSY)), False),
        (homes(EASY, EASY).with_router(RouterPlan("l", nat4=EASY, downward=LOSSY)), False),
        (
            homes(EASY, EASY).with_host(HostPlan("left", (InterfacePlan("l", quality=LOSSY),))),
            False,
        ),
        (
            homes(EASY, EASY).with_router(RouterPlan("l", quality=LinkQuality(bursts=Bursts(0.01, 0.3)))),
            False,
        ),
    ],
)
def test_calm_is_where_nothing_is_left_to_chance(plan, calm):
    assert is_calm(plan) is calm


@pytest.mark.parametrize(
    ("plan", "router", "same"),
    [
        (homes(EASY, HARD), "l", True),
        (homes(EASY, HARD), "r", False),
        (homes(CONE, FIREWALL), "l", True),
        (homes(CONE, FIREWALL), "r", True),
        (homes(None, EASY), "l", True),
        (homes(replace(EASY, ports=PortAllocation.RANDOM), EASY), "l", False),
        (homes(replace(EASY, input_open=True), EASY), "l", False),
        (dual(EASY, HARD), "l", True),
        (dual(EASY, EASY, replace(FIREWALL, inbound_refreshes=False)), "l", False),
        (homes(EASY, EASY).with_router(RouterPlan("l", nat4=EASY, outside_addresses=2)), "l", False),
        (carried(EASY), "l", True),
        (carried(EASY), "carrier", False),
    ],
)
def test_a_router_is_what_it_was_where_nothing_it_forgets_decided_a_port(plan, router, same):
    assert comes_back_the_same(plan, router) is same


def test_a_line_that_loses_all_leads_to_no_relay():
    plan = at("l", "r", RouterPlan("l"), RouterPlan("r", downward=LinkQuality(loss=1.0)))
    assert not relayed(plan, "left", "right")
