"""Routers of the simulator that give ports on request, and nodes that ask them."""

from dataclasses import replace

import pytest

from peerway.core.machine import Datagram, UdpAddress
from peerway.core.nat import Filtering, Mapping, PortAllocation
from peerway.core.portmap import natpmp, pcp
from peerway.core.portmap.report import Protocol
from peerway.sim.network.behaviour import NatBehaviour, Pooling
from peerway.sim.network.gateway import PORT, PortServer, offer_ports
from peerway.sim.network.host import Host
from peerway.sim.network.nat import Nat
from peerway.sim.network.tree import Router
from peerway.sim.network.world import World
from peerway.sim.nodes import SimNode, run_server
from peerway.sim.outlook import outlook
from peerway.sim.plan import HostPlan, InterfacePlan, InternetPlan, RouterPlan
from peerway.sim.run import run
from peerway.sim.scenario import Dial, Scenario

EDM = NatBehaviour(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, ports=PortAllocation.RANDOM)
CONE = NatBehaviour()
CARRIER = NatBehaviour(filtering=Filtering.ENDPOINT_INDEPENDENT)
INSIDE = UdpAddress("192.168.1.2", 41641)
STRANGER, OTHER = UdpAddress("5.5.5.5", 1000), UdpAddress("5.5.5.6", 2000)


# --- the NAT ------------------------------------------------------------------------------


@pytest.fixture(params=[EDM, CONE, NatBehaviour(filtering=Filtering.ENDPOINT_INDEPENDENT)])
def nat(request):
    return Nat(request.param, "5.1.0.2", World(1).rng("nat"))


def test_a_forwarded_port_lets_everybody_in_and_shows_the_same_to_all(nat):
    assert nat.forward(INSIDE, 41641, until=100.0, now=0.0) == 41641
    outside = UdpAddress("5.1.0.2", 41641)
    assert nat.inbound(STRANGER, outside, 1.0) == INSIDE
    assert nat.outbound(INSIDE, STRANGER, 1.0) == outside
    assert nat.outbound(INSIDE, OTHER, 1.0) == outside


def test_a_forwarded_port_that_is_taken_is_another(nat):
    neighbour = UdpAddress("192.168.1.3", 41641)
    assert nat.forward(neighbour, 41641, until=100.0, now=0.0) == 41641
    assert nat.forward(INSIDE, 41641, until=100.0, now=0.0) == 41642
    assert nat.forward(INSIDE, 50000, until=100.0, now=0.0) == 41642
    nat.unforward(neighbour)
    assert nat.forward(UdpAddress("192.168.1.4", 1), 41641, until=100.0, now=0.0) == 41641


def test_nobody_else_gets_a_forwarded_port():
    nat = Nat(CONE, "5.1.0.2", World(1).rng("nat"))
    nat.forward(INSIDE, 41641, until=100.0, now=0.0)
    neighbour = UdpAddress("192.168.1.3", 41641)
    assert nat.outbound(neighbour, STRANGER, 1.0).port != 41641


@pytest.mark.parametrize("end", ["expiry", "unforward", "reboot"])
def test_a_forward_ends(nat, end):
    nat.forward(INSIDE, 41641, until=100.0, now=0.0)
    now = 1.0
    if end == "expiry":
        now = 100.0
    elif end == "unforward":
        nat.unforward(INSIDE)
    else:
        nat.reboot()
    assert not isinstance(nat.inbound(STRANGER, UdpAddress("5.1.0.2", 41641), now), UdpAddress)


def test_what_a_host_had_begun_with_a_remote_goes_on_at_the_forwarded_port():
    nat = Nat(EDM, "5.1.0.2", World(1).rng("nat"))
    before = nat.outbound(INSIDE, STRANGER, 0.0)
    nat.forward(INSIDE, 41641, until=100.0, now=0.0)
    assert nat.outbound(INSIDE, STRANGER, 1.0) == before
    outside = UdpAddress("5.1.0.2", 41641)
    assert nat.inbound(STRANGER, outside, 2.0) == INSIDE
    assert nat.outbound(INSIDE, STRANGER, 3.0) == outside


# --- its server ---------------------------------------------------------------------------


class Client:
    def __init__(self, nat=None):
        self.nat = nat or Nat(EDM, "5.1.0.2", World(1).rng("nat"))
        self.server = PortServer(self.nat)

    def ask(self, request, now=0.0):
        at = UdpAddress("192.168.1.1", PORT)
        self.server.receive(Datagram(request, UdpAddress(INSIDE.ip, 5000), at), now)
        answer = self.server.poll_transmit()
        return None if answer is None else answer.segments[0]


def test_nat_pmp_is_spoken():
    client = Client()
    assert natpmp.parse(client.ask(natpmp.build_address_request(), 7.0)) == natpmp.ExternalAddress(
        7, "5.1.0.2"
    )
    mapped = natpmp.parse(client.ask(natpmp.build_map_request(41641, 41641, 7200)))
    assert mapped == natpmp.Mapped(0, 41641, 41641, 3600)
    gone = natpmp.parse(client.ask(natpmp.build_map_request(41641, 41641, 0)))
    assert gone == natpmp.Mapped(0, 41641, 0, 0)
    assert not isinstance(client.nat.inbound(STRANGER, UdpAddress("5.1.0.2", 41641), 1.0), UdpAddress)


def test_pcp_is_spoken():
    client, nonce = Client(), bytes(range(12))
    assert pcp.parse(client.ask(pcp.build_announce(INSIDE.ip), 9.0)) == pcp.Announced(9)
    mapped = pcp.parse(client.ask(pcp.build_map(INSIDE.ip, nonce, 41641, 5, "", 60)))
    assert mapped == pcp.Mapped(0, nonce, 41641, "5.1.0.2", 1024, 60)
    gone = pcp.parse(client.ask(pcp.build_map(INSIDE.ip, nonce, 41641, 0, "", 0)))
    assert gone == pcp.Mapped(0, nonce, 41641, "5.1.0.2", 0, 0)


@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize("seed", range(8))
def test_of_several_outside_addresses_it_tells_the_one_that_leads_to_the_port(pooling, seed):
    nat = Nat(replace(EDM, pooling=pooling), ("5.1.0.2", "5.1.0.3"), World(seed).rng("nat"))
    client, nonce = Client(nat), bytes(12)
    told = natpmp.parse(client.ask(natpmp.build_address_request()))
    mapped = pcp.parse(client.ask(pcp.build_map(INSIDE.ip, nonce, INSIDE.port, INSIDE.port, "", 60)))
    assert told.ip == mapped.external_ip
    outside = UdpAddress(mapped.external_ip, mapped.external_port)
    assert client.nat.outbound(INSIDE, STRANGER, 1.0) == outside
    assert client.nat.inbound(OTHER, outside, 1.0) == INSIDE


def test_what_it_cannot_do_it_says():
    client, nonce = Client(), bytes(12)
    elsewhere = pcp.parse(client.ask(pcp.build_map("10.0.0.9", nonce, 1, 1, "", 60)))
    assert elsewhere == pcp.Failure(0, nonce, pcp.Result.ADDRESS_MISMATCH, 0)
    assert pcp.parse(client.ask(b"\3" + bytes(23))) == pcp.Failure(0, b"", pcp.Result.UNSUPP_VERSION, 0)
    assert client.ask(b"\0\2" + bytes(10))[:4] == b"\0\x82\0\5"
    assert client.ask(b"\2\x81" + bytes(58)) is None
    assert client.ask(b"\2") is None


def test_a_reboot_shows_in_its_clock():
    client = Client()
    client.ask(natpmp.build_address_request(), 100.0)
    client.nat.reboot()
    assert natpmp.parse(client.ask(natpmp.build_address_request(), 200.0)).epoch == 0
    assert natpmp.parse(client.ask(natpmp.build_address_request(), 230.0)).epoch == 30


# --- nodes behind it ----------------------------------------------------------------------


def test_a_node_has_a_port_renews_it_and_gets_it_again_after_a_reboot():
    world = World(1)
    world.names["server.test"] = ("203.0.113.10",)
    core = Router(world, "core")
    server = Host(world, "server")
    server.attach(core, "203.0.113.10/24", "203.0.113.11/24")
    run_server(world, server)
    router = Router(world, "home", core, EDM, "5.1.0.2")
    offer_ports(world, router, "192.168.1.1")
    host = Host(world, "left")
    host.attach(router, "192.168.1.2/24", gateway="192.168.1.1")
    node = SimNode(world, host, ("http://server.test:3340",))
    world.run_for(2.0)
    (mapping,) = node.machine.port_mappings
    assert (mapping.protocol, mapping.external.ip, mapping.lifetime_s) == (Protocol.PCP, "5.1.0.2", 3600)
    assert mapping.verified is True
    world.run_for(3 * 3600.0)
    assert node.machine.port_mappings == (mapping,)
    router.reboot()
    world.run_for(130.0)
    (again,) = node.machine.port_mappings
    assert again.external == mapping.external
    assert isinstance(router.nat4.inbound(STRANGER, mapping.external, world.now), UdpAddress)


def plan(left, right, *, carrier=None):
    """Two homes; behind one carrier's NAT where there is one."""
    above = (RouterPlan("carrier", nat4=carrier, inside="100.64.0"),) if carrier else ()
    uplink = "carrier" if carrier else "core"
    homes = (replace(left, name="left-home", uplink=uplink), replace(right, name="right-home", uplink=uplink))
    hosts = tuple(HostPlan(side, (InterfacePlan(f"{side}-home"),)) for side in ("left", "right"))
    return InternetPlan((*above, *homes), hosts)


MAPPED_EDM = RouterPlan("", nat4=EDM, maps_ports=True)
PLAIN_EDM = RouterPlan("", nat4=EDM)
PLAIN_CONE = RouterPlan("", nat4=CONE)
MAPPED_CONE = RouterPlan("", nat4=CONE, maps_ports=True)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("internet", "expected"),
    [
        (plan(MAPPED_EDM, PLAIN_EDM), "direct"),
        (plan(PLAIN_EDM, MAPPED_EDM), "direct"),
        (plan(MAPPED_EDM, PLAIN_CONE), "direct"),
        (plan(replace(MAPPED_EDM, outside_addresses=3), PLAIN_EDM), "direct"),
        (plan(MAPPED_CONE, PLAIN_CONE, carrier=CARRIER), "direct"),
        (plan(PLAIN_CONE, PLAIN_CONE, carrier=CARRIER), "relay"),
        (plan(PLAIN_EDM, PLAIN_EDM), "guessing"),
    ],
)
def test_nodes_meet_as_the_oracle_says(internet, expected, seed):
    assert outlook(internet, "left", "right") == expected
    verdict = run(Scenario(seed, internet, (Dial("left"),)))
    assert verdict.violations == ()
    assert verdict.outcome == ("direct" if expected == "direct" else "relay")
