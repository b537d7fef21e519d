"""What QUIC sends, on its way: by which ways it goes, and what is sent again by others.

QUIC resends what is lost in its own time, which after a silence may be long, and says goodbye
but once. So the last batches are kept, and sent again byte for byte, for QUIC drops what has
arrived already:

- when the path in use fails, on the one that takes its place,
- in a handshake, as soon as there is a path or the relay is reached,
- at the end, by every way that is known, a few times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from peerway.core.machine import Leaf, Transmit, UdpAddress
from peerway.core.path.choice import PathKey

KEPT_BATCHES = 2
ACKNOWLEDGEMENT_SIZE = 200  # bytes that QUIC needs at most to say what arrived
UNANSWERED_AFTER_S = 0.5  # in a handshake: by then the peer has answered, or never heard us
SWALLOWED_WITHIN_S = 5.0  # what was sent before that has arrived, or QUIC has sent it again
FAREWELL_FIRST_S, FAREWELL_FOR_S = 0.1, 1.0  # goodbye is said again after 0.1, 0.3, 0.9 and 2.7 s


class Flight(Leaf):
    """The datagrams of one connection's QUIC, as they leave."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: deque[Transmit] = deque(maxlen=KEPT_BATCHES)
        self._sent_at = 0.0
        self._is_established = False
        self._has_failed = False
        self._farewell: tuple[PathKey, ...] = ()
        self._parted_at = 0.0

    def send(self, batch: Transmit, ways: Iterable[PathKey], now: float) -> None:
        """Send a batch by each of `ways`."""
        # in a handshake mere acknowledgements must not push out what the peer waits for
        if self._is_established or len(batch.segments[0]) > ACKNOWLEDGEMENT_SIZE:
            self._kept.append(batch)
            self._sent_at = now
        self._transmits.extend(_by(batch, way) for way in ways)

    def established(self) -> None:
        """The handshake is over."""
        self._is_established = True

    def path_failed(self) -> None:
        """The path in use may have swallowed what was sent last."""
        self._has_failed = True

    @property
    def has_failed(self) -> bool:
        """Whether the path in use is the one that failed: none has taken its place."""
        return self._has_failed

    def switched(self, way: PathKey, now: float) -> None:
        """From now on batches go by `way`, or do so again though it had failed."""
        is_swallowed = self._has_failed and now - self._sent_at < SWALLOWED_WITHIN_S
        is_unanswered = not self._is_established and now - self._sent_at >= UNANSWERED_AFTER_S
        if is_swallowed or is_unanswered:
            self.send_again((way,))
        self._has_failed = False

    def send_again(self, ways: Iterable[PathKey]) -> None:
        """What was sent last, by each of `ways`."""
        for way in ways:
            self._transmits.extend(_by(batch, way) for batch in self._kept)

    def part(self, by: PathKey, others: Iterable[PathKey], now: float) -> None:
        """QUIC has said goodbye by one way: say it by the others too, and again, for it is not resent."""
        if not self._kept:
            return
        goodbye = self._kept[-1]
        self._kept.clear()
        self._kept.append(goodbye)
        self._parted_at = now
        others = tuple(way for way in others if way != by)
        self._farewell = (by, *others)
        self.send_again(others)
        self._timers.set("farewell", now + FAREWELL_FIRST_S, "link: say goodbye again")

    def sockets_changed(self, sockets: Collection[UdpAddress]) -> None:
        """Only these are left to say goodbye by."""
        self._farewell = still_open(self._farewell, sockets)

    @property
    def is_parting(self) -> bool:
        """Whether goodbye is to be said again."""
        return "farewell" in self._timers

    def _timer_expired(self, name: str, now: float) -> None:
        self.send_again(self._farewell)
        elapsed = now - self._parted_at
        if elapsed < FAREWELL_FOR_S:
            again = now + 2 * max(elapsed, FAREWELL_FIRST_S)
            self._timers.set("farewell", again, "link: say goodbye again")


def still_open(ways: Iterable[PathKey], sockets: Collection[UdpAddress]) -> tuple[PathKey, ...]:
    """The ways by a relay or one of `sockets`."""
    return tuple(way for way in ways if way[0] is None or way[0] in sockets)


def _by(batch: Transmit, way: PathKey) -> Transmit:
    return Transmit(batch.segments, way[1], way[0])
