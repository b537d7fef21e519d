"""The port mapper, on networks whose gateways are honest, mad and hostile in turn."""

import random

from tests.core.portmap_gateway import (
    ETHERNET,
    EXTERNAL_IP,
    GATEWAY_IP,
    MAPPING_SERVER,
    OUR_IP,
    SHARED,
    TableGateway,
)
from tests.fuzz.choices import Choices
from tests.fuzz.driving import Course

from peerway.core.machine import (
    CloseStream,
    Datagram,
    InterfaceAddress,
    OpenSocket,
    OpenStream,
    StreamWrite,
    Transmit,
    UdpAddress,
)
from peerway.core.portmap.events import PortMappingsGivenBack, RememberLeases
from peerway.core.portmap.lease import Lease
from peerway.core.portmap.mapper import MAX_LEFTOVERS, PortMapper
from peerway.core.portmap.report import Protocol

WIFI = InterfaceAddress("wlan0", "192.168.7.2", 24, 200, "192.168.7.1")
PICTURES = ((), (ETHERNET,), (WIFI,), (ETHERNET, WIFI))
SENDERS = (
    MAPPING_SERVER,
    UdpAddress(GATEWAY_IP, 1900),
    UdpAddress("192.168.7.1", 5351),
    UdpAddress(OUR_IP, 9),
)
LEFT = tuple(
    Lease(protocol, GATEWAY_IP, UdpAddress(OUR_IP, 40_000 + number), 40_000 + number, b"n" * 12, EXTERNAL_IP)
    for number, protocol in enumerate(Protocol)
)


def changed(choices: Choices, data: bytes) -> bytes:
    """As it is, or with some bytes changed, added or taken away."""
    kind = choices.number()
    if kind < 128 or not data:
        return data
    at = choices.number(2) % len(data)
    if kind < 200:
        return data[:at] + choices.take(choices.number() % 6) + data[at + 1 :]
    return data[:at] if kind < 220 else data[:at] + data[at + 1 :]


def port_mapper(data: bytes) -> None:
    """Mappings stand or fall, and what was asked for is remembered or given back."""
    choices = Choices(data)
    mapper = PortMapper(random.Random(1))
    course = Course(mapper)
    gateway = TableGateway(igd=choices.number() % 2 + 1, pcp_result=choices.pick((0, 0, 0, 2, 8)))
    asked: list[Transmit] = []
    writes: list[StreamWrite] = []
    sockets: list[OpenSocket] = []
    streams: list[str] = []
    closed_yet: list[str] = []
    locals_: list[UdpAddress] = [SHARED]
    mapper.remember(LEFT[: choices.number() % 4], course.now)
    mapper.set_sockets((SHARED,), course.now)
    left = False

    def take() -> None:
        outputs, events = course.said()
        for output in outputs:
            if isinstance(output, StreamWrite):
                writes.append(output)
            else:
                asked.append(output)
        for event in events:
            if isinstance(event, OpenSocket):
                sockets.append(event)
            elif isinstance(event, OpenStream):
                streams.append(event.stream)
                closed_yet.append(event.stream)
            elif isinstance(event, CloseStream) and event.stream in streams:
                streams.remove(event.stream)
            elif isinstance(event, RememberLeases):
                assert len(event.leases) <= MAX_LEFTOVERS + 8
            elif isinstance(event, PortMappingsGivenBack):
                assert left

    for step in choices.steps():
        kind = step % 12
        if kind == 0:
            mapper.interfaces_changed(choices.pick(PICTURES), course.now)
        elif kind == 1 and sockets:
            request = sockets.pop(0)
            if choices.number() < 220:
                locals_.append(UdpAddress(request.ip, request.port or 50_000 + len(locals_)))
                mapper.socket_opened(locals_[-1], course.now)
            else:
                mapper.socket_failed("no descriptor", course.now)
        elif kind <= 4 and asked:
            question = asked.pop(-1 - choices.number() % len(asked))
            answer = _answer(gateway, question, course.now)
            if answer is not None:
                local = question.local if choices.number() < 250 else choices.pick(locals_)
                assert isinstance(question.remote, UdpAddress)
                remote = UdpAddress(GATEWAY_IP, question.remote.port)
                mapper.receive(Datagram(changed(choices, answer), remote, local), course.now)
        elif kind == 5:
            datagram = Datagram(choices.piece(120), choices.pick(SENDERS), choices.pick(locals_))
            mapper.stun_received(datagram, course.now)
            mapper.receive(datagram, course.now)
        elif kind == 6 and closed_yet:
            stream = closed_yet.pop()
            if stream not in streams:
                pass  # it was given up
            elif choices.number() < 230:
                mapper.stream_opened(stream, course.now)
            else:
                streams.remove(stream)
                mapper.stream_closed(stream, "no route to host", course.now)
        elif kind == 7 and writes:
            written = writes.pop(0)
            if written.stream in streams:
                answer = changed(choices, gateway.http(written.data, course.now))
                mapper.stream_data(written.stream, answer, course.now)
        elif kind == 8 and streams:
            stream = choices.pick(streams)
            if choices.flag():
                mapper.stream_data(stream, choices.piece(300), course.now)
            else:
                streams.remove(stream)
                mapper.stream_closed(stream, "reset", course.now)
        elif kind == 9:
            outside = UdpAddress(choices.pick((EXTERNAL_IP, "198.51.100.9", OUR_IP)), choices.number(2))
            mapper.observed({SHARED: {UdpAddress("192.0.2.1", 3478): outside}}, course.now)
            mapper.came_unasked(course.now)
        elif kind == 10 and step > 200:
            gateway.restart(course.now)
            if choices.number() > 200:
                left = True
                mapper.leave(course.now)
        else:
            course.pass_time(choices)
        course.drain()
        take()
        assert len(mapper.reports) <= 2
    course.finish()


def _answer(gateway: TableGateway, question: Transmit, now: float) -> bytes | None:
    assert isinstance(question.remote, UdpAddress)
    if question.remote.port == MAPPING_SERVER.port:
        return gateway.answer(question.segments[0], OUR_IP, now)
    return gateway.search_answer() if question.remote.port == 1900 else None


TARGETS = (port_mapper,)
