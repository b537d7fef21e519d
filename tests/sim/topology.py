"""Small internets by name: two homes and a server, of the same kinds as the kernel lab's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from peerway.core.nat import Filtering, Mapping, PortAllocation
from peerway.sim.network.behaviour import Hairpin, NatBehaviour
from peerway.sim.network.host import Host
from peerway.sim.network.tree import DEFAULT_QUALITY, LinkQuality, Router
from peerway.sim.network.world import World
from peerway.sim.oracle import Outlook, direct_possible

SERVER_NAME = "server.test"
SERVER_IPS = ("203.0.113.10", "203.0.113.11")

# Linux: nf_conntrack_udp_timeout and _stream; what makes a cone of it learns ports for as long.
_LINUX = NatBehaviour(idle_s=30.0, stream_idle_s=120.0)
_CONE = replace(_LINUX, filtering=Filtering.ENDPOINT_INDEPENDENT, memory_s=120.0)
_CARRIER = replace(_CONE, port_range=(20000, 20512))
_EDM = replace(_LINUX, mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, ports=PortAllocation.RANDOM)
KINDS: dict[str, NatBehaviour | None] = {
    "open": None,
    "firewall": replace(_LINUX, translates=False),
    "eim-eif": _CONE,
    "eim-adf": replace(_CONE, filtering=Filtering.ADDRESS_DEPENDENT),
    "eim-apdf": _LINUX,
    "edm": _EDM,
    "adm": replace(_EDM, mapping=Mapping.ADDRESS_DEPENDENT),
    "edm-seq": replace(_EDM, ports=PortAllocation.SEQUENTIAL),
    "poisoned": replace(_LINUX, input_open=True),
    "port-block": replace(_LINUX, port_range=(20000, 20512)),
    "cgn": replace(_CARRIER, hairpin=Hairpin.EXTERNAL_SOURCE),
    "cgn-inside": replace(_CARRIER, hairpin=Hairpin.INTERNAL_SOURCE),
    "cgn-no-hairpin": _CARRIER,
    "cgn-edm": _EDM,
    "udp-blocked": NatBehaviour(udp_blocked=True),
    "udp-rejected": NatBehaviour(udp_blocked=True),  # our sockets do not hear of the refusal
}


@dataclass(frozen=True, slots=True)
class PairTopology:
    """Two hosts, each behind its home router, and a server at `SERVER_IPS`, called `SERVER_NAME`.

    `expected` is the oracle's word on the two sides.
    """

    world: World
    left: Host
    right: Host
    server: Host
    left_home: Router
    right_home: Router
    expected: Outlook


def pair(left_kind: str, right_kind: str, seed: int, access: LinkQuality = DEFAULT_QUALITY) -> PairTopology:
    """Two homes of the `KINDS` named, with links of quality `access` to the core; no machine runs yet."""
    left_nat, right_nat = KINDS[left_kind], KINDS[right_kind]
    world = World(seed)
    world.names[SERVER_NAME] = SERVER_IPS[:1]
    core = Router(world, "core")
    server = Host(world, "server")
    server.attach(core, *(f"{ip}/24" for ip in SERVER_IPS))
    left_home, left = home(world, core, "left", left_nat, "198.51.100.1", "10.1.0.2/24", access)
    right_home, right = home(world, core, "right", right_nat, "192.0.2.1", "10.2.0.2/24", access)
    expected = direct_possible([left_nat] if left_nat else [], [right_nat] if right_nat else [])
    return PairTopology(world, left, right, server, left_home, right_home, expected)


def home(
    world: World,
    uplink: Router,
    name: str,
    nat: NatBehaviour | None,
    public_ip: str,
    inside: str,
    access: LinkQuality = DEFAULT_QUALITY,
) -> tuple[Router, Host]:
    """A home router and a host; the host has `public_ip` itself where nothing translates, else `inside`."""
    router = Router(world, f"{name}-home", uplink, nat, public_ip, quality=access)
    host = Host(world, name)
    host.attach(router, inside if nat is not None and nat.translates else f"{public_ip}/24")
    return router, host
