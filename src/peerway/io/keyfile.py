"""A node's secret key in a file: one line of base32, readable by its owner alone.

A file that others can read is refused, not repaired: the key may be known already. A new
key appears under its name complete or not at all, so a full disk or a second process
starting at the same moment never leaves half a key or two different ones.
"""

from __future__ import annotations

import binascii
import contextlib
import os
import secrets
import stat
from pathlib import Path

from peerway.core.identity import KEY_SIZE, SecretKey, decode_text, encode_text
from peerway.io.state import StateError, ensure_private, is_private, reason

MAX_KEY_FILE_SIZE = 1024


class KeyFileError(StateError):
    """A key file that cannot be read, written or trusted."""


def load_or_create(path: Path) -> SecretKey:
    """The key in `path`; a new one is made and kept there when the file does not exist."""
    try:
        return load(path)
    except FileNotFoundError:
        ensure_private(path.parent)
        _create(path, SecretKey(secrets.token_bytes(KEY_SIZE)))
        return load(path)


def load(path: Path) -> SecretKey:
    """The key in `path`; `FileNotFoundError` when there is no file, `KeyFileError` when it is no good."""
    try:
        with path.open("rb") as file:
            _refuse_shared(path, os.fstat(file.fileno()))
            text = file.read(MAX_KEY_FILE_SIZE)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KeyFileError(f"cannot read the key file {path}: {reason(error)}") from error
    try:
        seed = decode_text(text.decode("ascii").strip())
    except (binascii.Error, UnicodeDecodeError):
        seed = b""
    if len(seed) != KEY_SIZE:
        raise KeyFileError(f"{path} does not hold a key; move it away to have a new one made")
    return SecretKey(seed)


def _refuse_shared(path: Path, status: os.stat_result) -> None:
    if not is_private(status):
        raise KeyFileError(
            f"others can read the key file {path} (mode {stat.S_IMODE(status.st_mode):04o}). "
            f"If nobody else has read it: chmod 600 {path}; otherwise remove it to have a new key made"
        )


def _create(path: Path, key: SecretKey) -> None:
    """Write the key under `path`, unless another process was quicker."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(encode_text(key.seed).encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        _publish(draft, path)
    except OSError as error:
        raise KeyFileError(f"cannot write the key file {path}: {reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def _publish(draft: Path, path: Path) -> None:
    """Give the draft its name; a file that has the name already stays."""
    try:
        os.link(draft, path)  # unlike a rename, never replaces a key that is in use
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not path.exists():
            draft.replace(path)
