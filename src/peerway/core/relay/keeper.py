"""Keeps one relay connection standing: connects, and again after a failure, later each time.

    DOWN -> OpenStream -> CONNECTING -> RelayUp -> UP -> RelayDown -> DOWN (back-off, jitter)

What is sent while the connection is being made waits in the client's queue, so that the first
flight of a dial need not be repeated; what is sent between two tries is dropped.

Where there is a choice of relays, each is measured: twice when it has come up, then now and again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from peerway.core.machine import CloseStream, Composite, Event, OpenStream, Rng
from peerway.core.relay.access import REFUSALS
from peerway.core.relay.client import (
    PacketsReceived,
    PeerGone,
    RelayClient,
    RelayConnected,
    RelayDisconnected,
    RelayMeasured,
    RelayRestarting,
)

BACKOFF_FIRST_S = 0.25
BACKOFF_CAP_S = 30.0
BACKOFF_JITTER = 0.5  # of the delay, added at random: a restarted relay is not stormed
STALLED_AFTER_S = 2.0  # an attempt that is older when somebody asks is given up for a fresh one
FAILURES_OF_A_SHORT_LIFE = 3  # a relay that accepts and drops us is asked after two seconds, then later
STABLE_AFTER_S = 10.0  # a connection that stood so long starts the back-off anew
MEASURED_AGAIN_S = 1.0  # the first ping of a connection may wait for much that comes later no more
MEASURED_EVERY_S = 300.0
MEASURES_KEPT = 3  # of which the least counts: what waits behind data is no distance


@dataclass(frozen=True, slots=True)
class RelayUp(Event):
    """The relay knows us and delivers."""

    url: str


@dataclass(frozen=True, slots=True)
class RelayDown(Event):
    """The connection failed or ended; it is tried again after `retry_in` seconds."""

    url: str
    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class RelayPackets(Event):
    """Packets that the client `source` (32-byte key) sent us through the relay."""

    url: str
    source: bytes
    packets: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class RelayPeerGone(Event):
    """The relay says it has no client with this key."""

    url: str
    key: bytes


@dataclass(frozen=True, slots=True)
class RelayDistance(Event):
    """How far the relay is has been measured anew."""

    url: str


class RelayKeeper(Composite[str]):
    """The connection to the relay at `url`; `fresh_key` gives the X25519 secret for each connection.

    `measures`: whether to see how far it is. `token` is shown to the relay; `if_refused` is what to do
    about a relay that does not admit us, in words for people.
    """

    def __init__(
        self,
        url: str,
        fresh_key: Callable[[], bytes],
        rng: Rng,
        *,
        measures: bool = False,
        token: str = "",
        if_refused: str = "",
    ) -> None:
        super().__init__()
        self.url = url
        self._measures = measures
        self._token = token
        self._if_refused = if_refused
        self._round_trips: deque[float] = deque(maxlen=MEASURES_KEPT)
        self.is_up = False
        self.last_error = ""
        self._fresh_key = fresh_key
        self._rng = rng
        self._attempts = 0
        self._attempted_at = 0.0
        self._failures = 0
        self._up_since = 0.0
        self._stream = ""
        self._client: RelayClient | None = None
        self._told_to_wait = 0.0

    @property
    def round_trip(self) -> float | None:
        """Seconds to the relay and back on this connection, None before it was measured."""
        return min(self._round_trips, default=None)

    def start(self, now: float) -> None:
        """Connect."""
        self._connect(now)
        self._settle(now)

    def stop(self) -> None:
        """Nobody needs this relay any more."""
        if self._client is not None:
            self._events.append(CloseStream(self._stream))

    def retry(self, now: float) -> None:
        """The network changed, or somebody asks: connect now, or see whether the relay still answers."""
        if self._client is None:
            self._timers.cancel("retry")
            self._connect(now)
        elif not self.is_up and now - self._attempted_at >= STALLED_AFTER_S:
            # begun while the network was away, it would go on waiting for seconds after its return
            self.reconnect(now)
        else:
            self._client.check(now)
            self._touch(self._stream)
        self._settle(now)

    def reconnect(self, now: float) -> None:
        """Connect anew at once: what stands, or is being tried, was begun from an address we left."""
        if self._client is not None:
            self._events.append(CloseStream(self._stream))
            self._release(self._stream)
        if self.is_up:
            self.is_up = False
            self._events.append(RelayDown(self.url, "this machine's address changed", 0.0))
        self._failures = 0
        self._timers.cancel("retry")
        self._connect(now)
        self._settle(now)

    def owns(self, stream: str) -> bool:
        """Whether `stream` is the connection being made or kept."""
        return stream == self._stream and self._client is not None

    def send(self, destination: bytes, packets: tuple[bytes, ...], now: float) -> None:
        """Send `packets` to the client whose key is `destination`."""
        if self._client is None:
            self._drop("relay: down")
            return
        self._client.send_packet(destination, packets, now)
        self._touch(self._stream)
        self._settle(now)

    def stream_opened(self, now: float) -> None:
        """The byte stream to the relay stands."""
        self._with_client(lambda client: client.stream_opened(now), now)

    def stream_data(self, data: bytes, now: float) -> None:
        """Bytes from the relay."""
        self._with_client(lambda client: client.stream_data(data, now), now)

    def stream_paused(self, now: float) -> None:
        """The byte stream takes no more for now."""
        self._with_client(lambda client: client.stream_paused(now), now)

    def stream_resumed(self, now: float) -> None:
        """The byte stream takes bytes again."""
        self._with_client(lambda client: client.stream_resumed(now), now)

    def stream_closed(self, error: str, now: float) -> None:
        """The byte stream could not be opened, or has ended."""
        self._with_client(lambda client: client.stream_closed(error, now), now)

    def _with_client(self, call: Callable[[RelayClient], None], now: float) -> None:
        if self._client is None:
            return
        call(self._client)
        self._touch(self._stream)
        self._settle(now)

    def _connect(self, now: float) -> None:
        self._attempts += 1
        self._attempted_at = now
        self._stream = f"{self.url} {self._attempts}"
        self._client = RelayClient(self.url, self._stream, self._fresh_key(), self._rng, self._token)
        self._adopt(self._stream, self._client)
        self._events.append(OpenStream(self._stream, self.url))

    def _timer_expired(self, name: str, now: float) -> None:
        if name == "retry":
            self._connect(now)
        elif self._client is not None and self.is_up:
            self._measure(self._client, MEASURED_EVERY_S, now)

    def _measure(self, client: RelayClient, again_in: float, now: float) -> None:
        client.measure(now)
        self._touch(self._stream)
        self._timers.set("measure", now + again_in, "relay: how far is it?")

    def _child_event(self, key: str, event: Event, now: float) -> None:
        if isinstance(event, PacketsReceived):
            self._events.append(RelayPackets(self.url, event.source_key, event.packets))
        elif isinstance(event, PeerGone):
            self._events.append(RelayPeerGone(self.url, event.key))
        elif isinstance(event, RelayMeasured):
            self._round_trips.append(event.round_trip)
            self._events.append(RelayDistance(self.url))
        elif isinstance(event, RelayRestarting):
            self._told_to_wait = min(event.reconnect_in, BACKOFF_CAP_S)
        elif isinstance(event, RelayConnected):
            self._came_up(now)
        elif isinstance(event, RelayDisconnected):
            self._went_down(event.reason, now)
        else:
            self._events.append(event)

    def _came_up(self, now: float) -> None:
        self.is_up = True
        self._up_since = now
        self.last_error = ""
        self._events.append(RelayUp(self.url))
        self._round_trips.clear()
        if self._measures and self._client is not None:
            self._measure(self._client, MEASURED_AGAIN_S, now)

    def _went_down(self, reason: str, now: float) -> None:
        if self.is_up:  # what failed before it came up says little of it
            is_stable = now - self._up_since >= STABLE_AFTER_S
            self._failures = 0 if is_stable else min(self._failures, FAILURES_OF_A_SHORT_LIFE)
        self.is_up = False
        if reason in REFUSALS and self._if_refused:
            reason = f"{reason}: {self._if_refused}"
        self.last_error = reason
        self._release(self._stream)
        self._client = None
        delay = max(min(BACKOFF_FIRST_S * 2**self._failures, BACKOFF_CAP_S), self._told_to_wait)
        self._told_to_wait = 0.0
        delay += self._rng.uniform(0, BACKOFF_JITTER * delay)
        self._failures = min(self._failures + 1, 10)
        self._timers.set("retry", now + delay, "relay: connect again")
        self._events.append(RelayDown(self.url, reason, delay))
