"""Commands where descriptors, the disk or the name server are at their end. Each docstring is a promise."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys

import pytest
from tests.server.relay_peer import RelayPeer, run, until

TIMEOUT_S = 80
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's namespaces and /proc")


@pytest.fixture
def cramped(tool, tmp_path):
    """Run one of `cramped.py`'s surroundings; what it printed."""
    unshare = tool("unshare", "util-linux")
    tool("ip", "iproute2")

    def run(name):
        alone = [unshare, "--map-root-user", "--mount", "--net"]
        program = [*alone, sys.executable, "-m", "tests.cli.cramped", name, tmp_path]
        if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
            missing = "namespaces are not allowed here: sysctl kernel.unprivileged_userns_clone=1"
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
        ended = subprocess.run(program, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        assert ended.returncode == 0, ended.stderr
        return [json.loads(line) for line in ended.stdout.splitlines()]

    return run


@linux
def test_a_full_disk_is_told_and_leaves_no_half_of_a_key(cramped, tmp_path):
    """`id`, `listen` and `serve` that cannot keep a key say so and end with 1; later they just work."""
    *refused, left, (code, node_id, _), url = cramped("full_disk")
    home = tmp_path / "disk" / "home"
    cannot = f"peerway: cannot write the key file {home}/listen.key: No space left on device\n"
    assert refused[:2] == [[1, "", cannot], [1, "", cannot]]
    code_of_serve, out, error = refused[2]
    assert (code_of_serve, out) == (1, "")
    assert error == f"peerway: cannot write a certificate to {home}: No space left on device\n"
    assert left == []
    assert code == 0
    assert re.fullmatch(r"[a-z2-7]{52}\n", node_id)
    assert url.startswith("https://127.0.0.1:")


@linux
def test_a_name_server_that_never_answers_is_named_and_other_relays_serve(cramped):
    """Within seconds, however patient the system's resolver is; what does not need the name goes on."""
    nowhere, (code, out, _), heard, was_asked = cramped("silent_names")
    assert nowhere[0] == 1
    assert "cannot reach the relay http://relay.example:3340: no answer about 'relay.example'" in nowhere[2]
    assert (code, out, heard) == (0, "", "hello")
    assert was_asked


def is_refused(connection):
    """Whether the other side has closed the connection."""
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def let_in(url, seed):
    """A client that tries until there is room."""
    while True:
        peer = RelayPeer(url, seed)
        with contextlib.suppress(OSError):
            await peer.open()
            await until(lambda peer=peer: peer.client.connected or peer.gone, "an answer")
            if peer.client.connected:
                return peer


@linux
def test_four_hundred_clients_of_a_relay_with_256_descriptors(tmp_path):
    """Who is in stays and is served; who is too many is turned away at once; as others leave, there is
    room again. The log says it once.
    """
    serve = ["peerway", "serve", "--host", "127.0.0.1", "--port", "0", "--stun-port", "0"]
    server = subprocess.Popen(
        ["sh", "-c", 'ulimit -n 256 && exec "$@"', "sh", sys.executable, "-m", *serve],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PEERWAY_HOME": str(tmp_path)},
    )
    url = server.stdout.readline().strip()

    async def scenario():
        alice, bob = await RelayPeer.connect(url, "alice"), await RelayPeer.connect(url, "bob")
        crowd = [socket.create_connection(("127.0.0.1", alice.url.port)) for _ in range(400)]
        for connection in crowd:
            connection.setblocking(False)
        await until(lambda: sum(map(is_refused, crowd)) >= 150, "150 turned away")
        alice.send(bob, b"still here")
        await until(lambda: bob.packets() == [b"still here"], "bob's packet")
        assert not alice.gone
        assert not bob.gone
        for connection in crowd:
            connection.close()
        carol = await let_in(url, "carol")
        alice.send(carol, b"welcome")
        await until(lambda: carol.packets() == [b"welcome"], "carol's packet")
        for peer in (alice, bob, carol):
            await peer.close()

    try:
        run(scenario())
    finally:
        server.terminate()
        _, errors = server.communicate(timeout=TIMEOUT_S)
    assert errors.count("relay not-accepting") == 1
    assert server.returncode == 0


NODE_WITH_FEW_DESCRIPTORS = """
import asyncio, contextlib, os, resource
from peerway import Node, RelayUnreachableError, SecretKey
from peerway.io import interfaces
from peerway.server import Server

interfaces._way_out = lambda *_: (None, "")

async def main():
    async with (
        Server(host="127.0.0.1", relay_port=0, stun_port=0) as server,
        Node(relays=[server.url]) as listener,
        Node() as dialler,
    ):
        await listener.wait_relay(10)
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        held = []
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        try:
            await dialler.connect(listener.ticket())
        except RelayUnreachableError as error:
            print(error)
        for descriptor in held:
            os.close(descriptor)
        connection = await dialler.connect(listener.ticket())
        await connection.ping()
        print("connected", dialler._driver.failures, listener._driver.failures)

asyncio.run(main())
"""


@linux
def test_a_node_without_descriptors_says_so_and_connects_once_there_are_some():
    """A dial that cannot have a socket fails with that reason; nothing else of the node suffers."""
    ended = subprocess.run(
        [sys.executable, "-c", NODE_WITH_FEW_DESCRIPTORS],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
        env={**os.environ, "PEERWAY_PORTMAP": "no"},
    )
    first, second = ended.stdout.splitlines()
    assert first.startswith("cannot reach the relay http://127.0.0.1:")
    assert "this process has too many open files" in first
    assert second == "connected 0 0"
