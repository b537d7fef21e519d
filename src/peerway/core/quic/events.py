"""What a session tells its owner. Streams are named by their QUIC stream id (RFC 9000 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

from peerway.core.identity import NodeId
from peerway.core.machine import Event


@dataclass(frozen=True, slots=True)
class SessionEstablished(Event):
    """The peer is who we wanted. On the server: its signature is checked."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class SessionClosed(Event):
    """The session is over; no event of a stream follows. What had arrived can still be read.

    `code` is the application's below `APPLICATION_CODES`, else a `SessionCode`. `by_peer`: it was
    the peer that ended it. The machine goes on answering late packets until `SessionEnded`.
    """

    code: int
    reason: str
    by_peer: bool


@dataclass(frozen=True, slots=True)
class SessionEnded(Event):
    """QUIC's closing period is over as well: the machine has nothing more to do, ever."""


@dataclass(frozen=True, slots=True)
class ConnectionIdIssued(Event):
    """Packets to this connection id belong to this session."""

    connection_id: bytes


@dataclass(frozen=True, slots=True)
class ConnectionIdRetired(Event):
    """Packets to this connection id do not belong to this session any more."""

    connection_id: bytes


@dataclass(frozen=True, slots=True)
class StreamOpened(Event):
    """The peer opened a stream; it may not have written on it yet."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamReadable(Event):
    """There is something to read, or the end, where there was nothing before: read until empty."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamWritable(Event):
    """Who waits to write, or for delivery, should look again: the queue is short, or is_delivered."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamStopped(Event):
    """The peer does not want what we write on the stream; the rest of it is dropped."""

    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class StreamReset(Event):
    """The peer gave up writing on the stream; what was not read yet is dropped."""

    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class StreamClosed(Event):
    """Both directions of the stream are over, and the peer has what we wrote."""

    stream: int
