"""The table of streams over a transport that keeps what it is told and lets the test play the peer."""

from __future__ import annotations

from collections import Counter

import pytest

from peerway.core.identity import SecretKey
from peerway.core.machine import Event
from peerway.core.quic.errors import PeerViolation, SessionCode, StreamCode, StreamMisuse, TooManyStreams
from peerway.core.quic.events import (
    StreamClosed,
    StreamOpened,
    StreamReadable,
    StreamReset,
    StreamStopped,
    StreamWritable,
)
from peerway.core.quic.frames import (
    Auth,
    CreditWanted,
    Data,
    Delivered,
    End,
    Frame,
    FrameReader,
    Grant,
    Open,
    Reset,
    Stop,
)
from peerway.core.quic.streams import (
    MAX_OPEN_STREAMS,
    MAX_PEER_STREAMS,
    MAX_STREAMS,
    MAX_WAITING_STREAMS,
    Streams,
)

KIB = 1 << 10


class Paper:
    """A transport that takes the pipe apart as a peer would. `flush` is the network taking its part."""

    def __init__(self) -> None:
        self.drops: Counter[str] = Counter()
        self.frames: list[Frame] = []
        self.waiting = 0
        self.original_destination_connection_id = b"12345678"
        self.connection_ids = (b"12345678",)
        self._reader = FrameReader()

    def send(self, data: bytes | memoryview) -> None:
        self.waiting += len(data)
        for frame in self._reader.feed(bytes(data)):
            last = self.frames[-1] if self.frames else None
            if isinstance(frame, Data) and isinstance(last, Data) and last.stream == frame.stream:
                self.frames[-1] = Data(last.stream, last.data + frame.data)
            else:
                self.frames.append(frame)

    def backlog(self) -> int:
        return self.waiting

    def flush(self, size: int = 1 << 40) -> None:
        self.waiting -= min(size, self.waiting)

    def receive(self, data: bytes, segment_size: int, now: float) -> None: ...
    def handle_timeout(self, now: float) -> None: ...
    def ping(self) -> None: ...
    def close(self, code: int, reason: str) -> None: ...

    def transmits(self, now: float) -> list[tuple[bytes, ...]]:
        return []

    def deadline(self) -> float | None:
        return None

    def next_event(self) -> Event | None:
        return None

    def peer_certificate_key(self) -> bytes | None:
        return None

    def take_binding_secret(self) -> bytes:
        return b""

    @classmethod
    def dial(cls, now: float) -> Paper:
        return cls()

    @classmethod
    def accept(cls, key: SecretKey, original_destination_connection_id: bytes, now: float) -> Paper:
        return cls()


class Table:
    """A table of streams, and what it told the peer and its owner."""

    def __init__(self, *, is_client: bool = True) -> None:
        self.paper = Paper()
        self.events: list[Event] = []
        self.streams = Streams(self.paper, self.events.append, is_client=is_client)

    def opened(self) -> int:
        number = self.streams.open()
        self.streams.feed()
        return number

    def arrived(self, *frames: Frame) -> None:
        for frame in frames:
            self.streams.received(frame)

    def told(self) -> list[Frame]:
        """What the peer was told since the last time."""
        self.drain()
        told, self.paper.frames = self.paper.frames, []
        return told

    def drain(self) -> None:
        """The network takes everything, again and again."""
        for _ in range(1000):
            self.streams.feed()
            if not self.paper.backlog():
                return
            self.paper.flush()
        raise AssertionError("it never ends")


def server_with(*frames: Frame) -> Table:
    """A server whose client said this."""
    table = Table(is_client=False)
    table.arrived(*frames)
    return table


def test_the_clients_streams_are_even_and_the_servers_odd():
    client, server = Table(), Table(is_client=False)
    assert [client.opened(), client.opened()] == [2, 4]
    assert [server.opened(), server.opened()] == [1, 3]
    assert client.told() == [Open(2), Open(4)]
    assert server.told() == [Open(1), Open(3)]


def test_streams_beyond_the_limit_wait_in_order():
    table = Table()
    numbers = [table.opened() for _ in range(MAX_OPEN_STREAMS + 2)]
    table.streams.write(numbers[-1], b"later")
    assert table.told() == [Open(number) for number in numbers[:-2]]
    table.streams.reset(numbers[0], 0)
    table.arrived(End(numbers[0]))
    assert table.told() == [Open(numbers[-2]), Reset(numbers[0], 0), Delivered(numbers[0])]
    table.streams.reset(numbers[1], 0)
    table.arrived(Reset(numbers[1], 0))
    assert table.told() == [Open(numbers[-1]), Reset(numbers[1], 0), Data(numbers[-1], b"later")]


def test_opening_far_beyond_the_limit_is_an_error():
    table = Table()
    for _ in range(MAX_OPEN_STREAMS + MAX_WAITING_STREAMS):
        table.opened()
    with pytest.raises(TooManyStreams, match="close some"):
        table.streams.open()


def test_a_waiting_stream_that_is_given_up_is_announced_and_given_up():
    table = Table()
    number = table.streams.open()
    table.streams.write(number, b"x")
    table.streams.reset(number, 7)
    table.streams.stop(number, 8)
    assert table.told() == [Open(2), Reset(2, 7), Stop(2, 8)]
    table.arrived(Reset(2, 8))
    assert table.events[-1] == StreamClosed(number)


def test_the_peers_stream_is_there_before_anything_is_written():
    table = server_with(Open(2))
    assert table.events == [StreamOpened(2)]
    table.arrived(Data(2, b"hello"))
    assert table.events == [StreamOpened(2), StreamReadable(2)]
    assert table.streams.read(2, -1) == b"hello"


def test_all_of_a_stream_at_once():
    table = server_with(Open(2), Data(2, b"hello"), End(2))
    assert table.events == [StreamOpened(2), StreamReadable(2)]
    assert table.told() == [Delivered(2)]
    assert not table.streams.at_eof(2)
    assert table.streams.read(2, 3) == b"hel"
    assert table.streams.read(2, 3) == b"lo"
    assert table.streams.at_eof(2)


def test_an_end_without_data_is_readable_and_eof():
    table = server_with(Open(2), End(2))
    assert table.events == [StreamOpened(2), StreamReadable(2)]
    assert table.streams.read(2, -1) == b""
    assert table.streams.at_eof(2)


def test_a_stream_of_an_unknown_kind_is_refused_and_never_heard_of():
    table = server_with(Open(2, 7), Data(2, b"hello"))
    code = StreamCode.UNKNOWN_TYPE
    assert table.told() == [Stop(2, code), Reset(2, code)]
    table.arrived(Data(2, b"more"), Reset(2, code), Open(4))
    assert table.events == [StreamOpened(4)]
    assert len(table.streams) == 1


def test_a_stream_too_many_is_refused():
    table = Table(is_client=False)
    for index in range(MAX_PEER_STREAMS):
        table.arrived(Open(2 * index), Data(2 * index, b"x"))
    table.arrived(Open(4000))
    assert table.told() == [Stop(4000, StreamCode.REFUSED), Reset(4000, StreamCode.REFUSED)]
    assert StreamOpened(4000) not in table.events
    table.streams.stop(0, 0)
    table.arrived(End(0), Open(4002))
    assert StreamOpened(4002) in table.events


def test_a_peer_that_opens_streams_on_and_on_is_a_violation():
    table = Table(is_client=False)
    with pytest.raises(PeerViolation):
        table.arrived(*(Open(2 * index) for index in range(10_000)))
    assert len(table.streams) <= 2 * MAX_STREAMS


def test_a_peer_that_causes_messages_and_takes_none_is_a_violation():
    table = Table(is_client=False)
    for index in range(20_000):
        table.arrived(Open(2 * index), End(2 * index))
        table.streams.reset(2 * index, 0)
    with pytest.raises(PeerViolation) as raised:
        table.streams.feed()
    assert raised.value.code is SessionCode.CONTROL_STALLED


@pytest.mark.parametrize(
    "frames",
    [
        [Open(3)],
        [Open(2), Open(2)],
        [Data(2, b"of no stream")],
        [End(2)],
        [Reset(2, 1)],
        [Open(2), End(2), Data(2, b"after the end")],
        [Open(2), Data(2, b"x"), End(2), End(2)],
        [Open(2), Reset(2, 1), End(2)],
        [Open(2), Delivered(2)],
        [Auth(bytes(32), bytes(64))],
    ],
)
def test_what_breaks_the_rules_is_a_violation(frames):
    with pytest.raises(PeerViolation) as raised:
        server_with(*frames)
    assert raised.value.code is SessionCode.PROTOCOL_VIOLATION


def test_a_stream_is_closed_when_both_directions_are_and_the_peer_has_all():
    table = Table()
    number = table.opened()
    table.streams.write(number, b"hello")
    table.streams.write_eof(number)
    assert table.told() == [Open(number), Data(number, b"hello"), End(number)]
    table.arrived(Data(number, b"answer"), End(number))
    assert table.streams.read(number, -1) == b"answer"
    assert not table.streams.is_delivered(number)
    assert StreamClosed(number) not in table.events
    table.arrived(Delivered(number))
    assert table.streams.is_delivered(number)
    assert table.events[-2:] == [StreamWritable(number), StreamClosed(number)]


def test_a_closed_stream_reads_as_ended_and_drops_what_is_written():
    table = server_with(Open(2), End(2))
    table.streams.reset(2, 0)
    assert table.events[-1] == StreamClosed(2)
    assert table.streams.read(2, -1) == b""
    assert table.streams.at_eof(2)
    assert not table.streams.write(2, b"x")
    assert table.streams.queued(2) == 0


def test_writing_to_a_stream_that_never_was_is_misuse():
    with pytest.raises(StreamMisuse):
        Table().streams.write(400, b"x")


def test_a_sender_stops_at_its_credit_asks_once_and_goes_on_when_granted():
    table = Table()
    number = table.opened()
    table.streams.write(number, bytes(300 * KIB))
    told = table.told()
    assert told.count(CreditWanted(number)) == 1
    assert sum(len(frame.data) for frame in told if isinstance(frame, Data)) == 256 * KIB
    assert table.streams.queued(number) == 44 * KIB
    table.streams.write(number, bytes(1 * KIB))
    assert table.told() == []
    table.arrived(Grant(number, 1024 * KIB))
    assert table.told() == [Data(number, bytes(45 * KIB))]


def test_an_end_needs_no_credit():
    table = Table()
    number = table.opened()
    table.streams.write(number, bytes(256 * KIB))
    table.drain()
    table.streams.write_eof(number)
    assert table.told()[-1] == End(number)


def test_a_reader_grants_as_it_reads():
    table = server_with(Open(2), Data(2, bytes(100 * KIB)))
    table.streams.read(2, 63 * KIB)
    assert table.told() == []
    table.streams.read(2, -1)
    assert table.told() == [Grant(2, 356 * KIB)]


def test_of_many_grants_only_the_last_is_sent():
    table = server_with(Open(2), Data(2, bytes(200 * KIB)))
    table.streams.read(2, 64 * KIB)
    table.streams.read(2, 64 * KIB)
    assert table.told() == [Grant(2, 384 * KIB)]


def test_a_peer_that_asks_gets_more_only_if_the_application_reads():
    table = server_with(Open(2), Data(2, bytes(256 * KIB)), CreditWanted(2))
    assert table.told() == []
    table.streams.read(2, 192 * KIB)
    assert table.told() == [Grant(2, 1216 * KIB)]


def test_a_peer_beyond_its_credit_is_a_violation():
    table = server_with(Open(2), Data(2, bytes(256 * KIB)))
    with pytest.raises(PeerViolation) as raised:
        table.arrived(Data(2, b"x"))
    assert raised.value.code is SessionCode.CREDIT_EXCEEDED


@pytest.mark.parametrize("taken", [8 * KIB, 40 * KIB, 100 * KIB, 600 * KIB])
def test_bulk_one_way_does_not_hold_up_what_the_other_way_needs(taken):
    table = server_with(Open(2), Grant(2, 1 << 30))
    table.streams.write(2, bytes(32 << 20))
    for _ in range(20):
        table.paper.flush(taken)
        table.streams.feed()
    table.arrived(Data(2, bytes(200 * KIB)))
    table.streams.read(2, -1)
    table.paper.flush(taken)
    table.streams.feed()
    assert Grant(2, 456 * KIB) in table.paper.frames


def test_what_is_read_after_the_end_takes_nothing_from_the_pool_for_good():
    table = server_with()
    for number in range(2, 202, 2):
        table.arrived(Open(number), Data(number, bytes(256 * KIB)), CreditWanted(number))
        table.streams.read(number, 64 * KIB)
        table.arrived(End(number))
        table.streams.read(number, -1)
        assert table.streams.at_eof(number)
    table.arrived(Open(202), Data(202, bytes(256 * KIB)), CreditWanted(202))
    table.streams.read(202, -1)
    assert Grant(202, 1280 * KIB) in table.told()


def test_a_transport_that_sends_nothing_is_fed_little():
    table = Table()
    number = table.opened()
    table.arrived(Grant(number, 1 << 30))
    table.streams.write(number, bytes(8 << 20))
    for _ in range(10):
        table.streams.feed()
        assert table.paper.backlog() < 33 * KIB


def test_a_transport_that_sends_everything_is_fed_more_and_more():
    table = Table()
    number = table.opened()
    table.arrived(Grant(number, 1 << 30))
    table.streams.write(number, bytes(8 << 20))
    fed = []
    for _ in range(9):
        table.paper.flush()
        table.streams.feed()
        fed.append(table.paper.backlog() // (32 * KIB))
    assert fed == [1, 2, 4, 8, 16, 16, 16, 16, 16]


def test_streams_take_turns():
    table = Table()
    numbers = [table.opened() for _ in range(3)]
    table.drain()
    table.paper.frames.clear()
    for number in numbers:
        table.streams.write(number, bytes(100 * KIB))
    table.streams.feed()
    assert table.paper.frames == [Data(2, bytes(16 * KIB)), Data(4, bytes(16 * KIB))]
    table.paper.flush()
    table.streams.feed()
    assert [frame.stream for frame in table.paper.frames[2:]] == [6, 2, 4, 6]


def test_a_writer_hears_when_its_queue_has_become_short():
    table = Table()
    number = table.opened()
    table.arrived(Grant(number, 1 << 30))
    table.streams.write(number, bytes(300 * KIB))
    table.streams.feed()
    assert table.events == []
    table.drain()
    assert table.events == [StreamWritable(number)]


def test_a_peers_reset_drops_what_is_unread():
    table = server_with(Open(2), Data(2, b"abc"), Reset(2, 9))
    assert table.events[-1] == StreamReset(2, 9)
    assert table.streams.read(2, -1) == b""
    assert table.streams.at_eof(2)


def test_a_peers_stop_drops_what_is_queued_and_is_answered_with_a_reset():
    table = Table()
    number = table.opened()
    table.streams.write(number, bytes(300 * KIB))
    table.told()
    table.arrived(Stop(number, 9))
    assert table.events[-2:] == [StreamWritable(number), StreamStopped(number, 9)]
    assert table.streams.queued(number) == 0
    assert table.streams.is_delivered(number)
    assert not table.streams.write(number, b"x")
    table.streams.write_eof(number)
    assert table.told() == [Reset(number, 9)]


def test_stopping_what_has_ended_tells_the_peer_nothing():
    table = server_with(Open(2), Data(2, b"abc"), End(2))
    table.told()
    table.streams.stop(2, 1)
    assert table.told() == []
    assert table.streams.at_eof(2)


def test_what_comes_after_a_stop_is_dropped():
    table = server_with(Open(2), Data(2, b"abc"))
    table.streams.stop(2, 1)
    table.arrived(Data(2, b"def"))
    assert table.told() == [Stop(2, 1)]
    assert table.streams.read(2, -1) == b""
    table.arrived(End(2))
    table.streams.reset(2, 0)
    assert len(table.streams) == 0


def test_a_reset_after_the_end_says_nothing_more():
    table = Table()
    number = table.opened()
    table.streams.write_eof(number)
    table.told()
    table.streams.reset(number, 1)
    assert table.told() == []
    table.arrived(Delivered(number), End(number))
    assert len(table.streams) == 0


def test_messages_about_streams_that_are_over_are_ignored():
    table = Table()
    table.arrived(Grant(4, 1 << 30), CreditWanted(4), Delivered(4), Stop(4, 1))
    table.streams.reset(4, 1)
    table.streams.stop(4, 1)
    table.streams.write_eof(4)
    assert table.events == table.told() == []
