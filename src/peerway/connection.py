"""A connection with one peer, as the application has it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peerway.core.identity import NodeId
from peerway.core.link import Link, LinkClosed, LinkEstablished
from peerway.core.links import Result
from peerway.core.machine import Event
from peerway.core.path.events import PathEvent, PathKind, PingAnswered
from peerway.core.quic.events import (
    StreamClosed,
    StreamOpened,
    StreamReadable,
    StreamReset,
    StreamStopped,
    StreamWritable,
)
from peerway.core.quic.session import QuicSession
from peerway.errors import ConnectError, ConnectionClosedError, PeerwayError
from peerway.io import clock
from peerway.stream import StreamReader, StreamWriter, Wakeup

if TYPE_CHECKING:
    from peerway.node import Node

HISTORY_LIMIT = 2000  # events kept per connection
EVENT_QUEUE_LIMIT = 256  # events one listener may leave unread; the oldest go first
PING_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 5.0
FLUSH_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Path:
    """How data travels. `kind`: "direct" or "relay"; `remote`: the peer's address or the relay's URL.

    `rtt` is the least round trip of late in seconds, None before the first; `since` is on the clock
    of `time.clock_gettime(CLOCK_BOOTTIME)`, in seconds.
    """

    kind: str
    remote: str
    rtt: float | None
    since: float


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to `Connection.ping`: the round trip in seconds, and the path it took."""

    rtt: float
    path: Path


class Connection:
    """See the module's text. Leaving `async with` closes it after what was written has arrived."""

    def __init__(self, node: Node, link: int, peer: NodeId) -> None:
        self.peer = peer
        self._node = node
        self._link = link
        self._began = clock.now()
        self._established: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closed: LinkClosed | None = None
        self._history: deque[tuple[float, PathEvent]] = deque(maxlen=HISTORY_LIMIT)
        self._listeners: list[_Listener] = []
        self._streams: dict[int, tuple[StreamReader, StreamWriter]] = {}
        self._arrived: dict[int, tuple[StreamReader, StreamWriter]] = {}
        self._changed = Wakeup()
        self._pongs: deque[asyncio.Future[Pong]] = deque()
        self._last_path: Path | None = None

    # --- what there is to know

    @property
    def path(self) -> Path | None:
        """How data travels now; after the end, how it last did. None while no path works."""
        if self._closed is None:
            view, since = self._node._ask(self._link, Link.path)
            if view is None:
                return None
            kind = "relay" if view.kind is PathKind.RELAY else "direct"
            remote = view.key[1]
            self._last_path = Path(kind, _place(remote), view.round_trip, since)
        return self._last_path

    @property
    def history(self) -> tuple[tuple[float, PathEvent], ...]:
        """Every candidate, attempt, answer and switch so far, with seconds since the dial or hello."""
        return tuple(self._history)

    @property
    def is_closed(self) -> bool:
        """Whether the connection is over."""
        return self._closed is not None

    def path_events(self) -> AsyncGenerator[PathEvent, None]:
        """What happens to the paths from this call on, until the connection is over."""
        listener = _Listener()
        self._listeners.append(listener)
        return self._listen(listener)

    async def _listen(self, listener: _Listener) -> AsyncGenerator[PathEvent, None]:
        try:
            while True:
                while listener.events:
                    yield listener.events.popleft()
                if self._closed is not None:
                    return
                await listener.changed.wait()
        finally:
            self._listeners.remove(listener)

    # --- what there is to do

    async def open_stream(self) -> tuple[StreamReader, StreamWriter]:
        """A new stream; it exists for the peer at once, before anything is written."""
        self._raise_if_closed()
        stream = self._session(lambda session: session.open_stream(clock.now()))
        return self._add_stream(stream)

    async def accept_stream(self) -> tuple[StreamReader, StreamWriter]:
        """The next stream the peer opens. `ConnectionClosedError` when there will be none."""
        while not self._arrived:
            self._raise_if_closed()
            await self._changed.wait()
        return self._arrived.pop(next(iter(self._arrived)))

    async def ping(self, timeout: float = PING_TIMEOUT_S) -> Pong:
        """Ask the peer's node (not its application) for an answer, on the path data takes now.

        `TimeoutError` when none came within `timeout` seconds.
        """
        self._raise_if_closed()
        pong: asyncio.Future[Pong] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        try:
            async with asyncio.timeout(timeout):
                while not self._call(lambda link: link.ping(clock.now())):
                    await self._changed.wait()
                return await pong
        finally:
            if pong in self._pongs:
                self._pongs.remove(pong)

    async def close(self, code: int = 0, reason: str = "") -> None:
        """End the connection and tell the peer why; with code 0, after it has what was written."""
        if self._closed is not None:
            return
        if code == 0:
            await self._flush()
        if self._closed is None:
            self._call(lambda link: link.close(code, reason, clock.now()))
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._wait_closed()
            except TimeoutError:
                self._event(LinkClosed(code, reason, by_peer=False))

    async def wait_closed(self) -> None:
        """Wait until the connection is over, whoever ends it."""
        await self._wait_closed()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- for the node

    def _event(self, event: Event) -> None:
        if isinstance(event, PathEvent):
            self._path_event(event)
        elif isinstance(event, StreamReadable):
            self._for_stream(event.stream, lambda reader, _: reader._readable.wake())
        elif isinstance(event, StreamWritable):
            self._for_stream(event.stream, lambda _, writer: writer._writable.wake())
        elif isinstance(event, StreamOpened):
            self._arrived[event.stream] = self._add_stream(event.stream)
            self._changed.wake()
        elif isinstance(event, StreamClosed):
            self._stream_closed(event.stream)
        elif isinstance(event, StreamReset):
            self._for_stream(event.stream, lambda reader, _: reader._was_reset(event.code))
        elif isinstance(event, StreamStopped):
            self._for_stream(event.stream, lambda _, writer: writer._was_stopped(event.code))
        elif isinstance(event, LinkEstablished):
            if not self._established.done():
                self._established.set_result(None)
        elif isinstance(event, LinkClosed):
            self._over(event)

    def _path_event(self, event: PathEvent) -> None:
        if isinstance(event, PingAnswered):
            if self._pongs:
                pong = self._pongs.popleft()
                kind = "relay" if event.kind is PathKind.RELAY else "direct"
                if not pong.done():
                    path = Path(kind, _place(event.remote), event.round_trip, clock.now())
                    pong.set_result(Pong(event.round_trip, path))
            return
        self._history.append((clock.now() - self._began, event))
        for listener in self._listeners:
            listener.events.append(event)
            listener.changed.wake()
        self._changed.wake()

    def _over(self, event: LinkClosed) -> None:
        if self._closed is not None:
            return
        for stream, (reader, _) in self._streams.items():
            reader._absorb(self._read(stream, -1), self._at_eof(stream))
        self._closed = event
        self._node._forget(self._link)
        if not self._established.done():
            self._established.set_exception(ConnectError(self.peer, event.reason))
            self._established.exception()  # nobody may be waiting any more
        for reader, writer in self._streams.values():
            reader._readable.wake()
            writer._writable.wake()
        for listener in self._listeners:
            listener.changed.wake()
        for pong in self._pongs:
            if not pong.done():
                pong.set_exception(self._closed_error())
        self._changed.wake()

    # --- for the streams

    def _call(self, use: Callable[[Link], Result]) -> Result:
        return self._node._call(self._link, use)

    def _session(self, use: Callable[[QuicSession], Result]) -> Result:
        return self._node._with_session(self._link, use)

    def _ask(self, question: Callable[[QuicSession], Result]) -> Result:
        return self._node._ask(self._link, lambda link: link.ask(question))

    def _read(self, stream: int, limit: int) -> bytes:
        return self._session(lambda session: session.read(stream, limit, clock.now()))

    def _at_eof(self, stream: int) -> bool:
        return self._closed is None and self._ask(lambda session: session.at_eof(stream))

    def _write(self, stream: int, data: bytes) -> None:
        self._session(lambda session: session.write(stream, data, clock.now()))

    def _write_eof(self, stream: int) -> None:
        if self._closed is None:
            self._session(lambda session: session.write_eof(stream, clock.now()))

    def _reset(self, stream: int, code: int) -> None:
        if self._closed is None:
            self._session(lambda session: session.reset(stream, code, clock.now()))

    def _stop(self, stream: int, code: int) -> None:
        if self._closed is None:
            self._session(lambda session: session.stop(stream, code, clock.now()))

    def _send_buffer_size(self, stream: int) -> int:
        return 0 if self._closed else self._ask(lambda session: session.send_buffer_size(stream))

    def _is_delivered(self, stream: int) -> bool:
        return self._closed is None and self._ask(lambda session: session.is_delivered(stream))

    def _raise_if_closed(self) -> None:
        if self._closed is not None:
            raise self._closed_error()

    def _closed_error(self) -> PeerwayError:
        assert self._closed is not None
        return ConnectionClosedError(self._closed.code, self._closed.reason, self._closed.by_peer)

    def _add_stream(self, stream: int) -> tuple[StreamReader, StreamWriter]:
        halves = StreamReader(self, stream), StreamWriter(self, stream)
        self._streams[stream] = halves
        return halves

    def _for_stream(self, stream: int, use: Callable[[StreamReader, StreamWriter], Any]) -> None:
        halves = self._streams.get(stream)
        if halves is not None:
            use(*halves)

    def _stream_closed(self, stream: int) -> None:
        """Both directions are over, and nothing is unread: nothing more will happen to it.

        One that the peer gave up before anybody took it is nobody's any more.
        """
        self._arrived.pop(stream, None)
        halves = self._streams.pop(stream, None)
        if halves is not None:
            halves[0]._absorb(b"", eof=True)
            halves[1]._writable.wake()

    async def _flush(self) -> None:
        """Wait until the peer has what was written on streams that we ended."""
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                for _, writer in list(self._streams.values()):
                    if writer.is_closing():
                        await writer.wait_closed()
        except (TimeoutError, ConnectionClosedError):
            pass

    async def _wait_closed(self) -> None:
        while self._closed is None:
            await self._changed.wait()


class _Listener:
    """One reader of the path events."""

    def __init__(self) -> None:
        self.events: deque[PathEvent] = deque(maxlen=EVENT_QUEUE_LIMIT)
        self.changed = Wakeup()


def _place(remote: object) -> str:
    """An address as users see it: without the word that `Path.kind` says already."""
    return str(getattr(remote, "url", remote))
