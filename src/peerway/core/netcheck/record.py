"""A report, and what it means, in the types of JSON: for programs."""

from __future__ import annotations

from collections.abc import Sequence

from peerway.core.netcheck.allocation import Allocation
from peerway.core.netcheck.lifetime import Lifetime
from peerway.core.netcheck.report import RelayReport, Report
from peerway.core.netcheck.verdict import judge
from peerway.core.portmap.report import GatewayReport, Standing

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]


def record(report: Report) -> dict[str, JsonValue]:
    """Everything in the report and in the verdict, under names that stay. None is "not known"."""
    verdict = judge(report)
    return {
        "udp_v4": report.udp_v4,
        "udp_v6": report.udp_v6,
        "public_v4": report.public_v4,
        "public_v6": report.public_v6,
        "mapping_v4": report.mapping_v4.value,
        "mapping_v6": report.mapping_v6.value,
        "filtering_v4": report.filtering_v4.value,
        "filtering_v6": report.filtering_v6.value,
        "allocation": _allocation(report.allocation),
        "lifetime": _lifetime(report.lifetime),
        "hairpin": report.hairpin,
        "portmap": _portmap(report.gateways),
        "gateway": next((gateway.gateway for gateway in report.gateways), None),
        "double_nat": report.double_nat,
        "cgnat": report.cgnat,
        "captive_portal": report.captive_portal,
        "relays": [_relay(relay) for relay in report.relays],
        "home_relay": report.home_relay,
        "silent": list(report.silent),
        "difficulty": verdict.difficulty.value,
        "name": verdict.name,
        "direct": list(verdict.direct),
        "perhaps": list(verdict.perhaps),
        "relayed": list(verdict.relayed),
        "verdict": " ".join(verdict.sentences),
        "advice": list(verdict.advice),
    }


def _allocation(found: Allocation) -> JsonValue:
    return {
        "kind": "unknown" if found.kind is None else found.kind.value,
        "step": found.step,
        "range": [found.lowest, found.highest] if found.samples else None,
        "samples": found.samples,
    }


def _lifetime(found: Lifetime | None) -> JsonValue:
    if found is None:
        return None
    return {"at_least_s": found.at_least_s, "less_than_s": found.less_than_s}


def _portmap(gateways: Sequence[GatewayReport]) -> JsonValue:
    if not gateways:
        return None
    return [
        {
            "gateway": gateway.gateway,
            "external": gateway.external_ip or None,
            "protocols": {p.protocol.value: _spoken(p.standing) for p in gateway.protocols},
            "mapping": str(gateway.mapping.external) if gateway.mapping else None,
            "failure": gateway.failure or None,
        }
        for gateway in gateways
    ]


def _spoken(standing: Standing) -> bool | None:
    return None if standing is Standing.UNKNOWN else standing is Standing.SPEAKS


def _relay(relay: RelayReport) -> JsonValue:
    return {
        "url": relay.url,
        "latency_ms": None if relay.round_trip is None else round(1000 * relay.round_trip, 3),
        "via": relay.via or None,
        "error": relay.error or None,
    }
