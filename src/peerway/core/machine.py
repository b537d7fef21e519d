"""The contract every protocol machine follows, and the pieces machines are built from.

A machine is pure: it is given bytes and the time, and answers with bytes to send, events
that happened, and the next moment it wants to be called. It never touches a socket, a
clock or a source of chance. Whoever drives it (asyncio on real sockets, the simulated
internet, a test) does this after every input:

1. take `poll_transmit()` until it is None and send each,
2. take `poll_event()` until it is None and act on each,
3. arm one timer for `poll_deadline()` and call `handle_timeout(now)` when it passes.

Early, late and spurious calls of `handle_timeout` are harmless. A peer's bytes never
raise out of a machine: they are dropped and counted by reason in `drops`. Misuse by the
local caller raises at once.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class PeerwayError(Exception):
    """The root of every exception peerway raises on purpose."""


class WireError(PeerwayError, ValueError):
    """Bytes from the network that are not what they should be. Leaves codecs only.

    `reason` is one of few, to count by, however many kinds of nonsense there are; the message adds
    the `detail` for people.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, order=True)
class UdpAddress:
    """An IP address in its canonical text form, and a UDP port."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True, order=True)
class RelayAddress:
    """A client of a relay: the relay's URL and the client's 32-byte X25519 key there."""

    url: str
    key: bytes

    def __str__(self) -> str:
        return f"relay {self.url}"


Address = UdpAddress | RelayAddress


@dataclass(frozen=True, slots=True)
class Datagram:
    """What arrived in one system call: one datagram, or several of equal size coalesced.

    `local` is the bound address of our socket, None when a relay delivered it.
    `segment_size` is 0 for a single datagram; otherwise every `segment_size` bytes are
    a datagram, the last one perhaps shorter.
    """

    data: bytes
    remote: Address
    local: UdpAddress | None = None
    segment_size: int = 0

    def segments(self) -> Iterator[bytes]:
        """The single datagrams."""
        if not self.segment_size:
            yield self.data
            return
        for offset in range(0, len(self.data), self.segment_size):
            yield self.data[offset : offset + self.segment_size]


@dataclass(frozen=True, slots=True)
class Transmit:
    """Datagrams to send in one system call: all of one size, the last perhaps shorter.

    `local` is the bound address of the socket to send from; None lets the driver choose
    the socket of the right family. `ttl` None is the system's default.
    """

    segments: tuple[bytes, ...]
    remote: Address
    local: UdpAddress | None = None
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class StreamWrite:
    """Bytes to write to the byte stream `stream`, a name the machine chose or was given."""

    stream: str
    data: bytes


Output = Transmit | StreamWrite


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a machine next wants `handle_timeout`, and why.

    `at` is monotonic seconds; `reason` is for people ("stun: retransmit 3 of 7").
    """

    at: float
    reason: str


class Event:
    """Something that happened (past tense), or a request to the driver (imperative)."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class OpenStream(Event):
    """Open a byte stream to `url` and call `stream_opened(stream)` or `stream_closed(stream, error)`."""

    stream: str
    url: str


@dataclass(frozen=True, slots=True)
class CloseStream(Event):
    """Close the byte stream once what was written to it is flushed; say nothing back."""

    stream: str


@dataclass(frozen=True, slots=True)
class OpenSocket(Event):
    """Open a UDP socket at `ip` that sends by `interface` whatever the routes say, "" by the routes.

    `port` 0 is any that is free; a `shared` one others may have too, for what is sent to a group.
    Answer `socket_opened` or `socket_failed`; several requests are answered in their order.
    """

    interface: str
    ip: str
    port: int = 0
    shared: bool = False


@dataclass(frozen=True, slots=True)
class CloseSocket(Event):
    """Close the UDP socket that is bound to `local`."""

    local: UdpAddress


@dataclass(frozen=True, slots=True)
class Resolve(Event):
    """Look up the addresses of the host `name`; answer `resolved(name, ips, now)`."""

    name: str


class Rng(Protocol):
    """Chance from outside: `random.SystemRandom()` in production, `random.Random(seed)` in tests."""

    def randbytes(self, n: int, /) -> bytes: ...
    def uniform(self, a: float, b: float, /) -> float: ...
    def randrange(self, stop: int, /) -> int: ...


class Machine(Protocol):
    """What every machine offers to whoever drives it."""

    def handle_timeout(self, now: float) -> None: ...
    def poll_transmit(self) -> Output | None: ...
    def poll_event(self) -> Event | None: ...
    def poll_deadline(self) -> Deadline | None: ...


@dataclass(frozen=True, slots=True, order=True)
class InterfaceAddress:
    """An address of one of our network interfaces: canonical text form, prefix length in bits.

    `metric` is that of the interface's default route in the address's family, None without one:
    the interface with the least is what the system sends by. `gateway` is that route's next hop,
    "" where there is none or it is not known.
    """

    interface: str
    ip: str
    prefix_length: int
    metric: int | None = field(default=None, compare=False)
    gateway: str = field(default="", compare=False)


class DrivenMachine(Machine, Protocol):
    """A whole node, as the driver sees it: every input the operating system can give."""

    def receive(self, datagram: Datagram, now: float) -> None: ...
    def transmit_failed(self, transmit: Transmit, error: str, now: float) -> None: ...
    def interfaces_changed(self, addresses: tuple[InterfaceAddress, ...], now: float) -> None: ...
    def socket_opened(self, interface: str, local: UdpAddress, now: float) -> None: ...
    def socket_failed(self, interface: str, ip: str, error: str, now: float) -> None: ...
    def stream_opened(self, stream: str, now: float) -> None: ...
    def stream_data(self, stream: str, data: bytes, now: float) -> None: ...
    def stream_closed(self, stream: str, error: str, now: float) -> None: ...
    def stream_paused(self, stream: str, now: float) -> None: ...
    def stream_resumed(self, stream: str, now: float) -> None: ...
    def resolved(self, name: str, ips: tuple[str, ...], now: float) -> None: ...


class Timers:
    """The named timers of one machine; a name has at most one deadline at a time.

    `next` is the earliest deadline: it is asked for far more often than it changes.
    """

    __slots__ = ("_deadlines", "next")

    def __init__(self) -> None:
        self._deadlines: dict[str, Deadline] = {}
        self.next: Deadline | None = None

    def set(self, name: str, at: float, reason: str = "") -> None:
        """Arm `name` for `at`, replacing what it was armed for."""
        replaced = self._deadlines.get(name)
        deadline = self._deadlines[name] = Deadline(at, reason or name)
        if self.next is None or at < self.next.at:
            self.next = deadline
        elif replaced is self.next:
            self._find_next()

    def cancel(self, name: str) -> None:
        """Disarm `name`; harmless when it is not armed."""
        cancelled = self._deadlines.pop(name, None)
        if cancelled is not None and cancelled is self.next:
            self._find_next()

    def __contains__(self, name: str) -> bool:
        return name in self._deadlines

    def expired(self, now: float) -> list[str]:
        """Disarm and return the names that are due, earliest first."""
        if self.next is None or self.next.at > now:
            return []
        due = [(deadline.at, name) for name, deadline in self._deadlines.items() if deadline.at <= now]
        due.sort()
        for _, name in due:
            del self._deadlines[name]
        self._find_next()
        return [name for _, name in due]

    def _find_next(self) -> None:
        self.next = min(self._deadlines.values(), key=lambda deadline: deadline.at, default=None)


class Leaf:
    """A machine's queues and timers: what a machine without children is built on."""

    def __init__(self) -> None:
        self.drops: Counter[str] = Counter()
        self._timers = Timers()
        self._transmits: deque[Output] = deque()
        self._events: deque[Event] = deque()

    def poll_transmit(self) -> Output | None:
        """The next bytes to send."""
        return self._transmits.popleft() if self._transmits else None

    def poll_event(self) -> Event | None:
        """The next thing that happened."""
        return self._events.popleft() if self._events else None

    def poll_deadline(self) -> Deadline | None:
        """When to call `handle_timeout`, and why."""
        return self._timers.next

    def handle_timeout(self, now: float) -> None:
        """Run every timer that is due."""
        for name in self._timers.expired(now):
            self._timer_expired(name, now)

    def _timer_expired(self, name: str, now: float) -> None:
        raise NotImplementedError(name)

    def counted(self) -> Counter[str]:
        """What was dropped so far here and in whatever this machine is made of, by reason."""
        return Counter(self.drops)

    def _drop(self, reason: str) -> None:
        self.drops[reason] += 1


Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True, eq=False)
class _Child(Generic[Key]):
    """A machine in a composite. `wakeup` is the one entry of the heap that counts, 0 none."""

    key: Key
    machine: Machine
    is_touched: bool = False
    is_released: bool = False
    deadline: Deadline | None = None
    wakeup: int = 0


class Composite(Leaf, Generic[Key]):
    """A machine made of machines.

    Every input method of a subclass ends with `_settle(now)`: it drains the children that
    were touched, hands each child's event to `_child_event` and each child's transmit to
    `_child_transmit`, and goes on until nobody has anything more to say. Children that
    were not touched cost nothing, however many there are.

    Inputs that come in rows, such as datagrams, end with `_settle_when_polled(now)` instead: the
    whole row is drained once, and what it calls for leaves together.
    """

    def __init__(self) -> None:
        super().__init__()
        self._children: dict[Key, _Child[Key]] = {}
        self._touched: deque[_Child[Key]] = deque()
        self._wakeups: list[tuple[float, int, _Child[Key]]] = []
        self._last_wakeup = 0
        self._unsettled_at: float | None = None  # the time to settle at, None when all is settled
        self._counted_before: Counter[str] = Counter()  # by children that were released

    def counted(self) -> Counter[str]:
        """What was dropped so far here and in the children, those included that are gone."""
        total = self.drops + self._counted_before
        for child in self._children.values():
            total += self._counted_in(child)
        return total

    def _counted_in(self, child: _Child[Key]) -> Counter[str]:
        # some children count in their parent's own counter
        machine = child.machine
        if isinstance(machine, Leaf) and machine.drops is not self.drops:
            return machine.counted()
        return Counter()

    def _adopt(self, key: Key, machine: Machine) -> None:
        if key in self._children:
            raise ValueError(f"there is a child {key!r} already")
        self._children[key] = _Child(key, machine)
        self._touch(key)

    def _release(self, key: Key) -> None:
        child = self._children.pop(key, None)
        if child is not None:
            child.is_released = True
            child.wakeup = 0
            self._counted_before += self._counted_in(child)

    def _touch(self, key: Key) -> None:
        """The child `key` was called: drain it at the next `_settle`. Nothing when it was released."""
        child = self._children.get(key)
        if child is not None and not child.is_touched:
            child.is_touched = True
            self._touched.append(child)

    def _child_event(self, key: Key, event: Event, now: float) -> None:
        self._events.append(event)

    def _child_transmit(self, key: Key, output: Output, now: float) -> None:
        self._transmits.append(output)

    def _settle_when_polled(self, now: float) -> None:
        self._unsettled_at = now

    def _settle(self, now: float) -> None:
        self._unsettled_at = None
        touched = self._touched
        while touched:
            child = touched.popleft()
            if child.is_released:
                continue
            child.is_touched = False
            key, machine = child.key, child.machine
            while (output := machine.poll_transmit()) is not None:
                self._child_transmit(key, output, now)
            while (event := machine.poll_event()) is not None:
                self._child_event(key, event, now)
            deadline = machine.poll_deadline()
            if deadline is not child.deadline and not child.is_released:
                self._arm(child, deadline)

    def _arm(self, child: _Child[Key], deadline: Deadline | None) -> None:
        armed, child.deadline = child.deadline, deadline
        if deadline is None:
            child.wakeup = 0
            return
        if armed is not None and armed.at == deadline.at:
            return
        self._last_wakeup += 1
        child.wakeup = self._last_wakeup
        heapq.heappush(self._wakeups, (deadline.at, child.wakeup, child))
        if len(self._wakeups) > 4 * len(self._children) + 64:
            self._wakeups = [entry for entry in self._wakeups if entry[2].wakeup == entry[1]]
            heapq.heapify(self._wakeups)

    def _next_to_wake(self) -> _Child[Key] | None:
        while self._wakeups:
            _, wakeup, child = self._wakeups[0]
            if child.wakeup == wakeup:
                return child
            heapq.heappop(self._wakeups)
        return None

    def poll_transmit(self) -> Output | None:
        """The next bytes to send."""
        if self._unsettled_at is not None:
            self._settle(self._unsettled_at)
        return self._transmits.popleft() if self._transmits else None

    def poll_event(self) -> Event | None:
        """The next thing that happened."""
        if self._unsettled_at is not None:
            self._settle(self._unsettled_at)
        return self._events.popleft() if self._events else None

    def poll_deadline(self) -> Deadline | None:
        """The earliest deadline of this machine and its children."""
        if self._unsettled_at is not None:
            self._settle(self._unsettled_at)
        own = self._timers.next
        child = self._next_to_wake() if self._wakeups else None
        theirs = None if child is None else child.deadline
        if theirs is None or (own is not None and own.at <= theirs.at):
            return own
        return theirs

    def handle_timeout(self, now: float) -> None:
        """Run every timer that is due, the children's and then one's own."""
        due: list[_Child[Key]] = []
        while (child := self._next_to_wake()) is not None and self._wakeups[0][0] <= now:
            heapq.heappop(self._wakeups)
            child.deadline, child.wakeup = None, 0
            due.append(child)
        for child in due:
            if not child.is_released:
                child.machine.handle_timeout(now)
                self._touch(child.key)
        super().handle_timeout(now)
        self._settle(now)
