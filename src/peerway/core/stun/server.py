"""Telling strangers what address they come from: the answering side of STUN binding.

Nothing is kept of a request but its cost: each source (an IPv4 address, an IPv6 /64) has a bucket
of answers, because sources can be forged and answers would go to a victim; all together have so many
a second. For the same reason an answer is as short as it can be: the address, the fingerprint if the
request had one, SOFTWARE only if the operator wants it, error codes without a phrase.

A server with several sockets also helps to find out how a NAT behaves (`alternates`): answers
then say where they come from and where else they could, and leave from there, or go to another
port, on request. Such answers are longer than their questions, so each source has a second,
smaller bucket of them; when that is empty, answers are short again and nothing else is granted.

The plain request of 20 bytes, almost all there is, is answered from a template, many at a time where
many have come (`answer_plain`); everything else goes through the codec. RFC 8489 6.3.1, RFC 5780 6,
RFC 3489 8.1 (requests without the cookie).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from peerway.core.machine import Datagram, Leaf, Transmit, UdpAddress, WireError
from peerway.core.stun.address import pack_ip
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
from peerway.core.stun.framing import HEADER_SIZE, frame_attribute
from peerway.core.stun.integrity import add_fingerprint
from peerway.core.stun.message import BINDING, Message, MessageClass, build, is_stun, parse, parse_classic
from peerway.core.stun.plain import PLAIN_REQUEST, Answers, Questions, build_answers
from peerway.core.stun.ratelimit import SourceLimiter

ANSWERS_PER_S = 100.0  # to one source: a carrier's NAT puts hundreds of clients behind one
ANSWERS_BURST = 500
ANSWERS_IN_ALL_PER_S = 400_000  # sources can be forged: what all can make us send, 192 Mb/s
DISCOVERIES_PER_S = 5.0  # answers to one source that are longer than they need to be, or go elsewhere
DISCOVERIES_BURST = 80  # a whole check of one host takes some 20
MAX_REQUEST_BYTES = 1280  # RFC 8489 6.1: the largest that needs no knowledge of the path's MTU
MAX_SOFTWARE_BYTES = 32
MAX_UNKNOWN_LISTED = 16

_BUCKET = slice(2, 10)  # of port and IP: an IPv4 address, an IPv6 network of 64 bits
# Known to RFC 8489 9 and harmless where nobody needs to log in, but of no use to our codec.
_IGNORED_TYPES = frozenset({0x001D, 0x001E})  # PASSWORD-ALGORITHM, USERHASH
_NO_CHANGE = ChangeRequest(False, False)


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
        self._alternates = arrange(sockets)

    def receive(self, datagram: Datagram, now: float) -> None:
        """Answer what came to a socket of the server, one request or several coalesced."""
        remote, local = datagram.remote, datagram.local
        if not isinstance(remote, UdpAddress):
            self._drop("not over UDP")
            return
        requests = list(datagram.segments())
        endpoint = remote.port.to_bytes(2, "big") + pack_ip(remote.ip)
        granted = self._admit(endpoint, remote.port, len(requests), now)
        replies = [
            reply
            for data in requests[:granted]
            if (reply := self._answer(data, endpoint, remote, local, now)) is not None
        ]
        for (_, leaves_by, to), together in groupby(replies, _sent_together):
            self._transmits.append(Transmit(tuple(reply.data for reply in together), to, leaves_by))

    def is_plain_at(self, local: UdpAddress) -> bool:
        """Whether what came to this socket of the server may be shown to `answer_plain` first."""
        return local not in self._alternates

    def answer_plain(self, questions: Questions, now: float) -> Answers:
        """Answer the plain requests among what came to one socket. What is `left` is for `receive`."""
        plain = questions.plain()
        answered = self._admit_each(questions, plain, now)
        left: Sequence[int] = ()
        if len(plain) < len(questions.sizes):
            left = sorted(set(range(len(questions.sizes))).difference(plain))
        if not answered:
            return Answers((), b"", left)
        self.answers.success += len(answered)
        asked = questions if len(answered) == len(questions.sizes) else questions.chosen(answered)
        return Answers(answered, build_answers(asked.endpoints, asked.heads, self._tail), left)

    def _admit_each(self, questions: Questions, plain: Sequence[int], now: float) -> Sequence[int]:
        """Those of the requests whose senders have not asked too much."""
        step, endpoints = questions.endpoint_size, questions.endpoints
        first, last = _BUCKET.start, min(_BUCKET.stop, step)
        buckets = [endpoints[index * step + first : index * step + last] for index in plain]
        refused = self.limiter.take_each(buckets, now)
        if refused:
            self.drops["rate limit"] += len(refused)
            plain = [index for place, index in enumerate(plain) if place not in refused]
        return plain[: self._grant(len(plain), now)]

    def _admit(self, endpoint: bytes, port: int, requests: int, now: float) -> int:
        """How many of a source's requests to look at."""
        if not port:
            self.drops["from port 0"] += requests
            return 0
        granted = self.limiter.take(endpoint[_BUCKET], requests, now)
        if granted < requests:
            self.drops["rate limit"] += requests - granted
        return self._grant(granted, now)

    def _grant(self, wanted: int, now: float) -> int:
        """How many of `wanted` answers all sources together may have of us yet."""
        if now >= self._second_ends:
            self._second_ends = now + 1.0
            self._left_this_second = self._in_all_per_s
        granted = min(wanted, self._left_this_second)
        if granted < wanted:
            self.drops["rate limit of all"] += wanted - granted
        self._left_this_second -= granted
        return granted

    def _answer(
        self, data: bytes, endpoint: bytes, remote: UdpAddress, local: UdpAddress | None, now: float
    ) -> _Reply | None:
        alternates = self._alternates.get(local) if local is not None else None
        generous = alternates is not None and self.discovery_limiter.take(endpoint[_BUCKET], 1, now) > 0
        if not generous and len(data) == HEADER_SIZE and data.startswith(PLAIN_REQUEST):
            self.answers.success += 1
            return _Reply(build_answers(endpoint, data, self._tail), local, remote)
        request = self._parse(data)
        if request is None:
            return None
        if refused := _refused(request, alternates):
            return _Reply(_finished(request, self._refusal(request, refused)), local, remote)
        if alternates is None:
            return _Reply(_finished(request, self._success(request, remote)), local, remote)
        return self._discover(request, alternates, remote, generous)

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
