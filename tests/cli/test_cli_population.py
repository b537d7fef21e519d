"""`peerway sim population`: its tables, its JSON, its picture, and what it ends with."""

import json

import pytest

from peerway.cli.app import run
from peerway.sim.population.draw import ASSUMPTIONS
from peerway.sim.population.pairs import run_pair

FIELDS = [
    *("source", "left", "right", "outcome", "expected", "first_byte_ms", "direct_ms"),
    *("probes_sent", "bytes_ok", "seed", "loss", "reason", "family", "expected_family"),
    *("means", "left_kind", "right_kind", "ipv6", "round_trip_ms"),
]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PEERWAY_HOME", str(tmp_path / "home"))


@pytest.fixture
def in_this_process(monkeypatch):
    """Pairs are run here: to start another process takes longer than a few of them."""

    def run_here(seeds, *, jobs, aids):
        yield from (run_pair(seed, aids) for seed in seeds)

    monkeypatch.setattr("peerway.cli.population.run_pairs", run_here)


def test_people_get_the_shares_the_times_the_population_and_what_was_assumed(capsys, tmp_path):
    picture = tmp_path / "picture.svg"
    assert run(["sim", "population", "--pairs", "20", "--jobs", "1", "--plot", str(picture)]) == 0
    out, err = capsys.readouterr()
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "of 20 pairs share 95 % confidence"
    assert "direct 75.0 % 53.1 to 88.8 %" in lines
    assert "relayed 25.0 % 11.2 to 46.9 %" in lines
    assert "failed 0.0 % 0.0 to 16.1 %" in lines
    assert any(line.startswith("first byte, ms 20 ") for line in lines)
    assert "home-cone 10 % 15.0 % 40 % 35 % a full or a restricted cone, half each" in lines
    flat = " ".join(out.split())
    assert all(" ".join(assumption.split()) in flat for assumption in ASSUMPTIONS)
    assert f"peerway: the picture is in {picture}\n" in err
    assert picture.read_text().startswith("<svg ")


def test_programs_get_a_record_for_each_pair_and_a_summary(capsys, in_this_process):
    assert run(["sim", "population", "--pairs", "5", "--seed", "2", "--jobs", "1", "--json", "-q"]) == 0
    out, err = capsys.readouterr()
    *records, summary = map(json.loads, out.splitlines())
    assert [record["seed"] for record in records] == list(range(2_000_000, 2_000_005))
    assert all(list(record) == FIELDS for record in records)
    direct = [record for record in records if record["outcome"] == "direct"]
    assert summary["event"] == "summary"
    assert (summary["pairs"], summary["seed"], summary["ipv6"]) == (5, 2, True)
    assert summary["outcomes"]["direct"]["value"] == len(direct) / 5
    assert summary["direct_ms"]["count"] == len(direct)
    assert sum(part["pairs"] for part in summary["foreseen"]) == 5
    assert sum(cell["pairs"] for cell in summary["cells"]) == 5
    assert summary["assumptions"] == list(ASSUMPTIONS)
    assert err == ""


def test_ipv6_and_port_mapping_can_be_taken_from_everybody(capsys, in_this_process):
    arguments = ["sim", "population", "--pairs", "8", "--no-ipv6", "--no-port-mapping", "-q"]
    assert run([*arguments, "--json"]) == 0
    *records, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert not any(record["ipv6"] or record["family"] == 6 for record in records)
    assert set(summary["means"]) == {"punched", "heard-first"}
    assert (summary["ipv6"], summary["port_mapping"]) == (False, False)
    assert run(arguments) == 0
    out = capsys.readouterr().out
    assert out.endswith("- Nobody has IPv6 here.\n- No router here maps ports.\n")
    assert "\nhome-edm        2 %   " in out


def test_ctrl_c_tells_what_there_is(capsys, monkeypatch):
    def interrupted(seeds, *, jobs, aids):
        yield run_pair(seeds[0])
        raise KeyboardInterrupt

    monkeypatch.setattr("peerway.cli.population.run_pairs", interrupted)
    assert run(["sim", "population", "--json", "-q"]) == 130
    record, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert (record["seed"], summary["pairs"]) == (0, 1)


def test_ctrl_c_before_the_first_pair_has_nothing_to_tell(capsys, monkeypatch):
    def interrupted(seeds, *, jobs, aids):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("peerway.cli.population.run_pairs", interrupted)
    assert run(["sim", "population", "--json", "-q"]) == 130
    assert capsys.readouterr().out == ""


def test_a_pair_that_failed_is_told_and_is_1(capsys, monkeypatch, in_this_process):
    monkeypatch.setattr("peerway.sim.meeting.outlook", lambda plan, left, right: "relay")
    assert run(["sim", "population", "--pairs", "1"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("pair:0: ")
    assert "direct, though the oracle knows no way" in out


def test_a_pair_can_be_replayed(capsys):
    assert run(["sim", "replay", "pair:2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["seed"], record["left"], record["right"]) == (2, "eim-apdf", "edm")


@pytest.mark.parametrize("name", ["pear:2", "pair:", "pair:two", ":2"])
def test_what_is_no_pair_cannot_be_replayed(capsys, name):
    assert run(["sim", "replay", name]) == 2
    assert "neither a seed nor the name of a scenario" in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_is_an_error(capsys, in_this_process):
    arguments = ["sim", "population", "--pairs", "1", "--jobs", "1", "--plot", "/nowhere/at/all"]
    assert run(arguments) == 1
    assert "cannot write the picture to /nowhere/at/all: " in capsys.readouterr().err
