"""What answers show of a NAT, and what they do not: judged strictly, so that nothing is guessed.

**Mapping.** Everything is asked of one socket. Servers at two addresses that see the same outside
address show that it depends on neither address nor port. If they see different ones it depends on
something: on the port too, if two ports of one address see different ones; on the address alone, if
two ports of each such address see the same. Two servers at two addresses cannot tell these apart.

**Filtering.** A fresh socket asks for an answer from where it never sent to. That the answer comes
shows that it is let in. That it stays out shows something only if the same socket gets ordinary
answers, and if that other place is known to answer when it is asked itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping as MappingType
from collections.abc import Set as AbstractSet
from enum import Enum

from peerway.core.machine import UdpAddress
from peerway.core.nat import Filtering, Mapping


class MappingFinding(Enum):
    """On what the outside address of a socket depends, as far as it is known."""

    NONE = "none"  # the outside address is our own
    ENDPOINT_INDEPENDENT = Mapping.ENDPOINT_INDEPENDENT.value
    ADDRESS_DEPENDENT = Mapping.ADDRESS_DEPENDENT.value
    ADDRESS_AND_PORT_DEPENDENT = Mapping.ADDRESS_AND_PORT_DEPENDENT.value
    DEPENDENT = "endpoint-dependent"  # one of the two; which, no server could tell
    UNKNOWN = "unknown"

    @property
    def is_easy(self) -> bool:
        """Whether what a STUN server sees is what a peer sees."""
        return self in (MappingFinding.NONE, MappingFinding.ENDPOINT_INDEPENDENT)

    @property
    def is_hard(self) -> bool:
        """Whether a peer sees an address that nobody can know beforehand."""
        return not self.is_easy and self is not MappingFinding.UNKNOWN


class FilteringFinding(Enum):
    """Who may send to a mapping, as far as it is known."""

    ENDPOINT_INDEPENDENT = Filtering.ENDPOINT_INDEPENDENT.value
    ADDRESS_DEPENDENT = Filtering.ADDRESS_DEPENDENT.value
    NOT_BY_PORT = "endpoint-independent or address-dependent"  # the server had no other address
    ADDRESS_AND_PORT_DEPENDENT = Filtering.ADDRESS_AND_PORT_DEPENDENT.value
    UNKNOWN = "unknown"

    @property
    def ignores_ports(self) -> bool:
        """Whether a peer gets in from a port that we have not sent to."""
        return self not in (FilteringFinding.ADDRESS_AND_PORT_DEPENDENT, FilteringFinding.UNKNOWN)


def judge_mapping(
    seen: MappingType[UdpAddress, UdpAddress], local: UdpAddress, own_ips: AbstractSet[str]
) -> MappingFinding:
    """What servers saw of the socket bound to `local`, on a host with these addresses."""
    if not seen:
        return MappingFinding.UNKNOWN
    if all(mapped.ip in own_ips and mapped.port == local.port for mapped in seen.values()):
        return MappingFinding.NONE
    by_address: dict[str, list[UdpAddress]] = defaultdict(list)
    for server, mapped in seen.items():
        by_address[server.ip].append(mapped)
    if any(len(set(mapped)) > 1 for mapped in by_address.values()):
        return MappingFinding.ADDRESS_AND_PORT_DEPENDENT
    if len(by_address) < 2:
        return MappingFinding.UNKNOWN
    if len(set(seen.values())) == 1:
        return MappingFinding.ENDPOINT_INDEPENDENT
    if any(len(mapped) > 1 for mapped in by_address.values()):
        return MappingFinding.ADDRESS_DEPENDENT
    return MappingFinding.DEPENDENT


def judge_filtering(from_elsewhere: bool | None, from_other_port: bool | None) -> FilteringFinding:
    """From whether an answer got in from another address and port, and from another port; None: unknown."""
    if from_elsewhere:
        return FilteringFinding.ENDPOINT_INDEPENDENT
    if from_other_port:
        known = from_elsewhere is not None
        return FilteringFinding.ADDRESS_DEPENDENT if known else FilteringFinding.NOT_BY_PORT
    if from_other_port is None:
        return FilteringFinding.UNKNOWN
    return FilteringFinding.ADDRESS_AND_PORT_DEPENDENT
