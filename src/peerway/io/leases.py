"""The mappings that gateways hold for us, in a file for as long as we run, so that a later run finds them.

A run that ends in order removes its mappings and its file. One that is killed leaves both behind; the
file is locked while its run lives, so whoever finds an unlocked one takes it over, and removes the
mappings it names. Each run has a file of its own: several may run at once.

Where files cannot be locked (Windows) nothing is kept, and a killed run's mappings last as long as
their lease.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import BinaryIO

import msgspec

from peerway.core.portmap.lease import Lease
from peerway.io.state import StateError, ensure_private, reason

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = "portmap-{}.json"
MAX_FILE_BYTES = 64 * 1024
MAX_FILES = 64  # looked at, at a start
ENDLESS_KEPT_S = 30 * 86_400.0  # how long a mapping without an end is remembered
_PATTERN = NAME.format("*")


class _Kept(msgspec.Struct, frozen=True):
    """The file: when it was written (seconds of the epoch), and the leases."""

    written: float
    leases: tuple[Lease, ...]


class LeaseStore:
    """The leases of this run, and of those before it that were killed, in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / NAME.format(secrets.token_hex(8))
        self._file: BinaryIO | None = None
        self._kept: tuple[Lease, ...] = ()
        self._taken: list[tuple[Path, BinaryIO]] = []

    def take_over(self) -> tuple[Lease, ...]:
        """What runs that were killed have left: ours from now on. What cannot be read is ignored."""
        found: list[Lease] = []
        if fcntl is None:
            return ()
        for path in sorted(self._directory.glob(_PATTERN))[:MAX_FILES]:
            with contextlib.suppress(OSError):
                file = path.open("rb")
                if _lock(file) and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    self._taken.append((path, file))
                    found.extend(_read(file))
                else:
                    file.close()
        return tuple(found)

    def keep(self, leases: tuple[Lease, ...]) -> None:
        """These are all there are now; without any there is no file. Raises `StateError`."""
        if fcntl is None:
            return
        self._kept = leases
        try:
            if leases:
                ensure_private(self._directory)
                self._write(leases)
            else:
                self._remove()
        except OSError as error:
            raise StateError(f"cannot remember port mappings in {self._path}: {reason(error)}") from error
        self._drop_taken()

    def renewed(self) -> None:
        """A lease lives on: its age counts from now. Raises `StateError`."""
        self.keep(self._kept)

    def close(self) -> None:
        """Let go. A file that still names leases stays, for the next run to find."""
        for _, file in self._taken:
            file.close()
        self._taken.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, leases: tuple[Lease, ...]) -> None:
        draft = self._path.with_name(f".{self._path.name}.new")
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        file = os.fdopen(descriptor, "r+b")
        try:
            _lock(file)  # before it has its name: whoever finds it finds it locked
            file.write(msgspec.json.encode(_Kept(time.time(), leases)))
            file.flush()
            draft.replace(self._path)
        except BaseException:
            file.close()
            raise
        if self._file is not None:
            self._file.close()
        self._file = file

    def _remove(self) -> None:
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None

    def _drop_taken(self) -> None:
        """What was taken over stands in our own file by now, or is done with."""
        for path, file in self._taken:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            file.close()
        self._taken.clear()


def _lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read(file: BinaryIO) -> tuple[Lease, ...]:
    """The leases in a file that may still exist at their gateways."""
    try:
        kept = msgspec.json.decode(file.read(MAX_FILE_BYTES), type=_Kept)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ()
    age = time.time() - kept.written
    return tuple(lease for lease in kept.leases if age < (lease.lifetime_s or ENDLESS_KEPT_S))
