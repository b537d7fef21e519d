"""Log lines: their shape, and what must never be in one."""

import logging
from dataclasses import dataclass, field

import pytest

from peerway.cli.logs import LineFormatter, event_name, event_text, quote, scrub
from peerway.core.identity import SecretKey
from peerway.core.machine import UdpAddress
from peerway.core.ticket import Ticket

TICKET = Ticket(SecretKey(bytes(32)).node_id, ("http://r:3340",), (), b"\x07" * 16)


@dataclass(frozen=True)
class PathSelected:
    remote: UdpAddress
    reason: str
    rtt: float | None = None
    payload: bytes = b""
    seed: bytes = field(default=b"", repr=False)


def record(message, name="peerway.core.path", error=None):
    made = logging.LogRecord(name, logging.INFO, "", 0, message, None, None)
    made.created, made.msecs = 1_795_300_000.25, 250.0
    if error is not None:
        made.exc_info = (type(error), error, error.__traceback__)
    return made


def test_a_line_is_time_level_machine_event_and_pairs():
    line = LineFormatter(tracebacks=False).format(record("path selected remote=192.0.2.1:7"))
    assert line == "2026-11-21T22:26:40.250Z info path selected remote=192.0.2.1:7"


def test_other_peoples_loggers_are_named():
    line = LineFormatter(tracebacks=False).format(record("slow callback", name="asyncio"))
    assert line == "2026-11-21T22:26:40.250Z info asyncio slow callback"


def test_an_event_is_its_name_and_fields_without_bytes_and_hidden_fields():
    event = PathSelected(UdpAddress("192.0.2.1", 7), "round trip 3 ms", 0.0031234567, b"secret", b"seed")
    assert event_text(event) == (
        'path_selected remote=192.0.2.1:7 reason="round trip 3 ms" rtt=0.00312346 payload="<6 bytes>"'
    )


def test_a_field_that_is_none_is_left_out():
    event = PathSelected(UdpAddress("192.0.2.1", 7), "only")
    assert event_text(event) == 'path_selected remote=192.0.2.1:7 reason=only payload="<0 bytes>"'


@pytest.mark.parametrize(
    ("kind", "name"),
    [("PathSelected", "path_selected"), ("UDPBlocked", "udpblocked"), ("Pong2Late", "pong2_late")],
)
def test_events_are_named_in_snake_case(kind, name):
    assert event_name(type(kind, (), {})()) == name


def test_a_ticket_never_reaches_a_log_line():
    text = str(TICKET)
    line = LineFormatter(tracebacks=False).format(record(f"cli dialling ticket={text.upper()} or {text}"))
    assert "ticket=PEERWAY1…" in line
    assert text[8:30] not in line.lower()
    assert scrub(f"<{text}>") == "<peerway1…>"


def test_control_characters_of_a_peer_do_not_reach_the_terminal():
    line = LineFormatter(tracebacks=False).format(record("peer said reason=\x1b[2J\r\nfake line"))
    assert line.endswith("peer said reason= [2J  fake line")


def test_a_traceback_is_shown_only_when_asked_for():
    error = ValueError("bad thing")
    assert (
        LineFormatter(tracebacks=False)
        .format(record("driver failed", error=error))
        .endswith("driver failed error=\"ValueError('bad thing')\"")
    )
    assert "ValueError: bad thing" in LineFormatter(tracebacks=True).format(
        record("driver failed", error=error)
    )


@pytest.mark.parametrize(
    ("text", "quoted"), [("plain", "plain"), ("", '""'), ("two words", '"two words"'), ('a"b', '"a\\"b"')]
)
def test_values_that_would_not_read_as_one_are_quoted(text, quoted):
    assert quote(text) == quoted
