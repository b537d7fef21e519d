"""From a plan to a topology: who has which address, and which way leads where.

Line `n` owns `11.n.0.0/16` and `2a11:0:n::/48` outside. Behind a router that translates,
`10.n.0.0/16` is private to it, behind a carrier's `100.(64+n).0.0/16`. Networks are numbered
as the tree is walked; the router is address 1 of the network behind it, further routers on it
come from 2 on, hosts from 100 on. IPv6 is translated nowhere. The core is `12.0.0.0/8` and
`2a12::/16`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

from peerway.lab.kinds import KINDS
from peerway.lab.plan import Host, Line, Plan, Router
from peerway.lab.topology import (
    CORES,
    SERVER,
    SERVER_NETWORKS,
    SERVER_NUMBER,
    Device,
    End,
    Home,
    Link,
    Machine,
    Network,
    Route,
    Topology,
    numbered,
)

FIRST_ROUTER_NUMBER = 2
FIRST_HOST_NUMBER = 100
BACKUP_METRIC = 600  # of the default route through a host's second network


def build(plan: Plan) -> Topology:
    """The network that a plan describes."""
    return _Builder(plan).build()


class _Block(enum.Enum):
    """Out of which addresses a network gets its IPv4 ones."""

    PUBLIC = "public"
    PRIVATE = "private"  # RFC 1918
    CARRIER = "carrier"  # RFC 6598


class _Numbering:
    """Hands out the networks of one line, one after the other."""

    def __init__(self, number: int, private_number: int, families: tuple[int, ...]) -> None:
        self._number = number
        self._private_number = private_number
        self._families = families
        self._used = 0

    @property
    def prefixes(self) -> tuple[Network, ...]:
        """All that the line owns in public."""
        four, six = IPv4Network(f"11.{self._number}.0.0/16"), IPv6Network(f"2a11:0:{self._number:x}::/48")
        return tuple(prefix for prefix in (four, six) if prefix.version in self._families)

    def next(self, block: _Block) -> tuple[Network, ...]:
        """A fresh network of each IP version the line speaks."""
        first_bytes = {
            _Block.PUBLIC: f"11.{self._number}",
            _Block.PRIVATE: f"10.{self._private_number}",
            _Block.CARRIER: f"100.{64 + self._private_number}",
        }
        four = IPv4Network(f"{first_bytes[block]}.{self._used}.0/24")
        six = IPv6Network(f"2a11:0:{self._number:x}:{self._used:x}::/64")
        self._used += 1
        return tuple(network for network in (four, six) if network.version in self._families)


class _Builder:
    """Puts a topology together: the core and the server first, then line by line."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        # Where nobody speaks IPv6 none is needed, and systems without it can build the lab.
        self._families = {4}.union(*(line.families for line in plan.lines))
        self._machines: dict[str, Machine] = {}
        self._links: list[Link] = []
        self._homes: list[Home] = []

    def build(self) -> Topology:
        """The topology, whole."""
        self._build_core()
        self._build_server()
        for line in self._plan.lines:
            self._build_line(line)
        return Topology(self._plan, self._machines, tuple(self._links), tuple(self._homes))

    def _build_core(self) -> None:
        for index, name in enumerate(CORES):
            self._machines[name] = Machine(name, forwards=True)
            if index:
                networks = self._spoken(_between_cores(index))
                self._device(CORES[index - 1], Device("next", _addresses(networks, 1)))
                self._device(name, Device("previous", _addresses(networks, 2)))
                self._links.append(Link(End(CORES[index - 1], "next"), End(name, "previous")))

    def _build_server(self) -> None:
        middle = CORES[len(CORES) // 2]
        networks = self._spoken(SERVER_NETWORKS)
        self._device(middle, Device("server", _addresses(networks, 1)))
        device = Device("eth0", _addresses(networks, SERVER_NUMBER))
        gateways = {network.version: numbered(network, 1) for network in reversed(networks)}
        routes = tuple(Route("default", gateways[family]) for family in sorted(gateways))
        self._machines[SERVER] = Machine(SERVER, (device,), routes)
        self._links.append(Link(End(middle, "server"), End(SERVER, "eth0")))
        for network in networks:
            self._route_along_core(middle, network)

    def _build_line(self, line: Line) -> None:
        number = len(self._homes) + 1
        core = CORES[0] if number % 2 else CORES[-1]
        model = next((home.number for home in self._homes if home.name == line.numbered_as), number)
        numbering = _Numbering(number, model, line.families)
        access = numbering.next(_Block.PUBLIC)
        plug = End(core, f"to-{number}")
        self._device(core, Device(plug.device, _addresses(access, 1)))
        for prefix, network in zip(numbering.prefixes, access, strict=True):
            self._route(core, Route(str(prefix), numbered(network, FIRST_ROUTER_NUMBER)))
            self._route_along_core(core, prefix)
        self._homes.append(Home(line.name, number, line.router, core, numbering.prefixes))
        self._build_router(line.router, access, FIRST_ROUTER_NUMBER, plug, numbering, _Block.PUBLIC)

    def _build_router(
        self,
        router: Router,
        outside: tuple[Network, ...],
        number: int,
        plug: End,
        numbering: _Numbering,
        block: _Block,
    ) -> list[Network]:
        """Build a router and all behind it; returns the networks there that the outside can route to."""
        kind = KINDS[router.kind]
        if kind.translates:
            block = _Block.CARRIER if kind.carrier else _Block.PRIVATE
        inside = numbering.next(block)
        wan, lan = Device("wan", _addresses(outside, number)), Device("lan", _addresses(inside, 1), True)
        defaults = tuple(Route("default", numbered(network, 1)) for network in outside)
        self._machines[router.name] = Machine(
            router.name, (wan, lan), defaults, kind=kind, forwards=True, services=router.services
        )
        self._links.append(Link(plug, End(router.name, "wan")))
        for index, host in enumerate(router.hosts):
            self._build_host(host, inside, FIRST_HOST_NUMBER + index, self._port(router))
        networks = list(inside)
        for index, further in enumerate(router.routers):
            its_number = FIRST_ROUTER_NUMBER + index
            behind = self._build_router(further, inside, its_number, self._port(router), numbering, block)
            for network in behind:
                here = next(each for each in inside if each.version == network.version)
                self._route(router.name, Route(str(network), numbered(here, its_number)))
            networks += behind
        return [network for network in networks if network.version == 6 or not kind.translates]

    def _build_host(self, host: Host, networks: tuple[Network, ...], number: int, plug: End) -> None:
        known = self._machines.get(host.name)
        if known is None:
            known = Machine(host.name, tuple(_junk(index, networks) for index in range(host.junk_bridges)))
        uplinks = [device for device in known.devices if not device.bridge]
        device = Device(f"eth{len(uplinks)}", _addresses(networks, number))
        metric = BACKUP_METRIC if uplinks else 0
        routes = tuple(Route("default", numbered(network, 1), metric) for network in networks)
        devices = (*uplinks, device, *(junk for junk in known.devices if junk.bridge))
        self._machines[host.name] = replace(known, devices=devices, routes=known.routes + routes)
        self._links.append(Link(plug, End(host.name, device.name)))

    def _spoken(self, networks: Sequence[Network]) -> tuple[Network, ...]:
        return tuple(network for network in networks if network.version in self._families)

    def _port(self, router: Router) -> End:
        taken = sum(link.one.machine == router.name for link in self._links)
        return End(router.name, f"port{taken + 1}", bridge="lan")

    def _device(self, machine: str, device: Device) -> None:
        known = self._machines[machine]
        self._machines[machine] = replace(known, devices=(*known.devices, device))

    def _route(self, machine: str, route: Route) -> None:
        known = self._machines[machine]
        self._machines[machine] = replace(known, routes=(*known.routes, route))

    def _route_along_core(self, owner: str, prefix: Network) -> None:
        """Make every other core router send `prefix` along the row towards `owner`."""
        position = CORES.index(owner)
        for index, name in enumerate(CORES):
            if index != position:
                border, end = (index + 1, 2) if index < position else (index, 1)
                here = next(each for each in _between_cores(border) if each.version == prefix.version)
                self._route(name, Route(str(prefix), numbered(here, end)))


def _between_cores(index: int) -> tuple[Network, ...]:
    return IPv4Network(f"12.0.{index}.0/24"), IPv6Network(f"2a12:0:0:{index:x}::/64")


def _junk(index: int, networks: Sequence[Network]) -> Device:
    addresses = {4: f"172.{17 + index}.0.1/16", 6: f"fd00:0:{index:x}::1/64"}
    # A name that no list of virtual interfaces knows.
    return Device(f"cluster{index}", tuple(addresses[each.version] for each in networks), bridge=True)


def _addresses(networks: Sequence[Network], number: int) -> tuple[str, ...]:
    return tuple(f"{numbered(network, number)}/{network.prefixlen}" for network in networks)
