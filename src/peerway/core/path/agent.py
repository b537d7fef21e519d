"""All paths to one peer: makes pairs of addresses, probes each, and chooses which carries data.

The agent exists from the moment the peer has proven itself by signals. Until one is proven a
relay path counts as usable, because that is how the peer was met; every other path must be
proven first. While data flows all proven paths are watched; when it has ceased for a while nothing
is sent at all, and the next data goes by the relay until a path has proven itself again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from peerway.core.budget import ProbeBudget
from peerway.core.machine import Address, Event, RelayAddress, Rng, UdpAddress, WireError
from peerway.core.path.candidate import Candidate, TargetPolicy
from peerway.core.path.choice import PathKey, PathView
from peerway.core.path.events import (
    CandidateLearned,
    PathEvent,
    PathKind,
    PathLost,
    PathProven,
)
from peerway.core.path.pair import Pair, PairState
from peerway.core.path.pairs import PairTable, is_proven
from peerway.core.path.rounds import (
    OPENER_REACHES,
    ROUND_EVERY_S,
    due_after_a_loss,
    next_series,
    pause_after,
    series_after_a_loss,
)
from peerway.core.path.selection import Selection
from peerway.core.path.uplinks import sends_elsewhere
from peerway.core.path.usage import SILENCE_S, Level, Usage
from peerway.core.probe.message import Lateness, OpenedProbe, Ping, ProbeOpener, ProbeSealer

GATE_S = 1.0  # how long the peer is awaited before pings go out all the same
ROUND_GATE_S = 4.0  # the same in later rounds: after our address changed the relay must be reached anew
STALE_S = 10.0  # the shortest time after which NATs are known to forget a quiet mapping
WATCH_BUSY_S = 0.2
WATCH_QUIET_S = 5.0
RECONSIDER_S = 1.0


@dataclass(frozen=True, slots=True)
class RoundBegun(PathEvent):
    """All that is not proven is probed again; the peer is to be told, so that it does the same."""

    number: int

    def __str__(self) -> str:
        return f"probing again, round {self.number}"


class PeerSilent(PathEvent):
    """While the connection was in use, the peer answered on no path for `SILENCE_S`."""

    def __str__(self) -> str:
        return f"the peer answered on no path for {SILENCE_S:.0f} s"


class PathAgent(PairTable):
    """See the module's text. `sealer` and `opener` hold the probe keys of this exchange."""

    def __init__(
        self,
        sealer: ProbeSealer,
        opener: ProbeOpener,
        policy: TargetPolicy,
        budget: ProbeBudget,
        rng: Rng,
        now: float,
    ) -> None:
        super().__init__(sealer, opener, policy, budget, rng)
        self._lateness = Lateness()
        self._peer_ready = False
        self._round = 0
        self._round_at = now
        self._series_after_loss = -OPENER_REACHES
        self._selection = Selection(now)
        self._usage = Usage(now)
        self._reconsidered_at = now
        self._set_usage_timer(now)
        self._timers.set("round", now + ROUND_EVERY_S, "path: probe again")

    # --- what is known of the addresses

    def set_sockets(self, sockets: tuple[UdpAddress, ...], policy: TargetPolicy, now: float) -> None:
        """Our own sockets and networks, as they are now."""
        self._sockets = sockets
        self._policy = policy
        for key in [key for key in self._pairs if key[0] is not None and key[0] not in sockets]:
            self._vanish(key, "its socket is closed")
        self._make_pairs(now)
        self._finish(now)

    def set_candidates(self, candidates: tuple[Candidate, ...], now: float) -> None:
        """The peer's addresses, all of them: new ones are probed, vanished ones dropped unless proven."""
        known = {candidate.address for candidate in self._candidates}
        self._candidates = candidates
        for candidate in candidates:
            if candidate.address not in known:
                self._events.append(CandidateLearned(candidate))
                self._check(candidate)
        for key, pair in list(self._pairs.items()):
            if not (is_proven(pair) or self._is_named(key[1])):
                self._remove(key)
        self._make_pairs(now)
        if not self._peer_ready and "gate" not in self._timers:
            self._timers.set("gate", now + GATE_S, "path: the peer did not say it is ready")
        self._finish(now)

    def join_round(self, number: int, now: float) -> None:
        """The peer has begun this round of probing; an old one changes nothing."""
        if number > self._round:
            self._begin_round(number, now)
            self._finish(now)

    def peer_ready(self, now: float) -> None:
        """The peer has sent towards our addresses: its firewalls are open, pings may go."""
        self._peer_ready = True
        self._timers.cancel("gate")
        for key, pair in self._pairs.items():
            if pair.state is PairState.CLOSED:
                pair.start(now)
                self._touch(key)
        self._finish(now)

    def add_relay(self, relay: RelayAddress, now: float) -> None:
        """The peer can be reached through this relay."""
        if (None, relay) not in self._pairs and (pair := self._add_relay(relay, self.selected)) is not None:
            pair.start(now)
        self._finish(now)

    def remove_relay(self, url: str, now: float) -> None:
        """The connection to the relay at `url` is gone."""
        for key in list(self._pairs):
            if isinstance(key[1], RelayAddress) and key[1].url == url:
                self._vanish(key, "the connection to the relay is gone")
        self._finish(now)

    def network_changed(self, moved: Collection[int], now: float) -> None:
        """Our addresses changed: whatever is not proven is probed again from the start.

        In the families `moved` nothing that was proven is so any more.
        """
        for key, pair in self._pairs.items():
            if key[0] is not None and sends_elsewhere(key[0], moved):
                pair.moved("our address changed")
                self._touch(key)
        self._begin_series(now)
        self._finish(now)

    def verify(self, now: float) -> None:
        """Watch the paths for a while even when nothing is sent; `PeerSilent` if none is answered.

        Once after each use, or a relay that says so again and again would keep us awake.
        """
        if (before := self._usage.verified(now)) is not None:
            self._used(before, now)

    # --- what arrives and what is sent

    def probe_received(self, data: bytes, local: UdpAddress | None, remote: Address, now: float) -> None:
        """One probe of this exchange; whatever is wrong with it is counted and changes nothing."""
        try:
            probe = self._opener.open(data)
        except WireError as error:
            self._drop(error.reason)
            return
        if local is not None and local not in self._sockets:
            self._drop("probe: by a socket that is closed")  # it had come before
            return
        key = (local, remote)
        pair = self._pairs.get(key)
        if objection := self._objection(probe, pair, now):
            self._drop(objection)
            return
        if isinstance(probe.message, Ping):
            pair = pair or self._learn(key, now)
            if pair is not None:
                pair.ping_received(probe.counter, probe.message, now, is_idle=self._usage.is_idle)
        elif pair is not None:
            pair.pong_received(probe.message, now)
        else:
            self._drop("probe: pong from an address never probed")
        if pair is not None:
            self._touch(key)
        self._finish(now)

    def _learn(self, key: PathKey, now: float) -> Pair | None:
        """A ping that opened came from an address nobody named: the peer's NAT made it up."""
        local, remote = key
        if isinstance(remote, UdpAddress):
            return self._learn_reflexive(local, remote)
        self.add_relay(remote, now)
        return self._pairs.get(key)

    def _objection(self, probe: OpenedProbe, pair: Pair | None, now: float) -> str:
        """Why a probe has no effect, or "".

        A copy may still be the original, overtaken by one that somebody saw and sent from elsewhere. So
        on a pair that was known by then it counts, once; but it makes no address known, and a pair that
        was made anew may have answered it before. For a ping that comes long after it was sent nobody
        waits any more, and somebody may have kept it.
        """
        is_late = self._lateness.is_late(probe.counter, now)
        if is_late and isinstance(probe.message, Ping):
            return "probe: late"
        if probe.is_first and not is_late:
            self._usage.heard(now)
        elif pair is None or probe.counter <= pair.since:
            return "probe: replayed"
        if pair is None and self._usage.is_idle:
            # the peer's data will wake us if it means to use this address
            return "probe: from a new address while nothing is sent"
        return ""

    def data_received(self, local: UdpAddress | None, remote: Address, datagrams: int) -> None:
        """So many datagrams that look like data came by this way.

        Whether they are the peer's only QUIC can tell, and what it takes up it acknowledges. So it
        is what we send that shows a connection to be in use: replays do not keep an idle one awake.
        """
        pair = self._pairs.get((local, remote))
        if pair is not None:
            pair.data_received += datagrams

    def data_sent(self, key: PathKey, datagrams: int, now: float) -> bool:
        """So many datagrams of data went out by this way; True when that woke the agent."""
        pair = self._pairs.get(key)
        if pair is not None:
            pair.data_sent(datagrams)
        before = self._usage.used(now)
        if before is None:
            return False
        self._used(before, now)
        return True

    def ping(self, now: float) -> bool:
        """Ping the peer once on the path in use; False when there is none."""
        if (before := self._usage.used(now)) is not None:
            self._used(before, now)  # which may be another path than the one so far
        selected = self._selection.selected
        if selected is None:
            return False
        self._pairs[selected].ping(now)
        self._touch(selected)
        self._finish(now)
        return True

    @property
    def selected(self) -> PathKey | None:
        """Where data goes now; None when no path is known to work."""
        return self._selection.selected

    @property
    def companion(self) -> PathKey | None:
        """The relay that data takes as well, while the direct path in use loses much."""
        return self._selection.companion

    def selected_view(self) -> PathView | None:
        """What is known of the path in use."""
        selected = self._selection.selected
        return None if selected is None else _view(selected, self._pairs[selected])

    @property
    def selected_at(self) -> float:
        """Since when the path in use is in use."""
        return self._selection.since

    # --- inside

    def _used(self, before: Level, now: float) -> None:
        """The connection is busy, which it was not `before`."""
        if before is Level.IDLE:
            self._wake(now)
        self._set_usage_timer(now)
        self._watch(now)
        self._finish(now)

    def _set_usage_timer(self, now: float) -> None:
        deadline = self._usage.deadline(now)
        if deadline is None:
            self._timers.cancel("usage")
        else:
            self._timers.set("usage", deadline, "path: still in use, and is the peer there?")

    def _wake(self, now: float) -> None:
        """Somebody uses the connection again: what was proven long ago must be proven anew."""
        for key, pair in self._pairs.items():
            if isinstance(key[1], UdpAddress) and now - (pair.answered_at or 0.0) > STALE_S:
                pair.forget(f"nothing was sent on it for {now - (pair.answered_at or 0.0):.0f} s")
                self._touch(key)
            elif pair.state is PairState.PROBING:
                pair.start(now)
                self._touch(key)
        self._begin_series(now)

    def _begin_series(self, now: float) -> None:
        self._settle(now)  # what was lost by then is part of why it begins
        self._begin_round(next_series(self._round), now)

    def _begin_round(self, number: int, now: float) -> None:
        """Probe all that is not proven as in the beginning: openers first, and pings once the peer
        has sent its own.

        By then our routers have forgotten what pings that came too early left there.
        """
        self._round, self._round_at = number, now
        self._peer_ready = False
        for key, pair in self._in_the_peers_order():
            if isinstance(key[1], UdpAddress) and not is_proven(pair):
                pair.forget("another round")
                self._begin(pair, now)
                self._touch(key)
        self._timers.set("gate", now + ROUND_GATE_S, "path: the peer did not say it is ready")
        pause = ROUND_EVERY_S if number < self._series_after_loss else pause_after(number)
        self._timers.set("round", now + pause, "path: probe again")
        self._events.append(RoundBegun(number))

    def _begin(self, pair: Pair, now: float) -> None:
        pair.open(now, self._round)
        if self._peer_ready or pair.kind is PathKind.LAN:
            pair.start(now)

    def _watch(self, now: float) -> None:
        for key, pair in self._pairs.items():
            self._watch_pair(key, pair, now)

    def _watch_pair(self, key: PathKey, pair: Pair, now: float) -> None:
        is_busy = self._usage.level is Level.BUSY
        carries = key == self._selection.selected
        interval = None
        if not self._usage.is_idle:
            interval = WATCH_BUSY_S if is_busy and carries else WATCH_QUIET_S
        pair.watch(interval, carries_data=carries and is_busy, now=now)
        self._touch(key)

    def _timer_expired(self, name: str, now: float) -> None:
        if name == "gate":
            self.peer_ready(now)
        elif name == "usage":
            self._age(now)
        elif name == "round" and not self._usage.is_idle:
            self._next_round(now)
        self._dirty = True

    def _next_round(self, now: float) -> None:
        if all(is_proven(pair) for pair in self._pairs.values()):
            self._timers.set("round", now + ROUND_EVERY_S, "path: probe again")
        else:
            self._begin_round(max(self._round + 1, self._series_after_loss), now)

    def _age(self, now: float) -> None:
        if self._usage.age(now):
            self._watch(now)
        if self._usage.is_silent(now):
            self._events.append(PeerSilent())
        self._set_usage_timer(now)

    def handle_timeout(self, now: float) -> None:
        """Run what is due, then look again which path is best."""
        super().handle_timeout(now)
        self._finish(now)

    def _child_event(self, key: PathKey, event: Event, now: float) -> None:
        self._dirty = True
        self._events.append(event)
        if isinstance(event, PathProven):
            self._watch_pair(key, self._pairs[key], now)
        elif isinstance(event, PathLost):
            self._series_after_loss = series_after_a_loss(self._round, self._series_after_loss)
            self._timers.set("round", due_after_a_loss(now, self._round_at), "path: probe again")
            if not self._is_named(key[1]):
                self._remove(key)  # it outlived its candidate only because it worked

    def _vanish(self, key: PathKey, reason: str) -> None:
        if key == self.selected:
            self._events.append(PathLost(key[1], reason))
        self._remove(key)

    def _finish(self, now: float) -> None:
        self._settle(now)
        if self._dirty or now - self._reconsidered_at >= RECONSIDER_S:
            self._dirty = False
            self._reconsidered_at = now
            selected = self._selection.selected
            self._events.extend(self._selection.update(list(self._views()), now))
            if self._selection.selected != selected:
                self._watch(now)
            self._settle(now)

    def _views(self) -> Iterable[PathView]:
        relays = [pair for pair in self._pairs.values() if pair.kind is PathKind.RELAY]
        believed = not any(map(is_proven, relays))
        for key, pair in self._pairs.items():
            if is_proven(pair) or (believed and pair.kind is PathKind.RELAY):
                yield _view(key, pair)


def _view(key: PathKey, pair: Pair) -> PathView:
    return PathView(key, pair.kind, pair.has_failed, pair.rtt.minimum, pair.loss)
