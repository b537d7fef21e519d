"""What RFC 4787 calls the behaviours of a NAT; the names everything else uses for them."""

from __future__ import annotations

from enum import Enum


class Mapping(Enum):
    """On what the outside address of a socket depends (RFC 4787 section 4.1)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


class Filtering(Enum):
    """Who may send to a mapping: anyone, or whom it was used towards (RFC 4787 section 5)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


class PortAllocation(Enum):
    """Which outside port a new mapping gets (RFC 4787 section 4.2)."""

    PRESERVING = "preserving"  # the inside port where it is free, else a random one
    RANDOM = "random"
    SEQUENTIAL = "sequential"


_CONES = {
    Filtering.ENDPOINT_INDEPENDENT: "full cone",
    Filtering.ADDRESS_DEPENDENT: "restricted cone",
    Filtering.ADDRESS_AND_PORT_DEPENDENT: "port-restricted cone",
}


def old_name(mapping: Mapping, filtering: Filtering) -> str:
    """What RFC 3489 called it; people still do."""
    return _CONES[filtering] if mapping is Mapping.ENDPOINT_INDEPENDENT else "symmetric"
