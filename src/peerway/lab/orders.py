"""Orders that need a node: to open one, to dial, to talk, to tell; and the server's.

Times in answers are on the clock all machines of a lab share (`peerway.io.clock`), in seconds.
"""

from __future__ import annotations

import asyncio

import msgspec

from peerway.core.machine import UdpAddress
from peerway.core.netcheck.record import record
from peerway.core.netcheck.text import render
from peerway.core.portmap.report import Standing
from peerway.io import clock
from peerway.lab.bench import Bench
from peerway.lab.seat import Seat
from peerway.node import Node
from peerway.server import Server

DIAL_PATIENCE_S = 30.0
LOOK_EVERY_S = 0.02


class Served(msgspec.Struct, frozen=True):
    """The relay's URL, and the STUN servers beside the relay's own name, as "host:port"."""

    url: str
    stun: tuple[str, ...]


class Serve(msgspec.Struct, frozen=True, tag="serve"):
    """Run relay and STUN on these addresses until the worker ends.

    The relay's URL names `public_host`, else the first of them.
    """

    ips: tuple[str, ...]
    public_host: str = ""
    tls: bool = False

    async def perform(self, bench: Bench) -> Served:
        name = self.public_host or self.ips[0]
        server = Server(host=self.ips, public_host=name, tls="self-signed" if self.tls else None)
        await bench.enter_async_context(server)
        return Served(server.url, tuple(str(UdpAddress(ip, server.stun_port)) for ip in self.ips))


class Opened(msgspec.Struct, frozen=True):
    """Who the node is, and what others dial it with."""

    node_id: str
    ticket: str


class OpenNode(msgspec.Struct, frozen=True, tag="open-node"):
    """Open a fresh node whose relay stands, in place of the one there was; `port` 0 is any."""

    relays: tuple[str, ...]
    stun: tuple[str, ...]
    port: int = 0

    async def perform(self, bench: Bench) -> Opened:
        await bench.leave_seat()
        seat = Seat(self.relays, self.stun, self.port)
        bench.take_seat(seat)
        await seat.open()
        return Opened(str(seat.node.node_id), seat.node.ticket())


class Relays(msgspec.Struct, frozen=True):
    """A node's relays; the first is home."""

    urls: tuple[str, ...]


class TellRelays(msgspec.Struct, frozen=True, tag="tell-relays"):
    """Tell which relays the node has, and which is home now."""

    async def perform(self, bench: Bench) -> Relays:
        return Relays(bench.seat.node.relays)


class Closed(msgspec.Struct, frozen=True):
    """What a node had sent when it was closed."""

    probes_sent: int


class CloseNode(msgspec.Struct, frozen=True, tag="close-node"):
    """Close the node, if there is one."""

    async def perform(self, bench: Bench) -> Closed:
        seat = await bench.leave_seat()
        return Closed(seat.node.probes_sent if seat else 0)


class Dialled(msgspec.Struct, frozen=True):
    """Whom a dial reached, when it began, and when the first byte came back."""

    peer: str
    begun: float
    first_byte: float


class Dial(msgspec.Struct, frozen=True, tag="dial"):
    """Connect to a ticket's node and have one byte echoed."""

    ticket: str

    async def perform(self, bench: Bench) -> Dialled:
        return Dialled(*await bench.seat.dial(self.ticket))


class Way(msgspec.Struct, frozen=True):
    """The path in use: its kind ("" for none), the other end, and since when."""

    kind: str
    remote: str
    since: float

    @property
    def family(self) -> int | None:
        """The IP version of a direct path."""
        return (6 if self.remote.startswith("[") else 4) if self.kind == "direct" else None


class AwaitPath(msgspec.Struct, frozen=True, tag="await-path"):
    """Wait until data to a peer travels `kind`, over that IP version; the answer tells whether it does."""

    peer: str
    kind: str
    patience_s: float
    family: int | None = None

    async def perform(self, bench: Bench) -> Way:
        conversation = await bench.seat.conversation(self.peer, self.patience_s)
        reached = await conversation.path_of_kind(self.kind, self.patience_s, self.family)
        change = reached or (conversation.changes[-1] if conversation.changes else None)
        return Way(change.kind, change.remote, change.at) if change else Way("", "", 0.0)


class Transferred(msgspec.Struct, frozen=True):
    """What came back from the peer's echo; `longest_wait_ms` between two arrivals."""

    size: int
    equal: bool
    longest_wait_ms: float


class Transfer(msgspec.Struct, frozen=True, tag="transfer"):
    """Send to a peer's echo for some seconds, or `limit` bytes (0: none), and compare."""

    peer: str
    seconds: float
    chunk: int = 10_000
    pause_s: float = 0.02
    limit: int = 0

    async def perform(self, bench: Bench) -> Transferred:
        conversation = await bench.seat.conversation(self.peer, DIAL_PATIENCE_S)
        carried = await conversation.carry(self.seconds, self.chunk, self.pause_s, self.limit)
        return Transferred(carried.size, carried.equal, carried.longest_wait_s * 1000)


class Ports(msgspec.Struct, frozen=True):
    """What a node knows of its router: the protocols it speaks, and what it maps.

    `mapped` is "PROTOCOL IP:PORT", "" for nothing; `verified` whether it was tried from outside.
    """

    speaks: tuple[str, ...] = ()
    mapped: str = ""
    verified: bool | None = None
    external_ip: str = ""
    nat_beyond: bool | None = None
    reason: str = ""
    failure: str = ""


class AwaitPorts(msgspec.Struct, frozen=True, tag="await-ports"):
    """Wait until the router maps a port (by `protocol`, once `verified`, other than `but`), then tell.

    Tells all the same when it has not come to that after `patience_s`.
    """

    patience_s: float
    protocol: str = ""
    verified: bool = False
    but: str = ""

    async def perform(self, bench: Bench) -> Ports:
        until = clock.now() + self.patience_s
        while True:
            ports = _ports(bench.seat.node)
            if self._satisfied(ports) or clock.now() >= until:
                return ports
            await asyncio.sleep(LOOK_EVERY_S)

    def _satisfied(self, ports: Ports) -> bool:
        wanted = ports.mapped and ports.mapped != self.but and ports.mapped.startswith(self.protocol)
        return bool(wanted) and (not self.verified or bool(ports.verified))


def _ports(node: Node) -> Ports:
    if not node.gateways:
        return Ports()
    gateway = node.gateways[0]
    mapping = gateway.mapping
    return Ports(
        tuple(p.protocol.value for p in gateway.protocols if p.standing is Standing.SPEAKS),
        f"{mapping.protocol.value} {mapping.external}" if mapping else "",
        mapping.verified if mapping else None,
        gateway.external_ip,
        gateway.nat_beyond,
        gateway.nat_beyond_reason,
        gateway.failure,
    )


class Told(msgspec.Struct, frozen=True):
    """What happened to a connection's paths, a line each: seconds since the dial, and what."""

    lines: tuple[str, ...]


class Tell(msgspec.Struct, frozen=True, tag="tell"):
    """Tell the path history of the connection with a peer."""

    peer: str

    async def perform(self, bench: Bench) -> Told:
        conversation = await bench.seat.conversation(self.peer, DIAL_PATIENCE_S)
        return Told(tuple(f"{at:8.3f} {event}" for at, event in conversation.connection.history))


class Checked(msgspec.Struct, frozen=True):
    """What a check found, as `peerway netcheck` tells programs and people, and the seconds it took."""

    record: dict[str, object]
    text: str
    seconds: float


class Check(msgspec.Struct, frozen=True, tag="check"):
    """Have a node find out what this machine sits behind."""

    relays: tuple[str, ...]
    stun: tuple[str, ...] = ()
    hairpin: bool = False
    slow: bool = False

    async def perform(self, bench: Bench) -> Checked:
        async with Node(relays=self.relays, stun=self.stun) as node:
            began = clock.now()
            report = await node.netcheck(hairpin=self.hairpin, slow=self.slow)
            return Checked(dict(record(report)), render(report), clock.now() - began)


NodeOrder = (
    Serve | OpenNode | CloseNode | Dial | AwaitPath | AwaitPorts | Transfer | Tell | TellRelays | Check
)
