import random

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.identity import SecretKey
from peerway.core.machine import RelayAddress, UdpAddress, WireError
from peerway.core.probe.message import (
    FULL_SIZE,
    OVERHEAD,
    REPLAY_WINDOW,
    Lateness,
    OpenedProbe,
    Ping,
    Pong,
    ProbeOpener,
    ProbeSealer,
    derive_keys,
    index_of,
    observed_address,
)

A = SecretKey(b"\x01" * 32)
B = SecretKey(b"\x02" * 32)
PING = Ping(b"12345678")
SECRET_A, SECRET_B = b"a" * 32, b"b" * 32


def channel():
    seal, _ = derive_keys(A.node_id, SECRET_A, B.node_id, SECRET_B)
    _, opens = derive_keys(B.node_id, SECRET_B, A.node_id, SECRET_A)
    return ProbeSealer(seal, 77), ProbeOpener(opens)


def test_each_direction_has_its_own_key():
    a_seal, a_open = derive_keys(A.node_id, SECRET_A, B.node_id, SECRET_B)
    b_seal, b_open = derive_keys(B.node_id, SECRET_B, A.node_id, SECRET_A)
    assert a_seal == b_open
    assert b_seal == a_open
    assert a_seal != a_open


def test_ping_and_pong_survive_the_round_trip():
    sealer, opener = channel()
    for message in (
        PING,
        Ping(b"\0\1\2\3\4\5\6\7", carries_data=True, size=FULL_SIZE),
        Pong(b"the ping", 12, UdpAddress("203.0.113.7", 41641)),
        Pong(bytes(8), 0, UdpAddress("2001:db8::7", 1)),
        Pong(b"\xff" * 8, 1, None),
    ):
        counter, data = sealer.seal(message)
        assert index_of(data) == 77
        assert opener.open(data) == OpenedProbe(counter, message, is_first=True)


def test_full_size_is_the_size_on_the_wire():
    sealer, _ = channel()
    assert len(sealer.seal(Ping(b"12345678", size=FULL_SIZE))[1]) == 1200


def test_a_pong_is_never_larger_than_the_smallest_ping():
    sealer, _ = channel()
    _, ping = sealer.seal(Ping(b"12345678", size=0))
    _, pong = sealer.seal(Pong(b"12345678", 2, UdpAddress("2001:db8::7", 65535)))
    assert len(pong) <= len(ping)


def test_a_probe_is_the_first_of_its_copies_once():
    sealer, opener = channel()
    _, data = sealer.seal(PING)
    assert [opener.open(data).is_first for _ in range(3)] == [True, False, False]


def test_reordering_within_the_window_is_fine_and_beyond_it_is_not():
    sealer, opener = channel()
    probes = [sealer.seal(PING)[1] for _ in range(REPLAY_WINDOW + 2)]
    assert opener.open(probes[-1]).is_first
    assert opener.open(probes[2]).is_first
    assert not opener.open(probes[2]).is_first
    assert not opener.open(probes[0]).is_first


def test_a_forged_probe_does_not_move_the_window():
    sealer, opener = channel()
    _, first = sealer.seal(PING)
    forged = first[:5] + (2**40).to_bytes(8, "big") + first[13:]
    with pytest.raises(WireError, match="does not open"):
        opener.open(forged)
    assert opener.open(first).is_first


def test_every_altered_byte_is_noticed():
    sealer, _ = channel()
    _, data = sealer.seal(PING)
    for index in range(1, len(data)):
        _, opener = channel()
        with pytest.raises(WireError):
            opener.open(data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :])


@given(st.binary(max_size=200))
def test_any_bytes_raise_wire_error(data):
    _, opener = channel()
    with pytest.raises(WireError):
        opener.open(data)
    with pytest.raises(WireError):
        opener.open(b"\x05" + data)


def sealed(plaintext):
    """Any plaintext as a probe whose tag is right."""
    seal, _ = derive_keys(A.node_id, SECRET_A, B.node_id, SECRET_B)
    header = b"\x05" + (77).to_bytes(4, "big") + (1).to_bytes(8, "big")
    nonce = bytes(4) + (1).to_bytes(8, "big")
    return header + ChaCha20Poly1305(seal).encrypt(nonce, plaintext, header)


@given(st.binary(min_size=1, max_size=100))
def test_any_sealed_plaintext_parses_or_raises_wire_error(plaintext):
    _, opener = channel()
    try:
        opener.open(sealed(plaintext))
    except WireError:
        pass


@pytest.mark.parametrize(
    ("plaintext", "complaint"),
    [
        (b"\x01\x00", "shorter than its pong"),
        (b"\x03" + bytes(35), "neither ping nor pong"),
        (b"\x02" + bytes(34), "neither ping nor pong"),
        (b"\x02" + bytes(16) + b"\x05" + bytes(18), "address family: 5"),
    ],
)
def test_what_is_wrong_inside_is_named(plaintext, complaint):
    _, opener = channel()
    with pytest.raises(WireError, match=complaint):
        opener.open(sealed(plaintext))


def test_a_probe_that_is_too_short_has_no_index():
    with pytest.raises(WireError, match="too short"):
        index_of(b"\x05" + bytes(20))


def test_what_a_pong_says_of_a_relayed_ping_is_nothing():
    assert observed_address(RelayAddress("http://relay", b"k" * 32)) is None
    assert observed_address(UdpAddress("203.0.113.7", 1)) == UdpAddress("203.0.113.7", 1)


def test_the_window_behaves_like_a_set_of_seen_counters():
    sealer, opener = channel()
    probes = dict(sealer.seal(PING) for _ in range(500))
    rng = random.Random(4)
    seen = set()
    for _ in range(2000):
        counter = rng.choice(list(probes))
        assert opener.open(probes[counter]).is_first is (counter not in seen)
        seen.add(counter)


def test_late_is_what_comes_five_seconds_after_later_ones():
    lateness = Lateness()
    in_time = [(10, 0.0), (9, 0.1), (20, 3.0), (8, 4.9)]
    assert not any(lateness.is_late(counter, now) for counter, now in in_time)
    assert [lateness.is_late(counter, 5.1) for counter in (8, 12)] == [True, False]
    assert not lateness.is_late(21, 6.0)
    assert [lateness.is_late(counter, 8.1) for counter in (15, 21)] == [True, False]
    assert not lateness.is_late(22, 99.0)


def test_what_is_remembered_to_tell_is_little():
    lateness = Lateness()
    for hundredth in range(10_000):
        assert not lateness.is_late(hundredth + 1, hundredth / 100)
    assert len(lateness._marks) <= 8


def test_overhead_is_what_the_format_says():
    assert OVERHEAD == 1 + 4 + 8 + 16
