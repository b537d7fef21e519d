"""What a relay and its clients say: HTTP, then DERP's frames and what is sealed in two of them."""

import msgspec
from tests.fuzz.choices import Choices, pieces

from peerway.core.machine import WireError
from peerway.core.relay import greeting
from peerway.core.relay.frames import (
    Frame,
    FrameDecoder,
    FrameType,
    PacketRun,
    build_packets,
    parse_peer_gone,
    parse_restarting,
    parse_server_key,
    readable,
    split_frames,
)
from peerway.core.relay.http import HttpFront, HttpNext
from peerway.core.relay.url import RelayUrl, RelayUrlError, canonical_host

KEY = bytes(range(32))
SHARED = greeting.shared_with(greeting.public_key(KEY), KEY)


def relay_frames(data: bytes) -> None:
    """However a stream is cut, the same frames come out of it, and are built to the same bytes."""
    choices = Choices(data)
    cuts, stream = choices.take(8), choices.rest()
    whole, error = _decoded([stream])
    cut, cut_error = _decoded(pieces(stream, cuts))
    assert cut_error == error
    assert cut == whole if not error else cut[: len(whole)] == whole  # a read with an error in it is lost
    assert stream.startswith(
        b"".join(bytes([kind]) + len(payload).to_bytes(4, "big") + payload for kind, payload in whole)
    )


def _decoded(parts) -> tuple[list[Frame], str]:
    decoder = FrameDecoder()
    frames: list[Frame] = []
    for part in parts:
        try:
            frames += _single(decoder.feed(part))
        except WireError as error:
            return frames, error.reason
    return frames, ""


def _single(frames) -> list[Frame]:
    found: list[Frame] = []
    for frame in frames:
        if isinstance(frame, PacketRun):
            assert len(frame.packets) == len(split_frames(frame.forwarded(KEY)))
            assert frame.forwarded(KEY) == build_packets(FrameType.RECV_PACKET, KEY, frame.packets)
            found += [(frame.kind, frame.key + packet) for packet in frame.packets]
        else:
            found.append(frame)
    return found


def relay_payloads(data: bytes) -> None:
    """What is in frames of the right size."""
    said = readable(data)
    assert said.isprintable()
    assert len(said) <= 256
    key = data.ljust(40, b"\0")
    assert len(parse_peer_gone(key)[0]) == 32
    assert all(seconds >= 0 for seconds in parse_restarting(key))
    try:
        assert len(parse_server_key(key)) == 32
    except WireError:
        pass


def relay_infos(data: bytes) -> None:
    """Sealed JSON, and boxes that do not open."""
    sealed = bytes(24) + greeting._seal(data, bytes(24), SHARED)[24:]
    for box in (sealed, data.ljust(40, b"\0")):
        try:
            greeting.open_server_info(box, SHARED)
            assert msgspec.json.decode(data, type=greeting._Info).version >= 2
        except WireError:
            pass
        try:
            greeting.open_client_info(greeting.public_key(KEY) + box, KEY)
        except WireError:
            pass
    try:
        greeting.open_client_info(data.ljust(72, b"\0"), KEY)
    except WireError:
        pass


def relay_http(data: bytes) -> None:
    """The server's side of HTTP before the upgrade."""
    choices = Choices(data)
    cuts, stream = choices.take(4), choices.rest()
    front, answered = HttpFront(), 0
    for piece in pieces(stream, cuts):
        step = front.receive(piece)
        answered += len(step.write)
        if step.then is not HttpNext.MORE:
            break
    assert answered <= 32 * 512


def relay_url(data: bytes) -> None:
    """A URL is read to its canonical form, which is read to the same."""
    text = data.decode("utf-8", "replace")
    try:
        assert canonical_host(canonical_host(text)) == canonical_host(text)
    except RelayUrlError:
        pass
    for url in (text, f"http://{text}", f"https://host?{text}"):
        try:
            relay = RelayUrl.parse(url)
        except RelayUrlError:
            continue
        assert 0 < relay.port < 65536
        assert 0 < relay.stun_port < 65536
        assert RelayUrl.parse(str(relay)) == relay
        assert str(RelayUrl.parse(str(relay))) == str(relay)


TARGETS = (relay_frames, relay_payloads, relay_infos, relay_http, relay_url)
