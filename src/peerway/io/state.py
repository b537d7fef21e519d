"""Where this user's peerway keeps what outlives a run: keys, certificates, `config.toml`.

The directory is `$PEERWAY_HOME`, else `$XDG_STATE_HOME/peerway`, else the platform's own
place for state. It is made 0700 when something is first kept in it, and refused when
others may write to it: whoever can replace a key file is the node.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from peerway.core.machine import PeerwayError

USABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class StateError(PeerwayError):
    """The state directory, or a file in it, cannot be used; the message says why and what to do."""


def state_directory(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """The state directory's path; it need not exist."""
    if chosen := environ.get("PEERWAY_HOME"):
        return Path(chosen).expanduser()
    if xdg := environ.get("XDG_STATE_HOME"):
        return Path(xdg) / "peerway"
    if platform == "win32":
        local = environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "peerway"
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "peerway"
    return Path.home() / ".local" / "state" / "peerway"


def ensure_private(directory: Path) -> None:
    """Make `directory` with mode 0700 where it is missing.

    `StateError` when it cannot be made, is no directory, or others may write to it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except OSError as error:
        raise StateError(
            f"cannot make the state directory {directory}: {reason(error)}; "
            "choose another with PEERWAY_HOME=DIRECTORY"
        ) from error
    if os.name == "posix" and status.st_mode & WRITABLE_BY_OTHERS:
        raise StateError(
            f"others may write to the state directory {directory} "
            f"(mode {stat.S_IMODE(status.st_mode):04o}): chmod 700 {directory}"
        )


def is_private(status: os.stat_result) -> bool:
    """Whether nobody but its owner can read a file, as far as the system can tell."""
    return os.name != "posix" or not status.st_mode & USABLE_BY_OTHERS


def reason(error: OSError) -> str:
    """The system's own words for an error, without its number and path."""
    return error.strerror or str(error)
