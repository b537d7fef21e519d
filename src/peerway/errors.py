"""What can go wrong for a user of the library; each says what failed, on what, and what to try."""

from __future__ import annotations

from peerway.core.identity import KeyTextError, NodeId
from peerway.core.machine import PeerwayError
from peerway.core.relay.url import RelayUrlError
from peerway.core.ticket import (
    NotATicketError,
    TicketDamagedError,
    TicketError,
    TicketTruncatedError,
    TicketVersionError,
)

__all__ = [
    "ConnectError",
    "ConnectionClosedError",
    "KeyTextError",
    "NodeClosedError",
    "NotATicketError",
    "PeerwayError",
    "RelayUnreachableError",
    "RelayUrlError",
    "StreamResetError",
    "TicketDamagedError",
    "TicketError",
    "TicketTruncatedError",
    "TicketVersionError",
]


class NodeClosedError(PeerwayError):
    """The node was not entered, or has been left."""


class ConnectError(PeerwayError):
    """A dial came to nothing. `peer` is whom it was for, `reason` why."""

    def __init__(self, peer: NodeId, reason: str) -> None:
        super().__init__(
            f"cannot connect to {peer.short}: {reason}; is it running, and is this ticket its newest?"
        )
        self.peer = peer
        self.reason = reason


class RelayUnreachableError(PeerwayError):
    """A relay that is needed cannot be reached. `url` and `reason` say which and why."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"cannot reach the relay {url}: {reason}")
        self.url = url
        self.reason = reason


class ConnectionClosedError(PeerwayError):
    """The connection is over. `code` 0 and `by_peer` tell an orderly end from the other kinds."""

    def __init__(self, code: int, reason: str, by_peer: bool) -> None:
        who = "the peer closed the connection" if by_peer else "the connection is closed"
        super().__init__(f"{who}: {reason or 'no reason given'} (code {code})")
        self.code = code
        self.reason = reason
        self.by_peer = by_peer


class StreamResetError(PeerwayError):
    """One side gave up this stream with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the stream was given up (code {code})")
        self.code = code
