"""Settings: flag over environment over file, and every misspelling is told."""

import click
import pytest

from peerway.cli import settings
from peerway.cli.errors import UsageError


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.toml"

    def load(text):
        path.write_text(text)
        return settings.load(path)

    return load


def run(arguments=(), environ=None, defaults=None):
    """The values the command `listen` gets."""

    @click.command()
    @settings.options("listen")
    def listen(**values):
        return values

    with pytest.MonkeyPatch.context() as patch:
        for name, value in (environ or {}).items():
            patch.setenv(name, value)
        return listen.main(
            list(arguments), standalone_mode=False, default_map=(defaults or {}).get("listen", {})
        )


def test_without_a_file_nothing_is_set(tmp_path):
    assert settings.load(tmp_path / "config.toml") == {}
    assert run()["port"] is None
    assert run()["relay"] == ()


def test_a_flag_wins_over_the_environment_and_the_environment_over_the_file(config):
    defaults = config("port = 1\n")
    environ = {"PEERWAY_PORT": "2"}
    assert run(["--port", "3"], environ, defaults)["port"] == 3
    assert run([], environ, defaults)["port"] == 2
    assert run([], {}, defaults)["port"] == 1


def test_several_relays_are_a_list_in_the_file_and_words_in_the_environment(config):
    assert run([], {}, config('relay = ["http://a", "http://b"]'))["relay"] == ("http://a", "http://b")
    assert run([], {}, config('relay = "http://a"'))["relay"] == ("http://a",)
    assert run([], {"PEERWAY_RELAY": "http://a http://b"})["relay"] == ("http://a", "http://b")


def test_a_nodes_setting_holds_for_every_command_that_runs_one(config):
    loaded = config("port = 7\n[listen]\naccept-ticket = false\n")
    assert loaded == {
        "listen": {"port": 7, "accept_ticket": False},
        "connect": {"port": 7},
        "ping": {"port": 7},
    }


def test_a_commands_own_setting_has_its_own_variable():
    assert run([], {"PEERWAY_LISTEN_ACCEPT_TICKET": "no"})["accept_ticket"] is False
    assert run(["--no-accept-ticket"])["accept_ticket"] is False


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("relais = 1", "'relais' of", "relay"),
        ("[listne]\nkey = 'x'", "'listne' of", "listen"),
        ("[listen]\nkeys = 'x'", r"'keys' in \[listen\] of", "key"),
        ("zzzzzz = 1", "'zzzzzz' of", "known are: advertise, ca, connect, listen"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(config, text, message, hint):
    with pytest.raises(UsageError, match=message) as caught:
        config(text)
    assert hint in caught.value.hint
    assert caught.value.code == 2


def test_an_unknown_variable_names_the_nearest_known_one():
    with pytest.raises(UsageError, match="PEERWAY_RELAYS is unknown") as caught:
        settings.check_environment({"PEERWAY_RELAYS": "x", "HOME": "/"})
    assert caught.value.hint == "did you mean PEERWAY_RELAY?"


def test_known_variables_are_accepted():
    settings.check_environment({"PEERWAY_RELAY": "x", "PEERWAY_HOME": "/", "PEERWAY_LISTEN_KEY": "k"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port = 'seven'", "port = 'seven' has the wrong type"),
        ("port = true", "port = True has the wrong type"),
        ("relay = 5", "relay = 5 has the wrong type"),
        ("listen = 5", r"listen must be a table: \[listen\]"),
        ("port = ", "is not TOML"),
        ("relay = " + "[" * 2000, "nested too deeply"),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_the_file(config, text, message):
    with pytest.raises(UsageError, match=message) as caught:
        config(text)
    assert "config.toml" in str(caught.value)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*Is a directory"):
        settings.load(tmp_path)
    (tmp_path / "config.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="it is not UTF-8"):
        settings.load(tmp_path / "config.toml")


def test_variables_and_keys_are_unique():
    variables = [setting.variable for setting in settings.SETTINGS]
    assert len(set(variables)) == len(variables)
