"""Who gets in, by files that may change while the relay runs: a list of node ids, and tokens.

Each file is a way in: with both, either will do. A way is open only while its file can be read and
every line of it makes sense. When that ends, nobody new gets in by it, and who is inside stays; when a
new list was read, who is not on it any more is put out.

    OPEN --file changed, and is good--> OPEN (with the new list)
      |  <--file changed, and is good--  CLOSED
      +---cannot be read, bad line-----> CLOSED
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable
from pathlib import Path

from peerway.core.identity import KeyTextError, NodeId
from peerway.core.machine import PeerwayError, WireError
from peerway.io.state import reason
from peerway.io.tokenfile import load_tokens, meant_lines

LOOK_EVERY_S = 1.0  # whether a file has changed; twice the same is a file that nobody is writing to

logger = logging.getLogger("peerway.server")


class AdmissionError(PeerwayError):
    """A list of node ids cannot be used; the message says which, where in it and why."""


def load_node_ids(path: Path) -> frozenset[bytes]:
    """The relay keys of the nodes whose ids are in `path`, one a line; what stands behind a # is ignored."""
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise AdmissionError(f"the list of node ids {path} is not text") from None
    except OSError as error:
        raise AdmissionError(f"cannot read the list of node ids {path}: {reason(error)}") from None
    keys = set()
    for number, line in meant_lines(text):
        try:
            keys.add(NodeId.parse(line).box_public())
        except (KeyTextError, WireError) as error:
            raise AdmissionError(f"{path}, line {number}: {error}") from None
    return frozenset(keys)


def load_token_digests(path: Path) -> frozenset[bytes]:
    """What tokens are compared by: digests are of one length, and are compared in constant time."""
    return frozenset(_digest(token.encode()) for token in load_tokens(path))


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


class Way:
    """One file that admits. `known` is what it says, None while it is closed."""

    def __init__(self, path: Path, load: Callable[[Path], frozenset[bytes]]) -> None:
        self.path = path
        self.known: frozenset[bytes] | None = None
        self._load = load
        self._read: object = None
        self._seen: object = None

    def open(self) -> None:
        """Read the file for the first time. Raises `AdmissionError` or `TokenFileError`."""
        self._read = self._state()
        self.known = self._load(self.path)

    def reread(self) -> None:
        """Read the file again; a file that is no good closes the way."""
        self._read = self._seen = self._state()
        try:
            self.known = self._load(self.path)
        except PeerwayError as error:
            self.known = None
            advice = "nobody new gets in by it until it is good again"
            logger.error("relay admission-closed file=%s advice=%r error=%r", self.path, advice, str(error))
            return
        logger.info("relay admission-read file=%s entries=%d", self.path, len(self.known))

    def look(self) -> bool:
        """Whether the file is another one than was read, and has come to rest."""
        before, self._seen = self._seen, self._state()
        return self._seen == before and self._seen != self._read

    def has_key(self, key: bytes) -> bool:
        """Whether a key is on the list."""
        return self.known is not None and key in self.known

    def has_token(self, token: bytes) -> bool:
        """Whether a token is one of those in the file; in a time that tells nothing of how near it comes."""
        shown = _digest(token)
        matches = [hmac.compare_digest(shown, digest) for digest in self.known or ()]
        return any(matches)

    def _state(self) -> object:
        try:
            status = self.path.stat()
        except OSError as error:
            return error.errno
        return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode


class Ways:
    """All files that admit: `allow` of node ids, `tokens`; each may be missing."""

    def __init__(self, allow: str | Path | None, tokens: str | Path | None) -> None:
        self.allow = Way(Path(allow), load_node_ids) if allow is not None else None
        self.tokens = Way(Path(tokens), load_token_digests) if tokens is not None else None
        self._all = [way for way in (self.allow, self.tokens) if way is not None]

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def are_open(self) -> bool:
        """Whether every file is known, so that who is in none of them is known not to be."""
        return all(way.known is not None for way in self._all)

    def open(self) -> None:
        """Read all files for the first time. Raises `AdmissionError` or `TokenFileError`."""
        for way in self._all:
            way.open()

    def reread(self) -> None:
        """Read all files again."""
        for way in self._all:
            way.reread()

    def reread_changed(self) -> bool:
        """Read again what has changed; whether anything has."""
        changed = [way for way in self._all if way.look()]
        for way in changed:
            way.reread()
        return bool(changed)
