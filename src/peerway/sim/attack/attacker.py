"""Attackers with a host of their own, who send what nobody asked for, as whoever they like.

An *off-path* attacker knows who talks to whom at which addresses, and nothing of what they say.
An *observer* also sees every packet, either as it sets out for the core, so that what he sends at
once is there first, though the packet itself may be lost; or as it arrives there, too late to
overtake it. He cannot hold anything back. What each of them does is a `Strategy`
(`peerway.sim.attack.strategies` has them): what it thinks of by itself, what it is provoked to, and what
it pours out now and then.
"""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from peerway.core.budget import TokenBucket
from peerway.core.identity import NodeId
from peerway.core.machine import UdpAddress
from peerway.sim.network.host import Host
from peerway.sim.network.tap import Moment, Sighting
from peerway.sim.network.tree import Link
from peerway.sim.network.world import World

MEMORY = 8192  # packets that can be used again; the oldest is forgotten
FLOWS_LIMIT = 1024
FLOOD_EVERY_S = 15.0  # on average
FLOOD_WITHIN_S = 1.0


def same_family(one: UdpAddress, other: UdpAddress) -> bool:
    """Whether both are of IPv4, or both of IPv6."""
    return (":" in one.ip) is (":" in other.ip)


@dataclass(frozen=True, slots=True)
class Forgery:
    """A packet to send, and the source it shall claim."""

    source: UdpAddress
    destination: UdpAddress
    data: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """A packet as an observer sees it."""

    source: UdpAddress
    destination: UdpAddress
    data: bytes


class View:
    """What an attacker knows. `own` are his addresses; `targets` are nodes whose public keys he knows.

    `flows` are pairs of addresses between which packets go; `packets` is empty for who is off the path.
    """

    def __init__(self, own: Sequence[UdpAddress], targets: Sequence[NodeId], rng: random.Random) -> None:
        self.own = own
        self.targets = targets
        self.rng = rng
        self.flows: list[tuple[UdpAddress, UdpAddress]] = []
        self.packets: deque[Seen] = deque(maxlen=MEMORY)
        self._known: dict[tuple[UdpAddress, UdpAddress], None] = {}

    def own_towards(self, destination: UdpAddress) -> UdpAddress:
        """His address of the destination's family, or else any."""
        return next((own for own in self.own if same_family(own, destination)), self.own[0])

    def narrowed(self, flow: tuple[UdpAddress, UdpAddress]) -> View:
        """Who knows of `flow` and nothing else."""
        only = View(self.own, self.targets, self.rng)
        only.flows.append(flow)
        return only

    def note(self, seen: Seen, *, remember: bool) -> None:
        """A packet was seen."""
        flow = (seen.source, seen.destination)
        if flow not in self._known and len(self.flows) < FLOWS_LIMIT:
            self._known[flow] = None
            self.flows.append(flow)
        if remember:
            self.packets.append(seen)


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to attack. `thought_of` is asked again and again, `provoked` about each packet seen, and
    what `poured` brings leaves within a second, every quarter of a minute.

    With neither a flow nor, for who needs one, a packet to start from, nothing is asked of it.
    """

    name: str
    thought_of: Callable[[View], Forgery] | None = None
    provoked: Callable[[View, Seen], Iterator[Forgery]] | None = None
    poured: Callable[[View], Iterator[Forgery]] | None = None
    observes: bool = False

    def __str__(self) -> str:
        return self.name


class Attacker:
    """Attacks from `host` by every strategy given, from now on and `until` some time.

    Sends at most `per_s` packets each second, and at once at most as many, but for floods. `links` are
    those he watches, for the packets that go up, when they are `SENT` or when they have `ARRIVED`.
    `sent` counts by strategy what did leave.
    """

    def __init__(
        self,
        world: World,
        host: Host,
        links: Collection[Link],
        strategies: Sequence[Strategy],
        *,
        targets: Sequence[NodeId] = (),
        per_s: float = 50.0,
        until: float = math.inf,
        watches: Moment = Moment.SENT,
    ) -> None:
        self.sent: Counter[str] = Counter()
        self._world = world
        self._host = host
        early = watches is Moment.SENT
        self._watched = {link.name: link.lower.name if early else link.upper.name for link in links}
        self._watches = watches
        self._strategies = strategies
        self._observes = any(strategy.observes for strategy in strategies)
        self._per_s = per_s
        self._until = until
        self._bucket = TokenBucket(per_s, per_s)
        rng = world.rng(f"{host.name}/attacker")
        port = host.open_udp().port
        own = [UdpAddress(address.ip, port) for address in host.addresses]
        self.view = View(own, targets, rng)
        world.taps.append(self._sighted)
        self._again()
        if any(strategy.poured is not None for strategy in strategies):
            self._flood_later()

    def _again(self) -> None:
        self._world.after(self.view.rng.expovariate(self._per_s), self._tick)

    def _tick(self) -> None:
        if self._world.now >= self._until:
            return
        for strategy in self.view.rng.sample(self._strategies, len(self._strategies)):
            ready = self.view.packets if strategy.observes else self.view.flows
            if strategy.thought_of is not None and ready:
                self._send(strategy, strategy.thought_of(self.view))
                break
        self._again()

    def _flood_later(self) -> None:
        self._world.after(self.view.rng.expovariate(1 / FLOOD_EVERY_S), self._flood)

    def _flood(self) -> None:
        if self._world.now >= self._until:
            return
        for strategy in self._strategies:
            if strategy.poured is not None and self.view.flows:
                for forgery in strategy.poured(self.view):
                    within = self.view.rng.uniform(0.0, FLOOD_WITHIN_S)
                    self._world.after(within, self._emit, strategy, forgery)
        self._flood_later()

    def _sighted(self, sighting: Sighting) -> None:
        if sighting.moment is not self._watches or self._watched.get(sighting.link) != sighting.node:
            return
        seen = Seen(sighting.source, sighting.destination, sighting.data)
        if self._world.now < self._until:
            for strategy in self._strategies:
                if strategy.provoked is not None:
                    for forgery in strategy.provoked(self.view, seen):
                        self._send(strategy, forgery)
        self.view.note(seen, remember=self._observes)

    def _send(self, strategy: Strategy, forgery: Forgery) -> None:
        if self._can_reach(forgery.destination) and self._bucket.take(self._world.now):
            self._emit(strategy, forgery)

    def _emit(self, strategy: Strategy, forgery: Forgery) -> None:
        self.sent[strategy.name] += self._host.inject(forgery.source, forgery.destination, forgery.data)

    def _can_reach(self, destination: UdpAddress) -> bool:
        return any(same_family(own, destination) for own in self.view.own)
