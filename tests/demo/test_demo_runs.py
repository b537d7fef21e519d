"""The demonstration itself, small: in the lab where there can be one, and on loopback."""

import json
import os
import signal
import subprocess
import sys

import pytest

from peerway.lab import LabUnavailable
from peerway.lab.laboratory import require_lab

TIMEOUT_S = 60


@pytest.fixture
def environment(tmp_path):
    clean = {name: text for name, text in os.environ.items() if not name.startswith("PEERWAY_")}
    return {**clean, "PEERWAY_HOME": str(tmp_path)}


def demo(environment, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "peerway", "demo", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=environment,
    )


def test_between_two_programs_on_loopback(environment):
    ran = demo(environment, "--no-lab", "--size", "8")
    assert ran.returncode == 0, ran.stderr
    assert "data travels through the relay" in ran.stdout
    assert "data travels directly" in ran.stdout
    assert ran.stdout.endswith("the same on both sides\n")


def test_json_is_json_alone(environment):
    ran = demo(environment, "--no-lab", "--size", "1", "--json")
    told = [json.loads(text) for text in ran.stdout.splitlines()]
    assert {"ready", "dialling", "connected", "moved", "progress", "done"} <= {each["type"] for each in told}


def test_where_there_are_no_namespaces_it_says_so_and_goes_on_loopback(environment, tmp_path):
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    ran = demo({**environment, "PATH": f"{tmp_path}:{os.environ['PATH']}"}, "--size", "1")
    assert ran.returncode == 0, ran.stderr
    assert "so this is between two programs on loopback, without any NAT" in ran.stderr
    assert ran.stdout.startswith("two programs on this machine")


def test_ctrl_c_ends_the_ends_too(environment):
    process = subprocess.Popen(
        [sys.executable, "-m", "peerway", "demo", "--no-lab", "--json", "--size", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    for text in process.stdout:
        if json.loads(text)["type"] == "progress":
            break
    ends = children(process.pid)
    assert len(ends) == 2
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert not [end for end in ends if is_running(end)]


@pytest.mark.lab
def test_between_homes_behind_real_nats(environment):
    try:
        require_lab()
    except LabUnavailable as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    ran = demo(environment, "--size", "60", "--no-matrix")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("two homes, each behind a port-restricted cone NAT")
    assert "data travels directly, 11.2.0.2:" in ran.stdout
    assert "the direct path is cut" in ran.stdout
    assert ran.stdout.endswith("the same on both sides\n")


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
