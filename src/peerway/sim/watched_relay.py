"""An honest relay that shows what it carries to whoever watches a run."""

from __future__ import annotations

from collections.abc import Callable

from peerway.core.machine import Rng
from peerway.core.relay.frames import split_frames
from peerway.core.relay.server import RelayServer
from peerway.core.relay.session import PacketsSent, ServerSession
from peerway.sim.hostile_relay import RECV_HEADER, Carried


class WatchedRelay(RelayServer):
    """The relay. `watchers` are shown each packet, and whether its receiver is here."""

    def __init__(self, rng: Rng) -> None:
        super().__init__(rng)
        self.watchers: list[Callable[[Carried, bool], None]] = []

    def _forward(self, sender: ServerSession, sent: PacketsSent, now: float) -> None:
        is_here = sent.destination in self._by_key
        for watcher in self.watchers:
            for frame in split_frames(sent.frames):
                watcher(Carried(sender.key, sent.destination, frame[RECV_HEADER:]), is_here)
        super()._forward(sender, sent, now)
