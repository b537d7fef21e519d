"""Which outside port a NAT gives to a new socket, judged by what it gave to several (RFC 4787 4.2).

Samples come in the order in which the sockets first sent, all to one and the same place: one mapping each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from peerway.core.nat import PortAllocation

MIN_SAMPLES = 3
LARGEST_STEP = 64  # others behind the NAT take ports in between; past this we speak of no order


@dataclass(frozen=True, slots=True)
class Allocation:
    """What was seen: `kind` None while too little was. `step` from one port to the next where they
    follow in sequence. `lowest` and `highest` are the outside ports seen, 0 where none was."""

    kind: PortAllocation | None = None
    step: int | None = None
    lowest: int = 0
    highest: int = 0
    samples: int = 0


def classify(samples: Sequence[tuple[int, int]]) -> Allocation:
    """Judge inside and outside ports.

    Half of them kept is enough for "preserving": who wants a port that is taken gets another.
    """
    outside = [port for _, port in samples]
    if not outside:
        return Allocation()
    lowest, highest, count = min(outside), max(outside), len(outside)
    if count < MIN_SAMPLES:
        return Allocation(None, None, lowest, highest, count)
    if 2 * sum(inside == port for inside, port in samples) >= count:
        return Allocation(PortAllocation.PRESERVING, None, lowest, highest, count)
    step = _step(outside)
    kind = PortAllocation.RANDOM if step is None else PortAllocation.SEQUENTIAL
    return Allocation(kind, step, lowest, highest, count)


def _step(ports: Sequence[int]) -> int | None:
    """The usual distance from one port to the next, None where they follow no order.

    One break is allowed: a range that has come to its end, a packet that overtook another.
    """
    steps = [after - before for before, after in pairwise(ports)]
    upwards = [step for step in steps if 0 < step <= LARGEST_STEP]
    downwards = [step for step in steps if -LARGEST_STEP <= step < 0]
    orderly = max(upwards, downwards, key=len)
    if len(orderly) < max(len(steps) - 1, 2):
        return None
    ((step, _),) = Counter(sorted(orderly, key=abs)).most_common(1)
    return step
