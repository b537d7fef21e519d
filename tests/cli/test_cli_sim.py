"""`peerway sim`: what it prints, what it ends with, and that failures come out small."""

import json
import os
import signal
import subprocess
import sys

import pytest

import peerway.sim
from peerway.cli.app import run
from peerway.cli.simulated import record_of
from peerway.sim.campaign import SeedResult
from peerway.sim.named import NAMED

FIELDS = [
    *("source", "left", "right", "outcome", "expected", "first_byte_ms", "direct_ms"),
    *("probes_sent", "bytes_ok", "seed", "loss", "reason", "family", "expected_family"),
]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PEERWAY_HOME", str(tmp_path / "home"))


@pytest.fixture
def wrong_oracle(monkeypatch):
    """Every direct path is a violation."""
    monkeypatch.setattr("peerway.sim.meeting.outlook", lambda plan, left, right: "relay")


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


def test_list_explains_every_scenario(capsys):
    assert run(["sim", "list"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == list(NAMED)
    assert "two-homes              Two homes behind ordinary routers: " in out


def test_replay_tells_the_scenario_and_how_it_went(capsys):
    assert run(["sim", "replay", "two-homes"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Scenario(\n    1,\n    InternetPlan(\n")
    assert "left behind eim-apdf, right behind eim-apdf\nexpected direct, came out direct\n" in out
    assert err == ""


def test_replay_of_a_seed_is_a_record_in_json(capsys):
    assert run(["sim", "replay", "3", "--json"]) == 0
    (record,) = objects(capsys.readouterr().out)
    assert list(record) == FIELDS
    assert (record["source"], record["seed"], record["reason"]) == ("sim", 3, "")
    assert record["first_byte_ms"] > 0
    assert record["probes_sent"] > 0


def test_replay_writes_trace_and_diagram(capsys, tmp_path):
    trace, diagram = tmp_path / "trace", tmp_path / "diagram.mmd"
    assert run(["sim", "replay", "two-homes", "--trace", str(trace), "--diagram", str(diagram)]) == 0
    assert " left send 192.168.1.2:49152 > 203.0.113.10:3478 ttl 64 len " in trace.read_text()
    assert diagram.read_text().startswith("sequenceDiagram\n    participant p1 as left\n")
    assert f"peerway: the diagram is in {diagram}\n" in capsys.readouterr().err


def test_a_diagram_can_be_part_of_stdout(capsys):
    assert run(["sim", "replay", "one-lan", "--diagram", "-"]) == 0
    assert "\nsequenceDiagram\n" in capsys.readouterr().out
    assert run(["sim", "replay", "one-lan", "--diagram", "-", "--json"]) == 0
    record, diagram = objects(capsys.readouterr().out)
    assert record["outcome"] == "direct"
    assert diagram["event"] == "diagram"


def test_a_diagram_that_cannot_be_written_is_an_error(capsys):
    assert run(["sim", "replay", "one-lan", "--diagram", "/nowhere/at/all"]) == 1
    assert "cannot write the diagram to /nowhere/at/all: " in capsys.readouterr().err


def test_what_is_neither_seed_nor_name_is_a_usage_error(capsys):
    assert run(["sim", "replay", "two-house"]) == 2
    assert "neither a seed nor the name of a scenario" in capsys.readouterr().err


def test_a_failing_replay_is_1_and_can_be_made_small(capsys, wrong_oracle):
    assert run(["sim", "replay", "roam", "--shrink"]) == 1
    out, err = capsys.readouterr()
    scenario, _, told = out.partition("\nleft behind ")
    words = {name: getattr(peerway.sim, name) for name in peerway.sim.__all__}
    assert len(eval(scenario, words).actions) == 1
    assert "FAILED: " in told
    assert "direct, though the oracle knows no way" in told
    assert err.startswith("peerway: made small in ")


def test_run_tells_what_the_seeds_came_to(capsys):
    assert run(["sim", "run", "--seeds", "4", "--start", "2", "--jobs", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("4 seeds, 0 failed, 0 direct by luck\nexpected direct    came out direct ")
    assert "direct     p50 / p95 / p99: " in out
    assert "peerway: 4 seeds in " in err


def test_run_in_json_is_a_record_for_each_seed(capsys):
    assert run(["sim", "run", "--seeds", "3", "--jobs", "2", "--json", "-q"]) == 0
    out, err = capsys.readouterr()
    records = objects(out)
    assert sorted(record["seed"] for record in records) == [0, 1, 2]
    assert all(list(record) == FIELDS for record in records)
    assert err == ""


def test_a_seed_that_was_lost_has_a_record(capsys):
    record = record_of(SeedResult(7, None, "its process died"))
    assert (record.seed, record.outcome, record.reason) == (7, "failed", "its process died")
    assert not record.as_expected


def test_ctrl_c_reports_what_there_is_and_leaves_no_process():
    process = subprocess.Popen(
        [sys.executable, "-m", "peerway", "sim", "run", "--seeds", "1000000", "--jobs", "2", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    first = json.loads(process.stdout.readline())
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    out, err = process.communicate(timeout=60)  # which ends when nobody holds the pipes any more
    assert process.returncode == 130
    assert first["source"] == "sim"
    assert all(line["source"] == "sim" for line in objects(out))
    assert "Traceback" not in err
