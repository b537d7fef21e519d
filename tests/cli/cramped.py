"""Surroundings in which little works: `unshare -r -m -n python -m tests.cli.cramped NAME FOLDER`.

Prints, as JSON lines, how each command ended: exit code, stdout, stderr.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from peerway.core.identity import SecretKey
from peerway.core.ticket import Ticket

TIMEOUT_S = 60
NOBODY = Ticket(SecretKey(b"\x01" * 32).node_id, ("http://relay.example:3340",), (), b"s" * 16)


def command(*arguments):
    return [sys.executable, "-m", "peerway", *map(str, arguments)]


def environment(home):
    return {**os.environ, "PEERWAY_HOME": str(home), "PEERWAY_PORTMAP": "no"}


def run(home, *arguments, stdin=""):
    """Run a command to its end and report it."""
    ended = subprocess.run(
        command(*arguments),
        env=environment(home),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    print(json.dumps([ended.returncode, ended.stdout, ended.stderr]), flush=True)


@contextlib.contextmanager
def running(home, *arguments):
    """A command that runs meanwhile; gives its first line of output and the process."""
    process = subprocess.Popen(command(*arguments), env=environment(home), stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT_S)


def full_disk(folder):
    """A file system of one page, which is taken: no key can be made. Then it is free again."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", disk], check=True)
    (disk / "filler").write_bytes(bytes(4096))
    (disk / "home").mkdir(mode=0o700)
    serve = ("serve", "--host", "127.0.0.1", "--port", "0", "--stun-port", "0")
    run(disk / "home", "id")
    run(disk / "home", "listen", "--relay", "http://127.0.0.1:9")
    run(disk / "home", *serve)
    print(json.dumps(sorted(path.name for path in (disk / "home").iterdir())))
    (disk / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,size=64k", disk], check=True)
    run(disk / "home", "id")
    with running(disk / "home", *serve) as (url, _):
        print(json.dumps(url))


def silent_names(folder):
    """A name server that takes every question and answers none, and a resolver that is very patient."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    (folder / "resolv.conf").write_text("nameserver 127.0.0.53\noptions timeout:30 attempts:5\n")
    (folder / "nsswitch.conf").write_text("hosts: files dns\n")
    for name in ("resolv.conf", "nsswitch.conf"):
        subprocess.run(["mount", "--bind", folder / name, Path("/etc", name).resolve()], check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.53", 53))
        run(folder, "connect", NOBODY)
        serve = ("serve", "--plain", "--host", "127.0.0.1", "--port", "0", "--stun-port", "0")
        with (
            running(folder / "relay", *serve) as (url, _),
            running(folder / "right", "listen", "--once", "--relay", url) as (ticket, listener),
        ):
            both = replace(Ticket.parse(ticket), relays=(NOBODY.relays[0], url))
            run(folder / "left", "connect", both, stdin="hello")
            print(json.dumps(listener.communicate(timeout=TIMEOUT_S)[0]))
        silent.setblocking(False)
        print(json.dumps(b"relay\x07example" in silent.recv(512)))


if __name__ == "__main__":
    {"full_disk": full_disk, "silent_names": silent_names}[sys.argv[1]](Path(sys.argv[2]))
