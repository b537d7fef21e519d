"""What happens to port mappings, as events with their reasons: for logs, `explain` and tests."""

from __future__ import annotations

from dataclasses import dataclass

from peerway.core.machine import Event
from peerway.core.portmap.lease import Lease
from peerway.core.portmap.report import PortMapping, Protocol


class PortMappingEvent(Event):
    """Something about our port mappings; `str()` says it to people."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class GatewaySpeaks(PortMappingEvent):
    """The gateway answers in this protocol."""

    gateway: str
    protocol: Protocol
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.gateway} speaks {self.protocol.value}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True, slots=True)
class NatBeyondFound(PortMappingEvent):
    """There is another NAT beyond the gateway; `reason` is how we know."""

    gateway: str
    reason: str

    def __str__(self) -> str:
        return f"another NAT is beyond {self.gateway}: {self.reason}"


@dataclass(frozen=True, slots=True)
class PortMapped(PortMappingEvent):
    """The gateway forwards a port to us. `reason`: why it was asked."""

    mapping: PortMapping
    reason: str

    def __str__(self) -> str:
        return f"mapped {self.mapping}: {self.reason}"


@dataclass(frozen=True, slots=True)
class PortMappingRenewed(PortMappingEvent):
    """The mapping lives on, for its lifetime from now."""

    mapping: PortMapping

    def __str__(self) -> str:
        return f"renewed {self.mapping} for {self.mapping.lifetime_s} s"


@dataclass(frozen=True, slots=True)
class PortMappingVerified(PortMappingEvent):
    """Something came in from outside through the mapping; `how` says what."""

    mapping: PortMapping
    how: str

    def __str__(self) -> str:
        return f"verified {self.mapping}: {self.how}"


@dataclass(frozen=True, slots=True)
class PortMappingLost(PortMappingEvent):
    """The mapping is not, or not usably, there any more."""

    mapping: PortMapping
    reason: str

    def __str__(self) -> str:
        return f"lost {self.mapping}: {self.reason}"


@dataclass(frozen=True, slots=True)
class PortMappingFailed(PortMappingEvent):
    """No protocol gave a mapping; the next attempt is in `retry_in` s."""

    gateway: str
    reason: str
    retry_in: float

    def __str__(self) -> str:
        return f"no port mapping at {self.gateway}: {self.reason}"


@dataclass(frozen=True, slots=True)
class PortMappingRemoved(PortMappingEvent):
    """A mapping of ours, of this run or an earlier one, was removed; with an `error`, perhaps it was not."""

    lease: Lease
    error: str = ""

    def __str__(self) -> str:
        where = f"port {self.lease.external_port} by {self.lease.protocol.value} at {self.lease.gateway}"
        return f"could not remove {where}: {self.error}" if self.error else f"removed {where}"


@dataclass(frozen=True, slots=True)
class RememberLeases(Event):
    """Keep these, all there are, where the next run finds them if this one ends without removing them."""

    leases: tuple[Lease, ...]


@dataclass(frozen=True, slots=True)
class PortMappingsGivenBack(Event):
    """We leave: every mapping was removed, or the gateways had their time to answer."""


@dataclass(frozen=True, slots=True)
class GatewayLeft(Event):
    """One gateway has given back what it had for us, or had its time to."""
