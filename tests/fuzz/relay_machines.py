"""A relay's client with a hostile relay, and a relay with hostile clients."""

import random

from tests.fuzz.choices import Choices, pieces
from tests.fuzz.driving import Course

from peerway.core.machine import CloseStream, StreamWrite
from peerway.core.relay import greeting
from peerway.core.relay.client import RelayClient, RelayConnected, RelayDisconnected
from peerway.core.relay.frames import FrameDecoder, FrameType, build_frame, build_packets, build_server_key
from peerway.core.relay.outbox import MAX_BYTES, MAX_FRAMES
from peerway.core.relay.server import RelayServer

CLIENT_KEY, SERVER_KEY = b"\1" * 32, b"\2" * 32
CLIENT_PUBLIC, SERVER_PUBLIC = greeting.public_key(CLIENT_KEY), greeting.public_key(SERVER_KEY)
SHARED = greeting.shared_with(CLIENT_PUBLIC, SERVER_KEY)
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"
ASKED = b"GET /derp HTTP/1.1\r\nHost: a\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"
KINDS = tuple(FrameType)


def _frames(choices: Choices) -> bytes:
    """Frames of any type, mostly of a size that it may have."""
    out = b""
    for _ in range(choices.number() % 6 + 1):
        kind = choices.pick(KINDS)
        payload = choices.piece(120)
        if choices.flag():
            payload = payload.ljust(40, b"\0")
        out += build_frame(kind, payload)
    return out


def relay_client(data: bytes) -> None:
    """A relay that says anything costs its client the connection at most, once, and told with a reason."""
    choices = Choices(data)
    client = RelayClient("http://relay.test:3340", "stream", CLIENT_KEY, random.Random(1))
    course = Course(client)
    ended, admitted = 0, False
    for step in choices.steps():
        kind = step % 12
        if kind == 0:
            client.stream_opened(course.now)
        elif kind == 1:
            client.stream_data(UPGRADED + build_server_key(SERVER_PUBLIC), course.now)
        elif kind == 2:
            client.stream_data(greeting.build_server_info(SHARED, bytes(24)), course.now)
        elif kind <= 4:
            client.stream_data(_frames(choices), course.now)
        elif kind == 5:
            for piece in pieces(choices.piece(400), choices.take(2)):
                client.stream_data(piece, course.now)
        elif kind == 6:
            client.stream_paused(course.now)
        elif kind == 7:
            client.stream_resumed(course.now)
        elif kind == 8:
            size = choices.number(2)
            packets = [bytes(size) for _ in range(choices.number() % 64)]
            client.send_packet(choices.exactly(32), packets, course.now)
        elif kind == 9:
            (client.check if choices.flag() else client.measure)(course.now)
        elif kind == 10 and step > 200:
            if choices.flag():
                client.close("done", course.now)
            else:
                client.stream_closed(choices.text(), course.now)
        else:
            course.pass_time(choices)
        course.drain()
        for event in course.said()[1]:
            assert not ended or isinstance(event, CloseStream), event
            assert not (isinstance(event, RelayConnected) and admitted)
            admitted |= isinstance(event, RelayConnected)
            ended += isinstance(event, RelayDisconnected)
        assert ended <= 1
        assert len(client._outbox) <= MAX_FRAMES
        assert client._outbox._size <= MAX_BYTES
    if ended:
        assert client.poll_deadline() is None


class _HonestClient:
    """Reads what the relay writes as clients do."""

    def __init__(self) -> None:
        self.decoder: FrameDecoder | None = None
        self.head = b""
        self.server_key = b""

    def read(self, written: bytes) -> None:
        if self.decoder is None:
            self.head += written
            if self.head.startswith(b"HTTP/1.1 101") and b"\r\n\r\n" in self.head:
                self.decoder, written = FrameDecoder(), self.head.partition(b"\r\n\r\n")[2]
            else:
                return
        for frame in self.decoder.feed(written):  # `WireError` when the relay's own frames were malformed
            if frame[0] == FrameType.SERVER_KEY and not self.server_key:
                self.server_key = bytes(frame[1][-32:])


def relay_server(data: bytes) -> None:
    """Whatever clients do, the relay lives, writes only what its own decoder reads, and forgets who left."""
    choices = Choices(data)
    server = RelayServer(random.Random(1))
    course = Course(server)
    clients: dict[str, _HonestClient] = {}
    keys = tuple(bytes([number]) * 32 for number in range(1, 5))
    accepted = 0
    for step in choices.steps():
        kind = step % 10
        name = f"s{1 + choices.number() % max(accepted, 1)}"
        if kind == 0:
            accepted += 1
            clients[f"s{accepted}"] = _HonestClient()
            ip = choices.pick(("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"))
            server.stream_accepted(f"s{accepted}", ip, course.now)
        elif kind == 1:
            server.stream_data(name, ASKED, course.now)
        elif kind == 2 and name in clients and clients[name].server_key:
            key = choices.pick(keys)
            shared = greeting.shared_with(clients[name].server_key, key)
            info = greeting.build_client_info(greeting.public_key(key), shared, bytes(24))
            server.stream_data(name, info, course.now)
        elif kind == 3:
            server.stream_data(name, _frames(choices), course.now)
        elif kind == 4:
            destination = greeting.public_key(choices.pick(keys))
            packets = [bytes(choices.number()) for _ in range(choices.number() % 40)]
            server.stream_data(name, build_packets(FrameType.SEND_PACKET, destination, packets), course.now)
        elif kind == 5:
            server.stream_data(name, choices.piece(300), course.now)
        elif kind == 6:
            (server.stream_paused if choices.flag() else server.stream_resumed)(name, course.now)
        elif kind == 7:
            server.stream_closed(name, "", course.now)
            clients.pop(name, None)
        elif kind == 8 and step > 240:
            (server.drain if choices.flag() else server.review)(course.now)
        else:
            course.pass_time(choices)
        course.drain()
        outputs, events = course.said()
        for output in outputs:
            assert isinstance(output, StreamWrite)
            if output.stream in clients:
                clients[output.stream].read(output.data)
        for event in events:
            if isinstance(event, CloseStream):
                clients.pop(event.stream, None)
                server.stream_closed(event.stream, "", course.now)
        course.drain()
        assert server.client_count <= server.stream_count <= accepted
    for name in list(clients):
        server.stream_closed(name, "", course.now)
    course.drain()
    assert server.client_count == server.stream_count == 0


TARGETS = (relay_client, relay_server)
