"""A network to be built, as a value: what hangs on each access line, in the shape of a tree.

    Plan("two-homes", "Two homes of one carrier.", (
        Line("carrier", Router("carrier-router", "cgn", (
            Router("left-router", "eim-apdf", (Host("left"),)),
            Router("right-router", "eim-apdf", (Host("right"),)),
        ))),
    ))

The core, the server and all addresses follow from it (`building`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from peerway.lab.service import Service

IPV4_ONLY = (4,)
IPV6_ONLY = (6,)
DUAL_STACK = (4, 6)


@dataclass(frozen=True, slots=True)
class Host:
    """A machine a node runs on; on a second line its further device is a backup.

    `junk_bridges`: so many bridges with addresses that lead nowhere, as container engines leave them.
    """

    name: str
    junk_bridges: int = 0


@dataclass(frozen=True, slots=True)
class Router:
    """A router of a kind, what is on the network behind it, and the programs it runs besides."""

    name: str
    kind: str
    inside: tuple[Router | Host, ...]
    services: tuple[Service, ...] = ()

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The hosts on the very network behind it."""
        return tuple(each for each in self.inside if isinstance(each, Host))

    @property
    def routers(self) -> tuple[Router, ...]:
        """The routers on the very network behind it."""
        return tuple(each for each in self.inside if isinstance(each, Router))

    def walk(self) -> Iterator[Router]:
        """This router, then all further in."""
        yield self
        for router in self.routers:
            yield from router.walk()

    def way_to(self, host: str) -> tuple[Router, ...]:
        """The routers between the line and a host, from the outside in; none where it is not here."""
        if any(each.name == host for each in self.hosts):
            return (self,)
        for router in self.routers:
            if way := router.way_to(host):
                return (self, *way)
        return ()


@dataclass(frozen=True, slots=True)
class Line:
    """An access line: the router at its end, and the IP versions its provider offers.

    `numbered_as` names a line whose private addresses this one shares.
    """

    name: str
    router: Router
    families: tuple[int, ...] = IPV4_ONLY
    numbered_as: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Access lines in the order in which they are numbered and drawn."""

    name: str
    explanation: str
    lines: tuple[Line, ...]


def in_a_row(
    name: str, kinds: Sequence[str], inside: Sequence[Router | Host], services: tuple[Service, ...] = ()
) -> Router:
    """Routers of these kinds from the outside in: `NAME-router`, or `NAME-router-1`, `-2`, …

    The inmost one runs the `services`.
    """
    suffixes = [""] if len(kinds) == 1 else [f"-{index}" for index in range(1, len(kinds) + 1)]
    inmost = Router(f"{name}-router{suffixes[-1]}", kinds[-1], tuple(inside), services)
    for kind, suffix in list(zip(kinds, suffixes, strict=True))[-2::-1]:
        inmost = Router(f"{name}-router{suffix}", kind, (inmost,))
    return inmost


def home(
    name: str,
    kinds: Sequence[str],
    *hosts: str | Host,
    families: tuple[int, ...] = IPV4_ONLY,
    numbered_as: str = "",
    services: tuple[Service, ...] = (),
) -> Line:
    """A line with routers in a row and hosts behind the last of them, which runs the `services`."""
    inside = [Host(host) if isinstance(host, str) else host for host in hosts]
    return Line(name, in_a_row(name, kinds, inside, services), families, numbered_as)
