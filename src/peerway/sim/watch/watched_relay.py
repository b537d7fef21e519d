"""Relays that show what they are given to carry to whoever watches a run."""

from __future__ import annotations

from collections.abc import Callable

from peerway.core.relay.frames import split_frames
from peerway.core.relay.server import RelayServer
from peerway.core.relay.session import PacketsSent, ServerSession
from peerway.sim.attack.hostile_relay import RECV_HEADER, Carried, HostileRelay

Watcher = Callable[[Carried, bool], None]


class WatchedRelay(RelayServer):
    """An honest relay. `watchers` are shown each packet, and whether its receiver is here."""

    watchers: tuple[Watcher, ...] = ()

    def _forward(self, sender: ServerSession, sent: PacketsSent, now: float) -> None:
        is_here = sent.destination in self._by_key
        for watcher in self.watchers:
            for frame in split_frames(sent.frames):
                watcher(Carried(sender.key, sent.destination, frame[RECV_HEADER:]), is_here)
        super()._forward(sender, sent, now)


class WatchedHostileRelay(WatchedRelay, HostileRelay):
    """A hostile one that is watched: what it is given, not what it makes of it."""
