import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.demux import KINDS, Kind, coalesce, connection_id_of, split
from peerway.core.machine import WireError


def test_first_bytes_are_told_apart_as_rfc_9443_says():
    assert {byte for byte in range(256) if KINDS[byte] is Kind.STUN} == {0, 1, 2, 3}
    assert {byte for byte in range(256) if KINDS[byte] is Kind.SIGNAL} == {4}
    assert {byte for byte in range(256) if KINDS[byte] is Kind.PROBE} == {5}
    assert {byte for byte in range(256) if KINDS[byte] is Kind.QUIC} == {
        *range(0x40, 0x80),
        *range(0xC0, 0x100),
    }


def test_a_buffer_of_one_kind_comes_back_whole():
    data = (b"\x40" + bytes(9)) * 5
    assert list(split(data, 10)) == [(Kind.QUIC, data, 10)]


def test_a_mixed_buffer_is_cut_into_runs():
    quic, probe = b"\x41" + bytes(9), b"\x05" + bytes(9)
    assert list(split(quic * 2 + probe + quic + b"\x05", 10)) == [
        (Kind.QUIC, quic * 2, 10),
        (Kind.PROBE, probe, 10),
        (Kind.QUIC, quic, 10),
        (Kind.PROBE, b"\x05", 10),
    ]


def test_nothing_is_nothing():
    assert list(split(b"", 0)) == []


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=20))
def test_coalesced_packets_come_apart_as_they_were(packets):
    apart = [
        data[start : start + size] for data, size in coalesce(packets) for start in range(0, len(data), size)
    ]
    assert apart == packets


@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_have_a_connection_id_or_raise_wire_error(data):
    try:
        assert len(connection_id_of(data)) <= 255
    except WireError:
        pass


def test_connection_ids_of_both_header_forms():
    assert connection_id_of(b"\x40" + b"12345678" + b"rest") == b"12345678"
    assert connection_id_of(b"\xc0\x00\x00\x00\x01\x04abcdrest") == b"abcd"
    with pytest.raises(WireError):
        connection_id_of(b"\x40short")
