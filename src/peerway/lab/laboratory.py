"""A lab from outside: starts the supervisor in an unshare, builds a topology, gives orders.

    async with Laboratory(pair("eim-apdf", "edm")) as lab:
        seen = await lab.order("left", AskReflectors(...), Reflected)

Everything lives in namespaces of its own and is gone when the `async with` ends, or when
the process that holds it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from types import TracebackType
from typing import TypeVar

import msgspec

from peerway.core.machine import PeerwayError
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
from peerway.lab.namespaces import construction
from peerway.lab.pipes import read_lines
from peerway.lab.service import Service
from peerway.lab.topology import Topology

UNSHARE = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
PACKAGES = {
    "unshare": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
    "nft": "nftables",
    "conntrack": "conntrack",
}
FURTHER_PACKAGES = {  # of programs that some labs need
    "turnserver": "coturn",
    "turnutils_natdiscovery": "coturn",
    "miniupnpd": "miniupnpd-nftables",
    "upnpc": "miniupnpc",
}
FAREWELL_S = 2.0  # how long the supervisor may take to end before it is killed
ORDER_TIMEOUT_S = 60.0

Answer = TypeVar("Answer")


class LabUnavailable(PeerwayError):
    """A tool or a privilege the lab needs is missing; the message says how to get it."""


class LabError(PeerwayError):
    """Something in the lab did not do what it was told."""


def search_path() -> str:
    """PATH with the places where system tools live: ordinary users often lack them."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def require_lab(*tools: str) -> tuple[str, ...]:
    """The command that opens the lab's namespaces; LabUnavailable when this machine cannot.

    `tools` are programs needed beyond the lab's own.
    """
    if sys.platform != "linux":
        raise LabUnavailable(f"the lab needs Linux network namespaces; this is {sys.platform}")
    missing = [tool for tool in (*PACKAGES, *tools) if shutil.which(tool, path=search_path()) is None]
    if missing:
        known = PACKAGES | FURTHER_PACKAGES
        packages = " ".join(dict.fromkeys(known.get(tool, tool) for tool in missing))
        raise LabUnavailable(
            f"the lab needs {', '.join(missing)}: on Debian or Ubuntu, apt install {packages}"
        )
    user = () if os.geteuid() == 0 else ("--map-root-user",)
    command = ("unshare", *user, *UNSHARE)
    attempt = subprocess.run(
        [*command, "true"], capture_output=True, text=True, check=False, env=_environment()
    )
    if attempt.returncode:
        raise LabUnavailable(_refusal(attempt.stderr.strip()))
    return command


def _refusal(words: str) -> str:
    if os.geteuid() == 0:
        return f"this system lets not even root make namespaces ({words}): a container needs CAP_SYS_ADMIN"
    return (
        f"this system does not let an ordinary user make namespaces ({words}): run as root, or allow it "
        "(sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)"
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": search_path()}


class Laboratory:
    """One topology, built for as long as the `async with` lasts."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._number = 0

    @property
    def pid(self) -> int:
        """The process that holds the lab: kill it and nothing is left."""
        return self._running().pid

    async def __aenter__(self) -> Laboratory:
        command = await asyncio.to_thread(require_lab)
        self._process = await asyncio.create_subprocess_exec(
            *command,
            *(sys.executable, "-m", "peerway.lab.supervisor"),
            stdin=PIPE,
            stdout=PIPE,
            limit=LINE_LIMIT,
            env=_environment(),
            start_new_session=True,  # Ctrl-C reaches the caller alone, who ends the lab in order
        )
        self._reader = asyncio.create_task(self._read())
        try:
            await self._build()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def run(self, machine: str, *argv: str, input: str = "") -> str:
        """Run a program to its end in a machine and return its output; LabError when it fails."""
        ran = await self.attempt(machine, *argv, input=input)
        if ran.status:
            raise LabError(
                f"{' '.join(argv)} on {machine or 'the supervisor'} failed: {ran.stderr or ran.stdout}"
            )
        return ran.stdout

    async def attempt(self, machine: str, *argv: str, input: str = "") -> Ran:
        """Run a program to its end in a machine, whatever its status."""
        return await self._ask(Run(machine, argv, input), Ran)

    async def start(self, name: str, machine: str, *argv: str) -> None:
        """Start a third-party program that goes on, under a name for `stop` and `log`."""
        await self._ask(Start(name, machine, argv), Done)

    async def provide(self, machine: str, service: Service) -> str:
        """Have a machine run a service; returns the name to `stop`, `start` or read the `log` of it by.

        LabUnavailable where its program is missing. It has been started, and may not be ready yet.
        """
        program = service.argv[0]
        if shutil.which(program, path=search_path()) is None:
            raise LabUnavailable(f"{service.name} needs {program}: apt install {service.package or program}")
        name = f"{machine}-{service.name}"
        directory = f"/run/{name}"
        await self.run("", "mkdir", "-p", directory)
        for file, text in service.files:
            await self.run("", "tee", f"{directory}/{file}", input=text)
        if service.rules:
            await self.run(machine, "nft", "-f", "-", input=service.rules)
        await self.start(name, machine, "env", "-C", directory, *service.argv)
        return name

    async def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """Send a signal to what was started under a name, and wait for its end."""
        await self.signal(name, number)
        await self._ask(Await(name), Done)

    async def signal(self, name: str, number: int) -> None:
        """Send a signal to a program, or to the worker of a machine."""
        await self._ask(Signal(name, number), Done)

    async def log(self, name: str) -> str:
        """What a program started under a name, or the worker of a machine, has printed so far."""
        return await self.run("", "cat", f"/run/{name}.log")

    async def start_workers(self, *machines: str) -> None:
        """Start the interpreters of these machines; nothing where they run."""
        await asyncio.gather(*(self._ask(StartWorker(machine), Done) for machine in machines))

    async def kill_worker(self, machine: str) -> None:
        """End the interpreter of a machine as `kill -9` does; `order` starts a new one."""
        await self.stop(machine, signal.SIGKILL)

    async def order(
        self, machine: str, order: msgspec.Struct, answer: type[Answer], *, timeout_s: float = ORDER_TIMEOUT_S
    ) -> Answer:
        """Have the worker of a machine do something, and return its answer.

        LabError with the worker's words when it fails, TimeoutError when it takes too long.
        """
        await self._ask(StartWorker(machine), Done)
        body = msgspec.Raw(msgspec.json.encode(order))
        async with asyncio.timeout(timeout_s):
            return await self._ask(Order(machine, body), answer)

    async def _build(self) -> None:
        plan = construction(self.topology)
        await self.run("", "tee", "/run/hosts", input=plan.hosts)
        await self.run("", "mount", "--bind", "/run/hosts", "/etc/hosts")
        await self.run("", "ip", "-batch", "-", input=plan.cabling)
        await asyncio.gather(
            *(self.run(machine, "sh", input=script) for machine, script in plan.scripts.items())
        )
        for machine in self.topology.machines.values():
            for service in machine.services:
                await self.provide(machine.name, service)

    async def _ask(self, ask: Ask, answer: type[Answer]) -> Answer:
        stdin = self._running().stdin
        if stdin is None or self._reader is None or self._reader.done():
            raise LabError("the lab has ended")
        self._number += 1
        number = self._number
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        stdin.write(line(Request(number, msgspec.Raw(msgspec.json.encode(ask)))))
        try:
            reply = await future
        finally:
            self._waiting.pop(number, None)
        if reply.error:
            raise LabError(reply.error)
        return msgspec.json.decode(reply.body, type=answer)

    async def _read(self) -> None:
        stdout = self._running().stdout
        if stdout is None:
            return
        async for text in read_lines(stdout):
            reply = msgspec.json.decode(text, type=Reply)
            future = self._waiting.get(reply.number)
            if future is not None and not future.done():
                future.set_result(reply)
        for number, future in self._waiting.items():
            if not future.done():
                future.set_result(Reply(number, error="the lab ended"))

    async def _end(self) -> None:
        process, reader = self._running(), self._reader
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(FAREWELL_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if reader is not None:
            await reader

    def _running(self) -> Process:
        if self._process is None:
            raise LabError("the lab was not started: use `async with`")
        return self._process
