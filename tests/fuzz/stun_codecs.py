"""STUN on the wire: whole messages of both RFCs, their proofs, and single attributes."""

from dataclasses import replace

from tests.fuzz.choices import Choices

from peerway.core.machine import WireError
from peerway.core.stun.attributes import ErrorCode, Fingerprint, Software, parse_attribute
from peerway.core.stun.integrity import (
    add_fingerprint,
    fingerprint_is_right,
    integrity_is_right,
    integrity_sha256_is_right,
)
from peerway.core.stun.message import build, is_stun, parse, parse_classic

KEY = b"key"


def stun_message(data: bytes) -> None:
    """A message parses, and what was parsed is built to the same; or it is a `WireError`."""
    for check in (integrity_is_right, integrity_sha256_is_right):
        try:
            check(data, KEY)
        except WireError:
            pass
    try:
        message = parse(data) if is_stun(data) else parse_classic(data)
    except WireError:
        return
    message.unknown_required()
    kept = tuple(a for a in message.attributes if not isinstance(a, Fingerprint | Software | ErrorCode))
    message = replace(message, attributes=kept)  # a CRC of other bytes; text that was repaired
    built = build(message)
    assert (parse_classic(built) if message.is_classic else parse(built)) == message


def stun_fingerprint(data: bytes) -> None:
    """The same with a right fingerprint: only with that does a message with one go on."""
    length = min(len(data), 1200) & ~3
    message = b"\0\1" + length.to_bytes(2, "big") + b"\x21\x12\xa4\x42" + bytes(12) + data[:length]
    try:
        signed = add_fingerprint(message)
    except ValueError:
        return  # malformed (`WireError`), or it has one already
    assert fingerprint_is_right(signed)
    stun_message(signed)


def stun_attribute(data: bytes) -> None:
    """An attribute of any type, with any mask."""
    choices = Choices(data)
    kind = choices.number(2) if choices.flag() else choices.number() | choices.pick((0, 0x8000))
    mask, value = choices.exactly(16), choices.rest()
    try:
        attribute = parse_attribute(kind, value, mask)
    except WireError:
        return
    assert attribute.type == kind
    if not isinstance(attribute, Software | ErrorCode):
        assert parse_attribute(kind, attribute.build(mask), mask) == attribute


TARGETS = (stun_message, stun_fingerprint, stun_attribute)
