"""Many numbers in many processes: every one is answered for, whatever becomes of the processes."""

import contextlib
import multiprocessing
import os
import signal
import threading
from functools import partial

import pytest

from peerway.sim.workers import Done, Lost, run_many

LIMIT_S = 60.0


def double(number):
    return 2 * number


def kill_itself_at(killer, number):
    if number == killer:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def hang_at(stuck, number):
    if number == stuck:
        threading.Event().wait()
    return number


def refuse_at(bad, number):
    if number == bad:
        raise ValueError(f"not {number}")
    return number


def in_order(results):
    return sorted(results, key=lambda result: result.number)


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_number_is_answered(jobs):
    results = in_order(run_many(double, range(20), jobs, LIMIT_S))
    assert results == [Done(number, 2 * number) for number in range(20)]


def test_nothing_to_do_starts_nothing():
    assert list(run_many(double, [], 2, LIMIT_S)) == []


def test_what_kills_its_process_is_lost_and_the_rest_goes_on():
    results = in_order(run_many(partial(kill_itself_at, 5), range(12), 2, LIMIT_S))
    assert results.pop(5) == Lost(5, "its process died")
    assert results == [Done(number, number) for number in range(12) if number != 5]


def test_what_takes_too_long_is_lost_and_the_rest_goes_on():
    results = in_order(run_many(partial(hang_at, 2), range(6), 1, 3.0))
    assert results.pop(2) == Lost(2, "took more than 3 s")
    assert results == [Done(number, number) for number in range(6) if number != 2]


def test_what_raises_is_lost_with_its_reason():
    results = in_order(run_many(partial(refuse_at, 1), range(3), 1, LIMIT_S))
    assert results == [Done(0, 0), Lost(1, "ValueError: not 1"), Done(2, 2)]


def test_stopping_early_leaves_no_process():
    with contextlib.closing(run_many(double, range(10**9), 2, LIMIT_S)) as results:
        taken = {next(results).number for _ in range(20)}
    assert len(taken) == 20
    assert multiprocessing.active_children() == []
