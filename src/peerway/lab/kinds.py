"""The kinds of router a host may sit behind.

A kind is data: what people call it, how it maps and filters IPv4 in the terms of RFC 4787, and
the nftables rules that make a Linux router behave so. Every router's outer device is
named `wan`, its inner device `lan`. IPv6 is never translated: what lets in whoever knows the
address, and what stands at a carrier, passes it; every other kind is a stateful firewall to it.

Linux's `masquerade` keeps a source port towards every destination while nothing collides,
so it maps endpoint-independently, and filters by address and port. Whatever a kind lets in
beyond that comes from learned sets: `fc` (public port to inside endpoint), `seen` (public
port and every address it has sent to) and `back` (inside to public endpoint).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from peerway.core.nat import Filtering, Mapping

UDP_TIMEOUT_S = 30  # what Linux gives a flow seen in one direction (nf_conntrack_udp_timeout)
UDP_STREAM_TIMEOUT_S = 120  # and a flow that has gone both ways for two seconds
PORT_BLOCK = (20000, 20511)
FIRST_CHOSEN_PORT = 30000
SEQUENTIAL_PORTS = 1024  # public ports `edm-seq` goes through before it starts again
ADDRESS_BLOCKS = 64  # `adm` gives each destination address one of this many blocks of ports
ADDRESS_BLOCK_PORTS = 512
WAN_PLACEHOLDER = "<wan>"  # in a rule: the router's public address
HASH_SEED = 4787  # fixed, so that a run can be repeated


class Blocking(enum.Enum):
    """What the router does to all UDP that wants through."""

    NONE = "none"
    DROP = "drop"
    REJECT = "reject"


class Hairpin(enum.Enum):
    """What comes of a packet from the inside to a mapping of the router itself (RFC 4787 section 6)."""

    NONE = "none"
    OUTSIDE_SOURCE = "outside source"  # it arrives from the sender's mapping, as RFC 4787 wants it
    INSIDE_SOURCE = "inside source"  # it arrives from the sender's own address


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of router.

    `mapping` is None where addresses are not translated, or UDP does not pass;
    `filtering` is None where UDP does not pass. `outward` is the rule that translates UDP
    (`WAN_PLACEHOLDER` for the public address), None for plain `masquerade`. `guarded`
    routers drop what reaches them from outside; one that is not may be poisoned by a probe
    that comes too early. A `carrier` gives addresses of RFC 6598 to those behind it.
    """

    name: str
    old_name: str
    explanation: str
    mapping: Mapping | None
    filtering: Filtering | None
    translates: bool = True
    outward: str | None = None
    blocking: Blocking = Blocking.NONE
    guarded: bool = True
    hairpin: Hairpin = Hairpin.NONE
    carrier: bool = False

    @property
    def passes_udp(self) -> bool:
        """Whether any UDP gets through."""
        return self.blocking is Blocking.NONE

    @property
    def maps_predictably(self) -> bool:
        """Whether the endpoint a STUN server sees is the one a peer sees."""
        return self.passes_udp and self.mapping in (None, Mapping.ENDPOINT_INDEPENDENT)

    @property
    def filters_ipv6(self) -> bool:
        """Whether only answers to what was sent get in by IPv6."""
        public = not self.translates and self.filtering is Filtering.ENDPOINT_INDEPENDENT
        return not (self.carrier or public)

    def filtering_of(self, family: int) -> Filtering:
        """How it filters an IP version; where UDP does not pass, as strictly as can be."""
        strictest = Filtering.ADDRESS_AND_PORT_DEPENDENT
        if family == 6:
            return strictest if self.filters_ipv6 else Filtering.ENDPOINT_INDEPENDENT
        return self.filtering or strictest


def _sequential_ports() -> str:
    ports = ", ".join(f"{index} : {FIRST_CHOSEN_PORT + index}" for index in range(SEQUENTIAL_PORTS))
    # `numgen … offset` gives the port in the wrong byte order: hence a map.
    return f"masquerade to :numgen inc mod {SEQUENTIAL_PORTS} map {{ {ports} }}"


def _block_per_address() -> str:
    # Within a block Linux maps endpoint-independently; one port per hash would lose whatever collides.
    firsts = [FIRST_CHOSEN_PORT + index * ADDRESS_BLOCK_PORTS for index in range(ADDRESS_BLOCKS)]
    blocks = ", ".join(
        f"{index} : {WAN_PLACEHOLDER} . {first}-{first + ADDRESS_BLOCK_PORTS - 1}"
        for index, first in enumerate(firsts)
    )
    choice = f"jhash ip daddr mod {ADDRESS_BLOCKS} seed {HASH_SEED}"
    return f"snat ip to {choice} map {{ {blocks} }}"


_PORT_BLOCK = f"masquerade to :{PORT_BLOCK[0]}-{PORT_BLOCK[1]}"

_ALL_KINDS = (
    Kind(
        "open",
        "public address",
        "A public address, no NAT, no firewall: whoever knows the address gets in.",
        None,
        Filtering.ENDPOINT_INDEPENDENT,
        translates=False,
        guarded=False,
    ),
    Kind(
        "firewall",
        "symmetric UDP firewall",
        "A public address behind a stateful firewall: only answers to what was sent get in.",
        None,
        Filtering.ADDRESS_AND_PORT_DEPENDENT,
        translates=False,
        guarded=False,
    ),
    Kind(
        "eim-eif",
        "full cone NAT",
        "One public port per inside port; once it exists, anyone may send to it.",
        Mapping.ENDPOINT_INDEPENDENT,
        Filtering.ENDPOINT_INDEPENDENT,
    ),
    Kind(
        "eim-adf",
        "restricted cone NAT",
        "One public port per inside port; only addresses it has sent to may answer, from any port.",
        Mapping.ENDPOINT_INDEPENDENT,
        Filtering.ADDRESS_DEPENDENT,
    ),
    Kind(
        "eim-apdf",
        "port-restricted cone NAT",
        "One public port per inside port; only an address and port it has sent to may answer. "
        "What Linux and most home routers do.",
        Mapping.ENDPOINT_INDEPENDENT,
        Filtering.ADDRESS_AND_PORT_DEPENDENT,
    ),
    Kind(
        "edm",
        "symmetric NAT",
        "A new random public port for every destination: what a STUN server sees is no use to a peer.",
        Mapping.ADDRESS_AND_PORT_DEPENDENT,
        Filtering.ADDRESS_AND_PORT_DEPENDENT,
        outward="masquerade fully-random",
    ),
    Kind(
        "udp-blocked",
        "UDP blocked",
        "TCP passes, all UDP is dropped without a word, as in many guest networks.",
        None,
        None,
        blocking=Blocking.DROP,
    ),
    Kind(
        "edm-seq",
        "symmetric NAT, sequential ports",
        "A new public port for every destination, each one higher than the last: it can be foretold.",
        Mapping.ADDRESS_AND_PORT_DEPENDENT,
        Filtering.ADDRESS_AND_PORT_DEPENDENT,
        outward=_sequential_ports(),
    ),
    Kind(
        "adm",
        "address-dependent symmetric NAT",
        "A new public port for every destination address, the same for all ports there.",
        Mapping.ADDRESS_DEPENDENT,
        Filtering.ADDRESS_AND_PORT_DEPENDENT,
        outward=_block_per_address(),
    ),
    Kind(
        "poisoned",
        "port-restricted cone NAT, open INPUT",
        "Like eim-apdf, but a probe that arrives before anything was sent takes the port: "
        "the answer then leaves from a random one.",
        Mapping.ENDPOINT_INDEPENDENT,
        Filtering.ADDRESS_AND_PORT_DEPENDENT,
        guarded=False,
    ),
    Kind(
        "port-block",
        "port-restricted cone NAT, port block",
        "Like eim-apdf, but public ports come from a block of 512 and never equal the inside one, "
        "as at a carrier.",
        Mapping.ENDPOINT_INDEPENDENT,
        Filtering.ADDRESS_AND_PORT_DEPENDENT,
        outward=_PORT_BLOCK,
    ),
    Kind(
        "cgn",
        "full cone NAT of a carrier",
        "Carrier-grade NAT as it should be (RFC 6888): a full cone with ports from a block, that turns "
        "around what is meant for itself.",
        Mapping.ENDPOINT_INDEPENDENT,
        Filtering.ENDPOINT_INDEPENDENT,
        outward=_PORT_BLOCK,
        hairpin=Hairpin.OUTSIDE_SOURCE,
        carrier=True,
    ),
    Kind(
        "cgn-inside",
        "full cone NAT of a carrier, hairpin with inside source",
        "Like cgn, but what it turns around keeps the sender's inside address.",
        Mapping.ENDPOINT_INDEPENDENT,
        Filtering.ENDPOINT_INDEPENDENT,
        outward=_PORT_BLOCK,
        hairpin=Hairpin.INSIDE_SOURCE,
        carrier=True,
    ),
    Kind(
        "cgn-no-hairpin",
        "full cone NAT of a carrier, no hairpin",
        "Like cgn, but what is meant for itself from the inside is lost.",
        Mapping.ENDPOINT_INDEPENDENT,
        Filtering.ENDPOINT_INDEPENDENT,
        outward=_PORT_BLOCK,
        carrier=True,
    ),
    Kind(
        "cgn-edm",
        "symmetric NAT of a carrier",
        "A carrier's NAT with a new random public port for every destination, and no hairpin.",
        Mapping.ADDRESS_AND_PORT_DEPENDENT,
        Filtering.ADDRESS_AND_PORT_DEPENDENT,
        outward="masquerade fully-random",
        carrier=True,
    ),
    Kind(
        "udp-rejected",
        "UDP rejected",
        "TCP passes, all UDP is refused with an ICMP error that says so.",
        None,
        None,
        blocking=Blocking.REJECT,
    ),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL_KINDS}
MATRIX_KINDS = ("open", "firewall", "eim-eif", "eim-adf", "eim-apdf", "edm", "udp-blocked")
