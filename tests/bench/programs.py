"""Programs under test, each held to one processor, and what they use of it. Linux only."""

import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peerway.server.certificate import self_signed

SERVER_CPU = 0
LOAD_CPU = (os.cpu_count() or 1) - 1  # of two processors the other one
START_LIMIT_S = 10.0
STOP_LIMIT_S = 20.0
HOST = "127.0.0.1"


class Program:
    """A process that runs. `cpu_seconds` is what it has used so far, in all threads."""

    def __init__(self, process):
        self.pid = process.pid
        self._process = process

    def cpu_seconds(self):
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9

    def resident_bytes(self):
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * resource.getpagesize()

    def tell(self, order):
        """Give it a line of JSON."""
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self):
        """The next line that it prints, JSON or not."""
        line = self._process.stdout.readline().decode().strip()
        assert line, f"{self._process.args[0]} ended without a word"
        return json.loads(line) if line.startswith("{") else line


@contextlib.contextmanager
def running(*command, cpu=SERVER_CPU, environment=None):
    """Run a program on one processor until the block ends."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    process = subprocess.Popen(
        ("taskset", "--cpu-list", str(cpu), *command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | (environment or {}),
    )
    try:
        yield Program(process)
    finally:
        process.terminate()
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@contextlib.contextmanager
def peerway_serve(*options):
    """`peerway serve` on loopback; the program, and the URL that it prints."""
    with (
        tempfile.TemporaryDirectory() as home,
        running(
            *(sys.executable, "-m", "peerway", "serve", "--host", HOST, "--port", "0", "--stun-port", "0"),
            *options,
            environment={"PEERWAY_HOME": home},
        ) as program,
    ):
        yield program, program.hear()


@contextlib.contextmanager
def coturn():
    """coturn as a STUN server alone, with one thread for its clients; the program and its port."""
    port = _free_port(socket.SOCK_DGRAM)
    with (
        tempfile.TemporaryDirectory() as folder,
        running(
            *("turnserver", "-n", "--stun-only", "-m", "1", "-L", HOST, "-p", str(port)),
            *("--no-tls", "--no-dtls", "--no-tcp", "--no-cli", "--no-rfc5780"),
            *("--no-stun-backward-compatibility", "--response-origin-only-with-rfc5780"),
            *("--log-file", "/dev/null", "--pidfile", f"{folder}/pid"),
        ) as program,
    ):
        _until(lambda: _answers_stun(port), "coturn answers")
        yield program, port


@contextlib.contextmanager
def derper(tls):
    """Tailscale's relay, with a certificate made for it; the program and its URL.

    Without TLS it has the port that its developers' mode always has.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ["-c", f"{folder}/derper.json", "-stun=false", "-http-port=-1", "-hostname", HOST]
        if tls:
            made, port = self_signed(HOST), _free_port(socket.SOCK_STREAM)
            Path(folder, f"{HOST}.crt").write_bytes(made.certificate)
            Path(folder, f"{HOST}.key").write_bytes(made.key)
            options += ["-a", f":{port}", "-certmode", "manual", "-certdir", folder]
        else:
            options, port = [*options, "-dev"], 3340
        with running("derper", *options, environment={"GOMAXPROCS": "1"}) as program:
            _until(lambda: _accepts(port), "derper listens")
            yield program, f"{'https' if tls else 'http'}://{HOST}:{port}"


def is_here(command):
    """Whether there is such a program to run."""
    return shutil.which(command) is not None


def _until(condition, what):
    limit = time.monotonic() + START_LIMIT_S
    while not condition():
        assert time.monotonic() < limit, f"waited in vain: {what}"
        time.sleep(0.05)


def _free_port(kind):
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((HOST, 0))
        return sock.getsockname()[1]


def _accepts(port):
    try:
        socket.create_connection((HOST, port)).close()
    except OSError:
        return False
    return True


def _answers_stun(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.1)
        sock.connect((HOST, port))
        try:
            sock.send(bytes.fromhex("00010000 2112a442") + bytes(12))
            return bool(sock.recv(1500))
        except OSError:
            return False
