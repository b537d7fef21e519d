"""What nodes find out behind real routers is what these routers do, in every kind; third parties agree."""

import asyncio
import re
import sys

import pytest

from peerway.core.nat import Filtering, Mapping
from peerway.lab.building import build
from peerway.lab.faults import Faults
from peerway.lab.gateway_daemon import gateway_daemon
from peerway.lab.kinds import KINDS, PORT_BLOCK, Hairpin
from peerway.lab.laboratory import Laboratory
from peerway.lab.layouts import gallery, pair
from peerway.lab.orders import (
    Check,
    Checked,
    Closed,
    CloseNode,
    Opened,
    OpenNode,
    Relays,
    Serve,
    Served,
    TellRelays,
)
from peerway.lab.places import PLACES, expected
from peerway.lab.plan import Plan, home
from peerway.lab.service import Service
from peerway.lab.topology import SERVER, SERVER_IPS, SERVER_IPS_V6, SERVER_NAME

pytestmark = pytest.mark.lab

TWINS = ("cgn-inside", "cgn-no-hairpin")  # what tells them from others is seen by two hosts only
ALONE = [name for name, place in PLACES.items() if not place.shared and name not in TWINS]
PASSABLE = [name for name in ALONE if all(kind.passes_udp for kind in PLACES[name].kinds)]
V4_PLACES = [name for name in PASSABLE if 4 in PLACES[name].families]
V6_PLACES = [name for name in PASSABLE if 6 in PLACES[name].families]
WORDS = {
    Mapping.ENDPOINT_INDEPENDENT: "Endpoint Independent Mapping",
    Mapping.ADDRESS_DEPENDENT: "Address Dependent Mapping",
    Mapping.ADDRESS_AND_PORT_DEPENDENT: "Address and Port Dependent Mapping",
    Filtering.ENDPOINT_INDEPENDENT: "Endpoint Independent Filtering",
    Filtering.ADDRESS_DEPENDENT: "Address Dependent Filtering",
    Filtering.ADDRESS_AND_PORT_DEPENDENT: "Address and Port Dependent Filtering",
}
FORGETFUL_S = 6
AT_ONCE = 8  # checks; more would only wait for each other
TRIES = 3
CHOOSING = {  # the kinds that do not keep the inside port, and from where they choose
    "edm": ("random", 1024, 65535),
    "edm-seq": ("sequential", 30000, 31023),
    "adm": ("random", 30000, 62767),
    **dict.fromkeys(("port-block", "cgn"), ("random", *PORT_BLOCK)),
    "cgn-edm": ("random", 1024, 65535),
}
PEERS = {  # the kinds of the lab that are what the verdict calls its sorts of peers
    "at public addresses": "open",
    "behind firewalls": "firewall",
    "behind full cone NATs": "eim-eif",
    "behind restricted cone NATs": "eim-adf",
    "behind port-restricted cone NATs": "eim-apdf",
    "behind symmetric NATs": "edm",
}


def truth(name):
    """How a place maps and filters IPv4: like one router that has the worst of each."""
    kinds = PLACES[name].kinds
    mapping = max((kind.mapping for kind in kinds if kind.mapping), key=list(Mapping).index, default=None)
    return mapping, max((kind.filtering for kind in kinds), key=list(Filtering).index)


PORTAL = """\
import http.server

class LogIn(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(302)
        self.send_header("Location", "http://hotel.lab/log-in")
        self.send_header("Content-Length", "0")
        self.end_headers()

http.server.ThreadingHTTPServer(("0.0.0.0", 8000), LogIn).serve_forever()
"""
PORTAL_RULES = """\
table ip hotel {
 chain divert {
  type nat hook prerouting priority dstnat
  iifname "lan" tcp dport { 80, 3340 } redirect to :8000
 }
 chain onward {
  type filter hook forward priority -10
  iifname "lan" drop
 }
}
"""


class Everywhere:
    """A host at every place checks, coturn's client asks our server beside it, nmap scans that."""

    async def run(self, discover, scan):
        """All at once: most of it is waiting."""
        await asyncio.gather(
            self.measure_a_lifetime(),
            self.choose_between_relays(),
            self.map_ports_behind_another_nat(),
            self.check_in_a_hotel(),
            self.check_all(discover, scan),
        )

    async def measure_a_lifetime(self):
        """Behind a router that forgets soon; it takes long, so it goes on beside everything else."""
        async with Laboratory(pair("eim-apdf", "open")) as lab:
            await Faults(lab).set_udp_timeout("left-router", FORGETFUL_S, FORGETFUL_S)
            relay = (await lab.order(SERVER, Serve(SERVER_IPS), Served)).url
            self.slow = await lab.order("left", Check((relay,), slow=True), Checked)

    async def choose_between_relays(self):
        """One of two relays is behind a line that takes 40 ms each way."""
        async with Laboratory(pair("eim-apdf", "open")) as lab:
            await Faults(lab).delay("right", 40)
            far_ip = lab.topology.public_ip("right")
            near, far = await asyncio.gather(
                lab.order(SERVER, Serve(SERVER_IPS), Served), lab.order("right", Serve((far_ip,)), Served)
            )
            relays = (far.url, near.url)
            await lab.order("left", OpenNode(relays, ()), Opened)
            checked = await lab.order("left", Check(relays), Checked)
            for _ in range(50):
                told = await lab.order("left", TellRelays(), Relays)
                if told.urls[0] == near.url:
                    break
                await asyncio.sleep(0.1)
            self.relays = near.url, far.url, checked.record, told.urls

    async def map_ports_behind_another_nat(self):
        line = home("left", ["eim-apdf", "edm"], "left", services=(gateway_daemon(),))
        plan = Plan("double", "Two NATs, of which the inner one opens ports.", (line,))
        async with Laboratory(build(plan)) as lab:
            served = await lab.order(SERVER, Serve(SERVER_IPS), Served)
            check = await checked(lab, "left", served.url, lambda found: found["double_nat"] is not None)
            self.double = check.record

    async def check_in_a_hotel(self):
        """The router answers for every web server, and lets nothing through before somebody logs in."""
        portal = Service(
            "portal", (sys.executable, "portal.py"), files=(("portal.py", PORTAL),), rules=PORTAL_RULES
        )
        line = home("left", ["eim-apdf"], "left", services=(portal,))
        async with Laboratory(build(Plan("hotel", "A captive portal.", (line,)))) as lab:
            plain = (await lab.order(SERVER, Serve(SERVER_IPS), Served)).url
            listens = "until ss -ltn | grep -q :8000; do sleep 0.05; done"
            await lab.run("left-router", "sh", "-c", listens)
            by_plain = await lab.order("left", Check((plain,)), Checked)
            by_tls = await lab.order("left", Check((f"https://{SERVER_IPS[0]}",)), Checked)
            self.hotel = by_plain, by_tls

    async def check_all(self, discover, scan):
        async with Laboratory(gallery(ALONE)) as lab:
            self.lab, self.discover = lab, discover
            self.relay = (
                await lab.order(SERVER, Serve((*SERVER_IPS, *SERVER_IPS_V6), SERVER_NAME), Served)
            ).url
            self.public = {
                (name, family): lab.topology.public_ip(f"{name}-1", family)
                for name in ALONE
                for family in PLACES[name].families
            }
            scanning = (scan, "-sU", "-Pn", "-n", "-p", "3478", "--script", "stun-info", SERVER_IPS[0])
            self.checks, self.discoveries, self.scanned = await asyncio.gather(
                self.check_some_at_once(),
                gathered({name: self.ask_coturn(name) for name in V4_PLACES}),
                lab.run("open-1", *scanning),
            )

    def gateway(self, name):
        """The address of the inmost router of a place, as its hosts see it."""
        inmost = self.lab.topology.routers_before(f"{name}-1")[-1]
        return self.lab.topology.machines[inmost].device("lan").ip()

    async def check_some_at_once(self):
        # Once every interpreter has started, none takes the time of those that check.
        await asyncio.gather(*(self.lab.order(f"{name}-1", CloseNode(), Closed) for name in ALONE))
        found = {}
        for start in range(0, len(ALONE), AT_ONCE):
            names = ALONE[start : start + AT_ONCE]
            found |= await gathered({name: self.check(name) for name in names})
        return found

    async def check(self, name):
        return await checked(self.lab, f"{name}-1", self.relay, lambda found: is_settled(name, found))

    async def ask_coturn(self, name):
        return await self.lab.run(f"{name}-1", self.discover, "-m", "-f", "-H", SERVER_IPS[0])


async def checked(lab, host, relay, is_done):
    """A check; what a machine too busy to answer in time left open is asked again."""
    for _ in range(TRIES):
        check = await lab.order(host, Check((relay,), hairpin=True), Checked)
        if is_done(check.record):
            break
    return check


def is_settled(name, found):
    """Whether a check at a place has had all its answers."""
    if name not in V4_PLACES:
        return True
    answers = [spoken for gateway in found["portmap"] or () for spoken in gateway["protocols"].values()]
    return found["filtering_v4"] != "unknown" and (all(answers) or not PLACES[name].maps_ports)


async def gathered(awaitables):
    return dict(zip(awaitables, await asyncio.gather(*awaitables.values()), strict=True))


@pytest.fixture(scope="module")
def everywhere(tool):
    ran = Everywhere()
    asyncio.run(ran.run(tool("turnutils_natdiscovery", "coturn"), tool("nmap", "nmap")))
    return ran


@pytest.mark.parametrize("name", V4_PLACES)
def test_a_check_finds_what_the_routers_do(name, everywhere):
    found = everywhere.checks[name].record
    mapping, filtering = truth(name)
    assert found["mapping_v4"] == (mapping.value if mapping else "none")
    assert found["filtering_v4"] == filtering.value
    assert (found["udp_v4"], found["public_v4"]) == (True, everywhere.public[name, 4])
    assert found["home_relay"] == found["relays"][0]["url"]
    assert found["captive_portal"] is False


@pytest.mark.parametrize("relay", [0, 1], ids=["plain", "tls"])
def test_a_check_in_a_hotel_finds_the_portal(relay, everywhere):
    check = everywhere.hotel[relay]
    assert check.record["captive_portal"] is True
    assert check.record["udp_v4"] is False
    assert "log in" in check.record["advice"][0]


@pytest.mark.parametrize("name", [name for name in V4_PLACES if len(PLACES[name].routers) == 1])
def test_a_check_gives_a_router_its_old_name(name, everywhere):
    assert everywhere.checks[name].record["name"].removesuffix(" NAT") in PLACES[name].kinds[0].old_name


@pytest.mark.parametrize("name", [name for name in KINDS if not KINDS[name].passes_udp])
def test_a_check_without_udp_is_made_over_tcp(name, everywhere):
    found = everywhere.checks[name].record
    assert (found["udp_v4"], found["mapping_v4"], found["filtering_v4"]) == (False, "unknown", "unknown")
    assert (found["difficulty"], found["name"]) == ("blocked", "UDP blocked")
    assert (found["relays"][0]["via"], found["captive_portal"]) == ("tcp", False)


@pytest.mark.parametrize("name", V6_PLACES)
def test_a_check_finds_what_ipv6_passes(name, everywhere):
    found = everywhere.checks[name].record
    assert (found["udp_v6"], found["public_v6"]) == (True, everywhere.public[name, 6])
    assert (found["mapping_v6"], found["filtering_v6"]) == ("none", "address-and-port-dependent")


def test_a_host_without_ipv4_is_judged_by_ipv6(everywhere):
    found = everywhere.checks["v6-firewall"].record
    assert (found["udp_v4"], found["name"]) == (False, "symmetric UDP firewall")


@pytest.mark.parametrize("name", [name for name in ALONE if 6 not in PLACES[name].families])
def test_a_host_without_ipv6_knows(name, everywhere):
    assert everywhere.checks[name].record["udp_v6"] is False


@pytest.mark.parametrize("name", [name for name in V4_PLACES if truth(name)[0]])
def test_a_check_finds_which_ports_the_routers_give(name, everywhere):
    allocation = everywhere.checks[name].record["allocation"]
    outermost = PLACES[name].routers[0]
    kind, lowest, highest = CHOOSING.get(outermost, ("preserving", 1024, 65535))
    assert allocation["kind"] == kind
    assert allocation["step"] == (1 if kind == "sequential" else None)
    assert lowest <= allocation["range"][0] <= allocation["range"][1] <= highest


@pytest.mark.parametrize("name", [name for name in V4_PLACES if truth(name)[0]])
def test_a_check_finds_whether_packets_are_turned_around(name, everywhere):
    # What keeps its inside source arrives at its own host from one of that host's addresses: systems drop it.
    turned_around = PLACES[name].kinds[0].hairpin is Hairpin.OUTSIDE_SOURCE
    assert everywhere.checks[name].record["hairpin"] is turned_around


@pytest.mark.parametrize("name", [name for name in ALONE if PLACES[name].kinds[-1].carrier])
def test_a_host_with_a_carriers_address_knows_whose_nat_it_is(name, everywhere):
    assert everywhere.checks[name].record["cgnat"] is True


@pytest.mark.parametrize("name", V4_PLACES)
def test_a_check_finds_who_opens_ports(name, everywhere):
    found = everywhere.checks[name].record
    spoken = [what for gateway in found["portmap"] or () for what, yes in gateway["protocols"].items() if yes]
    if PLACES[name].maps_ports:
        assert set(spoken) == {"PCP", "NAT-PMP", "UPnP IGD"}
        assert (found["portmap"][0]["external"], found["double_nat"]) == (everywhere.public[name, 4], False)
        assert found["gateway"] == everywhere.gateway(name)
    else:
        assert spoken == []


@pytest.mark.parametrize("name", V4_PLACES)
def test_the_verdict_names_the_peers_that_are_met_directly(name, everywhere):
    found = everywhere.checks[name].record
    assert found["perhaps"] == []
    assert {peer: peer in found["direct"] for peer in PEERS} == {
        peer: expected(name, theirs).outcome == "direct" for peer, theirs in PEERS.items()
    }


@pytest.mark.parametrize("name", V4_PLACES)
def test_coturns_client_finds_the_same_with_our_server(name, everywhere):
    told = everywhere.discoveries[name]
    real, filtering = truth(name)
    found = re.findall(r"NAT with (.*)!", told)
    # Its third test goes where the *second* answer points. That is the first address again: the other
    # one of where the second question went (RFC 5780 7.4; coturn's own server differs). So it does not
    # see that two ports of one address are treated alike.
    seen = Mapping.ADDRESS_AND_PORT_DEPENDENT if real is Mapping.ADDRESS_DEPENDENT else real
    # To coturn a public address is a NAT that maps endpoint-independently to itself.
    assert found == [WORDS[seen or Mapping.ENDPOINT_INDEPENDENT], WORDS[filtering]]
    # It sends from the socket to that socket's own mapping: a flow that is its own answer, which Linux drops.
    assert ("successful hairpinning" in told) is (real is None)


def test_a_slow_check_finds_how_long_the_kernel_remembers(everywhere):
    lifetime = everywhere.slow.record["lifetime"]
    assert lifetime["at_least_s"] <= FORGETFUL_S + 1  # the kernel looks once a second, or so
    assert lifetime["less_than_s"] >= FORGETFUL_S
    assert lifetime["less_than_s"] - lifetime["at_least_s"] <= 2


def test_nmap_takes_our_server_for_a_stun_server(everywhere):
    assert f"External IP: {everywhere.public['open', 4]}" in everywhere.scanned


def test_of_two_relays_the_nearer_is_home_for_checks_and_for_nodes(everywhere):
    near, far, found, told = everywhere.relays
    assert (found["home_relay"], told) == (near, (near, far))
    by_url = {relay["url"]: relay["latency_ms"] for relay in found["relays"]}
    assert by_url[far] >= by_url[near] + 60  # the line takes 40 ms each way


def test_a_router_that_opens_ports_behind_another_nat_is_no_way_in(everywhere):
    """What it calls its outside address is a private one, so a port there leads nobody further."""
    found = everywhere.double
    assert found["double_nat"] is True
    assert found["relayed"] == [peer for peer in PEERS if PEERS[peer] in ("firewall", "eim-apdf", "edm")]
    assert any("There is a second NAT" in advice for advice in found["advice"])
