"""A topology as text: the core on top, a column for each home below it.

Plain ASCII, so that it survives every terminal, log and mail.
"""

from __future__ import annotations

from itertools import zip_longest

from peerway.lab.topology import CORES, SERVER, Home, Machine, Topology

GAP = "   "
STEM = "     |"  # what joins one box to the next, in from the left edge
MIN_WIDTH = 22


def draw(topology: Topology) -> str:
    """A drawing of a topology, ending with a newline."""
    columns = [_column(topology, home) for home in topology.homes]
    widths = [max(MIN_WIDTH, *(len(text) for text in column)) for column in columns]
    rows = [
        GAP.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in zip_longest(*columns, fillvalue="")
    ]
    width = sum(widths) + len(GAP) * (len(widths) - 1)
    title = [f"{topology.name}: {topology.explanation}", ""]
    return "\n".join([*title, *_core(topology, width), *rows]) + "\n"


def _core(topology: Topology, width: int) -> list[str]:
    row = " -- ".join(CORES)
    middle = CORES[len(CORES) // 2]
    indent = " " * (row.index(middle) + 2)
    addresses = ", ".join(topology.machines[SERVER].devices[0].ips)
    lines = [row, f"{indent}|", f"{indent}+-- {SERVER}: {addresses}"]
    return _box(lines, max(width, *(len(line) + 4 for line in lines)))


def _column(topology: Topology, home: Home) -> list[str]:
    lines = [f"{STEM} {home.core}"]
    for router in home.routers:
        machine = topology.machines[router]
        kind = topology.kind_of(router)
        text = [router, kind.name, f"({kind.old_name})", *_devices(machine)]
        lines += [*_box(text, max(len(line) for line in text) + 4), STEM]
    for host in home.hosts:
        inside = [device.name for device in topology.machines[host].devices if not device.bridge]
        mine = inside[_homes_before(topology, home, host)] if len(inside) > 1 else inside[0]
        lines += [
            f"     +-- {host}",
            *(f"         {text}" for text in _devices(topology.machines[host], mine)),
        ]
    return lines


def _homes_before(topology: Topology, home: Home, host: str) -> int:
    return sum(host in other.hosts for other in topology.homes if other.number < home.number)


def _devices(machine: Machine, only: str = "") -> list[str]:
    lines = [
        f"{device.name} {', '.join(device.addresses)}"
        for device in machine.devices
        if device.name == only or (not only and device.addresses)
    ]
    junk = [device for device in machine.devices if only and device.bridge]
    if junk:
        lines.append(f"{junk[0].name}-{len(junk) - 1} {junk[0].ips[0]} - {junk[-1].ips[0]}")
    return lines


def _box(lines: list[str], width: int) -> list[str]:
    edge = "+" + "-" * (width - 2) + "+"
    return [edge, *(f"| {line.ljust(width - 4)} |" for line in lines), edge]
