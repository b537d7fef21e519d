import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import PeerwayError, UdpAddress
from peerway.core.places import parse_advertised, parse_stun_server


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("stun.example.org", ("stun.example.org", 3478)),
        ("stun.example.org:19302", ("stun.example.org", 19302)),
        ("203.0.113.10", ("203.0.113.10", 3478)),
        ("203.0.113.10:1", ("203.0.113.10", 1)),
        ("2001:db8::10", ("2001:db8::10", 3478)),
        ("[2001:db8::10]", ("2001:db8::10", 3478)),
        ("[2001:db8::10]:65535", ("2001:db8::10", 65535)),
    ],
)
def test_a_stun_server_by_name_or_number_with_or_without_a_port(text, place):
    assert parse_stun_server(text) == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":3478",
        "host:",
        "host:0",
        "host:65536",
        "host:port",
        "a:b:c:",
        "a b",
        "[host]:1",
        "[::1",
        "::1]:2",
    ],
)
def test_what_is_no_stun_server_is_refused(text):
    with pytest.raises(PeerwayError, match="is not a STUN server: write host, host:port or"):
        parse_stun_server(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("198.51.100.7:41641", UdpAddress("198.51.100.7", 41641)),
        ("[2001:DB8::7]:41641", UdpAddress("2001:db8::7", 41641)),
    ],
)
def test_an_address_to_advertise(text, address):
    assert parse_advertised(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "198.51.100.7",
        "198.51.100.7:0",
        "example.org:41641",
        "0.0.0.0:41641",
        "[::]:1",
        "224.0.0.1:1",
        "[fe80::1%eth0]:1",
        "2001:db8::7",
    ],
)
def test_what_peers_could_not_send_to_is_not_advertised(text):
    with pytest.raises(PeerwayError, match="write the outside IP:PORT"):
        parse_advertised(text)


@given(st.text(max_size=40))
def test_any_text_is_a_place_or_refused(text):
    for parse in (parse_stun_server, parse_advertised):
        try:
            parse(text)
        except PeerwayError:
            pass
