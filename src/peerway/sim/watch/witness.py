"""Reads a node's probes as they pass, with the node's own keys, and knows what they prove.

An oracle that looks inside: only who can open probes can tell whether a path that the node takes
for proven is so, and whether a copy of a ping was answered. It notes nothing as seen, and what it
reads changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from peerway.core.demux import KINDS, Kind
from peerway.core.machine import Address, RelayAddress, UdpAddress, WireError
from peerway.core.path.agent import PathAgent
from peerway.core.probe.message import FULL_SIZE, HEADER, OVERHEAD, Ping, Pong, _decode, _nonce, index_of
from peerway.sim.nodes import SimNode

PROBES_KEPT = 256  # that came from an address, and that went there; the oldest is forgotten
ANSWERS_KEPT = 8192


class Witness:
    """What went from `node` and came to it, by UDP."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self._came: dict[UdpAddress, deque[bytes]] = {}
        self._pinged: dict[UdpAddress, deque[bytes]] = {}
        self._answered: dict[tuple[UdpAddress, UdpAddress, bytes], None] = {}

    def came(self, source: UdpAddress, data: bytes) -> None:
        """Something came from `source`, or in its name."""
        if _is_probe(data):
            # read later: the keys may not be known yet
            self._came.setdefault(source, deque(maxlen=PROBES_KEPT)).append(data)

    def went(self, source: UdpAddress, destination: UdpAddress, data: bytes) -> str:
        """The node sent something there by its socket `source`; what is wrong with that, or ""."""
        agent = self._sender(data) if _is_probe(data) else None
        message = read(agent._sealer._aead, data) if agent is not None else None
        if isinstance(message, Ping) and message.size >= FULL_SIZE:
            self._pinged.setdefault(destination, deque(maxlen=PROBES_KEPT)).append(message.token)
        return self._note_answer(source, destination, message) if isinstance(message, Pong) else ""

    def lacking(self, link: int, remote: Address) -> str:
        """What was never seen of the two things that prove a path to `remote`, or "".

        Of a path over a relay, and of a link that is over by now, nothing is known.
        """
        found = self._node.machine._links._table.get(link)
        agent = found._agent if found is not None else None
        if agent is None or isinstance(remote, RelayAddress):
            return ""
        came = [read(agent._opener._aead, data) for data in self._came.get(remote, ())]
        answers = {message.token for message in came if isinstance(message, Pong)}
        if answers.isdisjoint(self._pinged.get(remote, ())):
            return "no ping of full size was answered there"
        if not any(isinstance(message, Ping) for message in came):
            return "no ping of the peer came from there"
        return ""

    def _note_answer(self, source: UdpAddress, destination: UdpAddress, pong: Pong) -> str:
        # a copy may be faster than the ping, and reach another socket: each pair answers once
        answer = (source, destination, pong.token)
        if answer in self._answered:
            return f"answered a ping from {destination} again"
        self._answered[answer] = None
        if len(self._answered) > ANSWERS_KEPT:
            del self._answered[next(iter(self._answered))]
        return ""

    def _sender(self, data: bytes) -> PathAgent | None:
        index = index_of(data)
        return next((agent for agent in self._agents() if agent._sealer._index == index), None)

    def _agents(self) -> Iterator[PathAgent]:
        for _, link in self._node.machine._links._table:
            if link._agent is not None:
                yield link._agent


def _is_probe(data: bytes) -> bool:
    return len(data) > OVERHEAD and KINDS[data[0]] is Kind.PROBE


def read(aead: ChaCha20Poly1305, data: bytes) -> Ping | Pong | None:
    """What a probe says; None when it is not sealed with this key."""
    header = data[: HEADER.size]
    try:
        plaintext = aead.decrypt(_nonce(HEADER.unpack(header)[-1]), data[HEADER.size :], header)
        return _decode(plaintext, len(data))
    except (InvalidTag, WireError):
        return None
