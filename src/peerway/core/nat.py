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


def can_meet(one: tuple[Mapping, Filtering], other: tuple[Mapping, Filtering]) -> bool:
    """Whether two hosts behind such NATs get through to each other when both send at once.

    Each sends to what a server saw of the other, and answers where it hears it from. A side whose
    outside address differs for each destination cannot be sent to before it was heard, so the
    other's filter must let in a port that nobody could know. No guessing of ports.
    """
    hard = [side for side in (one, other) if side[0] is not Mapping.ENDPOINT_INDEPENDENT]
    if len(hard) == 2:
        return _both_hard_meet(one, other)
    easy = other if hard == [one] else one
    return not hard or easy[1] is not Filtering.ADDRESS_AND_PORT_DEPENDENT


def _both_hard_meet(one: tuple[Mapping, Filtering], other: tuple[Mapping, Filtering]) -> bool:
    """One must be heard by whoever sends, one must keep its port, and no filter may look at ports."""
    filters = (one[1], other[1])
    return (
        Filtering.ADDRESS_AND_PORT_DEPENDENT not in filters
        and Filtering.ENDPOINT_INDEPENDENT in filters
        and Mapping.ADDRESS_DEPENDENT in (one[0], other[0])
    )
