"""Two nodes, each at home behind its router, and the relay and STUN server they meet by."""

from __future__ import annotations

from tests.sim.topology import SERVER_IPS, SERVER_NAME, pair

from peerway.core.quic.events import StreamOpened
from peerway.core.quic.qh3_transport import Qh3Transport
from peerway.core.signal.door import Admission
from peerway.sim.network.tree import DEFAULT_QUALITY
from peerway.sim.nodes import SimNode, run_server
from peerway.sim.transport.stand_in import SimTransports

RELAY = f"http://{SERVER_NAME}:3340"
STUN = tuple((ip, 3478) for ip in SERVER_IPS)
SECRET = b"s" * 16


class TwoHomes:
    """The nodes have had two seconds. `quic`: they speak qh3's, and no run is like another."""

    def __init__(
        self,
        left="eim-apdf",
        right="eim-apdf",
        seed=1,
        access=DEFAULT_QUALITY,
        *,
        quic=True,
        is_traced=True,
    ):
        self.topology = pair(left, right, seed, access)
        self.world = self.topology.world
        self.world.is_traced = is_traced
        self.relay = run_server(self.world, self.topology.server)
        transports = Qh3Transport if quic else SimTransports(self.world.rng("transports"))
        self.left, self.right = (
            SimNode(
                self.world,
                host,
                (RELAY,),
                stun=STUN,
                admission=Admission(secret=SECRET),
                transports=transports,
            )
            for host in (self.topology.left, self.topology.right)
        )
        self.world.run_for(2.0)

    def dial(self):
        self.link = self.left.dial(self.right.ticket(SECRET))
        self.world.run_while(lambda: self.link not in self.left.established, 5.0)
        assert self.link in self.left.established
        self.world.run_while(lambda: not self.right.established, 5.0)
        (self.right_link,) = self.right.established
        return self.link

    def both_direct(self):
        return self.left.is_direct(self.link) and self.right.is_direct(self.right_link)

    def open_stream(self):
        """A stream from left to right, which right knows of; its number."""
        stream = self.left.open_stream(self.link)
        opened = (self.right_link, StreamOpened(stream))
        assert self.world.run_while(
            lambda: not any((link, event) == opened for _, link, event in self.right.events), 5.0
        )
        return stream

    def transfer(self, stream, up, down, limit_s=60.0):
        """Write `up` at the left end and `down` at the right; what arrives at the right and the left."""
        self.left.write(self.link, stream, up)
        self.right.write(self.right_link, stream, down)
        at_right, at_left = bytearray(), bytearray()
        end = self.world.now + limit_s
        while self.world.now < end and (len(at_right) < len(up) or len(at_left) < len(down)):
            self.world.run_for(0.01)
            at_right += self.right.read(self.right_link, stream)
            at_left += self.left.read(self.link, stream)
        return at_right, at_left
