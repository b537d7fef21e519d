"""Two nodes that talk, and the check that every byte arrives: sent by that peer, in order, once.

Each side writes on streams of its own. A stream begins with its number, so that what arrives can
be held against what was sent, whatever connection it came by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from peerway.core.identity import NodeId, SecretKey
from peerway.core.link import LinkClosed, LinkEstablished
from peerway.core.links import LinkEvent
from peerway.core.machine import Event
from peerway.core.path.events import PathKind
from peerway.core.quic.events import StreamReadable
from peerway.core.quic.qh3_transport import Qh3Transport
from peerway.core.signal.door import Admission
from peerway.core.ticket import Ticket
from peerway.sim.internet import Internet
from peerway.sim.nodes import RELAY_PORT, SimNode
from peerway.sim.scenario import SIDES, Side, other
from peerway.sim.transport.stand_in import SimTransports
from peerway.sim.watch.monitor import Monitor

SECRET = b"a ticket's secret"[:16]
_NUMBER_SIZE = 4


@dataclass(slots=True)
class _Sent:
    """What a side wrote on one stream."""

    side: Side
    link: int
    stream: int
    data: bytearray
    arrived: int = 0


@dataclass(slots=True)
class _Incoming:
    """What arrives on one stream, until its number is known."""

    head: bytes = b""
    sent: _Sent | None = None


@dataclass(slots=True)
class _End:
    """One side: its node, the links that stand, and how others ended."""

    node: SimNode
    open_links: list[int] = field(default_factory=list)
    outgoing: _Sent | None = None
    incoming: dict[tuple[int, int], _Incoming] = field(default_factory=dict)


class Conversation:
    """The nodes of both sides. `errors` holds what arrived and should not have; `closures` each end.

    `listeners` are told what a side's node says, but for what it has to do with guests.

    `quic`: connections stand on QUIC itself, whose bytes no seed decides, not on the simulator's transport.
    `monitor` watches both nodes, which may meet each other and whom they `admit`.
    """

    def __init__(self, internet: Internet, *, quic: bool = False, monitor: Monitor | None = None) -> None:
        self.internet = internet
        self._monitor = monitor
        self.world = internet.world
        self.transports = Qh3Transport if quic else SimTransports(self.world.rng("transports"))
        self.errors: list[str] = []
        self.closures: list[tuple[float, Side, LinkClosed]] = []
        self.listeners: list[Callable[[Side, Event], None]] = []
        self._probes_of_the_dead = 0
        self._sent: list[_Sent] = []
        self._ends_of_one: dict[tuple[SimNode, int, SimNode, int], bool] = {}
        self._relays = tuple(f"http://{relay.name}:{RELAY_PORT}" for relay in internet.plan.relays)
        self._keys = {side: self.world.rng(f"{side}/key").randbytes(32) for side in SIDES}
        self._ids = {side: SecretKey(key).node_id for side, key in self._keys.items()}
        self._may_meet = {side: [self._ids[other(side)]] for side in SIDES}
        self._ends: dict[Side, _End] = {}
        for side in SIDES:
            self.start(side)

    def start(self, side: Side) -> None:
        """Run the node of `side`."""
        node = SimNode(
            self.world,
            self.internet.hosts[side],
            self._relays,
            admission=Admission(secret=SECRET),
            name=f"{side} {self.world.count()}",
            key=self._keys[side],
            port=self.internet.plan.host(side).port,
            on_link_event=lambda event: self._happened(side, event),
            transports=self.transports,
        )
        node.listeners.append(lambda event, now: self._tell(side, event))
        self._ends[side] = _End(node)
        if self._monitor is not None:
            self._monitor.watch(node, self._may_meet[side])

    def admit(self, side: Side, node_id: NodeId) -> None:
        """Somebody else may connect with `side`; what they make of it is not looked at here."""
        self._may_meet[side].append(node_id)

    def node_id(self, side: Side) -> NodeId:
        """Who the node of `side` is."""
        return self._ids[side]

    def restart(self, side: Side) -> None:
        """Kill the node of `side` and run it anew: it has the same key and remembers nothing."""
        self._probes_of_the_dead += self._ends[side].node.machine.budget.spent
        self._ends[side].node.kill()
        self.start(side)

    def node(self, side: Side) -> SimNode:
        """The node of `side`."""
        return self._ends[side].node

    @property
    def probes_sent(self) -> int:
        """By all nodes there were."""
        return self._probes_of_the_dead + sum(end.node.machine.budget.spent for end in self._ends.values())

    def ticket(self, side: Side) -> Ticket:
        """By which the peer dials `side`."""
        return self.node(side).ticket(SECRET)

    # --- connecting

    def dial(self, side: Side) -> None:
        """Begin; when both are connected `is_up`."""
        self.node(side).dial(self.ticket(other(side)))

    def close(self, side: Side) -> None:
        """End the connection from one side."""
        for link in list(self._ends[side].open_links):
            self.node(side).close(link)

    def link(self, side: Side) -> int | None:
        """The newest link of `side` that stands."""
        links = self._ends[side].open_links
        return links[-1] if links else None

    def is_open(self, side: Side) -> bool:
        """Whether a connection stands, as far as this side knows."""
        return bool(self._ends[side].open_links)

    @property
    def last_closure(self) -> str:
        """The last connection that ended, in words."""
        if not self.closures:
            return "none has"
        at, side, closed = self.closures[-1]
        return f"{side} at {at:.3f}, code {closed.code:#x}: {closed.reason}"

    @property
    def is_up(self) -> bool:
        """Whether both have one connection, and it is the same."""
        # asked after every step of the world
        left, right = self._ends["left"].open_links, self._ends["right"].open_links
        return len(left) == 1 == len(right) and self._are_ends(left[0], right[0])

    def _are_ends(self, left: int, right: int) -> bool:
        """Whether these links are the two ends of one connection."""
        known = self._ends_of_one
        key = (self.node("left"), left, self.node("right"), right)
        if key not in known:
            mine, theirs = key[0].exchange(left), key[2].exchange(right)
            if not (mine[1] and theirs[1]):
                return False  # signals may be slower than the connection they announce
            known[key] = mine == theirs[::-1]
        return known[key]

    def is_direct(self, side: Side) -> bool:
        """Whether what this side sends travels directly now, by a path that is in no doubt."""
        link = self.link(side)
        return link is not None and self.node(side).is_direct(link)

    def family(self, side: Side) -> int | None:
        """4 or 6 where this side sends directly, else None."""
        link = self.link(side)
        return self.node(side).family(link) if link is not None and self.is_direct(side) else None

    def bytes_streamed(self, side: Side) -> int:
        """How much the node of `side` has written to relays since it began."""
        return self.node(side).driver.bytes_streamed

    @property
    def has_relay(self) -> bool:
        """Whether some relay is connected to both, so that it can carry at once what finds no other way."""
        left, right = (self.node(side).machine for side in SIDES)
        return any(left.relay_state(url)[0] and right.relay_state(url)[0] for url in left.home_relays)

    def is_relayed_since(self, side: Side, since: float) -> bool:
        """Whether what this side sends has travelled by a relay, or found no way, since then."""
        link = self.link(side)
        return link is not None and any(
            path.at >= since and path.kind not in (PathKind.DIRECT, PathKind.LAN)
            for path in self.node(side).paths[link]
        )

    def direct_since(self, side: Side) -> float:
        """When the path in use was chosen."""
        link = self.link(side)
        assert link is not None
        return self.node(side).paths[link][-1].at

    # --- talking

    def send(self, side: Side, size: int) -> None:
        """Write `size` bytes on the connection that stands; `LookupError` when there is none."""
        end, link = self._ends[side], self.link(side)
        if link is None:
            raise LookupError(f"{side} has no connection")
        if end.outgoing is None or end.outgoing.link != link:
            stream = end.node.open_stream(link)
            head = len(self._sent).to_bytes(_NUMBER_SIZE, "big")
            end.outgoing = _Sent(side, link, stream, bytearray(head))
            self._sent.append(end.outgoing)
            end.node.write(link, stream, head)
        data = self.world.rng(f"{side} {len(end.outgoing.data)}").randbytes(size)
        end.outgoing.data += data
        end.node.write(link, end.outgoing.stream, data)

    def has_arrived(self, side: Side) -> bool:
        """Whether the peer has all that `side` wrote on its present stream."""
        sent = self._ends[side].outgoing
        return sent is None or sent.arrived == len(sent.data)

    @property
    def all_arrived(self) -> bool:
        """Whether nothing is under way."""
        return all(self.has_arrived(side) for side in SIDES)

    # --- what the nodes say

    def _tell(self, side: Side, event: Event) -> None:
        if not self._is_with_a_guest(side, event):
            for listener in self.listeners:
                listener(side, event)

    def _is_with_a_guest(self, side: Side, event: Event) -> bool:
        return isinstance(event, LinkEvent) and event.peer != self._ids[other(side)]

    def _happened(self, side: Side, link_event: LinkEvent) -> None:
        end, link, event = self._ends[side], link_event.link, link_event.event
        if self._is_with_a_guest(side, link_event):
            if isinstance(event, LinkClosed):
                end.node.machine.release(link)
        elif isinstance(event, StreamReadable):
            data = end.node.read(link, event.stream)
            self._arrived(side, end.incoming.setdefault((link, event.stream), _Incoming()), data)
        elif isinstance(event, LinkEstablished):
            end.open_links.append(link)
        elif isinstance(event, LinkClosed):
            self.closures.append((self.world.now, side, event))
            end.node.machine.release(link)
            if link in end.open_links:
                end.open_links.remove(link)

    def _arrived(self, side: Side, incoming: _Incoming, data: bytes) -> None:
        if incoming.sent is None:
            incoming.head += data
            if len(incoming.head) < _NUMBER_SIZE:
                return
            data, number = incoming.head, int.from_bytes(incoming.head[:_NUMBER_SIZE], "big")
            if number >= len(self._sent) or self._sent[number].side == side or self._sent[number].arrived:
                self.errors.append(f"{side} was given a stream that its peer never opened, or again")
                return
            incoming.sent = self._sent[number]
        sent = incoming.sent
        expected = bytes(sent.data[sent.arrived : sent.arrived + len(data)])
        if data != expected:
            self.errors.append(f"{side} was given other bytes than its peer sent, after {sent.arrived}")
        sent.arrived += len(data)
