"""Checks in the simulated internet: what is found is what the NATs there do."""

import itertools
import random

import pytest
from tests.sim.netcheck_world import ACCESS, PUBLIC_IP, RELAY, SERVER_IPS, Checked

from peerway.core.machine import CloseSocket, Leaf, OpenSocket, StreamWrite, UdpAddress
from peerway.core.nat import Filtering, Mapping, PortAllocation
from peerway.core.netcheck.findings import FilteringFinding, MappingFinding
from peerway.core.netcheck.machine import CheckDone, Progress
from peerway.core.netcheck.report import refreshed
from peerway.core.netcheck.verdict import judge
from peerway.core.relay.url import RelayUrl
from peerway.core.stun.server import StunServer
from peerway.sim.network.host import Host
from peerway.sim.network.nat import Hairpin, Nat, NatBehaviour
from peerway.sim.network.tree import LinkQuality
from peerway.sim.nodes import run_server
from peerway.sim.oracle import direct_possible

HEALTHY_S = 3.0
WORST_S = 6.0
KINDS = [
    pytest.param(*behaviour, id="-".join(each.name.lower() for each in behaviour))
    for behaviour in itertools.product(Mapping, Filtering, PortAllocation)
]
PEERS = {  # what the verdict's sorts of peers are in the oracle's words
    "at public addresses": [],
    "behind firewalls": [NatBehaviour(translates=False)],
    "behind full cone NATs": [NatBehaviour(filtering=Filtering.ENDPOINT_INDEPENDENT)],
    "behind restricted cone NATs": [NatBehaviour(filtering=Filtering.ADDRESS_DEPENDENT)],
    "behind port-restricted cone NATs": [NatBehaviour()],
    "behind symmetric NATs": [NatBehaviour(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT)],
}


def assert_oracle_agrees(report, boxes):
    verdict = judge(report)
    assert verdict.perhaps == ()
    for peer, theirs in PEERS.items():
        assert (peer in verdict.direct) is (direct_possible(boxes, theirs) == "direct"), peer


@pytest.mark.parametrize(("mapping", "filtering", "ports"), KINDS)
def test_every_nat_is_found_to_behave_as_it_does(mapping, filtering, ports):
    nat = NatBehaviour(mapping=mapping, filtering=filtering, ports=ports)
    report, seconds, _ = Checked(nat).serve().check()
    assert (report.mapping_v4.value, report.filtering_v4.value) == (mapping.value, filtering.value)
    assert report.allocation.kind is ports
    assert report.allocation.step == (1 if ports is PortAllocation.SEQUENTIAL else None)
    assert (report.udp_v4, report.public_v4, report.own_v4) == (True, PUBLIC_IP, "10.0.0.2")
    assert (report.udp_v6, report.captive_portal, report.silent) == (False, False, ())
    assert seconds < HEALTHY_S
    assert_oracle_agrees(report, [nat])


@pytest.mark.parametrize("filtering", Filtering)
def test_every_firewall_is_found_to_filter_as_it_does(filtering):
    firewall = NatBehaviour(translates=False, filtering=filtering)
    report, seconds, _ = Checked(firewall).serve().check()
    assert report.mapping_v4 is MappingFinding.NONE
    assert report.filtering_v4.value == filtering.value
    assert (report.double_nat, report.cgnat) == (False, False)
    assert seconds < HEALTHY_S
    assert_oracle_agrees(report, [firewall])


def test_a_public_host_is_open_and_known_to_be_at_once():
    report, seconds, _ = Checked().serve().check()
    assert judge(report).name == "public address"
    assert seconds < 0.5
    assert_oracle_agrees(report, [])


def test_a_router_that_can_be_poisoned_is_told_apart_from_nothing_by_no_test_but_not_misjudged():
    report, _, _ = Checked(NatBehaviour(input_open=True)).serve().check()
    assert report.mapping_v4 is MappingFinding.ENDPOINT_INDEPENDENT
    assert report.filtering_v4 is FilteringFinding.ADDRESS_AND_PORT_DEPENDENT


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("filtering", Filtering)
def test_loss_makes_a_finding_unknown_but_hardly_ever_wrong(filtering, seed):
    access = LinkQuality(delay_s=0.02, jitter_s=0.01, loss=0.1)
    nat = NatBehaviour(filtering=filtering)
    report, seconds, _ = Checked(nat, seed=seed, access=access).serve().check()
    assert report.mapping_v4 is MappingFinding.ENDPOINT_INDEPENDENT
    assert report.filtering_v4.value in (filtering.value, "unknown")
    assert seconds < WORST_S


# --- which servers tell what


def test_one_server_at_one_address_leaves_mapping_and_filtering_open():
    checked = Checked(NatBehaviour())
    bound = checked.server.open_udp(3478, SERVER_IPS[0])
    checked.server.run(StunServer(), [bound])
    report, _, _ = checked.check(relays=(), stun=((SERVER_IPS[0], 3478),))
    assert (report.udp_v4, report.mapping_v4) == (True, MappingFinding.UNKNOWN)
    assert report.filtering_v4 is FilteringFinding.UNKNOWN
    assert report.allocation.kind is PortAllocation.PRESERVING


@pytest.mark.parametrize(
    ("mapping", "finding"),
    [
        (Mapping.ENDPOINT_INDEPENDENT, MappingFinding.ENDPOINT_INDEPENDENT),
        (Mapping.ADDRESS_DEPENDENT, MappingFinding.DEPENDENT),
        (Mapping.ADDRESS_AND_PORT_DEPENDENT, MappingFinding.DEPENDENT),
    ],
)
def test_two_plain_servers_tell_easy_from_hard_and_no_more(mapping, finding):
    checked = Checked(NatBehaviour(mapping=mapping))
    for ip in SERVER_IPS:
        checked.server.run(StunServer(), [checked.server.open_udp(3478, ip)])
    report, _, _ = checked.check(relays=(), stun=tuple((ip, 3478) for ip in SERVER_IPS))
    assert (report.mapping_v4, report.filtering_v4) == (finding, FilteringFinding.UNKNOWN)


@pytest.mark.parametrize("mapping", Mapping)
def test_two_plain_servers_of_which_one_has_two_ports_tell_all_about_the_mapping(mapping):
    checked = Checked(NatBehaviour(mapping=mapping))
    places = ((SERVER_IPS[0], 3478), (SERVER_IPS[0], 3479), (SERVER_IPS[1], 3478))
    for ip, port in places:
        checked.server.run(StunServer(), [checked.server.open_udp(port, ip)])
    report, _, _ = checked.check(relays=(), stun=places)
    assert report.mapping_v4.value == mapping.value


def test_an_other_address_that_never_answers_leaves_the_filtering_open():
    checked = Checked(NatBehaviour(filtering=Filtering.ENDPOINT_INDEPENDENT))
    sockets = [UdpAddress(ip, port) for ip in SERVER_IPS for port in (3478, 3479)]
    for bound in sockets[:2]:
        checked.server.open_udp(bound.port, bound.ip)
    checked.server.run(StunServer(sockets=sockets), sockets[:2])  # the second address is down
    report, _, _ = checked.check(relays=(), stun=((SERVER_IPS[0], 3478),))
    assert report.udp_v4 is True
    # the other port, which does answer, is let in; of the other address nothing is known
    assert report.filtering_v4 is FilteringFinding.NOT_BY_PORT


def test_a_second_server_is_tried_where_the_first_one_could_not_tell():
    checked = Checked(NatBehaviour())
    far = checked.server
    lame = [UdpAddress(SERVER_IPS[0], 4000), UdpAddress(SERVER_IPS[0], 4001)]
    far.open_udp(4000, SERVER_IPS[0])
    pretended = [*lame, UdpAddress(SERVER_IPS[1], 4000), UdpAddress(SERVER_IPS[1], 4001)]
    far.run(StunServer(sockets=pretended), lame[:1])
    checked.serve()
    report, seconds, _ = checked.check(relays=(), stun=((SERVER_IPS[0], 4000), (SERVER_IPS[0], 3478)))
    assert report.filtering_v4 is FilteringFinding.ADDRESS_AND_PORT_DEPENDENT
    assert seconds < WORST_S


def test_a_server_behind_a_nat_that_names_an_inside_address_is_not_asked_there():
    checked = Checked(NatBehaviour())
    inside = [UdpAddress(ip, port) for ip in ("192.168.1.1", "192.168.1.2") for port in (3478, 3479)]
    bound = checked.server.open_udp(3478, SERVER_IPS[0])

    class Behind(StunServer):
        def receive(self, datagram, now):
            super().receive(type(datagram)(datagram.data, datagram.remote, inside[0]), now)

        def poll_transmit(self):
            transmit = super().poll_transmit()
            return transmit and type(transmit)(transmit.segments, transmit.remote, bound)

    checked.server.run(Behind(sockets=inside), [bound])
    report, _, _ = checked.check(relays=(), stun=((SERVER_IPS[0], 3478),))
    assert report.filtering_v4 is FilteringFinding.UNKNOWN
    targets = {target.ip for targets in checked.sent_from_the_host().values() for target in targets}
    assert targets == {SERVER_IPS[0]}


# --- sockets


def test_a_socket_that_waits_for_answers_from_elsewhere_never_sends_there():
    """Else the test before would open the filter for the one behind it."""
    checked = Checked(NatBehaviour(filtering=Filtering.ADDRESS_DEPENDENT)).serve()
    checked.check()
    sent = checked.sent_from_the_host()
    everywhere = [port for port, targets in sent.items() if len(set(targets)) > 1]
    assert len(everywhere) == 1  # the one that asks everybody what they see
    assert len(sent) == 1 + 2 + 6  # two wait for answers from elsewhere, six show which ports they get


def test_every_socket_is_given_back():
    _, _, driver = Checked(NatBehaviour()).serve().check(hairpin=True)
    events = [event for _, event in driver.events]
    assert sum(isinstance(event, OpenSocket) for event in events) == 11
    assert sum(isinstance(event, CloseSocket) for event in events) == 11
    assert isinstance(events[-1], CheckDone)


# --- IPv6


def test_ipv6_behind_a_firewall():
    firewall = NatBehaviour(translates=False)
    checked = Checked(NatBehaviour(), firewall, v6=True, server_v6=True).serve()
    report, seconds, _ = checked.check()
    assert (report.udp_v6, report.public_v6, report.own_v6) == (True, "2001:db8:9::2", "2001:db8:9::2")
    assert report.mapping_v6 is MappingFinding.NONE
    assert report.filtering_v6 is FilteringFinding.ADDRESS_AND_PORT_DEPENDENT
    assert report.mapping_v4 is MappingFinding.ENDPOINT_INDEPENDENT
    assert seconds < HEALTHY_S


def test_ipv6_alone():
    checked = Checked(None, NatBehaviour(translates=False), v4=False, v6=True, server_v6=True).serve()
    report, _, _ = checked.check()
    assert (report.udp_v4, report.udp_v6) == (False, True)
    assert judge(report).name == "symmetric UDP firewall"


# --- when nobody answers


def test_without_udp_the_relay_is_timed_over_tcp():
    report, seconds, _ = Checked(NatBehaviour(udp_blocked=True)).serve().check()
    assert (report.udp_v4, report.mapping_v4) == (False, MappingFinding.UNKNOWN)
    (relay,) = report.relays
    assert (relay.via, relay.round_trip, relay.error) == ("tcp", pytest.approx(0.044), "")
    assert report.home_relay == str(RELAY)
    assert report.silent == (f"{SERVER_IPS[0]}:3478: no answer to 5 requests in 1.8 s",)
    assert seconds < HEALTHY_S


def test_a_server_that_does_not_answer_at_all_is_named_and_nothing_hangs():
    checked = Checked(NatBehaviour())
    checked.home.uplink.up = False
    report, seconds, _ = checked.check()
    assert seconds < WORST_S
    assert report.relays[0].error == "no answer within 3 s"
    assert report.silent == (f"{SERVER_IPS[0]}:3478: no answer to 5 requests in 1.8 s",)
    assert (report.home_relay, report.captive_portal) == (None, None)


def test_a_name_that_nobody_knows_is_named():
    checked = Checked(NatBehaviour()).serve()
    report, seconds, _ = checked.check(relays=(), stun=(("nowhere.test", 3478), (SERVER_IPS[0], 3478)))
    assert report.silent == ("nowhere.test: its address could not be found",)
    assert report.udp_v4 is True
    assert seconds < HEALTHY_S


def test_a_name_server_that_says_nothing_holds_nobody_up_for_long(monkeypatch):
    monkeypatch.setattr("peerway.sim.network.driver.RESOLVE_S", 60.0)
    report, seconds, _ = Checked(NatBehaviour()).serve().check()
    assert seconds == pytest.approx(5.0)
    assert report.silent == ("relay.test: no answer from the name server",)


def test_a_host_without_any_network_is_done_soon():
    checked = Checked(NatBehaviour()).serve()
    checked.host.detach("eth0")
    report, seconds, _ = checked.check()
    assert report.udp_v4 is False
    assert "no socket" in report.silent[0]
    assert seconds < WORST_S


# --- captive portals


class Portal(Leaf):
    """Answers whatever HTTP comes with a page of its own."""

    def stream_accepted(self, stream, remote_ip, now):
        pass

    def stream_data(self, stream, data, now):
        answer = b"HTTP/1.1 302 Found\r\nLocation: http://log.in/\r\nContent-Length: 0\r\n\r\n"
        self._transmits.append(StreamWrite(stream, answer))

    def stream_closed(self, stream, error, now):
        pass


@pytest.mark.parametrize(("url", "port"), [("http://relay.test:3340", 3340), ("https://relay.test", 80)])
def test_a_portal_that_answers_in_the_relays_name_is_noticed(url, port):
    checked = Checked(NatBehaviour(udp_blocked=True))
    checked.server.run(Portal(), (), listen=[port])
    report, seconds, _ = checked.check(relays=(RelayUrl.parse(url),))
    assert report.captive_portal is True
    assert judge(report).advice[0].startswith("A captive portal")
    assert seconds < WORST_S


def test_a_web_server_on_port_80_of_a_relay_that_answers_is_no_portal():
    checked = Checked(NatBehaviour()).serve()
    checked.server.run(Portal(), (), listen=[80])
    report, _, _ = checked.check()
    assert report.captive_portal is False


def test_where_nobody_answers_nothing_is_known_of_portals():
    report, _, _ = Checked(NatBehaviour()).check(relays=(RelayUrl.parse("https://relay.test"),))
    assert report.captive_portal is None


# --- several relays


def test_the_nearest_relay_is_home_and_a_small_gain_changes_nothing():
    checked = Checked(NatBehaviour()).serve()
    near = Host(checked.world, "near")
    near.attach(checked.core, "203.0.113.20/24", quality=LinkQuality(delay_s=0.0005))
    run_server(checked.world, near)
    other = RelayUrl.parse("http://203.0.113.20:3340")
    report, _, _ = checked.check(relays=(RELAY, other))
    assert report.home_relay == str(other)
    report, _, _ = checked.check(relays=(RELAY, other), home=str(RELAY))
    assert report.home_relay == str(RELAY)
    assert report.home_reason.startswith("stays")


# --- hairpin


@pytest.mark.parametrize(
    ("hairpin", "found"),
    [(Hairpin.NONE, False), (Hairpin.EXTERNAL_SOURCE, True), (Hairpin.INTERNAL_SOURCE, True)],
)
def test_hairpin_is_found_when_somebody_asks(hairpin, found):
    nat = NatBehaviour(hairpin=hairpin)
    report, seconds, _ = Checked(nat).serve().check(hairpin=True)
    assert report.hairpin is found
    assert seconds < HEALTHY_S


def test_nothing_is_sent_to_our_own_address_unasked():
    checked = Checked(NatBehaviour(hairpin=Hairpin.EXTERNAL_SOURCE)).serve()
    report, _, _ = checked.check()
    assert report.hairpin is None
    sent = checked.sent_from_the_host()
    assert all(target.ip != PUBLIC_IP for targets in sent.values() for target in targets)


def test_hairpin_costs_a_handful_of_packets():
    checked = Checked(NatBehaviour()).serve()
    checked.check(hairpin=True)
    sent = [target for targets in checked.sent_from_the_host().values() for target in targets]
    assert len([target for target in sent if target.ip == PUBLIC_IP]) == 6


# --- lifetime


@pytest.mark.parametrize("idle_s", [12.0, 30.0, 57.0, 100.0])
def test_the_lifetime_of_a_mapping_is_bracketed(idle_s):
    report, seconds, _ = Checked(NatBehaviour(idle_s=idle_s)).serve().check(slow=True, limit_s=1000.0)
    found = report.lifetime
    assert found.at_least_s <= idle_s <= found.less_than_s
    assert found.less_than_s - found.at_least_s <= max(2.0, 0.1 * found.less_than_s)
    assert seconds < 900


def test_a_mapping_that_outlives_all_trials_is_said_to():
    report, seconds, _ = Checked(NatBehaviour(idle_s=1000.0)).serve().check(slow=True, limit_s=1000.0)
    assert (report.lifetime.at_least_s, report.lifetime.less_than_s) == (240.0, None)
    assert seconds == pytest.approx(240, abs=5)


def test_a_symmetric_nats_mappings_have_a_lifetime_too():
    nat = NatBehaviour(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, ports=PortAllocation.RANDOM, idle_s=20.0)
    report, _, _ = Checked(nat).serve().check(slow=True, limit_s=1000.0)
    assert report.lifetime.at_least_s <= 20.0 <= report.lifetime.less_than_s


def test_a_server_that_cannot_answer_elsewhere_leaves_the_lifetime_open():
    checked = Checked(NatBehaviour())
    checked.server.run(StunServer(), [checked.server.open_udp(3478, SERVER_IPS[0])])
    stun = ((SERVER_IPS[0], 3478),)
    report, seconds, _ = checked.check(relays=(), stun=stun, slow=True, limit_s=1000.0)
    assert report.lifetime is None
    assert seconds < 250


# --- again


def packets(checked):
    return sum(len(targets) for targets in checked.sent_from_the_host().values())


def test_looking_again_costs_a_few_packets():
    checked = Checked(NatBehaviour()).serve()
    first, _, _ = checked.check()
    cost = packets(checked)
    again, seconds, _ = checked.check(quick=True, witnesses=first.witnesses)
    assert (cost, packets(checked) - cost) == (22, 2)
    assert refreshed(first, again).filtering_v4 is FilteringFinding.ADDRESS_AND_PORT_DEPENDENT
    assert seconds < 0.5


def test_a_nat_that_becomes_symmetric_is_noticed_by_looking_again():
    checked = Checked(NatBehaviour()).serve()
    first, _, _ = checked.check()
    symmetric = NatBehaviour(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, ports=PortAllocation.RANDOM)
    checked.home.nat4 = Nat(symmetric, PUBLIC_IP, random.Random(1))
    again, _, _ = checked.check(quick=True, witnesses=first.witnesses)
    assert refreshed(first, again) is None


# --- what is told on the way


def test_findings_are_told_as_they_come():
    _, _, driver = Checked(NatBehaviour()).serve().check()
    told = [event.text for _, event in driver.events if isinstance(event, Progress)]
    assert told[0] == "UDP over IPv6: no address of this kind"
    assert f"UDP over IPv4: yes, {PUBLIC_IP} (here 10.0.0.2)" in told
    assert any(text.startswith("mapping IPv4: endpoint-independent (easy)") for text in told)
    assert len(told) == len(set(told))


def test_the_same_seed_gives_the_same_check():
    def trace():
        checked = Checked(NatBehaviour(), access=LinkQuality(jitter_s=0.01, loss=0.1)).serve()
        checked.check(hairpin=True)
        return checked.world.trace_digest()

    assert trace() == trace()
    assert ACCESS.loss == 0.0
