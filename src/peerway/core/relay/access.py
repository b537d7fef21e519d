"""Who may use a relay: everybody, or those whose key or whose token it knows.

A relay learns a node's lasting key only where the node was told that the relay is its own: others see
a key made for that connection, and the token not at all. So a relay that does not admit everybody is
to be named by whoever is to use it, the guest of a ticket included.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from peerway.core.machine import PeerwayError

TOKEN_LENGTH = (16, 256)  # characters: enough to be no guess, few enough for a header
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 2.1

KEY_REFUSED = "this relay does not admit this key"
PROOF_WANTED = "this relay admits only those who show its token"
PROOF_REFUSED = "this relay does not admit the token it is shown"
REFUSALS = (KEY_REFUSED, PROOF_WANTED, PROOF_REFUSED)

Question = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Access:
    """What a relay asks of its clients. With neither question all are admitted, with both either will do.

    `allow` is asked about a client's 32-byte key, `token` about what it shows. Whatever they raise means no.
    """

    allow: Question | None = None
    token: Question | None = None

    @property
    def wants_token(self) -> bool:
        """Whether nobody comes in without a token."""
        return self.token is not None and self.allow is None

    def admits(self, key: bytes, token: bytes) -> bool:
        """Whether a client with this key, which showed this token (empty: none), may come in or stay."""
        if self.allow is None and self.token is None:
            return True
        return _says_yes(self.allow, key) or self.admits_token(token)

    def admits_token(self, token: bytes) -> bool:
        """Whether this token opens the relay."""
        return bool(token) and _says_yes(self.token, token)


def _says_yes(question: Question | None, about: bytes) -> bool:
    if question is not None:
        with suppress(Exception):
            return question(about) is True
    return False


def advice(node_id: str, url: str, is_own: bool, is_private: bool) -> str:
    """What a refused node is to do. `is_own`: it was told that the relay is its own.

    `is_private`: a token may be shown there, since nobody listens on the way.
    """
    join = f"have whoever runs it add {node_id} to its --allow file"
    if not is_own:
        return f"it was not told who we are, since it is not our own: name it with --relay {url}, and {join}"
    if not is_private:
        return f"{join}; a token is shown over TLS only"
    return f"{join}, or give you a token for --token-file"


class TokenError(PeerwayError, ValueError):
    """Text that cannot be a token. It is not repeated: it may be one, misspelt."""

    def __init__(self) -> None:
        super().__init__(
            f"not a token: {TOKEN_LENGTH[0]} to {TOKEN_LENGTH[1]} letters, digits and - . _ ~ + / = are; "
            "make one with openssl rand -hex 32"
        )


def check_token(text: str) -> str:
    """The token itself. Raises `TokenError` for what is too short to be a secret, or no header can carry."""
    if not TOKEN_LENGTH[0] <= len(text) <= TOKEN_LENGTH[1] or not _TOKEN.fullmatch(text):
        raise TokenError
    return text
