"""The plain binding request, 20 bytes and nearly all that a STUN server hears, answered by the batch.

A batch is laid out in columns: whatever is the same byte in all its messages is one strided slice, and
a slice is copied, compared or XORed at once. So the price of an answer is that of its bytes, not of a
dozen objects; a server with 64 requests at hand makes their answers in the time the codec takes for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from peerway.core.stun.address import FAMILY_IPV4, FAMILY_IPV6
from peerway.core.stun.attributes import XorMappedAddress
from peerway.core.stun.framing import COOKIE, HEADER_SIZE

PLAIN_REQUEST = b"\x00\x01\x00\x00" + COOKIE  # what one begins with; the transaction id is the rest
_SUCCESS_TYPE = b"\x01\x01"
_FAMILY_BY_ENDPOINT_SIZE = {6: FAMILY_IPV4, 18: FAMILY_IPV6}
_MASK_HEAD = COOKIE[:2] + COOKIE  # what a port and the start of an IP are XORed with; then the transaction id
_XORED_WITH = {mask: bytes(byte ^ mask for byte in range(256)) for mask in _MASK_HEAD}


@dataclass(frozen=True, slots=True)
class Questions:
    """What came to one socket from many senders.

    `endpoints` has the port and the IP of each sender as they are on the wire (6 or 18 bytes, back to
    back), `heads` the first 20 bytes of each message, whose sizes are `sizes`.
    """

    endpoints: bytes
    heads: bytes
    sizes: Sequence[int]

    @property
    def endpoint_size(self) -> int:
        """How many bytes of `endpoints` are one sender's."""
        return len(self.endpoints) // len(self.sizes)

    def chosen(self, indexes: Sequence[int]) -> Questions:
        """Some of them."""
        step, size = self.endpoint_size, HEADER_SIZE
        return Questions(
            b"".join([self.endpoints[index * step : (index + 1) * step] for index in indexes]),
            b"".join([self.heads[index * size : (index + 1) * size] for index in indexes]),
            [self.sizes[index] for index in indexes],
        )

    def plain(self) -> Sequence[int]:
        """The indexes of the plain requests that somebody at a real port sent."""
        heads, count = self.heads, len(self.sizes)
        if self.sizes.count(HEADER_SIZE) == count and all(
            heads[column::HEADER_SIZE].count(byte) == count for column, byte in enumerate(PLAIN_REQUEST)
        ):
            plain: Sequence[int] = range(count)
        else:
            starts = range(0, HEADER_SIZE * count, HEADER_SIZE)
            begins = self.heads.startswith
            plain = [
                index
                for index, (start, size) in enumerate(zip(starts, self.sizes, strict=True))
                if size == HEADER_SIZE and begins(PLAIN_REQUEST, start)
            ]
        step = self.endpoint_size
        if 0 in self.endpoints[::step]:  # ports below 256 are rare: look closer only then
            plain = [index for index in plain if self.endpoints[index * step : index * step + 2] != bytes(2)]
        return plain


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of `Questions`, by their indexes: `answered` ones have their answers, of one size, back
    to back in `data`; those in `left` are no plain requests; the rest gets no answer."""

    answered: Sequence[int]
    data: bytes
    left: Sequence[int]


def build_answers(endpoints: bytes, requests: bytes, tail: bytes = b"") -> bytes:
    """The answers to plain requests that are back to back, as are the ports and IPs they came from.

    `tail` is what follows the address in each answer: whole attributes.
    """
    count = len(requests) // HEADER_SIZE
    endpoint_size = len(endpoints) // count
    template, address_at = _template(endpoint_size, tail)
    size = len(template)
    answers = bytearray(template * count)
    for column in range(len(PLAIN_REQUEST), HEADER_SIZE):
        answers[column::size] = requests[column::HEADER_SIZE]
    for column in range(endpoint_size):
        plain = endpoints[column::endpoint_size]
        if column < len(_MASK_HEAD):
            masked = plain.translate(_XORED_WITH[_MASK_HEAD[column]])
        else:
            masked = _xor(plain, requests[column + 2 :: HEADER_SIZE])
        answers[address_at + column :: size] = masked
    return bytes(answers)


@lru_cache
def _template(endpoint_size: int, tail: bytes) -> tuple[bytes, int]:
    """An answer without transaction id and address, and where the address begins with the port."""
    value_size = 2 + endpoint_size
    attribute = bytes((0, XorMappedAddress.type, 0, value_size, 0, _FAMILY_BY_ENDPOINT_SIZE[endpoint_size]))
    length = len(attribute) + endpoint_size + len(tail)
    head = _SUCCESS_TYPE + length.to_bytes(2, "big") + COOKIE + bytes(HEADER_SIZE - 8)
    return head + attribute + bytes(endpoint_size) + tail, HEADER_SIZE + len(attribute)


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")
