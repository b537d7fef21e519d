"""Every setting there is: a flag, an environment variable and a key of `config.toml` at once.

A flag wins over the environment, the environment over the file. Settings of the scope
`node` hold for every command that runs a node: `relay = […]` at the top of the file, or
`PEERWAY_RELAY`. The others belong to one command: `port` in the table `[serve]`, or
`PEERWAY_SERVE_PORT`. A name that is not in the table is an error, and the nearest one that
is gets named: a misspelt setting must not be silently without effect.
"""

from __future__ import annotations

import difflib
import enum
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click

from peerway.cli.errors import UsageError
from peerway.io.state import reason

PREFIX = "PEERWAY_"
NODE = "node"
NODE_COMMANDS = ("listen", "connect", "ping")
CONFIG_NAME = "config.toml"
OTHER_VARIABLES = ("PEERWAY_HOME",)

Function = TypeVar("Function", bound=Callable[..., object])


class Kind(enum.Enum):
    """What a setting's value is."""

    TEXT = enum.auto()
    TEXTS = enum.auto()
    PORT = enum.auto()
    FILE = enum.auto()
    SWITCH = enum.auto()


CLICK_TYPES: dict[Kind, click.ParamType[object]] = {
    Kind.TEXT: click.STRING,
    Kind.TEXTS: click.STRING,
    Kind.PORT: click.IntRange(0, 65535),
    Kind.FILE: click.Path(dir_okay=False, path_type=Path),
    Kind.SWITCH: click.BOOL,
}
TOML_TYPES: dict[Kind, type] = {
    Kind.TEXT: str,
    Kind.TEXTS: list,
    Kind.PORT: int,
    Kind.FILE: str,
    Kind.SWITCH: bool,
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `scope` is a command, or `node` for every command that runs a node, and `also` others."""

    scope: str
    name: str
    kind: Kind
    help: str
    metavar: str | None = None
    also: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """How it is given on the command line."""
        return f"--{self.name}/--no-{self.name}" if self.kind is Kind.SWITCH else f"--{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable; several values are separated by spaces."""
        middle = "" if self.scope == NODE else self.scope + "_"
        return PREFIX + (middle + self.name).replace("-", "_").upper()

    @property
    def key(self) -> str:
        """Where it stands in `config.toml`."""
        return self.name if self.scope == NODE else f"{self.scope}.{self.name}"

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that take it."""
        return (NODE_COMMANDS if self.scope == NODE else (self.scope,)) + self.also


KEPT_KEY = "the secret key's file, made when it does not exist [default: listen.key in the state directory]"
FRESH_KEY = "the secret key's file, made when it does not exist [default: a fresh key for this run]"
ADVERTISED = "an outside address that a router forwards to our port (repeatable)"
FURTHER_STUN = "a STUN server beside the relays' own (repeatable)"
CHECKS = ("netcheck",)  # needs relays and servers, but runs no node
AUTHORITIES = "authorities, PEM, whose certificates relays may show beside those the system trusts"
CERTIFICATE = "the certificate chain to show, PEM [default: one made here and kept, which the URL pins]"
METRICS = "where Prometheus finds /metrics, and others /healthz: 127.0.0.1:9464, say [default: nowhere]"
OTHER_PORT = (
    "a second UDP port for STUN, with which clients see more of their NAT "
    "[default: none; with two --host of one family, the next one]"
)

SETTINGS = (
    Setting(NODE, "relay", Kind.TEXTS, "a relay to be reached through (repeatable)", "URL", CHECKS),
    Setting(NODE, "stun", Kind.TEXTS, FURTHER_STUN, "HOST:PORT", CHECKS),
    Setting(NODE, "port", Kind.PORT, "the UDP port [default: 41641, or any when that is taken]"),
    Setting(NODE, "advertise", Kind.TEXTS, ADVERTISED, "IP:PORT"),
    Setting(NODE, "portmap", Kind.SWITCH, "whether routers are asked for a port [default: yes]", also=CHECKS),
    Setting(NODE, "ca", Kind.FILE, AUTHORITIES, also=CHECKS),
    Setting(NODE, "token-file", Kind.FILE, "a file with the token that our relays want, of mode 600"),
    Setting("listen", "key", Kind.FILE, KEPT_KEY, also=("id",)),
    Setting(
        "listen", "allow", Kind.TEXTS, "who may connect without the ticket's secret (repeatable)", "NODE_ID"
    ),
    Setting(
        "listen", "accept-ticket", Kind.SWITCH, "whether whoever holds the ticket may connect [default: yes]"
    ),
    Setting("connect", "key", Kind.FILE, FRESH_KEY),
    Setting("ping", "key", Kind.FILE, FRESH_KEY),
    Setting("serve", "name", Kind.TEXT, "how others reach this machine [default: its own address]", "HOST"),
    Setting("serve", "host", Kind.TEXTS, "an address to listen at (repeatable) [default: all]", "IP"),
    Setting("serve", "port", Kind.PORT, "the relay's TCP port [default: 443, with --plain 3340]"),
    Setting("serve", "stun-port", Kind.PORT, "the STUN server's UDP port [default: 3478]"),
    Setting("serve", "stun-other-port", Kind.PORT, OTHER_PORT),
    Setting("serve", "cert", Kind.FILE, CERTIFICATE),
    Setting("serve", "key", Kind.FILE, "the certificate's private key, PEM"),
    Setting(
        "serve", "allow", Kind.FILE, "a file of node ids, one a line: they may use the relay [default: all]"
    ),
    Setting(
        "serve", "token-file", Kind.FILE, "a file of tokens, one a line: who shows one may use the relay"
    ),
    Setting("serve", "metrics", Kind.TEXT, METRICS, "IP:PORT"),
    Setting("serve", "plain", Kind.SWITCH, "HTTP without TLS: for laboratories, and behind a TLS proxy"),
)


def options(command: str) -> Callable[[Function], Function]:
    """Gives a command the flags of its settings."""

    def decorate(function: Function) -> Function:
        for setting in reversed(SETTINGS):
            if command in setting.commands:
                function = _option(setting)(function)
        return function

    return decorate


def _option(setting: Setting) -> Callable[[Function], Function]:
    return click.option(
        setting.flag,
        type=CLICK_TYPES[setting.kind],
        multiple=setting.kind is Kind.TEXTS,
        default=None,
        metavar=setting.metavar,
        envvar=setting.variable,
        show_envvar=True,
        help=setting.help,
    )


def check_environment(environ: Mapping[str, str]) -> None:
    """`UsageError` for a `PEERWAY_…` variable that no setting has."""
    known = [setting.variable for setting in SETTINGS] + list(OTHER_VARIABLES)
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            raise _unknown(f"the environment variable {name}", name, known)


def load(path: Path) -> dict[str, dict[str, object]]:
    """The values in `config.toml`, by command and parameter as click wants its `default_map`.

    Empty when there is no file; `UsageError` when it cannot be read or has an unknown key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        why = reason(error) if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"cannot read {path}: {why}") from error
    try:
        return _by_command(path, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    except RecursionError:
        raise UsageError(f"{path} is nested too deeply") from None


def _by_command(path: Path, content: Mapping[str, object]) -> dict[str, dict[str, object]]:
    scopes = sorted({setting.scope for setting in SETTINGS} - {NODE})
    defaults: dict[str, dict[str, object]] = {}
    for name, value in content.items():
        if name not in scopes:
            _store(path, defaults, NODE, name, value, scopes)
        elif isinstance(value, dict):
            for inner, inner_value in value.items():
                _store(path, defaults, name, inner, inner_value, ())
        else:
            raise UsageError(f"{path}: {name} must be a table: [{name}]")
    return defaults


def _store(
    path: Path,
    defaults: dict[str, dict[str, object]],
    scope: str,
    name: str,
    value: object,
    tables: Iterable[str],
) -> None:
    known = {setting.name: setting for setting in SETTINGS if setting.scope == scope}
    if name not in known:
        where = "" if scope == NODE else f" in [{scope}]"
        raise _unknown(f"the key {name!r}{where} of {path}", name, [*known, *tables])
    setting = known[name]
    wanted = TOML_TYPES[setting.kind]
    if wanted is list and isinstance(value, str):
        value = [value]
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise UsageError(f"{path}: {name} = {value!r} has the wrong type; it must be a {wanted.__name__}")
    for command in setting.commands:
        defaults.setdefault(command, {})[name.replace("-", "_")] = value


def _unknown(what: str, name: str, known: Iterable[str]) -> UsageError:
    short = {candidate.removeprefix(PREFIX): candidate for candidate in known}
    nearest = difflib.get_close_matches(name.removeprefix(PREFIX), short, n=1, cutoff=0.5)
    hint = (
        f"did you mean {short[nearest[0]]}?" if nearest else f"known are: {', '.join(sorted(short.values()))}"
    )
    return UsageError(f"{what} is unknown", hint)
