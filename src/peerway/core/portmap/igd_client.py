"""Speaks UPnP with one gateway: finds its description, then has dialogues with its connection service.

    SEARCHING --an answer from the gateway itself--> reading the description --> READY
        `------- nobody answered, or nothing of use within SEARCH_S -----------> NotSpoken

Only what comes from the gateway's own address, and points to nowhere else, is looked at; its documents
may be hostile all the same, and are read as such (`igd`, `exchange`, `location`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peerway.core.machine import Composite, Datagram, Event, Rng, Transmit, UdpAddress, WireError
from peerway.core.portmap import ssdp
from peerway.core.portmap.client import Answered, Denied, Granted, NotSpoken, Released, StateLost, Trying
from peerway.core.portmap.exchange import HttpAnswered, HttpExchange, HttpFailed
from peerway.core.portmap.igd_dialogues import (
    Device,
    Dialogue,
    Finding,
    Refusal,
    Reply,
    Trouble,
    add_mapping,
    look_after,
    read_device,
    remove_mapping,
)
from peerway.core.portmap.lease import Lease
from peerway.core.portmap.location import Location

SEARCHES_S = (0.0, 1.0, 3.0)  # UDA 1.1 1.3.2: more than once, UDP gets lost
SEARCH_S = 5.0
MAX_LOCATIONS = 4  # of one gateway
MAX_WAITING = 16  # dialogues
_END = "search over"


@dataclass(frozen=True, slots=True)
class _Task:
    """A dialogue to have with the service there is when its turn comes, and what to do with its result."""

    begin: Callable[[Device | None], Dialogue[Any] | None]
    done: Callable[[Any, float], None]


class IgdClient(Composite[str]):
    """UPnP with the gateway at `gateway`, from our socket bound to `local`."""

    def __init__(self, gateway: str, local: UdpAddress, rng: Rng) -> None:
        super().__init__()
        self._gateway = gateway
        self._local = local
        self._rng = rng
        self._device: Device | None = None
        self._external_ip = ""
        self._locations: dict[Location, None] = {}
        self._searching = False
        self._trouble = ""
        self._lease: Lease | None = None
        self._waiting: deque[_Task] = deque()
        self._task: _Task | None = None
        self._dialogue: Dialogue[Any] | None = None
        self._exchange: HttpExchange | None = None  # the one under way, over `_stream`
        self._stream = ""
        self._exchanges = 0

    # --- what is asked of it

    def probe(self, now: float) -> None:
        """Find the gateway's service, or see whether what it maps for us is still there."""
        lease = self._lease
        if self._device is None:
            self._search(now)
        elif lease is not None:
            self._queue(
                _Task(
                    lambda device: look_after(device.service, lease) if device else None,
                    self._looked_after,
                ),
                now,
            )
        self._settle(now)

    def map(self, lease: Lease, now: float, *, renewal: bool = False) -> None:
        """Have `lease` granted, or prolonged."""
        self._events.append(Trying(lease))
        rng = self._rng
        self._queue(
            _Task(
                lambda device: add_mapping(device.service, lease, rng, renewal=renewal) if device else None,
                lambda outcome, now: self._added(lease, outcome),
            ),
            now,
        )

    def release(self, lease: Lease, now: float) -> None:
        """Have `lease` removed, unless the port is somebody else's by now."""
        if self._lease is not None and self._lease.external_port == lease.external_port:
            self._lease = None
        self._queue(
            _Task(
                lambda device: remove_mapping(device.service, lease) if device else None,
                lambda error, now: self._removed(lease, error),
            ),
            now,
        )

    def stop_asking(self, now: float) -> None:
        """Forget what is being asked; what is under way may still happen at the gateway."""
        self._waiting.clear()
        self._task = self._dialogue = None
        self._with(self._stream, HttpExchange.abandon, now)
        self._end_search()

    # --- inputs

    def receive(self, datagram: Datagram, now: float) -> None:
        """An answer to a search."""
        for data in datagram.segments():
            try:
                self._found(ssdp.parse(data), datagram.remote)
            except WireError as error:
                self._drop(str(error))
        self._go_on(now)

    def owns(self, stream: str) -> bool:
        """Whether the stream is ours."""
        return stream == self._stream

    def stream_opened(self, stream: str, now: float) -> None:
        """The stream of an exchange stands."""
        self._with(stream, lambda exchange: exchange.stream_opened(now), now)

    def stream_data(self, stream: str, data: bytes, now: float) -> None:
        """Part of an answer."""
        self._with(stream, lambda exchange: exchange.stream_data(data, now), now)

    def stream_closed(self, stream: str, error: str, now: float) -> None:
        """The stream of an exchange is over."""
        self._with(stream, lambda exchange: exchange.stream_closed(error, now), now)

    def _with(self, stream: str, use: Callable[[HttpExchange], None], now: float) -> None:
        if self._exchange is not None and self.owns(stream):
            use(self._exchange)
            self._touch(stream)
            self._settle(now)

    # --- searching

    def _search(self, now: float) -> None:
        if self._searching:
            return
        self._searching = True
        self._trouble = ""
        self._locations.clear()
        for number, offset in enumerate(SEARCHES_S):
            self._timers.set(f"search {number}", now + offset, "port mapping: search UPnP gateways")
        self._timers.set(_END, now + SEARCH_S, "port mapping: no UPnP gateway")
        self.handle_timeout(now)

    def _end_search(self) -> None:
        self._searching = False
        self._timers.cancel(_END)
        for number in range(len(SEARCHES_S)):
            self._timers.cancel(f"search {number}")

    def _timer_expired(self, name: str, now: float) -> None:
        if name == _END:
            self._searching = False
            self._conclude()
            return
        for target in ssdp.SEARCH_TARGETS:
            for host in (ssdp.GROUP, self._gateway):
                wire = ssdp.build_search(target)
                self._transmits.append(Transmit((wire,), UdpAddress(host, ssdp.PORT), self._local))

    def _conclude(self) -> None:
        """The search is over and nothing is being read: if there is no device now, there is none."""
        if not self._searching and self._device is None and self._task is None:
            self._events.append(NotSpoken(self._trouble or "no answer"))

    def _found(self, answer: ssdp.SearchAnswer, remote: object) -> None:
        if not isinstance(remote, UdpAddress) or remote.ip != self._gateway:
            raise WireError("ssdp: an answer from another host")
        location = answer.location
        if location.host != self._gateway:
            self._trouble = f"the gateway names another host as its own, {location.host}"
            raise WireError("ssdp: an answer that names another host")
        if not self._searching or location in self._locations:
            return
        if len(self._locations) >= MAX_LOCATIONS:
            raise WireError("ssdp: too many locations")
        self._locations[location] = None
        self._waiting.append(
            _Task(lambda device: None if device else read_device(location), self._read_device),
        )

    # --- dialogues, one after the other

    def _queue(self, task: _Task, now: float) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._drop("too many dialogues wait")
            return
        self._waiting.append(task)
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        while self._task is None and self._waiting:
            self._task = self._waiting.popleft()
            self._dialogue = self._task.begin(self._device)
            self._advance(None, now)
        self._settle(now)

    def _advance(self, reply: Reply | None, now: float) -> None:
        """Take the dialogue to its next request, or to its end."""
        if self._task is None:
            return
        outcome = None
        if self._dialogue is not None:
            try:
                step = self._dialogue.send(reply)
                while isinstance(step, Trying):
                    self._events.append(step)
                    step = self._dialogue.send(None)
            except StopIteration as end:
                outcome = end.value
            else:
                self._exchanges += 1
                self._stream = f"upnp {self._gateway} {self._exchanges}"
                self._exchange = HttpExchange(self._stream, step, now)
                self._adopt(self._stream, self._exchange)
                return
        task, self._task, self._dialogue = self._task, None, None
        task.done(outcome, now)

    def _child_event(self, key: str, event: Event, now: float) -> None:
        if not isinstance(event, HttpAnswered | HttpFailed):
            self._events.append(event)
            return
        self._release(key)
        self._exchange, self._stream = None, ""
        self._advance(event if isinstance(event, HttpAnswered) else Trouble(event.reason), now)
        self._go_on(now)

    def _read_device(self, outcome: Device | Trouble | None, now: float) -> None:
        if isinstance(outcome, Device):
            self._device, self._external_ip = outcome, outcome.external_ip
            self._end_search()
            kind = outcome.service.type.rpartition("service:")[2]
            self._answered(f"{outcome.name}, {kind}" if outcome.name else kind)
            if self._lease is not None:
                self.probe(now)  # it was away: does it still know us?
        elif outcome is not None:
            self._trouble = outcome.reason
        self._conclude()

    def _answered(self, detail: str) -> None:
        self._events.append(Answered(self._external_ip, detail, has_no_address=not self._external_ip))

    def _added(self, lease: Lease, outcome: Lease | Refusal | None) -> None:
        if isinstance(outcome, Lease):
            self._lease = outcome
            self._external_ip = outcome.external_ip
            self._events.append(Granted(outcome))
            return
        refusal = outcome or Refusal("the gateway's service is not known", 0.0)
        self._events.append(Denied(lease, refusal.reason, refusal.retry_after_s))
        if refusal.unreachable:
            self._device = None
            self._events.append(NotSpoken(refusal.reason))

    def _removed(self, lease: Lease, error: str | None) -> None:
        self._events.append(Released(lease, "the gateway's service is not known" if error is None else error))

    def _looked_after(self, outcome: Finding | Trouble | None, now: float) -> None:
        if isinstance(outcome, Trouble):
            self._device = None  # the gateway restarted, perhaps, and is asked elsewhere now
            self._search(now)
        elif outcome is not None and outcome.lost:
            self._events.append(StateLost(outcome.lost))
        elif outcome is not None and outcome.external_ip != self._external_ip:
            self._external_ip = outcome.external_ip
            self._answered("")
