"""What reports mean, in words."""

import itertools
import json
from dataclasses import replace

import pytest

from peerway.core.machine import UdpAddress
from peerway.core.nat import Filtering, Mapping, PortAllocation, can_meet
from peerway.core.netcheck.allocation import Allocation
from peerway.core.netcheck.findings import FilteringFinding, MappingFinding
from peerway.core.netcheck.lifetime import Lifetime
from peerway.core.netcheck.record import record
from peerway.core.netcheck.report import RelayReport, Report, refreshed
from peerway.core.netcheck.text import headlines, render
from peerway.core.netcheck.verdict import PEERS, Difficulty, judge
from peerway.core.portmap.report import GatewayReport, PortMapping, Protocol, ProtocolReport, Standing

EIM, ADM, APDM = Mapping
EIF, ADF, APDF = Filtering
RELAY = "http://relay.example:3340"


def report(mapping, filtering, **more):
    known = Report(
        udp_v4=True,
        udp_v6=False,
        public_v4="198.51.100.1",
        own_v4="10.0.0.2",
        mapping_v4=MappingFinding(mapping),
        filtering_v4=FilteringFinding(filtering),
        relays=(RelayReport(RELAY, 0.024, "udp"),),
        home_relay=RELAY,
    )
    return replace(known, **more)


HOME_ROUTER = report(
    "endpoint-independent",
    "address-and-port-dependent",
    allocation=Allocation(PortAllocation.PRESERVING, None, 50000, 50005, 6),
)


# --- who can meet whom


def test_two_easy_sides_always_meet():
    for one, other in itertools.product(Filtering, repeat=2):
        assert can_meet((EIM, one), (EIM, other))


@pytest.mark.parametrize(("filtering", "meets"), [(EIF, True), (ADF, True), (APDF, False)])
@pytest.mark.parametrize("hard", [ADM, APDM])
def test_a_hard_side_meets_an_easy_one_whose_filter_ignores_ports(hard, filtering, meets):
    for theirs in Filtering:
        assert can_meet((hard, theirs), (EIM, filtering)) is meets
        assert can_meet((EIM, filtering), (hard, theirs)) is meets


def test_two_hard_sides_meet_only_if_one_is_heard_and_one_keeps_its_port():
    assert can_meet((ADM, EIF), (APDM, ADF))
    assert not can_meet((APDM, EIF), (APDM, EIF))
    assert not can_meet((ADM, ADF), (ADM, ADF))
    assert not can_meet((ADM, EIF), (ADM, APDF))


# --- verdicts


@pytest.mark.parametrize(
    ("mapping", "filtering", "difficulty", "name"),
    [
        ("none", "endpoint-independent", Difficulty.OPEN, "public address"),
        ("none", "address-and-port-dependent", Difficulty.EASY, "symmetric UDP firewall"),
        ("none", "unknown", Difficulty.EASY, "public address, perhaps with a firewall"),
        ("endpoint-independent", "endpoint-independent", Difficulty.EASY, "full cone NAT"),
        ("endpoint-independent", "address-dependent", Difficulty.EASY, "restricted cone NAT"),
        ("endpoint-independent", "address-and-port-dependent", Difficulty.EASY, "port-restricted cone NAT"),
        ("endpoint-independent", "unknown", Difficulty.EASY, "cone NAT"),
        (
            "endpoint-independent",
            "endpoint-independent or address-dependent",
            Difficulty.EASY,
            "full or restricted cone NAT",
        ),
        ("address-dependent", "unknown", Difficulty.HARD, "symmetric NAT"),
        ("address-and-port-dependent", "endpoint-independent", Difficulty.HARD, "symmetric NAT"),
        ("endpoint-dependent", "unknown", Difficulty.HARD, "symmetric NAT"),
        ("unknown", "unknown", Difficulty.UNKNOWN, "NAT of unknown kind"),
    ],
)
def test_difficulty_and_old_name(mapping, filtering, difficulty, name):
    verdict = judge(report(mapping, filtering))
    assert (verdict.difficulty, verdict.name) == (difficulty, name)


def test_a_port_restricted_cone_meets_all_but_symmetric_nats():
    verdict = judge(HOME_ROUTER)
    assert verdict.direct == (
        "at public addresses",
        "behind firewalls",
        "behind full cone NATs",
        "behind restricted cone NATs",
        "behind port-restricted cone NATs",
    )
    assert verdict.relayed == ("behind symmetric NATs",)
    assert verdict.sentences == (
        "Easy: behind a port-restricted cone NAT; others see one and the same address of ours.",
        "Direct: with peers at public addresses, behind firewalls, behind full cone NATs, "
        "behind restricted cone NATs and behind port-restricted cone NATs.",
        "By the relay only: with peers behind symmetric NATs.",
    )


def test_what_nobody_could_tell_is_neither_promised_nor_denied():
    verdict = judge(report("endpoint-independent", "unknown"))
    assert verdict.perhaps == ("behind symmetric NATs",)
    assert "Perhaps direct, nobody could tell: with peers behind symmetric NATs." in verdict.sentences
    assert judge(report("unknown", "unknown")).perhaps == (
        "behind firewalls",
        "behind port-restricted cone NATs",
        "behind symmetric NATs",
    )


def test_who_is_open_meets_everyone_and_needs_no_advice():
    verdict = judge(report("none", "endpoint-independent"))
    assert verdict.sentences == (
        "Open: a public address, and anyone may send to it.",
        "Direct: with everyone.",
    )
    assert verdict.advice == ()


def test_without_udp_everyone_is_met_by_the_relay():
    verdict = judge(Report(udp_v4=False, udp_v6=False))
    assert verdict.difficulty is Difficulty.BLOCKED
    assert verdict.sentences[1:] == ("By the relay only: with everyone.",)
    assert "Let UDP out" in verdict.advice[0]


def test_where_nobody_was_asked_nothing_is_said_to_be_blocked():
    assert judge(Report(udp_v4=None, udp_v6=False)).difficulty is Difficulty.UNKNOWN


def test_a_host_with_ipv6_alone_is_judged_by_that():
    six = Report(
        udp_v4=False,
        udp_v6=True,
        mapping_v6=MappingFinding.NONE,
        filtering_v6=FilteringFinding.ADDRESS_AND_PORT_DEPENDENT,
    )
    assert judge(six).name == "symmetric UDP firewall"


def test_a_host_with_both_is_told_what_ipv6_adds():
    both = replace(HOME_ROUTER, udp_v6=True, mapping_v6=MappingFinding.NONE)
    assert judge(both).sentences[-1] == "Over IPv6 nothing is translated: direct with all who have it."
    assert not judge(replace(both, mapping_v6=MappingFinding.ENDPOINT_INDEPENDENT)).over_ipv6


def test_what_is_not_a_nat_is_not_said_to_be_in_front_of_us():
    opening = judge(report("none", "unknown")).sentences[0]
    assert opening.startswith("Easy: a public address, perhaps with a firewall; others see")


# --- advice

SPEAKS_PCP = (ProtocolReport(Protocol.PCP, Standing.SPEAKS), ProtocolReport(Protocol.UPNP, Standing.SILENT))


def advice(known):
    return " ".join(judge(known).advice)


def test_who_only_misses_symmetric_nats_is_told_to_forward_a_port():
    assert "--advertise" in advice(HOME_ROUTER)
    assert "IPv6" in advice(HOME_ROUTER)
    assert "IPv6" not in advice(replace(HOME_ROUTER, udp_v6=True))


MAPPING = PortMapping(
    Protocol.PCP, "eth0", "10.0.0.1", UdpAddress("10.0.0.2", 1), UdpAddress("198.51.100.1", 2), 7200
)
GATEWAY = GatewayReport("eth0", "10.0.0.1", SPEAKS_PCP, external_ip="198.51.100.1", mapping=MAPPING)


def test_a_router_that_opens_a_port_lets_everyone_in_and_no_advice_is_needed_on_that():
    symmetric = report("address-and-port-dependent", "address-and-port-dependent", gateways=(GATEWAY,))
    verdict = judge(symmetric)
    assert (verdict.difficulty, verdict.opened_by) == (Difficulty.HARD, "10.0.0.1, PCP")
    assert verdict.sentences[1:] == (
        "The router opens a port on request (10.0.0.1, PCP): anyone may send to that.",
        "Direct: with everyone.",
    )
    assert "--advertise" not in advice(symmetric)


@pytest.mark.parametrize(
    "gateway",
    [
        replace(GATEWAY, nat_beyond=True),
        replace(GATEWAY, mapping=replace(MAPPING, verified=False)),
        replace(GATEWAY, mapping=None),
    ],
)
def test_a_router_whose_port_leads_nowhere_opens_nothing(gateway):
    assert judge(replace(HOME_ROUTER, gateways=(gateway,))).opened_by == ""


def test_a_router_that_speaks_and_opens_nothing_is_named_with_its_reason():
    gateway = GatewayReport("eth0", "10.0.0.1", SPEAKS_PCP, failure="PCP: not authorised")
    told = advice(replace(HOME_ROUTER, gateways=(gateway,)))
    assert "Your router (10.0.0.1) speaks PCP, but has opened no port: PCP: not authorised." in told
    assert "--advertise" in told


def test_behind_a_carrier_no_port_of_the_router_is_recommended():
    known = replace(HOME_ROUTER, double_nat=True, cgnat=True)
    assert "second NAT, of the carrier" in advice(known)
    assert "--advertise" not in advice(known)


def test_missing_knowledge_says_which_server_would_bring_it():
    assert "second STUN server" in advice(report("unknown", "endpoint-independent"))
    assert "two ports" in advice(report("endpoint-dependent", "endpoint-independent"))
    assert "RFC 5780" in advice(report("endpoint-independent", "unknown"))


def test_a_captive_portal_comes_first():
    assert judge(Report(udp_v4=False, captive_portal=True)).advice[0].startswith("A captive portal")


def test_relays_that_nobody_reaches_are_mentioned():
    known = replace(HOME_ROUTER, relays=(RelayReport(RELAY, error="refused"),))
    assert "No relay can be reached" in advice(known)


# --- the text


def test_the_text_has_the_facts_a_picture_and_the_verdict():
    assert render(HOME_ROUTER).splitlines()[:25] == [
        "UDP over IPv4   yes, 198.51.100.1 (here 10.0.0.2)",
        "UDP over IPv6   no address of this kind",
        "mapping IPv4    endpoint-independent (easy): one outside address for all",
        "filtering IPv4  address-and-port-dependent: only what we sent to gets in",
        "outside ports   preserved: the same as inside, where it is free",
        "relay           http://relay.example:3340: 24.0 ms, home",
        "",
        "+-----------+",
        "| this host |",
        "| 10.0.0.2  |",
        "+-----------+",
        "     |",
        "+-------------------------------------------------+",
        "| port-restricted cone NAT                        |",
        "| preserved: the same as inside, where it is free |",
        "| 198.51.100.1                                    |",
        "+-------------------------------------------------+",
        "     |",
        "+----------+",
        "| internet |",
        "+----------+",
        "     |",
        "     +-- http://relay.example:3340: 24.0 ms, home",
        "",
        "Easy: behind a port-restricted cone NAT; others see one and the same address of ours.",
    ]


def test_everything_that_can_be_known_has_its_line():
    known = replace(
        HOME_ROUTER,
        udp_v6=True,
        public_v6="2001:db8::1",
        own_v6="2001:db8::1",
        mapping_v6=MappingFinding.NONE,
        filtering_v6=FilteringFinding.ADDRESS_AND_PORT_DEPENDENT,
        allocation=Allocation(PortAllocation.SEQUENTIAL, 2, 30000, 30010, 6),
        lifetime=Lifetime(28, 30),
        hairpin=False,
        gateways=(
            replace(
                GATEWAY,
                external_ip="100.64.0.5",
                nat_beyond=True,
                nat_beyond_reason="it says so",
            ),
        ),
        double_nat=True,
        cgnat=True,
        captive_portal=False,
        relays=(RelayReport(RELAY, 0.1, "tcp"), RelayReport("http://b:3340", error="connection refused")),
        silent=("203.0.113.9:3478: no answer",),
    )
    lines = render(known).splitlines()
    for line in (
        "UDP over IPv6   yes, 2001:db8::1",
        "mapping IPv6    none: the address is our own",
        "outside ports   sequential, 2 apart (seen: 30000-30010)",
        "mappings live   28 to 30 s without traffic",
        "port mapping    10.0.0.1: PCP, its outside address is 100.64.0.5, maps 198.51.100.1:2 to us",
        "second NAT      yes: it says so",
        "carrier's NAT   yes",
        "captive portal  no",
        "relay           http://relay.example:3340: 100.0 ms (TCP), home",
        "relay           http://b:3340: not reached: connection refused",
        "no answer       203.0.113.9:3478: no answer",
        "| 100.64.0.5 |",
    ):
        assert line in lines


@pytest.mark.parametrize(
    ("known", "box"),
    [
        (Report(udp_v4=False, udp_v6=False), "| lets no UDP through |"),
        (Report(captive_portal=True), "| captive portal |"),
        (report("none", "address-and-port-dependent"), "| symmetric UDP firewall |"),
    ],
)
def test_the_picture_shows_what_is_in_the_way(known, box):
    assert box in render(known).splitlines()


def test_the_picture_shows_nothing_where_nothing_is():
    assert "firewall" not in render(report("none", "endpoint-independent")).split("\n\n")[1]


def test_headlines_leave_out_what_is_not_known():
    assert headlines(Report()) == {}
    assert headlines(HOME_ROUTER)["mapping IPv4"].startswith("mapping IPv4: endpoint-independent (easy)")


@pytest.mark.parametrize(
    ("standing", "line"),
    [
        (Standing.UNKNOWN, "port mapping    unknown: 10.0.0.1 does not answer"),
        (Standing.SILENT, "port mapping    none: 10.0.0.1 does not answer"),
    ],
)
def test_a_gateway_that_says_nothing_is_not_said_to_have_nothing_before_its_time_is_up(standing, line):
    gateway = GatewayReport("eth0", "10.0.0.1", (ProtocolReport(Protocol.PCP, standing),))
    known = replace(HOME_ROUTER, gateways=(gateway,))
    assert line in render(known).splitlines()
    assert ("port mapping" in headlines(known)) is (standing is Standing.SILENT)


# --- JSON


def test_json_has_plain_values_under_the_names_that_were_promised():
    told = record(HOME_ROUTER)
    assert told == {
        "udp_v4": True,
        "udp_v6": False,
        "public_v4": "198.51.100.1",
        "public_v6": None,
        "mapping_v4": "endpoint-independent",
        "mapping_v6": "unknown",
        "filtering_v4": "address-and-port-dependent",
        "filtering_v6": "unknown",
        "allocation": {"kind": "preserving", "step": None, "range": [50000, 50005], "samples": 6},
        "lifetime": None,
        "hairpin": None,
        "portmap": None,
        "gateway": None,
        "double_nat": None,
        "cgnat": None,
        "captive_portal": None,
        "relays": [{"url": RELAY, "latency_ms": 24.0, "via": "udp", "error": None}],
        "home_relay": RELAY,
        "silent": [],
        "difficulty": "easy",
        "name": "port-restricted cone NAT",
        "direct": list(judge(HOME_ROUTER).direct),
        "perhaps": [],
        "relayed": ["behind symmetric NATs"],
        "verdict": " ".join(judge(HOME_ROUTER).sentences),
        "advice": list(judge(HOME_ROUTER).advice),
    }
    assert json.loads(json.dumps(told)) == told


def test_json_tells_of_gateways_and_lifetimes():
    gateway = GatewayReport("eth0", "10.0.0.1", SPEAKS_PCP, external_ip="198.51.100.1", failure="refused")
    known = record(replace(HOME_ROUTER, gateways=(gateway,), lifetime=Lifetime(240, None)))
    assert known["gateway"] == "10.0.0.1"
    assert known["lifetime"] == {"at_least_s": 240, "less_than_s": None}
    assert known["portmap"] == [
        {
            "gateway": "10.0.0.1",
            "external": "198.51.100.1",
            "protocols": {"PCP": True, "UPnP IGD": False},
            "mapping": None,
            "failure": "refused",
        }
    ]


# --- checking again


def test_a_quick_look_that_sees_the_same_keeps_what_was_known():
    quick = report("endpoint-independent", "unknown", relays=(RelayReport(RELAY, 0.030, "udp"),))
    again = refreshed(HOME_ROUTER, quick)
    assert again == replace(
        HOME_ROUTER, relays=(RelayReport(RELAY, 0.030, "udp"),), home_reason="the nearest: 30 ms"
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"public_v4": "198.51.100.2"},
        {"own_v4": "10.0.0.3"},
        {"udp_v6": True},
        {"mapping_v4": MappingFinding.DEPENDENT},
    ],
)
def test_a_quick_look_that_sees_something_else_proves_that_a_check_is_due(changed):
    assert refreshed(HOME_ROUTER, report("endpoint-independent", "unknown", **changed)) is None


@pytest.mark.parametrize("seen", [MappingFinding.DEPENDENT, MappingFinding.UNKNOWN])
def test_a_quick_look_sees_less_and_that_is_no_change(seen):
    symmetric = report("address-and-port-dependent", "unknown", witnesses=(UdpAddress("1.1.1.1", 1),))
    assert refreshed(symmetric, replace(symmetric, mapping_v4=seen)).mapping_v4 is symmetric.mapping_v4


def test_a_relay_that_only_tcp_reaches_keeps_its_figures_in_a_quick_look():
    before = replace(HOME_ROUTER, relays=(RelayReport(RELAY, 0.1, "tcp"),))
    again = refreshed(before, replace(before, relays=(RelayReport(RELAY),)))
    assert again.relays == before.relays
    assert again.home_relay == RELAY


def test_every_sort_of_peer_is_in_exactly_one_list():
    for mapping, filtering in itertools.product(MappingFinding, FilteringFinding):
        verdict = judge(report(mapping, filtering))
        assert sorted(verdict.direct + verdict.perhaps + verdict.relayed) == sorted(p for p, *_ in PEERS)
