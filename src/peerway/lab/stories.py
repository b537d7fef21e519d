"""The stories of scenarios: what is done to a network, step by step, and what nodes must make of it.

A story is an async generator of steps. A step that is checked is `ok` or not; one that is
only told has `ok` None.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from peerway.lab.meeting import COMPARED_BYTES, PROBING_S, SETTLING_S, Meeting, Met
from peerway.lab.places import Outlook, expected
from peerway.lab.topology import SERVER_IPS_V6

FAILOVER_S = 5.0  # data must move again this soon after its path died
CLIMB_S = 40.0  # and be on a direct path again this soon after there is one
CARRY_WHILE_CLIMBING_S = 6.0
IDLE_S = 12.0  # longer than the mapping of `short-timeout` lives
SHORT_TIMEOUT_S = 10
QUIET_S = 120.0
QUIET_PAUSE_S = 20.0
UPLINK_DELAYS_MS = {"left": 38, "backup": 1}  # one way, each way: a round trip of about 80 ms against 5
ROUNDS_S = 75.0  # within which a second round of probing has begun and succeeded
LOSS_PERCENT = 30
LINE_DELAY_MS = 40


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done, seen or checked."""

    text: str
    ok: bool | None = None


Story = Callable[[Meeting], AsyncIterator[Step]]


async def _become(
    meeting: Meeting, met: Met, kind: str, patience_s: float, family: int | None = None
) -> Step:
    ends = await meeting.paths(met, kind, patience_s, family)
    ways = ", ".join(f"{end.kind or 'no path'} {end.remote}" for end in ends)
    wanted = f"{kind} by IPv{family}" if family else kind
    return Step(
        f"{met.dialler} and {met.acceptor} are {wanted} ({ways})",
        all(end.kind == kind and family in (None, end.family) for end in ends),
    )


def _first_byte(met: Met) -> Step:
    return Step(f"first byte after {(met.first_byte - met.begun) * 1000:.0f} ms", True)


async def _carry(meeting: Meeting, met: Met, seconds: float = 1.0) -> Step:
    moved = await meeting.transfer(met, seconds)
    text = f"{moved.size} bytes there and back, longest wait {moved.longest_wait_ms:.0f} ms"
    return Step(text, moved.equal and moved.longest_wait_ms < FAILOVER_S * 1000)


async def directly(meeting: Meeting) -> AsyncIterator[Step]:
    """They meet, become direct and carry data."""
    met = await meeting.meet("left", "right")
    yield _first_byte(met)
    yield await _become(meeting, met, "direct", PROBING_S)
    yield await _carry(meeting, met)


def cell_story(left: str, right: str) -> Story:
    """The story of a cell: what must come of it comes of it, with all that happened on the way."""
    outlook = expected(left, right)

    async def story(meeting: Meeting) -> AsyncIterator[Step]:
        met = await meeting.meet("left", "right")
        yield _first_byte(met)
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


async def spokes(meeting: Meeting) -> AsyncIterator[Step]:
    """Every spoke dials the hub."""
    hub = await meeting.open("hub")
    spokes = [host for host in meeting.lab.topology.hosts if host != "hub"]
    for spoke in spokes:
        met = await meeting.dial(spoke, await meeting.open(spoke), "hub", hub)
        yield await _become(meeting, met, "direct", PROBING_S)
        yield await _carry(meeting, met)


async def spokes_dialled(meeting: Meeting) -> AsyncIterator[Step]:
    """The hub dials every spoke."""
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


def survives(text: str, fault: Callable[[Meeting], Awaitable[object]], *, seconds: float = 3.0) -> Story:
    """The story of a transfer over a direct path, a fault in its middle, and a direct path again."""

    async def story(meeting: Meeting) -> AsyncIterator[Step]:
        met = await meeting.meet("left", "right")
        yield await _become(meeting, met, "direct", PROBING_S)
        async for step in _carry_through(meeting, met, text, fault(meeting), seconds):
            yield step
        yield await _become(meeting, met, "direct", CLIMB_S)

    return story


async def cut_and_climb(meeting: Meeting) -> AsyncIterator[Step]:
    """The direct path is cut under a transfer, and mended."""
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


async def short_timeout(meeting: Meeting) -> AsyncIterator[Step]:
    """Nothing is said for longer than mappings live."""
    for router in meeting.lab.topology.routers:
        await meeting.faults.set_udp_timeout(router, SHORT_TIMEOUT_S, SHORT_TIMEOUT_S)
    met = await meeting.meet("left", "right")
    yield await _become(meeting, met, "direct", PROBING_S)
    await asyncio.sleep(IDLE_S)
    yield Step(f"{IDLE_S:.0f} s of silence; mappings live {SHORT_TIMEOUT_S} s")
    yield await _carry(meeting, met)
    yield await _become(meeting, met, "direct", CLIMB_S)


async def quiet(meeting: Meeting) -> AsyncIterator[Step]:
    """Little is said, at intervals longer than mappings live."""
    for router in meeting.lab.topology.routers:
        await meeting.faults.set_udp_timeout(router, SHORT_TIMEOUT_S, SHORT_TIMEOUT_S)
    met = await meeting.meet("left", "right")
    yield await _become(meeting, met, "direct", PROBING_S)
    before = await meeting.paths(met, "direct", PROBING_S)
    moved = await meeting.transfer(met, QUIET_S, chunk=100, pause_s=QUIET_PAUSE_S)
    yield Step(f"{QUIET_S:.0f} s with a few bytes every {QUIET_PAUSE_S:.0f} s", moved.equal)
    after = await meeting.paths(met, "direct", PROBING_S)
    yield Step("the direct path was never left", before == after)


async def two_speeds(meeting: Meeting) -> AsyncIterator[Step]:
    """The favourite of two uplinks is the slow one."""
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


async def relay_lost(meeting: Meeting) -> AsyncIterator[Step]:
    """The relay is killed under a transfer, and returns."""
    met = await meeting.meet("left", "right")
    yield await _become(meeting, met, "direct", PROBING_S)
    async for step in _carry_through(meeting, met, "the relay is killed", meeting.kill_server()):
        yield step
    await meeting.serve()
    yield Step("the relay is back")
    again = await meeting.meet("left", "right")
    yield await _become(meeting, again, "direct", PROBING_S)


async def black_hole(meeting: Meeting) -> AsyncIterator[Step]:
    """Large packets vanish on the direct path."""
    met = await meeting.meet("left", "right")
    yield await _become(meeting, met, "direct", PROBING_S)
    shrink = meeting.faults.limit_size(1000, "left-router", udp_only=True)
    async for step in _carry_through(meeting, met, "UDP over 1000 bytes vanishes on the left", shrink, 6.0):
        yield step
    yield await _become(meeting, met, "relay", FAILOVER_S)


async def lossy(meeting: Meeting) -> AsyncIterator[Step]:
    """Both lines lose much."""
    await meeting.faults.set_loss(LOSS_PERCENT)
    met = await meeting.meet("left", "right")
    yield _first_byte(met)
    yield await _become(meeting, met, "direct", CLIMB_S)
    moved = await meeting.transfer(met, CLIMB_S, pause_s=0.0, limit=COMPARED_BYTES)
    yield Step(f"{moved.size} bytes there and back", moved.equal and moved.size == COMPARED_BYTES)


async def far_apart(meeting: Meeting) -> AsyncIterator[Step]:
    """Both lines are long."""
    for home in meeting.lab.topology.homes:
        await meeting.faults.delay(home.name, LINE_DELAY_MS)
    async for step in directly(meeting):
        yield step


async def tls_only(meeting: Meeting) -> AsyncIterator[Step]:
    """Nothing gets out but TLS."""
    await meeting.kill_server()
    served = await meeting.serve(tls=True)
    yield Step(f"the relay is now {served.url}")
    met = await meeting.meet("left", "right")
    yield _first_byte(met)
    yield await _become(meeting, met, "relay", PROBING_S)
    yield await _carry(meeting, met)


async def on_the_lan(meeting: Meeting) -> AsyncIterator[Step]:
    """Two hosts of one network meet there, and nowhere else."""
    met = await meeting.meet("left", "right")
    yield await _become(meeting, met, "direct", PROBING_S)
    yield await _carry(meeting, met)
    network = meeting.lab.topology.machines["left"].device("eth0")
    ends = await meeting.paths(met, "direct", PROBING_S)
    remotes = [end.remote.rpartition(":")[0] for end in ends]
    yield Step(f"they see each other at {' and '.join(remotes)}", all(map(network.reaches, remotes)))


async def ipv6_literal(meeting: Meeting) -> AsyncIterator[Step]:
    """The relay's URL names an IPv6 address."""
    await meeting.kill_server()
    served = await meeting.serve(public_host=SERVER_IPS_V6[0])
    yield Step(f"the relay is now {served.url}")
    met = await meeting.meet("left", "right")
    yield _first_byte(met)
    yield await _become(meeting, met, "direct", PROBING_S, family=6)
    yield await _carry(meeting, met)


async def slow_ipv6(meeting: Meeting) -> AsyncIterator[Step]:
    """IPv6 works, but takes a detour."""
    await meeting.faults.delay("left", LINE_DELAY_MS, families=(6,))
    yield Step(f"IPv6 takes {2 * LINE_DELAY_MS} ms longer")
    met = await meeting.meet("left", "right")
    yield await _become(meeting, met, "direct", PROBING_S, family=4)
    yield await _carry(meeting, met)
    yield await _become(meeting, met, "direct", PROBING_S, family=4)


async def ipv6_lost(meeting: Meeting) -> AsyncIterator[Step]:
    """IPv6 breaks under a transfer, and is mended."""
    met = await meeting.meet("left", "right")
    yield await _become(meeting, met, "direct", SETTLING_S, family=6)
    cut = meeting.faults.cut_family(6, "left-router")
    async for step in _carry_through(meeting, met, "no UDP passes the left router by IPv6", cut):
        yield step
    yield await _become(meeting, met, "direct", FAILOVER_S, family=4)
    # A path that comes back from a mere doubt is distrusted for minutes.
    yield Step("the IPv6 path is given up", await meeting.both_told(met, "lost: [", CLIMB_S))
    await meeting.faults.restore_udp("left-router")
    yield Step("IPv6 is back")
    back = _become(meeting, met, "direct", CLIMB_S, family=6)
    for step in await asyncio.gather(back, _carry(meeting, met, CARRY_WHILE_CLIMBING_S)):
        yield step


async def later_round(meeting: Meeting) -> AsyncIterator[Step]:
    """What the first round of probing cannot open, a later one does."""
    met = await meeting.meet("left", "right")
    yield await _become(meeting, met, "relay", PROBING_S)
    carrying = asyncio.create_task(meeting.transfer(met, ROUNDS_S, chunk=100, pause_s=QUIET_PAUSE_S / 10))
    try:
        yield await _become(meeting, met, "direct", ROUNDS_S)
        moved = await carrying
        yield Step(f"{moved.size} bytes there and back all the while", moved.equal)
    finally:
        carrying.cancel()
