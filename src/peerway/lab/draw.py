"""A topology as text: the core on top, below it each line with what hangs on it.

Plain ASCII, so that it survives every terminal, log and mail.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from peerway.lab.plan import Router
from peerway.lab.topology import CORES, SERVER, Device, Machine, Topology

GAP = "   "
STEM = "     |"  # what joins one box to the next, in from the left edge
MIN_WIDTH = 22


def draw(topology: Topology) -> str:
    """A drawing of a topology, ending with a newline."""
    columns = [[f"{STEM} {home.core}", *_tree(topology, home.router)] for home in topology.homes]
    width = sum(_width(column) for column in columns) + len(GAP) * (len(columns) - 1)
    title = [f"{topology.plan.name}: {topology.plan.explanation}", ""]
    return "\n".join([*title, *_core(topology, width), *_side_by_side(columns)]) + "\n"


def _core(topology: Topology, width: int) -> list[str]:
    row = " -- ".join(CORES)
    middle = CORES[len(CORES) // 2]
    indent = " " * (row.index(middle) + 2)
    addresses = ", ".join(topology.server_ips)
    lines = [row, f"{indent}|", f"{indent}+-- {SERVER}: {addresses}"]
    return _box(lines, max(width, *(len(line) + 4 for line in lines)))


def _tree(topology: Topology, router: Router) -> list[str]:
    """A router, and below it all that is behind it."""
    machine, kind = topology.machines[router.name], topology.kind_of(router.name)
    text = [router.name, kind.name, f"({kind.old_name})", *_devices(machine.devices)]
    text += [f"runs {service.name}" for service in router.services]
    lines = [*_box(text, max(len(line) for line in text) + 4), STEM]
    for host in router.hosts:
        here = _on_network_of(machine, topology.machines[host.name])
        lines += [f"     +-- {host.name}", *(f"         {text}" for text in here)]
    columns = [_tree(topology, further) for further in router.routers]
    if len(columns) > 1:
        columns = [[STEM, *column] for column in columns]
        lines[-1] = _branches(columns)
    return lines + _side_by_side(columns)


def _branches(columns: Sequence[list[str]]) -> str:
    """The line that joins the stems of all columns."""
    stem = STEM.index("|")
    gaps = ["-" * (_width(column) + len(GAP) - 1) for column in columns[:-1]]
    return " " * stem + "+" + "".join(f"{gap}+" for gap in gaps)


def _side_by_side(columns: Sequence[list[str]]) -> list[str]:
    widths = [_width(column) for column in columns]
    return [
        GAP.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in zip_longest(*columns, fillvalue="")
    ]


def _width(column: Sequence[str]) -> int:
    return max(MIN_WIDTH, *(len(text) for text in column))


def _on_network_of(router: Machine, host: Machine) -> list[str]:
    gateway = router.device("lan").ips[0]
    lines = _devices([device for device in host.devices if device.reaches(gateway)])
    junk = [device for device in host.devices if device.bridge]
    if junk:
        lines.append(f"{junk[0].name}-{len(junk) - 1} {junk[0].ips[0]} - {junk[-1].ips[0]}")
    return lines


def _devices(devices: Sequence[Device]) -> list[str]:
    return [f"{device.name} {', '.join(device.addresses)}" for device in devices if device.addresses]


def _box(lines: list[str], width: int) -> list[str]:
    edge = "+" + "-" * (width - 2) + "+"
    return [edge, *(f"| {line.ljust(width - 4)} |" for line in lines), edge]
