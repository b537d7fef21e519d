import asyncio
import sys

import uvloop

from peerway.io.loop import new_busy_loop


def test_who_serves_many_does_so_on_uvloop():
    loop = new_busy_loop()
    assert isinstance(loop, uvloop.Loop)
    loop.close()


def test_without_uvloop_asyncio_will_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with asyncio.Runner(loop_factory=new_busy_loop) as runner:
        assert not isinstance(runner.get_loop(), uvloop.Loop)
