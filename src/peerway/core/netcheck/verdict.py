"""What a report means to somebody who wants to connect: how hard it is, with whom, what would help.

Old cone names are used here, because people know them; everything else speaks RFC 4787.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from peerway.core.nat import Filtering, Mapping, can_meet, old_name
from peerway.core.netcheck.findings import FilteringFinding, MappingFinding
from peerway.core.netcheck.report import Report
from peerway.core.portmap.report import Standing

_EASY, _HARD = Mapping.ENDPOINT_INDEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT
PEERS: tuple[tuple[str, Mapping, Filtering], ...] = (
    ("at public addresses", _EASY, Filtering.ENDPOINT_INDEPENDENT),
    ("behind firewalls", _EASY, Filtering.ADDRESS_AND_PORT_DEPENDENT),
    ("behind full cone NATs", _EASY, Filtering.ENDPOINT_INDEPENDENT),
    ("behind restricted cone NATs", _EASY, Filtering.ADDRESS_DEPENDENT),
    ("behind port-restricted cone NATs", _EASY, Filtering.ADDRESS_AND_PORT_DEPENDENT),
    ("behind symmetric NATs", _HARD, Filtering.ADDRESS_AND_PORT_DEPENDENT),
)


class Difficulty(Enum):
    """How hard it is for others to reach us without a relay."""

    OPEN = "open"  # whoever knows our address gets in
    EASY = "easy"  # what a server sees of us is what a peer sees
    HARD = "hard"  # each peer sees another address, which nobody knows beforehand
    BLOCKED = "blocked"  # no UDP at all
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`name` is what we are behind, in old words. `direct`, `perhaps` and `relayed` are the sorts of
    peers that we meet directly, that we may meet, and that only a relay connects us with.

    `opened_by`: the router that lets everyone in at a port, and how, "" where none does.
    `over_ipv6`: besides, whoever has IPv6 is met by that.
    """

    difficulty: Difficulty
    name: str
    direct: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()
    relayed: tuple[str, ...] = ()
    opened_by: str = ""
    over_ipv6: bool = False
    advice: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """The verdict in words, without the advice."""
        said = [_OPENINGS[self.difficulty].format(name=_what(self.name))]
        if self.opened_by:
            said.append(f"The router opens a port on request ({self.opened_by}): anyone may send to that.")
        said += [f"Direct: with {_listed(self.direct)}."] if self.direct else []
        said += [f"Perhaps direct, nobody could tell: with {_listed(self.perhaps)}."] if self.perhaps else []
        said += [f"By the relay only: with {_listed(self.relayed)}."] if self.relayed else []
        said += ["Over IPv6 nothing is translated: direct with all who have it."] if self.over_ipv6 else []
        return tuple(said)


_OPENINGS = {
    Difficulty.OPEN: "Open: {name}, and anyone may send to it.",
    Difficulty.EASY: "Easy: {name}; others see one and the same address of ours.",
    Difficulty.HARD: "Hard: {name}; every peer sees another address of ours.",
    Difficulty.BLOCKED: "Blocked: no UDP gets out and back, so every connection goes through a relay.",
    Difficulty.UNKNOWN: "Unknown: too few servers have answered to tell what is in the way.",
}


def judge(report: Report) -> Verdict:
    """What the report means, by IPv4; by IPv6 where that is all there is."""
    only_v6 = bool(report.udp_v6) and not report.udp_v4
    mapping, filtering = (
        (report.mapping_v6, report.filtering_v6) if only_v6 else (report.mapping_v4, report.filtering_v4)
    )
    works = True if report.udp_v6 else report.udp_v4
    difficulty, name = _difficulty(works, mapping, filtering), _name(works, mapping, filtering)
    opened_by = _opened_by(report) if works else ""
    sorts: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    for peer, their_mapping, their_filtering in PEERS:
        meets = works and _meets(mapping, filtering, their_mapping, their_filtering)
        sorts[True if opened_by else meets].append(peer)
    advice = tuple(_advice(report, difficulty, mapping, filtering))
    direct, perhaps, relayed = (tuple(sorts[meets]) for meets in (True, None, False))
    over_ipv6 = bool(report.udp_v4 and report.udp_v6) and report.mapping_v6 is MappingFinding.NONE
    return Verdict(difficulty, name, direct, perhaps, relayed, opened_by, over_ipv6, advice)


def _difficulty(works: bool | None, mapping: MappingFinding, filtering: FilteringFinding) -> Difficulty:
    if works is False:
        return Difficulty.BLOCKED
    if mapping is MappingFinding.NONE and filtering is FilteringFinding.ENDPOINT_INDEPENDENT:
        return Difficulty.OPEN
    if mapping.is_easy:
        return Difficulty.EASY
    return Difficulty.HARD if mapping.is_hard else Difficulty.UNKNOWN


def _name(works: bool | None, mapping: MappingFinding, filtering: FilteringFinding) -> str:
    if works is False:
        return "UDP blocked"
    if mapping is MappingFinding.NONE:
        return _NAMES_WITHOUT_NAT.get(filtering, "symmetric UDP firewall")
    if mapping.is_hard:
        return "symmetric NAT"
    if mapping is MappingFinding.UNKNOWN:
        return "NAT of unknown kind" if works else "unknown"
    if filtering is FilteringFinding.UNKNOWN:
        return "cone NAT"
    if filtering is FilteringFinding.NOT_BY_PORT:
        return "full or restricted cone NAT"
    return f"{old_name(Mapping.ENDPOINT_INDEPENDENT, Filtering(filtering.value))} NAT"


_NAMES_WITHOUT_NAT = {
    FilteringFinding.ENDPOINT_INDEPENDENT: "public address",
    FilteringFinding.UNKNOWN: "public address, perhaps with a firewall",
}


def _opened_by(report: Report) -> str:
    """The gateway whose mapping lets everyone in: one with no NAT beyond, and that forwards as it says."""
    for gateway in report.gateways:
        mapping = gateway.mapping
        if mapping is not None and mapping.verified is not False and gateway.nat_beyond is not True:
            return f"{gateway.gateway}, {mapping.protocol.value}"
    return ""


def _meets(
    mapping: MappingFinding, filtering: FilteringFinding, their_mapping: Mapping, their_filtering: Filtering
) -> bool | None:
    """Whether we meet such a peer directly: if both the best and the worst that we may be do so."""
    outcomes = {
        can_meet((ours, our_filtering), (their_mapping, their_filtering))
        for ours in _possible_mappings(mapping)
        for our_filtering in _possible_filterings(filtering)
    }
    return outcomes.pop() if len(outcomes) == 1 else None


def _possible_mappings(finding: MappingFinding) -> tuple[Mapping, ...]:
    if finding is MappingFinding.UNKNOWN:
        return tuple(Mapping)
    if finding is MappingFinding.DEPENDENT:
        return (Mapping.ADDRESS_DEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT)
    return (_EASY,) if finding is MappingFinding.NONE else (Mapping(finding.value),)


def _possible_filterings(finding: FilteringFinding) -> tuple[Filtering, ...]:
    if finding is FilteringFinding.UNKNOWN:
        return tuple(Filtering)
    if finding is FilteringFinding.NOT_BY_PORT:
        return (Filtering.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT)
    return (Filtering(finding.value),)


# --- what would improve it


def _advice(
    report: Report, difficulty: Difficulty, mapping: MappingFinding, filtering: FilteringFinding
) -> Iterator[str]:
    if report.captive_portal:
        yield "A captive portal answers for everyone: open a web page, log in, and check again."
    if difficulty is Difficulty.BLOCKED:
        yield "Let UDP out, at least to port 3478 of the servers, and answers back in."
    if report.relays and all(relay.error for relay in report.relays):
        yield "No relay can be reached, so nobody can: see what is said of each above."
    closed = difficulty is Difficulty.HARD or (difficulty is Difficulty.EASY and not filtering.ignores_ports)
    if closed and not _opened_by(report):
        yield from _open_a_port(report)
        if report.udp_v6 is False:
            yield "IPv6, which needs no NAT, would do so for everyone who has it too."
    if difficulty is not Difficulty.BLOCKED and mapping in (MappingFinding.UNKNOWN, MappingFinding.DEPENDENT):
        yield _MORE_SERVERS[mapping]
    if difficulty is not Difficulty.BLOCKED and filtering is FilteringFinding.UNKNOWN:
        yield "How it filters can be told by a STUN server with two addresses (RFC 5780; `peerway serve`)."


_MORE_SERVERS = {
    MappingFinding.UNKNOWN: "How it maps can be told by a second STUN server, at another address (--stun).",
    MappingFinding.DEPENDENT: "Whether it looks at ports too can be told by a STUN server with two ports.",
}


def _open_a_port(report: Report) -> Iterator[str]:
    speaks = [
        protocol.protocol.value
        for gateway in report.gateways
        for protocol in gateway.protocols
        if protocol.standing is Standing.SPEAKS
    ]
    where = f" ({report.gateways[0].gateway})" if report.gateways else ""
    if report.double_nat or report.cgnat:
        whose = "the carrier" if report.cgnat else "somebody"
        yield f"There is a second NAT, of {whose}, beyond your router: a port opened here leads no further."
        return
    failures = [gateway.failure for gateway in report.gateways if gateway.failure]
    if speaks:
        why = f": {failures[0]}" if failures else ""
        yield f"Your router{where} speaks {', '.join(speaks)}, but has opened no port{why}."
    yield (
        f"A UDP port forwarded on the router{where} lets everyone in: forward it to --port, and name the "
        "outside with --advertise." + ("" if speaks else " So does UPnP, NAT-PMP or PCP, switched on there.")
    )


def _listed(peers: tuple[str, ...]) -> str:
    if len(peers) == len(PEERS):
        return "everyone"
    return "peers " + (peers[0] if len(peers) == 1 else ", ".join(peers[:-1]) + " and " + peers[-1])


def _what(name: str) -> str:
    return f"a {name}" if name.startswith("public") else f"behind a {name}"
