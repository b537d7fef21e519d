"""What two nodes say to each other: tickets, signals, probes, frames in QUIC; and which is which."""

import base64
import random
import zlib

import msgspec
from tests.fuzz.choices import Choices, pieces

from peerway.core.demux import KINDS, Kind, coalesce, connection_id_of, split
from peerway.core.identity import KeyTextError, NodeId, SecretKey, seal
from peerway.core.machine import Datagram, RelayAddress, WireError
from peerway.core.path.candidate import RefusedError, TargetPolicy
from peerway.core.probe.message import HEADER, Ping, ProbeOpener, ProbeSealer, index_of
from peerway.core.quic.certificate import build_certificate, certified_key
from peerway.core.quic.frames import MAX_DATA_BYTES, Auth, Data, FrameReader, build, data_header
from peerway.core.signal import message as signals
from peerway.core.ticket import Ticket, TicketError

A, B = SecretKey(b"\1" * 32), SecretKey(b"\2" * 32)
SHARED = A.shared_with(B.node_id.box_public())
PROBE_KEY = bytes(32)


def ticket_text(data: bytes) -> None:
    """Whatever somebody pastes."""
    text = data.decode("utf-8", "replace")
    for pasted in (text, f"peerway1{text}", f"Peerway1{base64.b32encode(data).decode()}"):
        _ticket(pasted)


def ticket_body(data: bytes) -> None:
    """A ticket with the right length and checksum, and anything inside."""
    raw = b"\1" + (len(data) % 65536).to_bytes(2, "big") + data
    _ticket("peerway1" + base64.b32encode(raw + zlib.crc32(raw).to_bytes(4, "big")).decode().rstrip("="))


def _ticket(text: str) -> None:
    try:
        ticket = Ticket.parse(text)
    except TicketError:
        return
    assert len(ticket.secret) in (0, 16)
    assert Ticket.parse(str(ticket)) == ticket


def node_id_text(data: bytes) -> None:
    """A node id as somebody writes it."""
    text = data.decode("utf-8", "replace")
    try:
        node_id = NodeId.parse(text)
    except KeyTextError:
        return
    assert NodeId.parse(str(node_id)) == node_id


def signal_body(data: bytes) -> None:
    """What is inside a signal that opens, and a signal that does not."""
    nonce = bytes(24)
    prefix = b"\4" + A.node_id.public + nonce
    for datagram in (prefix + seal(data, nonce, SHARED), prefix + data, data):
        try:
            signal = signals.parse(datagram, B, SHARED)
        except WireError:
            continue
        built = signals.build(signal, SHARED, random.Random(1))
        assert signals.parse(built, B, SHARED) == signal
        for candidate in signal.body.candidates:
            try:
                TargetPolicy().check(candidate.address)
            except RefusedError:
                pass


def signal_fields(data: bytes) -> None:
    """A signal whose msgpack is right and whose fields are anything."""
    choices = Choices(data)
    fields: list[object] = [signals.LABEL, A.node_id.public, B.node_id.public, b"s" * 32, b"", 1]
    fields += [0, True, 1, b"", b"", 0, []]
    fields += [b"r" * 8, 1][: len(signals._Wire.__struct_fields__) - len(fields)]
    for step in choices.steps():
        fields[step % len(fields)] = _value(choices, 3)
    signal_body(msgspec.msgpack.encode(fields))


def _value(choices: Choices, depth: int) -> object:
    kind = choices.number() % (7 if depth else 6)
    if kind == 0:
        return choices.number(8)
    if kind == 1:
        return -choices.number(4)
    if kind == 2:
        return choices.take(choices.number() % 40)
    if kind == 3:
        return choices.text(40)
    if kind == 4:
        return choices.pick((None, True, False, 1.5, float("nan"), b"e" * 32, "::1%1", "192.0.2.1"))
    if kind == 5:
        return [
            [choices.number() % 7, choices.text(15), choices.number(2)] for _ in range(choices.number() % 18)
        ]
    return [_value(choices, depth - 1) for _ in range(choices.number() % 5)]


def probe_message(data: bytes) -> None:
    """What is inside a probe that opens, and a probe that does not."""
    sealer, opener = ProbeSealer(PROBE_KEY, 7), ProbeOpener(PROBE_KEY)
    header = HEADER.pack(5, 7, 1)
    nonce = b"\0\0\0\0" + (1).to_bytes(8, "big")
    for datagram in (header + sealer._aead.encrypt(nonce, data, header), data, b"\5" + data):
        try:
            index_of(datagram)
            probe = opener.open(datagram)
        except WireError:
            continue
        if isinstance(probe.message, Ping):
            assert probe.message.size == len(datagram)
        _, again = sealer.seal(probe.message)
        assert ProbeOpener(PROBE_KEY).open(again).message == probe.message


def session_frames(data: bytes) -> None:
    """However the pipe is cut, the same frames come out of it, and are built to the same."""
    choices = Choices(data)
    cuts, stream = choices.take(8), choices.rest()
    whole = _frames([stream])
    assert whole == _frames(pieces(stream, cuts))
    built = b"".join(
        data_header(f.stream, len(f.data)) + f.data if isinstance(f, Data) else build(f) for f in whole[0]
    )
    assert _joined(FrameReader().feed(built)) == whole[0]


def _frames(parts):
    reader = FrameReader()
    frames, error = [], ""
    for part in parts:
        try:
            frames += reader.feed(part)
        except WireError as wrong:
            error = wrong.reason
            break
    return _whole_messages(frames, error)


def _whole_messages(frames, error):
    """What came before an error in the same read is lost: only what is sure to be there is compared."""
    return ([] if error else _joined(frames)), error


def _joined(frames):
    """Data of one stream in a row as one: where it is cut says nothing."""
    joined = []
    for frame in frames:
        last = joined[-1] if joined else None
        if (
            isinstance(frame, Data)
            and isinstance(last, Data)
            and last.stream == frame.stream
            and len(last.data) + len(frame.data) <= MAX_DATA_BYTES
        ):
            joined[-1] = Data(frame.stream, last.data + frame.data)
        else:
            joined.append(frame)
    for frame in joined:
        if isinstance(frame, Auth):
            assert (len(frame.client), len(frame.signature)) == (32, 64)
    return joined


def certificate(data: bytes) -> None:
    """Only a certificate that is ours but for the key and the signature has a key."""
    genuine = build_certificate(A)
    choices = Choices(data)
    changed = bytearray(genuine)
    for _ in choices.steps():
        changed[choices.number(2) % len(changed)] = choices.number()
    for shown in (data, bytes(changed), genuine + data, genuine[: len(genuine) - len(data)]):
        key = certified_key(shown)
        if key is not None:
            assert len(shown) == len(genuine)
            assert shown[:-64].replace(key, A.node_id.public) == genuine[:-64]


def gro_buffer(data: bytes) -> None:
    """A buffer that the kernel coalesced is cut into runs of one kind, and nothing is lost or added."""
    choices = Choices(data)
    size, buffer = choices.number(2), choices.rest()
    parts = list(split(buffer, size))
    assert b"".join(part for _, part, _ in parts) == buffer
    cut = [
        s
        for _, part, step in parts
        for s in Datagram(part, RelayAddress("", b""), segment_size=step).segments()
    ]
    assert cut == (
        list(Datagram(buffer, RelayAddress("", b""), segment_size=size).segments()) if buffer else []
    )
    for kind, part, step in parts:
        for segment in Datagram(part, RelayAddress("", b""), segment_size=step).segments():
            assert KINDS[segment[0]] is kind
            if kind is Kind.QUIC:
                _connection_id(segment)
    packets = [packet for packet in cut if packet]
    runs = list(coalesce(packets))
    assert [
        s for run, step in runs for s in Datagram(run, RelayAddress("", b""), segment_size=step).segments()
    ] == packets


def _connection_id(segment: bytes) -> None:
    try:
        assert len(connection_id_of(segment)) <= 255
    except WireError:
        pass


TARGETS = (
    ticket_text,
    ticket_body,
    node_id_text,
    signal_body,
    signal_fields,
    probe_message,
    session_frames,
    certificate,
    gro_buffer,
)
