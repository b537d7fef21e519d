"""The table of streams over a transport that keeps what it is told and lets the test play the peer."""

from __future__ import annotations

from collections import Counter

import pytest

from peerway.core.identity import SecretKey
from peerway.core.machine import Event
from peerway.core.quic.control import ControlMessage, CreditWanted, Delivered, Grant
from peerway.core.quic.errors import PeerViolation, SessionCode, StreamCode, StreamMisuse, TooManyStreams
from peerway.core.quic.events import (
    StreamClosed,
    StreamOpened,
    StreamReadable,
    StreamReset,
    StreamStopped,
    StreamWritable,
)
from peerway.core.quic.lane import (
    End,
    LaneItem,
    LaneReader,
    Open,
    Reset,
    Stop,
    build,
    data_header,
)
from peerway.core.quic.streams import MAX_PEER_STREAMS, MAX_WAITING_STREAMS, Streams
from peerway.core.quic.transport import StreamReceived

KIB = 1 << 10


class Paper:
    """A transport that takes lanes apart as a peer would. `flush` is the network taking its part."""

    def __init__(self) -> None:
        self.drops: Counter[str] = Counter()
        self.stream_limit = 100
        self.lanes: dict[int, list[LaneItem]] = {}
        self.bytes = 0
        self.waiting: Counter[int] = Counter()
        self.original_destination_connection_id = b"12345678"
        self.connection_ids = (b"12345678",)
        self._readers: dict[int, LaneReader] = {}

    def send(self, stream: int, data: bytes | memoryview) -> None:
        self.bytes += len(data)
        self.waiting[stream] += len(data)
        items = self.lanes.setdefault(stream, [])
        for item in self._readers.setdefault(stream, LaneReader()).feed(bytes(data)):
            if isinstance(item, bytes) and items and isinstance(items[-1], bytes):
                items[-1] += item
            else:
                items.append(item)

    def backlog(self, stream: int | None = None) -> int:
        return self.waiting.total() if stream is None else self.waiting[stream]

    def flush(self) -> None:
        self.waiting.clear()

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

    def __init__(self, *, is_client: bool = True, welcomed: bool = True) -> None:
        self.paper = Paper()
        self.told: list[ControlMessage] = []
        self.events: list[Event] = []
        self.streams = Streams(self.paper, self.told.append, self.events.append, is_client=is_client)
        if welcomed:
            self.streams.welcomed()

    def opened(self) -> int:
        number = self.streams.open()
        self.streams.feed()
        return number

    def arrived(self, lane: int, *items: LaneItem) -> None:
        """What the peer put in a lane."""
        wire = b"".join(data_header(len(i)) + i if isinstance(i, bytes) else build(i) for i in items)
        self.streams.received(StreamReceived(lane, wire))

    def drain(self) -> None:
        """The network takes everything, again and again."""
        for _ in range(1000):
            self.streams.feed()
            if not self.paper.backlog():
                return
            self.paper.flush()
        raise AssertionError("it never ends")


def server_with(*items: LaneItem) -> Table:
    """A server whose client used its first lane like this."""
    table = Table(is_client=False)
    table.arrived(4, *items)
    return table


def test_the_clients_streams_are_even_and_the_servers_odd():
    client, server = Table(), Table(is_client=False)
    assert [client.opened(), client.opened()] == [2, 4]
    assert [server.opened(), server.opened()] == [1, 3]
    assert client.paper.lanes == {4: [Open(2)], 8: [Open(4)]}
    assert server.paper.lanes == {1: [Open(1)], 5: [Open(3)]}


def test_streams_beyond_the_lanes_wait_in_order():
    table = Table()
    table.paper.stream_limit = 3
    numbers = [table.opened() for _ in range(4)]
    table.streams.write(numbers[3], b"later")
    table.streams.feed()
    assert table.paper.lanes == {4: [Open(2)], 8: [Open(4)]}
    table.paper.stream_limit = 5
    table.streams.feed()
    assert table.paper.lanes == {4: [Open(2)], 8: [Open(4)], 12: [Open(6)], 16: [Open(8), b"later"]}


def test_a_lane_is_used_again_when_both_directions_are_over():
    table = Table()
    table.paper.stream_limit = 2
    first, second = table.opened(), table.opened()
    table.streams.write_eof(first)
    table.streams.feed()
    assert table.paper.lanes == {4: [Open(first), End()]}
    table.arrived(4, End())
    table.streams.feed()
    assert table.paper.lanes == {4: [Open(first), End(), Open(second)]}
    table.streams.reset(second, 9)
    table.arrived(4, b"no", Reset(3))
    third = table.opened()
    assert table.paper.lanes[4][2:] == [Open(second), Reset(9), Open(third)]
    assert table.streams.read(third, -1) == b""


def test_the_peer_uses_its_lane_again():
    table = server_with(Open(2), b"one", End())
    table.streams.write(2, b"answer")
    table.streams.write_eof(2)
    table.streams.feed()
    table.arrived(4, Open(4), b"two", End())
    assert table.streams.read(2, -1) == b"one"
    assert table.streams.read(4, -1) == b"two"
    table.streams.write(4, b"another")
    table.streams.feed()
    assert table.paper.lanes == {4: [b"answer", End(), b"another"]}


def test_opening_far_beyond_the_lanes_is_an_error():
    table = Table()
    table.paper.stream_limit = 1
    for _ in range(MAX_WAITING_STREAMS):
        table.opened()
    with pytest.raises(TooManyStreams, match="close some"):
        table.streams.open()


def test_a_waiting_stream_that_is_given_up_is_announced_and_given_up():
    table = Table()
    table.paper.stream_limit = 1
    number = table.opened()
    table.streams.write(number, b"x")
    table.streams.reset(number, 7)
    table.streams.stop(number, 8)
    table.paper.stream_limit = 2
    table.streams.feed()
    assert table.paper.lanes == {4: [Open(2), Reset(7), Stop(2, 8)]}
    table.arrived(4, Reset(8))
    assert table.events[-1] == StreamClosed(number)


def test_the_peers_stream_is_there_before_anything_is_written():
    table = server_with(Open(2))
    assert table.events == [StreamOpened(2)]
    table.arrived(4, b"hello")
    assert table.events == [StreamOpened(2), StreamReadable(2)]
    assert table.streams.read(2, -1) == b"hello"


def test_all_of_a_stream_at_once():
    table = server_with(Open(2), b"hello", End())
    assert table.events == [StreamOpened(2), StreamReadable(2)]
    assert table.told == [Delivered(2)]
    assert not table.streams.at_eof(2)
    assert table.streams.read(2, 3) == b"hel"
    assert table.streams.read(2, 3) == b"lo"
    assert table.streams.at_eof(2)


def test_an_end_without_data_is_readable_and_eof():
    table = server_with(Open(2), End())
    assert table.events == [StreamOpened(2), StreamReadable(2)]
    assert table.streams.read(2, -1) == b""
    assert table.streams.at_eof(2)


def test_a_stream_of_an_unknown_kind_is_refused_and_never_heard_of():
    table = server_with(Open(2, kind=7), b"hello")
    code = StreamCode.UNKNOWN_TYPE
    assert table.paper.lanes == {4: [Stop(2, code), Reset(code)]}
    table.arrived(4, b"more", Reset(code), Open(4))
    assert table.events == [StreamOpened(4)]


def test_a_stream_too_many_is_refused():
    table = Table(is_client=False)
    for index in range(MAX_PEER_STREAMS):
        table.arrived(4 + 4 * index, Open(2 * index), b"x")
    table.arrived(4000, Open(4000))
    assert table.paper.lanes == {4000: [Stop(4000, StreamCode.REFUSED), Reset(StreamCode.REFUSED)]}
    assert StreamOpened(4000) not in table.events
    table.streams.stop(0, 0)
    table.arrived(4, End())
    table.arrived(4004, Open(4002))
    assert StreamOpened(4002) in table.events


@pytest.mark.parametrize(
    ("lane", "items"),
    [
        (2, [Open(2)]),
        (3, [Open(2)]),
        (5, [Open(2)]),
        (4, [Open(3)]),
        (4, [b"data of no stream"]),
        (4, [End()]),
        (4, [Reset(1)]),
        (4, [Open(2), Open(4)]),
        (4, [Open(2), End(), Open(4)]),
        (4, [Open(2), End(), b"after the end"]),
        (4, [Open(2), End(), End()]),
        (4, [Open(2), Reset(1), End()]),
    ],
)
def test_what_breaks_the_rules_of_lanes_is_a_violation(lane, items):
    with pytest.raises(PeerViolation) as raised:
        Table(is_client=False).arrived(lane, *items)
    assert raised.value.code is SessionCode.PROTOCOL_VIOLATION


def test_a_number_in_use_cannot_be_opened_again():
    table = server_with(Open(2))
    with pytest.raises(PeerViolation):
        table.arrived(8, Open(2))


def test_the_answering_side_opens_nothing_in_a_lane_of_ours():
    table = Table()
    table.opened()
    with pytest.raises(PeerViolation):
        table.arrived(4, Open(1))


def test_a_stream_is_closed_when_both_directions_are_and_the_peer_has_all():
    table = Table()
    number = table.opened()
    table.streams.write(number, b"hello")
    table.streams.write_eof(number)
    table.streams.feed()
    assert table.paper.lanes == {4: [Open(number), b"hello", End()]}
    table.arrived(4, b"answer", End())
    assert table.streams.read(number, -1) == b"answer"
    assert not table.streams.is_delivered(number)
    assert StreamClosed(number) not in table.events
    table.streams.delivered(Delivered(number))
    assert table.streams.is_delivered(number)
    assert table.events[-2:] == [StreamWritable(number), StreamClosed(number)]


def test_a_closed_stream_reads_as_ended_and_drops_what_is_written():
    table = server_with(Open(2), End())
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
    table.drain()
    assert table.paper.lanes[4][1:] == [bytes(256 * KIB)]
    assert table.told == [CreditWanted(number)]
    assert table.streams.queued(number) == 44 * KIB
    table.streams.write(number, bytes(1 * KIB))
    table.drain()
    assert table.told == [CreditWanted(number)]
    table.streams.granted(Grant(number, 1024 * KIB))
    table.drain()
    assert table.paper.lanes[4][1:] == [bytes(301 * KIB)]


def test_an_end_needs_no_credit():
    table = Table()
    number = table.opened()
    table.streams.write(number, bytes(256 * KIB))
    table.drain()
    table.streams.write_eof(number)
    table.streams.feed()
    assert table.paper.lanes[4][-1] == End()


def test_a_reader_grants_as_it_reads():
    table = server_with(Open(2), bytes(100 * KIB))
    table.streams.read(2, 63 * KIB)
    assert table.told == []
    table.streams.read(2, -1)
    assert table.told == [Grant(2, 356 * KIB)]


def test_a_peer_that_asks_gets_more_only_if_the_application_reads():
    table = server_with(Open(2), bytes(256 * KIB))
    table.streams.credit_wanted(CreditWanted(2))
    assert table.told == []
    table.streams.read(2, 192 * KIB)
    assert table.told == [Grant(2, 1216 * KIB)]


def test_a_peer_beyond_its_credit_is_a_violation():
    table = server_with(Open(2), bytes(256 * KIB))
    with pytest.raises(PeerViolation) as raised:
        table.arrived(4, b"x")
    assert raised.value.code is SessionCode.CREDIT_EXCEEDED


def test_the_transport_is_fed_a_short_backlog_only():
    table = Table()
    number = table.opened()
    table.streams.granted(Grant(number, 1 << 30))
    table.streams.write(number, bytes(8 << 20))
    for _ in range(3):
        table.streams.feed()
        table.streams.feed()
        assert 1 << 20 <= table.paper.backlog() < (1 << 20) + 100
        table.paper.flush()


def test_a_new_stream_is_not_kept_waiting_by_a_bulky_one():
    table = Table()
    bulky = table.opened()
    table.streams.granted(Grant(bulky, 1 << 30))
    table.streams.write(bulky, bytes(8 << 20))
    table.streams.feed()
    small = table.opened()
    table.streams.write(small, b"now")
    table.streams.feed()
    assert table.paper.lanes[8] == [Open(small), b"now"]


def test_a_writer_hears_when_its_queue_has_become_short():
    table = Table()
    number = table.opened()
    table.streams.granted(Grant(number, 1 << 30))
    table.streams.write(number, bytes(2 << 20))
    table.streams.feed()
    assert StreamWritable(number) not in table.events
    table.paper.flush()
    table.streams.feed()
    assert table.events == [StreamWritable(number)]


def test_a_client_holds_back_until_it_is_welcome():
    table = Table(welcomed=False)
    first, second = table.opened(), table.opened()
    table.streams.write(first, bytes(200 * KIB))
    table.streams.write(second, bytes(200 * KIB))
    third = table.opened()
    table.drain()
    assert 255 * KIB < table.paper.bytes <= 257 * KIB
    table.streams.welcomed()
    table.drain()
    assert table.paper.lanes[4][1:] == table.paper.lanes[8][1:] == [bytes(200 * KIB)]
    assert table.paper.lanes[12] == [Open(third)]


def test_a_peers_reset_drops_what_is_unread():
    table = server_with(Open(2), b"abc", Reset(9))
    assert table.events[-1] == StreamReset(2, 9)
    assert table.streams.read(2, -1) == b""
    assert table.streams.at_eof(2)


def test_a_peers_stop_drops_what_is_queued_and_is_answered_with_a_reset():
    table = Table()
    number = table.opened()
    table.streams.write(number, bytes(300 * KIB))
    table.drain()
    table.arrived(4, Stop(number, 9))
    assert table.events[-2:] == [StreamWritable(number), StreamStopped(number, 9)]
    assert table.streams.queued(number) == 0
    assert table.streams.is_delivered(number)
    assert not table.streams.write(number, b"x")
    table.streams.write_eof(number)
    table.streams.feed()
    assert table.paper.lanes[4][2:] == [Reset(9)]


def test_a_stop_for_a_stream_that_is_over_does_not_touch_the_next_in_the_lane():
    table = Table()
    table.paper.stream_limit = 2
    first = table.opened()
    table.streams.write_eof(first)
    table.streams.feed()
    table.arrived(4, End())
    table.streams.delivered(Delivered(first))
    second = table.opened()
    table.arrived(4, Stop(first, 9))
    assert table.streams.write(second, b"unharmed")


def test_stopping_what_has_ended_tells_the_peer_nothing():
    table = server_with(Open(2), b"abc", End())
    table.streams.stop(2, 1)
    assert table.paper.lanes == {}
    assert table.streams.at_eof(2)


def test_a_reset_after_the_end_sends_nothing_more():
    table = Table()
    number = table.opened()
    table.streams.write_eof(number)
    table.streams.feed()
    table.streams.reset(number, 1)
    assert table.paper.lanes == {4: [Open(number), End()]}


def test_a_confirmation_before_the_end_is_a_violation():
    table = Table()
    number = table.opened()
    with pytest.raises(PeerViolation):
        table.streams.delivered(Delivered(number))


def test_messages_about_streams_that_are_over_are_ignored():
    table = Table()
    table.streams.granted(Grant(4, 1 << 30))
    table.streams.credit_wanted(CreditWanted(4))
    table.streams.delivered(Delivered(4))
    table.streams.reset(4, 1)
    table.streams.stop(4, 1)
    table.streams.write_eof(4)
    assert table.events == table.told == []
