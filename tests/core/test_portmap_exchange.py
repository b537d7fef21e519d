"""HTTP with a gateway that may do its worst."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import CloseStream, OpenStream, StreamWrite
from peerway.core.portmap.exchange import MAX_HEAD_BYTES, HttpAnswered, HttpExchange, HttpFailed, HttpRequest
from peerway.core.portmap.location import Location

HERE = Location("10.1.1.1", 5000, "/rootDesc.xml")
LIMIT = 1000


PLAIN = HttpRequest(HERE, LIMIT)


def asked(request=PLAIN):
    exchange = HttpExchange("s", request, 0.0)
    assert exchange.poll_event() == OpenStream("s", "http://10.1.1.1:5000")
    exchange.stream_opened(0.0)
    return exchange


def outcome(exchange):
    """What it came to, and whether it closed the stream."""
    events = list(iter(exchange.poll_event, None))
    closed = CloseStream("s") in events
    rest = [event for event in events if not isinstance(event, CloseStream)]
    assert len(rest) <= 1
    assert not rest or exchange.poll_deadline() is None
    return (rest[0] if rest else None), closed


def answered(*pieces, close=False):
    exchange = asked()
    for piece in pieces:
        exchange.stream_data(piece, 0.1)
    if close:
        exchange.stream_closed("closed", 0.2)
    return outcome(exchange)


def test_a_request_names_its_host_and_wants_no_second():
    assert asked().poll_transmit() == StreamWrite(
        "s", b"GET /rootDesc.xml HTTP/1.1\r\nHost: 10.1.1.1:5000\r\nConnection: close\r\n\r\n"
    )


def test_a_call_has_its_headers_and_its_length():
    call = HttpRequest(HERE, LIMIT, "POST", (("SOAPAction", '"x#y"'),), b"<xml/>")
    assert asked(call).poll_transmit() == StreamWrite(
        "s",
        b"POST /rootDesc.xml HTTP/1.1\r\nHost: 10.1.1.1:5000\r\nConnection: close\r\n"
        b'SOAPAction: "x#y"\r\nContent-Length: 6\r\n\r\n<xml/>',
    )


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",),
        (b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 4\r\n\r\nbo", b"dy"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",),
    ],
)
def test_an_answer_however_it_is_cut(pieces):
    assert answered(*pieces) == (HttpAnswered(200, b"body"), True)


def test_an_answer_without_a_length_ends_with_the_stream():
    assert answered(b"HTTP/1.0 200 OK\r\n\r\nbody") == (None, False)
    assert answered(b"HTTP/1.0 200 OK\r\n\r\nbody", close=True) == (HttpAnswered(200, b"body"), True)


def test_a_redirect_is_an_answer_like_any_other():
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://10.9.9.9/\r\nContent-Length: 0\r\n\r\n"
    assert answered(moved) == (HttpAnswered(302, b""), True)


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody",), "not HTTP"),
        ((b"220 ftp ready\r\n\r\n",), "not HTTP"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",), "not HTTP"),
        ((b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD_BYTES,), "not HTTP"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001,), "more than 1000 bytes"),
        ((b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 1001,), "more than 1000 bytes"),
        ((), "closed"),
    ],
)
def test_what_is_no_answer_fails(pieces, reason):
    event, _ = answered(*pieces, close=True)
    assert isinstance(event, HttpFailed)
    assert reason in event.reason


def test_a_document_of_100_megabytes_costs_no_more_than_its_limit():
    exchange = asked(HttpRequest(HERE, 256 * 1024))
    exchange.stream_data(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n", 0.0)
    piece = bytes(64 * 1024)
    tracemalloc.start()
    taken = 0
    while outcome(exchange) == (None, False):
        exchange.stream_data(piece, 0.0)
        taken += len(piece)
    for _ in range(100):
        exchange.stream_data(piece, 0.0)  # whoever does not hear that we hung up
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken == 5 * len(piece)
    assert peak < 2 * 1024 * 1024


def test_an_answer_without_end_is_cut_off_after_five_seconds():
    exchange = asked()
    for second in range(5):
        exchange.stream_data(b"H" if second == 0 else b"T", float(second))
        assert outcome(exchange) == (None, False)
        exchange.handle_timeout(float(second))
    assert exchange.poll_deadline().at == 5.0
    exchange.handle_timeout(5.0)
    event, closed = outcome(exchange)
    assert closed
    assert event == HttpFailed("http://10.1.1.1:5000/rootDesc.xml did not answer within 5 s")


def test_a_stream_that_never_opens_fails_with_its_reason():
    exchange = HttpExchange("s", HttpRequest(HERE, LIMIT), 0.0)
    exchange.poll_event()
    exchange.stream_data(b"HTTP/1.1 200 OK\r\n\r\n", 0.0)  # before anything was asked
    exchange.stream_closed("connection refused", 0.1)
    assert outcome(exchange) == (HttpFailed("connection refused"), False)


def test_nothing_is_told_after_the_end():
    exchange = asked()
    exchange.abandon()
    assert outcome(exchange) == (HttpFailed("nobody waits for it any more"), True)
    exchange.abandon()
    exchange.stream_data(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0.0)
    exchange.stream_closed("closed", 0.0)
    exchange.handle_timeout(9.0)
    assert outcome(exchange) == (None, False)


def test_a_stream_that_is_said_to_stand_twice_is_asked_once():
    exchange = asked()
    exchange.stream_opened(0.1)
    assert isinstance(exchange.poll_transmit(), StreamWrite)
    assert exchange.poll_transmit() is None


HTTP_PIECES = st.lists(
    st.sampled_from(
        [
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 100 C\r\n\r\n",
            b"Content-Length: 3\r\n",
            b"\r\n",
            b"abc",
            b"\0",
            b":",
        ]
    )
    | st.binary(max_size=30),
    max_size=12,
)


@given(HTTP_PIECES, st.booleans())
def test_any_bytes_end_in_one_outcome_at_most(pieces, close):
    exchange = asked()
    for piece in pieces:
        if piece:
            exchange.stream_data(piece, 0.0)
    if close:
        exchange.stream_closed("closed", 0.0)
    event, _ = outcome(exchange)
    assert event is not None or not close
