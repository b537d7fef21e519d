"""One client's stream at a relay server.

    HTTP -> IDENTIFYING (ServerKey sent) -> IDENTIFIED (ClientInfo opened) -> RELAYING
         -> LEAVING (told to come back, asked whether all arrived) -> CLOSED

The session speaks HTTP and DERP with its client and knows nothing of the others. What concerns
them it tells its parent: who the client is (`Identified`, answered by `admit` or `close`), what
it sends and to whom (`PacketsSent`), and that it is over (`Ended`). Until the session relays, one
timer bounds how long all of it may take.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum

from peerway.core.machine import CloseStream, Event, Leaf, Rng, StreamWrite, Timers, WireError
from peerway.core.relay import greeting
from peerway.core.relay.access import Access
from peerway.core.relay.frames import (
    KEEP_ALIVE_S,
    KEY_SIZE,
    NONCE_SIZE,
    PING_SIZE,
    Frame,
    FrameDecoder,
    FrameType,
    PacketRun,
    PeerGoneReason,
    build_frame,
    build_peer_gone,
    build_ping,
    build_pong,
    build_restarting,
    build_server_key,
    split_frames,
)
from peerway.core.relay.http import HttpFront, HttpNext
from peerway.core.relay.limits import Allowance, HoldStream, RelayLimits, ReleaseStream
from peerway.core.relay.outbox import Outbox

KEEP_ALIVE_JITTER_S = 5.0
CLIENT_INFO_LIMIT = 16 << 10  # bytes of JSON from somebody who is still a stranger
PEER_GONE_INTERVAL_S = 1.0  # between two PeerGone(NOT_HERE) to one client about one destination
PEER_GONE_DESTINATIONS = 256  # told about within that interval; about further ones nothing is said
PONGS_PER_READ = 4  # further pings in the same read go unanswered
CORRESPONDENTS = 1024  # remembered per client; the one met first is forgotten first

SHUTTING_DOWN = "the relay is shutting down"

_MESH_ONLY = (FrameType.WATCH_CONNS, FrameType.CLOSE_PEER, FrameType.FORWARD_PACKET)
_WITHOUT_ANSWER = (FrameType.KEEP_ALIVE, FrameType.NOTE_PREFERRED, FrameType.PONG)


@dataclass(frozen=True, slots=True)
class Identified(Event):
    """The client proved that it holds the private key of `key`."""

    key: bytes


@dataclass(frozen=True, slots=True)
class PacketsSent(Event):
    """The client sent `count` packets to `destination` (a key); `frames` carry them there."""

    destination: bytes
    frames: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Ended(Event):
    """The session is over; `refused` when something was wrong with it, or with what it wanted."""

    reason: str
    refused: bool


class Stage(Enum):
    """How far a session has come."""

    HTTP = "http"
    IDENTIFYING = "identifying"
    IDENTIFIED = "identified"
    RELAYING = "relaying"
    LEAVING = "leaving"
    CLOSED = "closed"


class ServerSession(Leaf):
    """The server's end of one stream. `key` is the client's once it is identified."""

    def __init__(
        self, stream: str, rng: Rng, drops: Counter[str], limits: RelayLimits, access: Access, now: float
    ) -> None:
        super().__init__()
        self.drops = drops
        self.stream = stream
        self.stage = Stage.HTTP
        self.was_admitted = False
        self.key = b""
        self.correspondents: dict[bytes, None] = {}
        self._rng = rng
        self._http = HttpFront(access)
        self._decoder = FrameDecoder(CLIENT_INFO_LIMIT)
        self._private_key = b""
        self._shared = b""
        self._limits = limits
        self._allowance = Allowance(limits, now)
        self._packets_read = 0
        self._outbox = Outbox(limits.queue_packets, limits.queue_bytes)
        self._paused = False
        self._told_gone: dict[bytes, float] = {}
        self._pongs = 0
        self._last_ping = b""
        self._timers.set("handshake", now + limits.handshake_s, "relay: handshake takes too long")

    @property
    def token(self) -> bytes:
        """What the client showed to be admitted, empty without."""
        return self._http.token

    # --- from the stream

    def stream_data(self, data: bytes | memoryview, now: float) -> None:
        """Bytes from the client; none of them are kept where they lie."""
        size, self._packets_read = len(data), 0
        if self.stage is Stage.HTTP:
            data = self._speak_http(bytes(data))
        if data and self.stage not in (Stage.HTTP, Stage.CLOSED):
            try:
                self._frames(self._decoder.feed(data))
            except WireError as error:
                self._drop("not DERP")
                self.close(f"not DERP: {error}")
        until = self._allowance.spend(size, self._packets_read, now)
        if until > now and self.stage not in (Stage.LEAVING, Stage.CLOSED):
            self._hold(until)

    def stream_closed(self, error: str) -> None:
        """The client, or the way to it, closed the stream."""
        self._end(error or "closed by the client", refused=bool(error) or self.stage is not Stage.HTTP)

    def stream_paused(self, now: float) -> None:
        """The stream takes no more bytes for now."""
        self._paused = True
        self._timers.set("paused", now + self._limits.unread_s, "relay: a client that does not read")

    def stream_resumed(self) -> None:
        """The stream takes bytes again."""
        self._paused = False
        self._timers.cancel("paused")
        if self._outbox:
            self._write(self._outbox.take())

    # --- from the server

    def admit(self, now: float) -> None:
        """Let the identified client in."""
        self.stage = Stage.RELAYING
        self.was_admitted = True
        self._timers.cancel("handshake")
        self._write(greeting.build_server_info(self._shared, self._rng.randbytes(NONCE_SIZE)))
        self._arm_keep_alive(now)

    def deliver(self, frames: bytes) -> None:
        """Send the client whole frames that others sent it."""
        if not self._paused:
            self._write(frames)
            return
        for frame in split_frames(frames):
            self._queue(frame)

    def peer_left(self, key: bytes) -> None:
        """A client this one exchanged packets with is gone."""
        self.correspondents.pop(key, None)
        self._send(build_peer_gone(key, PeerGoneReason.DISCONNECTED))

    def not_here(self, destination: bytes, now: float) -> None:
        """The client sent to a key nobody here has: say so, but not too often."""
        told = self._told_gone
        if now - told.get(destination, -PEER_GONE_INTERVAL_S) < PEER_GONE_INTERVAL_S:
            return
        if destination not in told and len(told) >= PEER_GONE_DESTINATIONS:
            told = {key: at for key, at in told.items() if now - at < PEER_GONE_INTERVAL_S}
            self._told_gone = told
            if len(told) >= PEER_GONE_DESTINATIONS:
                return
        told[destination] = now
        self._send(build_peer_gone(destination, PeerGoneReason.NOT_HERE))

    def meet(self, key: bytes) -> None:
        """Remember that packets went between this client and `key`."""
        if len(self.correspondents) >= CORRESPONDENTS:
            del self.correspondents[next(iter(self.correspondents))]
        self.correspondents[key] = None

    def restart(self, reconnect_in: float, try_for: float) -> None:
        """Tell the client when to come back, after all that waits for it, and close once it has it all.

        A ping says when: its answer comes after everything that was written. A closed TLS stream says
        nothing of the kind, and what the system still has to send may be lost with it.
        """
        if self.stage is not Stage.RELAYING:
            self._end(SHUTTING_DOWN, refused=False, close=True)
            return
        self.stage = Stage.LEAVING
        self._last_ping = self._rng.randbytes(PING_SIZE)
        waiting = self._outbox.take()
        self._write(waiting + build_restarting(reconnect_in, try_for) + build_ping(self._last_ping))
        if "held" in self._timers:
            self._timers.cancel("held")
            self._events.append(ReleaseStream(self.stream))

    def close(self, reason: str) -> None:
        """Close the stream once what was written to it is flushed."""
        self._end(reason, refused=True, close=True)

    # --- within

    def _hold(self, until: float) -> None:
        if "held" not in self._timers:
            self._drop("client held up")
            self._events.append(HoldStream(self.stream))
        self._timers.set("held", until, "relay: a client that sends too much")

    def _speak_http(self, data: bytes) -> bytes:
        """Returns what came behind an upgrade: DERP's first bytes."""
        step = self._http.receive(data)
        if step.then is HttpNext.DERP:
            self._private_key = self._rng.randbytes(KEY_SIZE)
            self._write(step.write + build_server_key(greeting.public_key(self._private_key)))
            self.stage = Stage.IDENTIFYING
            return step.rest
        if step.write:
            self._write(step.write)
        if step.then is HttpNext.CLOSE:
            if step.refused:
                self._drop(step.refused.partition(":")[0])
            self._end(step.refused or "answered", refused=bool(step.refused), close=True)
        return b""

    def _frames(self, frames: list[Frame | PacketRun]) -> None:
        self._pongs = 0
        self._packets_read = len(frames)
        sent: dict[bytes, list[PacketRun]] = {}
        for frame in frames:
            if isinstance(frame, PacketRun) and self._forwards(frame):
                sent.setdefault(frame.key, []).append(frame)
            elif self.stage is not Stage.CLOSED:
                self._other_frame(frame[0], frame[1])
        if self.stage in (Stage.LEAVING, Stage.CLOSED):
            self._came_too_late(sent)
            return
        for destination, runs in sent.items():
            carried = [run.forwarded(self.key) for run in runs]
            forwarded = carried[0] if len(carried) == 1 else b"".join(carried)
            count = sum([len(run.packets) for run in runs])
            self._packets_read += count - len(runs)
            self._events.append(PacketsSent(destination, forwarded, count))

    def _came_too_late(self, sent: dict[bytes, list[PacketRun]]) -> None:
        late = sum(len(run.packets) for runs in sent.values() for run in runs)
        if late:
            self.drops["shutting down"] += late

    def _forwards(self, run: PacketRun) -> bool:
        return run.kind == FrameType.SEND_PACKET and self.stage is not Stage.IDENTIFYING

    def _other_frame(self, kind: int, payload: bytes) -> None:
        if self.stage is Stage.IDENTIFYING:
            if kind != FrameType.CLIENT_INFO:
                raise WireError(f"a frame of type {kind:#04x} before ClientInfo")
            self.key, self._shared = greeting.open_client_info(payload, self._private_key)
            self.stage = Stage.IDENTIFIED
            self._events.append(Identified(self.key))
        elif kind == FrameType.PING:
            self._pong(payload)
        elif kind == FrameType.PONG and self.stage is Stage.LEAVING and payload == self._last_ping:
            self._end(SHUTTING_DOWN, refused=False, close=True)
        elif kind in _MESH_ONLY:
            raise WireError(f"a frame of type {kind:#04x}, which only a mesh of servers may send")
        elif kind not in _WITHOUT_ANSWER:
            self._drop("unknown frame")

    def _pong(self, ping: bytes) -> None:
        if self._pongs >= PONGS_PER_READ:
            self._drop("too many pings")
            return
        self._pongs += 1
        self._send(build_pong(ping))

    def _timer_expired(self, name: str, now: float) -> None:
        if name == "keep-alive":
            if not self._paused:
                self._write(build_frame(FrameType.KEEP_ALIVE))
            self._arm_keep_alive(now)
        elif name == "held":
            self._events.append(ReleaseStream(self.stream))
        elif name == "paused":
            self._drop("client does not read")
            self.close(f"took no bytes for {self._limits.unread_s:g} s")
        else:
            self._drop("handshake timeout")
            self.close("the handshake took too long")

    def _arm_keep_alive(self, now: float) -> None:
        jitter = self._rng.uniform(-KEEP_ALIVE_JITTER_S, KEEP_ALIVE_JITTER_S)
        self._timers.set("keep-alive", now + KEEP_ALIVE_S + jitter, "relay: keep-alive")

    def _send(self, frame: bytes) -> None:
        if self._paused:
            self._queue(frame)
        else:
            self._write(frame)

    def _queue(self, frame: bytes) -> None:
        dropped = self._outbox.push(frame)
        if dropped:
            self.drops["queue full"] += dropped

    def _write(self, data: bytes) -> None:
        self._transmits.append(StreamWrite(self.stream, data))

    def _end(self, reason: str, refused: bool, close: bool = False) -> None:
        if self.stage is Stage.CLOSED:
            return
        self.stage = Stage.CLOSED
        self._timers = Timers()
        self._outbox.clear()
        if close:
            self._events.append(CloseStream(self.stream))
        self._events.append(Ended(reason, refused))
