"""One pair of addresses, probed until it is known to work, then watched.

    CLOSED    nothing but a first ping of low TTL may go: it opens our own NAT without
              reaching theirs, where a stranger's packet could leave a trace that spoils
              our later one
    PROBING   pings go by a schedule, which ends; the path may or may not work
    PROVEN    a full-size ping of ours was answered and a ping of theirs arrived
    DOUBTED   was proven, and expected answers stay out; full-size ones count again

How many missed answers make a doubt follows from the loss seen so far: as many as would
be missed by chance less than once in a thousand. So a lossy path does not flap, and a
clean one is left within a few round trips.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto

from peerway.core.budget import ProbeBudget
from peerway.core.machine import Address, Leaf, Rng, Transmit, UdpAddress
from peerway.core.path.events import (
    DataConfirmed,
    PathDoubted,
    PathKind,
    PathLost,
    PathProven,
    PathRecovered,
    PingAnswered,
    ProbeAnswered,
    ProbingStarted,
)
from peerway.core.path.rounds import opener_ttls
from peerway.core.probe.message import (
    FULL_SIZE,
    TOKEN_SIZE,
    Ping,
    Pong,
    ProbeSealer,
    ReplayWindow,
    observed_address,
)

BUDGET_RETRY_S = 0.1
PATIENCE_FLOOR_S = 0.1
PATIENCE_UNKNOWN_S = 1.0
PATIENCE_CAP_S = 3.0
RTT_WINDOW_S = 15.0
CHANCE_OF_FALSE_DOUBT = 0.001
DOUBT_MISSES_MIN, DOUBT_MISSES_MAX = 3, 30
LOST_MISSES_MIN = 20  # data has moved at the doubt already: giving the path up is in no hurry
LOSS_GAIN = 1 / 16
LOSS_INITIAL, LOSS_FLOOR = 0.02, 0.005
MAX_OUTSTANDING = 16
BLACK_HOLE_DATAGRAMS = 16  # sent, and none of them arrived, while pings did
BLACK_HOLE_S = 1.0  # after so long fewer are enough: as many as chance would not lose
DISTRUST_FIRST_S, DISTRUST_CAP_S = 10.0, 640.0  # what was a black hole is proven again only then
TRIGGERED_GAP_S = 0.04  # between pings that theirs give rise to
SCHEDULES_PER_ROUND = 2  # two NATs may show a new port to each ping: then each has reason to ping for ever
RELAY_RETRY_S = 5.0  # a relay is waited for; an address is left alone until the next round
_SCHEDULE = ((0.05, 4), (0.1, 4), (0.2, 6), (0.4, 4), (1.0, 10))


class PairState(Enum):
    """See the module's text."""

    CLOSED = auto()
    PROBING = auto()
    PROVEN = auto()
    DOUBTED = auto()


@dataclass(slots=True)
class _Outstanding:
    sent_at: float
    size: int
    data_sent: int
    asked_for: bool = False


@dataclass(frozen=True, slots=True)
class _Missing:
    """The first answer in a row that shows data missing: when it came, and what had been sent by its ping."""

    at: float
    data_sent: int


def probe_delay(sent: int) -> float | None:
    """Seconds between the `sent`-th unanswered ping and the next, None after the last: 13 s in all."""
    for delay, times in _SCHEDULE:
        if sent < times:
            return delay
        sent -= times
    return None


class RoundTrip:
    """The round trip of a path: least of the last half minute, and what to expect of the next."""

    def __init__(self) -> None:
        self.smoothed: float | None = None
        self._variation = 0.0
        self._window_start = 0.0
        self._current = math.inf
        self._previous = math.inf

    @property
    def minimum(self) -> float | None:
        """Seconds; its least value is the path's own, what is above it is our own load."""
        least = min(self._current, self._previous)
        return None if least == math.inf else least

    @property
    def patience(self) -> float:
        """Seconds after which an answer is overdue (RFC 6298's shape, with our floor)."""
        if self.smoothed is None:
            return PATIENCE_UNKNOWN_S
        expected = max(1.5 * self.smoothed, self.smoothed + 4 * self._variation)
        return min(max(expected, PATIENCE_FLOOR_S), PATIENCE_CAP_S)

    def sample(self, value: float, now: float) -> None:
        """One measured round trip."""
        if now - self._window_start > RTT_WINDOW_S:
            self._previous = self._current if now - self._window_start < 2 * RTT_WINDOW_S else math.inf
            self._current = math.inf
            self._window_start = now
        self._current = min(self._current, value)
        if self.smoothed is None:
            self.smoothed, self._variation = value, value / 2
        else:
            self._variation += (abs(value - self.smoothed) - self._variation) / 4
            self.smoothed += (value - self.smoothed) / 8


class Pair(Leaf):
    """The pair (`local`, `remote`); `local` is None for a relay.

    `since`: the counter of the newest probe when the pair was made. What it was sent before it does not know.
    """

    def __init__(
        self,
        local: UdpAddress | None,
        remote: Address,
        kind: PathKind,
        sealer: ProbeSealer,
        budget: ProbeBudget,
        rng: Rng,
        since: int = 0,
    ) -> None:
        super().__init__()
        self.since = since
        self.local = local
        self.remote = remote
        self.kind = kind
        self.state = PairState.CLOSED
        self.rtt = RoundTrip()
        self.loss = LOSS_INITIAL
        self.answered_at: float | None = None
        self.data_received = 0
        self.has_failed = False
        self._sealer = sealer
        self._budget = budget
        self._rng = rng
        self._outstanding: dict[bytes, _Outstanding] = {}
        self._pings_seen = ReplayWindow()
        self._answered = False
        self._answered_full = False
        self._heard = False
        self._sent = 0
        self._begun = 0
        self._sent_at = -math.inf
        self._misses = 0
        self._in_a_row = 0
        self._interval: float | None = None
        self._carries_data = False
        self._data_sent = 0
        self._data_sent_at_report = 0
        self._data_reported = 0
        self._data_confirmed = False
        self._missing: _Missing | None = None
        self._distrust_s = DISTRUST_FIRST_S
        self._distrusted_until = -math.inf

    # --- what the agent asks for

    def open(self, now: float, round_number: int = 0) -> None:
        """Send the first ping so that it dies on the way: only NATs of our own shall see it."""
        if self.state is not PairState.CLOSED or self.kind is not PathKind.DIRECT:
            return
        for ttl in opener_ttls(round_number):
            if self._budget.allows(self.remote, now):
                self._transmit(0, now, ttl=ttl)

    def start(self, now: float) -> None:
        """Begin to probe, or begin the schedule again."""
        if self.state is PairState.CLOSED:
            self.state = PairState.PROBING
            self._events.append(ProbingStarted(self.local, self.remote))
        if self.state is PairState.PROBING:
            self._sent = 0
            self._begun += 1
            self._timers.set("ping", now, "probe: start")

    def watch(self, interval: float | None, *, carries_data: bool, now: float) -> None:
        """Ping a proven path every `interval` seconds; None: ping no path any more, proven or not."""
        self._carries_data = carries_data
        before, self._interval = self._interval, interval
        if interval is None:
            self._timers.cancel("ping")
            self._timers.cancel("overdue")
            self._outstanding.clear()
        elif interval != before and self.state in (PairState.PROVEN, PairState.DOUBTED):
            self._timers.set("ping", now, "watch: interval changed")

    def ping(self, now: float) -> None:
        """Ping once because somebody asks; `PingAnswered` tells."""
        self._transmit(0, now).asked_for = True

    def lose(self, reason: str, now: float) -> None:
        """The path is gone; probe it from the beginning."""
        self.forget(reason)
        self.start(now)

    def moved(self, reason: str) -> None:
        """What we send comes from elsewhere now: to the same address it is another path."""
        self.forget(reason)
        self.rtt = RoundTrip()
        self.loss = LOSS_INITIAL
        self._distrust_s = DISTRUST_FIRST_S
        self._distrusted_until = -math.inf

    def forget(self, reason: str) -> None:
        """Nothing is proven of the path any more, and nothing is sent on it."""
        was_proven = self.state in (PairState.PROVEN, PairState.DOUBTED)
        self.state = PairState.CLOSED
        self.has_failed |= was_proven
        self._answered = self._answered_full = self._heard = self._data_confirmed = False
        self._misses = self._in_a_row = self._begun = 0
        self._outstanding.clear()
        self._timers.cancel("overdue")
        self._timers.cancel("ping")
        if was_proven:
            self._events.append(PathLost(self.remote, reason))

    def data_sent(self, datagrams: int) -> None:
        """So many datagrams of data went out on this path."""
        self._data_sent += datagrams

    # --- what arrives

    def ping_received(self, counter: int, ping: Ping, now: float, *, is_idle: bool = False) -> None:
        """Answer to where it came from, once; a first ping is a reason to ping back, unless all is idle."""
        if not self._pings_seen.admit(counter):
            self._drop("probe: replayed")
            return
        pong = Pong(ping.token, self.data_received, observed_address(self.remote))
        self._transmits.append(Transmit((self._sealer.seal(pong)[1],), self.remote, self.local))
        self._heard = True
        is_over = self.state is PairState.PROBING and "ping" not in self._timers
        if self.state is PairState.CLOSED or (is_over and self._begun < SCHEDULES_PER_ROUND):
            if not is_idle:
                self.start(now)
        elif self.state is PairState.PROBING and not is_over and now - self._sent_at >= TRIGGERED_GAP_S:
            self._timers.set("ping", now, "probe: theirs arrived")
        self._prove(now)

    def pong_received(self, pong: Pong, now: float) -> None:
        """The answer to a ping of ours on this very pair; any other is dropped."""
        sent = self._outstanding.pop(pong.token, None)
        if sent is None:
            self._drop("probe: pong without a ping on its path")
            return
        self.answered_at = now
        self.rtt.sample(now - sent.sent_at, now)
        if self.state is PairState.PROBING and self._answered:
            # before the first answer a ping may have met a closed firewall; after it, loss is loss
            self._misses += sum(other.sent_at < sent.sent_at for other in self._outstanding.values())
        self._count_loss()
        if sent.size >= FULL_SIZE or self.state is not PairState.DOUBTED:
            self._in_a_row += 1
        if not self._answered:
            self._answered = True
            self._sent = 0
            self._events.append(ProbeAnswered(self.remote, now - sent.sent_at, pong.observed))
        if sent.asked_for:
            self._events.append(PingAnswered(self.remote, self.kind, now - sent.sent_at))
        if sent.size >= FULL_SIZE:
            self._answered_full = True
        self._data_report(pong, sent, now)
        self._rearm_overdue(sent, now)
        if self.state is PairState.PROBING:
            if not self._answered_full:
                self._timers.set("ping", now, "probe: full size")
            self._prove(now)
        elif self.state is PairState.DOUBTED and self._in_a_row >= 2:
            self.state = PairState.PROVEN
            self.has_failed = False
            self._events.append(PathRecovered(self.remote))
        elif self.state is PairState.DOUBTED:
            self._timers.set("ping", now, "doubt: one answer is not enough")

    def _count_loss(self) -> None:
        # misses count once an answer ends them: a path that just died must not look lossy,
        # or the doubt would wait the longer the more is missed
        for _ in range(self._misses):
            self.loss += (1 - self.loss) * LOSS_GAIN
        self.loss -= self.loss * LOSS_GAIN
        self._misses = 0

    def _prove(self, now: float) -> None:
        if self.state is not PairState.PROBING or not (self._answered_full and self._heard):
            return
        if now < self._distrusted_until:
            return
        self.state = PairState.PROVEN
        self.has_failed = False
        self._events.append(PathProven(self.remote, self.kind, self.rtt.minimum or 0.0))
        if self._interval is None:
            self._timers.cancel("ping")
        else:
            self._timers.set("ping", now + self._interval, "watch")

    def _data_report(self, pong: Pong, sent: _Outstanding, now: float) -> None:
        arrived = pong.data_received - self._data_reported
        self._data_reported = pong.data_received
        if arrived > 0:
            self._data_sent_at_report = sent.data_sent
            self._missing = None
            self._distrust_s = DISTRUST_FIRST_S
            if not self._data_confirmed and self.state is PairState.PROVEN:
                self._data_confirmed = True
                self._events.append(DataConfirmed(self.remote))
        elif arrived < 0 or self.state is not PairState.PROVEN:
            self._data_sent_at_report = sent.data_sent
            self._missing = None
        elif sent.data_sent > self._data_sent_at_report:
            self._data_missing(sent, now)
            if self.state is not PairState.PROVEN:
                self._data_sent_at_report = sent.data_sent

    def _data_missing(self, sent: _Outstanding, now: float) -> None:
        """The peer answers, and has seen nothing of what we sent: some pass pings and nothing else.

        So does a router that has restarted, for what was sent before it knew the peer again. Hence the
        first such answer decides nothing: what is sent once it is known that pings pass must be missing, too.
        """
        if self._missing is None:
            self._missing = _Missing(now, sent.data_sent)
        enough = misses_for_doubt(self.loss)
        is_much = sent.data_sent - self._data_sent_at_report >= BLACK_HOLE_DATAGRAMS
        is_long = now - self._missing.at >= BLACK_HOLE_S
        if (is_much or is_long) and sent.data_sent - self._missing.data_sent >= enough:
            self._missing = None
            self._distrusted_until = now + self._distrust_s
            self._distrust_s = min(2 * self._distrust_s, DISTRUST_CAP_S)
            self.lose("it answers pings but loses data", now)

    # --- pinging

    def _timer_expired(self, name: str, now: float) -> None:
        if name == "overdue":
            self._overdue(now)
        elif self.state is PairState.PROBING:
            self._probe(now)
        elif self._interval is not None:
            self._watch_ping(now)
            self._timers.set("ping", now + self._interval, "watch")

    def _watch_ping(self, now: float) -> None:
        # as large as the data it stands for: a path that shrinks must be noticed, and not trusted for what
        # small pings say once data has left it
        is_full = self._carries_data or self.state is PairState.DOUBTED
        self._transmit(FULL_SIZE if is_full else 0, now)

    def _probe(self, now: float) -> None:
        if not self._answered and not self._budget.allows(self.remote, now):
            self._timers.set("ping", now + BUDGET_RETRY_S, "probe: budget")
            return
        # padding goes only to those who answered: nobody else gets large packets from us
        self._transmit(FULL_SIZE if self._answered else 0, now)
        delay = probe_delay(self._sent)
        self._sent += 1
        if delay is None and self.kind is PathKind.RELAY:
            delay = RELAY_RETRY_S
        if delay is not None:
            self._timers.set("ping", now + delay, "probe: schedule")

    def _transmit(self, size: int, now: float, ttl: int | None = None) -> _Outstanding:
        """Ping, with padding up to `size` if that is more than the least."""
        token = self._rng.randbytes(TOKEN_SIZE)
        _, data = self._sealer.seal(Ping(token, self._carries_data, size))
        while len(self._outstanding) >= MAX_OUTSTANDING:
            del self._outstanding[next(iter(self._outstanding))]
        self._sent_at = now
        sent = self._outstanding[token] = _Outstanding(now, len(data), self._data_sent)
        self._transmits.append(Transmit((data,), self.remote, self.local, ttl))
        if self.state in (PairState.PROVEN, PairState.DOUBTED) and "overdue" not in self._timers:
            self._timers.set("overdue", now + self.rtt.patience, "watch: answer overdue")
        return sent

    def _rearm_overdue(self, answered: _Outstanding, now: float) -> None:
        """What was sent before the ping just answered is not waited for any more."""
        self._outstanding = {
            token: sent for token, sent in self._outstanding.items() if sent.sent_at > answered.sent_at
        }
        self._timers.cancel("overdue")
        if self._outstanding and self.state in (PairState.PROVEN, PairState.DOUBTED):
            self._timers.set("overdue", now + self.rtt.patience, "watch: answer overdue")

    def _doubt(self, reason: str) -> None:
        self.state = PairState.DOUBTED
        self.has_failed = True
        self._in_a_row = 0
        self._events.append(PathDoubted(self.remote, reason))

    def _overdue(self, now: float) -> None:
        if self._interval is None or self.state not in (PairState.PROVEN, PairState.DOUBTED):
            return
        self._misses += 1
        self._in_a_row = 0
        enough = misses_for_doubt(self.loss)
        if self.state is PairState.PROVEN and self._misses >= enough:
            self._doubt(f"{self._misses} answers in a row stayed out")
        if self._misses >= max(3 * enough, LOST_MISSES_MIN):
            self.lose(f"{self._misses} answers in a row stayed out", now)
            return
        self._watch_ping(now)
        self._timers.set("overdue", now + self.rtt.patience, "watch: answer overdue")


def misses_for_doubt(loss: float) -> int:
    """Answers missed in a row that chance alone explains less than once in a thousand times."""
    loss = min(max(loss, LOSS_FLOOR), 0.9)
    needed = math.ceil(math.log(CHANCE_OF_FALSE_DOUBT) / math.log(loss))
    return min(max(needed, DOUBT_MISSES_MIN), DOUBT_MISSES_MAX)
