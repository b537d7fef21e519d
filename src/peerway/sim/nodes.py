"""Whole nodes in a simulated internet: the server's machines, and a node on a host."""

from __future__ import annotations

from collections.abc import Callable

from peerway.core.identity import NodeId, SecretKey
from peerway.core.link import Link, LinkClosed, LinkEstablished
from peerway.core.links import DialMoved, LinkEvent, Result
from peerway.core.machine import Event, UdpAddress
from peerway.core.node import NodeMachine
from peerway.core.path.events import PathEvent, PathKind, PathSelected
from peerway.core.quic.qh3_transport import Qh3Transport
from peerway.core.quic.session import QuicSession
from peerway.core.quic.transport import TransportFactory
from peerway.core.relay.server import RelayServer
from peerway.core.signal.door import Admission
from peerway.core.stun.server import StunServer
from peerway.core.ticket import Ticket
from peerway.sim.network.host import Host
from peerway.sim.network.world import World

RELAY_PORT = 3340
STUN_PORT = 3478
STUN_OTHER_PORT = 3479


class SimNode:
    """A `NodeMachine` on a simulated host, with what happened to it kept by link.

    `established`, `closed` and `paths` are by link number; a dial that moved is followed.
    `listeners` are told of every event of the machine.
    `key` (32 bytes) and `port` are left to chance where not given. `on_link_event` sees what happens
    to links.
    """

    def __init__(
        self,
        world: World,
        host: Host,
        relays: tuple[str, ...] = (),
        *,
        admission: Admission | None = None,
        stun: tuple[tuple[str, int], ...] = (),
        name: str = "",
        key: bytes = b"",
        port: int = 0,
        on_link_event: Callable[[LinkEvent], None] | None = None,
        transports: TransportFactory = Qh3Transport,
    ) -> None:
        rng = world.rng(f"{name or host.name}/node")
        secret = SecretKey(key or rng.randbytes(32))
        self.world = world
        self.host = host
        self.machine = NodeMachine(
            secret, rng, admission=admission, relays=relays, stun=stun, transports=transports
        )
        self._on_link_event = on_link_event
        self.established: dict[int, float] = {}
        self.closed: dict[int, LinkClosed] = {}
        self.paths: dict[int, list[PathSelected]] = {}
        self.events: list[tuple[float, int, Event]] = []
        self.moved: dict[int, int] = {}
        self.listeners: list[Callable[[Event, float], None]] = []
        families = {"::" if ":" in address.ip else "0.0.0.0" for address in host.addresses}
        sockets = tuple(host.open_udp(port, wildcard) for wildcard in sorted(families))
        self.driver = host.run(self.machine, sockets, on_event=self._on_event)
        self.driver.call(lambda now: self.machine.start(sockets, now))

    def ticket(self, secret: bytes = b"") -> Ticket:
        """What others dial this node by."""
        return Ticket(self.machine.key.node_id, self.machine.home_relays, (), secret)

    def dial(self, ticket: Ticket) -> int:
        """Dial; the number of the link."""
        number = 0

        def begin(now: float) -> None:
            nonlocal number
            number = self.machine.dial(ticket, now)

        self.driver.call(begin)
        return number

    def final(self, link: int) -> int:
        """The link that `link` became, when a dial was moved."""
        while link in self.moved:
            link = self.moved[link]
        return link

    def is_direct(self, link: int) -> bool:
        """Whether the link's data travels directly now, by a path that is in no doubt."""
        link = self.final(link)
        selected = self.paths.get(link, [])
        if not selected or selected[-1].kind not in (PathKind.DIRECT, PathKind.LAN):
            return False
        path, _ = self.machine.ask(link, Link.path)
        return path is not None and not path.doubted

    def family(self, link: int) -> int:
        """4 or 6: the family of the direct path in use."""
        remote = self.paths[self.final(link)][-1].remote
        return 6 if isinstance(remote, UdpAddress) and ":" in remote.ip else 4

    def use(self, link: int, use: Callable[[QuicSession, float], Result]) -> Result:
        """Use the session of a link: `use(session, now)`."""
        results: list[Result] = []

        def call(now: float) -> None:
            results.append(
                self.machine.call(
                    link, lambda found: found.with_session(lambda session: use(session, now), now), now
                )
            )

        self.driver.call(call)
        return results[0]

    def open_stream(self, link: int) -> int:
        """A new stream; its number."""
        return self.use(link, lambda session, now: session.open_stream(now))

    def write(self, link: int, stream: int, data: bytes) -> None:
        """Append to a stream."""
        self.use(link, lambda session, now: session.write(stream, data, now))

    def read(self, link: int, stream: int) -> bytes:
        """Everything that has arrived on a stream."""
        return self.use(link, lambda session, now: session.read(stream, -1, now))

    def close(self, link: int) -> None:
        """End the connection."""
        self.use(link, lambda session, now: session.close(0, "", now))

    def _on_event(self, event: Event, now: float) -> None:
        for listener in self.listeners:
            listener(event, now)
        if isinstance(event, DialMoved):
            self.moved[event.link] = event.successor
        if not isinstance(event, LinkEvent):
            return
        inner = event.event
        self.events.append((now, event.link, inner))
        if isinstance(inner, LinkEstablished):
            self.established[event.link] = now
        elif isinstance(inner, LinkClosed):
            self.closed[event.link] = inner
        elif isinstance(inner, PathSelected):
            self.paths.setdefault(event.link, []).append(inner)
        if self._on_link_event is not None:
            self._on_link_event(event)

    def kill(self) -> None:
        """End the program as if by a signal that it does not hear of: nobody is told."""
        self.host.stop(self.driver)

    def exchange(self, link: int) -> tuple[bytes, bytes]:
        """The secrets of a link's exchange of signals, ours and the peer's: by them its ends are known."""
        found = self.machine._links._table[link]  # to look is not to call: nothing may follow from it
        return found.secret, found.peer_secret

    def leftovers(self, peer: NodeId) -> str:
        """What a node that is not connected with `peer` should not have: links with it, or, when it has no
        other link either, a timer that is neither a relay's nor a router's."""
        if count := sum(link.peer == peer for _, link in self.machine._links._table):
            return f"{count} connections"
        deadline = None if self.machine.connection_count else self.machine.poll_deadline()
        expected = ("relay", "port mapping")
        return deadline.reason if deadline and not deadline.reason.startswith(expected) else ""

    def story(self, link: int) -> list[str]:
        """The path events of a link, as `explain` would tell them."""
        return [
            f"{at:.3f} {event}"
            for at, number, event in self.events
            if number == link and isinstance(event, PathEvent)
        ]


def run_server(world: World, host: Host, relay: RelayServer | None = None) -> RelayServer:
    """A relay (an honest one unless another is given), and a STUN server with two ports at all addresses."""
    relay = relay or RelayServer(world.rng(f"{host.name}/relay"))
    host.run(relay, (), listen=(RELAY_PORT,))
    ports = (STUN_PORT, STUN_OTHER_PORT)
    sockets = [host.open_udp(port, address.ip) for port in ports for address in host.addresses]
    host.run(StunServer(sockets=sockets), sockets)
    return relay
