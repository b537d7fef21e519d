"""What has been learned of one gateway: what it speaks, what it calls its own, what would not work."""

from __future__ import annotations

from collections.abc import Mapping

from peerway.core.machine import UdpAddress
from peerway.core.portmap.client import Answered, NotSpoken
from peerway.core.portmap.external import Beyond, is_public, look_beyond
from peerway.core.portmap.report import GatewayReport, PortMapping, Protocol, ProtocolReport, Standing
from peerway.core.portmap.uplink import Uplink


class Picture:
    """Kept up by the gateway's machine. `failed` says why a protocol is not asked again for now."""

    def __init__(self) -> None:
        self.failed: dict[Protocol, str] = {}
        self.external_ip = ""
        self.says_nat_beyond = ""
        self.seen_by: Mapping[UdpAddress, UdpAddress] = {}
        self._has_no_address = False
        self._spoken = {protocol: ProtocolReport(protocol) for protocol in Protocol}

    @property
    def standings(self) -> dict[Protocol, Standing]:
        """How it stands with each protocol."""
        return {protocol: report.standing for protocol, report in self._spoken.items()}

    def ask_again(self) -> None:
        """Forget failures and silence: everything may be different now."""
        self.failed.clear()
        self.says_nat_beyond = ""
        for protocol, report in self._spoken.items():
            if report.standing is not Standing.SPEAKS:
                self._spoken[protocol] = ProtocolReport(protocol)

    def answered(self, protocol: Protocol, event: Answered) -> bool:
        """It speaks this protocol; whether that is news."""
        known = self._spoken[protocol]
        news = known.standing is not Standing.SPEAKS
        detail = event.detail if news else event.detail or known.detail
        self._spoken[protocol] = ProtocolReport(protocol, Standing.SPEAKS, detail)
        if event.external_ip or event.has_no_address:  # else this protocol does not tell
            self.external_ip = event.external_ip or self.external_ip
            self._has_no_address = event.has_no_address
        return news

    def not_spoken(self, protocol: Protocol, event: NotSpoken) -> None:
        """It does not speak this protocol, or not any more."""
        standing = Standing.REFUSES if event.refuses else Standing.SILENT
        self._spoken[protocol] = ProtocolReport(protocol, standing, event.reason)

    def maps_at(self, ip: str) -> None:
        """It maps at this address, so it has one."""
        self.external_ip, self._has_no_address = ip, False

    @property
    def failure(self) -> str:
        """Why no protocol serves."""
        reasons = {protocol: report.detail for protocol, report in self._spoken.items()} | self.failed
        return "; ".join(f"{protocol.value}: {reason}" for protocol, reason in reasons.items() if reason)

    @property
    def beyond(self) -> Beyond:
        """Whether there is another NAT between the gateway and the Internet."""
        public = frozenset(seen.ip for seen in self.seen_by.values() if is_public(seen.ip))
        return look_beyond(self.external_ip, self._has_no_address, self.says_nat_beyond, public)

    def report(self, uplink: Uplink, mapping: PortMapping | None, *, gave_up: bool) -> GatewayReport:
        """Everything, for people."""
        beyond = self.beyond
        return GatewayReport(
            uplink.interface,
            uplink.gateway,
            tuple(self._spoken[protocol] for protocol in Protocol),
            self.external_ip,
            beyond.nat,
            beyond.reason,
            mapping,
            self.failure if gave_up else "",
        )
