"""How a NAT behaves, as data: the terms of RFC 4787, and what that RFC leaves open.

The default is what Linux's `masquerade` does, and so most home routers: it keeps the source
port, and lets in whom the inside has sent to. Times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from peerway.core.nat import Filtering, Mapping, PortAllocation

SESSION_LIMIT = 65_536  # Linux: nf_conntrack_max of a router with some memory


class Hairpin(Enum):
    """What an inside host that sends to the NAT's outside address reaches (RFC 4787 section 6).

    The neighbour, who sees the sender's outside address, or (against REQ-9) its inside one.
    """

    NONE = "none"
    EXTERNAL_SOURCE = "external source"
    INTERNAL_SOURCE = "internal source"


class Pooling(Enum):
    """Which of several outside addresses a mapping gets (RFC 4787 section 4.1)."""

    PAIRED = "paired"  # an inside host has always the same
    ARBITRARY = "arbitrary"  # any, for each mapping


@dataclass(frozen=True, slots=True)
class NatBehaviour:
    """How a NAT behaves. A *session* is an inside address and port with a remote one.

    Which mapping, and whom it lets in:
    `mapping`, `filtering`, `hairpin`: RFC 4787 sections 4.1, 5 and 6.
    `translates`: False makes it a stateful firewall. `udp_blocked`: it forwards no UDP at all.
    `input_open`: what comes too early poisons it (see `network.nat`).

    Which outside port (RFC 4787 section 4.2):
    `ports`, from `port_range` (the first, and one past the last), None: as is usual for `ports`.
    `overloads`: hosts inside that have the same port both keep it, as long as their remote ends differ.
    `keeps_parity`: an even port stays even, an odd one odd (REQ-4).
    `port_step`: from one port in sequence to the next.
    `other_ports_per_s`: how many ports in sequence everybody else behind this NAT takes, on average.
    `block_ports`: each inside host has a block of so many ports (RFC 7422), 0: all share all.
    `pooling`: where the NAT has several outside addresses.

    How long:
    `idle_s`: a session on which nothing passes is gone after so long.
    `inbound_refreshes`: what comes from outside counts as passing (REQ-6).
    `stream_idle_s`: that of a session which has gone both ways for two seconds, as Linux has it.
    `memory_s`: for so long after the inside last sent, a port lets in whom the filtering allows,
    though its sessions are gone; None: only as long as there are sessions. (Rules for nftables that
    make a cone of a Linux router learn ports so.) What the inside begins then is a new mapping.
    `lifetime_s`: a mapping is gone so long after it was made, whatever passes.

    How much: `session_limit` in all, `host_session_limit` for each inside host; a session too
    many is refused.
    """

    mapping: Mapping = Mapping.ENDPOINT_INDEPENDENT
    filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    ports: PortAllocation = PortAllocation.PRESERVING
    translates: bool = True
    idle_s: float = 30.0
    inbound_refreshes: bool = True
    hairpin: Hairpin = Hairpin.NONE
    input_open: bool = False
    udp_blocked: bool = False
    port_range: tuple[int, int] | None = None
    overloads: bool = True
    keeps_parity: bool = False
    port_step: int = 1
    other_ports_per_s: float = 0.0
    block_ports: int = 0
    pooling: Pooling = Pooling.PAIRED
    stream_idle_s: float | None = None
    memory_s: float | None = None
    lifetime_s: float | None = None
    session_limit: int = SESSION_LIMIT
    host_session_limit: int | None = None
