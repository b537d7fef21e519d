"""Files that say who gets in: what is read, what closes the relay, and what a change does to those inside."""

import asyncio
import hmac
import logging
import os
import random

import pytest
from tests.server.relay_peer import RelayPeer, run, until

from peerway.core.identity import SecretKey
from peerway.core.relay.client import RelayClient
from peerway.io.tokenfile import TokenFileError
from peerway.server import Server, admission
from peerway.server.admission import AdmissionError, load_node_ids

ALICE, BOB = (SecretKey(bytes([number]) * 32) for number in (1, 2))
TOKEN = "correct-horse-battery"


class Guest(RelayPeer):
    """A client of the relay that is the node of a key."""

    def __init__(self, url, key, token=""):
        super().__init__(url, 0)
        self.client = RelayClient(self.url, "s", key.box_secret, random.SystemRandom(), token)
        self.key = self.client.public_key


async def admitted(server, key, token=""):
    """A client that is in, or None when it was turned away."""
    guest = await Guest(server.url, key, token).open()
    await until(lambda: guest.client.connected or guest.gone, "an answer")
    if guest.gone:
        await guest.close()
        return None
    return guest


def local_server(**settings):
    return Server(host="127.0.0.1", relay_port=0, stun_port=0, **settings)


@pytest.fixture
def listed(tmp_path):
    path = tmp_path / "allowed"
    path.write_text(f"{ALICE.node_id}\n{BOB.node_id}\n")
    return path


def test_a_list_is_node_ids_with_comments(listed):
    listed.write_text(f"\n# a comment\n  {ALICE.node_id}   # with a comment\n\n")
    assert load_node_ids(listed) == {ALICE.node_id.box_public()}
    listed.write_text("# nobody\n")
    assert load_node_ids(listed) == frozenset()


BAD = [
    ("nonsense", r"allowed, line 2: 'nonsense' is not a node id"),
    ("a" * 52 + " " + "b" * 52, r"allowed, line 2: .* is not a node id"),
    ("a" * 51 + "7", r"allowed, line 2: "),
]


@pytest.mark.parametrize(("line", "problem"), BAD)
def test_a_line_that_is_no_node_id_is_an_error_with_its_number(listed, line, problem):
    listed.write_text(f"{ALICE.node_id}\n{line}\n")
    with pytest.raises(AdmissionError, match=problem):
        load_node_ids(listed)


@pytest.mark.parametrize("name", ["allow_file", "token_file"])
@pytest.mark.parametrize("content", [None, b"\xff", b"not one\n"])
def test_a_server_does_not_start_with_a_file_it_cannot_use_and_binds_nothing(tmp_path, name, content):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)

    async def scenario():
        server = local_server(**{name: path})
        with pytest.raises((AdmissionError, TokenFileError), match="file"):
            await server.__aenter__()
        assert server._relay is None
        assert server._stun is None

    run(scenario())


def test_a_list_and_a_question_exclude_each_other(listed):
    with pytest.raises(ValueError, match="allow and allow_file exclude each other"):
        local_server(allow_file=listed, allow=lambda key: True)


def missing(path):
    path.unlink()


def a_bad_line(path):
    path.write_text(f"{ALICE.node_id}\nnonsense\n")


def a_directory(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [missing, a_bad_line, a_directory])
def test_a_list_that_became_unusable_admits_nobody_new_and_puts_nobody_out(listed, spoil, caplog):
    async def scenario():
        async with local_server(allow_file=listed) as server:
            alice = await admitted(server, ALICE)
            spoil(listed)
            await server.reload()
            assert await admitted(server, BOB) is None
            assert await admitted(server, ALICE) is None
            assert alice.client.connected
            if listed.is_dir():
                listed.rmdir()
            listed.write_text(f"{ALICE.node_id}\n{BOB.node_id}\n")
            await server.reload()
            bob = await admitted(server, BOB)
            alice.send(bob, b"hello")
            await until(lambda: bob.packets() == [b"hello"], "bob has it")
            await alice.close()
            await bob.close()

    with caplog.at_level(logging.ERROR, "peerway.server"):
        run(scenario())
    (line,) = [record.message for record in caplog.records]
    assert line.startswith(f"relay admission-closed file={listed}")
    assert "nobody new gets in" in line


def test_who_is_taken_off_the_list_is_put_out_and_the_others_stay(listed):
    async def scenario():
        async with local_server(allow_file=listed) as server:
            alice, bob = await admitted(server, ALICE), await admitted(server, BOB)
            listed.write_text(f"{ALICE.node_id}\n")
            await server.reload()
            await until(lambda: bob.gone, "bob is out")
            assert bob.events[-1].reason == "this relay does not admit this key"
            assert alice.client.connected
            assert server.client_count == 1
            await alice.close()
            await bob.close()

    run(scenario())


def test_while_one_of_two_files_is_unusable_nobody_is_put_out_for_the_other(listed, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    tokens.chmod(0o600)

    async def scenario():
        async with local_server(allow_file=listed, token_file=tokens) as server:
            alice = await admitted(server, ALICE)
            stranger = await admitted(server, SecretKey(b"s" * 32), TOKEN)
            tokens.chmod(0o644)
            listed.write_text("")
            await server.reload()
            assert await admitted(server, BOB) is None
            assert await admitted(server, BOB, TOKEN) is None
            assert alice.client.connected
            assert stranger.client.connected
            tokens.chmod(0o600)
            await server.reload()
            await until(lambda: alice.gone, "alice is out")
            assert stranger.client.connected
            for guest in (alice, stranger):
                await guest.close()

    run(scenario())


def test_a_changed_file_is_read_by_itself_once_it_is_at_rest(listed, monkeypatch):
    monkeypatch.setattr("peerway.server.serve.LOOK_EVERY_S", 0.01)

    async def scenario():
        async with local_server(allow_file=listed) as server:
            alice, bob = await admitted(server, ALICE), await admitted(server, BOB)
            listed.write_text(f"{ALICE.node_id}\n")
            await until(lambda: bob.gone, "bob is out")
            listed.unlink()
            await until(lambda: server._ways.allow.known is None, "closed")
            assert alice.client.connected
            new = listed.with_name("new")
            new.write_text(f"{BOB.node_id}\n{ALICE.node_id}\n")
            os.replace(new, listed)
            await until(lambda: server._ways.allow.known is not None, "open again")
            again = await admitted(server, BOB)
            for guest in (alice, bob, again):
                await guest.close()

    run(scenario())


def test_a_file_that_is_being_written_is_not_read_yet(listed):
    way = admission.Way(listed, load_node_ids)
    way.open()
    assert [way.look(), way.look()] == [False, False]
    for size in (1, 2, 3):
        listed.write_text("#" * size)
        assert not way.look()
    assert way.look()
    way.reread()
    assert way.known == frozenset()
    assert not way.look()


def test_every_token_is_compared_in_constant_time_and_rotation_needs_no_gap(tmp_path, monkeypatch):
    compared = []

    def compare(left, right):
        compared.append((len(left), len(right)))
        return hmac_compare(left, right)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(admission.hmac, "compare_digest", compare)
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN}\n{TOKEN}-new\n")
    tokens.chmod(0o600)
    way = admission.Way(tokens, admission.load_token_digests)
    way.open()
    assert way.has_token(TOKEN.encode())
    assert way.has_token(f"{TOKEN}-new".encode())
    assert not way.has_token(b"c")
    assert compared == [(32, 32)] * 6


def test_no_token_is_ever_logged(tmp_path, caplog):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN}\n")
    tokens.chmod(0o600)

    async def scenario():
        async with local_server(token_file=tokens) as server:
            guest = await admitted(server, ALICE, TOKEN)
            assert await admitted(server, BOB, "staple-correct-horse") is None
            tokens.write_text(f"{TOKEN} {TOKEN}\n")
            await server.reload()
            await guest.close()
            await asyncio.sleep(0)

    with caplog.at_level(logging.DEBUG):
        run(scenario())
    assert "admission-closed" in caplog.text
    assert "correct" not in caplog.text
