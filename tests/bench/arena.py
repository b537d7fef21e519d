"""Where peers are measured: two lab hosts behind port-restricted NATs, an end of a peer on each.

Whoever can finds its own way, by relay and STUN server. For the others, who cannot, the listener's
router forwards one port, so that the packets of all cross the same routers and NATs.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import sys
from collections.abc import AsyncIterator
from typing import TypeVar

import msgspec
from tests.bench.ends.task import PORT, Ready, Task, Word, heard

from peerway.lab.laboratory import LabError, Laboratory
from peerway.lab.layouts import pair
from peerway.lab.meeting import Meeting
from peerway.lab.orders import Served
from peerway.lab.topology import SERVER

LEFT, RIGHT = "left", "right"
ROUTERS = "eim-apdf"
LOOK_EVERY_S = 0.1  # at what an end printed: seldom, for looking costs the processor something, too
START_PATIENCE_S = 20.0

Answer = TypeVar("Answer", bound=Word)


class EndFailed(Exception):
    """An end ended, or did not say what it should; with its output."""


class Arena:
    """The lab, for as long as `arena()` lasts."""

    def __init__(self, lab: Laboratory, served: Served, loop: str) -> None:
        self._lab = lab
        self._served = served
        self._loop = loop
        self._numbers = itertools.count(1)

    @contextlib.asynccontextmanager
    async def running(
        self, peer: str, seconds: float, *, connections: int = 1, streams_a_second: int = 0
    ) -> AsyncIterator[tuple[str, str]]:
        """Both ends of a peer, at work; the names of listener and dialler, for `words`."""
        job = Task(
            seconds,
            self._lab.topology.public_ip(RIGHT),
            (self._served.url,),
            self._served.stun,
            connections=connections,
            streams_a_second=streams_a_second,
            loop=self._loop,
        )
        number = next(self._numbers)
        listener, dialler = f"{peer}-{number}-listens", f"{peer}-{number}-dials"
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack, listener, RIGHT, peer, job)
            (ready,) = await self.words(listener, Ready, 1, START_PATIENCE_S)
            await self._start(stack, dialler, LEFT, peer, msgspec.structs.replace(job, to=ready.at))
            yield listener, dialler

    async def _start(
        self, stack: contextlib.AsyncExitStack, name: str, host: str, peer: str, job: Task
    ) -> None:
        program = (sys.executable, "-m", f"tests.bench.ends.{peer}", msgspec.json.encode(job).decode())
        await self._lab.start(name, host, *program)
        stack.push_async_callback(self._end, name)

    async def _end(self, name: str) -> None:
        with contextlib.suppress(LabError):  # when it has ended by itself
            await self._lab.stop(name, signal.SIGKILL)

    async def words(self, end: str, kind: type[Answer], count: int, patience_s: float) -> list[Answer]:
        """The first `count` words of a kind that an end says; `EndFailed` when they do not come in time."""
        try:
            async with asyncio.timeout(patience_s):
                while True:
                    text = await self._lab.log(end)
                    said = [word for word in map(heard, text.splitlines()) if isinstance(word, kind)]
                    if len(said) >= count:
                        return said[:count]
                    if "Traceback" in text:
                        raise EndFailed(f"{end} failed:\n{text}")
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            text = await self._lab.log(end)
            raise EndFailed(f"{end} did not say {kind.__name__} in {patience_s} s:\n{text}") from None


@contextlib.asynccontextmanager
async def arena(loop: str = "asyncio") -> AsyncIterator[Arena]:
    """A lab with relay, STUN server and the forwarded port; ends run on that event loop."""
    topology = pair(ROUTERS, ROUTERS)
    async with Laboratory(topology) as lab:
        await lab.start_workers(SERVER)
        served = await Meeting(lab).serve()
        (router,) = topology.routers_before(RIGHT)
        host = topology.machines[RIGHT].devices[0].ip()
        rule = (
            f'add rule ip nat pre iifname "wan" meta l4proto {{ tcp, udp }} th dport {PORT} dnat to {host}\n'
        )
        await lab.run(router, "nft", "-f", "-", input=rule)
        yield Arena(lab, served, loop)
