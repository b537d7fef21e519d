"""The places a host may be at, and which pairs of places can meet directly.

A place is a row of routers and the IP versions that its line speaks. Every kind of router is a
place of that name, alone on a line of IPv4. In some places two hosts share the outer routers:
such a place is a cell of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from peerway.core.nat import Filtering
from peerway.lab.kinds import KINDS, Hairpin, Kind
from peerway.lab.plan import DUAL_STACK, IPV4_ONLY, IPV6_ONLY

_FILTERINGS = tuple(Filtering)  # from the easiest to the hardest


@dataclass(frozen=True, slots=True)
class Place:
    """`routers` are kinds from the outside in; the two hosts of a cell have the first `shared` in common.

    Where it `maps_ports`, the inmost router gives ports on request.
    """

    name: str
    old_name: str
    explanation: str
    routers: tuple[str, ...]
    families: tuple[int, ...] = IPV4_ONLY
    shared: int = 0
    maps_ports: bool = False

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of its routers, from the outside in."""
        return tuple(KINDS[router] for router in self.routers)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What must come of two hosts: `direct` or `relay`, and over which IP version where that is certain."""

    outcome: str
    family: int | None = None

    def __str__(self) -> str:
        return f"{self.outcome} by IPv{self.family}" if self.family else self.outcome


_ALL_PLACES = (
    *(Place(kind.name, kind.old_name, kind.explanation, (kind.name,)) for kind in KINDS.values()),
    Place(
        "same-lan",
        "same network",
        "Both hosts behind one port-restricted router: they meet by their inside addresses.",
        ("eim-apdf",),
        shared=1,
    ),
    Place(
        "edm-mapped",
        "symmetric NAT with port mapping",
        "A symmetric NAT that gives a host a port of its own on request (PCP, NAT-PMP, UPnP).",
        ("edm",),
        maps_ports=True,
    ),
    Place(
        "double-nat",
        "two NATs in a row",
        "A port-restricted router of one's own behind the one of the provider.",
        ("eim-apdf", "eim-apdf"),
    ),
    Place(
        "cgn-home",
        "home behind carrier-grade NAT",
        "A port-restricted home router behind a carrier's endpoint-independent NAT of its own.",
        ("cgn", "eim-apdf"),
    ),
    Place(
        "cgn-edm-home",
        "home behind a symmetric carrier-grade NAT",
        "A port-restricted home router behind a carrier's symmetric NAT of its own.",
        ("cgn-edm", "eim-apdf"),
    ),
    Place(
        "same-cgn",
        "two homes of one carrier, hairpin",
        "Two homes behind one carrier's NAT, which turns what is meant for its own public address "
        "around, with the sender's public address.",
        ("cgn", "eim-apdf"),
        shared=1,
    ),
    Place(
        "same-cgn-inside",
        "two homes of one carrier, hairpin with inside source",
        "The same, but what is turned around keeps the sender's inside address: port-restricted "
        "homes do not know it and stay shut.",
        ("cgn-inside", "eim-apdf"),
        shared=1,
    ),
    Place(
        "same-cgn-inside-eif",
        "two full cones of one carrier, hairpin with inside source",
        "The same with full cone homes: they let the unknown address in, and answer it.",
        ("cgn-inside", "eim-eif"),
        shared=1,
    ),
    Place(
        "same-cgn-no-hairpin",
        "two homes of one carrier, no hairpin",
        "Two homes behind one carrier's NAT that turns nothing around: only the relay is left.",
        ("cgn-no-hairpin", "eim-apdf"),
        shared=1,
    ),
    Place(
        "v6-firewall",
        "IPv6 only",
        "No IPv4 at all; a public IPv6 address behind a stateful firewall.",
        ("firewall",),
        IPV6_ONLY,
    ),
    Place(
        "dual-stack",
        "IPv4 and IPv6",
        "A port-restricted NAT for IPv4; public IPv6 addresses behind its stateful firewall.",
        ("eim-apdf",),
        DUAL_STACK,
    ),
    Place(
        "dual-cgn",
        "IPv6, and IPv4 by carrier-grade NAT",
        "IPv4 only through a home router and a carrier's symmetric NAT, but native IPv6 behind the "
        "home's stateful firewall.",
        ("cgn-edm", "eim-apdf"),
        DUAL_STACK,
    ),
    Place(
        "v6-same-lan",
        "same network, IPv6 only",
        "Both hosts on one network without IPv4.",
        ("firewall",),
        IPV6_ONLY,
        shared=1,
    ),
)

PLACES: dict[str, Place] = {place.name: place for place in _ALL_PLACES}
SAME_LAN = "same-lan"


def expected(left: str, right: str) -> Outlook:
    """What must come of two hosts at these places; ValueError for a shared place with another.

    Holds for what simultaneous sending and mapped ports can do: no guessing of ports. IPv6 goes first.
    """
    one, other = PLACES[left], PLACES[right]
    if one.shared or other.shared:
        if left != right:
            raise ValueError(f"{left if one.shared else right} is a cell of its own, not {left} with {right}")
        return _neighbours(one)
    for family in sorted({*one.families} & {*other.families}, reverse=True):
        if _can_meet(_of_place(one, family), _of_place(other, family)):
            return Outlook("direct", family)
    return Outlook("relay")


def _neighbours(place: Place) -> Outlook:
    own, shared = place.kinds[place.shared :], place.kinds[: place.shared]
    if not own:
        return Outlook("direct", max(place.families))
    if 6 in place.families and _can_meet(_seen(own, 6), _seen(own, 6)):
        return Outlook("direct", 6)
    turned_around = {
        Hairpin.NONE: False,
        Hairpin.OUTSIDE_SOURCE: _can_meet(_seen(place.kinds, 4), _seen(place.kinds, 4)),
        Hairpin.INSIDE_SOURCE: _seen(own, 4).filtering is Filtering.ENDPOINT_INDEPENDENT,
    }
    return Outlook("direct", 4) if turned_around[shared[-1].hairpin] else Outlook("relay")


@dataclass(frozen=True, slots=True)
class _Seen:
    """Routers in a row as those outside see them: like one router that has the worst of each."""

    passes_udp: bool
    predictable: bool
    filtering: Filtering

    @property
    def admits_unknown_port(self) -> bool:
        """Whether a peer at a known address gets in from a port nobody could foretell.

        With a mapping that differs per destination only the endpoint the STUN server saw
        is known, and nothing was ever sent to the peer from there.
        """
        if self.filtering is Filtering.ADDRESS_DEPENDENT:
            return self.predictable
        return self.filtering is Filtering.ENDPOINT_INDEPENDENT


def _of_place(place: Place, family: int) -> _Seen:
    seen = _seen(place.kinds, family)
    if family == 4 and place.maps_ports and len(place.routers) == 1:  # else another NAT is beyond
        return replace(seen, predictable=True, filtering=Filtering.ENDPOINT_INDEPENDENT)
    return seen


def _seen(kinds: Sequence[Kind], family: int) -> _Seen:
    return _Seen(
        all(kind.passes_udp for kind in kinds),
        all(family == 6 or kind.maps_predictably for kind in kinds),
        max((kind.filtering_of(family) for kind in kinds), key=_FILTERINGS.index),
    )


def _can_meet(one: _Seen, other: _Seen) -> bool:
    if not (one.passes_udp and other.passes_udp):
        return False
    if one.predictable and other.predictable:
        return True
    return one.admits_unknown_port or other.admits_unknown_port
