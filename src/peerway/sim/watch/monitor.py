"""Watches nodes for what no attacker may bring about, with the knowledge of who truly sent what.

Attach one before anything happens, tell it of every node (`watch`) and of the hosts whose STUN
servers are honest, and read `violations` at the end. What is wrong, for each node:

- a connection is established with somebody it neither dialled nor admits,
- a path is proven or selected that does not lead to the peer: no datagram of the peer's host
  was ever seen from that address, on any link,
- a path is proven on which what proves it did not happen, or a copy of a ping is answered
  (`peerway.sim.watch.witness`),
- a relay path is proven to a client that is not the peer (how it is met, it has to believe),
- it believes to have an address outside that no honest STUN server ever told it,
- a secret, its own or a peer's, serves two exchanges of signals,
- a named limit is not held (`peerway.sim.watch.limits`),
- something is held though what it was for is gone (`peerway.sim.watch.orphans`), or sent by a socket
  that is not there,
- somebody who never spoke gets more than a little from it (`peerway.sim.watch.harm`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from peerway.core.identity import NodeId
from peerway.core.link import LinkEstablished
from peerway.core.links import LinkEvent
from peerway.core.machine import Address, Event, RelayAddress, UdpAddress, WireError
from peerway.core.path.candidate import CandidateKind
from peerway.core.path.events import LocalCandidates, PathProven, PathSelected
from peerway.core.stun.attributes import XorMappedAddress
from peerway.core.stun.message import MessageClass, is_stun, parse
from peerway.sim.network.tap import Moment, Sighting
from peerway.sim.network.world import World
from peerway.sim.nodes import SimNode
from peerway.sim.watch.harm import Harm, HarmLimits
from peerway.sim.watch.limits import drops, exceeded
from peerway.sim.watch.orphans import orphans
from peerway.sim.watch.witness import Witness

SAMPLE_S = 0.25
VIOLATIONS_KEPT = 1000


@dataclass(frozen=True, slots=True)
class _Watched:
    node: SimNode
    may_meet: Collection[NodeId]
    witness: Witness


class Monitor:
    """See the module's text. `stun_hosts` are the names of the hosts whose STUN servers are honest.

    `looks_only`: packets and events go by unseen, which saves time, and only the limits are checked.
    """

    def __init__(
        self,
        world: World,
        stun_hosts: Collection[str],
        limits: HarmLimits | None = None,
        *,
        looks_only: bool = False,
    ) -> None:
        self.violations: list[str] = []
        self._world = world
        self._stun_hosts = stun_hosts
        self._limits = limits or HarmLimits()
        self._watched: list[_Watched] = []
        self._secrets: dict[tuple[NodeId, NodeId, bytes], tuple[SimNode, int]] = {}
        self._hosts_of: dict[NodeId, dict[str, None]] = {}
        self._relay_keys: dict[NodeId, dict[bytes, None]] = {}
        self._seen_from: dict[str, dict[UdpAddress, None]] = {}
        self._harm: dict[str, Harm] = {}
        self._told: dict[UdpAddress, None] = {}
        self._looked_at = world.now
        self._looks_only = looks_only
        if not looks_only:
            world.end_taps.append(self._sighted)

    def watch(self, node: SimNode, may_meet: Collection[NodeId]) -> None:
        """Watch a node that dials or admits those in `may_meet`, and nobody else; it may still grow."""
        watched = _Watched(node, may_meet, Witness(node))
        self._watched.append(watched)
        self.know(node.machine.key.node_id, node.host.name)
        self._harm.setdefault(node.host.name, Harm(self._limits))
        if not self._looks_only:
            node.listeners.append(lambda event, now: self._happened(watched, event))

    def know(self, node_id: NodeId, host: str, relay_keys: Collection[bytes] = ()) -> None:
        """The node runs on `host`, and shows relays the key that follows from its own or `relay_keys`."""
        self._hosts_of.setdefault(node_id, {})[host] = None
        self._relay_keys.setdefault(node_id, {}).update(dict.fromkeys((node_id.box_public(), *relay_keys)))

    def look(self) -> None:
        """Look inside the nodes now; it also happens by itself as long as anything does."""
        self._looked_at = self._world.now
        self._note_relay_keys()
        for watched in self._watched:
            node = watched.node
            for excess in (*exceeded(node.machine), *orphans(node.machine), *self._secrets_of_two(node)):
                self._report(node.host.name, excess)
            if count := node.machine.drops["send: no such socket"]:
                self._report(node.host.name, f"tried {count} times to send by a socket that it does not have")

    def drops(self) -> Counter[str]:
        """What the watched nodes have dropped, by reason."""
        total: Counter[str] = Counter()
        for watched in self._watched:
            total.update(drops(watched.node.machine))
        return total

    def harm(self, host: str) -> tuple[int, int]:
        """Packets and bytes that the node on `host` sent to the silent IP address that got most of them."""
        return self._harm[host].worst()

    # --- what is seen of packets

    def _sighted(self, sighting: Sighting) -> None:
        self._look_now_and_then()
        if not sighting.forged:
            self._seen_from.setdefault(sighting.origin, {})[sighting.source] = None
        if sighting.node == sighting.origin in self._stun_hosts and not sighting.forged:
            self._note_mapping(sighting.data)
        harm = self._harm.get(sighting.node)
        if harm is None:
            return
        size = len(sighting.data)
        witnesses = (watched.witness for watched in self._watched if watched.node.host.name == sighting.node)
        if sighting.moment is Moment.ARRIVED:
            harm.heard(sighting.source, size, sighting.at, forged=sighting.forged)
            for witness in witnesses:
                witness.came(sighting.source, sighting.data)
            return
        for excess in harm.sent(sighting.destination, size, sighting.at):
            self._report(sighting.node, excess)
        for witness in witnesses:
            if wrong := witness.went(sighting.source, sighting.destination, sighting.data):
                self._report(sighting.node, wrong)

    def _note_mapping(self, data: bytes) -> None:
        if not is_stun(data):
            return
        try:
            message = parse(data)
        except WireError:
            return
        mapped = message.first(XorMappedAddress)
        if message.message_class is MessageClass.SUCCESS and mapped is not None:
            self._told[mapped.address] = None

    # --- what a node says

    def _happened(self, watched: _Watched, event: Event) -> None:
        self._look_now_and_then()
        if not isinstance(event, LinkEvent):
            return
        name, peer, inner = watched.node.host.name, event.peer, event.event
        if isinstance(inner, LinkEstablished):
            if peer not in watched.may_meet:
                self._report(name, f"connected to {peer.short}, whom it neither dialled nor admits")
        elif isinstance(inner, PathProven):
            if not self._leads_to(peer, inner.remote):
                self._report(name, f"proved a path to {inner.remote}, where {peer.short} never was")
            elif lacking := watched.witness.lacking(event.link, inner.remote):
                self._report(name, f"proved a path to {inner.remote}, though {lacking}")
        elif isinstance(inner, PathSelected) and isinstance(inner.remote, UdpAddress):
            if not self._leads_to(peer, inner.remote):
                self._report(name, f"selected a path to {inner.remote}, where {peer.short} never was")
        elif isinstance(inner, LocalCandidates):
            for candidate in inner.candidates:
                if candidate.kind is CandidateKind.REFLEXIVE and candidate.address not in self._told:
                    self._report(name, f"believes to be {candidate.address}, which no server told")

    def _leads_to(self, peer: NodeId, remote: Address) -> bool:
        if isinstance(remote, RelayAddress):
            self._note_relay_keys()
            return remote.key in self._relay_keys.get(peer, {})
        return any(remote in self._seen_from.get(host, {}) for host in self._hosts_of.get(peer, {}))

    def _note_relay_keys(self) -> None:
        for watched in self._watched:
            machine = watched.node.machine
            shown = self._relay_keys[machine.key.node_id]
            for keeper in machine._relays._keepers.values():
                if keeper._client is not None:
                    shown[keeper._client.public_key] = None

    def _secrets_of_two(self, node: SimNode) -> Iterator[str]:
        """Secrets that serve an exchange of `node` and served another, perhaps before it began anew."""
        own = node.machine.key.node_id
        for number, link in node.machine._links._table:
            secrets = [(own, link.secret)]
            if link.is_proven:  # before, it may be one that somebody sends again
                secrets.append((link.peer, link.peer_secret))
            for whose, secret in secrets:
                exchange = (node, number)
                if self._secrets.setdefault((own, whose, secret), exchange) != exchange:
                    yield f"a secret of {whose.short} serves two exchanges"

    # --- now and then

    def _look_now_and_then(self) -> None:
        # without a timer of its own, a watched run is the same as one that nobody watches
        if self._world.now >= self._looked_at + SAMPLE_S:
            self.look()

    def _report(self, where: str, what: str) -> None:
        if len(self.violations) < VIOLATIONS_KEPT:
            self.violations.append(f"{self._world.now:.3f} {where}: {what}")
