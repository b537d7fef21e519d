"""What is known of the gateways around us, as values: for people, for `netcheck`, for tests."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from peerway.core.machine import UdpAddress


class Protocol(Enum):
    """How a gateway is asked for a port, the best first."""

    PCP = "PCP"  # RFC 6887
    NAT_PMP = "NAT-PMP"  # RFC 6886
    UPNP = "UPnP IGD"


class Standing(Enum):
    """Whether a gateway speaks a protocol."""

    UNKNOWN = "no answer yet"
    SPEAKS = "speaks it"
    SILENT = "does not answer"
    REFUSES = "says that it does not speak it"


@dataclass(frozen=True, slots=True)
class ProtocolReport:
    """One protocol at one gateway; `detail` is for people: a version, or the gateway's own words."""

    protocol: Protocol
    standing: Standing = Standing.UNKNOWN
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port that a gateway forwards to a socket of ours.

    `lifetime_s` is what the gateway granted, 0 for "until it restarts". `verified`: whether something
    from outside, to which we had sent nothing, was seen to arrive; None when nobody could try.
    """

    protocol: Protocol
    interface: str
    gateway: str
    internal: UdpAddress
    external: UdpAddress
    lifetime_s: int
    verified: bool | None = None

    def __str__(self) -> str:
        return f"{self.external} to {self.internal} by {self.protocol.value} at {self.gateway}"


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """A default gateway: what it speaks, what it says its own outside address is, what it maps for us.

    `external_ip` is "" while unknown. `nat_beyond`: whether there is another NAT between the
    gateway and the Internet, None while unknown; `nat_beyond_reason` says how we know.
    `failure` says why there is no mapping, "" when there is one or it is too early to tell.
    """

    interface: str
    gateway: str
    protocols: tuple[ProtocolReport, ...] = tuple(ProtocolReport(protocol) for protocol in Protocol)
    external_ip: str = ""
    nat_beyond: bool | None = None
    nat_beyond_reason: str = ""
    mapping: PortMapping | None = None
    failure: str = ""
