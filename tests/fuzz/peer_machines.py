"""What one has with a peer: the exchange of signals, the paths, the session. The peer may do anything."""

import random
from collections import Counter, deque

from tests.fuzz.choices import Choices
from tests.fuzz.driving import Course

from peerway.core.budget import ProbeBudget
from peerway.core.identity import SecretKey
from peerway.core.machine import Address, Event, InterfaceAddress, RelayAddress, Transmit, UdpAddress
from peerway.core.path.agent import PathAgent
from peerway.core.path.candidate import MAX_CANDIDATES, Candidate, CandidateKind, TargetPolicy, networks_of
from peerway.core.path.pairs import MAX_PAIRS, MAX_PEER_REFLEXIVE
from peerway.core.probe.message import FULL_SIZE, Ping, Pong, ProbeOpener, ProbeSealer, derive_keys
from peerway.core.quic.authentication import sign_client
from peerway.core.quic.errors import StreamMisuse, TooManyStreams
from peerway.core.quic.events import SessionClosed, StreamOpened
from peerway.core.quic.frames import (
    Auth,
    CreditWanted,
    Delivered,
    End,
    Grant,
    Open,
    Reset,
    Stop,
    build,
    data_header,
)
from peerway.core.quic.session import QuicSession
from peerway.core.quic.streams import MAX_MESSAGES, MAX_STREAMS
from peerway.core.quic.transport import HandshakeCompleted, PipeReceived, TransportClosed, TransportEnded
from peerway.core.signal import message as signals
from peerway.core.signal.message import Birth, Body, Signal
from peerway.core.signal.session import SignalSession, SignalUnanswered

US, THEM = SecretKey(b"\1" * 32), SecretKey(b"\2" * 32)
SHARED = US.shared_with(THEM.node_id.box_public())
ROUTES = tuple(
    [RelayAddress(f"http://relay{number}:3340", bytes([number]) * 32) for number in range(4)]
    + [UdpAddress("203.0.113.7", 1000 + number) for number in range(12)]
)
ADDRESSES = tuple(
    UdpAddress(ip, port)
    for ip in ("203.0.113.7", "192.168.1.9", "2001:db8::7", "198.51.100.66", "127.0.0.1", "224.0.0.1")
    for port in (1, 41641, 50_000)
)
SOCKETS = (UdpAddress("0.0.0.0", 41641), UdpAddress("::", 41641), UdpAddress("192.168.1.2", 50_000))


def some_candidates(choices: Choices) -> tuple[Candidate, ...]:
    """As many as a signal may name, good and bad."""
    return tuple(
        Candidate(choices.pick(tuple(CandidateKind)), choices.pick(ADDRESSES))
        for _ in range(choices.number() % (MAX_CANDIDATES + 1))
    )


def signal_session(data: bytes) -> None:
    """Signals of the peer with any fields, in any order, by any way."""
    choices = Choices(data)
    session = SignalSession(US, THEM.node_id, SHARED, 7, random.Random(1))
    course = Course(session)
    for step in choices.steps():
        kind = step % 10
        if kind == 0:
            session.add_route(choices.pick(ROUTES), course.now)
        elif kind == 1:
            session.learn_route(choices.pick(ROUTES), course.now)
        elif kind == 2:
            session.dial(choices.exactly(8), choices.take(choices.pick((0, 16))), course.now)
        elif kind == 3:
            session.set_candidates(some_candidates(choices), course.now)
        elif kind == 4:
            (
                session.repeat(course.now)
                if choices.flag()
                else session.set_round(choices.number(), course.now)
            )
        elif kind <= 7:
            signal = _signal(choices, session)
            if not signal.echo and choices.flag() and not session.peer_secret:
                session.answer(signal, choices.pick(ROUTES), course.now)
            else:
                session.receive(signal, choices.pick(ROUTES), course.now)
        else:
            course.pass_time(choices)
        course.drain()
        for output in course.said()[0]:
            assert isinstance(output, Transmit)
            assert len(output.segments[0]) <= signals.MAX_SIGNAL_SIZE
            assert signals.parse(output.segments[0], THEM, SHARED).secret == session.secret
        assert len(session.routes) <= 16
    course.finish(seconds=100.0, wakes=200)
    assert session.poll_deadline() is None  # it is tired of repeating
    assert sum(isinstance(event, SignalUnanswered) for event in course.events) <= 1


def _signal(choices: Choices, session: SignalSession) -> Signal:
    body = Body(
        acknowledged=choices.number(choices.pick((1, 1, 8))),
        wants_answer=choices.flag(),
        index=choices.number(4),
        round=choices.number(),
        candidates=some_candidates(choices),
        born=Birth(choices.pick((b"run one!", b"run two!")), choices.number()),
    )
    secret = choices.pick((b"s", b"s", b"s", b"z")) * 32
    echo = choices.pick((session.secret, session.secret, b"", b"w" * 32))
    return Signal(THEM.node_id, US.node_id, secret, echo, choices.number() + 1, body)


class _Paths:
    """An agent, and its peer somewhere on the network, in which each method lets one thing happen."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        seal, opens = derive_keys(US.node_id, b"a" * 32, THEM.node_id, b"b" * 32)
        their_seal, their_open = derive_keys(THEM.node_id, b"b" * 32, US.node_id, b"a" * 32)
        self.sealer, self.opener = ProbeSealer(their_seal, 1), ProbeOpener(their_open)
        self.policy = TargetPolicy(networks_of((InterfaceAddress("eth0", "192.168.1.2", 24),)))
        ours = ProbeSealer(seal, 1), ProbeOpener(opens)
        self.agent = PathAgent(*ours, self.policy, ProbeBudget(), random.Random(1), 1000.0)
        self.course = Course(self.agent)
        self.pings: deque = deque(maxlen=64)
        self.copies: deque = deque(maxlen=16)
        self.agent.set_sockets(SOCKETS[:1], self.policy, self.course.now)

    def step(self, number: int) -> None:
        """One thing, and what it calls for."""
        kind = number % 14
        remote = self.choices.pick((*ADDRESSES, *ROUTES[:4]))
        local = None if isinstance(remote, RelayAddress) else self.choices.pick(SOCKETS)
        if kind <= 5:
            self.probe(kind, local, remote)
        elif kind <= 10:
            self.change(kind)
        elif kind == 11:
            self.carry(local, remote)
        elif kind == 12:
            (self.agent.ping if self.choices.flag() else self.agent.verify)(self.course.now)
        else:
            self.course.pass_time(self.choices)
        self.look()

    def probe(self, kind: int, local: UdpAddress | None, remote: Address) -> None:
        """An answer, a ping, or something that was sealed once, or never."""
        choices, now = self.choices, self.course.now
        if kind <= 2 and self.pings:
            transmit, token = self.pings[choices.number() % len(self.pings)]
            if choices.number() < 200:
                remote, local = transmit.remote, transmit.local
            pong = Pong(token, choices.number(2), choices.pick((None, *ADDRESSES)))
            self.agent.probe_received(self.sealer.seal(pong)[1], local, remote, now)
        elif kind <= 4:
            size = choices.pick((60, FULL_SIZE))
            self.copies.append(self.sealer.seal(Ping(choices.exactly(8), choices.flag(), size))[1])
            if choices.number() < 220:
                self.agent.probe_received(self.copies[-1], local, remote, now)
        else:
            probe = choices.piece(80) if choices.flag() or not self.copies else choices.pick(self.copies)
            self.agent.probe_received(probe, local, remote, now)

    def change(self, kind: int) -> None:
        """Candidates, sockets, relays, rounds and addresses come and go."""
        agent, choices, now = self.agent, self.choices, self.course.now
        if kind == 6:
            agent.set_candidates(some_candidates(choices), now)
        elif kind == 7:
            agent.set_sockets(SOCKETS[: choices.number() % 4], self.policy, now)
        elif kind == 8:
            relay = choices.pick(ROUTES[:4])
            assert isinstance(relay, RelayAddress)
            if choices.flag():
                agent.add_relay(RelayAddress(relay.url, bytes([choices.number() % 6]) * 32), now)
            else:
                agent.remove_relay(relay.url, now)
        elif kind == 9:
            agent.join_round(choices.number(), now)
            agent.peer_ready(now)
        else:
            agent.network_changed(choices.pick(((), (4,), (6,), (4, 6))), now)

    def carry(self, local: UdpAddress | None, remote: Address) -> None:
        if self.agent.selected is not None:
            self.agent.data_sent(self.agent.selected, self.choices.number() + 1, self.course.now)
        self.agent.data_received(local, remote, self.choices.number() + 1)
        self.agent._settle(self.course.now)

    def look(self) -> None:
        """What is sent goes where it may, and what is kept is bounded."""
        self.course.drain()
        for output in self.course.said()[0]:
            assert isinstance(output, Transmit)
            if isinstance(output.remote, UdpAddress):
                assert output.remote.ip not in ("127.0.0.1", "224.0.0.1")
            assert len(output.segments[0]) <= FULL_SIZE
            said = self.opener.open(output.segments[0]).message
            if isinstance(said, Ping):
                self.pings.append((output, said.token))
        agent = self.agent
        assert len(agent._pairs) <= MAX_PAIRS
        assert len(agent._reflexive) <= MAX_PEER_REFLEXIVE
        assert agent.selected is None or agent.selected in agent._pairs
        assert agent.companion is None or agent.companion in agent._pairs


def path_agent(data: bytes) -> None:
    """A peer whose probes come from anywhere, whose candidates are anything, and relays that come and go."""
    choices = Choices(data)
    paths = _Paths(choices)
    for step in choices.steps():
        paths.step(step)
    if len(data) % 8 == 0:  # it takes its time
        paths.course.finish(seconds=300.0, wakes=8000)


class _Script:
    """A transport that brings whatever the test has it bring, and keeps what it is given."""

    def __init__(self) -> None:
        self.drops: Counter[str] = Counter()
        self.original_destination_connection_id = b"12345678"
        self.connection_ids = (b"12345678",)
        self.coming: deque[Event] = deque()
        self.waiting = 0
        self.closed = False

    def receive(self, data: bytes, segment_size: int, now: float) -> None: ...
    def handle_timeout(self, now: float) -> None: ...
    def ping(self) -> None: ...

    def transmits(self, now: float) -> list[tuple[bytes, ...]]:
        return []

    def deadline(self) -> float | None:
        return None

    def next_event(self) -> Event | None:
        return self.coming.popleft() if self.coming else None

    def send(self, data: bytes | memoryview) -> None:
        self.waiting += len(data)

    def backlog(self) -> int:
        return self.waiting

    def close(self, code: int, reason: str) -> None:
        self.closed = True

    def peer_certificate_key(self) -> bytes | None:
        return THEM.node_id.public

    def take_binding_secret(self) -> bytes:
        return b"binding"


def session(data: bytes) -> None:
    """A session whose peer opens, writes, grants, stops and confirms whatever it likes."""
    choices = Choices(data)
    is_client = choices.flag()
    script = _Script()
    machine = QuicSession(script, US, THEM.node_id, 1000.0, is_client=is_client)
    course = Course(machine)
    script.coming.append(HandshakeCompleted())
    if not is_client:
        signature = sign_client(THEM, US.node_id, b"binding")
        script.coming.append(PipeReceived(build(Auth(THEM.node_id.public, signature))))
    streams = [1, 2]
    over = False
    for step in choices.steps():
        number = streams[choices.number() % len(streams)]
        if step % 16 <= 7:
            script.coming.append(PipeReceived(_pipe(choices, step % 16, number)))
            machine.receive(b"", 0, course.now)
        else:
            try:
                _use(machine, choices, step % 16, number, streams, course.now)
            except (StreamMisuse, TooManyStreams):
                pass
        if step & 64:
            script.waiting = 0
        if step & 128 and step % 16 == 15:
            script.coming.append(choices.pick((TransportEnded(), TransportClosed(1, "x" * 999, True, True))))
            course.pass_time(choices)
        course.drain()
        for event in course.said()[1]:
            over |= isinstance(event, SessionClosed)
            if isinstance(event, StreamOpened):
                streams.append(event.stream)
        assert len(machine._streams) <= 2 * MAX_STREAMS
        assert len(machine._streams._messages) <= MAX_MESSAGES + 8


def _pipe(choices: Choices, kind: int, number: int) -> bytes:
    """What the peer puts in the pipe."""
    if kind <= 1:
        body = bytes(choices.number(choices.pick((1, 2, 2))) or 1)
        return data_header(number, len(body)) + body
    if kind == 2:
        return build(Open(choices.number(), choices.pick((0, 0, 0, 9))))
    if kind == 3:
        return build(End(number)) if choices.flag() else build(Reset(number, choices.number()))
    if kind == 4:
        return build(Delivered(number)) if choices.flag() else build(Stop(number, choices.number()))
    if kind == 5:
        return build(CreditWanted(number)) if choices.flag() else build(Grant(number, choices.number(4)))
    if kind == 6:
        return b"".join(build(Open(2 * choices.number() + 1)) for _ in range(choices.number()))
    return choices.piece(200)


def _use(
    machine: QuicSession, choices: Choices, kind: int, number: int, streams: list[int], now: float
) -> None:
    """What the application does."""
    if kind == 8:
        streams.append(machine.open_stream(now))
    elif kind == 9:
        machine.write(number, bytes(choices.number(choices.pick((1, 2, 2)))), now)
    elif kind == 10:
        machine.write_eof(number, now)
    elif kind == 11:
        limit = choices.pick((-1, 1, 1000, 70_000))
        read = machine.read(number, limit, now)
        assert limit < 0 or len(read) <= limit
    elif kind == 12:
        machine.reset(number, choices.number(), now)
    elif kind == 13:
        machine.stop(number, choices.number(), now)
    elif kind == 14:
        machine.at_eof(number)
        machine.is_delivered(number)
        machine.path_switched(now)
    elif choices.number() > 250:
        machine.close(choices.number(), "done", now)


TARGETS = (signal_session, path_agent, session)
