"""The life of a mapping, in virtual time, with a gateway that does as its table says."""

import random
import struct
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.portmap_gateway import (
    ETHERNET,
    EXTERNAL_IP,
    GATEWAY_IP,
    MAPPING_SERVER,
    OUR_IP,
    OUR_PORT,
    SHARED,
    Bench,
    Row,
    TableGateway,
)

from peerway.core.machine import CloseSocket, InterfaceAddress, OpenSocket, UdpAddress
from peerway.core.portmap.lease import Lease
from peerway.core.portmap.mapper import PortMapper
from peerway.core.portmap.report import Protocol, Standing

OURS = UdpAddress(OUR_IP, OUR_PORT)
OUTSIDE = UdpAddress(EXTERNAL_IP, OUR_PORT)
PMP_ONLY, PCP_ONLY, UPNP_ONLY = ("pmp",), ("pcp",), ("upnp",)
EACH = [(PCP_ONLY, Protocol.PCP), (PMP_ONLY, Protocol.NAT_PMP), (UPNP_ONLY, Protocol.UPNP)]


def bench(speaks=("pcp", "pmp", "upnp"), **table):
    return Bench(TableGateway(speaks=speaks, **table)).start()


def standings(bench):
    return {report.protocol: report.standing for report in bench.report.protocols}


# --- which protocol ---------------------------------------------------------------------


@pytest.mark.parametrize(("speaks", "protocol"), EACH)
def test_whatever_the_gateway_speaks_is_used(speaks, protocol):
    found = bench(speaks).run(1)
    assert found.mapping.protocol is protocol
    assert (found.mapping.internal, found.mapping.external) == (OURS, OUTSIDE)
    assert found.addresses == (OUTSIDE,)
    (row,) = found.gateway.rows.values()
    assert (row.client, row.port, row.expires) == (OUR_IP, OUR_PORT, pytest.approx(4600, abs=2))


def test_pcp_is_asked_at_once_and_alone_when_it_answers():
    found = bench()
    assert found.mapping.protocol is Protocol.PCP
    assert found.now == 1000.0
    assert len(found.gateway.rows) == 1
    assert sorted(found.told()) == ["GatewaySpeaks"] * 3 + ["PortMapped"]


def test_worse_protocols_give_a_better_one_a_head_start():
    found = bench(("upnp",))
    assert found.mapping is None
    found.run(0.31)
    assert found.mapping.protocol is Protocol.UPNP


def test_a_protocol_that_will_not_map_gives_way_to_the_next():
    found = bench(pcp_result=2, pmp_map_result=2).run(1)
    assert found.mapping.protocol is Protocol.UPNP


def test_all_that_is_spoken_is_reported():
    found = bench(("pmp", "upnp")).run(1)
    assert standings(found) == {
        Protocol.PCP: Standing.REFUSES,
        Protocol.NAT_PMP: Standing.SPEAKS,
        Protocol.UPNP: Standing.SPEAKS,
    }
    assert found.report.protocols[2].detail == "Table, WANIPConnection:1"
    assert found.report.external_ip == EXTERNAL_IP


def test_a_gateway_that_says_nothing_is_left_alone_for_a_while():
    found = bench(()).run(130)
    assert set(standings(found).values()) == {Standing.SILENT}
    assert found.told() == ["PortMappingFailed"]
    assert found.report.failure == "PCP: no answer; NAT-PMP: no answer; UPnP IGD: no answer"
    found.gateway.speaks = PMP_ONLY
    found.run(500)
    assert found.mapping is None
    found.run(200)
    assert found.mapping.protocol is Protocol.NAT_PMP


@pytest.mark.parametrize(
    "interface",
    [
        replace(ETHERNET, gateway=""),  # a tunnel
        InterfaceAddress("eth0", "8.8.8.9", 24, 100, "8.8.8.1"),  # no NAT
        InterfaceAddress("eth0", "2a00:1450::9", 64, 100, "2a00:1450::1"),
    ],
)
def test_nobody_is_asked_where_no_mapping_is_needed(interface):
    found = Bench().start(interface)
    assert (found.sockets, found.mapper.reports) == ([], ())


# --- renewal ------------------------------------------------------------------------------


@pytest.mark.parametrize(("speaks", "protocol"), EACH)
def test_a_mapping_lives_on_for_hours(speaks, protocol):
    found = bench(speaks).run(30_000)
    assert found.mapping.external == OUTSIDE
    assert OUR_PORT in found.gateway.rows
    assert set(found.told()) == {"GatewaySpeaks", "PortMapped", "PortMappingRenewed"}


def test_the_lifetime_that_was_granted_counts_not_the_one_asked_for():
    found = bench(PMP_ONLY, longest=120).run(1)
    assert found.mapping.lifetime_s == 120
    found.run(58)
    assert "PortMappingRenewed" not in found.told()
    found.run(2)
    assert found.told() == ["PortMappingRenewed"]


def test_pcp_renews_within_its_windows_and_no_more_often():
    found = bench(PCP_ONLY, longest=800)
    found.gateway.mute = True
    asked, moments = len(found.gateway.asked), []
    found.gateway.answer = lambda data, client, now: moments.append(now - 1000) if data[1] == 1 else None
    found.run(799)
    windows = [(400, 500), (600, 650), (700, 725), (750, 762.5), (775, 781.3), (787.5, 790.7), (793.7, 795.4)]
    assert len(moments) == len(windows)
    assert all(low <= moment <= high for moment, (low, high) in zip(moments, windows, strict=True)), moments
    assert all(later - earlier >= 4 for earlier, later in pairwise(moments))
    assert asked == 2


def test_an_endless_mapping_is_looked_after_all_the_same():
    found = bench(UPNP_ONLY, faults={"AddPortMapping": [725]}).run(1)
    assert found.mapping.lifetime_s == 0
    found.told()
    found.run(1201)
    assert found.told() == ["PortMappingRenewed"]
    assert found.gateway.rows[OUR_PORT].expires == 0


@pytest.mark.parametrize(("speaks", "protocol"), EACH)
def test_a_mapping_nobody_renews_is_lost_when_its_lease_ends(speaks, protocol):
    found = bench(speaks, longest=600).run(1)
    found.gateway.mute = True
    found.told()
    found.run(590)
    assert found.mapping is not None
    found.run(15)
    assert found.mapping is None
    assert found.addresses == ()
    assert "PortMappingLost" in found.told()


def test_another_port_than_asked_for_is_taken_and_kept():
    for speaks in (PCP_ONLY, PMP_ONLY):
        found = bench(speaks, reserved=frozenset({OUR_PORT})).run(5000)
        assert found.mapping.external == UdpAddress(EXTERNAL_IP, OUR_PORT + 1)
        assert list(found.gateway.rows) == [OUR_PORT + 1]


# --- the gateway restarts -------------------------------------------------------------------


@pytest.mark.parametrize(("speaks", "protocol"), EACH)
def test_a_gateway_that_forgot_is_asked_again_for_the_same(speaks, protocol):
    found = bench(speaks, reserved=frozenset({OUR_PORT})).run(100)
    before = found.mapping.external
    found.told()
    found.gateway.restart(found.now)
    assert found.gateway.rows == {}
    found.run(122)
    assert found.mapping.external == before
    assert list(found.gateway.rows) == [before.port]
    assert found.told() == ["PortMappingLost", "PortMapped"]


def announcement(kind, epoch, ip=EXTERNAL_IP):
    if kind == "pmp":
        return struct.pack(">BBHI", 0, 128, 0, epoch) + bytes(map(int, ip.split(".")))
    return struct.pack(">BBBBII12x", 2, 128, 0, 0, 0, epoch)


@pytest.mark.parametrize("kind", ["pmp", "pcp"])
def test_a_restart_that_is_announced_is_heard_at_once(kind):
    found = bench((kind,)).run(50)
    found.gateway.restart(found.now)
    found.announce(announcement(kind, 0))
    assert found.mapping is None
    found.run(1)
    assert found.mapping.external == OUTSIDE
    assert OUR_PORT in found.gateway.rows


def test_announcements_of_others_change_nothing():
    found = bench(PMP_ONLY).run(50)
    found.told()
    found.announce(announcement("pmp", 0), remote="192.168.1.66")
    found.announce(b"")
    found.announce(b"\2nonsense")
    found.announce(bytes(12))
    assert (found.told(), found.mapping.external) == ([], OUTSIDE)


def test_an_announcement_wakes_whoever_had_given_up():
    found = bench(()).run(140)
    found.told()
    found.gateway.speaks = PMP_ONLY
    found.announce(announcement("pmp", 1))
    found.run(1)
    assert found.mapping.protocol is Protocol.NAT_PMP


@pytest.mark.parametrize("speaks", [PMP_ONLY, UPNP_ONLY])
def test_a_new_outside_address_is_noticed(speaks):
    found = bench(speaks).run(10)
    found.gateway.external_ip = "203.1.113.99"
    found.run(121)
    assert found.addresses == (UdpAddress("203.1.113.99", OUR_PORT),)
    assert [str(event).partition(": ")[2] for event in found.events][-1] == "the gateway has another address"


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [1, 2, 3, 4, 5, 99])
@pytest.mark.parametrize("about", ["pmp_address_result", "pmp_map_result"])
def test_no_result_of_nat_pmp_gives_a_mapping(about, result):
    found = bench(PMP_ONLY, **{about: result}).run(200)
    assert found.mapping is None
    assert found.told()[-1] == "PortMappingFailed"
    assert "NAT-PMP: " in found.report.failure


@pytest.mark.parametrize("result", [*range(1, 14), 77])
def test_no_result_of_pcp_gives_a_mapping(result):
    found = bench(PCP_ONLY, pcp_result=result).run(200)
    assert found.mapping is None
    assert "PortMappingFailed" in found.told()


def test_the_time_a_refusal_names_is_waited():
    found = bench(PCP_ONLY, pcp_result=8, pcp_error_lifetime=45)
    found.run(140)
    found.gateway.pcp_result = 0
    tries = len([asked for asked in found.gateway.asked if "map" in asked])
    found.run(44)
    assert tries <= len([asked for asked in found.gateway.asked if "map" in asked]) <= tries + 1
    found.run(10)
    assert found.mapping is not None


@pytest.mark.parametrize("error", [401, 500, 606, 728, 999])
def test_a_upnp_gateway_that_refuses_is_asked_later(error):
    found = bench(UPNP_ONLY, faults={"AddPortMapping": [error] * 3}).run(131)
    assert found.mapping is None
    assert f"error {error}" in found.report.failure


def test_a_wrong_nonce_is_no_answer():
    found = bench(PCP_ONLY, pcp_wrong_nonce=True).run(200)
    assert found.mapping is None


def test_an_answer_from_another_host_is_none():
    found = bench(())
    for local in found.sockets[:3]:
        for data in (b"\0\x80\0\0\0\0\0\1\7\7\7\7", announcement("pcp", 1), found.gateway.search_answer()):
            found.deliver(data, local, UdpAddress("192.168.1.66", 5351))
            found.deliver(data, local, UdpAddress(GATEWAY_IP, 5352 if data[0] < 3 else 1900))
    found.drain()
    assert found.report.protocols[0].standing is Standing.UNKNOWN
    assert found.report.protocols[1].standing is Standing.UNKNOWN


# --- UPnP --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [402, 501, 725])
def test_upnp_without_leases_is_asked_for_a_mapping_without_end(error):
    found = bench(UPNP_ONLY, faults={"AddPortMapping": [error]}).run(1)
    assert (found.mapping.external, found.mapping.lifetime_s) == (OUTSIDE, 0)


def test_a_port_that_is_taken_is_given_up_for_another():
    found = bench(UPNP_ONLY, rows={OUR_PORT: Row("192.168.1.9", 9, 0)}).run(1)
    assert found.mapping.external.port != OUR_PORT
    assert found.gateway.rows[OUR_PORT].client == "192.168.1.9"
    assert found.gateway.rows[found.mapping.external.port].client == OUR_IP


def test_a_gateway_that_wants_equal_ports_gets_them():
    found = bench(UPNP_ONLY, faults={"AddPortMapping": [718, 724]}).run(1)
    assert found.mapping.external == OUTSIDE


def test_a_gateway_of_version_two_chooses_the_port_itself():
    found = bench(UPNP_ONLY, igd=2, rows={OUR_PORT: Row("192.168.1.9", 9, 0)}).run(1)
    assert found.mapping.external.port == OUR_PORT + 1
    assert "AddPortMapping" not in found.gateway.calls


def test_a_version_two_in_name_only_is_asked_as_version_one():
    found = bench(UPNP_ONLY, igd=2, faults={"AddAnyPortMapping": [401]}).run(1)
    assert found.mapping.external == OUTSIDE


def test_a_gateway_that_cannot_list_is_believed():
    found = bench(UPNP_ONLY, faults={"GetSpecificPortMappingEntry": [501]}).run(1)
    assert (found.mapping.external, found.mapping.lifetime_s) == (OUTSIDE, 7200)


def test_no_ports_at_all_come_to_an_end():
    found = bench(UPNP_ONLY, faults={"AddPortMapping": [718] * 100}).run(131)
    assert found.report.failure.endswith("UPnP IGD: no port after 8 tries")


def test_a_gateway_that_cannot_prolong_keeps_the_port():
    found = bench(UPNP_ONLY).run(1)
    found.gateway.faults = {"AddPortMapping": [718]}
    found.run(1801)
    assert found.mapping.external == OUTSIDE
    assert found.told()[-1] == "PortMappingRenewed"
    assert "DeletePortMapping" in found.gateway.calls


def test_a_gateway_that_moved_to_another_port_is_found_again():
    found = bench(UPNP_ONLY).run(1)
    found.gateway.restart(found.now)
    found.gateway.location = f"http://{GATEWAY_IP}:6000/root.xml"
    found.gateway.mute = True
    found.run(120)
    found.gateway.mute = False
    found.run(5)
    assert found.mapping.external == OUTSIDE
    assert OUR_PORT in found.gateway.rows


def test_a_mapping_that_is_listed_for_another_host_meanwhile_is_made_again():
    found = bench(UPNP_ONLY).run(1)
    found.gateway.rows[OUR_PORT] = Row("192.168.1.9", 9, 0)
    found.told()
    found.run(121)
    assert found.told() == ["PortMappingLost", "PortMapped"]
    assert found.gateway.rows[OUR_PORT].client == "192.168.1.9"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"location": "http://192.168.1.66:5000/root.xml"}, "names another host as its own, 192.168.1.66"),
        ({"description": b"<root/>"}, "without a connection"),
        ({"description": b"<!DOCTYPE a><root/>"}, "not the XML"),
        ({"description": b" " * (300 * 1024)}, "more than 262144 bytes"),
        ({"external_ip": "0.0.0.0"}, "no outside address"),
        ({"faults": {"GetExternalIPAddress": [501] * 9}}, "error 501"),
    ],
)
def test_a_upnp_gateway_of_no_use_is_told_why(table, words):
    found = bench(UPNP_ONLY, **table).run(131)
    assert found.mapping is None
    assert words in found.report.failure
    assert found.open_streams == {}


# --- the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("speaks", "protocol"), EACH)
def test_leaving_removes_the_mapping(speaks, protocol):
    found = bench(speaks, reserved=frozenset({OUR_PORT})).run(1)
    assert len(found.gateway.rows) == 1
    found.leave()
    assert found.gateway.rows == {}
    assert (found.given_back, found.remembered, found.sockets) == (True, (), [found.announcements])
    assert found.mapper.poll_deadline() is None


@pytest.mark.parametrize(("speaks", "protocol"), EACH)
def test_leaving_takes_a_second_at_most(speaks, protocol):
    found = bench(speaks).run(1)
    found.gateway.mute = True
    found.leave().run(1.0)
    assert found.given_back
    assert [lease.protocol for lease in found.remembered] == [protocol]
    assert found.mapper.poll_deadline() is None


@pytest.mark.parametrize(("speaks", "protocol"), EACH)
def test_leaving_in_the_middle_of_asking_leaves_nothing(speaks, protocol):
    found = Bench(TableGateway(speaks=speaks)).start()
    steps = 0
    while found.mapping is None and found.run(0.05).now < 1002:
        steps += 1
    for moment in range(steps + 1):
        again = Bench(TableGateway(speaks=speaks)).start().run(0.05 * moment).leave().run(1)
        assert (again.given_back, again.gateway.rows) == (True, {})


@pytest.mark.parametrize(
    ("speaks", "trouble", "error"),
    [
        (PMP_ONLY, {"pmp_map_result": 2}, ""),  # miniupnpd, of a mapping that is gone
        (PMP_ONLY, {"pmp_map_result": 4}, "the gateway has no port left"),
        (PCP_ONLY, {"pcp_result": 2}, ""),
        (PCP_ONLY, {"pcp_result": 13}, "the gateway answers with PCP result 13"),
        (UPNP_ONLY, {"rows": {}}, ""),
        (UPNP_ONLY, {"rows": {OUR_PORT: Row("192.168.1.9", 1, 0)}}, ""),
        (UPNP_ONLY, {"faults": {"DeletePortMapping": [714]}}, ""),
        (UPNP_ONLY, {"faults": {"DeletePortMapping": [606]}}, "the gateway answers with error 606"),
        (UPNP_ONLY, {"faults": {"GetSpecificPortMappingEntry": [501]}}, ""),
    ],
)
def test_what_a_gateway_says_to_a_removal_decides_whether_it_is_remembered(speaks, trouble, error):
    found = bench(speaks).run(1)
    for name, value in trouble.items():
        setattr(found.gateway, name, value)
    found.told()
    found.leave()
    (removed,) = found.events
    assert (removed.error, len(found.remembered)) == (error, 1 if error else 0)
    assert str(removed).startswith("could not remove port 41641" if error else "removed port 41641")
    assert found.given_back


def test_leaving_where_there_is_nothing_is_done_at_once():
    assert Bench().leave().given_back
    assert bench(()).leave().given_back


# --- what was left behind -----------------------------------------------------------------------


def leftover(protocol, **changes):
    lease = Lease(protocol, GATEWAY_IP, UdpAddress(OUR_IP, 5555), 6666, b"n" * 12, EXTERNAL_IP)
    return replace(lease, **changes)


@pytest.mark.parametrize(("speaks", "protocol"), EACH)
def test_what_a_killed_run_left_is_removed_before_anything_is_asked_for(speaks, protocol):
    gateway = TableGateway(speaks=speaks, rows={6666: Row(OUR_IP, 5555, 0, b"n" * 12)})
    found = Bench(gateway, (leftover(protocol),)).start().run(1)
    assert list(gateway.rows) == [OUR_PORT]
    assert [lease.external_port for lease in found.remembered] == [OUR_PORT]
    names = found.told()
    assert names.index("PortMappingRemoved") < names.index("PortMapped")


def test_a_leftover_that_others_have_by_now_is_theirs():
    gateway = TableGateway(speaks=UPNP_ONLY, rows={6666: Row("192.168.1.9", 1, 0)})
    found = Bench(gateway, (leftover(Protocol.UPNP),)).start().run(1)
    assert gateway.rows[6666].client == "192.168.1.9"
    assert [lease.external_port for lease in found.remembered] == [OUR_PORT]


def test_a_leftover_in_a_protocol_not_spoken_waits_for_another_time():
    old = leftover(Protocol.PCP)
    found = Bench(TableGateway(speaks=PMP_ONLY), (old,)).start().run(1)
    assert found.mapping is not None
    assert old in found.remembered


def test_a_leftover_of_another_gateway_is_kept_for_its_return():
    old = leftover(Protocol.PCP, gateway="10.0.0.1")
    found = Bench(TableGateway(), (old,)).start().run(1)
    assert found.mapping is not None
    found.leave()
    assert found.remembered == (old,)


def test_a_leftover_whose_lease_is_over_is_left_alone():
    old = leftover(Protocol.NAT_PMP, lifetime_s=600)
    gateway = TableGateway(speaks=PMP_ONLY, rows={6666: Row("192.168.1.9", 1, 0)})
    found = Bench(gateway, (old,)).run(601).start().run(1)
    assert gateway.rows[6666].client == "192.168.1.9"
    assert [lease.external_port for lease in found.remembered] == [OUR_PORT]


def test_a_gateway_that_does_not_confirm_the_removal_holds_nobody_up():
    gateway = TableGateway(speaks=("pcp", "pmp"))
    answer = gateway.answer
    gateway.answer = lambda data, client, now: None if data[:2] == b"\0\1" else answer(data, client, now)
    found = Bench(gateway, (leftover(Protocol.NAT_PMP),)).start().run(2.9)
    assert found.mapping is None
    found.run(0.2)
    assert found.mapping.protocol is Protocol.PCP


# --- the network changes -------------------------------------------------------------------------


def test_a_lost_interface_takes_its_mapping_along_and_the_lease_is_remembered():
    found = bench(PCP_ONLY)
    found.gateway.mute = True
    found.mapper.interfaces_changed((), found.now)
    found.drain()
    found.run(1.1)
    assert (found.addresses, len(found.remembered)) == ((), 1)
    assert found.sockets == [found.announcements]
    found.gateway.mute = False
    found.mapper.interfaces_changed((ETHERNET,), found.now)
    found.drain()
    found.run(1)
    assert found.mapping.external == OUTSIDE
    assert len(found.gateway.rows) == len(found.remembered) == 1


def test_an_interface_that_comes_back_at_once_is_taken_up_again():
    found = bench(PMP_ONLY).run(1)
    found.mapper.interfaces_changed((), found.now)
    found.mapper.interfaces_changed((ETHERNET,), found.now)
    found.drain()
    found.run(2)
    assert found.mapping.external == OUTSIDE


def test_each_uplink_has_a_mapping_to_the_socket_that_sends_by_it():
    wifi = InterfaceAddress("wlan0", "192.168.7.2", 24, 600, "192.168.7.1")
    found = Bench(TableGateway(speaks=PMP_ONLY))
    found.mapper.set_sockets((UdpAddress("0.0.0.0", OUR_PORT), UdpAddress("192.168.7.2", 7000)), found.now)
    found.mapper.interfaces_changed((wifi, ETHERNET), found.now)
    found.drain()
    assert [(r.interface, r.gateway) for r in found.mapper.reports] == [
        ("eth0", GATEWAY_IP),
        ("wlan0", "192.168.7.1"),
    ]


def test_a_mapper_that_is_switched_off_asks_nobody():
    found = Bench()
    found.mapper = PortMapper(None, active=False)
    found.start()
    assert (found.sockets, found.mapper.reports) == ([], ())


# --- hostile ------------------------------------------------------------------------------------------

STARTS = [
    b"",
    b"\0\x80\0\0",
    b"\0\x81\0\0\0\0\0\5",
    b"\2\x80\0\0",
    b"\2\x81\0\0\0\0\x0e\x10",
    b"HTTP/1.1 200 OK\r\n",
]
SENDERS = [MAPPING_SERVER, UdpAddress(GATEWAY_IP, 1900), UdpAddress("192.168.1.66", 5351)]


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from(STARTS),
            st.binary(max_size=64),
            st.sampled_from(SENDERS),
            st.floats(0, 40),
        ),
        max_size=12,
    ),
    st.sampled_from([(), PMP_ONLY, PCP_ONLY, UPNP_ONLY, ("pcp", "pmp", "upnp")]),
)
def test_whatever_arrives_breaks_nothing_and_wakes_nobody_for_ever(arrivals, speaks):
    found = Bench(TableGateway(speaks=speaks)).start()
    for socket, start, rest, sender, pause in arrivals:
        found.deliver(start + rest, found.sockets[socket], sender)
        for stream in list(found.open_streams):
            found.mapper.stream_data(stream, start + rest, found.now)
        found.drain()
        found.run(pause)
    found.leave().run(1)
    assert found.given_back
    assert found.open_streams == {}


# --- another NAT beyond -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ip", "words"),
    [
        ("192.168.0.17", "the gateway's own address, 192.168.0.17, is a private or reserved one"),
        ("100.64.3.4", "the gateway's own address, 100.64.3.4, is one of a carrier's NAT (100.64.0.0/10)"),
        ("198.51.100.7", "the gateway's own address, 198.51.100.7, is a private or reserved one"),
    ],
)
def test_an_outside_address_that_is_none_of_the_internets_means_another_nat(ip, words):
    found = bench(external_ip=ip).run(1)
    assert (found.report.nat_beyond, found.report.nat_beyond_reason) == (True, words)
    assert f"another NAT is beyond {GATEWAY_IP}: {words}" in [str(event) for event in found.events]
    assert found.addresses == (UdpAddress(ip, OUR_PORT),)


@pytest.mark.parametrize("ip", ["127.0.0.1", "224.0.0.1", "255.255.255.255", "169.254.1.1"])
@pytest.mark.parametrize("speaks", [PCP_ONLY, PMP_ONLY, UPNP_ONLY])
def test_an_outside_address_where_nobody_can_be_is_refused(speaks, ip):
    found = bench(speaks, external_ip=ip).run(200)
    assert (found.mapping, found.addresses, found.gateway.rows) == (None, (), {})
    assert "is of no use" in found.report.failure


def test_pcp_says_itself_that_there_is_another_nat():
    found = bench(("pcp", "upnp"), pcp_result=12).run(1)
    assert found.report.nat_beyond is True
    assert found.report.nat_beyond_reason == "there is another NAT between us and the PCP server"


SERVER = UdpAddress("8.8.4.4", 3478)


def test_what_stun_servers_see_tells_whether_there_is_another_nat():
    found = bench(PMP_ONLY).run(1)
    assert found.report.nat_beyond is None
    found.mapper.observed({SHARED: {SERVER: UdpAddress("203.1.113.200", 1)}}, found.now)
    assert found.report.nat_beyond is True
    assert "the Internet sees us at 203.1.113.200" in found.report.nat_beyond_reason
    found.mapper.observed({SHARED: {SERVER: UdpAddress(EXTERNAL_IP, 1)}}, found.now)
    assert found.report.nat_beyond is False


def test_a_gateway_without_an_address_while_the_internet_is_there_is_behind_another_nat():
    found = bench(PMP_ONLY, pmp_address_result=3)
    found.mapper.observed({SHARED: {SERVER: UdpAddress("203.1.113.200", 1)}}, found.now)
    assert found.report.nat_beyond is True


def test_sockets_that_were_asked_for_before_the_interface_went_and_came_back_are_closed():
    mapper = PortMapper(random.Random(1))
    mapper.set_sockets((SHARED,), 0.0)
    mapper.interfaces_changed((ETHERNET,), 0.0)
    mapper.interfaces_changed((), 0.0)
    mapper.interfaces_changed((ETHERNET,), 0.0)
    events = list(iter(mapper.poll_event, None))
    asked = [event for event in events if isinstance(event, OpenSocket)]
    assert [event.port for event in asked] == [0, 0, 0, 5350, 0, 0, 0]
    for number, request in enumerate(asked):
        mapper.socket_opened(UdpAddress(request.ip, request.port or 50_000 + number), 1.0)
    closed = [event.local for event in iter(mapper.poll_event, None) if isinstance(event, CloseSocket)]
    assert closed == [UdpAddress(OUR_IP, 50_000 + number) for number in range(3)]
    assert [mapper.owns_socket(UdpAddress(OUR_IP, 50_000 + number)) for number in (0, 4, 5, 6)] == [
        False,
        True,
        True,
        True,
    ]
