"""What nodes find out behind real routers is what these routers do, in every kind; third parties agree."""

import asyncio
import re

import pytest

from peerway.core.nat import Filtering, Mapping
from peerway.lab.faults import Faults
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
from peerway.lab.places import expected
from peerway.lab.topology import SERVER, SERVER_IPS

pytestmark = pytest.mark.lab

UDP_KINDS = [name for name in KINDS if KINDS[name].passes_udp]
WORDS = {
    Mapping.ENDPOINT_INDEPENDENT: "Endpoint Independent Mapping",
    Mapping.ADDRESS_DEPENDENT: "Address Dependent Mapping",
    Mapping.ADDRESS_AND_PORT_DEPENDENT: "Address and Port Dependent Mapping",
    Filtering.ENDPOINT_INDEPENDENT: "Endpoint Independent Filtering",
    Filtering.ADDRESS_DEPENDENT: "Address Dependent Filtering",
    Filtering.ADDRESS_AND_PORT_DEPENDENT: "Address and Port Dependent Filtering",
}
FORGETFUL_S = 6
CHOOSING = {  # the kinds that do not keep the inside port, and from where they choose
    "edm": ("random", 1024, 65535),
    "edm-seq": ("sequential", 30000, 31023),
    "adm": ("random", 30000, 62767),
    **dict.fromkeys(("port-block", "cgn", "cgn-inside", "cgn-no-hairpin"), ("random", *PORT_BLOCK)),
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


class Everywhere:
    """A host of every kind checks, coturn's client asks our server beside it, nmap scans that."""

    async def run(self, discover, scan):
        await asyncio.gather(self.measure_a_lifetime(), self.check_all(discover, scan))

    async def measure_a_lifetime(self):
        """Behind a router that forgets soon; it takes long, so it goes on beside everything else."""
        async with Laboratory(pair("eim-apdf", "open")) as lab:
            await Faults(lab).set_udp_timeout("left-router", FORGETFUL_S, FORGETFUL_S)
            relay = (await lab.order(SERVER, Serve(SERVER_IPS), Served)).url
            self.slow = await lab.order("left", Check((relay,), slow=True), Checked)

    async def check_all(self, discover, scan):
        async with Laboratory(gallery(list(KINDS))) as lab:
            self.lab, self.discover = lab, discover
            # Once every interpreter has started, none takes the time of those that check.
            await asyncio.gather(*(lab.order(host, CloseNode(), Closed) for host in lab.topology.hosts))
            self.relay = (await lab.order(SERVER, Serve(SERVER_IPS), Served)).url
            self.public = {kind: lab.topology.public_ip(f"{kind}-1") for kind in KINDS}
            scanning = (scan, "-sU", "-Pn", "-n", "-p", "3478", "--script", "stun-info", SERVER_IPS[0])
            self.checks, self.discoveries, self.scanned = await asyncio.gather(
                gathered({kind: self.check(kind) for kind in KINDS}),
                gathered({kind: self.ask_coturn(kind) for kind in UDP_KINDS}),
                lab.run("open-1", *scanning),
            )

    async def check(self, kind):
        return await self.lab.order(f"{kind}-1", Check((self.relay,), hairpin=True), Checked)

    async def ask_coturn(self, kind):
        return await self.lab.run(f"{kind}-1", self.discover, "-m", "-f", "-H", SERVER_IPS[0])


async def gathered(awaitables):
    return dict(zip(awaitables, await asyncio.gather(*awaitables.values()), strict=True))


@pytest.fixture(scope="module")
def everywhere(tool):
    ran = Everywhere()
    asyncio.run(ran.run(tool("turnutils_natdiscovery", "coturn"), tool("nmap", "nmap")))
    return ran


@pytest.mark.parametrize("name", KINDS)
def test_a_check_finds_what_the_router_does(name, everywhere):
    kind, found = KINDS[name], everywhere.checks[name].record
    if not kind.passes_udp:
        assert (found["udp_v4"], found["mapping_v4"], found["filtering_v4"]) == (False, "unknown", "unknown")
        assert (found["difficulty"], found["name"]) == ("blocked", "UDP blocked")
    else:
        assert found["mapping_v4"] == (kind.mapping.value if kind.mapping else "none")
        assert found["filtering_v4"] == kind.filtering.value
        assert found["public_v4"] == everywhere.public[name]
        assert found["name"].removesuffix(" NAT") in kind.old_name
    assert found["home_relay"] == found["relays"][0]["url"]
    assert found["relays"][0]["via"] in ("udp", "tcp") if kind.passes_udp else ("tcp",)
    assert found["captive_portal"] is False


@pytest.mark.parametrize("name", [name for name in UDP_KINDS if KINDS[name].translates])
def test_a_check_finds_which_ports_the_router_gives(name, everywhere):
    allocation = everywhere.checks[name].record["allocation"]
    kind, lowest, highest = CHOOSING.get(name, ("preserving", 1024, 65535))
    assert allocation["kind"] == kind
    assert allocation["step"] == (1 if kind == "sequential" else None)
    assert lowest <= allocation["range"][0] <= allocation["range"][1] <= highest
    # What keeps its inside source arrives at its own host from one of that host's addresses: systems drop it.
    turned_around = KINDS[name].hairpin is Hairpin.OUTSIDE_SOURCE
    assert everywhere.checks[name].record["hairpin"] is turned_around


@pytest.mark.parametrize("name", UDP_KINDS)
def test_the_verdict_names_the_peers_that_are_met_directly(name, everywhere):
    found = everywhere.checks[name].record
    assert found["perhaps"] == []
    assert {peer: peer in found["direct"] for peer in PEERS} == {
        peer: expected(name, theirs).outcome == "direct" for peer, theirs in PEERS.items()
    }


@pytest.mark.parametrize("name", UDP_KINDS)
def test_coturns_client_finds_the_same_with_our_server(name, everywhere):
    kind, told = KINDS[name], everywhere.discoveries[name]
    mapping, filtering = re.findall(r"NAT with (.*)!", told)
    assert filtering == WORDS[kind.filtering]
    # Its third test goes where the *second* answer points. That is the first address again: the other
    # one of where the second question went (RFC 5780 7.4; coturn's own server differs). So it does not
    # see that two ports of one address are treated alike.
    seen = Mapping.ADDRESS_AND_PORT_DEPENDENT if kind.mapping is Mapping.ADDRESS_DEPENDENT else kind.mapping
    # To coturn a public address is a NAT that maps endpoint-independently to itself.
    assert mapping == WORDS[seen or Mapping.ENDPOINT_INDEPENDENT]
    # It sends from the socket to that socket's own mapping: a flow that is its own answer, which Linux drops.
    assert ("successful hairpinning" in told) is (not kind.translates)


def test_a_slow_check_finds_how_long_the_kernel_remembers(everywhere):
    lifetime = everywhere.slow.record["lifetime"]
    assert lifetime["at_least_s"] <= FORGETFUL_S + 1  # the kernel looks once a second, or so
    assert lifetime["less_than_s"] >= FORGETFUL_S
    assert lifetime["less_than_s"] - lifetime["at_least_s"] <= 2


def test_nmap_takes_our_server_for_a_stun_server(everywhere):
    assert f"External IP: {everywhere.public['open']}" in everywhere.scanned


def test_of_two_relays_the_nearer_is_home_for_checks_and_for_nodes():
    async def scenario():
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
            return near.url, far.url, checked.record, told.urls

    near, far, found, told = asyncio.run(scenario())
    assert (found["home_relay"], told) == (near, (near, far))
    by_url = {relay["url"]: relay["latency_ms"] for relay in found["relays"]}
    assert by_url[far] >= by_url[near] + 60  # the line takes 40 ms each way
