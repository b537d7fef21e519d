"""Packets, and the links they take: late, lost, out of order, twice, or too big.

Each way of a link has a quality of its own, which may be changed while packets are on it.
Losses come alone (`loss`) or in bursts, after Gilbert and Elliott: the link is good or bad, and
each packet may turn it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from peerway.core.machine import UdpAddress
from peerway.sim.network.tap import Loss, Moment, Sighting
from peerway.sim.network.trace import fingerprint
from peerway.sim.network.world import World

if TYPE_CHECKING:
    from peerway.sim.network.tree import Router

HEADER_BYTES_V4 = 28  # IPv4 and UDP
HEADER_BYTES_V6 = 48  # IPv6 and UDP
RETRANSMISSION_S = 0.2  # what a loss costs a byte stream, beside a round trip


class Packet:
    """A UDP packet; routers on its way rewrite it. `size` counts its headers, in bytes.

    `origin` is the host that it truly comes from; when it is `forged`, by an address not its own.

    With `too_big` it is an ICMP error instead (RFC 1191, RFC 4443 section 3.2): whoever sent
    from `destination` to `source` is told that only packets of `too_big` bytes get there.
    """

    __slots__ = (
        "_fingerprint",
        "data",
        "destination",
        "forged",
        "origin",
        "size",
        "source",
        "too_big",
        "ttl",
    )

    def __init__(
        self,
        source: UdpAddress,
        destination: UdpAddress,
        data: bytes,
        ttl: int,
        origin: str = "",
        too_big: int = 0,
        *,
        forged: bool = False,
    ) -> None:
        self.source = source
        self.destination = destination
        self.data = data
        self.ttl = ttl
        self.origin = origin
        self.too_big = too_big
        self.forged = forged
        self.size = len(data) + (HEADER_BYTES_V6 if ":" in destination.ip else HEADER_BYTES_V4)
        self._fingerprint = ""

    def copy(self) -> Packet:
        """Another one just like it."""
        return Packet(
            self.source,
            self.destination,
            self.data,
            self.ttl,
            self.origin,
            self.too_big,
            forged=self.forged,
        )

    def __str__(self) -> str:
        if self.too_big:
            return f"{self.source} > {self.destination} ttl {self.ttl} too big: {self.too_big}"
        if not self._fingerprint:
            self._fingerprint = fingerprint(self.data)
        return f"{self.source} > {self.destination} ttl {self.ttl} len {len(self.data)} {self._fingerprint}"


def lose(world: World, packet: Packet, reason: str, node: str, link: str = "") -> None:
    """The packet gets no further than `node`, or than the `link` to it: that is traced and shown."""
    if world.is_traced:
        world.log(link or node, f"drop {reason} {packet}")
    if world.loss_taps and not packet.too_big:
        loss = Loss(world.now, link or node, node, reason, packet.data, packet.origin)
        for tap in world.loss_taps:
            tap(loss)


class NetworkNode(Protocol):
    """Where a link can end; `is_end`: and a packet's way."""

    name: str
    is_end: bool

    def receive(self, packet: Packet, link: Link) -> None: ...


@dataclass(frozen=True, slots=True)
class Bursts:
    """Losses that come together (Gilbert-Elliott): chances from 0 to 1, drawn for each packet.

    A good link turns bad with `begin`, a bad one good with `end`; while bad it loses `loss`.
    On average a burst lasts 1 / `end` packets.
    """

    begin: float
    end: float
    loss: float = 1.0


@dataclass(frozen=True, slots=True)
class LinkQuality:
    """One way of a link, or both.

    `jitter_s`: up to so much more delay, so packets may overtake each other. `loss`: 0 to 1, each
    packet for itself; `bursts`: losses that come together. `reorder`: this share of packets, 0 to
    1, is held back by `reorder_s`. `duplicate`: this share arrives twice.

    `rate`: bits/s; a packet that would wait behind more than `queue_bytes` is dropped, and without
    a rate none waits.

    `mtu`: bytes of the largest IP packet that passes, None for any. The router before it tells the
    sender so by ICMP, unless `tells_too_big` is false: then it is a black hole. Byte streams fit.
    """

    delay_s: float = 0.01
    jitter_s: float = 0.0
    loss: float = 0.0
    rate: float | None = None
    queue_bytes: int = 262_144
    bursts: Bursts | None = None
    reorder: float = 0.0
    reorder_s: float = 0.05
    duplicate: float = 0.0
    mtu: int | None = None
    tells_too_big: bool = True


DEFAULT_QUALITY = LinkQuality()


class _Way:
    """One way of a link: its quality, and what of the past matters to it."""

    __slots__ = ("bad", "busy_until", "quality", "receiver")

    def __init__(self, quality: LinkQuality, receiver: NetworkNode) -> None:
        self.quality = quality
        self.receiver = receiver
        self.busy_until = 0.0
        self.bad = False

    @property
    def is_dead(self) -> bool:
        """Whether whatever comes is lost, for ever."""
        bursts = self.quality.bursts
        stays_bad = bursts is not None and self.bad and bursts.end <= 0 and bursts.loss >= 1
        return stays_bad or self.quality.loss >= 1

    @property
    def mean_loss(self) -> float:
        """The share that is lost in the long run."""
        loss, bursts = self.quality.loss, self.quality.bursts
        if bursts is None or not bursts.begin:
            return loss
        bad = bursts.begin / (bursts.begin + bursts.end)
        return 1 - (1 - loss) * (1 - bad * bursts.loss)


class Link:
    """Joins `lower`, a host or router, to the router `upper`. While `up` is false it loses everything.

    `quality` is that of both ways, unless `downward` has another for the way from `upper` to `lower`.
    """

    def __init__(
        self,
        world: World,
        lower: NetworkNode,
        upper: Router,
        quality: LinkQuality,
        downward: LinkQuality | None = None,
    ) -> None:
        self.lower = lower
        self.upper = upper
        self.up = True
        self.name = f"{lower.name}-{upper.name}"
        self._world = world
        self._rng = world.rng(f"link {self.name}")
        self._upwards = _Way(quality, upper)
        self._downwards = _Way(downward or quality, lower)

    @property
    def quality(self) -> LinkQuality:
        """The quality of the way up; setting it sets both ways."""
        return self._upwards.quality

    @quality.setter
    def quality(self, quality: LinkQuality) -> None:
        self.set_quality(quality)

    @property
    def downward(self) -> LinkQuality:
        """The quality of the way from `upper` to `lower`."""
        return self._downwards.quality

    def set_quality(self, upward: LinkQuality, downward: LinkQuality | None = None) -> None:
        """From now on the ways are like this; both the same where `downward` is None."""
        self._upwards.quality = upward
        self._downwards.quality = downward or upward

    def carry(self, packet: Packet, sender: NetworkNode) -> int:
        """Bring the packet to the other end, if it gets there.

        The MTU where the packet is larger and its sender is to be told, else 0.
        """
        way = self._upwards if sender is self.lower else self._downwards
        quality = way.quality
        if self._world.taps or (sender.is_end and self._world.end_taps):
            self._show(packet, Moment.SENT, sender)
        if quality.mtu is not None and packet.size > quality.mtu and self.up:
            self._lose("too big", packet, way)
            return quality.mtu if quality.tells_too_big else 0
        delay = self._delay(packet.size, way)
        if isinstance(delay, str):
            self._lose(delay, packet, way)
            return 0
        self._world.after(delay, self._deliver, packet, way.receiver)
        if quality.duplicate and self._rng.random() < quality.duplicate:
            self._world.after(delay, self._deliver, packet.copy(), way.receiver)
        return 0

    def _lose(self, reason: str, packet: Packet, way: _Way) -> None:
        lose(self._world, packet, reason, way.receiver.name, self.name)

    def _deliver(self, packet: Packet, receiver: NetworkNode) -> None:
        if self._world.taps or (receiver.is_end and self._world.end_taps):
            self._show(packet, Moment.ARRIVED, receiver)
        receiver.receive(packet, self)

    def _show(self, packet: Packet, moment: Moment, node: NetworkNode) -> None:
        if packet.too_big:
            return
        sighting = Sighting(
            self._world.now,
            moment,
            self.name,
            node.name,
            packet.source,
            packet.destination,
            packet.data,
            packet.ttl,
            packet.origin,
            packet.forged,
        )
        for tap in self._world.taps:
            tap(sighting)
        if node.is_end:
            for tap in self._world.end_taps:
                tap(sighting)

    def _delay(self, size: int, way: _Way) -> float | str:
        quality, now = way.quality, self._world.now
        if not self.up:
            return "link down"
        if loss := self._loss(way):
            return loss
        delay = quality.delay_s
        if quality.jitter_s:
            delay += self._rng.uniform(0.0, quality.jitter_s)
        if quality.reorder and self._rng.random() < quality.reorder:
            delay += quality.reorder_s
        if quality.rate is not None:
            waiting = max(way.busy_until - now, 0.0)
            if waiting * quality.rate / 8 > quality.queue_bytes:
                return "queue full"
            way.busy_until = now + waiting + size * 8 / quality.rate
            delay += way.busy_until - now
        return delay

    def _loss(self, way: _Way) -> str:
        """How what is sent now is lost; "" when it is not."""
        quality = way.quality
        if quality.loss and self._rng.random() < quality.loss:
            return "lost"
        if quality.bursts is not None and self._lost_in_burst(quality.bursts, way):
            return "lost in a burst"
        return ""

    def _lost_in_burst(self, bursts: Bursts, way: _Way) -> bool:
        turns = self._rng.random() < (bursts.end if way.bad else bursts.begin)
        way.bad = way.bad is not turns
        return way.bad and self._rng.random() < bursts.loss

    @property
    def is_cut(self) -> bool:
        """Whether one way at least carries nothing at all."""
        return not self.up or self._upwards.is_dead or self._downwards.is_dead

    @property
    def loses(self) -> bool:
        """Whether it loses byte streams' segments on the way up or down."""
        return self._upwards.mean_loss > 0 or self._downwards.mean_loss > 0

    def stream_delay(self, upwards: bool) -> float | None:
        """Seconds for a piece of a byte stream, its retransmissions included.

        None while nothing gets there, or no acknowledgement back.
        """
        if self.is_cut:
            return None
        way = self._upwards if upwards else self._downwards
        delay, mean_loss = way.quality.delay_s, way.mean_loss
        is_lost = bool(self._loss(way))
        while is_lost:
            if mean_loss >= 1:
                return None
            delay += RETRANSMISSION_S + 2 * way.quality.delay_s
            is_lost = self._rng.random() < mean_loss  # a burst is over by then, or another has begun
        return delay
