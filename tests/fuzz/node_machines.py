"""A whole node, with an honest peer and an honest relay on a network that is neither; and a netcheck."""

import random
from collections import deque

from tests.fuzz.choices import Choices
from tests.fuzz.driving import Course, Wishes
from tests.fuzz.gateway_machines import changed
from tests.fuzz.peer_machines import some_candidates
from tests.fuzz.stun_machines import stun_response

from peerway.core.identity import SecretKey
from peerway.core.links import LinkEvent, TooManyConnections
from peerway.core.machine import (
    Address,
    CloseSocket,
    CloseStream,
    Datagram,
    Event,
    InterfaceAddress,
    OpenSocket,
    OpenStream,
    Output,
    RelayAddress,
    Resolve,
    StreamWrite,
    Transmit,
    UdpAddress,
)
from peerway.core.netcheck.knowledge import Question
from peerway.core.netcheck.machine import CheckDone, Netcheck
from peerway.core.node import NodeMachine
from peerway.core.quic.errors import StreamMisuse, TooManyStreams
from peerway.core.relay.server import RelayServer
from peerway.core.relay.url import RelayUrl
from peerway.core.signal.door import Admission
from peerway.core.signal.message import Birth, Body, Signal, build
from peerway.core.ticket import Ticket
from peerway.sim.transport.stand_in import SimTransports

RELAY = "http://192.0.2.1:3340"
SECRET = b"s" * 16
KEYS = {"us": SecretKey(b"\1" * 32), "them": SecretKey(b"\2" * 32)}
PLACES = {"us": UdpAddress("203.0.113.1", 41641), "them": UdpAddress("203.0.113.2", 41641)}
BOUND = UdpAddress("0.0.0.0", 41641)
STRANGERS: tuple[Address, ...] = (
    UdpAddress("198.51.100.9", 9),
    UdpAddress("2001:db8::9", 9),
    RelayAddress(RELAY, b"k" * 32),
)
ETHERNET = InterfaceAddress("eth0", "203.0.113.1", 24, 100)
PICTURES = (
    (),
    (ETHERNET,),
    (InterfaceAddress("wlan0", "10.0.0.7", 24, 200),),
    (ETHERNET, InterfaceAddress("eth0", "2001:db8::1", 64, 100)),
)


class World:
    """Two nodes and a relay; what they send lies on the wire until a choice moves it."""

    def __init__(self) -> None:
        rng = random.Random(1)
        transports = SimTransports(rng)
        self.relay = Course(RelayServer(rng))
        self.nodes = {
            name: Course(
                NodeMachine(
                    key,
                    rng,
                    admission=Admission(secret=SECRET),
                    relays=(RELAY,),
                    transports=transports,
                    portmap=False,
                )
            )
            for name, key in KEYS.items()
        }
        self.wire: deque[tuple[str, str, object, bytes, int]] = deque(maxlen=512)
        self.links: list[int] = []
        self.number = 0
        self.sockets = 0

    def settle(self) -> None:
        """Everybody has said what there is to say."""
        for _ in range(200):
            heard = []
            for name, course in self.nodes.items():
                course.drain()
                heard.append(self._hear(name, *course.said()))
            if not any([*heard, self._hear_relay()]):
                return
        raise AssertionError("they never come to rest")

    def _hear(self, name: str, outputs: list[Output], events: list[Event]) -> bool:
        for output in outputs:
            if isinstance(output, StreamWrite):
                self.wire.append(("relay", "data", f"{name} {output.stream}", output.data, 0))
            else:
                self._datagram(name, output)
        for event in events:
            self._act(name, event)
        return bool(outputs or events)

    def _datagram(self, name: str, output: Transmit) -> None:
        target = "them" if name == "us" else "us"
        if output.remote == PLACES[target]:
            size = len(output.segments[0]) if len(output.segments) > 1 else 0
            self.wire.append((target, "datagram", PLACES[name], b"".join(output.segments), size))

    def _act(self, name: str, event: Event) -> None:
        machine, now = self.nodes[name].machine, self.nodes[name].now
        assert isinstance(machine, NodeMachine)
        if isinstance(event, OpenStream):
            self.number += 1
            self.relay.machine.stream_accepted(f"{name} {event.stream}", "203.0.113.9", self.relay.now)  # type: ignore[attr-defined]
            self.wire.append((name, "opened", event.stream, b"", 0))
        elif isinstance(event, CloseStream):
            self.relay.machine.stream_closed(f"{name} {event.stream}", "", self.relay.now)  # type: ignore[attr-defined]
        elif isinstance(event, OpenSocket):
            self.sockets += 1
            machine.socket_opened(event.interface, UdpAddress(event.ip, 50_000 + self.sockets % 9999), now)
        elif isinstance(event, LinkEvent) and name == "us" and event.link not in self.links:
            self.links.append(event.link)

    def _hear_relay(self) -> bool:
        self.relay.drain()
        outputs, events = self.relay.said()
        for output in outputs:
            assert isinstance(output, StreamWrite)
            name, _, stream = output.stream.partition(" ")
            self.wire.append((name, "data", stream, output.data, 0))
        for event in events:
            if isinstance(event, CloseStream):
                name, _, stream = event.stream.partition(" ")
                self.relay.machine.stream_closed(event.stream, "", self.relay.now)  # type: ignore[attr-defined]
                self.wire.append((name, "closed", stream, b"", 0))
        return bool(outputs or events)

    def move(self, choices: Choices, *, faithful: bool) -> None:
        """What lies on the wire first arrives; when not `faithful`, perhaps otherwise, or not, or twice."""
        if not self.wire:
            return
        to, kind, about, data, size = self.wire.popleft()
        if not faithful:
            verdict = choices.number()
            data = changed(choices, data) if verdict < 100 else data
            if 100 <= verdict < 130:
                self.wire.append((to, kind, about, data, size))
            elif verdict > 230:
                return
        course = self.relay if to == "relay" else self.nodes[to]
        machine = course.machine
        if kind == "data":
            machine.stream_data(about, data, course.now)  # type: ignore[attr-defined]
        elif kind == "opened":
            machine.stream_opened(about, course.now)  # type: ignore[attr-defined]
        elif kind == "closed":
            machine.stream_closed(about, "reset", course.now)  # type: ignore[attr-defined]
        else:
            assert isinstance(about, UdpAddress)
            machine.receive(Datagram(data, about, BOUND, size), course.now)  # type: ignore[attr-defined]

    def pass_time(self, seconds: float) -> None:
        """Everybody's clock goes on."""
        for course in (*self.nodes.values(), self.relay):
            course.now += seconds
            course.machine.handle_timeout(course.now)
            course.drain()


def node(data: bytes) -> None:
    """Two nodes meet, talk and part, while everything goes wrong that can."""
    choices = Choices(data)
    world = World()
    for name, course in world.nodes.items():
        assert isinstance(course.machine, NodeMachine)
        course.machine.start((BOUND,), course.now)
        picture = (InterfaceAddress("eth0", PLACES[name].ip, 24, 100),)
        course.machine.interfaces_changed(picture, course.now)
    ticket = Ticket(KEYS["them"].node_id, (RELAY,), (PLACES["them"],), SECRET)
    us = world.nodes["us"].machine
    assert isinstance(us, NodeMachine)
    for step in choices.steps():
        now = world.nodes["us"].now
        kind = step % 20
        if kind == 0:
            try:
                world.links.append(us.dial(ticket, now))
            except TooManyConnections:
                pass
        elif kind <= 4:
            for _ in range(step // 20 + 1):
                world.move(choices, faithful=True)
                world.settle()
        elif kind <= 6:
            world.move(choices, faithful=False)
        elif kind == 7:
            first = choices.pick((b"\4", b"\5", b"\0\1", b"\x40", b"\xc0\0\0\0\1\x08", b""))
            remote = choices.pick((*STRANGERS, PLACES["them"]))
            us.receive(Datagram(first + choices.piece(300), remote, BOUND, choices.number()), now)
        elif kind == 8:
            us.stream_data(f"{RELAY}#{choices.number() % 3}", choices.piece(200), now)
        elif kind == 9:
            us.interfaces_changed(choices.pick(PICTURES), now)
        elif kind <= 12 and world.links:
            _use(us, choices, world.links[choices.number() % len(world.links)], kind, now)
        elif kind == 13 and world.links and step > 128:
            us.release(world.links.pop(choices.number() % len(world.links)))
        elif kind == 14:
            us.resolved(choices.text(20), ("192.0.2.1",)[: choices.number() % 2], now)
            us.transmit_failed(
                Transmit((choices.piece(60),), choices.pick(STRANGERS), BOUND), "no route", now
            )
        elif kind in (17, 18):
            remote = choices.pick((*STRANGERS, PLACES["them"], PLACES["them"]))
            us.receive(Datagram(_forged_signal(us, choices), remote, BOUND), now)
        elif kind == 15 and step > 250:
            us.leave(now)
        else:
            world.pass_time(choices.jump())
        world.settle()
        assert us.connection_count <= 4096


def _forged_signal(us: NodeMachine, choices: Choices) -> bytes:
    """A signal that the peer's key has sealed: as an admitted peer may make it that means no good."""
    links = [link for _, link in us._links._table]
    echoes = [link.secret for link in links] or [b""]
    secrets = [link.peer_secret for link in links if link.peer_secret] or [b"s" * 32]
    body = Body(
        acknowledged=choices.number(choices.pick((1, 8))),
        wants_answer=choices.flag(),
        index=choices.number(4),
        dial=choices.take(choices.number() % 21),
        admission=choices.pick((SECRET, SECRET, b"")),
        round=choices.number(choices.pick((1, 4))),
        candidates=some_candidates(choices),
        born=Birth(choices.exactly(8), choices.number()),
    )
    echo = choices.pick((echoes[0], echoes[-1], b"", b"w" * 32))
    secret = choices.pick((secrets[0], secrets[-1], choices.exactly(32)))
    us_id, them = KEYS["us"].node_id, KEYS["them"]
    signal = Signal(them.node_id, us_id, secret, echo, choices.number(choices.pick((1, 8))) or 1, body)
    return build(signal, them.shared_with(us_id.box_public()), random.Random(1))


def _use(us: NodeMachine, choices: Choices, number: int, kind: int, now: float) -> None:
    """What the application does with a connection, as far as it may."""
    stream = choices.number() % 6
    written = bytes(choices.number(2) % 5000)
    try:
        if kind == 10:
            us.call(number, lambda link: link.with_session(lambda s: s.open_stream(now), now), now)
        elif kind == 11:
            us.call(number, lambda link: link.with_session(lambda s: s.write(stream, written, now), now), now)
        elif stream == 0:
            us.call(number, lambda link: link.close(1, "done", now), now)
        elif stream == 1:
            us.call(number, lambda link: link.ping(now), now)
        elif stream == 2:
            us.call(number, lambda link: link.abandon(now), now)
        else:
            us.call(number, lambda link: link.with_session(lambda s: s.read(stream, -1, now), now), now)
    except (KeyError, StreamMisuse, TooManyStreams):
        pass  # it is over and was released; or there is no such stream


class _Check:
    """A check, and the network it is made on, in which each method lets one thing happen."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        options = choices.number()
        question = Question(
            (RelayUrl.parse(RELAY), RelayUrl.parse("https://relay.example")),
            (("203.0.113.20", 3478), ("stun.example", 3478)),
            hairpin=bool(options & 1),
            slow=bool(options & 2),
            quick=bool(options & 4),
        )
        self.check = Netcheck(question, random.Random(1))
        self.course = Course(self.check)
        self.wishes = Wishes()
        self.bound: list[UdpAddress] = []
        self.names: list[str] = []
        self.done = 0
        self.check.start(choices.pick(PICTURES), self.course.now)
        self.take()

    def take(self) -> None:
        self.course.drain()
        for event in self.wishes.note(*self.course.said()):
            if isinstance(event, CloseSocket):
                self.bound.remove(event.local)
            elif isinstance(event, Resolve):
                self.names.append(event.name)
            self.done += isinstance(event, CheckDone)
        assert self.done <= 1

    def step(self, number: int) -> None:
        """One thing, and what it calls for."""
        wishes, kind = self.wishes, number % 10
        if kind <= 1 and wishes.sockets:
            self.open_socket(number)
        elif kind <= 4 and wishes.sent:
            self.answer()
        elif kind == 5 and self.names:
            ips = self.choices.pick((("203.0.113.30",), ("2001:db8::5",), (), ("203.0.113.20", "::1")))
            self.check.resolved(self.names.pop(), ips, self.course.now)
        elif kind == 6 and wishes.opening:
            self.check.stream_opened(wishes.opening.pop(), self.course.now)
        elif kind == 7 and wishes.streams:
            self.disturb_stream()
        elif kind == 8 and wishes.sent:
            self.check.transmit_failed(wishes.sent[-1], "no route to host", self.course.now)
        else:
            self.course.pass_time(self.choices)
        self.take()
        assert self.check.report is not None

    def open_socket(self, number: int) -> None:
        request, now = self.wishes.sockets.pop(0), self.course.now
        if self.choices.number() >= 240:
            self.check.socket_failed(request.interface, request.ip, "no descriptor", now)
            return
        local = UdpAddress(request.ip, 50_000 + len(self.wishes.sent) + len(self.bound) + number)
        if local in self.bound:
            self.check.socket_failed(request.interface, request.ip, "in use", now)
        else:
            self.bound.append(local)
            self.check.socket_opened(request.interface, local, now)

    def answer(self) -> None:
        asked = self.wishes.sent.pop(self.choices.number() % len(self.wishes.sent))
        assert isinstance(asked.remote, UdpAddress)
        answer = stun_response(self.choices, asked.segments[0])
        self.check.receive(Datagram(answer, asked.remote, asked.local), self.course.now)

    def disturb_stream(self) -> None:
        stream = self.choices.pick(self.wishes.streams)
        if self.choices.flag():
            self.check.stream_data(stream, self.choices.piece(300), self.course.now)
        else:
            self.wishes.streams.remove(stream)
            self.check.stream_closed(stream, "reset", self.course.now)

    def finish(self) -> None:
        """Everything has been closed again, sockets that come late, too."""
        self.course.finish(seconds=1000.0)
        self.take()
        for request in self.wishes.sockets:
            self.bound.append(UdpAddress(request.ip, 1))
            self.check.socket_opened(request.interface, self.bound[-1], self.course.now)
            self.take()
        assert self.done == 1
        assert self.bound == []


def netcheck(data: bytes) -> None:
    """A check among servers that answer anything, and relays whose web pages are anything."""
    choices = Choices(data)
    check = _Check(choices)
    for step in choices.steps():
        check.step(step)
    check.finish()


TARGETS = (node, netcheck)
