"""A report for people: the facts line by line, a picture of the way out, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill

from peerway.core.nat import PortAllocation
from peerway.core.netcheck.findings import FilteringFinding, MappingFinding
from peerway.core.netcheck.report import RelayReport, Report
from peerway.core.netcheck.verdict import Verdict, judge
from peerway.core.portmap.report import GatewayReport, Standing

LABEL_WIDTH = 16
WIDTH = 100  # of a sentence


def render(report: Report) -> str:
    """The whole report, several lines without a last line end."""
    verdict = judge(report)
    facts = [f"{label:<{LABEL_WIDTH}}{text}" for label, text in _facts(report)]
    words = [fill(sentence, WIDTH, subsequent_indent="  ") for sentence in verdict.sentences + verdict.advice]
    return "\n".join([*facts, "", *picture(report, verdict), "", *words])


def headlines(report: Report) -> dict[str, str]:
    """What is known already, by what it is about: said as a check goes on."""
    told = {label: f"{label}: {text}" for label, text in _facts(report) if not text.startswith("unknown")}
    for final in ("relay", "no answer"):  # who has not answered yet may do so still
        told.pop(final, None)
    reached = [relay for relay in report.relays if relay.via or relay.error]
    return told | {relay.url: f"relay {_relay(relay, home=False)}" for relay in reached}


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    yield "UDP over IPv4", _udp(report.udp_v4, report.public_v4, report.own_v4)
    yield "UDP over IPv6", _udp(report.udp_v6, report.public_v6, report.own_v6)
    for version, mapping in ((4, report.mapping_v4), (6, report.mapping_v6)):
        if version == 4 or mapping is not MappingFinding.UNKNOWN:
            yield f"mapping IPv{version}", _MAPPING[mapping]
    for version, filtering in ((4, report.filtering_v4), (6, report.filtering_v6)):
        if version == 4 or filtering is not FilteringFinding.UNKNOWN:
            yield f"filtering IPv{version}", _FILTERING[filtering]
    if report.mapping_v4 is not MappingFinding.NONE:
        yield "outside ports", _ports(report)
    if report.lifetime is not None:
        yield "mappings live", _lives(report)
    if report.hairpin is not None:
        yield (
            "hairpin",
            "yes" if report.hairpin else "no: peers behind this NAT meet by inside addresses only",
        )
    yield from _gateways(report)
    if report.double_nat is not None:
        yield "second NAT", _second_nat(report)
    if report.cgnat is not None:
        yield "carrier's NAT", "yes" if report.cgnat else "no"
    if report.captive_portal is not None:
        yield (
            "captive portal",
            "yes: something else answers in the relay's name" if report.captive_portal else "no",
        )
    for relay in report.relays:
        yield "relay", _relay(relay, relay.url == report.home_relay)
    for text in report.silent:
        yield "no answer", text


_MAPPING = {
    MappingFinding.NONE: "none: the address is our own",
    MappingFinding.ENDPOINT_INDEPENDENT: "endpoint-independent (easy): one outside address for all",
    MappingFinding.ADDRESS_DEPENDENT: "address-dependent (hard): another outside address for each host",
    MappingFinding.ADDRESS_AND_PORT_DEPENDENT: "address-and-port-dependent (hard): another for each port",
    MappingFinding.DEPENDENT: "endpoint-dependent (hard): another outside address for each host or port",
    MappingFinding.UNKNOWN: "unknown",
}
_FILTERING = {
    FilteringFinding.ENDPOINT_INDEPENDENT: "endpoint-independent: anyone gets in",
    FilteringFinding.ADDRESS_DEPENDENT: "address-dependent: hosts we sent to get in, from any port",
    FilteringFinding.NOT_BY_PORT: "at most address-dependent: hosts we sent to get in, from any port",
    FilteringFinding.ADDRESS_AND_PORT_DEPENDENT: "address-and-port-dependent: only what we sent to gets in",
    FilteringFinding.UNKNOWN: "unknown",
}


def _udp(works: bool | None, public: str | None, own: str | None) -> str:
    if works is None:
        return "unknown"
    if not works:
        return "no answer" if own else "no address of this kind"
    return f"yes, {public}" + ("" if public == own or own is None else f" (here {own})")


def _ports(report: Report) -> str:
    found = report.allocation
    seen = f"{found.lowest}-{found.highest}"
    if found.kind is None:
        return "unknown"
    if found.kind is PortAllocation.PRESERVING:
        return "preserved: the same as inside, where it is free"
    if found.kind is PortAllocation.SEQUENTIAL:
        return f"sequential, {found.step} apart (seen: {seen})"
    return f"random (seen: {seen})"


def _lives(report: Report) -> str:
    found = report.lifetime
    assert found is not None
    if found.less_than_s is None:
        return f"at least {found.at_least_s:.0f} s without traffic"
    return f"{found.at_least_s:.0f} to {found.less_than_s:.0f} s without traffic"


def _gateways(report: Report) -> Iterator[tuple[str, str]]:
    for gateway in report.gateways:
        spoken = [p.protocol.value for p in gateway.protocols if p.standing is Standing.SPEAKS]
        undecided = any(protocol.standing is Standing.UNKNOWN for protocol in gateway.protocols)
        outside = f", its outside address is {gateway.external_ip}" if gateway.external_ip else ""
        if spoken:
            yield "port mapping", f"{gateway.gateway}: {', '.join(spoken)}{outside}{_mapped(gateway)}"
        else:
            yield "port mapping", f"{'unknown' if undecided else 'none'}: {gateway.gateway} does not answer"


def _mapped(gateway: GatewayReport) -> str:
    mapping = gateway.mapping
    if mapping is None:
        return ""
    proof = {True: " (verified)", False: " (but does not forward)", None: ""}[mapping.verified]
    return f", maps {mapping.external} to us{proof}"


def _second_nat(report: Report) -> str:
    if not report.double_nat:
        return "no"
    reasons = [gateway.nat_beyond_reason for gateway in report.gateways if gateway.nat_beyond_reason]
    return f"yes: {reasons[0]}" if reasons else "yes"


def _relay(relay: RelayReport, home: bool) -> str:
    if relay.round_trip is None:
        return f"{relay.url}: not reached" + (f": {relay.error}" if relay.error else "")
    how = "" if relay.via == "udp" else " (TCP)"
    at_home = ", home" if home else ""
    trouble = f"; {relay.error}" if relay.error else ""
    return f"{relay.url}: {1000 * relay.round_trip:.1f} ms{how}{at_home}{trouble}"


# --- the picture


def picture(report: Report, verdict: Verdict) -> list[str]:
    """The way out: this host, what stands between, the internet, the relay."""
    boxes = [["this host", *_present(report.own_v4, report.own_v6)]]
    if report.captive_portal:
        boxes.append(["captive portal"])
    boxes += _between(report, verdict)
    boxes.append(["internet"])
    lines: list[str] = []
    for box in boxes:
        if lines:
            lines.append("     |")
        width = max(map(len, box))
        edge = "+-" + "-" * width + "-+"
        lines += [edge, *(f"| {text:<{width}} |" for text in box), edge]
    home = next((relay for relay in report.relays if relay.url == report.home_relay), None)
    if home is not None:
        lines += ["     |", f"     +-- {_relay(home, home=True)}"]
    return lines


def _between(report: Report, verdict: Verdict) -> list[list[str]]:
    if report.udp_v4 is False and not report.udp_v6:
        return [["firewall", "lets no UDP through"]]
    if report.mapping_v4 is MappingFinding.NONE or (report.udp_v6 and not report.udp_v4):
        return [] if verdict.name == "public address" else [["firewall", verdict.name]]
    nat = [verdict.name, *_present(_ports(report) if report.allocation.kind else None)]
    gateway = next(iter(report.gateways), None)
    inner = [gateway.gateway] if gateway is not None else []
    outside = _present(report.public_v4)
    if not (report.double_nat or report.cgnat):
        return [[*inner, *nat, *outside]]
    router = ["router", *inner, *_present(gateway.external_ip if gateway else None)]
    return [
        router,
        ["carrier's NAT" if report.cgnat else "second NAT", *outside, f"together: {verdict.name}"],
    ]


def _present(*texts: str | None) -> list[str]:
    return [text for text in texts if text]
