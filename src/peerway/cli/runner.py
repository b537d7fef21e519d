"""Runs a command's coroutine under asyncio, and turns signals into an orderly end.

Ctrl-C, SIGTERM and SIGHUP cancel the coroutine, which cleans up in its `async with`s; a
second Ctrl-C ends the program without waiting. To a server SIGHUP says that its files changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine

from peerway.cli.errors import Exit

Reload = Callable[[], Coroutine[object, object, None]]


def run(
    main: Coroutine[object, object, Exit],
    *,
    terminated: Exit = Exit.TERMINATED,
    reload: Reload | None = None,
    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> Exit:
    """The coroutine's exit code; 130 after Ctrl-C, `terminated` after SIGTERM or SIGHUP.

    With `reload`, SIGHUP runs that and ends nothing.
    """
    stop = _Stop()
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(stop.supervise(main, reload))
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
        self._reloads: set[asyncio.Task[None]] = set()

    async def supervise(self, main: Coroutine[object, object, Exit], reload: Reload | None) -> Exit:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is None:
                continue
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt
                if name == "SIGHUP" and reload is not None:
                    loop.add_signal_handler(number, self._reload, reload)
                elif signal.getsignal(number) is not signal.SIG_IGN:
                    # else nohup, or a shell's background job: it is meant to be ignored
                    loop.add_signal_handler(number, self._stop, number)
        return await main

    def _reload(self, reload: Reload) -> None:
        task = asyncio.get_running_loop().create_task(reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    def _stop(self, number: signal.Signals) -> None:
        if self.received is not None:
            os._exit(Exit.INTERRUPTED)
        self.received = number
        if self._task is not None:
            self._task.cancel()
