"""A relay that admits only those it knows, and two nodes that are to meet there: real sockets throughout."""

import asyncio

import pytest
from tests.node.running import run

from peerway import Node, PeerwayError, RelayUnreachableError, SecretKey
from peerway.core.relay.access import TokenError
from peerway.server import Server

LISTENER, FRIEND, STRANGER = (SecretKey(bytes([number]) * 32) for number in (1, 2, 3))
TOKEN = "correct-horse-battery"


def relay(**settings):
    return Server(host="127.0.0.1", relay_port=0, stun_port=0, tls="self-signed", **settings)


@pytest.fixture
def listed(tmp_path):
    """A list that the listener and its friend are on."""
    path = tmp_path / "allowed"
    path.write_text(f"# who may\n{LISTENER.node_id}\n{FRIEND.node_id}  # a friend\n")
    return path


@pytest.fixture
def tokens(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(TOKEN)
    path.chmod(0o600)
    return path


async def exchange(listener, dialler):
    """A word there and back."""
    async with dialler.connect(listener.ticket()) as connection:
        reader, writer = await connection.open_stream()
        writer.write(b"hello")
        writer.close()
        incoming = await anext(listener)
        its_reader, its_writer = await incoming.accept_stream()
        its_writer.write(await its_reader.read())
        its_writer.close()
        assert await reader.read() == b"hello"


async def refusal(node, ticket=None):
    """What a node is told that the relay does not admit."""
    if ticket is None:
        while not node._machine.relay_state(node.relays[0])[1]:
            await node._changed.wait()
    with pytest.raises(RelayUnreachableError) as caught:
        await (node.wait_relay(0) if ticket is None else node.connect(ticket))
    return caught.value.reason


def test_two_that_are_on_the_list_meet_and_a_third_is_told_what_to_do(listed):
    async def main():
        async with (
            relay(allow_file=listed) as server,
            Node(LISTENER, relays=[server.url]) as listener,
            Node(FRIEND, relays=[server.url]) as friend,
            Node(STRANGER, relays=[server.url]) as stranger,
        ):
            await listener.wait_relay(10)
            await exchange(listener, friend)
            assert await refusal(stranger) == (
                f"this relay does not admit this key: have whoever runs it add {STRANGER.node_id} to its "
                "--allow file, or give you a token for --token-file"
            )
            assert server.drops["relay: key not admitted"] >= 1

    run(main())


def test_who_follows_a_ticket_to_a_closed_relay_is_told_to_name_it(listed):
    async def main():
        async with (
            relay(allow_file=listed) as server,
            Node(LISTENER, relays=[server.url]) as listener,
            Node(FRIEND) as friend,
        ):
            await listener.wait_relay(10)
            told = await refusal(friend, listener.ticket())
            assert told == (
                "this relay does not admit this key: it was not told who we are, since it is not our own: "
                f"name it with --relay {server.url}, and have whoever runs it add {FRIEND.node_id} to its "
                "--allow file"
            )
            # refused after 0, 0.25, 0.5, 1, 2 seconds at the soonest, and a dial gives up after five
            assert server.drops["relay: key not admitted"] <= 6

    run(main())


def test_two_with_the_token_meet_and_who_has_none_or_another_is_told(tokens):
    async def main():
        async with (
            relay(token_file=tokens) as server,
            Node(relays=[server.url], relay_token=TOKEN) as listener,
            Node(relays=[server.url], relay_token=TOKEN) as friend,
            Node(relays=[server.url]) as stranger,
            Node(relays=[server.url], relay_token="x" * 16) as guesser,
        ):
            await listener.wait_relay(10)
            await exchange(listener, friend)
            assert (await refusal(stranger)).startswith("this relay admits only those who show its token: ")
            assert (await refusal(guesser)).startswith("this relay does not admit the token it is shown: ")

    run(main())


def test_what_cannot_be_a_token_is_an_error_that_does_not_repeat_it():
    with pytest.raises(TokenError) as caught:
        Node(relay_token="hunter2")
    assert isinstance(caught.value, PeerwayError)
    assert "hunter2" not in str(caught.value)


def test_who_is_added_to_the_list_gets_in_by_itself(listed):
    async def main():
        async with relay(allow_file=listed) as server, Node(STRANGER, relays=[server.url]) as node:
            await refusal(node)
            listed.write_text(f"{STRANGER.node_id}\n")
            await server.reload()
            async with asyncio.timeout(10):
                await node.wait_relay()

    run(main())
