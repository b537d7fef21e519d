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
from peerway.lab.kinds import KINDS
from peerway.lab.laboratory import LabError, Laboratory, LabUnavailable, require_lab
from peerway.lab.messages import Done
from peerway.lab.service import Service
from peerway.lab.sockets import OpenSocket, Reflect
from peerway.lab.topology import SERVER, SERVER_IPS, pair

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


@pytest.mark.parametrize("name", list(KINDS))
def test_hosts_of_every_kind_reach_the_server(name):
    async def scenario():
        async with Laboratory(pair(name, name)) as lab:
            for host in lab.topology.hosts:
                await lab.run(host, "ping", "-c1", "-W2", SERVER_IPS[1])

    asyncio.run(scenario())


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
    (sys.executable, "-m", "http.server", "8000"),
    files=(("greeting", "good day"),),
    rules="""
table ip greeter {
 chain pre { type nat hook prerouting priority dstnat; iifname "lan" tcp dport 80 redirect to :8000
 }
}
""",
)
FETCH = """
import time, urllib.request
for _ in range(100):
    try:
        print(urllib.request.urlopen("http://10.1.1.1/greeting", timeout=2).read().decode(), end="")
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
            return fetched, "GET /greeting" in await lab.log(name)

    assert asyncio.run(scenario()) == ("good day", True)


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
