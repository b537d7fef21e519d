"""A whole node, with an honest peer and an honest relay on a network that is neither; and a netcheck."""

import random
from collections import deque

from tests.fuzz.choices import Choices
from tests.fuzz.driving import Course
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
from peerway.sim.transport import SimTransports

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


def netcheck(data: bytes) -> None:
    """A check among servers that answer anything, and relays whose web pages are anything."""
    choices = Choices(data)
    options = choices.number()
    question = Question(
        (RelayUrl.parse(RELAY), RelayUrl.parse("https://relay.example")),
        (("203.0.113.20", 3478), ("stun.example", 3478)),
        hairpin=bool(options & 1),
        slow=bool(options & 2),
        quick=bool(options & 4),
    )
    check = Netcheck(question, random.Random(1))
    course = Course(check)
    check.start(choices.pick(PICTURES), course.now)
    asked: list[Transmit] = []
    sockets: list[OpenSocket] = []
    open_sockets: list[UdpAddress] = []
    streams: list[str] = []
    closed_yet: list[str] = []
    names: list[str] = []
    done = 0

    def take() -> None:
        nonlocal done
        course.drain()
        outputs, events = course.said()
        asked.extend(output for output in outputs if isinstance(output, Transmit))
        for event in events:
            if isinstance(event, OpenSocket):
                sockets.append(event)
            elif isinstance(event, CloseSocket):
                open_sockets.remove(event.local)
            elif isinstance(event, OpenStream):
                streams.append(event.stream)
                closed_yet.append(event.stream)
            elif isinstance(event, CloseStream) and event.stream in streams:
                streams.remove(event.stream)
            elif isinstance(event, Resolve):
                names.append(event.name)
            done += isinstance(event, CheckDone)
        assert done <= 1

    take()
    for step in choices.steps():
        kind = step % 10
        if kind <= 1 and sockets:
            request = sockets.pop(0)
            if choices.number() < 240:
                open_sockets.append(UdpAddress(request.ip, 50_000 + len(asked) + len(open_sockets) + step))
                if open_sockets.count(open_sockets[-1]) > 1:
                    open_sockets.pop()
                    check.socket_failed(request.interface, request.ip, "in use", course.now)
                else:
                    check.socket_opened(request.interface, open_sockets[-1], course.now)
            else:
                check.socket_failed(request.interface, request.ip, "no descriptor", course.now)
        elif kind <= 4 and asked:
            question_sent = asked.pop(choices.number() % len(asked))
            assert isinstance(question_sent.remote, UdpAddress)
            answer = stun_response(choices, question_sent.segments[0])
            check.receive(Datagram(answer, question_sent.remote, question_sent.local), course.now)
        elif kind == 5 and names:
            ips = choices.pick((("203.0.113.30",), ("2001:db8::5",), (), ("203.0.113.20", "::1")))
            check.resolved(names.pop(), ips, course.now)
        elif kind == 6 and closed_yet:
            check.stream_opened(closed_yet.pop(), course.now)
        elif kind == 7 and streams:
            stream = choices.pick(streams)
            if choices.flag():
                check.stream_data(stream, choices.piece(300), course.now)
            else:
                streams.remove(stream)
                check.stream_closed(stream, "reset", course.now)
        elif kind == 8 and asked:
            check.transmit_failed(asked[-1], "no route to host", course.now)
        else:
            course.pass_time(choices)
        take()
        assert check.report is not None
    course.finish(seconds=1000.0)
    take()
    for request in sockets:
        local = UdpAddress(request.ip, 1)
        open_sockets.append(local)
        check.socket_opened(request.interface, local, course.now)
        take()
    assert done == 1
    assert open_sockets == []


TARGETS = (node, netcheck)
