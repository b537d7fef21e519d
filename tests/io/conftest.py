"""Runs a coroutine under each event loop and sees that nothing is left behind."""

import asyncio
import os
from pathlib import Path

import pytest
from tests.authority import authority

__all__ = ["authority"]

LOOPS = {"asyncio": asyncio.new_event_loop}
try:
    import uvloop
except ImportError:  # not on Windows
    pass
else:
    LOOPS["uvloop"] = uvloop.new_event_loop


def open_files():
    """What this process holds open, by descriptor; empty where that cannot be told."""
    folder = Path("/proc/self/fd")
    found = {}
    for entry in folder.iterdir() if folder.exists() else ():
        try:
            found[int(entry.name)] = os.readlink(entry)
        except OSError:
            continue
    # libuv keeps one spare descriptor for when a listening socket runs out of them.
    return {fd: name for fd, name in found.items() if name != "/dev/null"}


@pytest.fixture(params=list(LOOPS))
def run(request):
    """`run(main())`: to its end, on a loop of its own; fails when files or tasks are left."""

    async def watched(main):
        before = open_files()
        result = await asyncio.wait_for(main, 30)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for _ in range(5):  # transports free their sockets an iteration after they closed
            await asyncio.sleep(0)
        assert not [task for task in others if not task.done()]
        assert {fd: name for fd, name in open_files().items() if before.get(fd) != name} == {}
        return result

    def run_once(main):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(watched(main))

    return run_once
