"""What HTTP servers in a relay's place answer, and what that makes of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import CloseStream, OpenStream, StreamWrite
from peerway.core.netcheck.page import PageProbe, PageSeen
from peerway.core.netcheck.probes import Page, Refusal, Silence
from peerway.core.relay.http import HttpFront
from peerway.core.relay.url import RelayUrl

URL = RelayUrl.parse("http://relay.example:3340")
CHALLENGE = "0123456789abcdef"


def opened():
    probe = PageProbe(URL, "s", CHALLENGE, 1.0)
    assert probe.poll_event() == OpenStream("s", "http://relay.example:3340")
    probe.stream_opened(1.02)
    return probe


def written(probe):
    return b"".join(write.data for write in iter(probe.poll_transmit, None) if isinstance(write, StreamWrite))


def events(probe):
    return list(iter(probe.poll_event, None))


def outcome(probe):
    """The one outcome, and that the stream is closed unless it closed itself."""
    told = events(probe)
    assert [event for event in told if isinstance(event, CloseStream)] == [CloseStream("s")]
    (seen,) = [event for event in told if isinstance(event, PageSeen)]
    return seen.outcome


def test_a_relay_is_known_by_its_answer_and_timed_on_the_connection_that_stands():
    probe, relay = opened(), HttpFront()
    probe.stream_data(relay.receive(written(probe)).write, 1.10)
    assert events(probe) == []
    probe.stream_data(relay.receive(written(probe)).write, 1.13)
    assert outcome(probe) == Page(204, genuine=True, diverts=False, round_trip=pytest.approx(0.03))
    assert probe.poll_deadline() is None


def test_an_answer_that_comes_in_pieces_is_put_together():
    probe, relay = opened(), HttpFront()
    for byte in relay.receive(written(probe)).write:
        probe.stream_data(bytes([byte]), 1.10)
    assert b"GET /derp/latency-check" in written(probe)


@pytest.mark.parametrize(
    ("answer", "page"),
    [
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://login/\r\nContent-Length: 0\r\n\r\n",
            Page(302, False, True),
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Page(200, False, True)),
        (b"HTTP/1.1 511 Log in\r\nContent-Length: 0\r\n\r\n", Page(511, False, True)),
        (b"HTTP/1.0 200 OK\r\n\r\n", Page(200, False, True)),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Page(404, False, False)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Page(204, False, True)),  # it says nothing of the challenge
        (b"HTTP/1.1 204 No Content\r\nX-Tailscale-Response: response x\r\n\r\n", Page(204, False, True)),
    ],
)
def test_who_does_not_know_the_answer_is_no_relay(answer, page):
    probe = opened()
    probe.stream_data(answer, 1.1)
    assert outcome(probe) == page


def test_what_does_not_speak_http_is_refused():
    probe = opened()
    probe.stream_data(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 1.1)
    assert isinstance(outcome(probe), Refusal)
    assert probe.drops == {"not HTTP": 1}


def test_a_connection_that_cannot_be_made_says_why():
    probe = PageProbe(URL, "s", CHALLENGE, 1.0)
    probe.stream_closed("connection refused", 1.5)
    assert events(probe)[1:] == [PageSeen(Silence("connection refused"))]


@pytest.mark.parametrize("error", ["", "connection reset"])
def test_a_relay_that_closes_before_the_second_answer_is_still_a_relay(error):
    probe, relay = opened(), HttpFront()
    probe.stream_data(relay.receive(written(probe)).write, 1.10)
    probe.stream_closed(error, 1.2)
    assert events(probe) == [PageSeen(Page(204, genuine=True, diverts=False))]


def test_a_relay_that_wants_to_close_is_not_asked_twice():
    answer = (
        b"HTTP/1.1 204 No Content\r\nConnection: close\r\n"
        b"X-Tailscale-Response: response " + CHALLENGE.encode() + b"\r\n\r\n"
    )
    probe = opened()
    written(probe)
    probe.stream_data(answer, 1.1)
    assert outcome(probe) == Page(204, genuine=True, diverts=False)
    assert written(probe) == b""


def test_patience_ends():
    probe = opened()
    assert probe.poll_deadline().at == 4.0
    probe.handle_timeout(4.0)
    assert outcome(probe) == Silence("no answer within 3 s")
    probe.stream_data(b"HTTP/1.1 200 OK\r\n\r\n", 4.1)
    probe.stream_closed("", 4.2)
    assert events(probe) == []


@given(st.lists(st.binary(max_size=200), max_size=5), st.booleans())
def test_any_bytes_end_in_one_outcome_and_no_exception(pieces, as_http):
    probe = opened()
    for piece in pieces:
        probe.stream_data((b"HTTP/1.1 " if as_http else b"") + piece, 1.1)
    probe.stream_closed("", 1.2)
    assert len([event for event in events(probe) if isinstance(event, PageSeen)]) == 1
