"""The command as a whole: exit codes, where words go, and errors that say what to do."""

import os
import subprocess
import sys

import pytest

from peerway.cli.app import run
from peerway.io.keyfile import load_or_create


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PEERWAY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def peerway(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "peerway", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def test_version_is_on_stdout(home):
    ran = peerway("--version")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "peerway 0.1.0\n", "")


def test_no_command_shows_the_help_and_is_a_usage_error(home, capsys):
    assert run([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "peerway connect TICKET" in err


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["id", "--nonsense"]])
def test_a_usage_error_is_2_and_points_to_the_help(home, capsys, arguments):
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("peerway: No such ")
    assert "--help says more" in err


def test_the_same_id_comes_out_every_time(home, capsys):
    assert run(["id"]) == 0
    assert run(["id"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert len(first) == 52


def test_the_id_is_that_of_the_key_that_listen_uses(home, capsys, monkeypatch):
    keys = {name: home / name for name in ("flag", "variable", "config")}
    kept = [load_or_create(path).node_id for path in keys.values()]
    (home / "config.toml").write_text(f"[listen]\nkey = '{keys['config']}'\n")
    run(["id"])
    monkeypatch.setenv("PEERWAY_LISTEN_KEY", str(keys["variable"]))
    run(["id"])
    run(["id", "--key", str(keys["flag"])])
    assert capsys.readouterr().out.split() == [str(node_id) for node_id in reversed(kept)]
    assert not (home / "listen.key").exists()


def test_json_may_stand_before_or_after_the_command(home, capsys):
    run(["--json", "id"])
    run(["id", "--json"])
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert first.startswith('{"event":"id","node_id":"')


def test_a_key_that_others_can_read_is_told_without_a_traceback(home):
    key = home / "listen.key"
    assert peerway("id").returncode == 0
    key.chmod(0o644)
    ran = peerway("id")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(f"peerway: others can read the key file {key}")
    assert "Traceback" not in ran.stderr
    assert "Traceback" in peerway("id", "-vv").stderr


def test_a_misspelt_setting_is_a_usage_error(home, capsys, monkeypatch):
    home.mkdir()
    (home / "config.toml").write_text("relays = []\n")
    assert run(["id"]) == 2
    assert "did you mean relay?" in capsys.readouterr().err
    (home / "config.toml").unlink()
    monkeypatch.setenv("PEERWAY_RELAYS", "x")
    assert run(["id"]) == 2
    assert "did you mean PEERWAY_RELAY?" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_stdout_that_cannot_be_written_is_an_error_without_a_traceback(home):
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "peerway", "id"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert ran.returncode == 1
    assert ran.stderr == "peerway: cannot write to stdout: No space left on device\n"
