"""Who may use a relay: by key, by token, and what those who may not are told."""

import random

import pytest
from tests.core.relay_network import RelayNetwork, private_key

from peerway.core.identity import SecretKey
from peerway.core.machine import OpenStream, StreamWrite
from peerway.core.relay.access import Access, TokenError, check_token
from peerway.core.relay.client import RelayClient, RelayDisconnected
from peerway.core.relay.connections import RelayConnections
from peerway.core.relay.http import HttpFront, HttpNext
from peerway.core.relay.keeper import RelayDown
from peerway.core.relay.server import ClientDisconnected, ConnectionRefused
from peerway.core.relay.url import RelayUrl

TOKEN = "correct-horse-battery"
KEY = SecretKey(b"n" * 32)


def key_of(name):
    return RelayClient("http://r", name, private_key(name), random.Random(0)).public_key


def is_token(shown):
    return shown == TOKEN.encode()


@pytest.mark.parametrize(
    ("allow", "token", "admitted"),
    [
        (None, None, {"nobody", "friend", "holder", "both"}),
        (lambda key: key == b"friend", None, {"friend", "both"}),
        (None, is_token, {"holder", "both"}),
        (lambda key: key == b"friend", is_token, {"friend", "holder", "both"}),
    ],
)
def test_each_way_in_will_do_and_without_any_all_are_in(allow, token, admitted):
    access = Access(allow, token)
    clients = {
        "nobody": (b"stranger", b""),
        "friend": (b"friend", b"wrong"),
        "holder": (b"stranger", TOKEN.encode()),
        "both": (b"friend", TOKEN.encode()),
    }
    assert {name for name, shown in clients.items() if access.admits(*shown)} == admitted


def test_a_check_of_tokens_that_fails_means_no_and_an_empty_token_is_none():
    def broken(token):
        raise OSError("the disk is gone")

    assert not Access(token=broken).admits(b"k", TOKEN.encode())
    assert not Access(token=lambda token: True).admits_token(b"")


UPGRADE = b"GET /derp HTTP/1.1\r\nHost: r\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n"


@pytest.mark.parametrize(
    "header",
    [
        b"Authorization: Bearer correct-horse-battery\r\n",
        b"authorization: bearer  correct-horse-battery\r\n",
    ],
)
def test_a_token_is_shown_in_the_upgrade(header):
    front = HttpFront(Access(token=is_token))
    assert front.receive(UPGRADE + header + b"\r\n").then is HttpNext.DERP
    assert front.token == TOKEN.encode()


@pytest.mark.parametrize(
    "header",
    [b"", b"Authorization: Bearer wrong\r\n", b"Authorization: Basic correct-horse-battery\r\n"],
)
def test_without_the_token_the_upgrade_is_answered_401_and_closed(header):
    step = HttpFront(Access(token=is_token)).receive(UPGRADE + header + b"\r\n")
    assert step.then is HttpNext.CLOSE
    assert step.refused == "token not admitted"
    assert step.write.startswith(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\n")
    assert b"horse" not in step.write


def test_what_is_no_upgrade_needs_no_token():
    front = HttpFront(Access(token=is_token))
    step = front.receive(b"GET /generate_204 HTTP/1.1\r\nHost: r\r\n\r\n")
    assert step.write.startswith(b"HTTP/1.1 204 ")


def test_a_client_with_the_token_is_in_and_one_without_is_told_what_is_wrong():
    network = RelayNetwork(token=is_token)
    assert network.join("alice", token=TOKEN).connected
    assert network.join("bob").events[-1] == RelayDisconnected(
        "bob", "this relay admits only those who show its token"
    )
    assert network.join("mallory", token="x" * 16).events[-1] == RelayDisconnected(
        "mallory", "this relay does not admit the token it is shown"
    )
    refusals = [event for event in network.server_events if isinstance(event, ConnectionRefused)]
    assert [event.reason for event in refusals] == ["token not admitted", "token not admitted"]
    assert network.server.drops == {"token not admitted": 2}


def test_with_a_list_and_tokens_who_has_neither_is_told_that_its_key_is_not_admitted():
    network = RelayNetwork(allow=lambda key: key == key_of("alice"), token=is_token)
    assert network.join("alice").connected
    assert network.join("bob", token=TOKEN).connected
    mallory = network.join("mallory", token="x" * 16)
    assert mallory.events[-1].reason == "this relay does not admit this key"


def test_a_review_puts_out_who_would_not_get_in_any_more():
    keys, tokens = {key_of("alice"), key_of("bob")}, {TOKEN.encode()}
    network = RelayNetwork(allow=keys.__contains__, token=tokens.__contains__)
    for name in ("alice", "bob"):
        network.join(name)
    network.join("carol", token=TOKEN)
    keys.remove(key_of("bob"))
    network.server.review(network.now)
    network.settle()
    assert network.closed_by_server == ["bob"]
    assert network.clients["bob"].events[-1] == RelayDisconnected("bob", "this relay does not admit this key")
    tokens.clear()
    network.server.review(network.now)
    network.settle()
    assert network.closed_by_server == ["bob", "carol"]
    gone = [event for event in network.server_events if isinstance(event, ClientDisconnected)]
    assert [event.reason for event in gone] == ["not admitted any more", "not admitted any more"]
    assert network.server.client_count == 1


# --- what a node shows to which relay


def request_to(url, own):
    """What a node with a token first writes to a relay."""
    connections = RelayConnections(own, KEY, random.Random(1), TOKEN)
    connections.keep(RelayUrl.parse(url), 0.0)
    (stream,) = [event.stream for event in drained(connections) if isinstance(event, OpenStream)]
    connections.stream_opened(stream, 0.0)
    output = connections.poll_transmit()
    assert isinstance(output, StreamWrite)
    return output.data


def drained(connections):
    found = []
    while (event := connections.poll_event()) is not None:
        found.append(event)
    return found


OWN, OTHERS, PLAIN, LOCAL = (
    "https://own.test",
    "https://others.test",
    "http://own.test:3340",
    "http://127.0.0.1:1",
)


@pytest.mark.parametrize(("url", "shown"), [(OWN, True), (LOCAL, True), (OTHERS, False), (PLAIN, False)])
def test_the_token_is_shown_to_our_own_relays_alone_and_only_where_nobody_listens(url, shown):
    assert (TOKEN.encode() in request_to(url, (OWN, PLAIN, LOCAL))) == shown


ADD = f"have whoever runs it add {KEY.node_id} to its --allow file"


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        (OWN, f"{ADD}, or give you a token for --token-file"),
        (PLAIN, f"{ADD}; a token is shown over TLS only"),
        (
            OTHERS,
            "it was not told who we are, since it is not our own: name it with "
            f"--relay https://others.test, and {ADD}",
        ),
    ],
)
@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        (
            b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
            "this relay admits only those who show its token",
        )
    ],
)
def test_who_is_refused_is_told_what_to_do_and_tries_ever_more_seldom(url, advice, answer, refusal):
    connections = RelayConnections((OWN, PLAIN), KEY, random.Random(1))
    connections.keep(RelayUrl.parse(url), 0.0)
    now, waits = 0.0, []
    while len(waits) < 12:
        for event in drained(connections):
            if isinstance(event, OpenStream):
                connections.stream_opened(event.stream, now)
                connections.stream_data(event.stream, answer, now)
            elif isinstance(event, RelayDown):
                assert event.reason == f"{refusal}: {advice}"
                waits.append(event.retry_in)
                now += event.retry_in
                connections.handle_timeout(now)
    assert connections.state(url) == (False, f"{refusal}: {advice}")
    assert waits[0] < 0.5
    assert all(30.0 <= wait <= 45.0 for wait in waits[8:])


def test_a_token_is_long_enough_and_fit_for_a_header():
    for text in (TOKEN, "a" * 16, "A0._~+/-A0._~+/-==", "a" * 256):
        assert check_token(text) == text
    for text in (
        "",
        "short",
        "a" * 257,
        "with a space in it",
        "line\r\nbreak-in-it!",
        "ümlaut-ümlaut-ümlaut",
    ):
        with pytest.raises(TokenError) as caught:
            check_token(text)
        assert text == "" or text not in str(caught.value)
