"""What a NAT does, found by sending through it: the same questions to a kernel's and a simulated one.

A bench has two hosts inside (`one` and `two`) and a host outside with two addresses (`A`, `B`),
all with as many sockets as are wanted. Everything seen is put in words that do not depend on chance.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

Endpoint = tuple[str, int]
Seen = dict[str, object]

IDLE_S = 2  # what sessions are given for the questions about time
STREAM_S = 5
NEAR = 4  # ports that are no further apart were given in sequence
BLOCK = range(20000, 20512)


class Bench(Protocol):
    """Where questions are asked. `outside` is the router's public address, "" where it has none."""

    one: str
    two: str
    A: str
    B: str
    outside: str

    async def open(self, *endpoints: Endpoint) -> None: ...
    async def send(self, source: Endpoint, to: Endpoint, ttl: int = 0) -> None: ...
    async def settle(self) -> None:
        """Let everything arrive that was sent."""
        ...

    async def heard(self, at: Endpoint) -> tuple[Endpoint, ...]:
        """From where datagrams came since the last time, each source once."""
        ...

    async def limit_times(self, idle_s: int, stream_s: int) -> None: ...
    def start_clock(self) -> None: ...
    async def until(self, seconds: float) -> None:
        """Until so long after `start_clock`; `TooLate` when it is later already."""
        ...


class TooLate(Exception):
    """The machine was too busy for questions about time."""


async def examine(bench: Bench) -> Seen:
    """Everything."""
    seen: Seen = {"mapping": await mapping(bench)}  # alone: others would take ports in between
    questions = (overloading, filtering, hops, poison, late_poison, hairpin)
    answers = await asyncio.gather(*(question(bench) for question in questions))
    seen.update({question.__name__: answer for question, answer in zip(questions, answers, strict=True)})
    seen["time"] = await time(bench)
    return seen


async def sight(bench: Bench, source: Endpoint, to: Endpoint) -> Endpoint | None:
    """Send, and see how the source looks from there."""
    heard = await knock(bench, source, to, to)
    return heard[-1] if heard else None


async def knock(
    bench: Bench, source: Endpoint, to: Endpoint, heard_at: Endpoint, ttl: int = 0
) -> tuple[Endpoint, ...]:
    """Send to one endpoint, and see what another hears."""
    await bench.send(source, to, ttl)
    await bench.settle()
    return await bench.heard(heard_at)


def port_of(endpoint: Endpoint | None) -> int:
    return endpoint[1] if endpoint else 0


def distance(port: int, other: int) -> object:
    return port - other if abs(port - other) <= NEAR else "far"


async def mapping(bench: Bench) -> Seen:
    """How one socket looks from another port, from another address, and once more."""
    one, remotes = (bench.one, 5000), [(bench.A, 100), (bench.A, 101), (bench.B, 100)]
    await bench.open(one, *remotes)
    views = [await sight(bench, one, remote) for remote in (*remotes, remotes[0])]
    ports = [port_of(view) for view in views]
    is_steady = ports[0] == ports[1] == ports[2]
    return {
        "passes": [view is not None for view in views],
        "translated": views[0] is not None and views[0][0] != bench.one,
        "kept": [port == 5000 for port in ports],
        "same as first": [port == ports[0] for port in ports],
        "steps": [distance(port, ports[0]) for port in ports],
        "from a block": is_steady and ports[0] in BLOCK,
    }


async def overloading(bench: Bench) -> Seen:
    """Two hosts with the same port, towards different remotes and then towards the same."""
    one, two = (bench.one, 5100), (bench.two, 5100)
    common, other, elsewhere, stranger, late_stranger = remotes = [
        *((bench.A, 110), (bench.A, 111), (bench.B, 110)),
        *((bench.B, 111), (bench.B, 112)),
    ]
    await bench.open(one, two, *remotes)
    first = await sight(bench, one, common)
    apart = port_of(await sight(bench, two, elsewhere))
    collided = port_of(await sight(bench, two, common))
    later = port_of(await sight(bench, two, other))
    again = await sight(bench, one, common)
    seen: Seen = {
        "first keeps": port_of(first) == 5100,
        "second keeps elsewhere": apart == 5100,
        "second keeps at the same": collided == 5100,
        "second, later, as at the same": later == collided,
        "first is undisturbed": again == first,
    }
    if (
        first is not None and port_of(first) == apart == 5100
    ):  # by rule: a small range gives equal ports by chance
        await bench.send(stranger, first)
        await sight(bench, two, elsewhere)
        await bench.send(late_stranger, first)
        await bench.settle()
        at_one, at_two = await bench.heard(one), await bench.heard(two)
        seen["stranger reaches"] = (stranger in at_one, stranger in at_two)
        seen["stranger reaches, after the second has sent"] = (
            late_stranger in at_one,
            late_stranger in at_two,
        )
    return seen


async def filtering(bench: Bench) -> Seen:
    """Who gets in beside the one that was spoken to, and how an answer to a stranger looks."""
    one, spoken_to = (bench.one, 5200), (bench.A, 120)
    strangers = {"other address": (bench.B, 120), "other port": (bench.A, 121)}
    await bench.open(one, spoken_to, *strangers.values())
    view = await sight(bench, one, spoken_to)
    if view is None:
        return {"passes": False}
    seen: Seen = {}
    for name, stranger in strangers.items():
        seen[name] = stranger in await knock(bench, stranger, view, one)
        seen[f"answer to {name} from the same"] = await sight(bench, one, stranger) == view
    seen["the same"] = spoken_to in await knock(bench, spoken_to, view, one)
    return seen


async def hops(bench: Bench) -> Seen:
    """What a first packet opens that ends at the router, or just behind it."""
    seen: Seen = {}
    for ttl in (1, 2):
        one, remote = (bench.one, 5300 + ttl), (bench.A, 130 + ttl)
        await bench.open(one, remote)
        arrived = await knock(bench, one, remote, remote, ttl)
        let_in = await knock(bench, remote, (bench.outside or bench.one, one[1]), one)
        seen[f"ttl {ttl}"] = (len(arrived), remote in let_in)
    return seen


async def poison(bench: Bench) -> Seen:
    """A stranger knocks before anything was sent; then the host speaks to it, and to others."""
    one, stranger, others = (bench.one, 5400), (bench.B, 140), [(bench.A, 140), (bench.B, 141)]
    await bench.open(one, stranger, *others)
    let_in = await knock(bench, stranger, (bench.outside or bench.one, 5400), one)
    ports = [port_of(await sight(bench, one, remote)) for remote in (stranger, *others)]
    return {
        "let in": stranger in let_in,
        "kept": [port == 5400 for port in ports],
        "same as first": [port == ports[0] for port in ports],
    }


async def late_poison(bench: Bench) -> Seen:
    """The same with a mapping that is in use."""
    one, stranger, known, other = (bench.one, 5410), (bench.B, 145), (bench.A, 145), (bench.A, 146)
    await bench.open(one, stranger, known, other)
    await sight(bench, one, known)
    await knock(bench, stranger, (bench.outside or bench.one, 5410), one)
    ports = [port_of(await sight(bench, one, remote)) for remote in (stranger, other, known)]
    return {
        "kept": [port == 5410 for port in ports],
        "same as first": [port == ports[0] for port in ports],
    }


async def hairpin(bench: Bench) -> Seen:
    """One speaks to the outside endpoint of the other, who answers."""
    one, two, remote = (bench.one, 5500), (bench.two, 5501), (bench.A, 150)
    await bench.open(one, two, remote)
    views = [await sight(bench, host, remote) for host in (one, two)]
    if views[0] is None or views[1] is None or views[0] == one:
        return {}
    looks = {one: "inside", two: "inside", views[0]: "outside", views[1]: "outside"}
    seen: Seen = {"there": "nothing", "back": "nothing"}
    for source in await knock(bench, one, views[1], two):
        seen["there"] = looks.get(source, "other")
        for answer in await knock(bench, two, source, one):
            seen["back"] = looks.get(answer, "other")
    return seen


class _Course:
    """The questions about time: each socket speaks to a remote of its own."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._views: dict[Endpoint, Endpoint] = {}
        self.seen: Seen = {}

    def spoken_to(self, socket: Endpoint) -> Endpoint:
        return (self._bench.A, socket[1] - 5000)

    async def begin(self, sockets: list[Endpoint]) -> bool:
        await self._bench.open(*sockets, *map(self.spoken_to, sockets))
        self._bench.start_clock()
        self._views = await self.look(*sockets)
        return len(self._views) == len(sockets)

    async def look(self, *sockets: Endpoint) -> dict[Endpoint, Endpoint]:
        """Have them speak; how each looks."""
        for socket in sockets:
            await self._bench.send(socket, self.spoken_to(socket))
        await self._bench.settle()
        heard = {socket: await self._bench.heard(self.spoken_to(socket)) for socket in sockets}
        return {socket: sources[-1] for socket, sources in heard.items() if sources}

    async def knock(self, knocks: dict[str, tuple[Endpoint, Endpoint]]) -> None:
        """By name: who knocks, at which socket's outside."""
        for remote, socket in knocks.values():
            await self._bench.send(remote, self._views[socket])
        await self._bench.settle()
        for name, (remote, socket) in knocks.items():
            self.seen[name] = remote in await self._bench.heard(socket)

    async def begins_anew(self, sockets: list[Endpoint]) -> bool:
        """Whether one at least has another port now: chance may give a port twice."""
        views = await self.look(*sockets)
        return any(views[socket] != self._views[socket] for socket in sockets)


async def time(bench: Bench) -> Seen:
    """Who still gets in after how long, by what passed meanwhile; `IDLE_S` and `STREAM_S` are the limits."""
    await bench.limit_times(IDLE_S, STREAM_S)
    sockets = [(bench.one, 5600 + number) for number in range(11)]
    both_ways, silent, talker, monologue, address, port, late_address, late_port, *reborn = sockets
    other_address, other_port = (bench.B, 160), (bench.A, 160)
    await bench.open(other_address, other_port)
    course = _Course(bench)
    if not await course.begin(sockets):
        return {"passes": False}
    answer = course.spoken_to
    await bench.until(1.4)
    await course.knock({"answer in time": (answer(both_ways), both_ways)})
    await course.look(talker, monologue)
    await bench.until(2.7)
    await course.knock(
        {
            "answer after an answer": (answer(both_ways), both_ways),
            "answer too late": (answer(silent), silent),
            "answer in time after a repetition": (answer(talker), talker),
        }
    )
    await course.look(monologue)
    course.seen["another port when it begins anew"] = await course.begins_anew(reborn)
    await bench.until(4.2)
    await course.look(monologue)
    await course.knock(
        {
            "another address, remembered": (other_address, address),
            "another port, remembered": (other_port, port),
        }
    )
    await bench.until(5.8)
    await course.knock(
        {
            "another address, forgotten": (other_address, late_address),
            "another port, forgotten": (other_port, late_port),
            "answer where packets went both ways": (answer(both_ways), both_ways),
        }
    )
    await bench.until(6.8)
    await course.knock({"answer to a monologue, too late": (answer(monologue), monologue)})
    await bench.until(7.0)
    return course.seen
