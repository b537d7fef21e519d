"""The server's door: what a client sends is held until it has proven who it is.

QUIC keeps no order between its streams, so a client's first data may overtake its `Auth`. A client
that keeps to the rules sends about `EARLY_BYTES` at most before the server has welcomed it.
"""

from __future__ import annotations

from peerway.core.identity import NodeId
from peerway.core.quic import authentication
from peerway.core.quic.control import Auth, ControlMessage
from peerway.core.quic.errors import PeerViolation, SessionCode
from peerway.core.quic.transport import StreamReceived

EARLY_BYTES = 256 << 10
MAX_HELD_BYTES = EARLY_BYTES + (64 << 10)  # what surrounds the data in lanes is not counted to the byte
MAX_HELD_EVENTS = 4096


class Admission:
    """Holds what comes for the streams, and checks the client's proof. Lives until it is right."""

    def __init__(self, server: NodeId, expected: NodeId) -> None:
        self.binding_secret = b""  # known once the handshake is done
        self._server = server
        self._expected = expected
        self._held: list[StreamReceived] = []
        self._held_bytes = 0

    def hold(self, event: StreamReceived) -> None:
        """Keep `event` until the client is known; `PeerViolation` when it is too much."""
        self._held.append(event)
        self._held_bytes += len(event.data)
        if self._held_bytes > MAX_HELD_BYTES or len(self._held) > MAX_HELD_EVENTS:
            raise PeerViolation(SessionCode.NOT_AUTHENTICATED, "too much was sent before the client's proof")

    def admit(self, message: ControlMessage) -> list[StreamReceived]:
        """What was held, if the first control message proves the client; `PeerViolation` if not."""
        if not isinstance(message, Auth):
            raise PeerViolation(SessionCode.NOT_AUTHENTICATED, "the client did not say who it is first")
        client = NodeId(message.client)
        if client != self._expected:
            reason = f"the client is {client}, not {self._expected} who announced itself"
            raise PeerViolation(SessionCode.NOT_AUTHENTICATED, reason)
        if not authentication.is_client(client, self._server, self.binding_secret, message.signature):
            raise PeerViolation(SessionCode.NOT_AUTHENTICATED, f"the signature is not that of {client}")
        self.binding_secret = b""
        held, self._held = self._held, []
        return held
