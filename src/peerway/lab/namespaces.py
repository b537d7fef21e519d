"""From a topology to the commands that build it: batches for `ip` and `nft`, no others.

Speed comes from few processes: one `ip -batch` makes all namespaces and cables, then one
shell per namespace gives it its addresses, routes, rules and settings, all of them at once.
Nothing is ever taken down piece by piece: when the process that holds the lab's process
namespace ends, the kernel removes the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from peerway.lab.rules import fault_rules, kind_rules
from peerway.lab.topology import SERVER_NAME, Device, Link, Machine, Topology

IPV6_METRIC = 1024  # the kernel's own for IPv6 routes, to which it adds nothing for "no metric"

_SETTINGS = {
    "net/ipv4/conf/all/rp_filter": 0,
    "net/ipv4/conf/default/rp_filter": 0,
    # Where the kernel has it, a bridge would translate addresses on its own, and route nothing.
    "net/bridge/bridge-nf-call-iptables": 0,
    "net/bridge/bridge-nf-call-ip6tables": 0,
}
# Addresses are there at once (no detection of duplicates), and come from nobody but us.
_SETTINGS_V6 = {
    "net/ipv6/conf/*/disable_ipv6": 0,
    "net/ipv6/conf/*/accept_dad": 0,
    "net/ipv6/conf/*/dad_transmits": 0,
    "net/ipv6/conf/*/accept_ra": 0,
}
_SETTINGS_NO_V6 = {"net/ipv6/conf/*/disable_ipv6": 1}
_SETTINGS_ROUTER = {"net/ipv4/ip_forward": 1}
_SETTINGS_ROUTER_V6 = {"net/ipv6/conf/all/forwarding": 1}


@dataclass(frozen=True, slots=True)
class Construction:
    """`cabling` is input for `ip -batch -`; `scripts` are for `sh`, one in each namespace; `hosts` is the
    text that stands in for /etc/hosts everywhere."""

    cabling: str
    scripts: dict[str, str]
    hosts: str


def construction(topology: Topology) -> Construction:
    """The commands that build `topology` in an empty set of namespaces."""
    lines = [f"netns add {name}" for name in topology.machines]
    lines += [_cable(link) for link in topology.links]
    scripts = {name: _script(machine, topology) for name, machine in topology.machines.items()}
    names = "".join(f"{ip} {SERVER_NAME}\n" for ip in topology.server_ips)
    return Construction("\n".join(lines) + "\n", scripts, f"127.0.0.1 localhost\n{names}")


def addresses_of(machine: Machine, device_name: str) -> str:
    """The `ip -batch` lines that bring one device of a machine up (again), with its routes."""
    device = machine.device(device_name)
    lines = [f"address replace {address} dev {device.name}" for address in device.addresses]
    lines.append(f"link set {device.name} up")
    lines += _routes(machine, device)
    return "\n".join(lines) + "\n"


def _cable(link: Link) -> str:
    one, other = link.one, link.other
    return (
        f"link add {one.device} netns {one.machine} type veth peer name {other.device} netns {other.machine}"
    )


def _script(machine: Machine, topology: Topology) -> str:
    settings = _SETTINGS | (_SETTINGS_V6 if machine.has_ipv6 else _SETTINGS_NO_V6)
    if machine.forwards:
        settings |= _SETTINGS_ROUTER | (_SETTINGS_ROUTER_V6 if machine.has_ipv6 else {})
    rules = fault_rules() if machine.forwards else ""
    if machine.kind:
        rules += kind_rules(machine.kind, _wan_ip(machine))
    load = f"nft -f - <<'RULES'\n{rules}RULES\n" if rules else ""
    batch = f"ip -batch - <<'BATCH'\n{_batch(machine, topology)}BATCH\n"
    # What comes into being later takes its settings from `default`, what is there already needs them told.
    return "set -e\n" + "".join(map(_write, settings.items())) + load + batch


def _write(setting: tuple[str, int]) -> str:
    name, value = setting
    return f"for file in /proc/sys/{name}; do [ ! -e $file ] || echo {value} > $file; done\n"


def _wan_ip(machine: Machine) -> str:
    return next((ip for ip in machine.device("wan").ips if ":" not in ip), "")


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


def _routes(machine: Machine, device: Device | None = None) -> list[str]:
    """The routes of a machine, or those by one device of it."""
    lines = []
    for route in machine.routes:
        if device is None or device.reaches(route.via):
            metric = route.metric + (IPV6_METRIC if ":" in route.via else 0)
            only = f" dev {device.name}" if device else ""
            lines.append(f"route replace {route.destination} via {route.via}{only} metric {metric}")
    return lines
