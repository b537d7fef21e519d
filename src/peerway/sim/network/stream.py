"""Byte streams: reliable, in order, late.

What the ends of a TCP connection see of it: a piece takes the delays of the links, a loss
costs a retransmission, a rate makes the writer wait, a link that stays down breaks it for
whoever writes. What is written at one moment goes together, and pieces are cut anew on the way, as
TCP does. A NAT keeps it until it reboots;
then what comes from its inside is answered with a reset, and what comes from outside not at all.
"""

from __future__ import annotations

from collections.abc import Callable

from peerway.sim.network.driver import Driver
from peerway.sim.network.link import RETRANSMISSION_S
from peerway.sim.network.route import StreamRoute
from peerway.sim.network.trace import fingerprint
from peerway.sim.network.world import World

PAUSE_BYTES, RESUME_BYTES = 131_072, 32_768  # what waits to leave
BROKEN_AFTER_S = 15.0
SEGMENT_BYTES = 1448  # what is lost, or waits for its turn, by itself
PIECE_BYTES = 65_536  # at most, where nothing is lost and nothing waits


class StreamEnd:
    """One end of a byte stream, `name` to the machine of `driver`; what is written here arrives at `peer`."""

    peer: StreamEnd

    def __init__(self, world: World, driver: Driver, name: str, route: StreamRoute, outwards: bool) -> None:
        self._world = world
        self._driver = driver
        self._name = name
        self._route = route
        self._outwards = outwards
        self._rng = world.rng(f"stream {name}")
        self._waiting = bytearray()
        self._open = True
        self._closing = False
        self._paused = False
        self._pump_due = False
        self._stalled_since: float | None = None
        self._last_arrival = 0.0

    @property
    def is_asleep(self) -> bool:
        """Whether the host of this end is."""
        return self._driver.host.is_asleep

    def write(self, data: bytes) -> None:
        """Send `data`; what is written to a closed stream is lost."""
        if not self._open or self._closing:
            self._log(f"lost {len(data)}")
            return
        self._waiting += data
        if not self._pump_due:
            self._pump_after(0.0)
        if len(self._waiting) > PAUSE_BYTES and not self._paused:
            self._paused = True
            self._world.after(0.0, self._tell, "stream_paused")

    def close(self) -> None:
        """Close once everything written has left; nothing is told to this end any more."""
        if self._open and not self._closing:
            self._closing = True
            if not self._pump_due:
                self._pump_after(0.0)

    def _pump(self) -> None:
        self._pump_due = False
        while self._open and (self._waiting or self._closing):
            if self._route.is_forgotten and self._outwards:
                self._meet_a_stranger()
                return
            delay = self._delay()
            if delay is None:
                self._stall()
                return
            self._stalled_since = None
            if not self._waiting:
                self._open = False
                self._schedule_arrival(delay, self.peer.ended, "")
                return
            rate = self._route.rate(self._outwards)
            size = PIECE_BYTES if rate is None and not self._route.loses else SEGMENT_BYTES
            data = bytes(self._waiting[:size])
            del self._waiting[:size]
            leaving = len(data) * 8 / rate if rate is not None else 0.0
            self._schedule_arrival(leaving + delay, self.peer.arrived, data)
            if self._paused and len(self._waiting) < RESUME_BYTES:
                self._paused = False
                self._world.after(leaving, self._tell, "stream_resumed")
            if leaving:
                self._pump_after(leaving)
                return

    def _delay(self) -> float | None:
        """Seconds for a piece to the peer; None while it does not get there."""
        if self._route.is_forgotten or self.is_asleep or self.peer.is_asleep:
            return None
        return self._route.delay(self._outwards)

    def _meet_a_stranger(self) -> None:
        """A NAT gave us another outside address or port: there, nobody knows this stream."""
        there, back = self._route.delay(outwards=True), self._route.delay(outwards=False)
        if there is None or back is None:
            self._stall()
        else:
            self._schedule_arrival(there + back, self.ended, "connection reset")
            self._pump_due = True  # for good

    def _pump_after(self, seconds: float) -> None:
        self._pump_due = True
        self._world.after(seconds, self._pump)

    def _stall(self) -> None:
        now = self._world.now
        if self._stalled_since is None:
            self._stalled_since = now
        if now - self._stalled_since < BROKEN_AFTER_S:
            self._pump_after(RETRANSMISSION_S)
            return
        self.ended("timed out")  # the peer hears nothing of it: there is no way to tell it

    def _schedule_arrival(self, seconds: float, action: Callable[..., None], argument: str | bytes) -> None:
        self._last_arrival = max(self._last_arrival, self._world.now + seconds)
        self._world.at(self._last_arrival, action, argument)

    def arrived(self, data: bytes) -> None:
        """`data` came from the peer; an end that is gone answers with a reset."""
        if not self._open and (delay := self._delay()) is not None:
            self._schedule_arrival(delay, self.peer.ended, "connection reset")
        cut = self._rng.randrange(len(data)) if data and self._rng.random() < 0.25 else 0
        for piece in (data[:cut], data[cut:]):
            if piece and self._open and not self._closing:
                if self._world.is_traced:
                    self._log(f"data {len(piece)} {fingerprint(piece)}")
                self._driver.tell("stream_data", self._name, piece)

    def ended(self, error: str) -> None:
        """The peer closed it (`error` empty), or it broke."""
        if not self._open:
            return
        self._open = False
        self._log(f"closed {error}")
        if not self._closing:
            self._driver.streams.pop(self._name, None)
            self._driver.tell("stream_closed", self._name, error)

    def accepted(self, remote_ip: str) -> None:
        """This end belongs to a server, which a client at `remote_ip` has reached."""
        self._log(f"accepted from {remote_ip}")
        self._driver.streams[self._name] = self
        self._driver.tell("stream_accepted", self._name, remote_ip)

    def opened(self) -> None:
        """This end belongs to a client, and the server has answered."""
        self._tell("stream_opened")

    def _tell(self, verb: str) -> None:
        if self._open and not self._closing:
            self._driver.tell(verb, self._name)

    def _log(self, what: str) -> None:
        self._world.log(f"stream {self._name}", what)


def stream_pair(
    world: World, route: StreamRoute, client: Driver, name: str, server: Driver, server_name: str
) -> tuple[StreamEnd, StreamEnd]:
    """Both ends of a new stream over `route`; the server's machine knows it by a name unlike any before."""
    here = StreamEnd(world, client, name, route, outwards=True)
    there = StreamEnd(world, server, f"{server_name}:{world.count()}", route, outwards=False)
    here.peer, there.peer = there, here
    return here, there
