"""What travels on a QUIC stream: one application stream after another.

QUIC's streams serve as lanes that are never finished, only used again. An opener uses a lane of its
own for a stream, and may use it for the next when both directions of the one before are over: ended
or reset in the lane. So each direction of a lane is a sequence of

    [OPEN, from the opener only]  DATA*  END or RESET

with STOP anywhere. Integers are big-endian.

Why not one QUIC stream a stream: when qh3 2.1 has prepared a retransmission for a stream, must wait
for the congestion window, and meanwhile hears that the stream is complete, it forgets the stream;
the prepared frame then makes it fail ("reserved stream is missing") and lose, for good, whatever
shared the packet. Many short streams at 10 % loss hit that within seconds. Streams that never
finish are not affected.
"""

from __future__ import annotations

from dataclasses import dataclass

from peerway.core.machine import WireError

MAX_NUMBER = (1 << 62) - 1  # of streams and codes
DATA_HEADER_BYTES = 5
MAX_DATA_BYTES = 1 << 20  # in one frame
APPLICATION = 0  # the kind of stream that is the application's

_OPEN, _DATA, _END, _RESET, _STOP = 1, 2, 3, 4, 5
_HEADER_BYTES = {_OPEN: 10, _DATA: DATA_HEADER_BYTES, _END: 1, _RESET: 9, _STOP: 17}


@dataclass(frozen=True, slots=True)
class Open:
    """A stream begins; its number is the opener's choice. Unknown kinds are refused."""

    number: int
    kind: int = APPLICATION


@dataclass(frozen=True, slots=True)
class End:
    """The sender has written everything."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The sender gives up; something may be missing."""

    code: int


@dataclass(frozen=True, slots=True)
class Stop:
    """The sender of this wants nothing more of stream `number`, which may be over already."""

    number: int
    code: int


LaneItem = Open | End | Reset | Stop | bytes


def build(item: Open | End | Reset | Stop) -> bytes:
    """The frame of anything but data."""
    if isinstance(item, Open):
        return bytes([_OPEN, item.kind]) + item.number.to_bytes(8, "big")
    if isinstance(item, Reset):
        return bytes([_RESET]) + item.code.to_bytes(8, "big")
    if isinstance(item, Stop):
        return bytes([_STOP]) + item.number.to_bytes(8, "big") + item.code.to_bytes(8, "big")
    return bytes([_END])


def data_header(size: int) -> bytes:
    """What goes before `size` bytes of data (1 to `MAX_DATA_BYTES`)."""
    return bytes([_DATA]) + size.to_bytes(4, "big")


class LaneReader:
    """Takes one direction of a lane apart."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._data_left = 0

    def feed(self, data: bytes) -> list[LaneItem]:
        """What `data` completes, bytes of the application as they come. `WireError` if malformed."""
        items: list[LaneItem] = []
        start = 0
        while start < len(data):
            if self._data_left:
                part = data[start : start + self._data_left]
                self._data_left -= len(part)
                items.append(part)
                start += len(part)
                continue
            size = self._header_size(data[start])
            taken = data[start : start + size - len(self._header)]
            self._header += taken
            start += len(taken)
            if len(self._header) == size:
                self._finish_header(items)
        return items

    def _header_size(self, next_byte: int) -> int:
        kind = self._header[0] if self._header else next_byte
        if kind not in _HEADER_BYTES:
            raise WireError(f"a lane frame of unknown type {kind}")
        return _HEADER_BYTES[kind]

    def _finish_header(self, items: list[LaneItem]) -> None:
        header = bytes(self._header)
        self._header.clear()
        kind = header[0]
        if kind == _DATA:
            self._data_left = int.from_bytes(header[1:], "big")
            if not 1 <= self._data_left <= MAX_DATA_BYTES:
                raise WireError(f"a lane frame of {self._data_left} bytes")
        elif kind == _OPEN:
            items.append(Open(_number(header[2:]), header[1]))
        elif kind == _RESET:
            items.append(Reset(_number(header[1:])))
        elif kind == _STOP:
            items.append(Stop(_number(header[1:9]), _number(header[9:])))
        else:
            items.append(End())


def _number(data: bytes) -> int:
    number = int.from_bytes(data, "big")
    if number > MAX_NUMBER:
        raise WireError(f"the number {number} in a lane frame")
    return number
