"""The result of a check, as one value that people and programs read."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from peerway.core.machine import UdpAddress
from peerway.core.netcheck.allocation import Allocation
from peerway.core.netcheck.findings import FilteringFinding, MappingFinding
from peerway.core.netcheck.knowledge import Knowledge, mapping_socket, version_of
from peerway.core.netcheck.lifetime import Lifetime, lifetime
from peerway.core.netcheck.probes import Answer, Ask, Outcome, Page, Refusal, Silence
from peerway.core.portmap.report import GatewayReport
from peerway.core.relay.home import HomeChoice, choose_home
from peerway.core.relay.url import RelayUrl

SHARED_ADDRESSES = ipaddress.ip_network("100.64.0.0/10")  # RFC 6598: between carriers and their customers


@dataclass(frozen=True, slots=True)
class RelayReport:
    """A relay: round trip in seconds (None: not reached), how it was measured, and what went wrong."""

    url: str
    round_trip: float | None = None
    via: str = ""  # "udp", "tcp"
    error: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What a node sits behind. None is "not known" wherever it can stand.

    `udp_v4`, `udp_v6`: whether UDP gets out and back. `hairpin`: whether two hosts behind this NAT reach
    each other by their outside addresses. `double_nat`: whether there is another NAT beyond the router.
    `cgnat`: whether that is a carrier's. `silent`: the servers that did not answer, and why.
    `lifetime`: how long a mapping lives on which nothing passes. `witnesses`: whom to ask whether all of
    this still holds.
    """

    udp_v4: bool | None = None
    udp_v6: bool | None = None
    public_v4: str | None = None
    public_v6: str | None = None
    own_v4: str | None = None
    own_v6: str | None = None
    mapping_v4: MappingFinding = MappingFinding.UNKNOWN
    mapping_v6: MappingFinding = MappingFinding.UNKNOWN
    filtering_v4: FilteringFinding = FilteringFinding.UNKNOWN
    filtering_v6: FilteringFinding = FilteringFinding.UNKNOWN
    allocation: Allocation = field(default_factory=Allocation)
    lifetime: Lifetime | None = None
    hairpin: bool | None = None
    gateways: tuple[GatewayReport, ...] = ()
    double_nat: bool | None = None
    cgnat: bool | None = None
    captive_portal: bool | None = None
    relays: tuple[RelayReport, ...] = ()
    home_relay: str | None = None
    home_reason: str = ""
    silent: tuple[str, ...] = ()
    witnesses: tuple[UdpAddress, ...] = ()


def build_report(known: Knowledge, gateways: Sequence[GatewayReport] = ()) -> Report:
    """What is known, put together; `gateways` is what port mapping found out."""
    relays = tuple(_relay_report(known, relay) for relay in known.question.relays)
    home = _home(relays, known.question.home)
    double, carrier = _further_nats(known, gateways)
    return Report(
        udp_v4=known.works(4),
        udp_v6=_works_v6(known),
        public_v4=next(iter(known.public_ips(4)), None),
        public_v6=next(iter(known.public_ips(6)), None),
        own_v4=_own_ip(known, 4),
        own_v6=_own_ip(known, 6),
        mapping_v4=known.mapping(4),
        mapping_v6=known.mapping(6),
        filtering_v4=known.filtering(4),
        filtering_v6=known.filtering(6),
        allocation=known.allocation,
        lifetime=_lifetime_found(known),
        hairpin=known.hairpin,
        gateways=tuple(gateways),
        double_nat=double,
        cgnat=carrier,
        captive_portal=known.captive_portal,
        relays=relays,
        home_relay=home.url,
        home_reason=home.reason,
        silent=_silent(known),
        witnesses=known.witnesses(4) + known.witnesses(6),
    )


def refreshed(previous: Report, quick: Report) -> Report | None:
    """The previous report with what a quick check has seen; None when it no longer holds."""
    same = all(getattr(previous, name) == getattr(quick, name) for name in _TELLTALES)
    mappings = (
        (previous.mapping_v4, quick.mapping_v4),
        (previous.mapping_v6, quick.mapping_v6),
    )
    if not same or not all(_agree(before, now) for before, now in mappings):
        return None
    unreached = [relay for relay in previous.relays if relay.via == "tcp" or relay.error]
    relays = tuple(_seen_again(relay, unreached) for relay in quick.relays)
    home = _home(relays, previous.home_relay)
    return replace(
        previous,
        gateways=quick.gateways,
        double_nat=previous.double_nat if quick.double_nat is None else quick.double_nat,
        cgnat=previous.cgnat if quick.cgnat is None else quick.cgnat,
        relays=relays,
        home_relay=home.url,
        home_reason=home.reason,
        silent=quick.silent,
    )


_TELLTALES = ("udp_v4", "udp_v6", "public_v4", "public_v6", "own_v4", "own_v6")


def _agree(before: MappingFinding, now: MappingFinding) -> bool:
    """Whether the little that a quick check sees is what would be seen if nothing had changed."""
    if now is MappingFinding.DEPENDENT:
        return before.is_hard
    return now in (before, MappingFinding.UNKNOWN)


def _seen_again(relay: RelayReport, unreached: Sequence[RelayReport]) -> RelayReport:
    """A relay that UDP did not reach before is not reached by a quick check either: what was known stays."""
    return next((known for known in unreached if known.url == relay.url), relay)


# --- what is known in other words


def _home(relays: Sequence[RelayReport], current: str | None) -> HomeChoice:
    """Only a relay that carries data is a home, however near its STUN server may be."""
    return choose_home({r.url: None if r.error else r.round_trip for r in relays}, current)


def _works_v6(known: Knowledge) -> bool | None:
    """Without an address of its own a machine has no IPv6, whoever could be asked."""
    if all(version_of(address.ip) == 4 for address in known.interfaces):
        return known.works(6) or False
    return known.works(6)


def _own_ip(known: Knowledge, version: int) -> str | None:
    """The address of the interface that the system sends by."""
    ours = [address for address in known.interfaces if version_of(address.ip) == version]
    routed = [address for address in ours if address.metric is not None]
    best = min(routed or ours, key=lambda address: address.metric or 0, default=None)
    return best.ip if best is not None else None


def _lifetime_found(known: Knowledge) -> Lifetime | None:
    helpers = [p.server for p in known.outcomes if isinstance(p, Ask) and p.arrives_at]
    return lifetime(known, helpers[0]) if helpers else None


def _relay_report(known: Knowledge, relay: RelayUrl) -> RelayReport:
    url = str(relay)
    page = known.page(url)
    error = "" if page is None or isinstance(page, Page) else _reason(page)
    if isinstance(page, Page) and not (page.genuine or relay.tls):
        error = f"something that is no relay answers there: HTTP {page.status}"
    elif (round_trip := known.round_trip(relay)) is not None:
        return RelayReport(url, round_trip, "udp", error)
    elif isinstance(page, Page):
        return RelayReport(url, page.round_trip, "tcp")
    return RelayReport(url, error=error)


def _reason(outcome: Outcome) -> str:
    return outcome.reason if isinstance(outcome, Silence | Refusal) else ""


def _silent(known: Knowledge) -> tuple[str, ...]:
    """The STUN servers that were named to us and told us nothing, each with why."""
    found = [f"{host}: its address could not be found" for host, ips in known.resolved.items() if not ips]
    found += [f"{host}: no answer from the name server" for host in known.unresolved]
    for version in (4, 6):
        for server in known.servers(version):
            outcome = known.outcomes.get(Ask(mapping_socket(version), server))
            if outcome is None:
                found.append(f"{server}: no answer in time")
            elif not isinstance(outcome, Answer):
                found.append(f"{server}: {_reason(outcome)}")
    return tuple(found)


def _further_nats(known: Knowledge, gateways: Sequence[GatewayReport]) -> tuple[bool | None, bool | None]:
    """Whether there is a NAT beyond the router, and whether it is a carrier's.

    Our own address tells when nothing translates it, or when it is one that carriers hand out; else
    it takes a gateway that says what its outside address is, or that another NAT is in its way.
    """
    if known.mapping(4) is MappingFinding.NONE:
        return False, False
    outside = next((gateway.external_ip for gateway in gateways if gateway.external_ip), "")
    beyond = next((gateway.nat_beyond for gateway in gateways if gateway.nat_beyond is not None), None)
    if beyond is None and outside and known.public_ips(4):
        beyond = outside not in known.public_ips(4)
    own = _own_ip(known, 4)
    if own is not None and ipaddress.ip_address(own) in SHARED_ADDRESSES:
        return beyond, True
    if outside and ipaddress.ip_address(outside) in SHARED_ADDRESSES:
        return True, True
    return beyond, False if beyond is False else None
