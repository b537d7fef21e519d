"""Telling strangers what address they come from: the answering side of STUN binding.

Nothing is kept of a request but its cost: each source (an IPv4 address, an IPv6 /64) has a bucket
of answers, because sources can be forged and answers would go to a victim; all together have so many
a second. For the same reason an answer is as short as it can be: the address, the fingerprint if the
request had one, SOFTWARE only if the operator wants it, error codes without a phrase.

A server with several sockets also helps to find out how a NAT behaves (`alternates`): answers
then say where they come from and where else they could, and leave from there, or go to another
port, on request. Such answers are longer than their questions, so each source has a second,
smaller bucket of them; when that is empty, answers are short again and nothing else is granted.

The plain request of 20 bytes, almost all there is, is answered from precomputed pieces; everything
else goes through the codec. RFC 8489 6.3.1, RFC 5780 6, RFC 3489 8.1 (requests without the cookie).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from peerway.core.machine import Datagram, Leaf, Transmit, UdpAddress, WireError
from peerway.core.stun.address import FAMILY_IPV4, FAMILY_IPV6, pack_ip, xor
from peerway.core.stun.alternates import Alternates, arrange
from peerway.core.stun.attributes import (
    Attribute,
    ChangeRequest,
    ErrorCode,
    Fingerprint,
    MappedAddress,
    ResponsePort,
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
ANSWERS_IN_ALL_PER_S = 100_000  # sources can be forged: what all of them together can make us send
DISCOVERIES_PER_S = 5.0  # answers to one source that are longer than they need to be, or go elsewhere
DISCOVERIES_BURST = 80  # a whole check of one host takes some 20
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
_NO_CHANGE = ChangeRequest(False, False)


class _Source(NamedTuple):
    """What is worth computing once for a source IP: `ipv4_xored` is empty for IPv6."""

    ip: str
    bucket: bytes
    number: int
    ipv4_xored: bytes


class _Reply(NamedTuple):
    """An answer, the socket it leaves by and where it goes."""

    data: bytes
    local: UdpAddress | None
    remote: UdpAddress


@dataclass(slots=True)
class AnswerCounts:
    """What a server has answered: with an address, the same to RFC 3489 clients, with an error;
    and how many of the answers left by another socket than was asked."""

    success: int = 0
    classic: int = 0
    refusal: int = 0
    from_elsewhere: int = 0


class StunServer(Leaf):
    """Answers binding requests. `software` names us in answers; empty, the default, does not.

    `sockets` are all those that the server has, when there are several and they are to help with
    behaviour discovery (RFC 5780). `answers` counts what was sent; `drops` what was not answered,
    by reason.
    """

    def __init__(
        self,
        software: str = "",
        *,
        sockets: Sequence[UdpAddress] = (),
        answers_per_s: float = ANSWERS_PER_S,
        burst: int = ANSWERS_BURST,
        in_all_per_s: int = ANSWERS_IN_ALL_PER_S,
        discoveries_per_s: float = DISCOVERIES_PER_S,
        discoveries_burst: int = DISCOVERIES_BURST,
    ) -> None:
        super().__init__()
        if len(software.encode()) > MAX_SOFTWARE_BYTES:
            raise ValueError(f"SOFTWARE is sent to strangers: {MAX_SOFTWARE_BYTES} bytes at most")
        self.answers = AnswerCounts()
        self.limiter = SourceLimiter(answers_per_s, burst)
        self._in_all_per_s = in_all_per_s
        self._second_ends = -math.inf
        self._left_this_second = 0
        self.discovery_limiter = SourceLimiter(discoveries_per_s, discoveries_burst)
        self._software = (Software(software),) if software else ()
        self._tail = b"".join(frame_attribute(s.type, s.build(b"")) for s in self._software)
        self._ipv4_head = _plain_head(_IPV4_TLV, 4, self._tail)
        self._ipv6_head = _plain_head(_IPV6_TLV, 16, self._tail)
        self._alternates = arrange(sockets)

    def receive(self, datagram: Datagram, now: float) -> None:
        """Answer what came to a socket of the server, one request or several coalesced."""
        remote, local = datagram.remote, datagram.local
        if not isinstance(remote, UdpAddress):
            self._drop("not over UDP")
            return
        requests = list(datagram.segments())
        source = _source(remote.ip)
        granted = self._admit(source, remote.port, len(requests), now)
        replies = [
            reply
            for data in requests[:granted]
            if (reply := self._answer(data, source, remote, local, now)) is not None
        ]
        for (_, leaves_by, to), together in groupby(replies, _sent_together):
            self._transmits.append(Transmit(tuple(reply.data for reply in together), to, leaves_by))

    def _admit(self, source: _Source, port: int, requests: int, now: float) -> int:
        """How many of a source's requests to look at."""
        if not port:
            self.drops["from port 0"] += requests
            return 0
        granted = self.limiter.take(source.bucket, requests, now)
        if granted < requests:
            self.drops["rate limit"] += requests - granted
        if now >= self._second_ends:
            self._second_ends = now + 1.0
            self._left_this_second = self._in_all_per_s
        if granted > self._left_this_second:
            self.drops["rate limit of all"] += granted - self._left_this_second
            granted = self._left_this_second
        self._left_this_second -= granted
        return granted

    def _answer(
        self, data: bytes, source: _Source, remote: UdpAddress, local: UdpAddress | None, now: float
    ) -> _Reply | None:
        alternates = self._alternates.get(local) if local is not None else None
        generous = alternates is not None and self.discovery_limiter.take(source.bucket, 1, now) > 0
        if not generous and len(data) == HEADER_SIZE and data.startswith(_PLAIN_REQUEST):
            return _Reply(self._plain_answer(data, source, remote.port), local, remote)
        request = self._parse(data)
        if request is None:
            return None
        if refused := _refused(request, alternates):
            return _Reply(_finished(request, self._refusal(request, refused)), local, remote)
        if alternates is None:
            return _Reply(_finished(request, self._success(request, remote)), local, remote)
        return self._discover(request, alternates, remote, generous)

    def _plain_answer(self, data: bytes, source: _Source, port: int) -> bytes:
        self.answers.success += 1
        mapped_port = (port ^ _PORT_MASK).to_bytes(2, "big")
        if source.ipv4_xored:
            return self._ipv4_head + data[8:] + _IPV4_TLV + mapped_port + source.ipv4_xored + self._tail
        mapped_ip = (source.number ^ int.from_bytes(data[4:], "big")).to_bytes(16, "big")
        return self._ipv6_head + data[8:] + _IPV6_TLV + mapped_port + mapped_ip + self._tail

    def _discover(
        self, request: Message, alternates: Alternates, remote: UdpAddress, generous: bool
    ) -> _Reply | None:
        """Answer from where, and to where, the request wants it."""
        leaves_by = alternates.wanted_by(request.first(ChangeRequest) or _NO_CHANGE) or alternates.own
        port = request.first(ResponsePort)
        to = UdpAddress(remote.ip, port.port) if port is not None else remote
        if not generous:
            if (leaves_by, to) != (alternates.own, remote):
                self._drop("rate limit of discovery")
                return None
            return _Reply(_finished(request, self._success(request, remote)), leaves_by, to)
        self.answers.from_elsewhere += leaves_by != alternates.own
        if request.is_classic:
            described = alternates.described_classic(leaves_by)
        else:
            described = (MappedAddress(remote), *alternates.described(leaves_by))
        return _Reply(_finished(request, self._success(request, remote, described)), leaves_by, to)

    def _parse(self, data: bytes) -> Message | None:
        """The binding request that `data` is; None, and counted, when it is none."""
        if len(data) > MAX_REQUEST_BYTES:
            self._drop("too large")
            return None
        if not data or data[0] > 3:
            self._drop("not STUN")
            return None
        try:
            message = parse(data) if is_stun(data) else parse_classic(data)
        except WireError:
            self._drop("malformed")
            return None
        if message.message_class is not MessageClass.REQUEST:
            self._drop("indication" if message.message_class is MessageClass.INDICATION else "response")
            return None
        if message.method != BINDING:
            self._drop("another method")
            return None
        return message

    def _success(
        self, request: Message, remote: UdpAddress, described: tuple[Attribute, ...] = ()
    ) -> Message:
        attributes: tuple[Attribute, ...]
        if request.is_classic:
            self.answers.classic += 1
            attributes = (MappedAddress(remote), *described)
        else:
            self.answers.success += 1
            attributes = (XorMappedAddress(remote), *self._software, *described)
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


def _sent_together(reply: _Reply) -> tuple[int, UdpAddress | None, UdpAddress]:
    return len(reply.data), reply.local, reply.remote


def _finished(request: Message, answer: Message) -> bytes:
    data = build(answer)
    return add_fingerprint(data) if request.first(Fingerprint) else data


def _refused(request: Message, alternates: Alternates | None) -> list[int]:
    """The types of the attributes that forbid an answer, a few of them at most."""
    refused = [kind for kind in request.unknown_required() if kind not in _IGNORED_TYPES]
    change = request.first(ChangeRequest)
    if change is not None and not _can_change(change, alternates):
        refused.append(ChangeRequest.type)
    if alternates is None and request.first(ResponsePort) is not None:
        refused.append(ResponsePort.type)
    return refused[:MAX_UNKNOWN_LISTED]


def _can_change(change: ChangeRequest, alternates: Alternates | None) -> bool:
    if alternates is None:
        return not (change.change_ip or change.change_port)
    return alternates.wanted_by(change) is not None
