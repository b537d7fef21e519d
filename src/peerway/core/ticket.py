"""The ticket: the one string a user pastes to a friend to be dialled.

`peerway1` followed by base32 of a version byte, a msgpack body and a four-byte checksum.
The length of the body comes first, so that a ticket cut short in a chat window is told
apart from one with a wrong character.
"""

from __future__ import annotations

import binascii
import zlib
from dataclasses import dataclass

import msgspec

from peerway.core.identity import KEY_SIZE, NodeId, decode_text, encode_text
from peerway.core.machine import PeerwayError, UdpAddress
from peerway.core.path.candidate import plain_ip

PREFIX = "peerway"
VERSION = 1
SECRET_SIZE = 16
MAX_RELAYS = 8
MAX_ADDRESSES = 16
MAX_TICKET_CHARS = 4096
_HEADER_SIZE = 3
_CHECKSUM_SIZE = 4


class TicketError(PeerwayError, ValueError):
    """A text that cannot be used as a ticket; the message says which way it is wrong."""


class NotATicketError(TicketError):
    """The text does not look like a ticket at all."""


class TicketDamagedError(TicketError):
    """A ticket with a character changed, added or lost in the middle."""


class TicketTruncatedError(TicketError):
    """A ticket whose end is missing."""


class TicketVersionError(TicketError):
    """A ticket from a newer version of peerway."""


class _Body(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    node: bytes
    relays: list[str]
    addresses: list[tuple[str, int]]
    secret: bytes


_decoder = msgspec.msgpack.Decoder(_Body)


@dataclass(frozen=True, slots=True)
class Ticket:
    """How to reach a node: who it is, its relays, perhaps addresses, perhaps the secret that admits us.

    `relays` are URLs; `secret` is empty or 16 bytes. `str(ticket)` is the text to paste.
    """

    node_id: NodeId
    relays: tuple[str, ...] = ()
    addresses: tuple[UdpAddress, ...] = ()
    secret: bytes = b""

    def __str__(self) -> str:
        body = msgspec.msgpack.encode(
            _Body(
                self.node_id.public,
                list(self.relays[:MAX_RELAYS]),
                [(address.ip, address.port) for address in self.addresses[:MAX_ADDRESSES]],
                self.secret,
            )
        )
        raw = bytes([VERSION]) + len(body).to_bytes(2, "big") + body
        return f"{PREFIX}{VERSION}" + encode_text(raw + zlib.crc32(raw).to_bytes(_CHECKSUM_SIZE, "big"))

    def __repr__(self) -> str:
        return (
            f"Ticket({self.node_id.short}, relays={self.relays!r}, secret={'yes' if self.secret else 'no'})"
        )

    @classmethod
    def parse(cls, text: str) -> Ticket:
        """The ticket written as `text`, or the `TicketError` that tells what is wrong with it."""
        raw = _raw_bytes("".join(text.split()))
        if len(raw) < _HEADER_SIZE:
            raise TicketTruncatedError("the ticket is truncated: copy the whole line")
        if raw[0] != VERSION:
            raise TicketVersionError(f"the ticket has version {raw[0]}; this peerway reads version {VERSION}")
        size = _HEADER_SIZE + int.from_bytes(raw[1:_HEADER_SIZE], "big")
        full = size + _CHECKSUM_SIZE
        if len(raw) < full:
            raise TicketTruncatedError(
                f"the ticket is truncated: {len(raw)} of its {full} bytes are here; copy the whole line"
            )
        content, checksum = raw[:size], raw[size:]
        if len(checksum) != _CHECKSUM_SIZE or zlib.crc32(content).to_bytes(_CHECKSUM_SIZE, "big") != checksum:
            raise TicketDamagedError("the ticket is damaged: a character was changed or added; copy it again")
        return _from_body(content[_HEADER_SIZE:])


def _raw_bytes(text: str) -> bytes:
    lowered = text.lower()
    if not lowered.startswith(PREFIX) or len(text) > MAX_TICKET_CHARS:
        raise NotATicketError(f"this is not a ticket: a ticket begins with {PREFIX}{VERSION}")
    digit, encoded = lowered[len(PREFIX) : len(PREFIX) + 1], lowered[len(PREFIX) + 1 :]
    if not digit:
        raise TicketTruncatedError("the ticket is truncated: copy the whole line")
    if digit != str(VERSION):
        if digit.isdigit():
            raise TicketVersionError(f"the ticket has version {digit}; this peerway reads version {VERSION}")
        raise NotATicketError(f"this is not a ticket: a ticket begins with {PREFIX}{VERSION}")
    try:
        # base32 comes in groups of eight; a cut may leave a group of 1, 3 or 6, which
        # encodes no whole byte more than the group one shorter
        usable = len(encoded) - (1 if len(encoded) % 8 in (1, 3, 6) else 0)
        return decode_text(encoded[:usable])
    except binascii.Error:
        raise TicketDamagedError("the ticket is damaged: it has characters that no ticket has") from None


def _from_body(body: bytes) -> Ticket:
    try:
        fields = _decoder.decode(body)
        addresses = tuple(UdpAddress(plain_ip(ip), port) for ip, port in fields.addresses if 0 < port < 65536)
    except (msgspec.DecodeError, ValueError):
        raise TicketDamagedError("the ticket is damaged: its content makes no sense") from None
    if len(fields.node) != KEY_SIZE or len(fields.secret) not in (0, SECRET_SIZE):
        raise TicketDamagedError("the ticket is damaged: a key in it has the wrong length")
    if len(fields.relays) > MAX_RELAYS or len(addresses) > MAX_ADDRESSES:
        raise TicketDamagedError(
            f"the ticket names more than {MAX_RELAYS} relays or {MAX_ADDRESSES} addresses"
        )
    return Ticket(NodeId(fields.node), tuple(fields.relays), addresses, fields.secret)
