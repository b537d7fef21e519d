"""Networks as data: machines, their devices, the links between them, and standard shapes.

The public network is routed through a row of core routers, so that a packet with a low
TTL (2 to 4 from a host) dies in the middle:

    left -- left-router -- core-1 -- core-2 -- core-3 -- right-router -- right
                                       |
                                     server (two addresses)

Public addresses are global unicast ones, not the documentation ranges: software rightly
treats those as not of the Internet. Nothing leaves the namespaces. Home `n` owns
`11.n.0.0/16` outside and `10.n.0.0/16` inside; the core is `12.0.0.0/8`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Interface, IPv4Network

from peerway.lab.kinds import KINDS, SAME_LAN, Kind

SERVER_NETWORKS = (IPv4Network("13.0.0.0/24"), IPv4Network("14.0.0.0/24"))
SERVER_IPS = tuple(str(network[10]) for network in SERVER_NETWORKS)
SERVER = "server"
CORES = ("core-1", "core-2", "core-3")
HOST_NUMBER = 100  # the first host of a network; further ones follow
JUNK_BRIDGES = 12
BACKUP_METRIC = 600  # of the default route through a host's second network


@dataclass(frozen=True, slots=True)
class Route:
    """Towards `destination` ("default" or a network) by the neighbour `via`."""

    destination: str
    via: str
    metric: int = 0


@dataclass(frozen=True, slots=True)
class Device:
    """A network device; `addresses` are "ip/prefix length". A bridge has no link of its own."""

    name: str
    addresses: tuple[str, ...] = ()
    bridge: bool = False

    @property
    def ips(self) -> tuple[str, ...]:
        """The addresses without their prefix lengths."""
        return tuple(str(IPv4Interface(address).ip) for address in self.addresses)


@dataclass(frozen=True, slots=True)
class Machine:
    """A host, a server, a home's router (which has a `kind`), or a router of the core."""

    name: str
    devices: tuple[Device, ...] = ()
    routes: tuple[Route, ...] = ()
    kind: Kind | None = None
    forwards: bool = False

    def device(self, name: str) -> Device:
        """The device of that name; KeyError where there is none."""
        for device in self.devices:
            if device.name == name:
                return device
        raise KeyError(f"{self.name} has no device {name}")


@dataclass(frozen=True, slots=True)
class End:
    """One end of a link: a device of a machine, perhaps a port of the machine's bridge."""

    machine: str
    device: str
    bridge: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A cable."""

    one: End
    other: End


@dataclass(frozen=True, slots=True)
class Home:
    """What stands behind one access line: routers from the outside in, and hosts.

    `core` is the core router the line goes to; `prefix` the public network it is given.
    """

    name: str
    number: int
    routers: tuple[str, ...]
    hosts: tuple[str, ...]
    core: str

    @property
    def prefix(self) -> str:
        """The public addresses of this home."""
        return f"11.{self.number}.0.0/16"


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole network. `machines` keeps the order in which things are drawn and built."""

    name: str
    explanation: str
    machines: dict[str, Machine] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    homes: tuple[Home, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """The machines nodes run on."""
        return tuple(dict.fromkeys(host for home in self.homes for host in home.hosts))

    @property
    def routers(self) -> tuple[str, ...]:
        """The machines that are of a kind."""
        return tuple(name for name, machine in self.machines.items() if machine.kind)

    def kind_of(self, router: str) -> Kind:
        """The kind of a home's router; ValueError for any other machine."""
        kind = self.machines[router].kind
        if kind is None:
            raise ValueError(f"{router} is not a home's router")
        return kind

    def home_of(self, machine: str) -> Home:
        """The first home a host or router belongs to; KeyError where there is none."""
        for home in self.homes:
            if machine in home.hosts or machine in home.routers:
                return home
        raise KeyError(f"{machine} is in no home")

    def public_ip(self, host: str) -> str:
        """The address the world sees a host come from, at its first home."""
        home = self.home_of(host)
        for router in home.routers:
            if self.kind_of(router).translates:
                return self.machines[router].device("wan").ips[0]
        return self.machines[host].devices[0].ips[0]


class TopologyBuilder:
    """Puts a topology together: the core and the server first, then home by home."""

    def __init__(self, name: str, explanation: str) -> None:
        self._name = name
        self._explanation = explanation
        self._machines: dict[str, Machine] = {}
        self._links: list[Link] = []
        self._homes: list[Home] = []
        self._build_core()
        self._build_server()

    def home(
        self, name: str, kinds: Sequence[str], hosts: Sequence[str], *, same_numbers_as: str = ""
    ) -> Home:
        """Add a home: routers of these kinds from the outside in, and hosts on the inmost network.

        A host that exists gets one more device, its default route there a backup.
        `same_numbers_as` names a home whose private addresses this one shares.
        """
        number = len(self._homes) + 1
        core = CORES[0] if number % 2 else CORES[-1]
        suffixes = [""] if len(kinds) == 1 else [f"-{index}" for index in range(1, len(kinds) + 1)]
        routers = tuple(f"{name}-router{suffix}" for suffix in suffixes)
        home = Home(name, number, routers, tuple(hosts), core)
        inside_number = next((h.number for h in self._homes if h.name == same_numbers_as), number)
        outside = IPv4Network(f"11.{number}.0.0/24")
        neighbour, end = self._access_line(home, outside)
        translated = False
        for depth, (router, kind_name) in enumerate(zip(routers, kinds, strict=True), start=1):
            kind = KINDS[kind_name]
            translated = translated or kind.translates
            first_byte, second_byte = (10, inside_number) if translated else (11, number)
            inside = IPv4Network(f"{first_byte}.{second_byte}.{depth}.0/24")
            self._add_router(router, kind, outside, inside, neighbour, end)
            for deeper in range(depth + 1, len(kinds) + 1):
                if not any(KINDS[outer].translates for outer in kinds[:deeper]):
                    self._route(router, Route(f"11.{number}.{deeper}.0/24", str(inside[2])))
            outside, neighbour, end = inside, str(inside[1]), End(router, "port1", bridge="lan")
        for index, host in enumerate(hosts):
            self._add_host(host, routers[-1], inside, index)
        self._homes.append(home)
        return home

    def junk(self, host: str, bridges: int = JUNK_BRIDGES) -> None:
        """Give a host bridges with addresses, as container engines leave them."""
        devices = tuple(
            Device(f"br-junk{index}", (f"172.{17 + index}.0.1/16",), bridge=True) for index in range(bridges)
        )
        machine = self._machines[host]
        self._machines[host] = replace(machine, devices=machine.devices + devices)

    def build(self) -> Topology:
        """The topology as it stands."""
        return Topology(
            self._name, self._explanation, dict(self._machines), tuple(self._links), tuple(self._homes)
        )

    def _build_core(self) -> None:
        for index, name in enumerate(CORES):
            self._machines[name] = Machine(name, forwards=True)
            if index:
                network = IPv4Network(f"12.0.{index}.0/24")
                previous = CORES[index - 1]
                self._device(previous, Device("next", (f"{network[1]}/24",)))
                self._device(name, Device("previous", (f"{network[2]}/24",)))
                self._links.append(Link(End(previous, "next"), End(name, "previous")))

    def _build_server(self) -> None:
        middle = CORES[len(CORES) // 2]
        gateways = tuple(f"{network[1]}/24" for network in SERVER_NETWORKS)
        self._device(middle, Device("server", gateways))
        addresses = tuple(f"{ip}/24" for ip in SERVER_IPS)
        route = Route("default", str(SERVER_NETWORKS[0][1]))
        self._machines[SERVER] = Machine(SERVER, (Device("eth0", addresses),), (route,))
        self._links.append(Link(End(middle, "server"), End(SERVER, "eth0")))
        for network in SERVER_NETWORKS:
            self._route_from_core(middle, str(network))

    def _access_line(self, home: Home, network: IPv4Network) -> tuple[str, End]:
        device = f"to-{home.number}"
        self._device(home.core, Device(device, (f"{network[1]}/24",)))
        self._route(home.core, Route(f"11.{home.number}.0.0/16", str(network[2])))
        self._route_from_core(home.core, home.prefix)
        return str(network[1]), End(home.core, device)

    def _add_router(
        self, name: str, kind: Kind, outside: IPv4Network, inside: IPv4Network, neighbour: str, end: End
    ) -> None:
        wan = Device("wan", (f"{outside[2]}/24",))
        lan = Device("lan", (f"{inside[1]}/24",), bridge=True)
        self._machines[name] = Machine(
            name, (wan, lan), (Route("default", neighbour),), kind=kind, forwards=True
        )
        self._links.append(Link(end, End(name, "wan")))

    def _add_host(self, name: str, router: str, network: IPv4Network, index: int) -> None:
        machine = self._machines.get(name, Machine(name))
        backup = len(machine.devices)
        device = Device(f"eth{backup}", (f"{network[HOST_NUMBER + index]}/24",))
        route = Route("default", str(network[1]), BACKUP_METRIC if backup else 0)
        self._machines[name] = replace(
            machine, devices=(*machine.devices, device), routes=(*machine.routes, route)
        )
        port = End(router, f"port{index + 1}", bridge="lan")
        self._links.append(Link(port, End(name, device.name)))

    def _device(self, machine: str, device: Device) -> None:
        known = self._machines[machine]
        self._machines[machine] = replace(known, devices=(*known.devices, device))

    def _route(self, machine: str, route: Route) -> None:
        known = self._machines[machine]
        self._machines[machine] = replace(known, routes=(*known.routes, route))

    def _route_from_core(self, owner: str, prefix: str) -> None:
        """Make every other core router send `prefix` along the row towards `owner`."""
        position = CORES.index(owner)
        for index, name in enumerate(CORES):
            if index < position:
                self._route(name, Route(prefix, f"12.0.{index + 1}.2"))
            elif index > position:
                self._route(name, Route(prefix, f"12.0.{index}.1"))


def pair(left: str, right: str) -> Topology:
    """Two hosts named `left` and `right` behind routers of these kinds, and the server."""
    if SAME_LAN in (left, right):
        if left != right:
            raise ValueError(f"{SAME_LAN} is a cell of its own, not {left} with {right}")
        builder = TopologyBuilder(SAME_LAN, KINDS[SAME_LAN].explanation)
        builder.home("home", [SAME_LAN], ["left", "right"])
        return builder.build()
    builder = TopologyBuilder(f"{left}x{right}", f"Two hosts, one behind {left}, one behind {right}.")
    builder.home("left", [left], ["left"])
    builder.home("right", [right], ["right"])
    return builder.build()


def gallery(kinds: Sequence[str], copies: int = 1) -> Topology:
    """One host behind a router of each kind, `copies` times: `eim-apdf-1`, `eim-apdf-2`, …"""
    builder = TopologyBuilder("gallery", "A host behind a router of every kind.")
    for kind in kinds:
        for copy in range(1, copies + 1):
            builder.home(f"{kind}-{copy}", [kind], [f"{kind}-{copy}"])
    return builder.build()


def three_firewalls() -> Topology:
    """Three stateful firewalls in a row before each host."""
    builder = TopologyBuilder("three-firewalls", "Three stateful firewalls in a row on both sides.")
    builder.home("left", ["firewall"] * 3, ["left"])
    builder.home("right", ["firewall"] * 3, ["right"])
    return builder.build()


def hub_and_spoke(spokes: Sequence[str] = ("eim-apdf", "edm", "firewall")) -> Topology:
    """A public host `hub` and a host `spoke-1`, `spoke-2`, … behind each kind."""
    builder = TopologyBuilder("hub-spoke", "A public hub; spokes behind NATs of every sort.")
    builder.home("hub", ["open"], ["hub"])
    for index, kind in enumerate(spokes, start=1):
        builder.home(f"spoke-{index}", [kind], [f"spoke-{index}"])
    return builder.build()


def junk_interfaces(left: str = "eim-apdf", right: str = "eim-apdf") -> Topology:
    """A pair whose hosts both carry a dozen bridges with the same useless addresses."""
    builder = TopologyBuilder("junk-interfaces", "A dozen container bridges on both hosts, same addresses.")
    for name, kind in (("left", left), ("right", right)):
        builder.home(name, [kind], [name])
        builder.junk(name)
    return builder.build()


def two_interfaces(first: str = "eim-apdf", second: str = "eim-apdf", right: str = "eim-apdf") -> Topology:
    """`left` has a device in each of two homes, the second a backup; `right` has one."""
    builder = TopologyBuilder("two-interfaces", "A host with two uplinks, say Ethernet and Wi-Fi.")
    builder.home("left", [first], ["left"])
    builder.home("right", [right], ["right"])
    builder.home("backup", [second], ["left"])
    return builder.build()


def same_numbers(kind: str = "eim-apdf") -> Topology:
    """Two homes that use the same private network, as so many do."""
    builder = TopologyBuilder("same-numbers", "Two homes with the same private addresses.")
    builder.home("left", [kind], ["left"])
    builder.home("right", [kind], ["right"], same_numbers_as="left")
    return builder.build()
