"""A check of what a node sits behind: carries out the plan, and reports.

    start -> names looked up -> probes, as the plan wants them, until nothing more is wanted
                                                            or the time is up -> CheckDone

Sockets are asked for as probes need them, and given back at the end. Whatever is not known
when the time is up stays unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from peerway.core.machine import (
    CloseSocket,
    CloseStream,
    Composite,
    Datagram,
    Event,
    InterfaceAddress,
    PeerwayError,
    Resolve,
    Rng,
    Timers,
    Transmit,
    UdpAddress,
)
from peerway.core.netcheck import lifetime
from peerway.core.netcheck.hairpin import HairpinProbe, HairpinSeen
from peerway.core.netcheck.knowledge import Knowledge, Question, version_of
from peerway.core.netcheck.page import PageProbe, PageSeen
from peerway.core.netcheck.plan import is_complete, wanted
from peerway.core.netcheck.probes import Answer, Ask, Fetch, Meet, Outcome, Probe, Refusal, Silence
from peerway.core.netcheck.report import Report, build_report
from peerway.core.netcheck.sockets import NamedSockets
from peerway.core.netcheck.text import headlines
from peerway.core.portmap.report import GatewayReport
from peerway.core.relay.url import RelayUrl
from peerway.core.stun.client import Detour, MappingLearned, QueryFailed, Schedule, StunClient

GATEWAYS_S = 2.0  # how long a gateway may take to say whether it maps ports
GATEWAYS_EVERY_S = 0.1
LIMIT_S = 5.0  # a check with nothing slow in it ends by then; to close what is open may take one more
SCHEDULE = Schedule((0.0, 0.2, 0.45, 0.75, 1.1), 1.8)
_STUN, _HAIRPIN = "stun", "hairpin"


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """Something is known now that was not, or not so, before; for people."""

    text: str


@dataclass(frozen=True, slots=True)
class CheckDone(Event):
    """The check is over. Its last event."""

    report: Report


class NoServersError(PeerwayError):
    """Nobody was named who could tell us what we look like."""

    def __init__(self) -> None:
        super().__init__(
            "no server to ask: give a relay (--relay URL) or a STUN server (--stun HOST:PORT); "
            "`peerway serve` runs both"
        )


class Netcheck(Composite[str]):
    """One check. `gateways` gives what port mapping has found out, whenever it is asked."""

    def __init__(
        self, question: Question, rng: Rng, gateways: Callable[[], tuple[GatewayReport, ...]] = tuple
    ) -> None:
        super().__init__()
        if not question.servers:
            raise NoServersError
        self._rng = rng
        self._gateways = gateways
        self._known = Knowledge(question)
        self._stun = StunClient(rng, SCHEDULE)
        self._adopt(_STUN, self._stun)
        self._started: dict[Probe, None] = {}
        self._sockets = NamedSockets()
        self._waiting: dict[str, list[Ask]] = {}
        self._resting: dict[str, Ask] = {}
        self._asked: dict[tuple[UdpAddress, UdpAddress, Detour | None], Ask] = {}
        self._probes: dict[str, Probe] = {}
        self._streams: dict[str, PageProbe] = {}
        self._hairpin: HairpinProbe | None = None
        self._gateways_until = 0.0
        self._told: dict[str, str] = {}
        self._report: Report | None = None

    @property
    def report(self) -> Report:
        """What is known so far."""
        return self._report or build_report(self._known, self._gateways())

    # --- from the operating system

    def start(self, interfaces: tuple[InterfaceAddress, ...], now: float) -> None:
        """Begin, on a machine with these addresses."""
        self._known.interfaces = interfaces
        limit = lifetime.LONGEST_S if self._known.question.slow else LIMIT_S
        self._timers.set("limit", now + limit, "netcheck: the time is up")
        self._gateways_until = now + (0.0 if self._known.question.quick else GATEWAYS_S)
        self._events.extend(Resolve(name) for name in self._known.unresolved)
        self._go_on(now)

    def resolved(self, name: str, ips: tuple[str, ...], now: float) -> None:
        """The addresses of a server's host."""
        self._known.resolved.setdefault(name, ips)
        self._go_on(now)

    def interfaces_changed(self, addresses: tuple[InterfaceAddress, ...], now: float) -> None:
        """A check is over before it would make sense to begin it anew."""

    def socket_opened(self, interface: str, local: UdpAddress, now: float) -> None:
        """A socket that we asked for."""
        name = self._sockets.opened(local)
        if name is None:
            self._events.append(CloseSocket(local))
            return
        for ask in self._waiting.pop(name, ()):
            self._ask(ask, local, now)
        self._go_on(now)

    def socket_failed(self, interface: str, ip: str, error: str, now: float) -> None:
        """A socket that we asked for cannot be had."""
        name = self._sockets.failed(ip, error)
        if name is not None:
            for ask in self._waiting.pop(name, ()):
                self._known.outcomes[ask] = Silence(f"no socket: {error}")
            self._go_on(now)

    def receive(self, datagram: Datagram, now: float) -> None:
        """What came to one of our sockets."""
        if self._hairpin is not None and self._hairpin.receive(datagram, now):
            self._touch(_HAIRPIN)
        else:
            self._stun.receive(datagram, now)
            self._touch(_STUN)
        self._go_on(now)

    def transmit_failed(self, transmit: Transmit, error: str, now: float) -> None:
        """The system refused to send: no answer will come, and we need not wait for it."""
        self._drop(f"send: {error}")
        for key, ask in self._asked.items():
            if key[:2] == (transmit.local, transmit.remote) and ask not in self._known.outcomes:
                self._known.outcomes[ask] = Silence(error)
        self._go_on(now)

    def stream_opened(self, stream: str, now: float) -> None:
        """A stream to a relay stands."""
        self._with(stream, lambda page: page.stream_opened(now), now)

    def stream_data(self, stream: str, data: bytes, now: float) -> None:
        """Bytes from a relay."""
        self._with(stream, lambda page: page.stream_data(data, now), now)

    def stream_closed(self, stream: str, error: str, now: float) -> None:
        """A stream to a relay ended, or could not be opened."""
        self._with(stream, lambda page: page.stream_closed(error, now), now)

    def stream_paused(self, stream: str, now: float) -> None:
        """We write so little that it makes no difference."""

    def stream_resumed(self, stream: str, now: float) -> None:
        """We write so little that it makes no difference."""

    def handle_timeout(self, now: float) -> None:
        """Run what is due."""
        super().handle_timeout(now)
        self._go_on(now)

    def _timer_expired(self, name: str, now: float) -> None:
        if name == "limit":
            self._finish()
        elif name in self._resting:
            self._open_or_ask(self._resting.pop(name), now)

    def _with(self, stream: str, use: Callable[[PageProbe], None], now: float) -> None:
        page = self._streams.get(stream)
        if page is not None:
            use(page)
            self._touch(stream)
            self._go_on(now)

    # --- carrying out the plan

    def _go_on(self, now: float) -> None:
        """Begin what is wanted and can begin, until nothing more is; tell what is known; end when all is."""
        self._settle(now)
        while self._report is None:
            fresh = [p for p in wanted(self._known) if p not in self._started and self._begin(p, now)]
            self._settle(now)
            if not fresh:
                break
        if self._report is None:
            self._tell()
            if is_complete(self._known):
                self._finish_unless_gateways_wait(now)

    def _finish_unless_gateways_wait(self, now: float) -> None:
        """Gateways are asked by somebody else, who tells us nothing: we look."""
        undecided = [gateway for gateway in self._gateways() if not (gateway.mapping or gateway.failure)]
        if not undecided or now >= self._gateways_until:
            self._finish()
        elif "gateways" not in self._timers:
            self._timers.set("gateways", now + GATEWAYS_EVERY_S, "netcheck: do gateways map ports?")

    def _begin(self, probe: Probe, now: float) -> bool:
        """Start a probe; False when that has to wait for another's outcome."""
        if isinstance(probe, Ask):
            if not self._begin_ask(probe, now):
                return False
        elif isinstance(probe, Fetch):
            self._begin_fetch(probe, now)
        else:
            self._begin_meet(probe, now)
        self._started[probe] = None
        return True

    def _begin_ask(self, ask: Ask, now: float) -> bool:
        if not ask.since:
            self._open_or_ask(ask, now)
            return True
        first = Ask(ask.since, ask.server)
        if first not in self._known.outcomes:
            return False
        answer = self._known.answer(first)
        if answer is None:
            self._known.outcomes[ask] = Refusal("there was nothing to wait for")
            return True
        name = f"{ask.socket} {ask.arrives_at}"
        self._resting[name] = ask
        self._timers.set(name, answer.at + ask.age_s, f"netcheck: has a mapping of {ask.age_s:g} s lived?")
        return True

    def _open_or_ask(self, ask: Ask, now: float) -> None:
        request = self._sockets.want(ask.socket, version_of(ask.server.ip))
        if request is not None:
            self._events.append(request)
        if (local := self._sockets.local(ask.socket)) is not None:
            self._ask(ask, local, now)
        elif error := self._sockets.error(ask.socket):
            self._known.outcomes[ask] = Silence(f"no socket: {error}")
        else:
            self._waiting.setdefault(ask.socket, []).append(ask)

    def _ask(self, ask: Ask, local: UdpAddress, now: float) -> None:
        detour = None
        if ask.arrives_at:
            answer = self._known.answer(Ask(ask.arrives_at, ask.server))
            assert answer is not None
            detour = Detour(arrives_at=answer.local, port=answer.mapped.port)
        elif ask.origin is not None:
            detour = Detour(origin=ask.origin)
        self._asked[local, ask.server, detour] = ask
        self._stun.query(ask.server, local, now, detour)
        self._touch(_STUN)

    def _begin_fetch(self, fetch: Fetch, now: float) -> None:
        stream = f"netcheck {fetch.url}"
        challenge = self._rng.randbytes(8).hex()
        page = PageProbe(RelayUrl.parse(fetch.url), stream, challenge, now)
        self._streams[stream] = page
        self._probes[stream] = fetch
        self._adopt(stream, page)

    def _begin_meet(self, meet: Meet, now: float) -> None:
        one, other = (self._known.answer(Ask(socket, meet.server)) for socket in (meet.one, meet.other))
        assert one is not None
        assert other is not None
        self._hairpin = HairpinProbe(one, other, self._rng, now)
        self._probes[_HAIRPIN] = meet
        self._adopt(_HAIRPIN, self._hairpin)

    # --- what comes of it

    def _child_event(self, key: str, event: Event, now: float) -> None:
        if isinstance(event, MappingLearned):
            ask = self._asked[event.local, event.server, event.detour]
            self._known.outcomes[ask] = Answer(event.mapped, event.local, event.round_trip, event.other, now)
        elif isinstance(event, QueryFailed):
            ask = self._asked[event.local, event.server, event.detour]
            outcome: Outcome = Refusal(event.reason) if event.answered else Silence(event.reason)
            self._known.outcomes.setdefault(ask, outcome)
        elif isinstance(event, PageSeen | HairpinSeen):
            self._known.outcomes[self._probes[key]] = event.outcome
        elif self._report is None or isinstance(event, CloseStream):
            self._events.append(event)

    def _tell(self) -> None:
        for about, text in headlines(self.report).items():
            if self._told.get(about) != text:
                self._told[about] = text
                self._events.append(Progress(text))

    def _finish(self) -> None:
        if self._report is not None:
            return
        self._report = build_report(self._known, self._gateways())
        self._timers = Timers()
        for stream in [s for s, probe in self._probes.items() if probe not in self._known.outcomes]:
            if stream in self._streams:
                self._events.append(CloseStream(stream))
        for key in list(self._children):
            self._release(key)
        self._events.extend(self._sockets.give_back())
        self._events.append(CheckDone(self._report))
