"""peerway connects two machines behind NATs and firewalls, by key.

At once through a relay, directly within moments; the application does not notice the switch.
"""

from peerway.connection import Connection, Path, Pong
from peerway.core.identity import NodeId, SecretKey
from peerway.core.path.events import PathEvent
from peerway.core.ticket import Ticket
from peerway.errors import (
    ConnectError,
    ConnectionClosedError,
    KeyTextError,
    NodeClosedError,
    NotATicketError,
    PeerwayError,
    RelayUnreachableError,
    RelayUrlError,
    StreamResetError,
    TicketDamagedError,
    TicketError,
    TicketTruncatedError,
    TicketVersionError,
)
from peerway.node import Node
from peerway.stream import StreamReader, StreamWriter

__all__ = [
    "ConnectError",
    "Connection",
    "ConnectionClosedError",
    "KeyTextError",
    "Node",
    "NodeClosedError",
    "NodeId",
    "NotATicketError",
    "Path",
    "PathEvent",
    "PeerwayError",
    "Pong",
    "RelayUnreachableError",
    "RelayUrlError",
    "SecretKey",
    "StreamReader",
    "StreamResetError",
    "StreamWriter",
    "Ticket",
    "TicketDamagedError",
    "TicketError",
    "TicketTruncatedError",
    "TicketVersionError",
]
