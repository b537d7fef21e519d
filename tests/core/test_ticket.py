import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.identity import (
    KeyTextError,
    NodeId,
    SecretKey,
    decode_text,
    encode_text,
    seal,
    unseal,
)
from peerway.core.machine import UdpAddress, WireError
from peerway.core.ticket import (
    NotATicketError,
    Ticket,
    TicketDamagedError,
    TicketError,
    TicketTruncatedError,
    TicketVersionError,
)

KEY = SecretKey(bytes(range(32)))
TICKET = Ticket(
    KEY.node_id,
    ("http://203.0.113.9:3340", "https://relay.example.org"),
    (UdpAddress("203.0.113.7", 41641), UdpAddress("2001:db8::1", 41641)),
    bytes(range(16)),
)


def test_ticket_survives_the_round_trip():
    assert Ticket.parse(str(TICKET)) == TICKET
    assert Ticket.parse(str(Ticket(KEY.node_id))) == Ticket(KEY.node_id)


def test_ticket_is_one_lower_case_word():
    text = str(TICKET)
    assert text.startswith("peerway1")
    assert text == text.lower()
    assert text.isalnum()


def test_white_space_and_capitals_from_a_chat_window_do_no_harm():
    text = str(TICKET)
    assert Ticket.parse(f"  {text[:40]}\n  {text[40:].upper()}\n") == TICKET


def test_every_cut_is_called_truncated():
    text = str(TICKET)
    for length in range(len("peerway"), len(text)):
        with pytest.raises(TicketTruncatedError, match="truncated"):
            Ticket.parse(text[:length])


def test_every_changed_character_is_called_damaged_or_truncated():
    text = str(TICKET)
    for index in range(len("peerway1") + 6, len(text)):
        changed = text[:index] + ("b" if text[index] != "b" else "c") + text[index + 1 :]
        try:
            Ticket.parse(changed)
        except TicketDamagedError:
            continue
        # the last character carries unused bits: changing only those changes nothing
        assert index == len(text) - 1


def test_a_character_outside_base32_is_called_damaged():
    with pytest.raises(TicketDamagedError):
        Ticket.parse("peerway1" + "0" * 40)


def test_other_texts_are_not_tickets():
    for text in ("", "hello", "http://example.org", "peerwayx" + "a" * 40):
        with pytest.raises(NotATicketError):
            Ticket.parse(text)


def test_a_newer_version_is_named():
    with pytest.raises(TicketVersionError, match="version 2"):
        Ticket.parse("peerway2" + str(TICKET)[8:])


@given(st.text(max_size=200))
def test_any_text_parses_or_raises_ticket_error(text):
    for candidate in (text, "peerway1" + text):
        try:
            Ticket.parse(candidate)
        except TicketError:
            pass


@given(
    st.binary(min_size=32, max_size=32),
    st.lists(st.text(min_size=1, max_size=40), max_size=8),
    st.sampled_from([b"", bytes(16), bytes(range(16))]),
)
def test_any_ticket_survives_the_round_trip(node, relays, secret):
    ticket = Ticket(NodeId(node), tuple(relays), (), secret)
    assert Ticket.parse(str(ticket)) == ticket


def written(content, version=1):
    """A ticket's text around any content, its checksum right."""
    body = msgspec.msgpack.encode(content)
    raw = bytes([version]) + len(body).to_bytes(2, "big") + body
    return "peerway1" + encode_text(raw + zlib.crc32(raw).to_bytes(4, "big"))


NODE = KEY.node_id.public


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("no list", "makes no sense"),
        ([NODE, [], [("not an ip", 1)], b""], "makes no sense"),
        ([NODE, [], [("fe80::1%eth0", 1)], b""], "makes no sense"),
        ([NODE[:31], [], [], b""], "wrong length"),
        ([NODE, [], [], b"short"], "wrong length"),
        ([NODE, ["http://r"] * 9, [], b""], "more than 8 relays"),
        ([NODE, [], [("192.0.2.1", 1)] * 17, b""], "16 addresses"),
    ],
)
def test_content_that_makes_no_sense_is_called_damaged(content, complaint):
    with pytest.raises(TicketDamagedError, match=complaint):
        Ticket.parse(written(content))


def test_a_newer_version_inside_is_named_too():
    with pytest.raises(TicketVersionError, match="version 9"):
        Ticket.parse(written([NODE, [], [], b""], version=9))


def test_something_behind_the_end_is_called_damaged():
    raw = decode_text(str(TICKET)[8:])
    with pytest.raises(TicketDamagedError):
        Ticket.parse("peerway1" + encode_text(raw + b"more"))


def test_a_ticket_that_never_ends_is_no_ticket():
    with pytest.raises(NotATicketError):
        Ticket.parse("peerway1" + "a" * 5000)


def test_the_secret_is_not_in_the_repr():
    assert "secret=yes" in repr(TICKET)
    assert bytes(range(32)).hex() not in repr(KEY)
    assert str(list(range(32)))[1:-1] not in repr(KEY)


def test_signatures_bind_key_and_message():
    signature = KEY.sign(b"message")
    other = SecretKey(bytes(32))
    assert KEY.node_id.verify(signature, b"message")
    assert not KEY.node_id.verify(signature, b"massage")
    assert not other.node_id.verify(signature, b"message")
    assert not KEY.node_id.verify(signature[:-1], b"message")


def test_boxes_open_on_the_other_side_only_unaltered():
    other = SecretKey(b"\x07" * 32)
    nonce = bytes(24)
    box = seal(b"hello", nonce, KEY.shared_with(other.node_id.box_public()))
    assert unseal(box, nonce, other.shared_with(KEY.node_id.box_public())) == b"hello"
    for damaged in (box[:-1], bytes([box[0] ^ 1]) + box[1:], b""):
        with pytest.raises(WireError):
            unseal(damaged, nonce, other.shared_with(KEY.node_id.box_public()))


def test_node_id_text_round_trip_and_errors():
    assert NodeId.parse(str(KEY.node_id)) == KEY.node_id
    assert len(str(KEY.node_id)) == 52
    with pytest.raises(KeyTextError, match="outside base32"):
        NodeId.parse("1" * 52)
    with pytest.raises(KeyTextError, match="31 bytes"):
        NodeId.parse(str(KEY.node_id)[:50])


def test_a_node_id_of_small_order_makes_no_box():
    # the neutral element: every shared key with it would be known to all
    with pytest.raises(WireError):
        KEY.shared_with(NodeId(b"\x01" + bytes(31)).box_public())
