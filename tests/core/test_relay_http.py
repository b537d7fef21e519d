"""The HTTP a relay speaks before DERP takes over."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.relay.http import HttpFront, HttpNext


def ask(*lines, body=b""):
    return HttpFront().receive("\r\n".join([*lines, "Host: relay.test", "", ""]).encode() + body)


def status(step):
    return int(step.write.split(b" ", 2)[1])


UPGRADE = ("GET /derp HTTP/1.1", "Upgrade: DERP", "Connection: Upgrade")


def test_an_upgrade_to_derp_is_answered_101_and_what_follows_is_left_over():
    step = ask(*UPGRADE, body=b"\x02rest")
    assert step.then is HttpNext.DERP
    assert step.rest == b"\x02rest"
    assert step.write == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\nDerp-Version: 2\r\n\r\n"
    )


def test_fast_start_leaves_the_101_out():
    step = ask(*UPGRADE, "Derp-Fast-Start: 1")
    assert (step.then, step.write) == (HttpNext.DERP, b"")


def test_the_name_of_the_protocol_is_read_in_any_case_and_the_query_is_ignored():
    assert ask("GET /derp?x=1 HTTP/1.1", "upgrade: derp", "connection: upgrade").then is HttpNext.DERP


@pytest.mark.parametrize(
    ("request_line", "headers", "expected"),
    [
        ("GET /derp HTTP/1.1", (), 426),
        ("GET /derp HTTP/1.1", ("Upgrade: websocket", "Connection: Upgrade"), 426),
        ("POST /derp HTTP/1.1", ("Upgrade: DERP", "Connection: Upgrade", "Content-Length: 0"), 405),
        ("HEAD /derp HTTP/1.1", (), 405),
        ("GET /derp/probe HTTP/1.1", (), 200),
        ("HEAD /derp/probe HTTP/1.1", (), 200),
        ("GET /derp/latency-check HTTP/1.1", (), 200),
        ("POST /derp/latency-check HTTP/1.1", ("Content-Length: 0",), 405),
        ("GET /generate_204 HTTP/1.1", (), 204),
        ("GET / HTTP/1.1", (), 404),
        ("GET /derp/ HTTP/1.1", (), 404),
        ("GET /other HTTP/1.1", ("Upgrade: DERP", "Connection: Upgrade"), 404),
    ],
)
def test_every_route_has_its_answer(request_line, headers, expected):
    step = ask(request_line, *headers)
    assert status(step) == expected
    assert step.then is HttpNext.MORE
    assert step.refused == ""


def test_a_refused_upgrade_says_what_to_upgrade_to():
    assert b"\r\nUpgrade: DERP\r\n" in ask("GET /derp HTTP/1.1").write


def test_a_head_request_gets_no_body():
    assert ask("HEAD /nowhere HTTP/1.1").write.endswith(b"\r\n\r\n")
    assert ask("GET /nowhere HTTP/1.1").write.endswith(b"the relay is at /derp\n")


def test_probes_may_come_from_any_web_page():
    assert b"Access-Control-Allow-Origin: *" in ask("GET /derp/probe HTTP/1.1").write


@pytest.mark.parametrize(
    ("challenge", "echoed"), [("ts_relay.example", True), ("a b", False), ("x" * 65, False), ("", False)]
)
def test_a_portal_check_is_proven_by_echoing_its_challenge(challenge, echoed):
    step = ask("GET /generate_204 HTTP/1.1", f"X-Tailscale-Challenge: {challenge}")
    assert (f"X-Tailscale-Response: response {challenge}\r\n".encode() in step.write) is echoed


def test_a_connection_is_kept_for_the_next_request_and_may_then_become_derp():
    front = HttpFront()
    probe = b"GET /derp/probe HTTP/1.1\r\nHost: r\r\n\r\n"
    assert front.receive(probe).write.count(b"200 OK") == 1
    assert front.receive(probe + probe).write.count(b"200 OK") == 2
    upgrade = b"GET /derp HTTP/1.1\r\nHost: r\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"
    assert front.receive(upgrade).then is HttpNext.DERP


def test_requests_come_in_pieces():
    front = HttpFront()
    wire = b"GET /derp/probe HTTP/1.1\r\nHost: r\r\n\r\n"
    assert all(front.receive(wire[i : i + 1]).write == b"" for i in range(len(wire) - 1))
    assert front.receive(wire[-1:]).write.startswith(b"HTTP/1.1 200 OK")


def test_bodies_are_read_and_dropped():
    front = HttpFront()
    step = front.receive(b"POST /x HTTP/1.1\r\nHost: r\r\nContent-Length: 10\r\n\r\n12345")
    assert (step.write, step.then) == (b"", HttpNext.MORE)
    assert status(front.receive(b"67890")) == 404


@pytest.mark.parametrize(
    "head", ["GET /derp/probe HTTP/1.0", "GET /derp/probe HTTP/1.1\r\nConnection: close"]
)
def test_a_client_that_wants_one_answer_is_closed_after_it(head):
    step = ask(*head.split("\r\n"))
    assert (status(step), step.then, step.refused) == (200, HttpNext.CLOSE, "")


def test_the_32nd_answer_is_the_last():
    step = HttpFront().receive(b"GET /generate_204 HTTP/1.1\r\nHost: r\r\n\r\n" * 40)
    assert step.write.count(b"HTTP/1.1 204 No Content") == 32
    assert step.then is HttpNext.CLOSE


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # somebody speaks TLS to a plain port
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"GET /derp HTTP/1.1\r\n\r\n",  # no Host
        b"GET /derp HTTP/1.1\r\nHost: r\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_what_is_not_http_is_answered_400_and_closed(garbage):
    step = HttpFront().receive(garbage)
    assert step.then is HttpNext.CLOSE
    assert step.refused.startswith("not HTTP: ")
    assert status(step) == 400


def test_a_head_without_end_is_refused_at_its_limit():
    step = HttpFront().receive(b"GET /derp HTTP/1.1\r\nHost: r\r\nX: " + b"x" * 9000)
    assert (status(step), step.then) == (431, HttpNext.CLOSE)


def test_a_broken_body_is_answered_400_and_closed():
    front = HttpFront()
    step = front.receive(
        b"GET /derp/probe HTTP/1.1\r\nHost: r\r\n\r\n"
        b"POST /x HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\nnot a length\r\n"
    )
    assert step.write.count(b"HTTP/1.1 200 ") == 1
    assert step.write.count(b"HTTP/1.1 400 ") == 1
    assert step.then is HttpNext.CLOSE


@given(
    st.lists(
        st.one_of(st.binary(max_size=60), st.sampled_from([b"GET ", b"/derp ", b"HTTP/1.1\r\n", b"\r\n"]))
    )
)
def test_any_bytes_lead_to_a_step(chunks):
    front = HttpFront()
    for chunk in chunks:
        if chunk and front.receive(chunk).then is not HttpNext.MORE:
            return
