"""Every fault does what it says to real packets, and can be undone."""

import asyncio
import os

import pytest

from peerway.lab.building import build
from peerway.lab.delay import TUN
from peerway.lab.faults import Faults
from peerway.lab.laboratory import Laboratory
from peerway.lab.layouts import hub_and_spoke, pair, two_interfaces
from peerway.lab.messages import Done
from peerway.lab.plan import DUAL_STACK, Plan, home
from peerway.lab.sockets import (
    REFLECTOR_PORT,
    AskReflectors,
    Count,
    Counted,
    Echoed,
    OpenSocket,
    Reflect,
    Reflected,
    ServeEcho,
    Shoot,
    TryEcho,
)
from peerway.lab.topology import SERVER, SERVER_IPS, SERVER_IPS_V6, Topology

pytestmark = pytest.mark.lab

needs_tun = pytest.mark.skipif(not os.access(TUN, os.R_OK | os.W_OK), reason=f"cannot open {TUN}")

REFLECTORS = tuple((ip, REFLECTOR_PORT) for ip in SERVER_IPS)
ECHO = (SERVER_IPS[0], 8080)


def in_lab(topology: Topology, scenario):
    async def run():
        async with Laboratory(topology) as lab:
            await lab.order(SERVER, Reflect(SERVER_IPS), Done)
            await lab.order(SERVER, ServeEcho(ECHO[1]), Done)
            await lab.order(SERVER, OpenSocket("sink", 9), Done)
            await lab.order("left", OpenSocket("s", 4000), Done)
            await lab.order("right", OpenSocket("s", 4000), Done)
            return await scenario(lab, Faults(lab))

    return asyncio.run(run())


async def seen(lab: Laboratory, host: str = "left"):
    return (await lab.order(host, AskReflectors("s", REFLECTORS[:1]), Reflected)).seen[0]


async def echoes(lab: Laboratory, host: str = "left", patience_s: float = 2.0) -> bool:
    return (await lab.order(host, TryEcho(ECHO, patience_s=patience_s), Echoed)).equal


async def arriving(lab: Laboratory, count: int, size: int = 100) -> int:
    await lab.order(SERVER, Count("sink"), Counted)
    await lab.order("left", Shoot("s", (SERVER_IPS[0], 9), count, size), Done)
    await asyncio.sleep(0.3)
    return (await lab.order(SERVER, Count("sink"), Counted)).datagrams


async def pings(lab: Laboratory, host: str, ip: str) -> bool:
    return (await lab.attempt(host, "ping", "-c1", "-W1", ip)).status == 0


def test_loss_drops_that_share_of_udp_until_it_is_set_to_nothing():
    async def scenario(lab, faults):
        await faults.set_loss(30)
        lossy = await arriving(lab, 2000)
        await faults.set_loss(0)
        return lossy, await arriving(lab, 500)

    lossy, mended = in_lab(pair("eim-apdf", "open"), scenario)
    assert 1400 - 120 < lossy < 1400 + 120  # six standard deviations
    assert mended == 500


def test_inward_loss_leaves_outward_packets_alone():
    async def scenario(lab, faults):
        await faults.set_loss(100, "left-router", outward=False)
        return await arriving(lab, 100), await seen(lab)

    assert in_lab(pair("open", "open"), scenario) == (100, None)


def test_cut_udp_stops_udp_and_not_tcp():
    async def scenario(lab, faults):
        await faults.cut_udp("left-router")
        cut = await seen(lab), await echoes(lab)
        await faults.restore_udp("left-router")
        return cut, await seen(lab)

    assert in_lab(pair("eim-apdf", "open"), scenario) == ((None, True), ("11.1.0.2", 4000))


@pytest.mark.parametrize("topology", [pair("open", "open"), hub_and_spoke(("open", "open"))])
def test_a_cut_between_two_hosts_leaves_the_server_to_both(topology):
    async def scenario():
        async with Laboratory(topology) as lab:
            one, other = lab.topology.hosts[0], lab.topology.hosts[-1]
            there = lab.topology.public_ip(other)
            faults = Faults(lab)
            await faults.cut_between(one, other)
            cut = [
                await pings(lab, one, there),
                await pings(lab, one, SERVER_IPS[0]),
                await pings(lab, other, SERVER_IPS[0]),
            ]
            await faults.restore_between(one, other)
            return cut, await pings(lab, one, there)

    assert asyncio.run(scenario()) == ([False, True, True], True)


def both_protocols() -> Topology:
    lines = tuple(home(side, ["open"], side, families=DUAL_STACK) for side in ("left", "right"))
    return build(Plan("both", "Two open homes with IPv4 and IPv6.", lines))


def test_a_cut_between_two_hosts_holds_for_both_protocols():
    async def scenario(lab, faults):
        there = [lab.topology.public_ip("right", family) for family in (4, 6)]
        before = [await pings(lab, "left", ip) for ip in there]
        await faults.cut_between("left", "right")
        return before, [await pings(lab, "left", ip) for ip in there]

    assert in_lab(both_protocols(), scenario) == ([True, True], [False, False])


def test_one_protocol_may_be_cut_alone():
    async def scenario(lab, faults):
        await lab.order(SERVER, Reflect(SERVER_IPS_V6), Done)
        await lab.order("left", OpenSocket("six", 4000, "::"), Done)
        reflectors = ((SERVER_IPS_V6[0], REFLECTOR_PORT),)

        async def seen_by_ipv6():
            return (await lab.order("left", AskReflectors("six", reflectors), Reflected)).seen[0]

        await faults.cut_family(6, "left-router")
        cut = await seen(lab) is not None, await seen_by_ipv6() is not None
        await faults.restore_udp("left-router")
        return cut, await seen_by_ipv6()

    assert in_lab(both_protocols(), scenario) == ((True, False), ("2a11:0:1:1::100", 4000))


@needs_tun
def test_one_protocol_may_be_slow_alone():
    async def scenario(lab, faults):
        await faults.delay("left", 100, families=(6,))
        quick = await lab.run("left", "ping", "-c1", lab.topology.public_ip("right"))
        slow = await lab.run("left", "ping", "-c1", lab.topology.public_ip("right", 6))
        return [float(out.rsplit("=", 1)[1].split("/")[0]) for out in (quick, slow)]

    quick, slow = in_lab(both_protocols(), scenario)
    assert quick < 100
    assert slow >= 200


def test_a_black_hole_swallows_large_packets_only():
    async def scenario(lab, faults):
        await faults.limit_size(1300, "left-router")
        small, large = await arriving(lab, 10, size=1272), await arriving(lab, 10, size=1273)
        await faults.limit_size(0, "left-router")
        return small, large, await arriving(lab, 10, size=1273)

    assert in_lab(pair("eim-apdf", "open"), scenario) == (10, 0, 10)


def test_a_rebooted_full_cone_lets_strangers_in_no_more():
    async def scenario(lab, faults):
        public = await seen(lab)
        await lab.order("right", Shoot("s", public), Done)
        await asyncio.sleep(0.1)
        before = (await lab.order("left", Count("s"), Counted)).datagrams
        await faults.reboot("left-router")
        await lab.order("right", Shoot("s", public), Done)
        await asyncio.sleep(0.1)
        return before, (await lab.order("left", Count("s"), Counted)).datagrams

    assert in_lab(pair("eim-eif", "open"), scenario) == (2, 0)


def test_moved_ports_change_what_the_world_sees_each_time():
    async def scenario(lab, faults):
        before = await seen(lab)
        await faults.move_ports("left-router")
        once = await seen(lab)
        await faults.move_ports("left-router")
        return before, once, await seen(lab)

    before, once, twice = in_lab(pair("eim-apdf", "open"), scenario)
    assert before == ("11.1.0.2", 4000)
    assert 50000 <= once[1] <= 50999
    assert 51000 <= twice[1] <= 51999


@pytest.mark.parametrize("kind", ["eim-adf", "adm"])
def test_a_new_public_address_is_what_the_world_sees_then(kind):
    async def scenario(lab, faults):
        before = await seen(lab)
        new = await faults.change_address("left-router")
        return before[0], new, (await seen(lab))[0], await echoes(lab)

    assert in_lab(pair(kind, "open"), scenario) == ("11.1.0.2", "11.1.0.3", "11.1.0.3", True)


def test_an_idle_flow_is_forgotten_after_the_udp_timeout():
    async def scenario(lab, faults):
        await faults.set_udp_timeout("right-router", 1, 1)
        left, right = await seen(lab), await seen(lab, "right")
        arrived = []
        for pause in (0.0, 2.5):
            await lab.order("right", Shoot("s", left), Done)
            await asyncio.sleep(pause + 0.1)
            await lab.order("right", Count("s"), Counted)
            await lab.order("left", Shoot("s", right), Done)
            await asyncio.sleep(0.1)
            arrived.append((await lab.order("right", Count("s"), Counted)).datagrams)
        return arrived

    assert in_lab(pair("open", "firewall"), scenario) == [1, 0]


def test_an_unplugged_device_comes_back_with_its_routes():
    async def scenario(lab, faults):
        await faults.unplug("left", "eth0")
        by_backup = await seen(lab)
        await faults.plug("left", "eth0")
        return by_backup, await seen(lab)

    assert in_lab(two_interfaces(), scenario) == (("11.3.0.2", 4000), ("11.1.0.2", 4000))


@needs_tun
def test_delay_adds_to_every_packet_both_ways():
    async def scenario(lab, faults):
        await faults.delay("left", 50)
        await faults.delay("right", 20)
        out = await lab.run("left", "ping", "-c3", "-i0.2", lab.topology.public_ip("right"))
        echoed = await lab.order("left", TryEcho(ECHO), Echoed)
        return float(out.rsplit("=", 1)[1].split("/")[0]), echoed

    fastest, echoed = in_lab(pair("open", "open"), scenario)
    assert 140 <= fastest < 200
    assert echoed.equal
    assert echoed.ms >= 200  # a handshake and an exchange over 100 ms there and back


@needs_tun
def test_a_packet_whose_ttl_dies_in_the_core_does_so_with_delay_too():
    async def scenario(lab, faults):
        await faults.delay("left", 5)
        await lab.order("left", Shoot("s", (lab.topology.public_ip("right"), 4000), ttl=4), Done)
        await lab.order("left", Shoot("s", (lab.topology.public_ip("right"), 4000), ttl=64), Done)
        await asyncio.sleep(0.2)
        return (await lab.order("right", Count("s"), Counted)).datagrams

    assert in_lab(pair("open", "open"), scenario) == 1


def test_a_frozen_server_answers_again_after_the_thaw():
    async def scenario(lab, faults):
        await faults.freeze()
        frozen = await echoes(lab, patience_s=0.5)
        await faults.thaw()
        return frozen, await echoes(lab)

    assert in_lab(pair("open", "open"), scenario) == (False, True)


def test_what_has_no_ports_or_address_to_move_is_refused():
    async def scenario(lab, faults):
        with pytest.raises(ValueError, match="no lasting ports"):
            await faults.move_ports("left-router")
        with pytest.raises(ValueError, match="public addresses"):
            await faults.change_address("right-router")

    in_lab(pair("edm", "open"), scenario)
