"""From a topology to the commands that build it: batches for `ip` and `nft`, no others.

Speed comes from few processes: one `ip -batch` makes all namespaces and cables, then one
shell per namespace gives it its addresses, routes, rules and settings, all of them at once.
Nothing is ever taken down piece by piece: when the process that holds the lab's process
namespace ends, the kernel removes the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from peerway.lab.rules import fault_rules, kind_rules
from peerway.lab.topology import Link, Machine, Topology

_SETTINGS = {
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv6/conf/default/disable_ipv6": "1",
}


@dataclass(frozen=True, slots=True)
class Construction:
    """`cabling` is input for `ip -batch -`; `scripts` are for `sh`, one in each namespace."""

    cabling: str
    scripts: dict[str, str]


def construction(topology: Topology) -> Construction:
    """The commands that build `topology` in an empty set of namespaces."""
    lines = [f"netns add {name}" for name in topology.machines]
    lines += [_cable(link) for link in topology.links]
    scripts = {name: _script(machine, topology) for name, machine in topology.machines.items()}
    return Construction("\n".join(lines) + "\n", scripts)


def addresses_of(machine: Machine, device_name: str) -> str:
    """The `ip -batch` lines that bring one device of a machine up (again), with its routes."""
    device = machine.device(device_name)
    lines = [f"address replace {address} dev {device.name}" for address in device.addresses]
    lines.append(f"link set {device.name} up")
    lines += _routes(machine, device_name)
    return "\n".join(lines) + "\n"


def _cable(link: Link) -> str:
    one, other = link.one, link.other
    return (
        f"link add {one.device} netns {one.machine} type veth peer name {other.device} netns {other.machine}"
    )


def _script(machine: Machine, topology: Topology) -> str:
    settings = dict(_SETTINGS)
    if machine.forwards:
        settings["net/ipv4/ip_forward"] = "1"
    writes = "".join(
        f"[ ! -e /proc/sys/{name} ] || echo {value} > /proc/sys/{name}\n" for name, value in settings.items()
    )
    rules = fault_rules() if machine.forwards else ""
    if machine.kind:
        rules += kind_rules(machine.kind, machine.device("wan").ips[0])
    load = f"nft -f - <<'RULES'\n{rules}RULES\n" if rules else ""
    return f"set -e\n{writes}{load}ip -batch - <<'BATCH'\n{_batch(machine, topology)}BATCH\n"


def _batch(machine: Machine, topology: Topology) -> str:
    lines = ["link set lo up"]
    lines += [f"link add {device.name} type bridge" for device in machine.devices if device.bridge]
    for device in machine.devices:
        lines += [f"address add {address} dev {device.name}" for address in device.addresses]
        lines.append(f"link set {device.name} up")
    ends = [end for link in topology.links for end in (link.one, link.other)]
    for end in ends:
        if end.machine == machine.name and end.bridge:
            lines.append(f"link set {end.device} up master {end.bridge}")
    lines += _routes(machine)
    return "\n".join(lines) + "\n"


def _routes(machine: Machine, device_name: str = "") -> list[str]:
    only = f" dev {device_name}" if device_name else ""
    routes = [
        route for route in machine.routes if not device_name or _is_behind(route.via, machine, device_name)
    ]
    return [
        f"route replace {route.destination} via {route.via}{only}"
        + (f" metric {route.metric}" if route.metric else "")
        for route in routes
    ]


def _is_behind(ip: str, machine: Machine, device_name: str) -> bool:
    return any(
        IPv4Address(ip) in IPv4Interface(address).network for address in machine.device(device_name).addresses
    )
