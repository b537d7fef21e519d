"""The lab itself: quick to build, gone without a trace, plain about what it lacks."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peerway.lab import laboratory
from peerway.lab.building import build
from peerway.lab.laboratory import LabError, Laboratory, LabUnavailable, require_lab
from peerway.lab.layouts import gallery, pair
from peerway.lab.messages import Done
from peerway.lab.places import PLACES
from peerway.lab.plan import Host, Line, Plan, in_a_row
from peerway.lab.service import Service
from peerway.lab.sockets import OpenSocket, Reflect
from peerway.lab.topology import SERVER, SERVER_IPS, SERVER_IPS_V6

pytestmark = pytest.mark.lab


def descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid, *(inner for child in children for inner in descendants(child))]


def namespaces(pids: list[int]) -> set[str]:
    return {os.readlink(f"/proc/{pid}/ns/{kind}") for pid in pids for kind in ("net", "mnt", "pid")}


def started_at(process: Path) -> float:
    ticks = int(process.joinpath("stat").read_text().rpartition(")")[2].split()[19])
    return ticks / os.sysconf("SC_CLK_TCK")


def still_held(namespaces: set[str], killed_at: float) -> set[str]:
    """Those of the namespaces that a process from before the kill is in: the kernel uses numbers again."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if started_at(process) <= killed_at:
                found |= {os.readlink(process / "ns" / kind) for kind in ("net", "mnt", "pid")}
        except OSError:
            continue
    return found & namespaces


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}/cwd").is_symlink()]


def wait_until_gone(pids: list[int], theirs: set[str]) -> None:
    killed_at = time.clock_gettime(time.CLOCK_BOOTTIME)
    until = time.monotonic() + 10
    while alive(pids) or still_held(theirs, killed_at):
        assert time.monotonic() < until, (alive(pids), still_held(theirs, killed_at))
        time.sleep(0.02)


def outside() -> tuple[str, str, str]:
    return (
        Path("/proc/self/mounts").read_text(),
        subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout,
        subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout,
    )


@pytest.mark.parametrize("victim", ["holder", "supervisor"])
def test_kill_9_leaves_no_namespace_process_mount_or_device_behind(victim):
    async def scenario():
        before = outside()
        async with Laboratory(pair("eim-apdf", "edm")) as lab:
            await lab.order(SERVER, Reflect(SERVER_IPS), Done)
            await lab.order("left", OpenSocket("s"), Done)
            await lab.start("sleeper", "right", "sleep", "1000")
            pids = descendants(lab.pid)
            theirs = namespaces(pids) - namespaces([os.getpid()])
            assert len(pids) == 5  # unshare, the supervisor, two workers, the sleeper
            assert len(theirs) >= 5  # of the lab: net, mnt, pid; of its machines: three more net
            os.kill(pids[0] if victim == "holder" else pids[1], signal.SIGKILL)
            await asyncio.to_thread(wait_until_gone, pids[1:], theirs)
        assert alive(pids) == []
        assert outside() == before

    asyncio.run(scenario())


def test_an_order_to_a_lab_that_was_killed_says_so():
    async def scenario():
        async with Laboratory(pair("open", "open")) as lab:
            os.kill(lab.pid, signal.SIGKILL)
            with pytest.raises(LabError, match="ended"):
                await lab.order("left", OpenSocket("s"), Done)

    asyncio.run(scenario())


def test_leaving_the_lab_ends_every_process():
    async def scenario():
        async with Laboratory(pair("open", "open")) as lab:
            await lab.start("sleeper", "right", "sleep", "1000")
            pids = descendants(lab.pid)
        return alive(pids)

    assert asyncio.run(scenario()) == []


def test_two_labs_do_not_meet():
    async def scenario():
        async with Laboratory(pair("open", "open")) as one, Laboratory(pair("open", "open")) as other:
            await one.order(SERVER, Reflect(SERVER_IPS), Done)
            listening = [await lab.run(SERVER, "ss", "-Hlun", "sport = 7") for lab in (one, other)]
            return [len(text.splitlines()) for text in listening]

    assert asyncio.run(scenario()) == [2, 0]


def test_hosts_at_every_place_reach_the_server_by_every_protocol_they_speak():
    async def scenario():
        async with Laboratory(gallery(list(PLACES), copies=2)) as lab:
            servers = {4: SERVER_IPS[1], 6: SERVER_IPS_V6[1]}
            pings = [
                lab.run(host, "ping", "-c1", "-W2", servers[family])
                for place in PLACES.values()
                for host in (f"{place.name}-1", f"{place.name}-2")
                for family in place.families
            ]
            await asyncio.gather(*pings)

    asyncio.run(scenario())


def test_every_machine_knows_the_server_by_name_and_nothing_outside_changes():
    async def scenario():
        async with Laboratory(pair("dual-stack", "open")) as lab:
            inside = await lab.run("left", "getent", "ahosts", "relay.lab")
            return {line.split()[0] for line in inside.splitlines()}

    before = Path("/etc/hosts").read_text()
    assert asyncio.run(scenario()) == {"13.0.0.10", "14.0.0.10", "2a13::10", "2a14::10"}
    assert Path("/etc/hosts").read_text() == before


def test_a_killed_worker_is_replaced_at_the_next_order():
    async def scenario():
        async with Laboratory(pair("open", "open")) as lab:
            await lab.order("left", OpenSocket("s", 4000), Done)
            await lab.kill_worker("left")
            await lab.order("left", OpenSocket("s", 4000), Done)

    asyncio.run(scenario())


def test_a_failed_order_brings_the_workers_words():
    async def scenario():
        async with Laboratory(pair("open", "open")) as lab:
            await lab.order("left", OpenSocket("one", 4000), Done)
            with pytest.raises(LabError, match=r"left: OSError: .*in use"):
                await lab.order("left", OpenSocket("two", 4000), Done)

    asyncio.run(scenario())


def test_a_failed_command_brings_its_words():
    async def scenario():
        async with Laboratory(pair("open", "open")) as lab:
            with pytest.raises(LabError, match="does not exist"):
                await lab.run("left", "ip", "link", "show", "eth7")

    asyncio.run(scenario())


GREETER = Service(
    "greeter",
    (sys.executable, "-u", "greet.py"),
    files=(
        ("greeting", "good day"),
        (
            "greet.py",
            """
import socket
listener = socket.create_server(("10.1.1.1", 8000))
print("greeting at", listener.getsockname())
while True:
    connection, _ = listener.accept()
    connection.sendall(open("greeting", "rb").read())
    connection.close()
""",
        ),
    ),
    rules="""
table ip greeter {
 chain pre { type nat hook prerouting priority dstnat; iifname "lan" tcp dport 80 redirect to :8000
 }
}
""",
)
FETCH = """
import socket, time
for _ in range(400):
    try:
        print(socket.create_connection(("10.1.1.1", 80)).recv(100).decode(), end="")
        break
    except OSError:
        time.sleep(0.05)
"""


def test_a_router_can_run_a_service_with_its_files_and_rules():
    async def scenario():
        async with Laboratory(pair("eim-apdf", "open")) as lab:
            name = await lab.provide("left-router", GREETER)
            fetched = await lab.run("left", sys.executable, "-c", FETCH)
            await lab.stop(name)
            return fetched, await lab.log(name)

    assert asyncio.run(scenario()) == ("good day", "greeting at ('10.1.1.1', 8000)\n")


def test_a_service_in_the_plan_runs_from_the_start():
    async def scenario():
        row = in_a_row("left", ["eim-apdf"], [Host("left")], services=(GREETER,))
        async with Laboratory(build(Plan("greeted", "A router that greets.", (Line("left", row),)))) as lab:
            return await lab.run("left", sys.executable, "-c", FETCH)

    assert asyncio.run(scenario()) == "good day"


def test_a_service_whose_program_is_missing_names_its_package():
    async def scenario():
        async with Laboratory(pair("open", "open")) as lab:
            with pytest.raises(LabUnavailable, match="greeter needs greetd-9: apt install greetd"):
                await lab.provide("left-router", Service("greeter", ("greetd-9",), "greetd"))

    asyncio.run(scenario())


def test_a_missing_tool_is_named_with_its_package(monkeypatch, tmp_path):
    tmp_path.joinpath("ip").symlink_to(shutil.which("ip", path=laboratory.search_path()))
    monkeypatch.setattr(laboratory, "search_path", lambda: str(tmp_path))
    with pytest.raises(LabUnavailable) as caught:
        require_lab()
    assert str(caught.value) == (
        "the lab needs unshare, mount, nft, conntrack: "
        "on Debian or Ubuntu, apt install util-linux mount nftables conntrack"
    )


def test_a_refusal_of_namespaces_is_explained(monkeypatch, tmp_path):
    for tool in laboratory.PACKAGES:
        tmp_path.joinpath(tool).write_text(
            "#!/bin/sh\necho unshare failed: Operation not permitted >&2\nexit 1\n"
        )
        tmp_path.joinpath(tool).chmod(0o755)
    monkeypatch.setattr(laboratory, "search_path", lambda: str(tmp_path))
    with pytest.raises(LabUnavailable, match="Operation not permitted"):
        require_lab()
