"""The signal on the wire.

    0x04 | sender's NodeId 32 | nonce 24 | crypto_box(msgpack of `Signal`)

Boxes are symmetric: whoever can open one could have made it. So the sealed part repeats
who sent it to whom; without that, one's own signal sent back would open as the peer's.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from peerway.core.identity import BOX_OVERHEAD, KEY_SIZE, NONCE_SIZE, NodeId, SecretKey, seal, unseal
from peerway.core.machine import Rng, UdpAddress, WireError
from peerway.core.path.candidate import MAX_CANDIDATES, Candidate, CandidateKind, plain_ip

FIRST_BYTE = 0x04
LABEL = "peerway signal 1"
SECRET_SIZE = 32
RUN_SIZE = 8
MAX_SIGNAL_SIZE = 2048
MAX_CONNECTION_ID = 20  # RFC 9000 17.2
_PREFIX_SIZE = 1 + KEY_SIZE + NONCE_SIZE


@dataclass(frozen=True, slots=True)
class Birth:
    """When a node entered an exchange: its `number`th in one run, which 8 random bytes tell from others."""

    run: bytes = bytes(RUN_SIZE)
    number: int = 0

    def is_before(self, other: Birth) -> bool:
        """Whether it entered the other one later. Of another run nothing is known."""
        return self.run == other.run and self.number < other.number


@dataclass(frozen=True, slots=True)
class Body:
    """What a signal says.

    `acknowledged` is the highest counter seen from the receiver; by it the sender also says
    that it has begun to send towards the candidates named there. `index` is where probes
    for the sender go. `dial` is the original destination connection id of the sender's QUIC
    dial, empty when it does not dial. `admission` is a ticket's secret, or empty.
    `round` is the number of the sender's latest round of probing, `born` when it entered the exchange.
    """

    acknowledged: int = 0
    wants_answer: bool = True
    index: int = 0
    dial: bytes = b""
    admission: bytes = b""
    round: int = 0
    candidates: tuple[Candidate, ...] = ()
    born: Birth = Birth()


@dataclass(frozen=True, slots=True)
class Signal:
    """An opened signal. `echo` is empty in a hello, else the receiver's own 32-byte secret."""

    sender: NodeId
    receiver: NodeId
    secret: bytes
    echo: bytes
    counter: int
    body: Body


class _Wire(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    label: str
    sender: bytes
    receiver: bytes
    secret: bytes
    echo: bytes
    counter: int
    acknowledged: int
    wants_answer: bool
    index: int
    dial: bytes
    admission: bytes
    round: int
    candidates: list[tuple[int, str, int]]
    run: bytes
    number: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Wire)
_U64 = 1 << 64
_U32 = 1 << 32


def build(signal: Signal, shared: bytes, rng: Rng) -> bytes:
    """The datagram that carries `signal`, sealed under `shared` (see `SecretKey.shared_with`)."""
    body = signal.body
    wire = _Wire(
        LABEL,
        signal.sender.public,
        signal.receiver.public,
        signal.secret,
        signal.echo,
        signal.counter,
        body.acknowledged,
        body.wants_answer,
        body.index,
        body.dial,
        body.admission,
        body.round,
        [(int(c.kind), c.address.ip, c.address.port) for c in body.candidates],
        body.born.run,
        body.born.number,
    )
    nonce = rng.randbytes(NONCE_SIZE)
    return bytes([FIRST_BYTE]) + signal.sender.public + nonce + seal(_encoder.encode(wire), nonce, shared)


def sender_of(data: bytes) -> NodeId:
    """Who claims to have sent the signal; nothing is proven yet. `WireError` when it is no signal."""
    if not _PREFIX_SIZE + BOX_OVERHEAD < len(data) <= MAX_SIGNAL_SIZE or data[0] != FIRST_BYTE:
        raise WireError("signal: too short or too long", f"{len(data)} bytes")
    return NodeId(bytes(data[1 : 1 + KEY_SIZE]))


def parse(data: bytes, key: SecretKey, shared: bytes) -> Signal:
    """Open the signal; `WireError` when it is not sealed for us by the sender it names."""
    sender = sender_of(data)
    plaintext = unseal(data[_PREFIX_SIZE:], data[1 + KEY_SIZE : _PREFIX_SIZE], shared)
    try:
        wire = _decoder.decode(plaintext)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError("signal: not what a signal holds", str(error)) from None
    if wire.label != LABEL:
        raise WireError("signal: another protocol")
    if wire.sender != sender.public or wire.receiver != key.node_id.public or sender == key.node_id:
        raise WireError("signal: sealed by another sender or for another receiver")
    if len(wire.secret) != SECRET_SIZE or len(wire.echo) not in (0, SECRET_SIZE):
        raise WireError("signal: a secret of the wrong length")
    if not (0 < wire.counter < _U64 and 0 <= wire.acknowledged < _U64):
        raise WireError("signal: a counter out of range")
    if not (0 <= wire.index < _U32 and 0 <= wire.round < _U32 and 0 <= wire.number < _U32):
        raise WireError("signal: a number out of range")
    if len(wire.dial) > MAX_CONNECTION_ID or len(wire.admission) > SECRET_SIZE:
        raise WireError("signal: a field too long")
    if len(wire.run) != RUN_SIZE:
        raise WireError("signal: a run of the wrong length")
    body = Body(
        wire.acknowledged,
        wire.wants_answer,
        wire.index,
        wire.dial,
        wire.admission,
        wire.round,
        _candidates(wire.candidates),
        Birth(wire.run, wire.number),
    )
    return Signal(sender, key.node_id, wire.secret, wire.echo, wire.counter, body)


def _candidates(entries: list[tuple[int, str, int]]) -> tuple[Candidate, ...]:
    if len(entries) > MAX_CANDIDATES:
        raise WireError("signal: too many candidates", f"{len(entries)}")
    try:
        return tuple(
            Candidate(CandidateKind(kind), UdpAddress(plain_ip(ip), port)) for kind, ip, port in entries
        )
    except ValueError as error:
        raise WireError("signal: a candidate that is no address", str(error)) from None
