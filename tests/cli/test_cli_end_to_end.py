"""The commands as users run them: separate programs, a real relay, real pipes, on loopback."""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from tests.authority import Authority

from peerway import Node
from peerway.core.ticket import Ticket
from peerway.io.udp_sockets import UdpSockets
from peerway.server.certificate import self_signed

TIMEOUT_S = 60
BIG = bytes(range(256)) * 80_000


class Program:
    """A running `peerway`; its stderr goes to a file so that it never blocks."""

    def __init__(self, folder, *arguments, stdin=subprocess.DEVNULL, home="home"):
        self.stderr_path = folder / f"stderr-{time.monotonic_ns()}"
        environment = {name: text for name, text in os.environ.items() if not name.startswith("PEERWAY_")}
        with self.stderr_path.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "peerway", *arguments],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                env={**environment, "PEERWAY_HOME": str(folder / home), "PEERWAY_PORTMAP": "no"},
            )

    def line(self):
        return self.process.stdout.readline().decode().rstrip("\n")

    def end(self, number=None):
        """Wait for the end, after a signal where one is given: the exit code and the rest of stdout."""
        if number is not None:
            self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, out

    @property
    def stderr(self):
        return self.stderr_path.read_text()


@pytest.fixture
def start(tmp_path):
    programs = []

    def begin(*arguments, **options):
        programs.append(Program(tmp_path, *arguments, **options))
        return programs[-1]

    yield begin
    for program in programs:
        with contextlib.suppress(ProcessLookupError):
            program.process.kill()
        program.process.wait()
        for pipe in (program.process.stdin, program.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def relay(start):
    return start("serve", "--plain", "--host", "127.0.0.1", "--port", "0", "--stun-port", "0").line()


@pytest.fixture
def connect(start):
    """Run `connect TICKET` on some input to its end."""

    def run(ticket, data=b"", *arguments):
        program = start("connect", ticket, *arguments, stdin=subprocess.PIPE)
        out, _ = program.process.communicate(data, timeout=TIMEOUT_S)
        return program.process.returncode, out, program.stderr

    return run


def test_what_is_piped_in_comes_out_on_the_other_side(start, relay, connect):
    listener = start("listen", "--once", "--relay", relay)
    ticket = listener.line()
    assert ticket.startswith("peerway1")
    code, out, stderr = connect(ticket, b"hello\n")
    assert (code, out) == (0, b"")
    assert "through the relay" in stderr
    assert listener.end() == (0, b"hello\n")


def test_both_directions_carry_large_binary_data_at_once_and_lose_nothing(start, relay, tmp_path):
    (tmp_path / "one").write_bytes(BIG)
    (tmp_path / "other").write_bytes(BIG[::-1])
    with (tmp_path / "one").open("rb") as one, (tmp_path / "other").open("rb") as other:
        listener = start("listen", "--once", "--relay", relay, stdin=one)
        dialler = start("connect", listener.line(), stdin=other)
        with ThreadPoolExecutor() as pool:
            ends = [pool.submit(listener.end), pool.submit(dialler.end)]
    assert ends[0].result() == (0, BIG[::-1])
    assert ends[1].result() == (0, BIG)


def test_one_who_only_reads_gets_all_though_its_own_direction_ended_at_once(start, relay, connect):
    listener = start("listen", "--once", "--relay", relay, stdin=subprocess.PIPE)
    ticket = listener.line()
    with ThreadPoolExecutor() as pool:
        dialled = pool.submit(connect, ticket)
        listener.process.stdin.write(BIG)
        listener.process.stdin.close()
        listener.process.stdin = None
        assert dialled.result()[:2] == (0, BIG)
    assert listener.end() == (0, b"")


def test_listen_serves_one_after_the_other_until_ctrl_c(start, relay, connect):
    listener = start("listen", "--relay", relay)
    ticket = listener.line()
    assert connect(ticket, b"first\n")[0] == 0
    assert connect(ticket, b"second\n")[0] == 0
    assert listener.end(signal.SIGINT) == (130, b"first\nsecond\n")


def test_ping_is_answered_by_the_node_and_does_not_end_listen_once(start, relay, connect):
    listener = start("listen", "--once", "--relay", relay)
    ticket = listener.line()
    pinger = start("ping", ticket, "-c", "3", "-i", "0.05")
    code, out = pinger.end()
    assert code == 0
    for line in out.decode().splitlines():
        assert re.fullmatch(r"pong via (relay|\S+:\d+) \d+\.\d ms", line)
    assert len(out.splitlines()) == 3
    assert connect(ticket, b"still here\n")[0] == 0
    assert listener.end() == (0, b"still here\n")


def test_one_who_pings_holds_up_nobody(start, relay, connect):
    listener = start("listen", "--relay", relay)
    ticket = listener.line()
    pinger = start("ping", ticket, "-c", "0", "-i", "0.05")
    pinger.line()
    assert connect(ticket, b"through\n")[0] == 0
    assert listener.line() == "through"
    code, _ = pinger.end(signal.SIGINT)
    assert code == 130


def test_with_verbose_ping_tells_why_it_changes_its_path(start, relay):
    listener = start("listen", "--relay", relay)
    pinger = start("-v", "ping", listener.line(), "-c", "5", "-i", "0.2")
    assert pinger.end()[0] == 0
    assert re.search(r"Z info path path_selected remote=\S+:\d+ .*reason=", pinger.stderr)
    assert "peerway1" not in pinger.stderr


def test_with_json_stdout_holds_json_lines_and_nothing_else(start, relay, connect):
    listener = start("--json", "listen", "--once", "--relay", relay, stdin=subprocess.PIPE)
    listening = json.loads(listener.line())
    assert listening["event"] == "listening"
    listener.process.stdin.write(b"answer")
    listener.process.stdin.close()
    listener.process.stdin = None
    with ThreadPoolExecutor() as pool:
        listened = pool.submit(listener.end)
        code, out, _ = connect(listening["ticket"], BIG, "--json")
    assert code == 0
    dialler = [json.loads(line) for line in out.splitlines()]
    code, out = listened.result()
    assert code == 0
    heard = [json.loads(line) for line in out.splitlines()]
    assert payload(heard) == BIG
    assert payload(dialler) == b"answer"
    assert [heard[0]["event"], heard[-1]["event"]] == ["connected", "closed"]
    assert (heard[-1]["received"], heard[-1]["sent"], heard[-1]["error"]) == (len(BIG), 6, None)
    assert {"relay", "direct"} >= {line["kind"] for line in heard if line["event"] == "path"}


def payload(lines):
    return b"".join(base64.b64decode(line["base64"]) for line in lines if line["event"] == "data")


def test_ctrl_c_during_a_transfer_is_130_and_the_other_side_learns_it(start, relay):
    listener = start("listen", "--once", "--relay", relay, stdin=subprocess.PIPE)
    ticket = listener.line()
    with open("/dev/zero", "rb") as endless:
        dialler = start("connect", ticket, stdin=endless)
        assert listener.process.stdout.read(100_000)
        assert dialler.end(signal.SIGINT)[0] == 130
    code, _ = listener.end()
    assert code == 1
    assert "the other side gave up before the end" in listener.stderr


def test_a_reader_that_goes_away_ends_connect_quietly(start, relay):
    with open("/dev/zero", "rb") as endless:
        listener = start("listen", "--relay", relay, stdin=endless)
        dialler = start("-q", "connect", listener.line())
        assert dialler.process.stdout.read(1000)
        dialler.process.stdout.close()
        assert dialler.process.wait(TIMEOUT_S) == 1
        assert dialler.stderr == ""


def test_the_listeners_id_stays_the_same_and_its_key_is_private(start, relay, tmp_path):
    first = start("--json", "listen", "--relay", relay)
    node_id = json.loads(first.line())["node_id"]
    first.end(signal.SIGTERM)
    assert start("id").end() == (0, node_id.encode() + b"\n")
    assert (tmp_path / "home" / "listen.key").stat().st_mode & 0o777 == 0o600


def test_only_who_is_allowed_comes_in_when_tickets_admit_nobody(start, relay, tmp_path):
    friend = tmp_path / "friend.key"
    friend_id = start("id", "--key", str(friend)).end()[1].decode().strip()
    listener = start("listen", "--relay", relay, "--no-accept-ticket", "--allow", friend_id)
    ticket = listener.line()
    dialler = start("connect", ticket, "--key", str(friend), stdin=subprocess.PIPE)
    assert dialler.process.communicate(b"friend\n", timeout=TIMEOUT_S)[0] == b""
    assert listener.line() == "friend"


@pytest.mark.parametrize(
    ("ticket", "message"),
    [
        ("nonsense", "this is not a ticket: a ticket begins with peerway1"),
        ("peerway1", "the ticket is truncated: copy the whole line"),
        ("peerway9aaaa", "the ticket has version 9; this peerway reads version 1"),
    ],
)
def test_a_bad_ticket_is_a_usage_error_that_says_what_is_wrong(start, ticket, message):
    dialler = start("connect", ticket)
    assert dialler.end() == (2, b"")
    assert dialler.stderr == f"peerway: {message}\n"


def test_a_relay_that_is_not_there_is_named(start, relay):
    listener = start("listen", "--relay", relay)
    ticket = Ticket.parse(listener.line())
    dead = str(replace(ticket, relays=("http://127.0.0.1:9",)))
    dialler = start("connect", dead)
    assert dialler.end()[0] == 1
    assert "\npeerway: cannot reach the relay http://127.0.0.1:9" in dialler.stderr
    assert "Traceback" not in dialler.stderr


def test_a_taken_port_is_named_and_the_usual_one_gives_way(start, relay):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        port = str(taken.getsockname()[1])
        listener = start("listen", "--relay", relay, "--port", port)
        assert listener.end()[0] == 1
        assert listener.stderr.startswith(f"peerway: cannot use UDP port {port}: Address already in use")
    listeners = [start("listen", "--relay", relay, home=home) for home in ("one", "two")]
    assert all(listener.line().startswith("peerway1") for listener in listeners)


def test_without_a_relay_it_says_so_and_connects_directly(start, connect):
    listener = start("listen", "--once")
    code, _, stderr = connect(listener.line(), b"near\n")
    assert code == 0
    assert listener.end() == (0, b"near\n")
    assert "no relay: only direct addresses will do" in listener.stderr
    assert "no relay: only direct addresses will do" in stderr


def test_serve_with_its_own_certificate_prints_a_pinned_url_that_stays(start, connect):
    arguments = ("serve", "--host", "127.0.0.1", "--port", "0", "--stun-port", "0")
    server = start(*arguments)
    url = server.line()
    pin = re.fullmatch(r"https://127\.0\.0\.1:\d+\?.*pin=([0-9a-f]{64})", url)[1]
    listener = start("listen", "--once", "--relay", url)
    assert connect(listener.line(), b"over TLS\n")[0] == 0
    assert listener.end() == (0, b"over TLS\n")
    assert server.end(signal.SIGTERM) == (0, b"")
    assert pin in start(*arguments).line()


def test_serve_says_when_it_is_plain_http(start):
    server = start("serve", "--plain", "--host", "127.0.0.1", "--port", "0", "--stun-port", "0")
    assert server.line().startswith("http://127.0.0.1:")
    assert server.end(signal.SIGINT) == (130, b"")
    assert "plain-http" in server.stderr


def test_serve_refuses_what_contradicts_itself(start):
    server = start("serve", "--cert", "a.pem")
    assert server.end() == (2, b"")
    assert "a certificate needs its key" in server.stderr
    server = start("serve", "--plain", "--cert", "a.pem", "--key", "a.key")
    assert server.end() == (2, b"")
    assert "--plain and --cert exclude each other" in server.stderr


def test_serve_reads_its_certificate_anew_at_a_hangup_and_serves_on(start, connect, tmp_path):
    files = (tmp_path / "cert.pem", tmp_path / "key.pem")

    def renew():
        made = self_signed("127.0.0.1")
        for path, content in zip(files, (made.certificate, made.key), strict=True):
            path.write_bytes(content)
        return made.certificate

    old = renew()
    arguments = ("--host", "127.0.0.1", "--port", "0", "--stun-port", "0")
    server = start("-v", "serve", *arguments, "--cert", str(files[0]), "--key", str(files[1]))
    url = server.line()
    address = ("127.0.0.1", urlsplit(url).port)
    assert ssl.get_server_certificate(address).encode() == old
    listener = start("listen", "--once", "--relay", url)
    ticket = listener.line()
    new = renew()
    server.process.send_signal(signal.SIGHUP)
    while ssl.get_server_certificate(address).encode() == old:
        pass
    assert ssl.get_server_certificate(address).encode() == new
    assert "client-disconnected" not in server.stderr
    renewed = replace(Ticket.parse(ticket), relays=(url.partition("?")[0] + "?pin=" + pin_of_pem(new),))
    assert connect(str(renewed), b"after\n")[0] == 0
    assert listener.end() == (0, b"after\n")


def pin_of_pem(certificate):
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.decode())).hexdigest()


def test_an_authority_of_ones_own_is_named_with_a_flag(start, connect, tmp_path):
    own = Authority(tmp_path)
    certificate = str(own.issue())
    address = ("--name", "localhost", "--host", "127.0.0.1", "--port", "0", "--stun-port", "0")
    url = start("serve", *address, "--cert", certificate, "--key", certificate).line()
    assert "pin" not in url
    listener = start("listen", "--once", "--relay", url, "--ca", str(own.file))
    ticket = listener.line()
    code, _, stderr = connect(ticket, b"who are you?\n")
    assert code == 1
    assert "is signed by an authority this system does not know" in stderr
    assert connect(ticket, b"I see\n", "--ca", str(own.file))[0] == 0
    assert listener.end() == (0, b"I see\n")


LOCAL = ("serve", "--host", "127.0.0.1", "--port", "0", "--stun-port", "0")


def test_a_relay_with_a_list_admits_who_is_on_it_and_reads_it_again_when_it_changes(start, connect, tmp_path):
    listed, friend = tmp_path / "allowed", tmp_path / "friend.key"
    ids = [start("id").end()[1].decode(), start("id", "--key", str(friend)).end()[1].decode()]
    listed.write_text(ids[0])
    url = start(*LOCAL, "--allow", str(listed)).line()
    listener = start("listen", "--once", "--relay", url)
    ticket = listener.line()
    code, _, stderr = connect(ticket, b"no\n", "--relay", url, "--key", str(friend))
    assert code == 1
    assert f"have whoever runs it add {ids[1].strip()} to its --allow file" in stderr
    listed.write_text("".join(ids))
    while connect(ticket, b"yes\n", "--relay", url, "--key", str(friend))[0] != 0:
        pass
    assert listener.end() == (0, b"yes\n")


def test_a_relay_with_a_token_admits_who_shows_it_and_no_log_has_it(start, tmp_path):
    token = "correct-horse-battery"
    path = tmp_path / "token"
    path.write_text(token + "\n")
    path.chmod(0o600)
    server = start("-vv", *LOCAL, "--token-file", str(path))
    url = server.line()
    listener = start("-vv", "listen", "--once", "--relay", url, "--token-file", str(path))
    dialler = ("-vv", "connect", listener.line(), "--relay", url, "--token-file", str(path))
    program = start(*dialler, stdin=subprocess.PIPE)
    program.process.communicate(b"hello\n", timeout=TIMEOUT_S)
    assert listener.end() == (0, b"hello\n")
    stranger = start("-vv", "connect", *dialler[2:5], stdin=subprocess.PIPE)
    stranger.process.communicate(b"hello\n", timeout=TIMEOUT_S)
    assert "this relay admits only those who show its token" in stranger.stderr
    for each in (server, listener, program, stranger):
        assert "relay" in each.stderr
        assert token not in each.stderr


@pytest.mark.parametrize(("flag", "what"), [("--allow", "list of node ids"), ("--token-file", "token file")])
def test_a_relay_does_not_start_without_the_file_that_says_who_gets_in(start, tmp_path, flag, what):
    server = start(*LOCAL, flag, str(tmp_path / "none"))
    assert server.end() == (1, b"")
    assert server.stderr == f"peerway: cannot read the {what} {tmp_path}/none: No such file or directory\n"


def test_serve_tells_its_metrics_where_it_was_told_to(start):
    server = start("--json", *LOCAL, "--metrics", "127.0.0.1:0")
    told = json.loads(server.line())
    with urlopen(f"http://{told['metrics']}/metrics", timeout=TIMEOUT_S) as answer:
        assert b"\npeerway_relay_clients 0.0\n" in answer.read()
    assert server.end(signal.SIGTERM)[0] == 0
    without = start("--json", *LOCAL)
    assert json.loads(without.line())["metrics"] is None


class Transfer:
    """Bytes on their way from one node to another, and what has arrived of them."""

    SIZE = 12_000_000

    def __init__(self):
        self.sent, self.received = hashlib.sha256(), hashlib.sha256()
        self.arrived = 0
        self.a_quarter_arrived = asyncio.Event()

    async def send(self, connection):
        _, writer = await connection.open_stream()
        for number in range(self.SIZE // 10_000):
            chunk = number.to_bytes(8, "big") * 1250
            self.sent.update(chunk)
            writer.write(chunk)
            await writer.drain()
        writer.close()

    async def receive(self, node):
        connection = await anext(node)
        reader, _ = await connection.accept_stream()
        while data := await reader.read(1 << 16):
            self.received.update(data)
            self.arrived += len(data)
            if self.arrived > self.SIZE // 4:
                self.a_quarter_arrived.set()


def test_a_transfer_goes_on_when_another_serve_takes_over_the_port(start, monkeypatch):
    monkeypatch.setattr(UdpSockets, "send", lambda sockets, transmit: None)  # nothing but the relay
    arguments = ("serve", "--host", "127.0.0.1", "--stun-port", "0", "--port")

    async def main():
        first = start("-v", *arguments, "0")
        url = await asyncio.to_thread(first.line)
        transfer = Transfer()
        async with Node(relays=[url]) as listener, Node(relays=[url]) as dialler:
            await listener.wait_relay(TIMEOUT_S)
            receiving = asyncio.create_task(transfer.receive(listener))
            connection = await dialler.connect(listener.ticket())
            sending = asyncio.create_task(transfer.send(connection))
            await transfer.a_quarter_arrived.wait()
            assert (await asyncio.to_thread(first.end, signal.SIGTERM))[0] == 0
            assert transfer.arrived < transfer.SIZE
            assert "aborting" not in first.stderr
            second = start(*arguments, str(urlsplit(url).port))
            assert (await asyncio.to_thread(second.line)).partition("?")[0] == url.partition("?")[0]
            await asyncio.gather(sending, receiving)
            assert connection.path.kind == "relay"
        assert transfer.arrived == transfer.SIZE
        assert transfer.received.digest() == transfer.sent.digest()
        assert second.end(signal.SIGTERM)[0] == 0

    asyncio.run(asyncio.wait_for(main(), TIMEOUT_S))


def test_netcheck_believes_an_authority_that_is_named(start, tmp_path):
    own = Authority(tmp_path)
    certificate = str(own.issue())
    url = start(*LOCAL, "--name", "localhost", "--cert", certificate, "--key", certificate).line()
    for flags, error in ((), "authority this system does not know"), (("--ca", str(own.file)), None):
        (line,) = start("--json", "netcheck", "--relay", url, *flags).end()[1].splitlines()
        (relay,) = json.loads(line)["relays"]
        assert relay["error"] is None if error is None else error in relay["error"]
