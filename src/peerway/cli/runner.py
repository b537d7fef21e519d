"""Runs a command's coroutine under asyncio, and turns signals into an orderly end.

Ctrl-C, SIGTERM and SIGHUP cancel the coroutine, which cleans up in its `async with`s; a
second Ctrl-C ends the program without waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine

from peerway.cli.errors import Exit


def run(main: Coroutine[object, object, Exit], *, terminated: Exit = Exit.TERMINATED) -> Exit:
    """The coroutine's exit code; 130 after Ctrl-C, `terminated` after SIGTERM or SIGHUP."""
    stop = _Stop()
    try:
        with asyncio.Runner() as runner:
            return runner.run(stop.supervise(main))
    except asyncio.CancelledError:
        if stop.received is None:
            raise
        return Exit.INTERRUPTED if stop.received == signal.SIGINT else terminated
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


class _Stop:
    """The signal that ended the program, once one has."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._task: asyncio.Task[object] | None = None

    async def supervise(self, main: Coroutine[object, object, Exit]) -> Exit:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is None or signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup, or a shell's background job: it is meant to be ignored
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt
                loop.add_signal_handler(number, self._stop, number)
        return await main

    def _stop(self, number: signal.Signals) -> None:
        if self.received is not None:
            os._exit(Exit.INTERRUPTED)
        self.received = number
        if self._task is not None:
            self._task.cancel()
