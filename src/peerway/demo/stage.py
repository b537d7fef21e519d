"""Where the demonstration runs: in a lab of real NATs, or, where there can be none, on loopback.

A stage starts a server and the two ends, and hands on what the ends report.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Protocol, Self

import msgspec
from msgspec import structs

from peerway.core.machine import PeerwayError
from peerway.demo.end import Task
from peerway.demo.report import Done, Failed, Happened, Moved, Progress, Ready, Report, parse
from peerway.io import clock
from peerway.lab import KINDS, Laboratory
from peerway.lab.layouts import pair
from peerway.lab.meeting import Meeting
from peerway.lab.topology import SERVER, SERVER_IPS, Topology
from peerway.server import Server

LEFT, RIGHT = "left", "right"
NETWORK = "network"
ROUTERS = "eim-apdf"
POLL_S = 0.1
LAST_WORDS = 20  # lines of an end's output that go into the error when it fails
ENDED = "--- ended ---"
LOOPBACK = "127.0.0.1"
CUT_PERCENT = 30  # of the transfer, after which the direct path is cut
MENDED_AFTER_S = 1.5  # of travelling through the relay
STALL_S = 20.0  # without a word from either end
END = (sys.executable, "-m", "peerway.demo.end")


class StageError(PeerwayError):
    """The demonstration broke down; the message says where."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What one end, LEFT or RIGHT, reported, or what befell the NETWORK."""

    end: str
    report: Report


@dataclass(frozen=True, slots=True)
class Scene:
    """Who stands where. Without NATs (`left_nat` and `right_nat` empty) it is one machine."""

    explanation: str
    left: str
    left_nat: str
    relay: str
    right_nat: str
    right: str


class Stage(Protocol):
    """A place to run in.

    `start` runs an end there and gives the lines it prints, to its end. `cut` takes away
    every way between the homes but the relay (False where that cannot be), `mend` undoes it.
    """

    scene: Scene
    relays: tuple[str, ...]
    stun: tuple[str, ...]

    def start(self, end: str, task: Task) -> AsyncGenerator[bytes, None]: ...
    async def cut(self) -> bool: ...
    async def mend(self) -> None: ...


async def play(stage: Stage, size: int) -> AsyncGenerator[Heard, None]:
    """Have LEFT dial RIGHT and send `size` bytes; everything both report, until both have ended.

    Raises StageError when an end dies or falls silent. Close it when leaving early.
    """
    heard: asyncio.Queue[Heard | None] = asyncio.Queue()
    words: deque[str] = deque(maxlen=LAST_WORDS)
    fate = _Fate(stage, size)
    async with _Ends(stage, heard, words) as ends:
        ends.start(RIGHT, Task(stage.relays, stage.stun))
        finished = 0
        while finished < 2:
            try:
                async with asyncio.timeout(STALL_S):
                    said = await heard.get()
            except TimeoutError:
                raise StageError(f"nothing was heard for {STALL_S:.0f} s. {_quote(words)}") from None
            if said is None:
                finished += 1
                continue
            if isinstance(said.report, Ready):
                ends.start(LEFT, Task(stage.relays, stage.stun, said.report.ticket, size))
            if isinstance(said.report, Failed):
                raise StageError(f"{said.end}: {said.report.why}")
            yield said
            if happened := await fate.after(said):
                yield Heard(NETWORK, happened)


class _Fate:
    """What befalls the network in the middle of the transfer: the direct path is cut, then mended."""

    def __init__(self, stage: Stage, size: int) -> None:
        self._stage = stage
        self._cut_at = size * CUT_PERCENT // 100
        self._move = Moved(0.0, "", "", "")
        self._was_cut = self._is_over = False

    async def after(self, heard: Heard) -> Happened | None:
        """What is done now that this was heard."""
        report = heard.report
        if isinstance(report, Moved) and heard.end == LEFT:
            self._move = report
        if not isinstance(report, Progress) or self._is_over:
            return None
        if not self._was_cut:
            return await self._cut(report)
        if self._move.kind == "relay" and report.at - self._move.at >= MENDED_AFTER_S:
            await self._stage.mend()
            self._is_over = True
            return Happened(clock.now(), "the direct path is mended")
        return None

    async def _cut(self, report: Progress) -> Happened | None:
        if self._move.kind != "direct" or report.received < self._cut_at:
            return None
        self._was_cut = await self._stage.cut()
        self._is_over = not self._was_cut
        return Happened(clock.now(), "the direct path is cut") if self._was_cut else None


class _Ends:
    """The running ends, and what turns their lines into reports."""

    def __init__(self, stage: Stage, heard: asyncio.Queue[Heard | None], words: deque[str]) -> None:
        self._stage = stage
        self._heard = heard
        self._words = words
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self, end: str, task: Task) -> None:
        self._tasks.append(asyncio.create_task(self._listen(end, task)))

    async def _listen(self, end: str, task: Task) -> None:
        done = False
        try:
            async with contextlib.aclosing(self._stage.start(end, task)) as lines:
                async for text in lines:
                    report = parse(text)
                    if report is None:
                        self._words.append(text.decode(errors="replace").rstrip())
                        continue
                    done = done or isinstance(report, Done)
                    self._heard.put_nowait(Heard(end, report))
        except (PeerwayError, OSError) as error:
            self._words.append(str(error))
        if not done:
            self._heard.put_nowait(
                Heard(end, Failed(f"it ended before the transfer did. {_quote(self._words)}"))
            )
        self._heard.put_nowait(None)


def _quote(words: deque[str]) -> str:
    return "Its last words: " + " | ".join(words) if words else "It said nothing."


@contextlib.asynccontextmanager
async def lab_stage() -> AsyncIterator[Stage]:
    """Two homes behind NATs in network namespaces. Raises `LabUnavailable`."""
    topology = pair(ROUTERS, ROUTERS)
    async with Laboratory(topology) as lab:
        meeting = Meeting(lab)
        await lab.start_workers(SERVER)
        served = await meeting.serve()
        yield _LabStage(meeting, _scene(topology), (served.url,), served.stun)


class _LabStage:
    def __init__(
        self, meeting: Meeting, scene: Scene, relays: tuple[str, ...], stun: tuple[str, ...]
    ) -> None:
        self._lab = meeting.lab
        self._faults = meeting.faults
        self.scene = scene
        self.relays = relays
        self.stun = stun

    async def start(self, end: str, task: Task) -> AsyncGenerator[bytes, None]:
        name = f"demo-{end}"
        script = f'"$@"; echo {ENDED}'
        await self._lab.start(name, end, "sh", "-c", script, "end", *END, _argument(task))
        position, rest = 0, ""
        while True:
            text = await self._lab.log(name)
            *lines, rest = (rest + text[position:]).split("\n")
            position = len(text)
            for each in lines:
                if each == ENDED:
                    return
                yield each.encode()
            await asyncio.sleep(POLL_S)

    async def cut(self) -> bool:
        await self._faults.cut_between(LEFT, RIGHT)
        return True

    async def mend(self) -> None:
        await self._faults.restore_between(LEFT, RIGHT)


def _scene(topology: Topology) -> Scene:
    left, right = topology.homes
    kind = KINDS[ROUTERS]
    return Scene(
        f"two homes, each behind a {kind.old_name} ({kind.name}); real NATs of this kernel",
        _address(topology, left.hosts[0], "eth0"),
        _address(topology, left.routers[0], "wan"),
        SERVER_IPS[0],
        _address(topology, right.routers[0], "wan"),
        _address(topology, right.hosts[0], "eth0"),
    )


def _address(topology: Topology, machine: str, device: str) -> str:
    return topology.machines[machine].device(device).ips[0]


@contextlib.asynccontextmanager
async def loopback_stage() -> AsyncIterator[Stage]:
    """Two processes and a server on this machine, without any NAT."""
    async with Server(host=LOOPBACK, relay_port=0, stun_port=0) as server:
        scene = Scene("two programs on this machine, no NAT between", LOOPBACK, "", LOOPBACK, "", LOOPBACK)
        yield _LoopbackStage(scene, (server.url,))


class _LoopbackStage:
    def __init__(self, scene: Scene, relays: tuple[str, ...]) -> None:
        self.scene = scene
        self.relays = relays
        self.stun: tuple[str, ...] = ()

    async def start(self, end: str, task: Task) -> AsyncGenerator[bytes, None]:
        argument = _argument(structs.replace(task, ends_with_stdin=True))
        process = await asyncio.create_subprocess_exec(
            *END, argument, stdin=PIPE, stdout=PIPE, stderr=STDOUT, start_new_session=True
        )
        try:
            assert process.stdout is not None
            async for text in process.stdout:
                yield text
            await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    async def cut(self) -> bool:
        return False

    async def mend(self) -> None:
        pass


def _argument(task: Task) -> str:
    return msgspec.json.encode(task).decode()
