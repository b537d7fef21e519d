"""Signals end a command in order, with the exit code the contract names."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, sys
from peerway.cli.errors import Exit
from peerway.cli.runner import run
from peerway.io.loop import new_busy_loop

async def main():
    try:
        print("started", flush=True)
        await asyncio.Event().wait()
    finally:
        print("cleaned up", flush=True)
        if "stuck" in sys.argv:
            await asyncio.Event().wait()

async def reload():
    print("read again", flush=True)

sys.exit(
    run(
        main(),
        terminated=Exit.OK if "serves" in sys.argv else Exit.TERMINATED,
        reload=reload if "serves" in sys.argv else None,
        new_loop=new_busy_loop if "serves" in sys.argv else asyncio.new_event_loop,
    )
)
"""


@pytest.fixture
def start():
    processes = []

    def begin(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout.readline() == "started\n"
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("number", "arguments", "code"),
    [
        (signal.SIGINT, (), 130),
        (signal.SIGTERM, (), 143),
        (signal.SIGHUP, (), 143),
        (signal.SIGTERM, ("serves",), 0),
        (signal.SIGINT, ("serves",), 130),
    ],
)
def test_a_signal_cleans_up_and_gives_its_code(start, number, arguments, code):
    process = start(*arguments)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == ("cleaned up\n", "", code)


def test_a_hangup_has_a_server_read_its_files_again_and_ends_nothing(start):
    process = start("serves")
    for _ in range(2):
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "read again\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == ("cleaned up\n", "", 0)


def test_a_second_ctrl_c_does_not_wait_for_the_clean_up(start):
    process = start("stuck")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaned up\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
