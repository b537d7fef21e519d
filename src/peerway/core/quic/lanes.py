"""The lanes of a session: which there are, and which stream has the use of which."""

from __future__ import annotations

from peerway.core.quic.errors import PeerViolation, SessionCode
from peerway.core.quic.lane import LaneReader
from peerway.core.quic.stream import Stream
from peerway.core.quic.transport import StreamTransport

CONTROL_STREAM = 0

_STEP = 4  # RFC 9000 2.1: between QUIC stream ids of one kind
_BY_SERVER, _UNIDIRECTIONAL = 1, 2


class Lane:
    """A QUIC stream, and the stream that has the use of it now."""

    __slots__ = ("inbound_over", "is_ours", "number", "outbound_over", "reader", "stream")

    def __init__(self, number: int, *, is_ours: bool) -> None:
        self.number = number
        self.is_ours = is_ours
        self.reader = LaneReader()
        self.stream: Stream | None = None
        self.inbound_over = False
        self.outbound_over = False

    def occupy(self, stream: Stream) -> None:
        """`stream` has the use of the lane from now on."""
        self.stream = stream
        self.inbound_over = self.outbound_over = False


class Lanes:
    """Ours, of which free ones are used again, and the peer's."""

    def __init__(self, transport: StreamTransport, *, is_client: bool) -> None:
        self._transport = transport
        self._own_parity = 0 if is_client else _BY_SERVER
        self._next = CONTROL_STREAM + _STEP if is_client else _BY_SERVER
        self._made = 1 if is_client else 0  # the client's control stream counts
        self._lanes: dict[int, Lane] = {}
        self._free: list[Lane] = []

    @property
    def is_one_free(self) -> bool:
        """Whether a stream of ours could have a lane."""
        return bool(self._free) or self._made < self._transport.stream_limit

    def take(self, stream: Stream) -> Lane:
        """A lane of ours for `stream`; only while `is_one_free`."""
        if self._free:
            lane = self._free.pop()
        else:
            lane = self._lanes[self._next] = Lane(self._next, is_ours=True)
            self._next += _STEP
            self._made += 1
        lane.occupy(stream)
        return lane

    def free_if_over(self, lane: Lane) -> None:
        """Both directions may be over: then the lane is for the next stream."""
        if lane.stream is not None and lane.inbound_over and lane.outbound_over:
            lane.stream = None
            if lane.is_ours:
                self._free.append(lane)

    def of(self, number: int) -> Lane:
        """The lane in that QUIC stream; `PeerViolation` when the peer may not have opened it."""
        lane = self._lanes.get(number)
        if lane is None:
            if number & _UNIDIRECTIONAL or number & _BY_SERVER == self._own_parity:
                raise PeerViolation(SessionCode.PROTOCOL_VIOLATION, "a QUIC stream out of place was opened")
            lane = self._lanes[number] = Lane(number, is_ours=False)
        return lane
