"""STUN's client and server, each with a hostile other side."""

import random

from tests.fuzz.choices import Choices
from tests.fuzz.driving import Course

from peerway.core.machine import Address, Datagram, RelayAddress, Transmit, UdpAddress
from peerway.core.stun.client import MAX_TRANSACTIONS, Detour, MappingLearned, QueryFailed, StunClient
from peerway.core.stun.integrity import add_fingerprint
from peerway.core.stun.server import StunServer

SERVERS = (
    UdpAddress("203.0.113.1", 3478),
    UdpAddress("203.0.113.1", 3479),
    UdpAddress("203.0.113.2", 3478),
    UdpAddress("2001:db8::1", 3478),
)
LOCALS = (UdpAddress("0.0.0.0", 5000), UdpAddress("0.0.0.0", 5001), UdpAddress("::", 5000))
DETOURS = (
    None,
    Detour(origin=SERVERS[1]),
    Detour(origin=SERVERS[2]),
    Detour(arrives_at=LOCALS[1], port=5001),
)
SOURCES: tuple[Address, ...] = (
    *SERVERS,
    UdpAddress("198.51.100.1", 0),
    UdpAddress("::ffff:198.51.100.2", 9),
    RelayAddress("x", b""),
)


def stun_response(choices: Choices, request: bytes) -> bytes:
    """An answer to a request: most often one with an address, sometimes anything."""
    kind = choices.pick((b"\1\1", b"\1\1", b"\1\x11", b"\0\1", b"\0\x11", b"\3\1"))
    attributes = b"".join(_attribute(choices) for _ in range(choices.number() % 4)) or bytes.fromhex(
        "002000080001a147e112a643"
    )
    message = kind + len(attributes).to_bytes(2, "big") + request[4:20] + attributes
    if choices.flag():
        return message
    try:
        return add_fingerprint(message)
    except ValueError:
        return message


def _attribute(choices: Choices) -> bytes:
    kind = choices.pick(
        (0x0001, 0x0020, 0x0009, 0x000A, 0x802B, 0x802C, 0x8022, 0x0008, 0x8028, 0x7FFF, 0x0003)
    )
    value = choices.take(choices.pick((8, 8, 20, 4, 0, 1, 36)))
    return kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)


def stun_client(data: bytes) -> None:
    """Every question has one outcome, whatever comes."""
    choices = Choices(data)
    client = StunClient(random.Random(1))
    course = Course(client)
    sent: list[Transmit] = []
    open_questions: set = set()
    for step in choices.steps():
        if step % 8 <= 1:
            question = choices.pick(LOCALS), choices.pick(SERVERS), choices.pick(DETOURS)
            open_questions.add(question)
            client.query(question[1], question[0], course.now, question[2])
        elif step % 8 <= 3 and sent:
            asked = sent[choices.number() % len(sent)]
            assert isinstance(asked.remote, UdpAddress)
            remote = asked.remote if choices.flag() else choices.pick(SOURCES)
            local = asked.local if choices.flag() else choices.pick(LOCALS)
            client.receive(Datagram(stun_response(choices, asked.segments[0]), remote, local), course.now)
        elif step % 8 == 4:
            datagram = Datagram(
                choices.piece(200), choices.pick(SOURCES), choices.pick(LOCALS), choices.number()
            )
            client.receive(datagram, course.now)
        elif step % 8 == 5 and sent:
            client.transmit_failed(sent[choices.number() % len(sent)], "no route to host")
        elif step % 8 == 6:
            local = choices.pick(LOCALS)
            client.cancel(local)
            open_questions = {question for question in open_questions if question[0] != local}
        else:
            course.pass_time(choices)
        course.drain()
        outputs, events = course.said()
        sent += [output for output in outputs if isinstance(output, Transmit)]
        for event in events:
            assert isinstance(event, MappingLearned | QueryFailed)
            open_questions.discard((event.local, event.server, event.detour))
        assert len(client) == len(open_questions) <= MAX_TRANSACTIONS
    course.finish()
    assert len(client) == 0
    assert client.poll_deadline() is None


def stun_server(data: bytes) -> None:
    """An answer goes to who asked, from a socket of ours, and is bounded."""
    choices = Choices(data)
    sockets = SERVERS[: choices.number() % (len(SERVERS) + 1)]
    server = StunServer("x" * (choices.number() % 33), sockets=sockets)
    course = Course(server)
    for step in choices.steps():
        source, local = choices.pick(SOURCES), choices.pick((*SERVERS, None))
        if step % 4 == 0:
            asked, size = choices.piece(600), choices.number()
        else:
            body = b"".join(_attribute(choices) for _ in range(choices.number() % 4))
            cookie = b"\x21\x12\xa4\x42" if step % 4 > 1 else choices.take(4)
            asked = b"\0\1" + len(body).to_bytes(2, "big") + cookie + choices.exactly(12) + body
            size = choices.pick((0, 0, 20, len(asked)))
        server.receive(Datagram(asked, source, local, size), course.now)
        course.drain()
        for output in course.said()[0]:
            assert isinstance(output, Transmit)
            assert isinstance(source, UdpAddress)
            assert isinstance(output.remote, UdpAddress)
            assert output.remote.ip == source.ip
            assert output.remote.port
            assert output.local in (local, *sockets)
            assert len(output.segments) <= max(1, -(-len(asked) // (size or len(asked) or 1)))
            assert all(len(segment) <= 256 for segment in output.segments)
        if step & 64:
            course.pass_time(choices)


TARGETS = (stun_client, stun_server)
