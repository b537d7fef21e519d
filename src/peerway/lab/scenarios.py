"""Named stories: a topology, what is done to it, and what a node must make of it.

A story is an async generator of steps. A step that is checked is `ok` or not; one that is
only told has `ok` None.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from peerway.lab.laboratory import LabError, Laboratory
from peerway.lab.layouts import (
    hub_and_spoke,
    junk_interfaces,
    pair,
    same_numbers,
    three_firewalls,
    two_interfaces,
)
from peerway.lab.matrix import parse_cell
from peerway.lab.meeting import COMPARED_BYTES, PROBING_S, SETTLING_S, Meeting, Met
from peerway.lab.places import Outlook, expected
from peerway.lab.topology import SERVER, Topology

FAILOVER_S = 5.0  # data must move again this soon after its path died
CLIMB_S = 40.0  # and be on a direct path again this soon after there is one
CARRY_WHILE_CLIMBING_S = 6.0
IDLE_S = 12.0  # longer than the mapping of `short-timeout` lives
SHORT_TIMEOUT_S = 10
QUIET_S = 120.0
QUIET_PAUSE_S = 20.0
UPLINK_DELAYS_MS = {"left": 38, "backup": 1}  # one way, each way: a round trip of about 80 ms against 5
LOSS_PERCENT = 30
LINE_DELAY_MS = 40


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done, seen or checked."""

    text: str
    ok: bool | None = None


Story = Callable[[Meeting], AsyncIterator[Step]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A topology and the story told in it."""

    name: str
    explanation: str
    topology: Callable[[], Topology]
    story: Story


def scenario(name: str) -> Scenario:
    """A named scenario, or a cell ("LEFTxRIGHT") as one; CellError for anything else."""
    if name in SCENARIOS:
        return SCENARIOS[name]
    left, right = parse_cell(name)
    return Scenario(name, f"{left} dials {right}", lambda: pair(left, right), _cell_story(left, right))


def topology_of(name: str) -> Topology:
    """The topology of a named scenario or of a cell; CellError for anything else."""
    return scenario(name).topology()


async def run_scenario(name: str) -> AsyncIterator[Step]:
    """Tell the story, step by step; it ends early with a failed step where a node does not do its part.

    Close the iterator (`contextlib.aclosing`) when leaving it early. Raises `LabUnavailable`
    where there can be no lab, CellError for an unknown name.
    """
    told = scenario(name)
    async with Laboratory(told.topology()) as lab:
        meeting = Meeting(lab)
        await lab.start_workers(SERVER, *lab.topology.hosts)
        await meeting.serve()
        try:
            async for step in told.story(meeting):
                yield step
        except (LabError, TimeoutError) as error:
            yield Step(str(error) or "it took too long", False)


async def _become(meeting: Meeting, met: Met, kind: str, patience_s: float) -> Step:
    ends = await meeting.paths(met, kind, patience_s)
    ways = ", ".join(f"{end.kind or 'no path'} {end.remote}" for end in ends)
    return Step(
        f"{met.dialler} and {met.acceptor} are {kind} ({ways})", all(end.kind == kind for end in ends)
    )


async def _carry(meeting: Meeting, met: Met, seconds: float = 1.0) -> Step:
    moved = await meeting.transfer(met, seconds)
    text = f"{moved.size} bytes there and back, longest wait {moved.longest_wait_ms:.0f} ms"
    return Step(text, moved.equal and moved.longest_wait_ms < FAILOVER_S * 1000)


async def _directly(meeting: Meeting) -> AsyncIterator[Step]:
    met = await meeting.meet("left", "right")
    yield Step(f"first byte after {(met.first_byte - met.begun) * 1000:.0f} ms", True)
    yield await _become(meeting, met, "direct", PROBING_S)
    yield await _carry(meeting, met)


def _cell_story(left: str, right: str) -> Story:
    outlook = expected(left, right)

    async def story(meeting: Meeting) -> AsyncIterator[Step]:
        met = await meeting.meet("left", "right")
        yield Step(f"first byte after {(met.first_byte - met.begun) * 1000:.0f} ms", True)
        ends = await meeting.paths(met, "direct", PROBING_S)
        if outlook.family and all(end.kind == "direct" for end in ends):
            ends = await meeting.paths(met, "direct", SETTLING_S, outlook.family)
        for line in await meeting.tell(met):
            yield Step(line)
        direct = all(end.kind == "direct" for end in ends)
        found = Outlook("direct", ends[0].family) if direct else Outlook("relay")
        yield Step(f"expected {outlook}, was {found}", found == outlook)
        yield await _carry(meeting, met)

    return story


async def _spokes(meeting: Meeting) -> AsyncIterator[Step]:
    hub = await meeting.open("hub")
    spokes = [host for host in meeting.lab.topology.hosts if host != "hub"]
    for spoke in spokes:
        met = await meeting.dial(spoke, await meeting.open(spoke), "hub", hub)
        yield await _become(meeting, met, "direct", PROBING_S)
        yield await _carry(meeting, met)


async def _spokes_dialled(meeting: Meeting) -> AsyncIterator[Step]:
    hub = await meeting.open("hub")
    for spoke in (host for host in meeting.lab.topology.hosts if host != "hub"):
        met = await meeting.dial("hub", hub, spoke, await meeting.open(spoke))
        yield await _become(meeting, met, "direct", PROBING_S)
        yield await _carry(meeting, met)


async def _carry_through(
    meeting: Meeting, met: Met, text: str, fault: Awaitable[object], seconds: float = 3.0
) -> AsyncIterator[Step]:
    """Let something happen a second into a transfer; every byte must arrive, soon enough."""
    transfer = asyncio.create_task(_carry(meeting, met, seconds))
    try:
        await asyncio.sleep(1.0)
        await fault
        yield Step(text)
        yield await transfer
    finally:
        transfer.cancel()


def _survives(text: str, fault: Callable[[Meeting], Awaitable[object]], *, seconds: float = 3.0) -> Story:
    """The story of a transfer over a direct path, a fault in its middle, and a direct path again."""

    async def story(meeting: Meeting) -> AsyncIterator[Step]:
        met = await meeting.meet("left", "right")
        yield await _become(meeting, met, "direct", PROBING_S)
        async for step in _carry_through(meeting, met, text, fault(meeting), seconds):
            yield step
        yield await _become(meeting, met, "direct", CLIMB_S)

    return story


async def _cut_and_climb(meeting: Meeting) -> AsyncIterator[Step]:
    met = await meeting.meet("left", "right")
    yield await _become(meeting, met, "direct", PROBING_S)
    cut = meeting.faults.cut_between("left", "right")
    async for step in _carry_through(meeting, met, "the direct path is cut", cut):
        yield step
    yield await _become(meeting, met, "relay", FAILOVER_S)
    await meeting.faults.restore_between("left", "right")
    yield Step("the direct path is restored")
    back = _become(meeting, met, "direct", CLIMB_S)
    for step in await asyncio.gather(back, _carry(meeting, met, CARRY_WHILE_CLIMBING_S)):
        yield step


async def _short_timeout(meeting: Meeting) -> AsyncIterator[Step]:
    for router in meeting.lab.topology.routers:
        await meeting.faults.set_udp_timeout(router, SHORT_TIMEOUT_S, SHORT_TIMEOUT_S)
    met = await meeting.meet("left", "right")
    yield await _become(meeting, met, "direct", PROBING_S)
    await asyncio.sleep(IDLE_S)
    yield Step(f"{IDLE_S:.0f} s of silence; mappings live {SHORT_TIMEOUT_S} s")
    yield await _carry(meeting, met)
    yield await _become(meeting, met, "direct", CLIMB_S)


async def _quiet(meeting: Meeting) -> AsyncIterator[Step]:
    for router in meeting.lab.topology.routers:
        await meeting.faults.set_udp_timeout(router, SHORT_TIMEOUT_S, SHORT_TIMEOUT_S)
    met = await meeting.meet("left", "right")
    yield await _become(meeting, met, "direct", PROBING_S)
    before = await meeting.paths(met, "direct", PROBING_S)
    moved = await meeting.transfer(met, QUIET_S, chunk=100, pause_s=QUIET_PAUSE_S)
    yield Step(f"{QUIET_S:.0f} s with a few bytes every {QUIET_PAUSE_S:.0f} s", moved.equal)
    after = await meeting.paths(met, "direct", PROBING_S)
    yield Step("the direct path was never left", before == after)


async def _two_speeds(meeting: Meeting) -> AsyncIterator[Step]:
    for home, delay_ms in UPLINK_DELAYS_MS.items():
        await meeting.faults.delay(home, delay_ms)
    met = await meeting.meet("left", "right")
    yield await _become(meeting, met, "direct", PROBING_S)
    yield await _carry(meeting, met)
    pair = await meeting.paths(met, "direct", PROBING_S)
    quick = meeting.lab.topology.machines["backup-router"].device("wan").ips[0]
    yield Step(
        f"the right sees the left at {pair[1].remote}, which is the quick uplink's {quick}",
        pair[1].remote.startswith(f"{quick}:"),
    )


async def _relay_lost(meeting: Meeting) -> AsyncIterator[Step]:
    met = await meeting.meet("left", "right")
    yield await _become(meeting, met, "direct", PROBING_S)
    async for step in _carry_through(meeting, met, "the relay is killed", meeting.kill_server()):
        yield step
    await meeting.serve()
    yield Step("the relay is back")
    again = await meeting.meet("left", "right")
    yield await _become(meeting, again, "direct", PROBING_S)


async def _black_hole(meeting: Meeting) -> AsyncIterator[Step]:
    met = await meeting.meet("left", "right")
    yield await _become(meeting, met, "direct", PROBING_S)
    shrink = meeting.faults.limit_size(1000, "left-router", udp_only=True)
    async for step in _carry_through(meeting, met, "UDP over 1000 bytes vanishes on the left", shrink, 6.0):
        yield step
    yield await _become(meeting, met, "relay", FAILOVER_S)


async def _lossy(meeting: Meeting) -> AsyncIterator[Step]:
    await meeting.faults.set_loss(LOSS_PERCENT)
    met = await meeting.meet("left", "right")
    yield Step(f"first byte after {(met.first_byte - met.begun) * 1000:.0f} ms", True)
    yield await _become(meeting, met, "direct", CLIMB_S)
    moved = await meeting.transfer(met, CLIMB_S, pause_s=0.0, limit=COMPARED_BYTES)
    yield Step(f"{moved.size} bytes there and back", moved.equal and moved.size == COMPARED_BYTES)


async def _far_apart(meeting: Meeting) -> AsyncIterator[Step]:
    for home in meeting.lab.topology.homes:
        await meeting.faults.delay(home.name, LINE_DELAY_MS)
    async for step in _directly(meeting):
        yield step


async def _tls_only(meeting: Meeting) -> AsyncIterator[Step]:
    await meeting.kill_server()
    served = await meeting.serve(tls=True)
    yield Step(f"the relay is now {served.url}")
    met = await meeting.meet("left", "right")
    yield Step(f"first byte after {(met.first_byte - met.begun) * 1000:.0f} ms", True)
    yield await _become(meeting, met, "relay", PROBING_S)
    yield await _carry(meeting, met)


def _easy_pair() -> Topology:
    return pair("eim-apdf", "eim-apdf")


def _by_name(*scenarios: Scenario) -> dict[str, Scenario]:
    return {scenario.name: scenario for scenario in scenarios}


SCENARIOS: dict[str, Scenario] = _by_name(
    Scenario(
        "three-firewalls", "Three firewalls in a row on both sides: direct.", three_firewalls, _directly
    ),
    Scenario("hub-spoke", "Spokes of every sort dial a public hub: direct.", hub_and_spoke, _spokes),
    Scenario(
        "spoke-dialled", "A public hub dials spokes of every sort: direct.", hub_and_spoke, _spokes_dialled
    ),
    Scenario(
        "poisoned-pair",
        "Routers that an early probe spoils: direct, since first packets die on the way.",
        lambda: pair("poisoned", "poisoned"),
        _directly,
    ),
    Scenario("junk-interfaces", "A dozen useless bridges on both hosts: direct.", junk_interfaces, _directly),
    Scenario("same-numbers", "Both homes use the same private network: direct.", same_numbers, _directly),
    Scenario(
        "two-interfaces",
        "The uplink in use goes away during a transfer: it goes on over the other.",
        two_interfaces,
        _survives("the first uplink is gone", lambda meeting: meeting.faults.unplug("left"), seconds=8.0),
    ),
    Scenario(
        "two-speeds",
        "Of two uplinks the system's favourite is slow: data takes the other.",
        two_interfaces,
        _two_speeds,
    ),
    Scenario(
        "quiet-connection",
        "Mappings live 10 s, and a few bytes go every 20 s for two minutes: direct throughout.",
        _easy_pair,
        _quiet,
    ),
    Scenario(
        "short-timeout", "Mappings die in silence: the path is rebuilt on demand.", _easy_pair, _short_timeout
    ),
    Scenario(
        "cut-and-climb",
        "The direct path dies during a transfer: to the relay, and back up when it lives.",
        _easy_pair,
        _cut_and_climb,
    ),
    Scenario(
        "router-reboot",
        "Both routers forget every mapping during a transfer.",
        _easy_pair,
        _survives("both routers forget everything", lambda meeting: meeting.faults.reboot()),
    ),
    Scenario(
        "new-address",
        "The left router gets another public address during a transfer.",
        _easy_pair,
        _survives(
            "the left router has a new address", lambda meeting: meeting.faults.change_address("left-router")
        ),
    ),
    Scenario(
        "moved-ports",
        "The left router reboots into giving other public ports during a transfer.",
        _easy_pair,
        _survives(
            "the left router gives other ports", lambda meeting: meeting.faults.move_ports("left-router")
        ),
    ),
    Scenario("relay-lost", "The relay dies under a direct connection, and returns.", _easy_pair, _relay_lost),
    Scenario(
        "tls-only",
        "No UDP on either side: by a relay with TLS on port 443, its certificate pinned.",
        lambda: pair("udp-blocked", "udp-rejected"),
        _tls_only,
    ),
    Scenario("black-hole", "Large packets start to vanish on the direct path.", _easy_pair, _black_hole),
    Scenario("lossy-lines", "Both access lines lose 30 % of UDP each way.", _easy_pair, _lossy),
    Scenario("far-apart", "40 ms on each access line, each way: direct.", _easy_pair, _far_apart),
)
