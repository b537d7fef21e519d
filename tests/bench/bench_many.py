"""Many connections at once, many small streams, and how soon two hosts behind NATs meet."""

import asyncio
import contextlib
import statistics

from tests.bench.arena import ROUTERS, arena
from tests.bench.ends.task import Answered, Measured, Met

from peerway.lab.matrix import run_matrix

PATIENCE_S = 30.0
CONNECTIONS = 10
STREAMS_A_SECOND = 1000
MEETINGS = 20


def at_share(values, share):
    """The value that such a share of `values` does not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


async def connections_at_once(loop, seconds):
    async with arena(loop) as place, place.running("peerway", seconds, connections=CONNECTIONS) as ends:
        await place.words(ends[1], Met, CONNECTIONS, PATIENCE_S)
        await asyncio.sleep(seconds)
        (received,) = await place.words(ends[0], Measured, 1, PATIENCE_S)
        sent = await place.words(ends[1], Measured, CONNECTIONS, PATIENCE_S)
    return received, sent


def bench_connections_at_once(results, loop, rounds, seconds):
    measured = [asyncio.run(connections_at_once(loop, seconds)) for _ in range(rounds)]
    together = [received.gigabits for received, _ in measured]
    shares = [[one.gigabits for one in sent] for _, sent in measured]
    record = {"bench": "connections", "connections": CONNECTIONS, "loop": loop, "seconds": seconds}
    print(f"\n{CONNECTIONS} connections into one node: {statistics.median(together):.3f} Gb/s together")
    results.write(f"connections-{loop}", record | {"gigabits_a_second": together, "of_each": shares})


async def questions(loop, seconds):
    rate = STREAMS_A_SECOND
    async with arena(loop) as place, place.running("peerway", seconds, streams_a_second=rate) as ends:
        (answered,) = await place.words(ends[1], Answered, 1, seconds + PATIENCE_S)
    return answered


def bench_small_streams(results, loop, rounds, seconds):
    answered = [asyncio.run(questions(loop, seconds)) for _ in range(rounds)]
    p50 = [statistics.median(one.round_trips_ms) for one in answered]
    p99 = [at_share(one.round_trips_ms, 0.99) for one in answered]
    behind = [one.behind_ms for one in answered]
    print(
        f"\n{STREAMS_A_SECOND} streams a second, 100 bytes there and 1,000 back: "
        f"p50 {statistics.median(p50):.2f} ms, p99 {statistics.median(p99):.2f} ms; "
        f"the last began {statistics.median(behind):.1f} ms late"
    )
    record = {
        "bench": "small-streams",
        "streams_a_second": STREAMS_A_SECOND,
        "loop": loop,
        "seconds": seconds,
    }
    results.write(
        f"small-streams-{loop}", record | {"p50_ms": p50, "p99_ms": p99, "last_began_late_ms": behind}
    )
    assert statistics.median(behind) < 1000 * seconds, "it does not keep up"


async def meetings():
    async with contextlib.aclosing(run_matrix([(ROUTERS, ROUTERS)], MEETINGS)) as records:
        return [record async for record in records]


def bench_meeting(results):
    records = asyncio.run(meetings())
    first, direct = ([getattr(record, name) for record in records] for name in ("first_byte_ms", "direct_ms"))
    assert all(record.as_expected for record in records), records
    print()
    for what, times in (("first byte", first), ("direct", direct)):
        print(f"{what}: p50 {statistics.median(times):.1f} ms, p95 {at_share(times, 0.95):.1f} ms")
    results.write("meeting", {"bench": "meeting", "first_byte_ms": first, "direct_ms": direct})
