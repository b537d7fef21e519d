import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import WireError
from peerway.core.relay.frames import (
    FrameDecoder,
    FrameType,
    PacketRun,
    PeerGoneReason,
    build_frame,
    build_health,
    build_packets,
    build_peer_gone,
    build_pong,
    build_restarting,
    build_server_key,
    parse_peer_gone,
    parse_restarting,
    parse_server_key,
    readable,
    split_frames,
)

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
MAX_PACKET = 65536

# What derper and its clients put on the wire, written out by hand from the protocol's description.
VECTORS = [
    # ServerKey: type 1, 40 bytes: "DERP", a key in UTF-8 (f0 9f 94 91), the server's key
    (build_server_key(KEY), "01 00000028 44455250f09f9491" + KEY.hex()),
    # SendPacket: type 4, 32 bytes destination, "hi"
    (build_packets(FrameType.SEND_PACKET, KEY, [b"hi"]), "04 00000022" + KEY.hex() + "6869"),
    # RecvPacket: type 5, three of them, one empty
    (
        build_packets(FrameType.RECV_PACKET, KEY, [b"a", b"b", b""]),
        "05 00000021" + KEY.hex() + "61" + "05 00000021" + KEY.hex() + "62" + "05 00000020" + KEY.hex(),
    ),
    (build_frame(FrameType.KEEP_ALIVE), "06 00000000"),
    (build_peer_gone(KEY, PeerGoneReason.DISCONNECTED), "08 00000021" + KEY.hex() + "00"),
    (build_peer_gone(KEY, PeerGoneReason.NOT_HERE), "08 00000021" + KEY.hex() + "01"),
    (build_pong(b"12345678 and more"), "13 00000008 3132333435363738"),
    (build_health("full"), "14 00000004 66756c6c"),
    (build_restarting(1.5, 5.0), "15 00000008 000005dc 00001388"),
]


@pytest.mark.parametrize(("built", "wire"), VECTORS)
def test_frames_are_on_the_wire_what_derp_says(built, wire):
    assert built.hex() == wire.replace(" ", "")


def test_type_numbers_are_those_of_derp_version_2():
    assert {kind.name: int(kind) for kind in FrameType} == {
        "SERVER_KEY": 0x01,
        "CLIENT_INFO": 0x02,
        "SERVER_INFO": 0x03,
        "SEND_PACKET": 0x04,
        "RECV_PACKET": 0x05,
        "KEEP_ALIVE": 0x06,
        "NOTE_PREFERRED": 0x07,
        "PEER_GONE": 0x08,
        "PEER_PRESENT": 0x09,
        "FORWARD_PACKET": 0x0A,
        "WATCH_CONNS": 0x10,
        "CLOSE_PEER": 0x11,
        "PING": 0x12,
        "PONG": 0x13,
        "HEALTH": 0x14,
        "RESTARTING": 0x15,
    }


def single(frames):
    """Frames one by one, as (type, payload), whether they came in runs or not."""
    for frame in frames:
        if isinstance(frame, PacketRun):
            yield from ((frame.kind, frame.key + packet) for packet in frame.packets)
        else:
            yield frame


def test_frames_come_out_of_one_read_in_order():
    stream = build_frame(FrameType.KEEP_ALIVE) + build_packets(FrameType.RECV_PACKET, KEY, [b"one", b"two"])
    keep_alive, run = FrameDecoder().feed(stream + build_frame(FrameType.NOTE_PREFERRED, b"\x01"))[:2]
    assert keep_alive == (6, b"")
    assert (run.kind, run.key, len(run.packets), run.packets) == (5, KEY, 2, [b"one", b"two"])


def test_a_run_ends_where_the_key_the_size_or_the_type_changes():
    stream = b"".join(
        build_packets(kind, key, packets)
        for kind, key, packets in [
            (FrameType.SEND_PACKET, KEY, [b"a", b"b", b"cc"]),
            (FrameType.SEND_PACKET, OTHER_KEY, [b"dd"]),
            (FrameType.RECV_PACKET, OTHER_KEY, [b"ee", b"", b""]),
        ]
    )
    runs = FrameDecoder().feed(stream)
    assert [(run.kind, run.key, run.packets) for run in runs] == [
        (4, KEY, [b"a", b"b"]),
        (4, KEY, [b"cc"]),
        (4, OTHER_KEY, [b"dd"]),
        (5, OTHER_KEY, [b"ee"]),
        (5, OTHER_KEY, [b"", b""]),
    ]


def test_a_frame_inside_a_packet_stays_inside():
    inner = build_packets(FrameType.SEND_PACKET, KEY, [b"x"])
    (run,) = FrameDecoder().feed(build_packets(FrameType.SEND_PACKET, KEY, [inner, inner]))
    assert run.packets == [inner, inner]


def test_a_run_whose_last_frame_is_cut_waits_for_the_rest_of_it_only():
    wire = build_packets(FrameType.SEND_PACKET, KEY, [b"abc", b"def", b"ghi"])
    decoder = FrameDecoder()
    assert [run.packets for run in decoder.feed(wire[:-1])] == [[b"abc", b"def"]]
    assert [run.packets for run in decoder.feed(wire[-1:])] == [[b"ghi"]]


def test_a_run_goes_on_where_the_last_read_cut_it():
    wire = build_packets(FrameType.SEND_PACKET, KEY, [b"abc", b"def", b"ghi"])
    decoder = FrameDecoder()
    assert decoder.feed(wire[:7]) == []
    assert [run.packets for run in decoder.feed(wire[7:])] == [[b"abc", b"def", b"ghi"]]


def test_a_frame_comes_out_whole_from_three_reads():
    wire = build_packets(FrameType.SEND_PACKET, KEY, [b"abc"])
    decoder = FrameDecoder()
    assert [decoder.feed(wire[start:end]) for start, end in [(0, 10), (10, 20)]] == [[], []]
    assert decoder.feed(wire[20:]) == [PacketRun(4, KEY, [b"abc"])]


def test_what_comes_out_stays_when_the_buffer_is_used_again():
    buffer = bytearray(
        build_frame(FrameType.HEALTH, b"ill") + build_packets(FrameType.SEND_PACKET, KEY, [b"x"] * 2)
    )
    decoder = FrameDecoder()
    frames = decoder.feed(memoryview(buffer)[:-1])
    last = bytes(buffer[-1:])
    buffer[:] = bytes(len(buffer))
    assert frames == [(0x14, b"ill"), PacketRun(4, KEY, [b"x"])]
    assert decoder.feed(last) == [PacketRun(4, KEY, [b"x"])]


def test_packets_are_forwarded_under_the_name_of_their_sender():
    (run,) = FrameDecoder().feed(build_packets(FrameType.SEND_PACKET, KEY, [b"one", b"two"]))
    forwarded = run.forwarded(OTHER_KEY)
    assert forwarded.hex() == 2 * ("0500000023" + OTHER_KEY.hex() + "%s") % (b"one".hex(), b"two".hex())


def test_frames_back_to_back_are_split():
    frames = [build_packets(FrameType.RECV_PACKET, KEY, [packet]) for packet in (b"a", b"bb", b"")]
    assert split_frames(b"".join(frames)) == frames
    assert split_frames(b"") == []


def test_a_frame_that_comes_byte_by_byte_comes_out_once_whole():
    decoder = FrameDecoder()
    wire = build_frame(FrameType.PING, b"12345678")
    assert [decoder.feed(wire[i : i + 1]) for i in range(len(wire))] == [[]] * 12 + [[(0x12, b"12345678")]]
    assert decoder.feed(b"") == []


def test_unknown_types_come_through():
    assert FrameDecoder().feed(b"\xee\x00\x00\x00\x03abc") == [(0xEE, b"abc")]


@pytest.mark.parametrize(
    ("kind", "smallest", "largest"),
    [
        (FrameType.SERVER_KEY, 40, 1024),
        (FrameType.CLIENT_INFO, 32 + 24 + 16, 32 + 24 + 16 + (1 << 20)),
        (FrameType.SERVER_INFO, 24 + 16, 24 + 16 + (1 << 20)),
        (FrameType.SEND_PACKET, 32, 32 + MAX_PACKET),
        (FrameType.RECV_PACKET, 32, 32 + MAX_PACKET),
        (FrameType.FORWARD_PACKET, 64, 64 + MAX_PACKET),
        (FrameType.PEER_GONE, 32, 1024),
        (FrameType.PING, 8, 1024),
        (FrameType.RESTARTING, 8, 1024),
        (FrameType.HEALTH, 0, MAX_PACKET),
        (0xEE, 0, MAX_PACKET),
    ],
)
def test_payload_sizes_are_held_to_what_the_type_allows(kind, smallest, largest):
    for size in (smallest, largest):
        payload = bytes(size)
        frames = FrameDecoder().feed(bytes([kind]) + size.to_bytes(4, "big") + payload)
        assert list(single(frames)) == [(kind, payload)]
    sizes = [largest + 1, 0xFFFFFFFF] + ([smallest - 1] if smallest else [])
    for size in sizes:
        with pytest.raises(WireError):
            FrameDecoder().feed(bytes([kind]) + size.to_bytes(4, "big"))


def test_the_limit_on_info_can_be_lowered():
    assert FrameDecoder(info_limit=10).feed(b"\x03\x00\x00\x00\x32" + bytes(50)) == [(3, bytes(50))]
    with pytest.raises(WireError):
        FrameDecoder(info_limit=10).feed(b"\x03\x00\x00\x00\x33")


def test_keys_and_packets_of_wrong_size_are_not_built():
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        build_packets(FrameType.SEND_PACKET, KEY[:31], [b""])
    assert len(build_packets(FrameType.SEND_PACKET, KEY, [bytes(MAX_PACKET)])) == 37 + MAX_PACKET
    with pytest.raises(ValueError, match="65537 bytes"):
        build_packets(FrameType.SEND_PACKET, KEY, [bytes(MAX_PACKET + 1)])


def test_a_server_key_may_be_followed_by_what_the_future_brings():
    assert parse_server_key(b"DERP\xf0\x9f\x94\x91" + KEY + b"future") == KEY
    with pytest.raises(WireError):
        parse_server_key(b"DERP????" + KEY)


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (b"", PeerGoneReason.DISCONNECTED),
        (b"\x00", PeerGoneReason.DISCONNECTED),
        (b"\x01", PeerGoneReason.NOT_HERE),
        (b"\xf0", PeerGoneReason.MESH_BROKE),
        (b"\x77", PeerGoneReason.DISCONNECTED),
    ],
)
def test_peer_gone_tells_why(tail, reason):
    assert parse_peer_gone(KEY + tail) == (KEY, reason)


def test_restarting_is_told_in_seconds():
    assert parse_restarting(bytes.fromhex("000005dc00001388")) == (1.5, 5.0)


def test_what_a_stranger_says_is_made_one_printable_line():
    assert readable(b"all\x1b[31m is\nlost \xff") == "all [31m is lost \N{REPLACEMENT CHARACTER}"
    assert readable(b"x" * 5000) == "x" * 256


frames = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([4, 5]), st.binary(max_size=3).map(lambda packet: KEY + packet)),
        st.tuples(st.just(5), st.binary(min_size=32, max_size=200)),
        st.tuples(st.just(6), st.just(b"")),
        st.tuples(st.just(0x12), st.binary(min_size=8, max_size=8)),
        st.tuples(st.just(0xEE), st.binary(max_size=50)),
    ),
    max_size=20,
)


@given(frames, st.data())
def test_frames_come_out_the_same_however_the_stream_is_cut(expected, data):
    wire = b"".join(bytes([kind]) + len(payload).to_bytes(4, "big") + payload for kind, payload in expected)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=10)))
    decoder, got = FrameDecoder(), []
    for start, stop in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        got += single(decoder.feed(wire[start:stop]))
    assert got == expected


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_any_bytes_are_frames_or_a_wire_error(chunks):
    decoder = FrameDecoder()
    try:
        for chunk in chunks:
            for kind, payload in single(decoder.feed(chunk)):
                assert 0 <= kind <= 255
                assert len(payload) <= sum(map(len, chunks))
    except WireError:
        pass


@given(st.binary(min_size=32, max_size=64))
def test_any_payload_of_fitting_size_is_taken_apart_or_a_wire_error(payload):
    parse_peer_gone(payload)
    parse_restarting(payload)
    readable(payload)
    try:
        parse_server_key(payload)
    except WireError:
        pass
