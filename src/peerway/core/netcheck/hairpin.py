"""Whether two hosts behind one NAT reach each other by their outside addresses (RFC 4787 6).

Two of our sockets stand for the hosts: each sends to what a server saw of the other, as two peers
would, so that a NAT that filters lets the second packet in. A few packets, and only when somebody asks:
some firewalls take a packet to one's own address for an attack.
"""

from __future__ import annotations

from dataclasses import dataclass

from peerway.core.machine import Datagram, Event, Leaf, Rng, Transmit, UdpAddress
from peerway.core.netcheck.probes import Answer, Met
from peerway.core.stun.framing import TRANSACTION_ID_SIZE
from peerway.core.stun.message import BINDING, Message, MessageClass, build, is_stun

SENDS_S = (0.0, 0.2, 0.5)
PATIENCE_S = 1.2


@dataclass(frozen=True, slots=True)
class HairpinSeen(Event):
    """What came of it."""

    outcome: Met


class HairpinProbe(Leaf):
    """Two sockets that send to each other's outside addresses, as `one` and `other` tell them."""

    def __init__(self, one: Answer, other: Answer, rng: Rng, now: float) -> None:
        super().__init__()
        self._ends = (one, other)
        self._began_at = now
        self._done = False
        # nobody answers an indication, whoever may get it
        message = Message(MessageClass.INDICATION, BINDING, rng.randbytes(TRANSACTION_ID_SIZE))
        self._packet = build(message)
        self._send()
        for seconds in SENDS_S[1:]:
            self._timers.set(f"send at {seconds}", now + seconds, "netcheck: hairpin")
        self._timers.set("patience", now + PATIENCE_S, "netcheck: no hairpin")

    def receive(self, datagram: Datagram, now: float) -> bool:
        """Take what came to a socket; whether it was a packet of ours."""
        ours = datagram.local in (self._ends[0].local, self._ends[1].local) and any(
            segment == self._packet for segment in datagram.segments() if is_stun(segment)
        )
        if ours:
            outside = {end.mapped.ip for end in self._ends}
            remote = datagram.remote
            self._finish(Met(True, isinstance(remote, UdpAddress) and remote.ip not in outside))
        return ours

    def _send(self) -> None:
        for end, target in (self._ends, self._ends[::-1]):
            self._transmits.append(Transmit((self._packet,), target.mapped, end.local))

    def _timer_expired(self, name: str, now: float) -> None:
        if self._done:
            return
        if name == "patience":
            self._finish(Met(False))
        else:
            self._send()

    def _finish(self, outcome: Met) -> None:
        if not self._done:
            self._done = True
            self._events.append(HairpinSeen(outcome))
