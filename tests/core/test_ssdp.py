"""Searching for gateways on the wire, and the one shape of location that is taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import WireError
from peerway.core.portmap.location import Location, parse_location
from peerway.core.portmap.ssdp import SearchAnswer, build_search, parse

IGD = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
# Captured from miniupnpd 2.3.1.
CAPTURED = (
    "HTTP/1.1 200 OK\r\n"
    "CACHE-CONTROL: max-age=120\r\n"
    f"ST: {IGD}\r\n"
    f"USN: uuid:00000000-0000-4000-8000-000000000001::{IGD}\r\n"
    "EXT:\r\n"
    "SERVER: Debian/6.18 UPnP/1.1 MiniUPnPd/2.3.1\r\n"
    "LOCATION: http://10.1.1.1:5000/rootDesc.xml\r\n"
    'OPT: "http://schemas.upnp.org/upnp/1/0/"; ns=01\r\n'
    "01-NLS: 1795561514\r\n"
    "BOOTID.UPNP.ORG: 1795561514\r\n"
    "CONFIGID.UPNP.ORG: 1337\r\n"
    "\r\n"
)


def test_a_search_quotes_what_must_be_quoted():
    assert build_search(IGD) == (
        b"M-SEARCH * HTTP/1.1\r\n"
        b"HOST: 239.255.255.250:1900\r\n"
        b'MAN: "ssdp:discover"\r\n'
        b"MX: 1\r\n"
        b"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
        b"\r\n"
    )


def test_a_gateway_answers():
    assert parse(CAPTURED.encode()) == SearchAnswer(
        IGD, Location("10.1.1.1", 5000, "/rootDesc.xml"), "Debian/6.18 UPnP/1.1 MiniUPnPd/2.3.1"
    )


def test_sloppy_line_ends_and_names_are_understood():
    assert parse(b"HTTP/1.0 200\nlocation:http://10.1.1.1/d") == SearchAnswer(
        "", Location("10.1.1.1", 80, "/d")
    )


def test_the_first_of_two_locations_counts():
    text = "HTTP/1.1 200 OK\r\nLOCATION: http://10.1.1.1/a\r\nLOCATION: http://10.1.1.9/b\r\n\r\n"
    assert parse(text.encode()).location == Location("10.1.1.1", 80, "/a")


def test_control_characters_do_not_get_into_what_people_see():
    text = "HTTP/1.1 200 OK\r\nLOCATION: http://10.1.1.1/a\r\nSERVER: a\x1b[31mb\r\n\r\n"
    assert parse(text.encode()).server == "a[31mb"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not the answer"),
        ("NOTIFY * HTTP/1.1\r\nLOCATION: http://10.1.1.1/a\r\n\r\n", "not the answer"),
        ("HTTP/1.1 404 Not Found\r\nLOCATION: http://10.1.1.1/a\r\n\r\n", "not the answer"),
        ("HTTP/1.1 2000\r\nLOCATION: http://10.1.1.1/a\r\n\r\n", "not the answer"),
        ("HTTP/1.1 200 OK\r\nST: x\r\n\r\nLOCATION: http://10.1.1.1/a\r\n", "without a location"),
        ("HTTP/1.1 200 OK\r\nLOCATION\r\n\r\n", "malformed"),
        ("HTTP/1.1 200 OK\r\n" + "".join(f"H{n}: x\r\n" for n in range(33)), "malformed"),
        ("HTTP/1.1 200 OK\r\nLOCATION: http://10.1.1.1/a\r\nX: " + "y" * 2048, "too large"),
        ("HTTP/1.1 200 OK\r\nLOCATION: https://10.1.1.1/a\r\n\r\n", "not of the form"),
    ],
)
def test_anything_else_is_refused(text, reason):
    with pytest.raises(WireError, match=reason):
        parse(text.encode())


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("http://192.168.1.1", Location("192.168.1.1", 80, "/")),
        ("HTTP://192.168.1.1:49152/igd.xml?x=1", Location("192.168.1.1", 49152, "/igd.xml?x=1")),
    ],
)
def test_a_location_of_the_one_shape(text, location):
    assert parse_location(text) == location
    assert parse_location(str(location)) == location


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ftp://192.168.1.1/",
        "https://192.168.1.1/",
        "http://router.local/",
        "http://[fe80::1]/",
        "http://user@192.168.1.1/",
        "http://192.168.1.1@10.0.0.1/",
        "http://192.168.1.256/",
        "http://192.168.1/",
        "http://0192.168.1.1/",
        "http://192.168.1.1:0/",
        "http://192.168.1.1:65536/",
        "http://192.168.1.1:123456/",
        "http://192.168.1.1/a b",
        "http://192.168.1.1/a\r\nHost: x",
        "http://192.168.1.1/a#b",
        "http://192.168.1.1/" + "a" * 512,
    ],
)
def test_other_locations_are_refused(text):
    with pytest.raises(WireError):
        parse_location(text)


HERE = Location("10.1.1.1", 5000, "/dir/rootDesc.xml")


@pytest.mark.parametrize(
    ("reference", "location"),
    [
        ("/ctl/IPConn", Location("10.1.1.1", 5000, "/ctl/IPConn")),
        ("ctl", Location("10.1.1.1", 5000, "/dir/ctl")),
        ("http://10.1.1.1:49152/ctl", Location("10.1.1.1", 49152, "/ctl")),
    ],
)
def test_a_reference_is_joined(reference, location):
    assert HERE.join(reference) == location


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("http://10.1.1.2:5000/ctl", "another host"),
        ("//10.1.1.2/ctl", "not of the form"),
        ("https://10.1.1.1/ctl", "not of the form"),
        ("/a b", "path"),
        ("a\r\nb", "path"),
        ("/" + "a" * 512, "too long"),
    ],
)
def test_a_reference_that_leads_elsewhere_is_refused(reference, reason):
    with pytest.raises(WireError, match=reason):
        HERE.join(reference)


def test_a_location_stays_short_whatever_it_is_made_of():
    assert len(str(HERE.join("a" * 400))) <= 512
    with pytest.raises(WireError, match="too long"):
        HERE.join("a" * 512)
    without_port = "http://10.1.1.1/" + "a" * 494
    assert len(without_port) == 510
    with pytest.raises(WireError, match="too long"):  # ":80" makes 513 of it
        parse_location(without_port)


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda data: CAPTURED.encode()[:150] + data))
def test_any_bytes_are_an_answer_or_a_wire_error(data):
    try:
        parse(data)
    except WireError:
        pass


@given(st.text(max_size=80), st.text(max_size=40).map("http://10.1.1.1".__add__))
def test_any_text_is_a_location_or_a_wire_error(text, likely):
    for attempt in (text, likely):
        try:
            HERE.join(attempt)
        except WireError:
            pass
