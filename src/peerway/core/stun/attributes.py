"""The attributes a STUN message carries, each a value of its own class (RFC 8489 14, RFC 5780 7).

`parse_attribute` makes them from the wire; what has no class here comes out as `Unknown`. An
attribute is *required* when its type is below 0x8000: who does not understand it may not go on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Protocol

from peerway.core.machine import UdpAddress, WireError
from peerway.core.stun import framing
from peerway.core.stun.address import build_address, parse_address

FIRST_OPTIONAL = 0x8000  # RFC 8489 14: comprehension-optional from here on
MAX_USERNAME_BYTES = 508  # RFC 8489 14.3
MAX_TEXT_BYTES = 763  # RFC 8489 14.8-14.10, 14.14: 127 characters of UTF-8, counted generously
_CHANGE_IP = 0x04  # RFC 5780 7.2
_CHANGE_PORT = 0x02


class Attribute(Protocol):
    """An attribute of a message. `mask` is bytes 4 to 20 of the message: what addresses are XORed with."""

    @property
    def type(self) -> int:
        """The 16-bit type."""
        ...

    def build(self, mask: bytes) -> bytes:
        """The value on the wire, without padding."""
        ...


@dataclass(frozen=True, slots=True)
class Unknown:
    """An attribute this module has no class for."""

    type: int
    value: bytes

    @property
    def required(self) -> bool:
        """Whether a message cannot be processed by who does not know this attribute."""
        return self.type < FIRST_OPTIONAL

    def build(self, mask: bytes) -> bytes:
        """The value as it came."""
        return self.value


@dataclass(frozen=True, slots=True)
class _Address:
    address: UdpAddress
    type: ClassVar[int]

    @classmethod
    def parse(cls, value: bytes, mask: bytes) -> Attribute:
        return cls(parse_address(value))

    def build(self, mask: bytes) -> bytes:
        return build_address(self.address)


class MappedAddress(_Address):
    """MAPPED-ADDRESS: the source the server saw, in the clear (RFC 3489 servers; ALGs rewrite it)."""

    __slots__ = ()
    type = 0x0001


class SourceAddress(_Address):
    """SOURCE-ADDRESS (RFC 3489 11.2.5): still sent by public servers, so it must not fail an answer."""

    __slots__ = ()
    type = 0x0004


class ChangedAddress(_Address):
    """CHANGED-ADDRESS (RFC 3489 11.2.3): still sent by public servers, so it must not fail an answer."""

    __slots__ = ()
    type = 0x0005


class ResponseOrigin(_Address):
    """RESPONSE-ORIGIN: the address the answer was sent from (RFC 5780 7.3)."""

    __slots__ = ()
    type = 0x802B


class OtherAddress(_Address):
    """OTHER-ADDRESS: where the server's other IP and port are (RFC 5780 7.4)."""

    __slots__ = ()
    type = 0x802C


@dataclass(frozen=True, slots=True)
class XorMappedAddress:
    """XOR-MAPPED-ADDRESS: the source the server saw (RFC 8489 14.2)."""

    address: UdpAddress
    type: ClassVar[int] = 0x0020

    @classmethod
    def parse(cls, value: bytes, mask: bytes) -> Attribute:
        """From the value on the wire."""
        return cls(parse_address(value, mask))

    def build(self, mask: bytes) -> bytes:
        """The value on the wire."""
        return build_address(self.address, mask)


@dataclass(frozen=True, slots=True)
class _Text:
    text: str
    type: ClassVar[int]
    max_bytes: ClassVar[int] = MAX_TEXT_BYTES
    decode_errors: ClassVar[str] = "strict"

    @classmethod
    def parse(cls, value: bytes, mask: bytes) -> Attribute:
        if len(value) > cls.max_bytes:
            raise WireError(f"attribute {cls.type:#06x} is longer than {cls.max_bytes} bytes")
        try:
            return cls(value.decode("utf-8", cls.decode_errors))
        except UnicodeDecodeError:
            raise WireError(f"attribute {cls.type:#06x} is not UTF-8") from None

    def build(self, mask: bytes) -> bytes:
        value = self.text.encode()
        if len(value) > self.max_bytes:
            raise ValueError(f"the text of attribute {self.type:#06x} is longer than {self.max_bytes} bytes")
        return value


class Username(_Text):
    """USERNAME (RFC 8489 14.3)."""

    __slots__ = ()
    type = 0x0006
    max_bytes = MAX_USERNAME_BYTES


class Realm(_Text):
    """REALM (RFC 8489 14.9)."""

    __slots__ = ()
    type = 0x0014


class Nonce(_Text):
    """NONCE (RFC 8489 14.10)."""

    __slots__ = ()
    type = 0x0015


class Software(_Text):
    """SOFTWARE: for diagnosis only, so sloppy text in it spoils no message (RFC 8489 14.14)."""

    __slots__ = ()
    type = 0x8022
    decode_errors = "replace"


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """ERROR-CODE: 300 to 699, and a phrase for people (RFC 8489 14.8)."""

    code: int
    reason: str = ""
    type: ClassVar[int] = 0x0009

    @classmethod
    def parse(cls, value: bytes, mask: bytes) -> Attribute:
        """From the value on the wire."""
        if not 4 <= len(value) <= 4 + MAX_TEXT_BYTES:
            raise WireError("ERROR-CODE has a wrong size")
        hundreds, rest = value[2] & 0x07, value[3]
        if not (3 <= hundreds <= 6 and rest <= 99):
            raise WireError("ERROR-CODE is not between 300 and 699")
        return cls(hundreds * 100 + rest, value[4:].decode("utf-8", "replace"))

    def build(self, mask: bytes) -> bytes:
        """The value on the wire."""
        if not 300 <= self.code <= 699:
            raise ValueError(f"{self.code} is not between 300 and 699")
        reason = self.reason.encode()
        if len(reason) > MAX_TEXT_BYTES:
            raise ValueError(f"the reason of an error is longer than {MAX_TEXT_BYTES} bytes")
        return bytes((0, 0, *divmod(self.code, 100))) + reason


@dataclass(frozen=True, slots=True)
class UnknownAttributes:
    """UNKNOWN-ATTRIBUTES: the types a server did not understand (RFC 8489 14.13)."""

    types: tuple[int, ...]
    type: ClassVar[int] = 0x000A

    @classmethod
    def parse(cls, value: bytes, mask: bytes) -> Attribute:
        """From the value on the wire."""
        if len(value) % 2:
            raise WireError("UNKNOWN-ATTRIBUTES is a list of 16-bit types")
        return cls(struct.unpack(f">{len(value) // 2}H", value))

    def build(self, mask: bytes) -> bytes:
        """The value on the wire."""
        return struct.pack(f">{len(self.types)}H", *self.types)


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """CHANGE-REQUEST: answer from another address or port, please (RFC 5780 7.2, RFC 3489 11.2.4)."""

    change_ip: bool
    change_port: bool
    type: ClassVar[int] = 0x0003

    @classmethod
    def parse(cls, value: bytes, mask: bytes) -> Attribute:
        """From the value on the wire; its other bits are ignored."""
        if len(value) != 4:
            raise WireError("CHANGE-REQUEST has 4 bytes")
        return cls(bool(value[3] & _CHANGE_IP), bool(value[3] & _CHANGE_PORT))

    def build(self, mask: bytes) -> bytes:
        """The value on the wire."""
        return bytes((0, 0, 0, _CHANGE_IP * self.change_ip | _CHANGE_PORT * self.change_port))


@dataclass(frozen=True, slots=True)
class ResponsePort:
    """RESPONSE-PORT: answer to this port of our address, please (RFC 5780 7.5)."""

    port: int
    type: ClassVar[int] = 0x0027

    @classmethod
    def parse(cls, value: bytes, mask: bytes) -> Attribute:
        """From the value on the wire: the port and two bytes that are ignored."""
        if len(value) != 4 or value[:2] == b"\x00\x00":
            raise WireError("RESPONSE-PORT has 4 bytes, and the port is not 0")
        return cls(int.from_bytes(value[:2], "big"))

    def build(self, mask: bytes) -> bytes:
        """The value on the wire."""
        return self.port.to_bytes(2, "big") + b"\x00\x00"


@dataclass(frozen=True, slots=True)
class MessageIntegrity:
    """MESSAGE-INTEGRITY: 20 bytes of HMAC-SHA1, not verified by parsing (see integrity.py)."""

    digest: bytes
    type: ClassVar[int] = framing.MESSAGE_INTEGRITY

    @classmethod
    def parse(cls, value: bytes, mask: bytes) -> Attribute:
        """From the value on the wire."""
        if len(value) != 20:
            raise WireError("MESSAGE-INTEGRITY has 20 bytes")
        return cls(value)

    def build(self, mask: bytes) -> bytes:
        """The value on the wire."""
        return self.digest


@dataclass(frozen=True, slots=True)
class MessageIntegritySha256:
    """MESSAGE-INTEGRITY-SHA256: 16 to 32 bytes of HMAC-SHA256, not verified by parsing (see integrity.py)."""

    digest: bytes
    type: ClassVar[int] = framing.MESSAGE_INTEGRITY_SHA256

    @classmethod
    def parse(cls, value: bytes, mask: bytes) -> Attribute:
        """From the value on the wire."""
        if not 16 <= len(value) <= 32 or len(value) % 4:
            raise WireError("MESSAGE-INTEGRITY-SHA256 has 16 to 32 bytes, a multiple of 4")
        return cls(value)

    def build(self, mask: bytes) -> bytes:
        """The value on the wire."""
        return self.digest


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """FINGERPRINT: CRC-32 of what comes before it, XOR 0x5354554e; right when `parse` let it through."""

    crc: int
    type: ClassVar[int] = framing.FINGERPRINT

    @classmethod
    def parse(cls, value: bytes, mask: bytes) -> Attribute:
        """From the value on the wire."""
        if len(value) != 4:
            raise WireError("FINGERPRINT has 4 bytes")
        return cls(int.from_bytes(value, "big"))

    def build(self, mask: bytes) -> bytes:
        """The value on the wire."""
        return self.crc.to_bytes(4, "big")


_PARSERS = {
    known.type: known.parse
    for known in (
        MappedAddress,
        SourceAddress,
        ChangedAddress,
        ResponseOrigin,
        OtherAddress,
        XorMappedAddress,
        Username,
        Realm,
        Nonce,
        Software,
        ErrorCode,
        UnknownAttributes,
        ChangeRequest,
        ResponsePort,
        MessageIntegrity,
        MessageIntegritySha256,
        Fingerprint,
    )
}


def parse_attribute(kind: int, value: bytes, mask: bytes) -> Attribute:
    """The attribute of type `kind`; `WireError` when its value is not what the type demands."""
    parser = _PARSERS.get(kind)
    return Unknown(kind, value) if parser is None else parser(value, mask)
