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
from tests.fuzz.driving import Course, Wishes

from peerway.core.machine import Datagram, InterfaceAddress, UdpAddress
from peerway.core.portmap.events import PortMappingsGivenBack, RememberLeases
from peerway.core.portmap.lease import Lease
from peerway.core.portmap.mapper import MAX_LEFTOVERS, PortMapper
from peerway.core.portmap.report import Protocol

SSDP_PORT = 1900
WIFI = InterfaceAddress("wlan0", "192.168.7.2", 24, 200, "192.168.7.1")
PICTURES = ((), (ETHERNET,), (WIFI,), (ETHERNET, WIFI))
SENDERS = (
    MAPPING_SERVER,
    UdpAddress(GATEWAY_IP, SSDP_PORT),
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


class _Network:
    """A mapper, and the network around it, in which each method lets one thing happen."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.mapper = PortMapper(random.Random(1))
        self.course = Course(self.mapper)
        self.gateway = TableGateway(igd=choices.number() % 2 + 1, pcp_result=choices.pick((0, 0, 0, 2, 8)))
        self.wishes = Wishes()
        self.bound: list[UdpAddress] = [SHARED]
        self.left = False
        self.mapper.remember(LEFT[: choices.number() % 4], self.course.now)
        self.mapper.set_sockets((SHARED,), self.course.now)

    def step(self, number: int) -> None:
        """One thing, and what it calls for."""
        wishes, kind = self.wishes, number % 12
        if kind == 0:
            self.mapper.interfaces_changed(self.choices.pick(PICTURES), self.course.now)
        elif kind == 1 and wishes.sockets:
            self.open_socket()
        elif kind <= 4 and wishes.sent:
            self.answer()
        elif kind == 5:
            self.send_anything()
        elif kind == 6 and wishes.opening:
            self.open_stream()
        elif kind == 7 and wishes.written:
            self.answer_by_http()
        elif kind == 8 and wishes.streams:
            self.disturb_stream()
        elif kind == 9:
            self.see_from_outside()
        elif kind == 10 and number > 200:
            self.restart_or_leave()
        else:
            self.course.pass_time(self.choices)
        self.take()

    def take(self) -> None:
        self.course.drain()
        for event in self.wishes.note(*self.course.said()):
            if isinstance(event, RememberLeases):
                assert len(event.leases) <= MAX_LEFTOVERS + 8
            elif isinstance(event, PortMappingsGivenBack):
                assert self.left
        assert len(self.mapper.reports) <= 2

    def open_socket(self) -> None:
        request = self.wishes.sockets.pop(0)
        if self.choices.number() < 220:
            self.bound.append(UdpAddress(request.ip, request.port or 50_000 + len(self.bound)))
            self.mapper.socket_opened(self.bound[-1], self.course.now)
        else:
            self.mapper.socket_failed("no descriptor", self.course.now)

    def answer(self) -> None:
        """The gateway's own answer to one of the last questions, or nearly."""
        choices = self.choices
        question = self.wishes.sent.pop(-1 - choices.number() % len(self.wishes.sent))
        assert isinstance(question.remote, UdpAddress)
        answer = None
        if question.remote.port == MAPPING_SERVER.port:
            answer = self.gateway.answer(question.segments[0], OUR_IP, self.course.now)
        elif question.remote.port == SSDP_PORT:
            answer = self.gateway.search_answer()
        if answer is not None:
            local = question.local if choices.number() < 250 else choices.pick(self.bound)
            remote = UdpAddress(GATEWAY_IP, question.remote.port)
            self.mapper.receive(Datagram(changed(choices, answer), remote, local), self.course.now)

    def send_anything(self) -> None:
        choices = self.choices
        datagram = Datagram(choices.piece(120), choices.pick(SENDERS), choices.pick(self.bound))
        self.mapper.stun_received(datagram, self.course.now)
        self.mapper.receive(datagram, self.course.now)

    def open_stream(self) -> None:
        stream = self.wishes.opening.pop()
        if stream not in self.wishes.streams:
            return  # it was given up
        if self.choices.number() < 230:
            self.mapper.stream_opened(stream, self.course.now)
        else:
            self.close_stream(stream, "no route to host")

    def answer_by_http(self) -> None:
        written = self.wishes.written.pop(0)
        if written.stream in self.wishes.streams:
            answer = changed(self.choices, self.gateway.http(written.data, self.course.now))
            self.mapper.stream_data(written.stream, answer, self.course.now)

    def disturb_stream(self) -> None:
        stream = self.choices.pick(self.wishes.streams)
        if self.choices.flag():
            self.mapper.stream_data(stream, self.choices.piece(300), self.course.now)
        else:
            self.close_stream(stream, "reset")

    def close_stream(self, stream: str, error: str) -> None:
        self.wishes.streams.remove(stream)
        self.mapper.stream_closed(stream, error, self.course.now)

    def see_from_outside(self) -> None:
        ip = self.choices.pick((EXTERNAL_IP, "198.51.100.9", OUR_IP))
        seen = {UdpAddress("192.0.2.1", 3478): UdpAddress(ip, self.choices.number(2))}
        self.mapper.observed({SHARED: seen}, self.course.now)
        self.mapper.came_unasked(self.course.now)

    def restart_or_leave(self) -> None:
        self.gateway.restart(self.course.now)
        if self.choices.number() > 200:
            self.left = True
            self.mapper.leave(self.course.now)


def port_mapper(data: bytes) -> None:
    """Mappings stand or fall, and what was asked for is remembered or given back."""
    choices = Choices(data)
    network = _Network(choices)
    for step in choices.steps():
        network.step(step)
    network.course.finish()


TARGETS = (port_mapper,)
