"""Tokens in a file, one a line: what a relay takes, and what a node shows to it.

As with keys, a file that others can read is refused: they may know the token already.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from peerway.core.relay.access import TokenError, check_token
from peerway.io.state import StateError, is_private, reason


class TokenFileError(StateError):
    """A token file that cannot be read or trusted, or holds something else. Never repeats a token."""


def load_tokens(path: Path) -> tuple[str, ...]:
    """The tokens in `path`, at least one. Empty lines, and what stands behind a #, do not count."""
    try:
        with path.open("rb") as file:
            if not is_private(os.fstat(file.fileno())):
                raise TokenFileError(
                    f"others can read the token file {path}. If nobody else has read it: chmod 600 {path}; "
                    "otherwise put a new token there"
                )
            lines = list(meant_lines(file.read().decode("utf-8")))
    except UnicodeDecodeError:
        raise TokenFileError(f"the token file {path} is not text") from None
    except OSError as error:
        raise TokenFileError(f"cannot read the token file {path}: {reason(error)}") from None
    return _checked(path, lines)


def meant_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that hold something, with their numbers, and without comments (from # to the end)."""
    for number, line in enumerate(text.splitlines(), 1):
        meant = line.partition("#")[0].strip()
        if meant:
            yield number, meant


def _checked(path: Path, lines: list[tuple[int, str]]) -> tuple[str, ...]:
    if not lines:
        raise TokenFileError(f"the token file {path} holds no token")
    tokens = []
    for number, line in lines:
        try:
            tokens.append(check_token(line))
        except TokenError as error:
            raise TokenFileError(f"{path}, line {number}: {error}") from None
    return tuple(tokens)
