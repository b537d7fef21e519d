import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import PeerwayError
from peerway.core.relay.url import RelayUrl, RelayUrlError, canonical_host

PIN = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "url", "canonical"),
    [
        ("http://relay.example", RelayUrl("relay.example"), "http://relay.example:3340"),
        ("HTTP://Relay.Example.:3340/", RelayUrl("relay.example"), "http://relay.example:3340"),
        ("http://192.0.2.7:80", RelayUrl("192.0.2.7", 80), "http://192.0.2.7:80"),
        ("https://r.example", RelayUrl("r.example", 443, tls=True), "https://r.example"),
        ("https://r.example:8443/derp", RelayUrl("r.example", 8443, tls=True), "https://r.example:8443"),
        (
            "https://r.example/base/derp?stun=3478",
            RelayUrl("r.example", 443, tls=True, path="/base/derp"),
            "https://r.example/base/derp",
        ),
        ("http://[2001:DB8:0::1]", RelayUrl("2001:db8::1"), "http://[2001:db8::1]:3340"),
        (
            f"https://[::1]:444?pin={PIN}&stun=5000",
            RelayUrl("::1", 444, tls=True, stun_port=5000, pin=PIN),
            f"https://[::1]:444?stun=5000&pin={PIN}",
        ),
        (
            "https://a_b.example?pin=" + ":".join(["AB"] * 32),
            RelayUrl("a_b.example", 443, tls=True, pin="ab" * 32),
            "https://a_b.example?pin=" + "ab" * 32,
        ),
    ],
)
def test_a_url_is_read_and_written_in_canonical_form(text, url, canonical):
    assert RelayUrl.parse(text) == url
    assert str(RelayUrl.parse(text)) == canonical
    assert RelayUrl.parse(canonical) == url


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("http://r.example", "r.example:3340"),
        ("http://r.example:80", "r.example"),
        ("https://r.example", "r.example"),
        ("https://[::1]:80", "[::1]:80"),
    ],
)
def test_the_host_header_carries_the_port_where_the_scheme_does_not_imply_it(text, authority):
    assert RelayUrl.parse(text).authority == authority


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it must start with http:// or https://"),
        ("relay.example:3340", "it must start with http:// or https://"),
        ("ftp://relay.example", "it must start with http:// or https://"),
        ("http://", "the host is missing"),
        ("http://:3340", "the host is missing"),
        ("http://a b", "it holds spaces or characters that are not printable ASCII"),
        ("http://a\n", "it holds spaces or characters that are not printable ASCII"),
        ("http://bücher.example", "it holds spaces or characters that are not printable ASCII"),
        ("http://user@relay.example", "a relay takes no user name or password"),
        ("http://relay.example#top", "it has a fragment (#...)"),
        ("http://relay.example:0", "port 0 cannot be dialled"),
        ("http://relay.example:65536", "Port out of range 0-65535"),
        ("http://-relay.example", "'-relay.example' is neither a host name nor an IP address"),
        ("http://1.2.3.400", "'1.2.3.400' is neither a host name nor an IP address"),
        ("http://a..b", "'a..b' is neither a host name nor an IP address"),
        ("http://[fe80::1%25eth0]", "an address with a zone means something on one machine only"),
        ("http://relay.example/<x>", "the path '/<x>' holds characters that must be percent-encoded"),
        ("http://relay.example?stun=0", "stun=0 is not a port (1 to 65535)"),
        ("http://relay.example?stun=999999", "stun=999999 is not a port (1 to 65535)"),
        ("http://relay.example?stun=", "stun= is not a port (1 to 65535)"),
        ("http://relay.example?stun=%C2%B2", "stun=² is not a port (1 to 65535)"),
        ("http://relay.example?stun=%D9%A3", "stun=٣ is not a port (1 to 65535)"),
        ("http://relay.example?stun=1&stun=1", "'stun' is given twice"),
        ("http://relay.example?key=1", "unknown parameter 'key' (known: stun, pin)"),
        (
            "https://relay.example?pin=12",
            "the pin is not 64 hexadecimal digits (the SHA-256 of the certificate)",
        ),
        (f"http://relay.example?pin={PIN}", "a pin needs https: a plain relay shows no certificate"),
        ("http://" + "a" * 510, "it is longer than 512 characters"),
    ],
)
def test_a_bad_url_says_what_is_wrong_and_what_a_good_one_looks_like(text, problem):
    with pytest.raises(RelayUrlError) as caught:
        RelayUrl.parse(text)
    assert caught.value.problem == problem
    assert caught.value.text == text
    assert "http://relay.example.org:3340" in str(caught.value)
    assert isinstance(caught.value, PeerwayError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("Relay.Example.", "relay.example"), ("192.0.2.1", "192.0.2.1"), ("2001:DB8::0", "2001:db8::")],
)
def test_a_host_alone_is_made_canonical(text, canonical):
    assert canonical_host(text) == canonical


@pytest.mark.parametrize("text", ["", "a/b", "a:1", "[::1]", "a@b", "b\u00fccher"])
def test_what_is_no_host_is_refused(text):
    with pytest.raises(RelayUrlError):
        canonical_host(text)


def test_a_long_bad_url_is_shortened_in_the_message():
    with pytest.raises(RelayUrlError) as caught:
        RelayUrl.parse("x" * 600)
    assert len(str(caught.value)) < 300


@given(st.one_of(st.text(), st.from_regex(r"https?://[!-~]{0,40}", fullmatch=True)))
def test_any_text_is_a_url_that_survives_its_own_text_or_an_error(text):
    try:
        url = RelayUrl.parse(text)
    except RelayUrlError:
        return
    assert RelayUrl.parse(str(url)) == url
    assert str(RelayUrl.parse(str(url))) == str(url)
