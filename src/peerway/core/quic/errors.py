"""Why sessions end, and what the local caller can do wrong."""

from __future__ import annotations

from enum import IntEnum

from peerway.core.machine import PeerwayError, WireError

APPLICATION_CODES = 1 << 32  # close codes below are the application's, the ones above ours


class SessionCode(IntEnum):
    """Why a session was closed by something other than an application."""

    WRONG_SERVER_KEY = APPLICATION_CODES + 1
    NOT_AUTHENTICATED = APPLICATION_CODES + 2
    PROTOCOL_VIOLATION = APPLICATION_CODES + 3
    CREDIT_EXCEEDED = APPLICATION_CODES + 4
    HANDSHAKE_TIMEOUT = APPLICATION_CODES + 5
    TRANSPORT_FAILED = APPLICATION_CODES + 6
    CONTROL_STALLED = APPLICATION_CODES + 7


class StreamCode(IntEnum):
    """Why a stream was reset or stopped by something other than an application."""

    REFUSED = APPLICATION_CODES + 1
    UNKNOWN_TYPE = APPLICATION_CODES + 2


class PeerViolation(WireError):
    """The peer broke the rules of the session, which is closed with `code` for it."""

    def __init__(self, code: SessionCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class StreamMisuse(PeerwayError, ValueError):
    """The local caller used a stream in a way that cannot work, such as writing after its end."""


class TooManyStreams(PeerwayError):
    """More streams are open, or wait to be opened, than a session keeps. Close some first."""
