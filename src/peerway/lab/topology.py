"""A network as it is built: machines, their devices and routes, and the links between them.

The public network is routed through a row of core routers, so that a packet with a low
TTL (2 to 4 from a host) dies in the middle:

    left -- left-router -- core-1 -- core-2 -- core-3 -- right-router -- right
                                       |
                                     server (two addresses of each IP version)

Public addresses are global unicast ones, not the documentation ranges: software rightly
treats those as not of the Internet. Nothing leaves the namespaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_interface

from peerway.lab.kinds import Kind
from peerway.lab.plan import Plan, Router
from peerway.lab.service import Service

Network = IPv4Network | IPv6Network

CORES = ("core-1", "core-2", "core-3")
SERVER = "server"
SERVER_NAME = "relay.lab"  # what every machine knows all the server's addresses by
SERVER_NETWORKS: tuple[Network, ...] = (
    IPv4Network("13.0.0.0/24"),
    IPv4Network("14.0.0.0/24"),
    IPv6Network("2a13::/64"),
    IPv6Network("2a14::/64"),
)
SERVER_NUMBER = 10


def numbered(network: Network, number: int) -> str:
    """The address of that number in a network; IPv6's reads the same: `::100` is number 100."""
    return str(network[number if network.version == 4 else int(str(number), 16)])


SERVER_IPS = tuple(numbered(network, SERVER_NUMBER) for network in SERVER_NETWORKS if network.version == 4)
SERVER_IPS_V6 = tuple(numbered(network, SERVER_NUMBER) for network in SERVER_NETWORKS if network.version == 6)


@dataclass(frozen=True, slots=True)
class Route:
    """Towards the network `destination` by the neighbour `via`."""

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
        """The addresses without their prefix lengths, IPv4 first."""
        return tuple(str(ip_interface(address).ip) for address in self.addresses)

    def ip(self, family: int = 4) -> str:
        """The first address of an IP version; KeyError where there is none."""
        for ip in self.ips:
            if family == (6 if ":" in ip else 4):
                return ip
        raise KeyError(f"{self.name} has no IPv{family} address")

    def reaches(self, ip: str) -> bool:
        """Whether an address is on one of this device's networks."""
        mine = (ip_interface(address).network for address in self.addresses)
        return any(ip_interface(ip).ip in network for network in mine)


@dataclass(frozen=True, slots=True)
class Machine:
    """A host, a server, a home's router (which has a `kind`), or a router of the core."""

    name: str
    devices: tuple[Device, ...] = ()
    routes: tuple[Route, ...] = ()
    kind: Kind | None = None
    forwards: bool = False
    services: tuple[Service, ...] = ()

    @property
    def has_ipv6(self) -> bool:
        """Whether any device has an IPv6 address."""
        return any(":" in ip for device in self.devices for ip in device.ips)

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
    """What stands behind one access line, all that hangs on `router`, which is the outermost.

    `core` is the core router the line goes to; `prefixes` the public networks it is given.
    """

    name: str
    number: int
    router: Router
    core: str
    prefixes: tuple[Network, ...]

    def prefix(self, family: int) -> Network | None:
        """The public network of an IP version, None where the line does not speak it."""
        return next((prefix for prefix in self.prefixes if prefix.version == family), None)

    @property
    def routers(self) -> tuple[str, ...]:
        """Every router of it, the outermost first."""
        return tuple(router.name for router in self.router.walk())

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host of it."""
        return tuple(host.name for router in self.router.walk() for host in router.hosts)


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole network. `machines` keeps the order in which things are drawn and built."""

    plan: Plan
    machines: dict[str, Machine]
    links: tuple[Link, ...]
    homes: tuple[Home, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """The machines nodes run on."""
        return tuple(dict.fromkeys(host for home in self.homes for host in home.hosts))

    @property
    def server_ips(self) -> tuple[str, ...]:
        """All the server's addresses: two of each IP version that is spoken at all."""
        return self.machines[SERVER].devices[0].ips

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

    def routers_before(self, host: str) -> tuple[str, ...]:
        """The routers between a host and the core in its first home, from the outside in."""
        return tuple(router.name for router in self.home_of(host).router.way_to(host))

    def public_ip(self, host: str, family: int = 4) -> str:
        """The address the world sees a host come from, at its first home."""
        for router in self.routers_before(host):
            if family == 4 and self.kind_of(router).translates:
                return self.machines[router].device("wan").ip()
        return self.machines[host].devices[0].ip(family)
