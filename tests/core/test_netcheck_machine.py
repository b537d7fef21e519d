"""The plan, and the machine that carries it out, where the simulated internet does not lead."""

import random
from dataclasses import replace

import pytest

from peerway.core.machine import (
    CloseSocket,
    CloseStream,
    Datagram,
    InterfaceAddress,
    OpenSocket,
    OpenStream,
    Resolve,
    Transmit,
    UdpAddress,
)
from peerway.core.netcheck.findings import FilteringFinding, MappingFinding
from peerway.core.netcheck.knowledge import Knowledge, Question
from peerway.core.netcheck.machine import CheckDone, Netcheck, NoServersError
from peerway.core.netcheck.plan import is_complete, wanted
from peerway.core.netcheck.probes import Answer, Ask, Fetch, Page, Refusal, Silence
from peerway.core.netcheck.report import build_report
from peerway.core.portmap.report import GatewayReport
from peerway.core.relay.url import RelayUrl
from peerway.core.stun.server import StunServer

PLAIN = RelayUrl.parse("http://203.0.113.10:3340")
TLS = RelayUrl.parse("https://203.0.113.10")
SERVER = UdpAddress("203.0.113.10", 3478)
OTHER = UdpAddress("203.0.113.11", 3479)
OTHER_PORT, OTHER_IP = UdpAddress("203.0.113.10", 3479), UdpAddress("203.0.113.11", 3478)
SERVER_V6 = UdpAddress("2001:db8::10", 3478)
LOCAL = UdpAddress("0.0.0.0", 50000)
OUTSIDE = UdpAddress("198.51.100.1", 6000)
ETH = InterfaceAddress("eth0", "10.0.0.2", 24, 0)


def knowing(question, outcomes=(), interfaces=(ETH,), **resolved):
    known = Knowledge(question, interfaces)
    known.resolved = {ip: (ip,) for ip, _ in question.servers} | resolved
    known.outcomes = dict(outcomes)
    return known


def answer(mapped=OUTSIDE, other=None, round_trip=0.02):
    return Answer(mapped, LOCAL, round_trip, other, 1.0)


ONE_SERVER = Question(stun=((SERVER.ip, SERVER.port),))
ONE_RELAY = Question(relays=(PLAIN,))


# --- the plan


def test_first_everybody_is_asked_from_one_socket_and_each_relay_for_its_page():
    question = Question((PLAIN,), (("203.0.113.11", 3478),))
    assert wanted(knowing(question)) == (
        Ask("mapping 4", SERVER),
        Ask("mapping 4", OTHER_IP),
        Fetch("http://203.0.113.10:3340"),
    )


def test_an_answer_without_another_address_leads_to_samples_alone():
    known = knowing(ONE_SERVER, {Ask("mapping 4", SERVER): answer()})
    assert [probe.socket for probe in wanted(known)[1:]] == [f"sample {n}" for n in range(6)]
    assert not is_complete(known)


def test_another_address_is_asked_and_made_to_answer_to_fresh_sockets():
    known = knowing(ONE_SERVER, {Ask("mapping 4", SERVER): answer(other=OTHER)})
    by_port = "filter 203.0.113.10:3478 from 203.0.113.10:3479"
    by_both = "filter 203.0.113.10:3478 from 203.0.113.11:3479"
    assert wanted(known)[1:8] == (
        Ask("mapping 4", OTHER_PORT),
        Ask("mapping 4", OTHER_IP),
        Ask("mapping 4", OTHER),
        Ask(by_port, SERVER, OTHER_PORT),
        Ask(by_port, SERVER),
        Ask(by_both, SERVER, OTHER),
        Ask(by_both, SERVER),
    )


def test_a_public_host_needs_no_samples_hairpin_or_lifetimes():
    question = replace(ONE_SERVER, hairpin=True, slow=True)
    interfaces = (InterfaceAddress("eth0", OUTSIDE.ip, 24, 0),)
    known = knowing(question, {Ask("mapping 4", SERVER): answer(UdpAddress(OUTSIDE.ip, 50000))}, interfaces)
    assert wanted(known) == (Ask("mapping 4", SERVER),)


def test_a_quick_look_asks_the_witnesses_and_the_servers_once():
    question = replace(ONE_RELAY, quick=True, witnesses=(SERVER, OTHER))
    known = knowing(question, {Ask("mapping 4", SERVER): answer(other=OTHER)})
    assert wanted(known) == (Ask("mapping 4", SERVER), Ask("mapping 4", OTHER))


def test_ipv6_servers_are_asked_only_where_there_is_an_ipv6_address():
    question = Question(stun=((SERVER_V6.ip, 3478), ("::1", 3478)))
    assert wanted(knowing(question)) == (Ask("mapping 6", UdpAddress("::1", 3478)),)
    six = (ETH, InterfaceAddress("eth0", "2001:db8::2", 64, 0))
    assert Ask("mapping 6", SERVER_V6) in wanted(knowing(question, interfaces=six))


def test_at_most_eight_servers_of_a_family_are_asked():
    question = Question(stun=tuple((f"203.0.113.{n}", 3478) for n in range(1, 20)))
    assert len(wanted(knowing(question))) == 8


def test_port_80_is_tried_only_where_tls_did_not_get_through():
    question = Question(relays=(TLS,))
    fetched = Fetch("https://203.0.113.10")
    assert Fetch("http://203.0.113.10:80") not in wanted(knowing(question))
    assert Fetch("http://203.0.113.10:80") in wanted(knowing(question, {fetched: Silence("refused")}))
    page = Page(204, genuine=True, diverts=False)
    assert Fetch("http://203.0.113.10:80") not in wanted(knowing(question, {fetched: page}))


def test_the_plan_never_shrinks_as_more_becomes_known():
    known = knowing(replace(ONE_RELAY, hairpin=True))
    before = set(wanted(known))
    for probe in list(wanted(known)):
        known.outcomes[probe] = (
            answer(other=OTHER) if isinstance(probe, Ask) else Page(204, genuine=True, diverts=False)
        )
        assert before <= set(wanted(known))
        before = set(wanted(known))


# --- what is known


@pytest.mark.parametrize(
    ("url", "pages", "portal"),
    [
        (PLAIN, {}, None),
        (PLAIN, {PLAIN: Silence("refused")}, None),
        (PLAIN, {PLAIN: Page(204, True, False)}, False),
        (PLAIN, {PLAIN: Page(302, False, True)}, True),
        (PLAIN, {PLAIN: Page(404, False, False)}, None),  # somebody's web server
        (PLAIN, {PLAIN: Refusal("what answers does not speak HTTP")}, None),
        (TLS, {TLS: Page(404, False, False)}, False),  # its certificate says who it is
        (TLS, {TLS: Silence("wrong certificate")}, None),
        (TLS, {TLS: Silence("wrong certificate"), "http://203.0.113.10:80": Page(302, False, True)}, True),
        (TLS, {TLS: Page(204, True, False), "http://203.0.113.10:80": Page(302, False, True)}, False),
    ],
)
def test_a_captive_portal_is_one_that_answers_where_a_relay_should(url, pages, portal):
    known = knowing(Question((url,)), {Fetch(str(key)): page for key, page in pages.items()})
    assert known.captive_portal is portal


def test_silence_shows_a_filter_only_if_the_socket_hears_and_the_other_place_speaks():
    socket = "filter 203.0.113.10:3478 from 203.0.113.10:3479"
    silent = {
        Ask("mapping 4", SERVER): answer(other=OTHER),
        Ask(socket, SERVER, OTHER_PORT): Silence("no answer"),
    }
    hears, speaks = {Ask(socket, SERVER): answer()}, {Ask("mapping 4", OTHER_PORT): answer()}
    both = knowing(ONE_SERVER, silent | hears | speaks)
    assert both.filtering(4) is FilteringFinding.ADDRESS_AND_PORT_DEPENDENT
    for only in (hears, speaks, {}):
        assert knowing(ONE_SERVER, silent | only).filtering(4) is FilteringFinding.UNKNOWN
    refused = silent | hears | speaks | {Ask(socket, SERVER, OTHER_PORT): Refusal("420")}
    assert knowing(ONE_SERVER, refused).filtering(4) is FilteringFinding.UNKNOWN


BEHIND_NAT = {Ask("mapping 4", SERVER): answer()}


@pytest.mark.parametrize(
    ("gateway", "double", "carrier"),
    [
        (None, None, None),
        (GatewayReport("eth0", "10.0.0.1"), None, None),
        (GatewayReport("eth0", "10.0.0.1", external_ip=OUTSIDE.ip), False, False),
        (GatewayReport("eth0", "10.0.0.1", external_ip="192.168.1.7"), True, None),
        (GatewayReport("eth0", "10.0.0.1", external_ip="100.64.3.4"), True, True),
        (GatewayReport("eth0", "10.0.0.1", nat_beyond=True), True, None),  # PCP: ADDRESS_MISMATCH
        (GatewayReport("eth0", "10.0.0.1", external_ip=OUTSIDE.ip, nat_beyond=False), False, False),
    ],
)
def test_a_second_nat_is_known_by_what_the_gateway_says(gateway, double, carrier):
    report = build_report(knowing(ONE_SERVER, BEHIND_NAT), [gateway] if gateway else [])
    assert (report.double_nat, report.cgnat) == (double, carrier)


def test_a_host_that_has_a_carriers_address_itself_is_behind_its_nat():
    interfaces = (InterfaceAddress("wwan0", "100.70.1.2", 30, 0),)
    report = build_report(knowing(ONE_SERVER, BEHIND_NAT, interfaces))
    assert (report.double_nat, report.cgnat) == (None, True)


def test_our_address_is_that_of_the_interface_with_the_default_route():
    interfaces = (
        InterfaceAddress("docker0", "172.17.0.1", 16),
        InterfaceAddress("eth0", "10.0.0.2", 24, 100),
        InterfaceAddress("wlan0", "10.0.1.2", 24, 600),
    )
    assert build_report(knowing(ONE_SERVER, interfaces=interfaces)).own_v4 == "10.0.0.2"


def test_a_relay_that_is_near_but_carries_nothing_is_no_home():
    far = RelayUrl.parse("http://203.0.113.11:3340")
    genuine = Page(204, genuine=True, diverts=False, round_trip=0.3)
    known = knowing(
        Question((PLAIN, far)),
        {
            Ask("mapping 4", SERVER): answer(round_trip=0.01),
            Fetch(str(PLAIN)): Silence("connection refused"),
            Fetch(str(far)): genuine,
        },
    )
    report = build_report(known)
    assert report.home_relay == str(far)
    assert report.relays[0].error == "connection refused"


def test_what_is_no_relay_is_said_to_be_none():
    known = knowing(ONE_RELAY, {Fetch(str(PLAIN)): Page(404, genuine=False, diverts=False)})
    assert build_report(known).relays[0].error == "something that is no relay answers there: HTTP 404"


# --- the machine


class Bench:
    def __init__(self, question, interfaces=(ETH,), gateways=tuple):
        self.check = Netcheck(question, random.Random(1), gateways)
        self.server = StunServer()
        self.events = []
        self.next_port = 50000
        self.check.start(interfaces, 0.0)
        self.drain(0.0)

    def drain(self, now):
        while True:
            sent = list(iter(self.check.poll_transmit, None))
            told = list(iter(self.check.poll_event, None))
            self.events += told
            if not sent and not told:
                return
            for event in told:
                self.act(event, now)
            for transmit in sent:
                self.deliver(transmit, now)

    def act(self, event, now):
        if isinstance(event, Resolve):
            self.check.resolved(event.name, (event.name,), now)
        elif isinstance(event, OpenSocket):
            self.next_port += 1
            self.check.socket_opened("", UdpAddress(event.ip, self.next_port), now)

    def deliver(self, transmit, now):
        if not isinstance(transmit, Transmit):
            return
        mapped = UdpAddress(OUTSIDE.ip, transmit.local.port)
        self.server.receive(Datagram(transmit.segments[0], mapped, transmit.remote), now)
        for reply in iter(self.server.poll_transmit, None):
            self.check.receive(Datagram(reply.segments[0], transmit.remote, transmit.local), now)

    def run(self, until):
        """Let time pass; when something last happened."""
        last = 0.0
        while (deadline := self.check.poll_deadline()) is not None and deadline.at <= until:
            last = deadline.at
            self.check.handle_timeout(last)
            self.drain(last)
        return last

    @property
    def report(self):
        return next((event.report for event in self.events if isinstance(event, CheckDone)), None)


def test_a_check_without_anybody_to_ask_cannot_begin_and_says_what_to_give():
    with pytest.raises(NoServersError, match=r"give a relay \(--relay URL\) or a STUN server"):
        Netcheck(Question(), random.Random(1))


def test_a_check_ends_by_itself_as_soon_as_nothing_more_can_be_learned():
    bench = Bench(ONE_SERVER)
    assert bench.report.mapping_v4 is MappingFinding.UNKNOWN
    assert bench.report.allocation.samples == 6
    assert bench.check.report == bench.report
    assert bench.check.poll_deadline() is None


def test_a_gateway_that_is_still_being_asked_is_waited_for_but_not_for_long():
    gateways = [GatewayReport("eth0", "10.0.0.1")]
    bench = Bench(ONE_SERVER, gateways=lambda: tuple(gateways))
    bench.run(until=1.0)
    assert bench.report is None
    gateways[0] = replace(gateways[0], failure="nothing spoken")
    bench.run(until=1.2)
    assert bench.report.gateways == tuple(gateways)
    silent = Bench(ONE_SERVER, gateways=lambda: (GatewayReport("eth0", "10.0.0.1"),))
    assert silent.run(until=10.0) == pytest.approx(2.0, abs=0.11)
    assert silent.report is not None


def test_what_comes_after_the_end_changes_nothing_and_is_given_back():
    bench = Bench(ONE_SERVER)
    bench.events.clear()
    late = UdpAddress("0.0.0.0", 9)
    bench.check.socket_opened("", late, 1.0)
    bench.check.socket_failed("", "0.0.0.0", "late", 1.0)
    bench.check.resolved(SERVER.ip, (), 1.0)
    bench.check.receive(Datagram(b"?", SERVER, LOCAL), 1.0)
    bench.check.stream_data("netcheck ?", b"?", 1.0)
    bench.check.interfaces_changed((), 1.0)
    bench.check.handle_timeout(1.0)
    bench.drain(1.0)
    assert bench.events == [CloseSocket(late)]


def test_a_socket_that_fails_is_the_reason_that_is_given():
    check = Netcheck(ONE_SERVER, random.Random(1))
    check.start((ETH,), 0.0)
    check.resolved(SERVER.ip, (SERVER.ip,), 0.0)
    check.socket_failed("", "0.0.0.0", "Too many open files", 0.0)
    events = list(iter(check.poll_event, None))
    assert events[-1].report.silent == ("203.0.113.10:3478: no socket: Too many open files",)


def test_what_the_system_refuses_to_send_is_not_waited_for():
    check = Netcheck(ONE_SERVER, random.Random(1))
    check.start((ETH,), 0.0)
    check.resolved(SERVER.ip, (SERVER.ip,), 0.0)
    check.socket_opened("", LOCAL, 0.0)
    check.transmit_failed(check.poll_transmit(), "Network is unreachable", 0.0)
    (done,) = [event for event in iter(check.poll_event, None) if isinstance(event, CheckDone)]
    assert done.report.silent == ("203.0.113.10:3478: Network is unreachable",)
    assert check.drops == {"send: Network is unreachable": 1}


def test_streams_that_are_open_at_the_end_are_closed():
    check = Netcheck(ONE_RELAY, random.Random(1))
    check.start((ETH,), 0.0)
    check.resolved(SERVER.ip, (SERVER.ip,), 2.6)  # so late that the page is still waited for at the end
    check.handle_timeout(5.0)
    events = list(iter(check.poll_event, None))
    (opened,) = [event for event in events if isinstance(event, OpenStream)]
    assert CloseStream(opened.stream) in events
    check.stream_paused(opened.stream, 5.6)
    check.stream_resumed(opened.stream, 5.6)
    check.stream_opened(opened.stream, 5.6)
    assert check.poll_transmit() is None
