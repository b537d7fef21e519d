"""The control stream's messages: QUIC stream 0, both ways.

Each message is a 16-bit length of what follows, a type byte, and a msgpack array of the fields.
Types from `OPTIONAL` up may be ignored by who does not know them; an unknown type below is an error.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from peerway.core.identity import KEY_SIZE, SIGNATURE_SIZE
from peerway.core.machine import WireError

OPTIONAL = 128
MAX_MESSAGE_BYTES = 1024  # type and fields
_LENGTH_BYTES = 2

StreamId = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Offset = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
PublicKey = Annotated[bytes, msgspec.Meta(min_length=KEY_SIZE, max_length=KEY_SIZE)]
Signature = Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_SIZE, max_length=SIGNATURE_SIZE)]


class Auth(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The client's first message: its NodeId, and its signature for this connection."""

    client: PublicKey
    signature: Signature


class Welcome(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The server's first message: the client is who it says."""


class Grant(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The peer may send the stream's bytes below offset `limit`."""

    stream: StreamId
    limit: Offset


class CreditWanted(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The sender has more for the stream than its credit allows."""

    stream: StreamId


class Delivered(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Everything up to the end of the peer's part of the stream has arrived."""

    stream: StreamId


ControlMessage = Auth | Welcome | Grant | CreditWanted | Delivered

_TYPES: dict[type[ControlMessage], int] = {Auth: 1, Welcome: 2, Grant: 3, CreditWanted: 4, Delivered: 5}
_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: dict[int, msgspec.msgpack.Decoder[ControlMessage]] = {
    number: msgspec.msgpack.Decoder(kind) for kind, number in _TYPES.items()
}


def build(message: ControlMessage) -> bytes:
    """The message as it travels, its length included."""
    body = _ENCODER.encode(message)
    return (1 + len(body)).to_bytes(_LENGTH_BYTES, "big") + bytes([_TYPES[type(message)]]) + body


def parse(frame: bytes) -> ControlMessage | None:
    """The message in `frame` (what follows the length); None for an optional one we do not know."""
    decoder = _DECODERS.get(frame[0])
    if decoder is None:
        if frame[0] >= OPTIONAL:
            return None
        raise WireError(f"a control message of unknown type {frame[0]}")
    try:
        return decoder.decode(frame[1:])
    except (msgspec.DecodeError, RecursionError):
        raise WireError(f"a malformed control message of type {frame[0]}") from None


class ControlReader:
    """Cuts what arrives on the control stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[ControlMessage]:
        """The messages completed by `data`; `WireError` when one is malformed or too long."""
        self._buffer += data
        messages = []
        start = 0
        while (frame := self._next_frame(start)) is not None:
            start += _LENGTH_BYTES + len(frame)
            message = parse(frame)
            if message is not None:
                messages.append(message)
        del self._buffer[:start]
        return messages

    def _next_frame(self, start: int) -> bytes | None:
        body = start + _LENGTH_BYTES
        if len(self._buffer) < body:
            return None
        length = int.from_bytes(self._buffer[start:body], "big")
        if not 1 <= length <= MAX_MESSAGE_BYTES:
            raise WireError(f"a control message of {length} bytes")
        if len(self._buffer) < body + length:
            return None
        return bytes(self._buffer[body : body + length])
