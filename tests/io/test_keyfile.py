"""Key files: who may read them, and what happens when they cannot be kept."""

import os
import stat
import subprocess
import sys

import pytest

from peerway.core.identity import SecretKey
from peerway.io.keyfile import KeyFileError, load, load_or_create

posix = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")


def test_a_key_is_made_once_and_read_again(tmp_path):
    path = tmp_path / "state" / "listen.key"
    made = load_or_create(path)
    assert load_or_create(path) == made
    assert load(path) == made


def test_the_file_is_one_line_of_base32(tmp_path):
    path = tmp_path / "key"
    path.write_text("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n")
    path.chmod(0o600)
    assert load(path) == SecretKey(bytes(32))


@posix
def test_a_new_key_file_is_for_its_owner_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        load_or_create(tmp_path / "state" / "listen.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state" / "listen.key").stat().st_mode) == 0o600


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_key_that_others_can_read_is_refused_and_left_alone(tmp_path, mode):
    path = tmp_path / "key"
    load_or_create(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"others can read the key file .*mode {mode:04o}.*chmod 600"):
        load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("content", [b"", b"short", b"a" * 60, b"\xff" * 52, b"0" * 52, b"x" * 5000])
def test_a_file_that_holds_no_key_is_refused_and_not_overwritten(tmp_path, content):
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="does not hold a key"):
        load_or_create(path)
    assert path.read_bytes() == content


def test_no_error_quotes_what_the_file_holds(tmp_path):
    path = tmp_path / "key"
    path.write_text("secretsecretsecret")
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as caught:
        load(path)
    assert "secretsecret" not in str(caught.value)


def test_a_directory_in_the_keys_place_is_named(tmp_path):
    with pytest.raises(KeyFileError, match=f"cannot read the key file {tmp_path}: Is a directory"):
        load(tmp_path)


def test_a_missing_key_is_only_made_when_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


@posix
def test_a_full_disk_leaves_no_key_and_no_draft(tmp_path):
    program = (
        "import pathlib, resource, sys\n"
        "from peerway.io.keyfile import KeyFileError, load_or_create\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "try: load_or_create(pathlib.Path(sys.argv[1]))\n"
        "except KeyFileError as error: print(error)\n"
    )
    path = tmp_path / "state" / "key"
    run = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert run.stdout == f"cannot write the key file {path}: File too large\n"
    assert list(path.parent.iterdir()) == []


def test_processes_that_start_together_end_up_with_one_key(tmp_path):
    program = (
        "import pathlib, sys\n"
        "from peerway.io.keyfile import load_or_create\n"
        "sys.stdin.readline()\n"
        "print(load_or_create(pathlib.Path(sys.argv[1])).node_id)\n"
    )
    command = [sys.executable, "-c", program, tmp_path / "key"]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    ids = {process.communicate()[0] for process in processes}
    assert len(ids) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]
