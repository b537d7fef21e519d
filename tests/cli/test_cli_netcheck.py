"""`peerway netcheck` as users run it, on loopback, where there is no NAT."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from peerway.cli.app import run
from peerway.server import Server

PROMISED = {
    "udp_v4",
    "udp_v6",
    "public_v4",
    "public_v6",
    "mapping_v4",
    "mapping_v6",
    "filtering_v4",
    "allocation",
    "hairpin",
    "portmap",
    "gateway",
    "double_nat",
    "cgnat",
    "captive_portal",
    "relays",
    "home_relay",
    "verdict",
}


@pytest.fixture(scope="module")
def relay():
    """The URL of a server with two addresses, on a thread of its own."""
    ready, stop, urls = threading.Event(), asyncio.Event(), []

    async def serve():
        async with Server(host=("127.0.0.1", "127.0.0.2"), relay_port=0, stun_port=0) as server:
            urls.extend((server.url, asyncio.get_running_loop()))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait(10)
    yield urls[0]
    urls[1].call_soon_threadsafe(stop.set)
    thread.join(10)


@pytest.fixture
def netcheck(capfd, monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("PEERWAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PEERWAY_HOME", str(tmp_path))

    def call(*arguments):
        code = run(["netcheck", *arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def test_people_get_facts_a_picture_and_a_verdict(netcheck, relay):
    code, out, err = netcheck("--relay", relay)
    assert code == 0
    assert "mapping IPv4    none: the address is our own\n" in out
    assert "| this host" in out
    assert out.endswith("Open: a public address, and anyone may send to it.\nDirect: with everyone.\n")
    assert "peerway: UDP over IPv4: yes, 127.0.0.1" in err


def test_programs_get_one_line_of_json(netcheck, relay):
    code, out, err = netcheck("--relay", relay, "--json", "-q")
    told = json.loads(out)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert told["event"] == "netcheck"
    assert set(told) >= PROMISED
    assert (told["udp_v4"], told["mapping_v4"], told["captive_portal"]) == (True, "none", False)
    assert told["relays"][0]["url"] == told["home_relay"] == relay
    assert told["relays"][0]["latency_ms"] > 0


def test_without_anybody_to_ask_it_says_what_to_give(netcheck):
    code, out, err = netcheck()
    assert (code, out) == (2, "")
    assert "no server to ask: give a relay (--relay URL) or a STUN server (--stun HOST:PORT)" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--stun", "a:b:c:"), "'a:b:c:' is not a STUN server"),
        (("--relay", "ftp://relay"), "not a relay URL"),
        (("--every", "0"), "--every"),
    ],
)
def test_what_makes_no_sense_is_refused(netcheck, arguments, message):
    code, _, err = netcheck(*arguments)
    assert code == 2
    assert message in err


def test_a_server_that_does_not_answer_is_named_and_the_check_is_not_as_wanted(netcheck):
    code, out, _ = netcheck("--relay", "http://127.0.0.1:9?stun=9")
    assert code == 1
    assert "no answer       127.0.0.1:9: no answer to 5 requests in 1.8 s\n" in out
    assert "refused the connection" in out


def test_it_looks_again_until_ctrl_c(relay, tmp_path):
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PEERWAY_")}
    command = [sys.executable, "-m", "peerway", "netcheck", "--relay", relay, "--every", "1", "-q", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**environment, "PEERWAY_HOME": str(tmp_path)}
    ) as program:
        first, again = (json.loads(program.stdout.readline()) for _ in range(2))
        program.send_signal(signal.SIGINT)
        assert program.wait(10) == 130
    assert (first["verdict"], first["mapping_v4"]) == (again["verdict"], again["mapping_v4"])
