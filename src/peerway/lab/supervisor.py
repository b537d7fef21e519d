"""The process inside the unshare: holds the lab, runs what it is asked to, ends with its stdin.

It is the first process of its own process namespace: when it ends, in whatever way, the
kernel kills every other process of the lab, and with the last of them go the network
namespaces and the mounts. It reads requests from stdin and writes replies to stdout
(`messages`).
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import BinaryIO

import msgspec

from peerway.lab.messages import (
    LINE_LIMIT,
    Ask,
    Await,
    Done,
    Order,
    Ran,
    Reply,
    Request,
    Run,
    Signal,
    Start,
    StartWorker,
    line,
)
from peerway.lab.pipes import read_lines, standard_streams

WORKER = ("-m", "peerway.lab.worker")
LAST_WORDS = 20  # lines of a worker's log that go into the error when it ends


class SupervisorError(Exception):
    """A request that cannot be met; its text goes back to whoever asked."""


class WorkerPipe:
    """The supervisor's end of one worker: numbers orders, and gives answers to who waits."""

    def __init__(self, machine: str, process: Process) -> None:
        self.process = process
        self._machine = machine
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._number = 0
        self._reader = asyncio.create_task(self._read())

    async def order(self, body: msgspec.Raw) -> msgspec.Raw:
        """Hand the order on; SupervisorError with the worker's own words when it fails."""
        stdin = self.process.stdin
        if stdin is None or self._reader.done():
            raise SupervisorError(
                f"the worker of {self._machine} has ended; its last words:\n{_last_words(self._machine)}"
            )
        self._number += 1
        number = self._number
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        stdin.write(line(Request(number, body)))
        reply = await future
        if reply.error:
            raise SupervisorError(f"{self._machine}: {reply.error}")
        return reply.body

    async def _read(self) -> None:
        if self.process.stdout is None:
            return
        async for text in read_lines(self.process.stdout):
            reply = msgspec.json.decode(text, type=Reply)
            future = self._waiting.pop(reply.number, None)
            if future is not None and not future.done():
                future.set_result(reply)
        error = f"the worker ended before it answered; its last words:\n{_last_words(self._machine)}"
        for number, future in self._waiting.items():
            if not future.done():
                future.set_result(Reply(number, error=error))


class Supervisor:
    """Does what the requests ask, each in a task of its own."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._programs: dict[str, Process] = {}
        self._workers: dict[str, WorkerPipe] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._decoder = msgspec.json.Decoder(Ask)

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Answer requests until the other side closes."""
        async for text in read_lines(reader):
            request = msgspec.json.decode(text, type=Request)
            task = asyncio.create_task(self._answer(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Request) -> None:
        try:
            body = await self._do(self._decoder.decode(request.body))
            reply = Reply(request.number, body=body)
        except (SupervisorError, OSError, msgspec.MsgspecError) as error:
            reply = Reply(request.number, error=str(error) or type(error).__name__)
        self._writer.write(line(reply))

    async def _do(self, ask: Ask) -> msgspec.Raw:
        match ask:
            case Run():
                return _raw(await self._run(ask))
            case Start():
                await self._start(ask)
            case StartWorker():
                await self._start_worker(ask.machine)
            case Signal():
                self._process(ask.name).send_signal(ask.signal)
            case Await():
                await self._process(ask.name).wait()
                self._programs.pop(ask.name, None)
                self._workers.pop(ask.name, None)
            case Order():
                return await self._worker(ask.machine).order(ask.body)
        return _raw(Done())

    async def _run(self, ask: Run) -> Ran:
        argv = (*_inside(ask.machine), *ask.argv)
        process = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        stdout, stderr = await process.communicate(ask.input.encode())
        return Ran(process.returncode or 0, stdout.decode(errors="replace"), stderr.decode(errors="replace"))

    async def _start(self, ask: Start) -> None:
        if ask.name in self._programs or ask.name in self._workers:
            raise SupervisorError(f"{ask.name} runs already")
        with _log(ask.name) as log:
            self._programs[ask.name] = await asyncio.create_subprocess_exec(
                *_inside(ask.machine), *ask.argv, stdin=DEVNULL, stdout=log, stderr=log
            )

    async def _start_worker(self, machine: str) -> None:
        if machine in self._workers:
            return
        with _log(machine) as log:
            process = await asyncio.create_subprocess_exec(
                *_inside(machine),
                *("env", f"PEERWAY_HOME=/run/state-{machine}", sys.executable, *WORKER),
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                limit=LINE_LIMIT,
            )
        self._workers[machine] = WorkerPipe(machine, process)

    def _worker(self, machine: str) -> WorkerPipe:
        worker = self._workers.get(machine)
        if worker is None:
            raise SupervisorError(f"no worker was started on {machine}")
        return worker

    def _process(self, name: str) -> Process:
        if name in self._workers:
            return self._workers[name].process
        if name in self._programs:
            return self._programs[name]
        raise SupervisorError(f"nothing named {name} was started")


def _log(name: str) -> BinaryIO:
    return Path(f"/run/{name}.log").open("ab")


def _last_words(name: str) -> str:
    lines = Path(f"/run/{name}.log").read_text(errors="replace").splitlines()
    return "\n".join(lines[-LAST_WORDS:])


def _inside(machine: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", machine) if machine else ()


def _raw(message: msgspec.Struct) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(message))


async def _main() -> None:
    reader, writer = await standard_streams()
    await Supervisor(writer).serve(reader)


def main() -> None:
    """Cover /run, then serve until stdin ends."""
    # `ip netns` keeps its names under /run: the cover makes them the lab's own.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    asyncio.run(_main())
    # The workers need no farewell: they go with this process.
    os._exit(0)


if __name__ == "__main__":
    main()
