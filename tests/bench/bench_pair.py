"""One stream between two hosts behind NATs: peerway beside what else there is, in one run."""

import asyncio
import statistics

from tests.bench.arena import arena
from tests.bench.chart import bars
from tests.bench.ends.task import Measured, Met

PEERS = {
    "peerway": "peerway",
    "bare": "QUIC as peerway has it, bare",
    "qh3": "qh3, its own asyncio transport",
    "aioquic": "aioquic",
    "iroh": "iroh (Python)",
    "tcp": "kernel TCP",
}
PACKAGES = ("aioquic", "iroh")
PATIENCE_S = 20.0
GOALS = {"qh3": 2.5, "iroh": 20.0}  # so many times as fast we mean to be


async def measure(peer, place, seconds):
    """What was received and sent, and how the two met."""
    async with place.running(peer, seconds) as ends:
        (met,) = await place.words(ends[1], Met, 1, PATIENCE_S)
        await asyncio.sleep(seconds)
        measured = [await place.words(end, Measured, 1, PATIENCE_S) for end in ends]
    received, sent = sorted((word for (word,) in measured), key=lambda word: word.sent)
    return received, sent, met


async def measure_all(loop, rounds, seconds):
    measured = {peer: [] for peer in PEERS}
    async with arena(loop) as place:
        for number in range(rounds):
            for peer in PEERS:
                measured[peer].append(await measure(peer, place, seconds))
            print(f"round {number + 1}", *(f"{p} {m[-1][0].gigabits:.3f}" for p, m in measured.items()))
    return measured


def bench_pair(results, loop, rounds, seconds):
    print()
    measured = asyncio.run(measure_all(loop, rounds, seconds))
    speeds = {peer: [received.gigabits for received, _, _ in ends] for peer, ends in measured.items()}
    medians = {peer: statistics.median(of_peer) for peer, of_peer in speeds.items()}
    ratios = {peer: medians["peerway"] / median for peer, median in medians.items()}
    for peer, name in PEERS.items():
        received, sent, met = (
            statistics.median(map(one, measured[peer])) for one in (_receiver, _sender, _met)
        )
        print(
            f"{name:32} {medians[peer]:7.3f} Gb/s   peerway {ratios[peer]:6.2f} times   processor, s/GB: "
            f"{sent:.2f} sending, {received:.2f} receiving   first byte {met:.1f} ms"
        )
    record = {
        "bench": "pair",
        "between": "two hosts behind port-restricted NATs; a port forwarded but for peerway",
        "loop": loop,
        "seconds": seconds,
        "gigabits_a_second": speeds,
        "medians": medians,
        "peerway_is_times": ratios,
        "direct_ms": [met.direct_ms for _, _, met in measured["peerway"]],
        "processor_seconds_a_gigabyte": {
            peer: {"sending": [_sender(e) for e in ends], "receiving": [_receiver(e) for e in ends]}
            for peer, ends in measured.items()
        },
        "first_byte_ms": {peer: [_met(e) for e in ends] for peer, ends in measured.items()},
        "packages": PACKAGES,
    }
    named = {PEERS[peer]: of_peer for peer, of_peer in speeds.items()}
    title = f"one stream behind NATs, {rounds} rounds of {seconds:g} s on {loop}: medians"
    results.write(f"pair-{loop}", record, svg=bars(title, "Gb/s", named, PEERS["peerway"]))
    missed = [
        f"{ratios[peer]:.2f} x {peer}, not {goal}" for peer, goal in GOALS.items() if ratios[peer] < goal
    ]
    assert not missed, missed


def _receiver(ends):
    return _cost(ends[0])


def _sender(ends):
    return _cost(ends[1])


def _met(ends):
    return ends[2].first_byte_ms


def _cost(end):
    return (end.user + end.system) / end.size * 1e9
