"""Keeps leases in their store while the loop goes on: a disk may take its time.

All of it happens on one thread, in the order in which it was asked for. What cannot be kept is told
in the log and is otherwise without consequence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from peerway.core.portmap.lease import Lease
from peerway.io.leases import LeaseStore
from peerway.io.state import StateError

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class LeaseKeeper:
    """Uses `store`, which nobody else may use any more. Its thread begins with the first call."""

    def __init__(self, store: LeaseStore) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, "peerway leases")

    async def take_over(self) -> tuple[Lease, ...]:
        """What runs before this one have left behind, ours from now on."""
        return await self._in_turn(self._store.take_over)

    def keep(self, leases: tuple[Lease, ...]) -> None:
        """These are all there are now."""
        self._in_turn(lambda: self._store.keep(leases)).add_done_callback(_tell)

    def renewed(self) -> None:
        """A lease lives on."""
        self._in_turn(self._store.renewed).add_done_callback(_tell)

    async def close(self) -> None:
        """Do what was asked for, then let go."""
        closing = self._in_turn(self._store.close)
        self._thread.shutdown(wait=False)
        await asyncio.shield(closing)

    def _in_turn(self, work: Callable[[], Result]) -> asyncio.Future[Result]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)


def _tell(done: asyncio.Future[None]) -> None:
    try:
        done.result()
    except StateError as error:
        logger.info("portmap error=%r", str(error))
