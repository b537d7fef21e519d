"""A relay that does to packets whatever a relay can do: it sees all, and it says who sent what.

It is the honest one, with each packet taken out of the way it goes and subjected to `Mischief`.
What it holds back waits for the machine's own deadline, like everything that takes time.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from dataclasses import dataclass, replace

from peerway.core.relay.frames import KEY_SIZE, FrameType, build_packets, split_frames
from peerway.core.relay.limits import RelayLimits
from peerway.core.relay.server import RelayServer
from peerway.core.relay.session import PacketsSent, ServerSession
from peerway.sim.attack.damage import damaged

MEMORY = 4096  # packets that may be replayed; the oldest is forgotten
HELD_LIMIT = 4096  # packets held back; beyond it they go at once
REORDER_S = 0.05
RECV_HEADER = 5 + KEY_SIZE  # type, length, whom it comes from


@dataclass(frozen=True, slots=True)
class Mischief:
    """What a relay does to a packet: for each deed the chance, 0 to 1, that it does so.

    `drop`, `delay` (by up to `delay_s`), `reorder` (by up to 50 ms) and `lie` (another client, or one
    that never was, is named as the sender) concern the packet itself. `duplicate`, `alter`, `reflect` and
    `replay` send something beside it: the same again; a changed copy; a copy back to the sender;
    something that was sent before. `deny` tells the sender that the receiver is not here.
    """

    drop: float = 0.0
    delay: float = 0.0
    delay_s: float = 2.0
    reorder: float = 0.0
    lie: float = 0.0
    duplicate: float = 0.0
    alter: float = 0.0
    reflect: float = 0.0
    replay: float = 0.0
    deny: float = 0.0


@dataclass(frozen=True, slots=True)
class Carried:
    """A packet, and the keys of the clients that it came from and was for."""

    source: bytes
    destination: bytes
    packet: bytes


class HostileRelay(RelayServer):
    """A relay of bad `mischief`, which may be changed at any time.

    `rng` is for the relay, `chance` for its deeds. `seen` holds what it was given to carry, `deeds`
    counts what it did.
    """

    def __init__(
        self,
        rng: random.Random,
        chance: random.Random,
        mischief: Mischief,
        limits: RelayLimits | None = None,
    ) -> None:
        super().__init__(rng, limits)
        self.mischief = mischief
        self.seen: deque[Carried] = deque(maxlen=MEMORY)
        self.deeds: Counter[str] = Counter()
        self._chance = chance
        self._held: list[tuple[float, int, Carried]] = []
        self._held_ever = 0

    def say(self, carried: Carried, now: float) -> None:
        """Deliver something on our own account."""
        self._deliver(carried)
        self._settle(now)

    def _forward(self, sender: ServerSession, sent: PacketsSent, now: float) -> None:
        for frame in split_frames(sent.frames):
            carried = Carried(sender.key, sent.destination, frame[RECV_HEADER:])
            self._carry(sender, carried, now)
            self._add_mischief(carried)
            self.seen.append(carried)
            if self._does("deny", self.mischief.deny):
                sender.not_here(sent.destination, now)
                self._touch(sender.stream)

    def _carry(self, sender: ServerSession, carried: Carried, now: float) -> None:
        """The packet itself."""
        mischief = self.mischief
        if self._does("drop", mischief.drop):
            return
        if self._does("lie", mischief.lie):
            carried = replace(carried, source=self._somebody_else(carried))
        if self._does("delay", mischief.delay):
            self._hold(carried, now + self._chance.uniform(0.0, mischief.delay_s))
        elif self._does("reorder", mischief.reorder):
            self._hold(carried, now + self._chance.uniform(0.0, REORDER_S))
        elif carried.source == sender.key:
            super()._forward(sender, PacketsSent(carried.destination, _frame(carried), 1), now)
        else:
            self._deliver(carried)

    def _add_mischief(self, carried: Carried) -> None:
        """What goes beside the packet."""
        mischief = self.mischief
        if self._does("duplicate", mischief.duplicate):
            self._deliver(carried)
        if self._does("alter", mischief.alter):
            self._deliver(replace(carried, packet=damaged(carried.packet, self._chance)))
        if self._does("reflect", mischief.reflect):
            claimed = self._chance.choice((carried.source, carried.destination))
            self._deliver(Carried(claimed, carried.source, carried.packet))
        if self.seen and self._does("replay", mischief.replay):
            self._deliver(self._chance.choice(self.seen))

    def _does(self, deed: str, chance: float) -> bool:
        done = self._chance.random() < chance
        self.deeds[deed] += done
        return done

    def _somebody_else(self, carried: Carried) -> bytes:
        others = [key for key in self._by_key if key not in (carried.source, carried.destination)]
        return self._chance.choice([*others, carried.destination, self._chance.randbytes(KEY_SIZE)])

    def _deliver(self, carried: Carried) -> None:
        receiver = self._by_key.get(carried.destination)
        if receiver is not None:
            receiver.deliver(_frame(carried))
            self._touch(receiver.stream)

    def _hold(self, carried: Carried, until: float) -> None:
        if len(self._held) >= HELD_LIMIT:
            self._deliver(carried)
            return
        self._held_ever += 1
        heapq.heappush(self._held, (until, self._held_ever, carried))
        self._arm_held()

    def _arm_held(self) -> None:
        if self._held:
            self._timers.set("held", self._held[0][0], "hostile relay: a packet held back")

    def _timer_expired(self, name: str, now: float) -> None:
        while self._held and self._held[0][0] <= now:
            self._deliver(heapq.heappop(self._held)[2])
        self._arm_held()


def _frame(carried: Carried) -> bytes:
    return build_packets(FrameType.RECV_PACKET, carried.source, (carried.packet,))
