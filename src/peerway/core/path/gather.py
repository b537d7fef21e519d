"""Gathering: what addresses we might be reached at, from our interfaces and from STUN servers.

The answers come in one by one; each change is told at once (trickled). What a server saw
stays a candidate until it answers again with something else, or all have failed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from itertools import zip_longest

from peerway.core.ip import parse_ip
from peerway.core.machine import (
    Composite,
    Datagram,
    Event,
    InterfaceAddress,
    Resolve,
    Rng,
    Transmit,
    UdpAddress,
)
from peerway.core.path.candidate import MAX_CANDIDATES, Candidate, CandidateKind
from peerway.core.path.uplinks import sends_elsewhere
from peerway.core.stun.client import GATHERING_SCHEDULE, MappingLearned, QueryFailed, StunClient

FRESH_S = 8.0  # shorter than the 10 s after which the hastiest NATs forget a quiet mapping
UNANSWERED_S = 1.0  # where no server has said anything, whoever needs to know asks from the beginning
MAX_SERVERS = 8
MAX_HOSTS = 32  # names of servers: each ticket that is dialled may bring some
MAX_REFLEXIVE = 6
MAX_MAPPED = 4
_WILDCARDS = ("0.0.0.0", "::")
_VIRTUAL_PREFIXES = ("docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "cni", "flannel", "lxc", "podman")


class MappingVerdict(Enum):
    """What the servers' answers say of our NAT's mapping (RFC 4787 4.1)."""

    UNKNOWN = "unknown: fewer than two servers answered"
    ENDPOINT_INDEPENDENT = "endpoint-independent (easy): servers at different addresses saw the same port"
    DEPENDENT = "endpoint-dependent (hard): servers at different addresses saw different ports"


@dataclass(frozen=True, slots=True)
class CandidatesChanged(Event):
    """Where we might be reached, best first; `complete` once every server answered or failed."""

    candidates: tuple[Candidate, ...]
    complete: bool
    mapping: MappingVerdict = MappingVerdict.UNKNOWN


class Gatherer(Composite[str]):
    """Keeps the list of our own candidates."""

    def __init__(self, rng: Rng, static: tuple[UdpAddress, ...] = ()) -> None:
        super().__init__()
        self._stun = StunClient(rng, GATHERING_SCHEDULE)
        self._adopt("stun", self._stun)
        self._static = static
        self._hosts: dict[tuple[str, int], None] = {}
        self._resolved: dict[str, tuple[str, ...]] = {}
        self._looked_up: set[str] = set()  # now, and not found yet
        self._servers: tuple[UdpAddress, ...] = ()
        self._sockets: tuple[UdpAddress, ...] = ()
        self._interfaces: tuple[InterfaceAddress, ...] = ()
        self._pending: dict[tuple[UdpAddress, UdpAddress], None] = {}
        self._mapped: dict[tuple[UdpAddress, UdpAddress], UdpAddress] = {}
        self._forwarded: tuple[UdpAddress, ...] = ()
        self._asked_at: float | None = None
        self._told: CandidatesChanged | None = None

    @property
    def complete(self) -> bool:
        """Whether every server that is known was asked, and has answered or failed."""
        looked_up = all(host in self._resolved for host, _ in self._hosts)
        return self._asked_at is not None and looked_up and not self._pending

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Our candidates as they are known now, best first, at most `MAX_CANDIDATES`."""
        mapped = self._forwarded[:MAX_MAPPED]
        hosts = _in_order(self._interfaces)
        found = (
            [Candidate(CandidateKind.STATIC, address) for address in self._static]
            + [Candidate(CandidateKind.PORT_MAPPED, address) for address in mapped if _is_global(address)]
            + [Candidate(CandidateKind.REFLEXIVE, address) for address in self._reflexive()]
            # behind a second NAT: of use to those only who are behind it too
            + [Candidate(CandidateKind.PORT_MAPPED, address) for address in mapped if not _is_global(address)]
            + [
                Candidate(CandidateKind.HOST, UdpAddress(host.ip, socket.port))
                for host in hosts
                for socket in self._sockets
                if socket.ip in (host.ip, _WILDCARDS[":" in host.ip])
            ]
        )
        first_of_each = {candidate.address: candidate for candidate in reversed(found)}
        unique = [c for c in found if first_of_each[c.address] is c]
        return tuple(unique[:MAX_CANDIDATES])

    def observed(self, local: UdpAddress) -> dict[UdpAddress, UdpAddress]:
        """What each server saw of the socket `local`."""
        return {server: mapped for (socket, server), mapped in self._mapped.items() if socket == local}

    @property
    def mapping(self) -> MappingVerdict:
        """What is known of our NAT. One server's answer is no evidence: a second must have its say.

        The worst of our sockets counts; of one whose servers share an address nothing is known.
        """
        verdicts = [_judge(self.observed(socket)) for socket in self._sockets]
        for verdict in (MappingVerdict.DEPENDENT, MappingVerdict.ENDPOINT_INDEPENDENT):
            if verdict in verdicts:
                return verdict
        return MappingVerdict.UNKNOWN

    def add_server(self, host: str, port: int) -> None:
        """A STUN server to ask, by name or address; known ones change nothing, nor do too many."""
        if (host, port) in self._hosts:
            return
        if len(self._hosts) >= MAX_HOSTS:
            self._drop("stun: too many servers")
        else:
            self._hosts[(host, port)] = None
            self._look_up(host)

    def resolved(self, host: str, ips: tuple[str, ...], now: float) -> None:
        """The addresses of a server's host, none if they cannot be had now; new ones are asked at once."""
        self._looked_up.discard(host)
        self._resolved[host] = ips or self._resolved.get(host, ())
        found = (UdpAddress(ip, port) for name, port in self._hosts for ip in self._resolved.get(name, ()))
        self._servers = tuple(dict.fromkeys(found))[:MAX_SERVERS]
        self._mapped = {key: mapped for key, mapped in self._mapped.items() if key[1] in self._servers}
        self._ask(now, only_new=True)

    def set_sockets(self, sockets: tuple[UdpAddress, ...], now: float) -> None:
        """Our sockets; what was seen of closed ones is forgotten."""
        for socket in self._sockets:
            if socket not in sockets:
                self._forget_questions(socket)
        self._sockets = sockets
        self._mapped = {key: mapped for key, mapped in self._mapped.items() if key[0] in sockets}
        self._ask(now, only_new=True)

    def set_mapped(self, addresses: tuple[UdpAddress, ...], now: float) -> None:
        """The outside addresses that gateways forward to our sockets."""
        self._forwarded = addresses
        self._tell(now)

    def set_interfaces(
        self, interfaces: tuple[InterfaceAddress, ...], moved: Collection[int], now: float
    ) -> None:
        """Our interfaces' addresses: what servers saw may have changed too.

        What they saw of sockets that send by the favoured route is void in the families `moved`, and
        what was asked from there may never arrive. Names may mean other addresses here.
        """
        self._interfaces = interfaces
        for socket in self._sockets:
            if sends_elsewhere(socket, moved):
                self._forget_questions(socket)
                self._mapped = {key: seen for key, seen in self._mapped.items() if key[0] != socket}
        if moved:
            for host, _ in self._hosts:
                self._look_up(host)
        self.refresh(now, force=True)

    def refresh(self, now: float, *, force: bool = False) -> None:
        """Ask the servers again when what they said may be out of date, or none of them said anything."""
        for host, _ in self._hosts:
            if not self._resolved.get(host):
                self._look_up(host)
        age = math.inf if self._asked_at is None else now - self._asked_at
        is_unanswered = not self._mapped and age > UNANSWERED_S
        if is_unanswered:
            for socket in self._sockets:  # questions are repeated ever more seldom
                self._forget_questions(socket)
        if force or is_unanswered or age > FRESH_S:
            self._ask(now)

    def receive(self, datagram: Datagram, now: float) -> None:
        """A STUN message that came to one of our sockets."""
        self._stun.receive(datagram, now)
        self._touch("stun")
        self._tell(now)

    def transmit_failed(self, transmit: Transmit, error: str, now: float) -> None:
        """The system could not send a question of ours: no way leads to that server, by IPv6 say."""
        self._stun.transmit_failed(transmit, error)
        self._touch("stun")
        self._tell(now)

    def handle_timeout(self, now: float) -> None:
        """Run what is due."""
        super().handle_timeout(now)
        self._tell(now)

    def _look_up(self, host: str) -> None:
        if host not in self._looked_up:
            self._looked_up.add(host)
            self._events.append(Resolve(host))

    def _forget_questions(self, socket: UdpAddress) -> None:
        self._stun.cancel(socket)
        self._pending = {key: None for key in self._pending if key[0] != socket}

    def _ask(self, now: float, *, only_new: bool = False) -> None:
        for socket in self._sockets:
            for server in self._servers:
                key = (socket, server)
                if not _same_family(socket.ip, server.ip) or key in self._pending:
                    continue
                if only_new and key in self._mapped:
                    continue
                self._pending[key] = None
                self._stun.query(server, socket, now)
        if not only_new or self._asked_at is None:
            self._asked_at = now
        self._touch("stun")
        self._tell(now)

    def _child_event(self, key: str, event: Event, now: float) -> None:
        if isinstance(event, MappingLearned):
            self._pending.pop((event.local, event.server), None)
            self._mapped[(event.local, event.server)] = event.mapped
        elif isinstance(event, QueryFailed):
            self._pending.pop((event.local, event.server), None)
            self._mapped.pop((event.local, event.server), None)
        self._events.append(event)

    def _tell(self, now: float) -> None:
        self._settle(now)
        news = CandidatesChanged(self.candidates, self.complete, self.mapping)
        if news != self._told and self._sockets:
            self._told = news
            self._events.append(news)

    def _reflexive(self) -> list[UdpAddress]:
        # of each socket one before any has two: a hard NAT on one way out shows each server another port
        of_each = (dict.fromkeys(self.observed(socket).values()) for socket in self._sockets)
        in_turn = (address for turn in zip_longest(*of_each) for address in turn if address is not None)
        return list(dict.fromkeys(in_turn))[:MAX_REFLEXIVE]


def _judge(observed: dict[UdpAddress, UdpAddress]) -> MappingVerdict:
    if len({server.ip for server in observed}) < 2:
        return MappingVerdict.UNKNOWN
    if len(set(observed.values())) == 1:
        return MappingVerdict.ENDPOINT_INDEPENDENT
    return MappingVerdict.DEPENDENT


def _in_order(addresses: tuple[InterfaceAddress, ...]) -> list[InterfaceAddress]:
    """The most promising first, so that junk starves nobody.

    Interfaces that lead out go before others, real ones before those that containers and virtual
    machines leave around; and each interface has one address of a family before any has two.
    """
    ranked: list[tuple[bool, bool, int, bool, InterfaceAddress]] = []
    so_far: Counter[tuple[str, bool]] = Counter()
    for address in sorted(addresses):
        leads_out = address.metric is not None
        virtual = not leads_out and address.interface.startswith(_VIRTUAL_PREFIXES)
        its_kind = (address.interface, ":" in address.ip)
        ranked.append((not leads_out, virtual, so_far[its_kind], not parse_ip(address.ip).is_global, address))
        so_far[its_kind] += 1
    return [address for *_, address in sorted(ranked)]


def _is_global(address: UdpAddress) -> bool:
    return parse_ip(address.ip).is_global


def _same_family(one: str, other: str) -> bool:
    return (":" in one) == (":" in other)
