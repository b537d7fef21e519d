"""Two nodes that meet, transfer, are cut, part, restart and meet again; attacked or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.sim.topology import SERVER_IPS, SERVER_NAME, pair

from peerway.core.identity import NodeId
from peerway.core.links import LinkEvent
from peerway.core.machine import Event, UdpAddress
from peerway.core.quic.events import StreamOpened
from peerway.core.quic.transport import TransportFactory
from peerway.core.signal.door import Admission
from peerway.core.ticket import Ticket
from peerway.sim.attack.attacker import Attacker, Strategy
from peerway.sim.attack.bad_peer import BadPeer
from peerway.sim.attack.hostile_relay import HostileRelay, Mischief
from peerway.sim.attack.manners import Manners
from peerway.sim.network.host import Host
from peerway.sim.network.tree import LinkQuality
from peerway.sim.nodes import RELAY_PORT, SimNode, run_server
from peerway.sim.transport.stand_in import SimTransports
from peerway.sim.watch.monitor import Monitor

RELAY = f"http://{SERVER_NAME}:{RELAY_PORT}"
STUN = tuple((ip, 3478) for ip in SERVER_IPS)
SECRET = b"s" * 16
PORT = 41641
RIGHT_OUTSIDE = UdpAddress("192.0.2.1", PORT)
QUICK = LinkQuality(delay_s=0.001)
PATIENCE_S = 10.0
PACKETS_PER_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """Whether the path was direct at each point, what was read, how often they connected, what ended."""

    direct: tuple[bool, ...]
    received: tuple[bytes, ...]
    established: tuple[int, int]
    closed: tuple[str, ...]


class Story:
    """The two, whatever attacks them, and a monitor. `run` tells the whole of it."""

    def __init__(
        self,
        strategies: Sequence[Strategy] = (),
        left: str = "eim-apdf",
        right: str = "eim-eif",
        seed: int = 1,
        mischief: Mischief | None = None,
        transports: TransportFactory | None = None,
    ) -> None:
        topology = pair(left, right, seed)
        self.topology, self.world = topology, topology.world
        self.transports = transports or SimTransports(self.world.rng("transports"))
        self.core = topology.server.link().upper
        for ip in SERVER_IPS:
            self.world.names[ip] = (ip,)
        self.monitor = Monitor(self.world, [topology.server.name])
        rng = self.world.rng
        self.relay = HostileRelay(rng("server/relay"), rng("mischief"), mischief or Mischief())
        run_server(self.world, topology.server, self.relay)
        self.left = SimNode(
            self.world, topology.left, (RELAY,), stun=STUN, key=b"l" * 32, transports=self.transports
        )
        self.right = self._start_right("right")
        self.ids = (self.left.machine.key.node_id, self.right.machine.key.node_id)
        self.admitted = [self.ids[0]]
        self.monitor.watch(self.left, self.ids[1:])
        self.monitor.watch(self.right, self.admitted)
        self.attacker = self._attack(strategies) if strategies else None

    def _start_right(self, name: str) -> SimNode:
        return SimNode(
            self.world,
            self.topology.right,
            (RELAY,),
            stun=STUN,
            admission=Admission(secret=SECRET),
            name=name,
            key=b"r" * 32,
            port=PORT,
            transports=self.transports,
        )

    def stranger(self, name: str, number: int) -> Host:
        """A host of somebody else, a millisecond from the core."""
        host = Host(self.world, name)
        host.attach(self.core, f"198.51.200.{number}/24", quality=QUICK)
        return host

    def _attack(self, strategies: Sequence[Strategy]) -> Attacker:
        uplinks = [self.topology.left_home.uplink, self.topology.right_home.uplink]
        return Attacker(
            self.world,
            self.stranger("mallory", 66),
            [link for link in uplinks if link is not None] + [self.topology.server.link()],
            strategies,
            targets=self.ids,
            per_s=PACKETS_PER_S,
            until=40.0,
        )

    def admit(self, manners: Manners) -> BadPeer:
        """A bad peer, which the right node admits."""
        bad = BadPeer(self.world, self.stranger("villain", 77), self.ticket, manners, self.transports)
        self.admitted.append(bad.machine.key.node_id)
        self.monitor.know(bad.machine.key.node_id, "villain")
        return bad

    @property
    def ticket(self) -> Ticket:
        """The right node's, with its address, so that signals and the first flight also go by UDP."""
        return replace(self.right.ticket(SECRET), addresses=(RIGHT_OUTSIDE,))

    def run(self) -> Outcome:
        """All of it, about 40 seconds."""
        direct, received = [], []
        self.world.run_until(2.0)
        link, right_link = self.dial()
        direct.append(self.direct(link, right_link))
        received.append(self.transfer(link, right_link, bytes(range(256)) * 400))
        self.cut(seconds=2.0)
        received.append(self.transfer(link, right_link, bytes(range(255)) * 400))
        direct.append(self.direct(link, right_link))
        self.left.close(link)
        self.world.run_for(6.0)
        self.right.kill()
        first_right, self.right = self.right, self._start_right("right again")
        self.monitor.watch(self.right, self.admitted)
        self.world.run_until(30.0)
        link, right_link = self.dial()
        direct.append(self.direct(link, right_link))
        received.append(self.transfer(link, right_link, b"again" * 1000))
        self.world.run_until(41.0)
        self.monitor.look()
        rights = (first_right, self.right)
        closed = [
            node.closed[link]
            for node in (self.left, *rights)
            for link in node.established
            if link in node.closed and self.peer_of(node, link) in self.ids
        ]
        return Outcome(
            tuple(direct),
            tuple(received),
            (len(self.left.established), sum(len(self.links_of(node)) for node in rights)),
            tuple(sorted(f"{over.code} {over.reason}" for over in closed)),
        )

    def dial(self) -> tuple[int, int]:
        """The numbers of the new link on both sides."""
        before = self.links_of(self.right)
        link = self.left.dial(self.ticket)
        self.soon(lambda: link in self.left.established and self.links_of(self.right) != before)
        return link, self.links_of(self.right)[-1]

    def peer_of(self, node: SimNode, link: int) -> NodeId:
        """Whom a link of a node is with."""
        return node.machine.call(link, lambda found: found.peer, self.world.now)

    def links_of(self, right: SimNode) -> list[int]:
        """The connections that the right node ever had with the left one."""
        return [link for link in right.established if self.peer_of(right, link) == self.ids[0]]

    def direct(self, link: int, right_link: int) -> bool:
        """Whether both soon have a direct path."""
        return self.soon(lambda: self.left.is_direct(link) and self.right.is_direct(right_link))

    def transfer(self, link: int, right_link: int, data: bytes) -> bytes:
        """What the right side reads of what the left one writes on a new stream."""
        stream = self.left.open_stream(link)
        self.left.write(link, stream, data)
        opened = LinkEvent(right_link, self.ids[0], StreamOpened(stream))
        is_open, got = False, b""

        def listen(event: Event, now: float) -> None:
            nonlocal is_open
            is_open |= event == opened

        def whole() -> bool:
            nonlocal got
            got += self.right.read(right_link, stream) if is_open else b""
            return len(got) >= len(data)

        self.right.listeners.append(listen)
        self.soon(whole)
        self.right.listeners.remove(listen)
        return got

    def cut(self, seconds: float) -> None:
        """The left home loses its line, and its router forgets all mappings."""
        home = self.topology.left_home
        assert home.uplink is not None
        home.uplink.up = False
        self.world.run_for(seconds)
        if home.nat4 is not None:
            home.nat4.reboot()
        home.uplink.up = True

    def soon(self, condition: Callable[[], bool]) -> bool:
        """Whether it becomes true while we are patient."""
        return self.world.run_while(lambda: not condition(), PATIENCE_S)
