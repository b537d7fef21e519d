"""What two sessions say to each other over their one reliable pipe: data of streams, and messages.

A frame is a kind byte, a 32-bit big-endian length, and a body of that length. The body of `DATA` is
a 64-bit stream number and at least one byte of the application; every other body is a msgpack array
of the message's fields. Kinds from `OPTIONAL` up may be ignored by who does not know them; an unknown
kind below is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from peerway.core.identity import KEY_SIZE, SIGNATURE_SIZE
from peerway.core.machine import WireError

OPTIONAL = 128
MAX_DATA_BYTES = 1 << 20  # of the application, in one frame
MAX_MESSAGE_BYTES = 1024
DATA_HEADER_BYTES = 13
APPLICATION = 0  # the type of streams that are the application's

_DATA = 0
_HEADER_BYTES = 5
_STREAM_BYTES = 8
_MAX_NUMBER = (1 << 62) - 1

Number = Annotated[int, msgspec.Meta(ge=0, le=_MAX_NUMBER)]
PublicKey = Annotated[bytes, msgspec.Meta(min_length=KEY_SIZE, max_length=KEY_SIZE)]
Signature = Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_SIZE, max_length=SIGNATURE_SIZE)]


class Auth(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The client's first message: its NodeId, and its signature for this connection."""

    client: PublicKey
    signature: Signature


class Open(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A stream begins. Its number is the opener's choice; a stream of unknown `kind` is refused."""

    stream: Number
    kind: Number = APPLICATION


class End(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The sender has written everything on the stream."""

    stream: Number


class Reset(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The sender gives up writing on the stream; something may be missing."""

    stream: Number
    code: Number


class Stop(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The sender wants nothing more on the stream."""

    stream: Number
    code: Number


class Grant(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The peer may send the stream's bytes below offset `limit`."""

    stream: Number
    limit: Number


class CreditWanted(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The sender has more for the stream than its credit allows."""

    stream: Number


class Delivered(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Everything up to the end of the peer's part of the stream has arrived."""

    stream: Number


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of the application, passed on as they come: a frame may arrive as several of these."""

    stream: int
    data: bytes


StreamMessage = Open | End | Reset | Stop | Grant | CreditWanted | Delivered
Message = Auth | StreamMessage
Frame = Data | Message

_KINDS: dict[type[Message], int] = {
    Auth: 1,
    Open: 2,
    End: 3,
    Reset: 4,
    Stop: 5,
    Grant: 6,
    CreditWanted: 7,
    Delivered: 8,
}
_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: dict[int, msgspec.msgpack.Decoder[Message]] = {
    number: msgspec.msgpack.Decoder(kind) for kind, number in _KINDS.items()
}


def build(message: Message) -> bytes:
    """The frame of a message."""
    body = _ENCODER.encode(message)
    return bytes([_KINDS[type(message)]]) + len(body).to_bytes(4, "big") + body


def data_header(stream: int, size: int) -> bytes:
    """What goes before `size` bytes of `stream` (1 to `MAX_DATA_BYTES`)."""
    return bytes([_DATA]) + (size + _STREAM_BYTES).to_bytes(4, "big") + stream.to_bytes(_STREAM_BYTES, "big")


class FrameReader:
    """Takes apart what arrives."""

    def __init__(self) -> None:
        self._partial = bytearray()
        self._wanted = _HEADER_BYTES
        self._stream = 0
        self._data_left = 0

    def feed(self, data: bytes) -> list[Frame]:
        """What `data` completes; `WireError` when it is malformed."""
        frames: list[Frame] = []
        start = 0
        while start < len(data):
            if self._data_left:
                part = data[start : start + self._data_left]
                frames.append(Data(self._stream, part))
                self._data_left -= len(part)
            else:
                part = data[start : start + self._wanted - len(self._partial)]
                self._partial += part
                if len(self._partial) == self._wanted:
                    self._complete(frames)
            start += len(part)
        return frames

    def _complete(self, frames: list[Frame]) -> None:
        kind, length = self._partial[0], int.from_bytes(self._partial[1:_HEADER_BYTES], "big")
        if self._wanted == _HEADER_BYTES:
            self._wanted = DATA_HEADER_BYTES if kind == _DATA else _HEADER_BYTES + length
            most = MAX_DATA_BYTES + _STREAM_BYTES if kind == _DATA else MAX_MESSAGE_BYTES
            if not (_STREAM_BYTES if kind == _DATA else 0) < length <= most:
                raise WireError(f"a frame of kind {kind} and {length} bytes")
            return
        body = bytes(self._partial[_HEADER_BYTES:])
        self._partial.clear()
        self._wanted = _HEADER_BYTES
        if kind == _DATA:
            self._stream = int.from_bytes(body, "big")
            self._data_left = length - _STREAM_BYTES
        elif (message := _parse(kind, body)) is not None:
            frames.append(message)


def _parse(kind: int, body: bytes) -> Message | None:
    decoder = _DECODERS.get(kind)
    if decoder is None:
        if kind >= OPTIONAL:
            return None
        raise WireError(f"a frame of unknown kind {kind}")
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise WireError(f"a malformed message of kind {kind}") from None
