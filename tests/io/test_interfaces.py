import asyncio
import ipaddress
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

from peerway.io import interfaces
from peerway.io.interfaces import interface_addresses, watch_interfaces


def test_addresses_are_sorted_distinct_and_useful():
    found = interface_addresses()
    assert list(found) == sorted(set(found))
    for entry in found:
        ip = ipaddress.ip_address(entry.ip)
        assert str(ip) == entry.ip
        assert not ip.is_loopback
        assert not (ip.version == 6 and ip.is_link_local)
        assert 0 <= entry.prefix_length <= ip.max_prefixlen


def test_a_watch_says_nothing_while_nothing_changes(run):
    async def main():
        changes = []
        watch = watch_interfaces(changes.append)
        assert watch.addresses == interface_addresses()
        await asyncio.sleep(0)
        watch.close()
        watch.close()
        assert changes == []

    run(main())


@pytest.mark.parametrize("forbidden", ["netlink", "readers"])
def test_without_netlink_it_looks_every_few_seconds(run, monkeypatch, forbidden):
    async def main():
        class Loop:
            def __getattr__(self, name):
                if name == "add_reader" and forbidden == "readers":
                    raise NotImplementedError
                return getattr(loop, name)

        def no_netlink():
            raise PermissionError

        loop = asyncio.get_running_loop()
        if forbidden == "netlink":
            monkeypatch.setattr(interfaces, "_open_netlink", no_netlink)
        pictures = [((), ("before",)), ((), ("before",)), ((), ("after",))]
        monkeypatch.setattr(interfaces, "POLL_S", 0.001)
        monkeypatch.setattr(
            interfaces, "_picture", lambda: pictures.pop(0) if len(pictures) > 1 else pictures[0]
        )
        changed = asyncio.Event()
        watch = watch_interfaces(lambda addresses: changed.set(), Loop())
        assert not watch.is_told
        await asyncio.wait_for(changed.wait(), 5)
        watch.close()

    run(main())


SCENARIO = """
    import asyncio, subprocess, sys
    from peerway.io import interfaces

    interfaces.SETTLE_S = 0.02

    UP = (
        "link add name lan type veth peer name far",
        "link set far up",
        "addr add 192.0.2.7/24 dev lan",
        "link set lan up",
    )

    def ip(command):
        subprocess.run(["ip", *command.split()], check=True)

    async def main():
        told = asyncio.Queue()
        watch = interfaces.watch_interfaces(told.put_nowait)
        assert watch.is_told and watch.addresses == (), watch.addresses

        async def after(*commands):
            for command in commands:
                ip(command)
            addresses = await asyncio.wait_for(told.get(), 5)
            return [f"{a.interface} {a.ip}/{a.prefix_length} {a.gateway}".rstrip() for a in addresses]

        print(await after(*UP))
        print(await after("addr add 2001:db8::7/64 dev lan nodad"))
        await after("addr add 2001:db8::8/64 dev lan nodad")
        print("deprecated", await after("addr change 2001:db8::8/64 dev lan preferred_lft 0"))
        print("route", await after("route add default via 192.0.2.1"))
        print("route", await after("-6 route add default via 2001:db8::1"))
        print("down", await after("link set lan down"))
        watch.close()

    if sys.argv[1] == "uvloop":
        import uvloop
        uvloop.run(main())
    else:
        asyncio.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_changes_of_addresses_routes_and_links_are_told(loop):
    isolate = ["unshare", "--map-root-user", "--net"]
    if sys.platform != "linux" or shutil.which("ip") is None:
        pytest.skip("needs Linux and the ip command")
    if subprocess.run([*isolate, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system forbids network namespaces")
    command = [*isolate, sys.executable, "-c", textwrap.dedent(SCENARIO), loop]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=os.environ)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "['lan 192.0.2.7/24']",
        "['lan 192.0.2.7/24', 'lan 2001:db8::7/64']",
        "deprecated ['lan 192.0.2.7/24', 'lan 2001:db8::7/64']",
        "route ['lan 192.0.2.7/24 192.0.2.1', 'lan 2001:db8::7/64']",
        "route ['lan 192.0.2.7/24 192.0.2.1', 'lan 2001:db8::7/64']",
        "down []",
    ]
