"""Every kind of router does what it declares, as a third party and plain sockets see it."""

import asyncio
import re

import pytest

from peerway.core.nat import Filtering, Mapping
from peerway.lab.bench import Endpoint
from peerway.lab.building import build
from peerway.lab.kinds import KINDS, Kind
from peerway.lab.laboratory import Laboratory
from peerway.lab.layouts import gallery, pair
from peerway.lab.messages import Done
from peerway.lab.places import SAME_LAN, Outlook, expected
from peerway.lab.plan import Plan, home
from peerway.lab.sockets import (
    REFLECTOR_PORT,
    AskReflectors,
    Count,
    Counted,
    Echoed,
    OpenSocket,
    Punch,
    Punched,
    Reflect,
    Reflected,
    ServeEcho,
    Shoot,
    TryEcho,
)
from peerway.lab.topology import SERVER, SERVER_IPS

pytestmark = pytest.mark.lab

REFLECTORS = tuple((ip, REFLECTOR_PORT) for ip in SERVER_IPS)
UDP_KINDS = [name for name in KINDS if KINDS[name].passes_udp]
PUNCHED_KINDS = [name for name in UDP_KINDS if not KINDS[name].carrier]  # carriers differ only inwards
WORDS = {
    Mapping.ENDPOINT_INDEPENDENT: "Endpoint Independent Mapping",
    Mapping.ADDRESS_DEPENDENT: "Address Dependent Mapping",
    Mapping.ADDRESS_AND_PORT_DEPENDENT: "Address and Port Dependent Mapping",
    Filtering.ENDPOINT_INDEPENDENT: "Endpoint Independent Filtering",
    Filtering.ADDRESS_DEPENDENT: "Address Dependent Filtering",
    Filtering.ADDRESS_AND_PORT_DEPENDENT: "Address and Port Dependent Filtering",
}


async def start_coturn(lab: Laboratory) -> None:
    await lab.start(
        "coturn",
        SERVER,
        *("turnserver", "-n", "--stun-only", "-L", SERVER_IPS[0], "-L", SERVER_IPS[1], "--no-cli"),
        *("--no-tls", "--no-dtls", "--no-tcp", "--pidfile", "/run/turn.pid", "--userdb", "/run/turndb"),
        *("--log-file", "stdout"),
    )
    for _ in range(100):
        if (await lab.run(SERVER, "ss", "-Hlun", f"src {SERVER_IPS[1]}:3479")).strip():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(await lab.log("coturn"))


async def grade_kinds() -> dict[str, str]:
    async with Laboratory(gallery(UDP_KINDS)) as lab:
        await start_coturn(lab)
        discoveries = [
            lab.run(f"{kind}-1", "turnutils_natdiscovery", "-m", "-f", SERVER_IPS[0]) for kind in UDP_KINDS
        ]
        return dict(zip(UDP_KINDS, await asyncio.gather(*discoveries), strict=True))


@pytest.fixture(scope="module")
def grades():
    return asyncio.run(grade_kinds())


@pytest.mark.parametrize("name", UDP_KINDS)
def test_coturn_finds_the_declared_mapping_and_filtering(name, grades):
    kind: Kind = KINDS[name]
    verdicts = re.findall(r"NAT with (.*)!", grades[name])
    # To coturn a public address is a NAT that maps endpoint-independently to itself.
    mapping = kind.mapping or Mapping.ENDPOINT_INDEPENDENT
    assert verdicts == [WORDS[mapping], WORDS[kind.filtering]]


async def punch_everything() -> dict[tuple[str, str], bool]:
    async with Laboratory(gallery(PUNCHED_KINDS, copies=2)) as lab:
        hosts = lab.topology.hosts
        await lab.start_workers(SERVER, *hosts)
        await lab.order(SERVER, Reflect(SERVER_IPS), Done)
        cells = [(left, right) for left in PUNCHED_KINDS for right in PUNCHED_KINDS]
        punches = [
            punch(lab, f"{left}-1", f"{right}-2", port=41000 + index)
            for index, (left, right) in enumerate(cells)
        ]
        return dict(zip(cells, await asyncio.gather(*punches), strict=True))


async def punch(lab: Laboratory, left: str, right: str, port: int, first_ttl: int = 2) -> bool:
    """Both hosts learn their public endpoints, exchange them and send to each other at once."""
    name = f"to-{right}-from-{left}"
    sides = (left, right)
    await asyncio.gather(*(lab.order(side, OpenSocket(name, port), Done) for side in sides))
    learned = await asyncio.gather(
        *(lab.order(side, AskReflectors(name, REFLECTORS), Reflected) for side in sides)
    )
    peers = [answer.endpoint for answer in reversed(learned)]
    results = await asyncio.gather(
        *(
            lab.order(side, Punch(name, peer, first_ttl, duration_s=2.0), Punched)
            for side, peer in zip(sides, peers, strict=True)
        )
    )
    assert results[0].through == results[1].through
    return results[0].through


@pytest.fixture(scope="module")
def punched():
    return asyncio.run(punch_everything())


@pytest.mark.parametrize("right", PUNCHED_KINDS)
@pytest.mark.parametrize("left", PUNCHED_KINDS)
def test_simultaneous_sending_gets_through_where_expected(left, right, punched):
    assert punched[left, right] == (expected(left, right).outcome == "direct")


def test_two_port_restricted_nats_open_by_simultaneous_sending(punched):
    assert punched["eim-apdf", "eim-apdf"]


def test_two_symmetric_nats_stay_closed(punched):
    assert not punched["edm", "edm"]


@pytest.mark.parametrize("name", ["udp-blocked", "udp-rejected"])
def test_blocked_udp_stops_every_datagram_and_passes_tcp(name):
    async def scenario():
        async with Laboratory(pair(name, "open")) as lab:
            await lab.order(SERVER, Reflect(SERVER_IPS), Done)
            await lab.order(SERVER, ServeEcho(8080), Done)
            await lab.order("left", OpenSocket("s"), Done)
            reflected = await lab.order("left", AskReflectors("s", REFLECTORS), Reflected)
            echoed = await lab.order("left", TryEcho((SERVER_IPS[0], 8080)), Echoed)
            return reflected.seen, echoed.equal

    assert asyncio.run(scenario()) == ((None, None), True)


async def poison(first_ttl: int) -> bool:
    """The left host's first probe arrives before the right host has sent anything."""
    async with Laboratory(pair("poisoned", "poisoned")) as lab:
        await lab.order(SERVER, Reflect(SERVER_IPS), Done)
        for side in ("left", "right"):
            await lab.order(side, OpenSocket("s"), Done)
        left, right = [
            (await lab.order(side, AskReflectors("s", REFLECTORS), Reflected)).endpoint
            for side in ("left", "right")
        ]
        await lab.order("left", Shoot("s", right, ttl=first_ttl), Done)
        results = await asyncio.gather(
            lab.order("left", Punch("s", right, first_ttl), Punched),
            lab.order("right", Punch("s", left, first_ttl), Punched),
        )
        return all(result.through for result in results)


def test_an_early_probe_poisons_a_router_with_an_open_input_chain():
    assert not asyncio.run(poison(first_ttl=0))


@pytest.mark.parametrize("first_ttl", [2, 3, 4])
def test_a_first_packet_that_dies_on_the_way_poisons_nothing(first_ttl):
    assert asyncio.run(poison(first_ttl))


async def turn_around(carrier: str) -> tuple[Endpoint, tuple[Endpoint, ...]]:
    """Where the world sees the left host, and where from what it sends to its neighbour's mapping arrives."""
    plan = Plan("street", "Two hosts behind a carrier.", (home("street", [carrier], "left", "right"),))
    async with Laboratory(build(plan)) as lab:
        await lab.order(SERVER, Reflect(SERVER_IPS), Done)
        for side in ("left", "right"):
            await lab.order(side, OpenSocket("s", 4000), Done)
        seen = [
            (await lab.order(side, AskReflectors("s", REFLECTORS[:1]), Reflected)).endpoint
            for side in ("left", "right")
        ]
        await lab.order("right", Count("s"), Counted)
        await lab.order("left", Shoot("s", seen[1], count=3), Done)
        await asyncio.sleep(0.2)
        return seen[0], (await lab.order("right", Count("s"), Counted)).sources


def test_a_good_carrier_turns_around_with_the_public_source():
    seen, sources = asyncio.run(turn_around("cgn"))
    assert seen[0] == "11.1.0.2"
    assert 20000 <= seen[1] <= 20511
    assert sources == (seen,)


def test_a_worse_one_keeps_the_inside_source_and_a_bad_one_loses_it():
    assert asyncio.run(turn_around("cgn-inside"))[1] == (("100.65.1.100", 4000),)
    assert asyncio.run(turn_around("cgn-no-hairpin"))[1] == ()


def test_an_ipv6_firewall_lets_in_only_whom_it_has_seen_sent_to():
    async def scenario():
        async with Laboratory(pair("v6-firewall", "dual-stack")) as lab:
            ends = {side: (lab.topology.public_ip(side, 6), 4000) for side in ("left", "right")}
            for side in ends:
                await lab.order(side, OpenSocket("s", 4000, "::"), Done)
            arrived = []
            for sender, receiver, ttl in (
                ("left", "right", 64),  # never sent anything: shut
                ("right", "left", 4),  # dies in the core, but opens its own firewall
                ("left", "right", 64),
            ):
                await lab.order(sender, Shoot("s", ends[receiver], ttl=ttl), Done)
                await asyncio.sleep(0.2)
                arrived.append((await lab.order(receiver, Count("s"), Counted)).datagrams)
            return arrived

    assert asyncio.run(scenario()) == [0, 0, 1]


def test_hosts_of_one_lan_reach_each_other_by_their_inside_addresses():
    async def scenario():
        async with Laboratory(pair(SAME_LAN, SAME_LAN)) as lab:
            for side in ("left", "right"):
                await lab.order(side, OpenSocket("s", 4000), Done)
            there = lab.topology.machines["right"].devices[0].ips[0]
            await lab.order("left", Shoot("s", (there, 4000), count=3), Done)
            await asyncio.sleep(0.1)
            return (await lab.order("right", Count("s"), Counted)).datagrams

    assert asyncio.run(scenario()) == 3


def outcomes(left, *rights):
    return [expected(left, right).outcome for right in rights]


def test_symmetric_pairs_are_expected_to_need_the_relay():
    assert outcomes("edm", "edm", "eim-apdf", "firewall", "cgn-home") == ["relay"] * 4
    assert outcomes("udp-blocked", "open") == ["relay"]


def test_a_symmetric_nat_is_expected_to_meet_whoever_admits_unknown_ports():
    assert outcomes("edm", "open", "eim-eif", "eim-adf", "cgn") == ["direct"] * 4


def test_predictable_mappings_are_expected_to_meet():
    places = ("open", "firewall", "eim-eif", "eim-adf", "eim-apdf", "port-block", "double-nat", "cgn-home")
    for left in places:
        assert set(outcomes(left, *places)) == {"direct"}


def test_a_common_protocol_is_needed_and_ipv6_goes_first():
    assert expected("dual-stack", "dual-stack") == Outlook("direct", 6)
    assert expected("dual-cgn", "dual-cgn") == Outlook("direct", 6)
    assert expected("dual-stack", "v6-firewall") == Outlook("direct", 6)
    assert expected("dual-stack", "eim-apdf") == Outlook("direct", 4)
    assert expected("dual-cgn", "edm") == Outlook("relay")
    assert expected("v6-firewall", "eim-apdf") == Outlook("relay")


@pytest.mark.parametrize(
    ("place", "outlook"),
    [
        ("same-lan", Outlook("direct", 4)),
        ("v6-same-lan", Outlook("direct", 6)),
        ("same-cgn", Outlook("direct", 4)),
        ("same-cgn-inside", Outlook("relay")),
        ("same-cgn-inside-eif", Outlook("direct", 4)),
        ("same-cgn-no-hairpin", Outlook("relay")),
    ],
)
def test_a_shared_place_is_a_cell_of_its_own(place, outlook):
    assert expected(place, place) == outlook
    with pytest.raises(ValueError, match=f"{place} is a cell of its own"):
        expected("edm", place)
