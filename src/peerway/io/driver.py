"""Runs one machine on asyncio: real sockets, streams, names, interfaces and time.

Every input ends in `wake()`: send what the machine wants sent, act on what it says
happened, and arm one timer for its next deadline. Datagrams that wait in a socket are one input, and
what the owner does in one turn of the loop is another (`wake_soon`): a wake costs as much as dozens of
packets. `OpenStream`, `CloseStream`,
`OpenSocket`, `CloseSocket` and `Resolve` are requests to us; every other event goes to the
owner. Machine and driver live on one loop and one thread.

An exception out of the machine, or out of the owner's `on_event`, is a bug: it is logged
with its traceback and given to `on_failure`, and everything else goes on.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections import Counter
from collections.abc import Callable
from functools import partial

from peerway.core.machine import (
    CloseSocket,
    CloseStream,
    Datagram,
    Deadline,
    DrivenMachine,
    Event,
    InterfaceAddress,
    OpenSocket,
    OpenStream,
    PeerwayError,
    Resolve,
    StreamWrite,
    Transmit,
    UdpAddress,
)
from peerway.core.relay.url import RelayUrl, RelayUrlError
from peerway.io import clock
from peerway.io.interfaces import InterfaceWatch, watch_interfaces
from peerway.io.resolve import ResolveError, resolve
from peerway.io.stream import ClientStream, StreamTarget
from peerway.io.udp_sockets import UdpSockets

OUTPUTS_PER_DRAIN = 512  # then the loop serves others before we go on
LONGEST_SLEEP_S = 10.0  # the loop's clock may stop in suspend, the machine's does not
SHORTEST_SLEEP_S = 0.001  # uvloop rounds to milliseconds: less would be a busy loop
OVERDUE_LIMIT = 100  # timeouts in a row that left a deadline in the past
OVERDUE_PAUSE_S = 0.01
CLOSE_FLUSH_S = 1.0  # for what was written to streams to leave, at the end
NAMES_AT_ONCE = 32
FAILURES_LOGGED = 20

logger = logging.getLogger(__name__)


class Driver:
    """Drives `machine`; `on_event` gets its events. Must be made on a running loop.

    Local callers call the machine's methods directly and `wake()` afterwards. `drops`
    counts, by reason, what was lost here; `failures` the exceptions given to `on_failure`. `trust` is
    whose certificates streams believe that have no pin, the system's authorities if None.
    """

    def __init__(
        self,
        machine: DrivenMachine,
        on_event: Callable[[Event], None],
        on_failure: Callable[[Exception], None] | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.drops: Counter[str] = Counter()
        self.failures = 0
        self._machine = machine
        self._on_event = on_event
        self._on_failure = on_failure
        self._trust = trust
        self._loop = asyncio.get_running_loop()
        self._udp = UdpSockets(self._received, self._transmit_failed, self.drops)
        self._streams: dict[str, ClientStream] = {}
        self._leaving: list[ClientStream] = []
        self._writes: dict[str, list[bytes]] = {}
        self._lookups: dict[str, asyncio.Task[None]] = {}
        self._watch: InterfaceWatch | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = math.inf
        self._overdue = 0
        self._continuation: asyncio.Handle | None = None
        self._draining = False
        self._closed = False

    async def open_udp(self, bind: UdpAddress) -> UdpAddress:
        """Open a UDP socket and return the address it got. `OSError` when it cannot be had.

        The first one of each address family sends what names no `local`.
        """
        return self._udp.open(bind)

    def close_udp(self, local: UdpAddress) -> None:
        """Close one UDP socket; harmless when there is none."""
        self._udp.close(local)

    def watch_interfaces(self) -> None:
        """Tell the machine our interface addresses now, and again whenever they or the routes change."""
        if self._watch is None and not self._closed:
            self._watch = watch_interfaces(self._interfaces_changed, self._loop)
            self._interfaces_changed(self._watch.addresses)

    def wake(self) -> None:
        """Drain the machine and re-arm the timer. Harmless at any time, also from `on_event`."""
        if self._draining or self._closed:
            return
        self._draining = True
        finished = True
        try:
            finished = self._call("drain", self._drain)
        finally:
            self._draining = False
        if not self._closed:
            self._call("deadline", self._arm)
            if not finished:
                self.wake_soon()

    def wake_soon(self) -> None:
        """`wake()` once before the loop sleeps, however often this is called until then."""
        if self._continuation is None and not self._closed:
            self._continuation = self._loop.call_soon(self._go_on)

    async def close(self) -> None:
        """Free sockets, streams, tasks and timers. What streams still hold has `CLOSE_FLUSH_S` to leave."""
        if self._closed:
            return
        self.wake()
        self._closed = True
        for handle in (self._timer, self._continuation):
            if handle is not None:
                handle.cancel()
        if self._watch is not None:
            self._watch.close()
        self._udp.close_all()
        await self._end_tasks()

    async def _end_tasks(self) -> None:
        lookups = list(self._lookups.values())
        for lookup in lookups:
            lookup.cancel()
        streams = [*self._streams.values(), *self._leaving]
        for stream in streams:
            stream.close()
        ends = [asyncio.ensure_future(stream.wait_gone()) for stream in streams]
        try:
            if ends:
                await asyncio.wait(ends, timeout=CLOSE_FLUSH_S)
        finally:
            for stream in streams:
                stream.abort()
            if ends or lookups:
                await asyncio.wait([*ends, *lookups])

    # --- calling the machine ------------------------------------------------------

    def _call(self, doing: str, call: Callable[[], bool | None]) -> bool:
        """Run `call`; False when it returned False."""
        try:
            return call() is not False
        except Exception as error:
            self.failures += 1
            if self.failures <= FAILURES_LOGGED:
                logger.exception("driver failed doing=%s failures=%d", doing, self.failures)
            if self._on_failure is not None:
                self._on_failure(error)
            return True

    def _received(self, batch: list[Datagram]) -> None:
        now = clock.now()
        for datagram in batch:
            self._call("receive", partial(self._machine.receive, datagram, now))
        self.wake()

    def _transmit_failed(self, transmit: Transmit, error: str) -> None:
        self._input("transmit_failed", partial(self._machine.transmit_failed, transmit, error))

    def _interfaces_changed(self, addresses: tuple[InterfaceAddress, ...]) -> None:
        self._input("interfaces_changed", partial(self._machine.interfaces_changed, addresses))

    def _input(self, doing: str, call: Callable[[float], None]) -> None:
        if not self._closed:
            self._call(doing, partial(call, clock.now()))
            self.wake()

    # --- draining -----------------------------------------------------------------

    def _go_on(self) -> None:
        self._continuation = None
        self.wake()

    def _drain(self) -> bool:
        """False when there is more than one turn of the loop should do."""
        budget = OUTPUTS_PER_DRAIN
        while budget > 0:
            done = self._drain_transmits(budget)
            done += self._drain_events(budget)
            if not done:
                return True
            budget -= done
        return False

    def _drain_transmits(self, budget: int) -> int:
        done = 0
        while done < budget and (output := self._machine.poll_transmit()) is not None:
            done += 1
            if isinstance(output, StreamWrite):
                self._writes.setdefault(output.stream, []).append(output.data)
            else:
                self._udp.send(output)
        self._flush_writes()
        return done

    def _flush_writes(self) -> None:
        writes, self._writes = self._writes, {}
        for name, chunks in writes.items():
            stream = self._streams.get(name)
            if stream is None or not stream.write(chunks):
                self.drops["stream write: not open"] += len(chunks)

    def _drain_events(self, budget: int) -> int:
        done = 0
        while done < budget and not self._closed and (event := self._machine.poll_event()) is not None:
            done += 1
            self._call("event", partial(self._act, event))
        return done

    def _act(self, event: Event) -> None:
        if isinstance(event, OpenStream):
            self._open_stream(event)
        elif isinstance(event, CloseStream):
            self._close_stream(event.stream)
        elif isinstance(event, Resolve):
            self._look_up(event.name)
        elif isinstance(event, OpenSocket):
            self._open_socket(event)
        elif isinstance(event, CloseSocket):
            self._udp.close(event.local)
        else:
            self._on_event(event)

    def _open_socket(self, event: OpenSocket) -> None:
        try:
            local = self._udp.open(UdpAddress(event.ip, event.port), event.interface, shared=event.shared)
        except OSError as error:
            logger.info("driver no-socket interface=%s ip=%s error=%s", event.interface, event.ip, error)
            reason = error.strerror or str(error)
            self._machine.socket_failed(event.interface, event.ip, reason, clock.now())
            return
        self._machine.socket_opened(event.interface, local, clock.now())

    # --- time ---------------------------------------------------------------------

    def _arm(self) -> None:
        deadline = self._machine.poll_deadline()
        if deadline is None:
            self._disarm()
            return
        if self._timer is not None and self._armed_for <= deadline.at:
            return  # it fires early, looks again, and saves a cancellation with every datagram
        self._disarm()
        self._armed_for = deadline.at
        self._timer = self._loop.call_later(self._delay(deadline, clock.now()), self._timer_fired)

    def _delay(self, deadline: Deadline, now: float) -> float:
        if deadline.at > now:
            return min(max(deadline.at - now, SHORTEST_SLEEP_S), LONGEST_SLEEP_S)
        if self._overdue == OVERDUE_LIMIT:
            logger.error("driver overdue deadline=%r late_s=%.3f", deadline.reason, now - deadline.at)
        return OVERDUE_PAUSE_S if self._overdue >= OVERDUE_LIMIT else 0.0

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _timer_fired(self) -> None:
        self._timer = None
        self._call("timeout", self._run_due)
        self.wake()

    def _run_due(self) -> None:
        now = clock.now()
        if not self._is_due(now):
            return
        self._overdue += 1
        self._machine.handle_timeout(now)
        if not self._is_due(now):
            self._overdue = 0

    def _is_due(self, now: float) -> bool:
        deadline = self._machine.poll_deadline()
        return deadline is not None and deadline.at <= now

    # --- streams (StreamSink) -----------------------------------------------------

    def _open_stream(self, event: OpenStream) -> None:
        if event.stream in self._streams:
            raise PeerwayError(f"the stream {event.stream!r} is open already")
        try:
            url = RelayUrl.parse(event.url)
        except RelayUrlError as error:
            self.stream_closed(event.stream, str(error))
            return
        target = StreamTarget(url.host, url.port, url.tls, url.pin)
        self._streams[event.stream] = ClientStream(event.stream, target, self, trust=self._trust)

    def _close_stream(self, name: str) -> None:
        stream = self._streams.pop(name, None)
        if stream is not None:
            stream.close()
            self._see_off(stream)

    def _see_off(self, stream: ClientStream) -> None:
        self._leaving = [leaving for leaving in self._leaving if not leaving.gone]
        self._leaving.append(stream)

    def stream_opened(self, name: str) -> None:
        """For streams: it is connected."""
        self._input("stream_opened", partial(self._machine.stream_opened, name))

    def stream_data(self, name: str, data: bytes) -> None:
        """For streams: bytes arrived."""
        self._input("stream_data", partial(self._machine.stream_data, name, data))

    def stream_closed(self, name: str, error: str) -> None:
        """For streams: it ended, or never began."""
        stream = self._streams.pop(name, None)
        if stream is not None:
            self._see_off(stream)
        self._input("stream_closed", partial(self._machine.stream_closed, name, error))

    def stream_paused(self, name: str) -> None:
        """For streams: much waits to be sent."""
        self._input("stream_paused", partial(self._machine.stream_paused, name))

    def stream_resumed(self, name: str) -> None:
        """For streams: what waited was sent."""
        self._input("stream_resumed", partial(self._machine.stream_resumed, name))

    # --- names --------------------------------------------------------------------

    def _look_up(self, name: str) -> None:
        if name in self._lookups:
            return
        if len(self._lookups) >= NAMES_AT_ONCE:
            self.drops["resolve: too many at once"] += 1
            self._resolved(name, ())
            return
        self._lookups[name] = self._loop.create_task(self._answer(name), name=f"resolve {name}")

    async def _answer(self, name: str) -> None:
        ips: tuple[str, ...] = ()
        try:
            ips = await resolve(name)
        except ResolveError as error:
            logger.debug("driver unresolved name=%s error=%s", name, error)
        finally:
            del self._lookups[name]
        self._resolved(name, ips)

    def _resolved(self, name: str, ips: tuple[str, ...]) -> None:
        self._input("resolved", partial(self._machine.resolved, name, ips))
