"""STUN messages: what RFC 8489 sends, and what RFC 3489 sent (RFC 8489 5, 6).

`parse` and `build` are inverses on values. Parsing is strict: a message that is not whole, or has
anything in it that is not what it should be, is a `WireError`; a FINGERPRINT is verified at once,
the HMACs by who knows the key (integrity.py). `parse_classic` reads the older form, in which the
transaction id takes the cookie's place and has 16 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from peerway.core.machine import WireError
from peerway.core.stun.attributes import Attribute, Unknown, parse_attribute
from peerway.core.stun.framing import (
    CLASSIC_TRANSACTION_ID_SIZE,
    COOKIE,
    FINGERPRINT,
    MAX_ATTRIBUTES,
    TRANSACTION_ID_SIZE,
    check_header,
    frame_attribute,
    is_stun,
    walk_significant,
)
from peerway.core.stun.integrity import fingerprint_is_right

__all__ = ["BINDING", "Message", "MessageClass", "build", "is_stun", "parse", "parse_classic"]

BINDING = 0x001
MAX_METHOD = 0xFFF

Kind = TypeVar("Kind", bound=Attribute)


class MessageClass(IntEnum):
    """What a message is for: the two bits woven into its type (RFC 8489 5)."""

    REQUEST = 0
    INDICATION = 1
    SUCCESS = 2
    ERROR = 3


@dataclass(frozen=True, slots=True)
class Message:
    """A STUN message. `transaction_id` has 12 bytes, or 16 in the older form without a cookie."""

    message_class: MessageClass
    method: int
    transaction_id: bytes
    attributes: tuple[Attribute, ...] = ()

    def first(self, kind: type[Kind]) -> Kind | None:
        """The first attribute of a class; later ones of the same count for nothing (RFC 8489 14)."""
        for attribute in self.attributes:
            if isinstance(attribute, kind):
                return attribute
        return None

    def unknown_required(self) -> tuple[int, ...]:
        """The types of required attributes this codec does not know, each once, in order."""
        return tuple(dict.fromkeys(a.type for a in self.attributes if isinstance(a, Unknown) and a.required))

    @property
    def is_classic(self) -> bool:
        """Whether this is a message of RFC 3489."""
        return len(self.transaction_id) == CLASSIC_TRANSACTION_ID_SIZE


def parse(data: bytes) -> Message:
    """The message that `data` is, whole and nothing else; `WireError` when it is not."""
    check_header(data)
    if data[4:8] != COOKIE:
        raise WireError("the magic cookie is missing")
    return _parse(data, data[8:20])


def parse_classic(data: bytes) -> Message:
    """The message without a cookie, of RFC 3489, that `data` is; `WireError` when it is not."""
    check_header(data)
    if data[4:8] == COOKIE:
        raise WireError("a message with the magic cookie is none of RFC 3489")
    return _parse(data, data[4:20])


def build(message: Message) -> bytes:
    """The bytes of a message. Integrity and fingerprint are added to them by integrity.py.

    `ValueError` when a field does not fit its place.
    """
    if not 0 <= message.method <= MAX_METHOD:
        raise ValueError(f"the method {message.method:#x} has more than 12 bits")
    place = message.transaction_id if message.is_classic else COOKIE + message.transaction_id
    if len(place) != len(COOKIE) + TRANSACTION_ID_SIZE:
        raise ValueError("a transaction id has 12 bytes")
    if len(message.attributes) > MAX_ATTRIBUTES:
        raise ValueError(f"a message has at most {MAX_ATTRIBUTES} attributes")
    body = b"".join(frame_attribute(a.type, a.build(place)) for a in message.attributes)
    return _type_bits(message.message_class, message.method) + len(body).to_bytes(2, "big") + place + body


def _parse(data: bytes, transaction_id: bytes) -> Message:
    mask = data[4:20]
    found = [(kind, value) for _, kind, value in walk_significant(data)]
    attributes = tuple(parse_attribute(kind, value, mask) for kind, value in found)
    if found and found[-1][0] == FINGERPRINT and not fingerprint_is_right(data):
        raise WireError("the fingerprint is not that of the message")
    bits = int.from_bytes(data[:2], "big")
    message_class = MessageClass((bits >> 4 & 1) | (bits >> 7 & 2))
    method = bits & 0xF | bits >> 1 & 0x70 | bits >> 2 & 0xF80
    return Message(message_class, method, transaction_id, attributes)


def _type_bits(message_class: MessageClass, method: int) -> bytes:
    bits = method & 0xF | (method & 0x70) << 1 | (method & 0xF80) << 2
    return (bits | (message_class & 1) << 4 | (message_class & 2) << 7).to_bytes(2, "big")
