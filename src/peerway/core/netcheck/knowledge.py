"""What a check was asked to do, what it knows so far, and what that says. Nothing here acts.

IP versions are the numbers 4 and 6. Sockets are named by what they are for: `mapping`, the one that
everybody is asked from, and fresh ones for each test that an earlier one would spoil.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field

from peerway.core.machine import InterfaceAddress, UdpAddress
from peerway.core.netcheck.allocation import Allocation, classify
from peerway.core.netcheck.findings import (
    FilteringFinding,
    MappingFinding,
    judge_filtering,
    judge_mapping,
)
from peerway.core.netcheck.probes import Answer, Ask, Fetch, Met, Outcome, Page, Probe, Silence
from peerway.core.relay.url import RelayUrl

VERSIONS = (4, 6)
MAX_SERVERS = 8  # in each family
SAMPLES = 6  # sockets opened to see which ports they get
INSIDE = tuple(  # RFC 1918, 6598, 4193
    map(
        ipaddress.ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
    )
)
PORTAL_STATUSES = (*range(200, 400), 511)  # RFC 6585 6: 511 is what a portal ought to say


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be found out, and with whose help. `home` is the relay that is home so far.

    `quick`: only what shows whether something has changed, a packet to each server and `witness`,
    who have told what can be told of the mapping before.
    """

    relays: tuple[RelayUrl, ...] = ()
    stun: tuple[tuple[str, int], ...] = ()
    home: str | None = None
    hairpin: bool = False
    slow: bool = False
    quick: bool = False
    witnesses: tuple[UdpAddress, ...] = ()

    @property
    def servers(self) -> tuple[tuple[str, int], ...]:
        """Host and port of every STUN server: the relays' own and the others."""
        relays = [(relay.host, relay.stun_port) for relay in self.relays]
        return tuple(dict.fromkeys([*relays, *self.stun]))


@dataclass(slots=True)
class Knowledge:
    """Grows during one check. `outcomes` are in the order in which they came."""

    question: Question
    interfaces: tuple[InterfaceAddress, ...] = ()
    resolved: dict[str, tuple[str, ...]] = field(default_factory=dict)
    outcomes: dict[Probe, Outcome] = field(default_factory=dict)

    # --- whom to ask

    @property
    def unresolved(self) -> tuple[str, ...]:
        """The hosts whose addresses are not known yet."""
        hosts = dict.fromkeys(host for host, _ in self.question.servers)
        return tuple(host for host in hosts if host not in self.resolved)

    def servers(self, version: int) -> tuple[UdpAddress, ...]:
        """The servers of a family that can be asked, as far as their addresses are known."""
        found = [
            UdpAddress(ip, port)
            for host, port in self.question.servers
            for ip in self.resolved.get(host, ())
            if version_of(ip) == version and self._leads_there(ip)
        ]
        witnesses = [server for server in self.question.witnesses if version_of(server.ip) == version]
        return tuple(dict.fromkeys(witnesses + found))[:MAX_SERVERS]

    def witnesses(self, version: int) -> tuple[UdpAddress, ...]:
        """Two servers that have answered, at different addresses: they will see it if the mapping changes."""
        first_at: dict[str, UdpAddress] = {}
        for server in self.plain_answers(mapping_socket(version)):
            first_at.setdefault(server.ip, server)
        return tuple(first_at.values())[:2]

    def _leads_there(self, ip: str) -> bool:
        """Asking over IPv6 without an address to ask from would only be waited for in vain."""
        own = {version_of(address.ip) for address in self.interfaces}
        return version_of(ip) == 4 or 6 in own or ipaddress.ip_address(ip).is_loopback

    @property
    def own_ips(self) -> frozenset[str]:
        """The addresses of our interfaces, and loopback."""
        return frozenset({address.ip for address in self.interfaces} | {"127.0.0.1", "::1"})

    # --- what came of asking

    def answer(self, probe: Ask) -> Answer | None:
        """The answer to a question, None when there is none (yet)."""
        outcome = self.outcomes.get(probe)
        return outcome if isinstance(outcome, Answer) else None

    def plain_answers(self, socket: str) -> dict[UdpAddress, Answer]:
        """What each server has seen of a socket."""
        return {
            probe.server: outcome
            for probe, outcome in self.outcomes.items()
            if isinstance(probe, Ask)
            and probe.plain
            and probe.socket == socket
            and isinstance(outcome, Answer)
        }

    def works(self, version: int) -> bool | None:
        """Whether UDP gets out and back; None as long as nobody was asked to the end."""
        outcomes = [self.outcomes.get(Ask(mapping_socket(version), s)) for s in self.servers(version)]
        if any(isinstance(outcome, Answer) for outcome in outcomes):
            return True
        return None if not outcomes or None in outcomes else False

    def public_ips(self, version: int) -> tuple[str, ...]:
        """The addresses the world sees us come from, in the order in which we learned of them."""
        answers = self.plain_answers(mapping_socket(version)).values()
        return tuple(dict.fromkeys(answer.mapped.ip for answer in answers))

    def mapping(self, version: int) -> MappingFinding:
        """How our NAT maps."""
        answers = self.plain_answers(mapping_socket(version))
        if not answers:
            return MappingFinding.UNKNOWN
        local = next(iter(answers.values())).local
        return judge_mapping({s: a.mapped for s, a in answers.items()}, local, self.own_ips)

    def filtering(self, version: int) -> FilteringFinding:
        """How our NAT, or a firewall, filters: the word of the first server that can tell."""
        for server, answer in self.discoverers(version):
            verdict = self.filtering_by(server, answer.other) if answer.other else FilteringFinding.UNKNOWN
            if verdict is not FilteringFinding.UNKNOWN:
                return verdict
        return FilteringFinding.UNKNOWN

    def filtering_by(self, server: UdpAddress, other: UdpAddress) -> FilteringFinding:
        """What `server`, which can also answer from `other`, shows of the filtering."""
        shown = {
            origin.ip == server.ip: self._gets_in(server, origin) for origin in filter_origins(server, other)
        }
        verdict = judge_filtering(shown.get(False), shown.get(True))
        if verdict is FilteringFinding.NOT_BY_PORT and not self._has_tried(server, other):
            return FilteringFinding.UNKNOWN  # as yet: the other address will tell more
        return verdict

    def _has_tried(self, server: UdpAddress, origin: UdpAddress) -> bool:
        return origin.ip == server.ip or Ask(filter_socket(server, origin), server, origin) in self.outcomes

    def _gets_in(self, server: UdpAddress, origin: UdpAddress) -> bool | None:
        """Whether an answer from `origin` reaches a socket that only ever sent to `server`."""
        socket = filter_socket(server, origin)
        outcome = self.outcomes.get(Ask(socket, server, origin))
        if isinstance(outcome, Answer):
            return True
        speaks = self.answer(Ask(mapping_socket(version_of(server.ip)), origin))
        hears = self.answer(Ask(socket, server))
        return False if isinstance(outcome, Silence) and speaks and hears else None

    def discoverers(self, version: int) -> Iterator[tuple[UdpAddress, Answer]]:
        """The servers that can answer from elsewhere too, in the order in which they told."""
        asked = self.servers(version)
        for server, answer in self.plain_answers(mapping_socket(version)).items():
            other = answer.other
            if server in asked and other is not None and _is_plausible(server, other):
                yield server, answer

    @property
    def allocation(self) -> Allocation:
        """Which outside ports the IPv4 NAT gives."""
        if self.mapping(4) is MappingFinding.NONE:
            return Allocation()
        firsts = [
            next(iter(self.plain_answers(sample_socket(number)).values()), None) for number in range(SAMPLES)
        ]
        return classify([(a.local.port, a.mapped.port) for a in firsts if a is not None])

    @property
    def hairpin(self) -> bool | None:
        """Whether two sockets of ours reach each other by their outside addresses."""
        met = [outcome for outcome in self.outcomes.values() if isinstance(outcome, Met)]
        return met[0].arrived if met else None

    # --- relays

    def round_trip(self, relay: RelayUrl) -> float | None:
        """Seconds to a relay's STUN server and back, the best of what was measured."""
        theirs = [UdpAddress(ip, relay.stun_port) for ip in self.resolved.get(relay.host, ())]
        measured = [
            outcome.round_trip
            for probe, outcome in self.outcomes.items()
            if isinstance(probe, Ask)
            and probe.plain
            and probe.server in theirs
            and isinstance(outcome, Answer)
            and outcome.round_trip is not None
        ]
        return min(measured, default=None)

    def page(self, url: str) -> Outcome | None:
        """What came of asking the HTTP server at `url`."""
        return self.outcomes.get(Fetch(url))

    @property
    def captive_portal(self) -> bool | None:
        """Whether something else answers in the relays' name; None when nobody showed it either way.

        A relay's page holds an answer that only somebody who speaks HTTP as relays do can give, and
        over TLS whoever shows the right certificate is the relay. What portals can do is answer
        plain HTTP with a page of their own: on the relay's port, or on port 80 of a relay that TLS
        did not get through to.
        """
        pages = {url: self.page(str(url)) for url in self.question.relays}
        if any(isinstance(page, Page) and (page.genuine or url.tls) for url, page in pages.items()):
            return False
        plain = [page if not url.tls else self.page(plain_url(url)) for url, page in pages.items()]
        return True if any(isinstance(page, Page) and page.diverts for page in plain) else None


def version_of(ip: str) -> int:
    """4 or 6."""
    return 6 if ":" in ip else 4


def mapping_socket(version: int) -> str:
    """The socket that every server is asked from."""
    return f"mapping {version}"


def filter_socket(server: UdpAddress, origin: UdpAddress) -> str:
    """The socket that waits for an answer of `server` from `origin`, to which it never sends."""
    return f"filter {server} from {origin}"


def filter_origins(server: UdpAddress, other: UdpAddress) -> tuple[UdpAddress, ...]:
    """From where `server`, whose other address is `other`, is to answer: its other port, and all else."""
    places = (UdpAddress(server.ip, other.port), other)
    return tuple(dict.fromkeys(place for place in places if place != server))


def sample_socket(number: int) -> str:
    """One of the sockets opened to see which outside port they get."""
    return f"sample {number}"


def plain_url(relay: RelayUrl) -> str:
    """Where a web server would be at the relay's host, without TLS."""
    return str(RelayUrl(relay.host, 80))


def _is_plausible(server: UdpAddress, other: UdpAddress) -> bool:
    """A server behind a NAT may name an inside address, at which it is not to be asked."""
    one, two = ipaddress.ip_address(server.ip), ipaddress.ip_address(other.ip)
    return other.port > 0 and one.version == two.version and _is_inside(one) == _is_inside(two)


def _is_inside(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return ip.is_loopback or ip.is_link_local or any(ip in network for network in INSIDE)
