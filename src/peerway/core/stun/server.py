"""Telling strangers what address they come from: the answering side of STUN binding.

Nothing is kept of a request but its cost: each source (an IPv4 address, an IPv6 /64) has a
bucket of answers, because sources can be forged and answers would go to a victim. For the same
reason an answer is as short as it can be: the address, the fingerprint if the request had one,
SOFTWARE only if the operator wants it, error codes without a phrase.

The plain request of 20 bytes, almost all there is, is answered from precomputed pieces; everything
else goes through the codec. RFC 8489 6.3.1, RFC 3489 8.1 (requests without the magic cookie).
There is no other address to answer from, so a CHANGE-REQUEST that wants one is refused (420).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from peerway.core.machine import Datagram, Leaf, Transmit, UdpAddress, WireError
from peerway.core.stun.address import FAMILY_IPV4, FAMILY_IPV6, pack_ip, xor
from peerway.core.stun.attributes import (
    Attribute,
    ChangeRequest,
    ErrorCode,
    Fingerprint,
    MappedAddress,
    Software,
    UnknownAttributes,
    XorMappedAddress,
)
from peerway.core.stun.framing import COOKIE, HEADER_SIZE, frame_attribute
from peerway.core.stun.integrity import add_fingerprint
from peerway.core.stun.message import BINDING, Message, MessageClass, build, is_stun, parse, parse_classic
from peerway.core.stun.ratelimit import SourceLimiter

ANSWERS_PER_S = 100.0  # to one source: a carrier's NAT puts hundreds of clients behind one
ANSWERS_BURST = 500
MAX_REQUEST_BYTES = 1280  # RFC 8489 6.1: the largest that needs no knowledge of the path's MTU
MAX_SOFTWARE_BYTES = 32
MAX_UNKNOWN_LISTED = 16

_PLAIN_REQUEST = b"\x00\x01\x00\x00" + COOKIE
_SUCCESS_TYPE = b"\x01\x01"
_IPV4_TLV = bytes((0, XorMappedAddress.type, 0, 8, 0, FAMILY_IPV4))  # up to the port
_IPV6_TLV = bytes((0, XorMappedAddress.type, 0, 20, 0, FAMILY_IPV6))
_PORT_MASK = int.from_bytes(COOKIE[:2], "big")
_IPV6_NETWORK_BYTES = 8
_CACHED_SOURCES = 4096
# Known to RFC 8489 9 and harmless where nobody needs to log in, but of no use to our codec.
_IGNORED_TYPES = frozenset({0x001D, 0x001E})  # PASSWORD-ALGORITHM, USERHASH


class _Source(NamedTuple):
    """What is worth computing once for a source IP: `ipv4_xored` is empty for IPv6."""

    ip: str
    bucket: bytes
    number: int
    ipv4_xored: bytes


@dataclass(slots=True)
class AnswerCounts:
    """What a server has answered: with an address, the same to RFC 3489 clients, with an error."""

    success: int = 0
    classic: int = 0
    refusal: int = 0


class StunServer(Leaf):
    """Answers binding requests. `software` names us in answers; empty, the default, does not.

    `answers` counts what was sent; `drops` what was not answered, by reason.
    """

    def __init__(
        self, software: str = "", *, answers_per_s: float = ANSWERS_PER_S, burst: int = ANSWERS_BURST
    ) -> None:
        super().__init__()
        if len(software.encode()) > MAX_SOFTWARE_BYTES:
            raise ValueError(f"SOFTWARE is sent to strangers: {MAX_SOFTWARE_BYTES} bytes at most")
        self.answers = AnswerCounts()
        self.limiter = SourceLimiter(answers_per_s, burst)
        self._software = (Software(software),) if software else ()
        self._tail = b"".join(frame_attribute(s.type, s.build(b"")) for s in self._software)
        self._ipv4_head = _plain_head(_IPV4_TLV, 4, self._tail)
        self._ipv6_head = _plain_head(_IPV6_TLV, 16, self._tail)

    def receive(self, datagram: Datagram, now: float) -> None:
        """Answer what came to the server's socket, one request or several coalesced."""
        remote = datagram.remote
        if not isinstance(remote, UdpAddress):
            self._drop("not over UDP")
            return
        if not datagram.segment_size:
            answer = self.answer(datagram.data, remote.ip, remote.port, now)
            if answer:
                self._transmits.append(Transmit((answer,), remote, datagram.local))
            return
        requests = list(datagram.segments())
        source = _source(remote.ip)
        granted = self._admit(source, remote.port, len(requests), now)
        answers = [self._answer(data, source, remote.port) for data in requests[:granted]]
        for size, equal_sized in groupby(answers, len):
            if size:
                self._transmits.append(Transmit(tuple(equal_sized), remote, datagram.local))

    def answer(self, data: bytes, ip: str, port: int, now: float) -> bytes:
        """The answer to one request from `ip` and `port`, empty for none.

        What `receive` does, for a driver that has nothing to do but send the answer back at once.
        """
        source = _source(ip)
        return self._answer(data, source, port) if self._admit(source, port, 1, now) else b""

    def _admit(self, source: _Source, port: int, requests: int, now: float) -> int:
        """How many of a source's requests to look at."""
        if not port:
            self.drops["from port 0"] += requests
            return 0
        granted = self.limiter.take(source.bucket, requests, now)
        if granted < requests:
            self.drops["rate limit"] += requests - granted
        return granted

    def _answer(self, data: bytes, source: _Source, port: int) -> bytes:
        if len(data) != HEADER_SIZE or not data.startswith(_PLAIN_REQUEST):
            return self._answer_any(data, UdpAddress(source.ip, port))
        self.answers.success += 1
        mapped_port = (port ^ _PORT_MASK).to_bytes(2, "big")
        if source.ipv4_xored:
            return self._ipv4_head + data[8:] + _IPV4_TLV + mapped_port + source.ipv4_xored + self._tail
        mapped_ip = (source.number ^ int.from_bytes(data[4:], "big")).to_bytes(16, "big")
        return self._ipv6_head + data[8:] + _IPV6_TLV + mapped_port + mapped_ip + self._tail

    def _answer_any(self, data: bytes, remote: UdpAddress) -> bytes:
        request = self._parse(data)
        if request is None:
            return b""
        if request.message_class is not MessageClass.REQUEST:
            self._drop("indication" if request.message_class is MessageClass.INDICATION else "response")
            return b""
        if request.method != BINDING:
            self._drop("another method")
            return b""
        refused = _refused(request)
        answer = build(self._refusal(request, refused) if refused else self._success(request, remote))
        return add_fingerprint(answer) if request.first(Fingerprint) else answer

    def _parse(self, data: bytes) -> Message | None:
        if len(data) > MAX_REQUEST_BYTES:
            self._drop("too large")
            return None
        if not data or data[0] > 3:
            self._drop("not STUN")
            return None
        try:
            return parse(data) if is_stun(data) else parse_classic(data)
        except WireError:
            self._drop("malformed")
            return None

    def _success(self, request: Message, remote: UdpAddress) -> Message:
        attributes: tuple[Attribute, ...]
        if request.is_classic:
            self.answers.classic += 1
            attributes = (MappedAddress(remote),)
        else:
            self.answers.success += 1
            attributes = (XorMappedAddress(remote), *self._software)
        return Message(MessageClass.SUCCESS, BINDING, request.transaction_id, attributes)

    def _refusal(self, request: Message, types: list[int]) -> Message:
        self.answers.refusal += 1
        if request.is_classic and len(types) % 2:
            types = [*types, types[-1]]  # RFC 3489 11.2.10 knows no padding: one is listed twice
        attributes = (ErrorCode(420), UnknownAttributes(tuple(types)))
        return Message(MessageClass.ERROR, BINDING, request.transaction_id, attributes)


@lru_cache(maxsize=_CACHED_SOURCES)
def _source(ip: str) -> _Source:
    packed = pack_ip(ip)
    xored = xor(packed, COOKIE) if len(packed) == 4 else b""
    return _Source(ip, packed[:_IPV6_NETWORK_BYTES], int.from_bytes(packed, "big"), xored)


def _plain_head(tlv: bytes, ip_size: int, tail: bytes) -> bytes:
    length = len(tlv) + 2 + ip_size + len(tail)
    return _SUCCESS_TYPE + length.to_bytes(2, "big") + COOKIE


def _refused(request: Message) -> list[int]:
    """The types of the attributes that forbid an answer, a few of them at most."""
    refused = [kind for kind in request.unknown_required() if kind not in _IGNORED_TYPES]
    change = request.first(ChangeRequest)
    if change is not None and (change.change_ip or change.change_port):
        refused.append(change.type)
    return refused[:MAX_UNKNOWN_LISTED]
