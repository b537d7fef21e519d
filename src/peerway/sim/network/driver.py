"""Runs one machine on a simulated host, and holds it to the contract of `core.machine`.

After every input: drain transmits, then events, then arm one timer. A machine that breaks
the contract is a bug, and raises `ContractError` out of the run: its deadline is in the
past, it never stops talking, or it wants to be called for ever at one and the same moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from peerway.core.machine import (
    CloseSocket,
    CloseStream,
    Deadline,
    Event,
    Machine,
    OpenSocket,
    OpenStream,
    Output,
    Resolve,
    StreamWrite,
    Transmit,
    UdpAddress,
)
from peerway.sim.network.trace import describe
from peerway.sim.network.world import World

OUTPUTS_LIMIT = 100_000  # in one drain
CALLS_AT_ONE_MOMENT_LIMIT = 100
EVENTS_KEPT = 100_000
RESOLVE_S = 0.02
OPTIONAL_INPUTS = ("interfaces_changed", "transmit_failed", "stream_paused", "stream_resumed")


class ContractError(AssertionError):
    """A machine broke the contract every machine follows."""


class Surroundings(Protocol):
    """What a driver needs of its host."""

    name: str
    is_asleep: bool

    def send(self, transmit: Transmit, driver: Driver) -> str: ...
    def open_stream(self, stream: str, url: str, driver: Driver) -> None: ...
    def open_socket(self, ip: str, driver: Driver, interface: str = "") -> UdpAddress: ...
    def close_udp(self, bound: UdpAddress) -> None: ...


class ByteStream(Protocol):
    """What a driver needs of a stream's end."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class Driver:
    """Gives `machine` its inputs and does what it asks for.

    `events` holds the last `EVENTS_KEPT` events with their times; `on_event(event, now)` sees
    each as it happens and may call the machine. `streams` are the open ones, by name; `bytes_streamed`
    is how much went into them so far.
    """

    def __init__(
        self,
        world: World,
        host: Surroundings,
        machine: Machine,
        on_event: Callable[[Event, float], None] | None = None,
    ) -> None:
        self.machine = machine
        self.events: deque[tuple[float, Event]] = deque(maxlen=EVENTS_KEPT)
        self.streams: dict[str, ByteStream] = {}
        self.bytes_streamed = 0
        self._world = world
        self.host = host
        self._on_event = on_event
        self._draining = False
        self._waking = False
        self._halted = False
        self._missed: list[tuple[str, tuple[object, ...]]] = []
        self._alarm: float | None = None
        self._called_at = -1.0
        self._calls = 0

    def halt(self) -> None:
        """The machine is called no more; its streams are closed."""
        self._halted = True
        for end in self.streams.values():
            end.close()
        self.streams.clear()

    def tell(self, verb: str, *arguments: object) -> None:
        """The machine's input `verb`, with the time as its last argument; later where the host is asleep."""
        if self.host.is_asleep:
            self._missed.append((verb, arguments))
            return
        method = getattr(self.machine, verb, None)
        if method is not None:
            self.call(lambda now: method(*arguments, now))
        elif verb not in OPTIONAL_INPUTS:
            raise ContractError(f"{type(self.machine).__name__} on {self.host.name} has no {verb}")

    def call(self, action: Callable[[float], object]) -> None:
        """Do something with the machine: `action(now)`, then drain. Nothing once it is halted."""
        if self._halted:
            return
        if self.host.is_asleep:
            raise RuntimeError(f"{self.host.name} is asleep: nobody can do anything there")
        action(self._world.now)
        if not self._draining:
            self._draining = True
            try:
                self._drain()
            finally:
                self._draining = False

    def wake(self) -> None:
        """The host has awoken: what came is told, and then what was due is done, late."""
        missed, self._missed = self._missed, []
        self._waking = True
        try:
            for verb, arguments in missed:
                self.tell(verb, *arguments)
        finally:
            self._waking = False
        self._alarm = None
        self._look_at_deadline()

    def _drain(self) -> None:
        machine, count, idle = self.machine, 0, False
        while not idle:
            idle = True
            while (output := machine.poll_transmit()) is not None:
                self._output(output)
                idle, count = False, self._counted(count)
            while (event := machine.poll_event()) is not None:
                self._event(event)
                idle, count = False, self._counted(count)
        self._arm(machine.poll_deadline())

    def _counted(self, count: int) -> int:
        if count >= OUTPUTS_LIMIT:
            raise ContractError(f"{self.host.name}: more than {OUTPUTS_LIMIT} outputs after one input")
        return count + 1

    def _output(self, output: Output) -> None:
        if isinstance(output, StreamWrite):
            if stream := self.streams.get(output.stream):
                self.bytes_streamed += len(output.data)
                stream.write(output.data)
        elif error := self.host.send(output, self):
            self.tell("transmit_failed", output, error)

    def _event(self, event: Event) -> None:
        self.events.append((self._world.now, event))
        if self._world.is_traced:
            self._world.log(self.host.name, describe(event))
        match event:
            case OpenStream(stream, url):
                self.host.open_stream(stream, url, self)
            case CloseStream(stream):
                if end := self.streams.pop(stream, None):
                    end.close()
            case OpenSocket(interface, ip):
                self._open_socket(interface, ip)
            case CloseSocket(local):
                self.host.close_udp(local)
            case Resolve(name):
                ips = self._world.resolve(name)
                self._world.after(RESOLVE_S, self.tell, "resolved", name, ips)
            case _ if self._on_event is not None:
                self._on_event(event, self._world.now)

    def _open_socket(self, interface: str, ip: str) -> None:
        try:
            local = self.host.open_socket(ip, self, interface)
        except OSError as error:
            self.tell("socket_failed", interface, ip, str(error))
        else:
            self.tell("socket_opened", interface, local)

    def _arm(self, deadline: Deadline | None) -> None:
        if deadline is None:
            return
        now = self._world.now
        if self._waking:
            return
        if deadline.at < now:
            raise ContractError(f"{self.host.name} at {now:.6f}: a deadline in the past: {deadline}")
        # a later deadline needs no new alarm: the earlier one rings and finds it
        if self._alarm is None or deadline.at < self._alarm:
            self._alarm = deadline.at
            self._world.at(deadline.at, self._ring, deadline.at)

    def _ring(self, at: float) -> None:
        if at != self._alarm or self._halted or self.host.is_asleep:
            return
        self._alarm = None
        self._look_at_deadline()

    def _look_at_deadline(self) -> None:
        deadline = self.machine.poll_deadline()
        if deadline is None or deadline.at > self._world.now:
            self._arm(deadline)
            return
        self._calls = self._calls + 1 if self._called_at == self._world.now else 1
        self._called_at = self._world.now
        if self._calls > CALLS_AT_ONE_MOMENT_LIMIT:
            raise ContractError(f"{self.host.name} at {self._called_at:.6f}: a busy loop: {deadline}")
        self.call(self.machine.handle_timeout)
