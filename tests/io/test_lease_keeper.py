"""Leases are kept in order, off the loop, whatever the disk does."""

import asyncio
import logging
import threading

import pytest
from blockbuster import BlockingError

from peerway.core.machine import UdpAddress
from peerway.core.portmap.lease import Lease
from peerway.core.portmap.report import Protocol
from peerway.io.lease_keeper import LeaseKeeper
from peerway.io.leases import LeaseStore
from peerway.io.state import StateError

LEASE = Lease(Protocol.PCP, "192.168.1.1", UdpAddress("192.168.1.2", 5), 6)


class SlowStore:
    """Does nothing before it is let; writes down what it is asked for."""

    def __init__(self):
        self.disk_answers = threading.Event()
        self.closed = threading.Event()
        self.done = []
        self.failing = None

    def _do(self, what):
        assert self.disk_answers.wait(20)
        self.done.append(what)
        if what == self.failing:
            raise StateError("the disk is full")

    def take_over(self):
        self._do("take over")
        return (LEASE,)

    def keep(self, leases):
        self._do(leases)

    def renewed(self):
        self._do("renewed")

    def close(self):
        self._do("close")
        self.closed.set()


def test_the_loop_goes_on_while_the_disk_takes_its_time_and_the_order_is_kept(run):
    async def main():
        store = SlowStore()
        keeper = LeaseKeeper(store)
        taken = asyncio.ensure_future(keeper.take_over())
        await asyncio.sleep(0)
        keeper.keep((LEASE,))
        keeper.renewed()
        keeper.keep(())
        closing = asyncio.ensure_future(keeper.close())
        await asyncio.sleep(0)
        assert store.done == []
        store.disk_answers.set()
        await closing
        assert await taken == (LEASE,)
        assert store.done == ["take over", (LEASE,), "renewed", (), "close"]

    run(main())


def test_closing_happens_though_nobody_waits_for_it_any_more(run):
    async def main():
        store = SlowStore()
        keeper = LeaseKeeper(store)
        keeper.keep((LEASE,))
        closing = asyncio.ensure_future(keeper.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        store.disk_answers.set()
        assert await asyncio.to_thread(store.closed.wait, 20)
        assert store.done == [(LEASE,), "close"]

    run(main())


def test_what_cannot_be_kept_is_told_in_the_log_and_nowhere_else(run, caplog):
    async def main():
        store = SlowStore()
        store.disk_answers.set()
        store.failing = (LEASE,)
        keeper = LeaseKeeper(store)
        keeper.keep((LEASE,))
        keeper.keep(())
        await keeper.close()
        assert store.done == [(LEASE,), (), "close"]

    with caplog.at_level(logging.INFO, "peerway.io.lease_keeper"):
        run(main())
    assert [record.message for record in caplog.records] == ["portmap error='the disk is full'"]


def test_a_store_used_in_the_loop_itself_is_found_out(run, tmp_path):
    async def main():
        with pytest.raises(BlockingError):
            LeaseStore(tmp_path / "state").keep((LEASE,))

    run(main())
