"""Where state is kept, and when that place is refused."""

import os
from pathlib import Path

import pytest

from peerway.io.state import StateError, ensure_private, state_directory


def test_peerway_home_wins_over_everything():
    environ = {"PEERWAY_HOME": "/srv/peerway", "XDG_STATE_HOME": "/xdg"}
    assert state_directory(environ, "linux") == Path("/srv/peerway")


def test_xdg_state_home_wins_over_the_platforms_place():
    assert state_directory({"XDG_STATE_HOME": "/xdg"}, "darwin") == Path("/xdg/peerway")


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {}, ".local/state/peerway"),
        ("darwin", {}, "Library/Application Support/peerway"),
        ("win32", {}, "AppData/Local/peerway"),
    ],
)
def test_each_platform_has_its_own_place(platform, environ, expected):
    assert state_directory(environ, platform) == Path.home() / expected


def test_an_empty_variable_counts_as_unset():
    environ = {"PEERWAY_HOME": "", "XDG_STATE_HOME": "/xdg"}
    assert state_directory(environ, "linux") == Path("/xdg/peerway")


def test_a_file_in_the_way_is_named_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"cannot make the state directory .*Not a directory.*PEERWAY_HOME="):
        ensure_private(tmp_path / "file" / "state")


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_a_directory_others_may_write_to_is_refused(tmp_path):
    tmp_path.chmod(0o770)
    with pytest.raises(StateError, match=r"others may write .*mode 0770\): chmod 700"):
        ensure_private(tmp_path)
