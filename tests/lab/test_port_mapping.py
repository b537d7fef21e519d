"""Ports of a real router's: miniupnpd in a router's namespace, and third parties that list what it maps."""

import asyncio
import re
import signal
import sys
from pathlib import Path

import pytest

from peerway.core.portmap.report import Protocol
from peerway.lab.building import build
from peerway.lab.gateway_daemon import gateway_daemon, restart
from peerway.lab.laboratory import Laboratory
from peerway.lab.meeting import PROBING_S, Meeting
from peerway.lab.orders import AwaitPorts, Closed, CloseNode, Opened, OpenNode, Ports, Serve, Served
from peerway.lab.plan import Host, Line, Plan, Router, home, in_a_row
from peerway.lab.service import Service
from peerway.lab.topology import SERVER, SERVER_IPS

pytestmark = pytest.mark.lab

PCP, PMP, UPNP = Protocol
ALONE = {"pcp": PCP, "pmp": PMP, "upnp": UPNP}
HOMES = (*ALONE, "igd1", "all", "none", "mute")
PORT = 41641
LIAR = """\
table ip liar {
 chain inward {
  type filter hook prerouting priority -110
  iifname "wan" udp dport 41641 drop
 }
}
"""


def plan() -> Plan:
    daemons = {name: gateway_daemon([protocol]) for name, protocol in ALONE.items()}
    daemons |= {
        "igd1": gateway_daemon([UPNP], igd_version=1),
        "all": gateway_daemon(),
        "mute": gateway_daemon(),
    }
    lines = [
        home(
            name,
            ["edm"],
            f"{name}-host",
            f"{name}-other",
            services=(daemons[name],) if name in daemons else (),
        )
        for name in HOMES
    ]
    double = home("double", ["eim-apdf", "edm"], "double-host", services=(gateway_daemon(),))
    return Plan("ports", "A home for each way of asking for a port.", (*lines, double))


TOPOLOGY = build(plan())


async def listed(lab, router):
    """What the router forwards: the outside port, and to whom."""
    rules = await lab.run(router, "nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd")
    return dict(re.findall(r"dport (\d+) dnat ip to (\S+)", rules))


class Homes:
    """The lab with its daemons, a server with two addresses, and a node on demand."""

    def __init__(self, lab, served):
        self.lab = lab
        self.served = served

    async def open(self, host, port=PORT):
        order = OpenNode((self.served.url,), self.served.stun, port)
        return await self.lab.order(host, order, Opened)

    async def ports(self, host, patience_s=8.0, **wanted):
        return await self.lab.order(host, AwaitPorts(patience_s, **wanted), Ports)

    async def close(self, host):
        await self.lab.order(host, CloseNode(), Closed)

    async def listed(self, home, router=""):
        return await listed(self.lab, router or f"{home}-router")


async def alone(homes, name):
    """Map, be listed, be tried from outside, close, be listed no more."""
    host = f"{name}-host"
    await homes.open(host)
    ports = await homes.ports(host, verified=True)
    during = await homes.listed(name)
    await homes.close(host)
    return ports, during, await homes.listed(name)


async def third_parties(homes):
    """`upnpc -l` and `natpmpc` while a node runs, and after; and again with one that is killed and a next."""

    async def listing():
        return await homes.lab.run("all-other", "sh", "-c", "upnpc -l; natpmpc")

    told = []
    await homes.open("all-host")
    await homes.ports("all-host")
    told.append(await listing())
    await homes.close("all-host")
    told.append(await listing())
    await homes.open("all-host")
    await homes.ports("all-host")
    await homes.lab.kill_worker("all-host")
    told.append(await listing())
    await homes.open("all-host", PORT + 1)
    await homes.ports("all-host")
    told.append(await listing())
    await homes.close("all-host")
    told.append(await listing())
    return told


async def killed(homes, name):
    """A node is killed, and another begins on the same host at another port."""
    host = f"{name}-host"
    await homes.open(host)
    await homes.ports(host)
    await homes.lab.kill_worker(host)
    left = await homes.listed(name)
    await homes.open(host, PORT + 1)
    await homes.ports(host)
    after = await homes.listed(name)
    files = await homes.lab.run(host, "sh", "-c", f"cd /run/state-{host} && stat -c %a portmap-*.json")
    await homes.close(host)
    return left, after, await homes.listed(name), files


async def neighbours(homes, name):
    """Two hosts of one home want the same outside port; the second leaves first."""
    one, other = f"{name}-host", f"{name}-other"
    await homes.open(one)
    first = await homes.ports(one)
    await homes.open(other)
    second = await homes.ports(other)
    both = await homes.listed(name)
    await homes.close(other)
    remaining = await homes.listed(name)
    await homes.close(one)
    return first, second, both, remaining, await homes.listed(name)


async def restarted(homes):
    """The daemon restarts and has forgotten everything; it announces itself."""
    await homes.open("pmp-host")
    before = await homes.ports("pmp-host")
    await restart(homes.lab, "pmp-router", gateway_daemon([PMP]))
    for _ in range(100):
        if again := await homes.listed("pmp"):
            break
        await asyncio.sleep(0.05)
    ports = await homes.ports("pmp-host")
    await homes.close("pmp-host")
    return before, again, ports


async def muted(homes):
    """The daemon stops answering where it stands; how long closing takes, and what is remembered."""
    await homes.open("mute-host")
    await homes.ports("mute-host")
    await homes.lab.signal("mute-router-miniupnpd", signal.SIGSTOP)
    begun = asyncio.get_running_loop().time()
    await homes.close("mute-host")
    took = asyncio.get_running_loop().time() - begun
    remembered = await homes.lab.run("mute-host", "sh", "-c", "cat /run/state-mute-host/portmap-*.json")
    await homes.lab.signal("mute-router-miniupnpd", signal.SIGCONT)
    return took, remembered


async def not_forwarding(homes):
    """The router lists the port that is asked for, and drops what comes for it."""
    await homes.lab.run("igd1-router", "nft", "-f", "-", input=LIAR)
    await homes.open("igd1-host")
    first = await homes.ports("igd1-host")
    second = await homes.ports("igd1-host", but=first.mapped, verified=True)
    await homes.close("igd1-host")
    return first, second, await homes.listed("igd1")


async def double(homes):
    await homes.open("double-host")
    return await homes.ports("double-host", patience_s=3.0)


async def nothing_spoken(homes):
    await homes.open("none-host")
    ports = await homes.ports("none-host", patience_s=1.0)
    log = await homes.lab.log("none-host")
    await homes.close("none-host")
    return ports, log


async def tell_everything():
    async with Laboratory(TOPOLOGY) as lab:
        served = await lab.order(SERVER, Serve(SERVER_IPS), Served)
        here = Homes(lab, served)
        names = (*ALONE, "igd1")
        found = {
            ("alone", name): result
            for name, result in zip(
                names, await asyncio.gather(*(alone(here, n) for n in names)), strict=True
            )
        }
        stories = {
            "third parties": third_parties(here),
            "none": nothing_spoken(here),
            "double": double(here),
            "muted": muted(here),
            "not forwarding": not_forwarding(here),
            ("killed", "pcp"): killed(here, "pcp"),
            ("killed", "upnp"): killed(here, "upnp"),
            "restarted": restarted(here),
        }
        found |= dict(zip(stories, await asyncio.gather(*stories.values()), strict=True))
        more = {
            ("killed", "pmp"): killed(here, "pmp"),
            ("neighbours", "pcp"): neighbours(here, "pcp"),
            ("neighbours", "upnp"): neighbours(here, "upnp"),
        }
        found |= dict(zip(more, await asyncio.gather(*more.values()), strict=True))
        found["neighbours", "pmp"] = await neighbours(here, "pmp")
        return found


@pytest.fixture(scope="module")
def found():
    return asyncio.run(tell_everything())


def inside(home, host="host"):
    return TOPOLOGY.machines[f"{home}-{host}"].devices[0].ip()


def outside(home):
    return TOPOLOGY.machines[f"{home}-router"].device("wan").ip()


@pytest.mark.parametrize("name", [*ALONE, "igd1"])
def test_each_protocol_alone_maps_a_port_that_is_forwarded_and_gives_it_back(name, found):
    ports, during, after = found["alone", name]
    protocol = ALONE.get(name, UPNP)
    assert ports.speaks == (protocol.value,)
    assert ports.mapped == f"{protocol.value} {outside(name)}:{PORT}"
    assert ports.verified is True
    assert ports.nat_beyond is False
    assert during == {str(PORT): f"{inside(name)}:{PORT}"}
    assert after == {}


def test_third_parties_list_the_mapping_and_none_after_the_end(found):
    during, after, *_ = found["third parties"]
    assert re.search(rf"UDP\s+{PORT}->{inside('all')}:{PORT}", during)
    assert f"Public IP address : {outside('all')}" in during
    assert f"Public IP address : {outside('all')}" in after
    assert "UDP" not in after


def test_third_parties_list_what_a_killed_node_left_until_the_next_begins(found):
    *_, left, next_one, after = found["third parties"]
    assert re.findall(r"UDP\s+(\d+)->", left) == [str(PORT)]
    assert re.findall(r"UDP\s+(\d+)->", next_one) == [str(PORT + 1)]
    assert "UDP" not in after


def test_where_nothing_is_spoken_a_node_is_quiet(found):
    ports, log = found["none"]
    assert (ports.speaks, ports.mapped) == ((), "")
    assert "WARNING" not in log
    assert "ERROR" not in log


@pytest.mark.parametrize("name", ALONE)
def test_what_a_killed_node_left_is_removed_by_the_next(name, found):
    left, after, closed, files = found["killed", name]
    assert left == {str(PORT): f"{inside(name)}:{PORT}"}
    assert after == {str(PORT + 1): f"{inside(name)}:{PORT + 1}"}
    assert closed == {}
    assert files.split() == ["600"]


@pytest.mark.parametrize("name", ALONE)
def test_neighbours_get_different_ports_and_remove_their_own(name, found):
    first, second, both, remaining, after = found["neighbours", name]
    assert first.mapped.endswith(f":{PORT}")
    assert second.mapped
    assert second.mapped != first.mapped
    other = second.mapped.rpartition(":")[2]
    assert both == {str(PORT): f"{inside(name)}:{PORT}", other: f"{inside(name, 'other')}:{PORT}"}
    assert remaining == {str(PORT): f"{inside(name)}:{PORT}"}
    assert after == {}


def test_a_daemon_that_restarts_is_asked_again(found):
    before, again, ports = found["restarted"]
    assert again == {str(PORT): f"{inside('pmp')}:{PORT}"}
    assert ports.mapped == before.mapped


def test_closing_waits_for_a_second_when_the_router_is_silent(found):
    took, remembered = found["muted"]
    assert took < 4.0
    assert f'"external_port":{PORT}' in remembered


def test_a_mapping_that_is_listed_but_not_forwarded_is_made_elsewhere(found):
    first, second, after = found["not forwarding"]
    assert first.mapped == f"UPnP IGD {outside('igd1')}:{PORT}"
    assert second.mapped != first.mapped
    assert second.verified is True
    assert after == {}


def test_another_nat_beyond_the_router_is_known(found):
    ports = found["double"]
    assert ports.mapped == ""
    assert ports.nat_beyond is True
    assert "yet the Internet sees us at" in ports.reason


# --- two homes of one carrier ----------------------------------------------------------------

PLAIN = Service(
    "plain",
    (sys.executable, "gateway.py"),
    files=(("gateway.py", Path(__file__).with_name("plain_gateway.py").read_text()),),
)


def one_carrier() -> Plan:
    homes = (
        in_a_row("left", ["eim-apdf"], [Host("left")], services=(PLAIN,)),
        in_a_row("right", ["eim-apdf"], [Host("right")]),
    )
    carrier = Line("carrier", Router("carrier-router", "cgn-no-hairpin", homes))
    return Plan(
        "one-carrier", "Two homes of a carrier that turns nothing around; one of them maps.", (carrier,)
    )


def test_two_homes_of_one_carrier_meet_by_the_port_that_one_router_maps():
    async def scenario():
        topology = build(one_carrier())
        async with Laboratory(topology) as lab:
            meeting = Meeting(lab)
            await meeting.serve()
            caller, callee = await asyncio.gather(meeting.open("right"), meeting.open("left"))
            ports = await lab.order("left", AwaitPorts(8.0), Ports)
            met = await meeting.dial("right", caller, "left", callee)
            ends = await meeting.paths(met, "direct", PROBING_S)
            return topology.machines["left-router"].device("wan").ip(), ports, ends

    wan, ports, ends = asyncio.run(scenario())
    assert wan.startswith("100.6")
    assert ports.mapped.startswith(f"NAT-PMP {wan}:")
    assert ports.nat_beyond is True
    assert [end.kind for end in ends] == ["direct", "direct"]
    assert ends[0].remote == ports.mapped.removeprefix("NAT-PMP ")
