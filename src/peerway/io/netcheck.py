"""Runs checks of what this machine sits behind, on real sockets."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from dataclasses import replace

from peerway.core.machine import Event
from peerway.core.netcheck.knowledge import Question
from peerway.core.netcheck.machine import CheckDone, Netcheck, Progress
from peerway.core.netcheck.report import Report, refreshed
from peerway.core.portmap.report import GatewayReport
from peerway.io import clock
from peerway.io.driver import Driver
from peerway.io.interfaces import interface_addresses

Gateways = Callable[[], tuple[GatewayReport, ...]]


async def check(
    question: Question,
    previous: Report | None = None,
    *,
    gateways: Gateways = tuple,
    on_progress: Callable[[str], None] | None = None,
    trust: ssl.SSLContext | None = None,
) -> Report:
    """Find out what `question` asks. With a `previous` report a few packets show whether it still holds.

    `trust` is whose certificates are believed that have no pin, the system's authorities if None.
    Raises `NoServersError` when the question names nobody to ask.
    """
    if previous is not None:
        quick = replace(question, quick=True, witnesses=previous.witnesses)
        again = refreshed(previous, await _run(quick, gateways, None, trust))
        if again is not None:
            return again
    return await _run(question, gateways, on_progress, trust)


async def _run(
    question: Question,
    gateways: Gateways,
    on_progress: Callable[[str], None] | None,
    trust: ssl.SSLContext | None,
) -> Report:
    done: asyncio.Future[Report] = asyncio.get_running_loop().create_future()

    def on_event(event: Event) -> None:
        if isinstance(event, CheckDone) and not done.done():
            done.set_result(event.report)
        elif isinstance(event, Progress) and on_progress is not None:
            on_progress(event.text)

    def on_failure(error: Exception) -> None:
        if not done.done():
            done.set_exception(error)

    machine = Netcheck(question, random.SystemRandom(), gateways)
    driver = Driver(machine, on_event, on_failure, trust)
    try:
        machine.start(interface_addresses(), clock.now())
        driver.wake()
        return await done
    finally:
        await driver.close()
