"""A world: virtual time, chance, names, and the record of what happened.

Time stands still while something happens and then jumps to whatever happens next, so an
hour of waiting costs nothing. What is due at the same moment happens in the order in which
it was scheduled. Chance is a generator for each thing that draws it, seeded by the world's
seed and the thing's name: one more link does not change the luck of the others. So the
same seed gives the same trace, byte for byte.
"""

from __future__ import annotations

import heapq
import ipaddress
import random
from collections.abc import Callable

from peerway.sim.network.tap import LossTap, Tap
from peerway.sim.network.trace import Trace

_Entry = tuple[float, int, Callable[..., None], tuple[object, ...]]


class World:
    """The clock, the chance and the memory that everything in a simulation shares.

    `names` is the whole of its name system: host name to addresses. `taps` see every UDP packet
    at both ends of every link, `end_taps` only where one leaves a host or comes to one, `loss_taps`
    each that gets no further. Without `is_traced` nothing is recorded, which is faster.
    """

    def __init__(self, seed: int, is_traced: bool = True) -> None:
        self.seed = seed
        self.now = 0.0
        self.trace = Trace()
        self.is_traced = is_traced
        self.names: dict[str, tuple[str, ...]] = {}
        self.taps: list[Tap] = []
        self.end_taps: list[Tap] = []
        self.loss_taps: list[LossTap] = []
        self._heap: list[_Entry] = []
        self._sequence = 0

    def rng(self, name: str) -> random.Random:
        """A generator of its own for the thing called `name`."""
        return random.Random(f"{self.seed}/{name}")

    def resolve(self, name: str) -> tuple[str, ...]:
        """The addresses of a host by name, or of one that is an address itself; () for an unknown name."""
        try:
            return (str(ipaddress.ip_address(name)),)
        except ValueError:
            return self.names.get(name, ())

    def at(self, time: float, action: Callable[..., None], *arguments: object) -> None:
        """Call `action(*arguments)` when the clock reads `time`, or as soon as it can be if that is past."""
        self._sequence += 1
        heapq.heappush(self._heap, (time if time > self.now else self.now, self._sequence, action, arguments))

    def after(self, seconds: float, action: Callable[..., None], *arguments: object) -> None:
        """Call `action(*arguments)` in `seconds`; 0 is after all that is due now."""
        self.at(self.now + seconds, action, *arguments)

    def count(self) -> int:
        """A number that was never given before."""
        self._sequence += 1
        return self._sequence

    def log(self, where: str, what: str) -> None:
        """Add a line to the trace. Whoever must build `what` first asks whether the world `is_traced`."""
        if self.is_traced:
            self.trace.add(f"{self.now:.6f} {where} {what}")

    def run_until(self, time: float) -> None:
        """Let everything happen that is due up to and including `time`."""
        heap = self._heap
        while heap and heap[0][0] <= time:
            self.now, _, action, arguments = heapq.heappop(heap)
            action(*arguments)
        self.now = max(self.now, time)

    def run_for(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.run_until(self.now + seconds)

    def run_while(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Run until `condition()` is false; whether it became so within `limit_s` seconds."""
        heap, end = self._heap, self.now + limit_s
        while condition():
            if not heap or heap[0][0] > end:
                self.now = max(self.now, end)
                return not condition()
            self.now, _, action, arguments = heapq.heappop(heap)
            action(*arguments)
        return True

    def trace_digest(self) -> str:
        """SHA-256, in hexadecimal, of every line of the trace so far."""
        return self.trace.digest()
