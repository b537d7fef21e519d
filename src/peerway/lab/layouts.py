"""Standard shapes of network: two hosts at any two places, a host at every place, and odd ones."""

from __future__ import annotations

from collections.abc import Sequence

from peerway.lab.building import build
from peerway.lab.gateway_daemon import gateway_daemon
from peerway.lab.places import PLACES, Place, expected
from peerway.lab.plan import Host, Line, Plan, home, in_a_row
from peerway.lab.topology import Topology

JUNK_BRIDGES = 12


def pair(left: str, right: str) -> Topology:
    """Two hosts named `left` and `right` at these places, and the server.

    ValueError for a place that both must share, with another.
    """
    expected(left, right)
    one, other = PLACES[left], PLACES[right]
    hosts = (Host("left"), Host("right"))
    if one.shared:
        return build(Plan(one.name, one.explanation, (_shared_line("home", one, *hosts),)))
    lines = (_line("left", one, hosts[0]), _line("right", other, hosts[1]))
    return build(Plan(f"{left}x{right}", f"Two hosts, one behind {left}, one behind {right}.", lines))


def gallery(places: Sequence[str], copies: int = 1) -> Topology:
    """One host at each place, `copies` times: `eim-apdf-1`, `eim-apdf-2`, …; of a shared place only once."""
    lines: list[Line] = []
    for place in (PLACES[name] for name in places):
        hosts = [Host(f"{place.name}-{copy}") for copy in range(1, copies + 1)]
        if place.shared:
            lines.append(_shared_line(place.name, place, *hosts))
        else:
            lines += [_line(host.name, place, host) for host in hosts]
    return build(Plan("gallery", "A host at every place.", tuple(lines)))


def three_firewalls() -> Topology:
    """Three stateful firewalls in a row before each host."""
    lines = tuple(home(side, ["firewall"] * 3, side) for side in ("left", "right"))
    return build(Plan("three-firewalls", "Three stateful firewalls in a row on both sides.", lines))


def hub_and_spoke(spokes: Sequence[str] = ("eim-apdf", "edm", "firewall")) -> Topology:
    """A public host `hub` and a host `spoke-1`, `spoke-2`, … behind each kind."""
    hub = home("hub", ["open"], "hub")
    names = [f"spoke-{index}" for index in range(1, len(spokes) + 1)]
    lines = [home(name, [kind], name) for name, kind in zip(names, spokes, strict=True)]
    return build(Plan("hub-spoke", "A public hub; spokes behind NATs of every sort.", (hub, *lines)))


def junk_interfaces(place: str = "dual-cgn") -> Topology:
    """A pair whose hosts both carry a dozen bridges with the same useless addresses."""
    there, hosts = PLACES[place], (Host("left", JUNK_BRIDGES), Host("right", JUNK_BRIDGES))
    lines = (
        (_shared_line("home", there, *hosts),)
        if there.shared
        else tuple(_line(host.name, there, host) for host in hosts)
    )
    explanation = "A dozen container bridges on both hosts, with the same addresses."
    return build(Plan("junk-interfaces", explanation, lines))


def poisoned_in_a_row() -> Topology:
    """Two routers in a row on both sides, whose INPUT chains are open."""
    lines = tuple(home(side, ["poisoned"] * 2, side) for side in ("left", "right"))
    return build(Plan("poisoned-second-nat", "Two routers in a row that early probes spoil.", lines))


def two_interfaces(first: str = "eim-apdf", second: str = "eim-apdf", right: str = "eim-apdf") -> Topology:
    """`left` has a device in each of two homes, the second a backup; `right` has one."""
    lines = (home("left", [first], "left"), home("right", [right], "right"), home("backup", [second], "left"))
    return build(Plan("two-interfaces", "A host with two uplinks, say Ethernet and Wi-Fi.", lines))


def same_numbers(kind: str = "eim-apdf") -> Topology:
    """Two homes that use the same private network, as so many do."""
    lines = (home("left", [kind], "left"), home("right", [kind], "right", numbered_as="left"))
    return build(Plan("same-numbers", "Two homes with the same private addresses.", lines))


def _line(name: str, place: Place, host: Host) -> Line:
    services = (gateway_daemon(),) if place.maps_ports else ()
    return home(name, place.routers, host, families=place.families, services=services)


def _shared_line(name: str, place: Place, *hosts: Host) -> Line:
    """A line whose outer routers all the hosts share; each has the inner ones to itself."""
    own = place.routers[place.shared :]
    homes = [in_a_row(host.name, own, [host]) if own else host for host in hosts]
    return Line(name, in_a_row(name, place.routers[: place.shared], homes), place.families)
