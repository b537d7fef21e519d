"""Breaking a lab's network, and mending it: loss, cuts, reboots, moves, black holes, delay.

Faults on routers are rules in chains of their own (`rules.FAULT_CHAINS`): each kind of
fault replaces the one of its kind that was there and leaves the others alone. The drops are
in the forward hook: in the output hook they would make `send` fail.
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from ipaddress import IPv4Interface

from peerway.lab.delay import TUN, Delay
from peerway.lab.kinds import UDP_STREAM_TIMEOUT_S
from peerway.lab.laboratory import Laboratory, LabUnavailable
from peerway.lab.messages import Done
from peerway.lab.namespaces import addresses_of
from peerway.lab.rules import forgetting, kind_rules
from peerway.lab.topology import SERVER, Home

TCP_LOSS_PERCENT = 3  # where UDP loses more: TCP over a line that loses 30 % serves nobody
MOVED_PORTS = (50000, 50999)  # where the first `move_ports` of a router moves them; then 1,000 up
_FAMILY_WORDS = {4: "ip", 6: "ip6"}  # what nft calls them


@dataclass(slots=True)
class _RouterState:
    """What of a router's rules a fault has changed."""

    wan: IPv4Interface | None  # None: it has no IPv4
    ports: tuple[int, int] | None = None
    stream_timeout_s: int = UDP_STREAM_TIMEOUT_S


class Faults:
    """The faults of one laboratory. Routers, hosts and homes go by their names."""

    def __init__(self, lab: Laboratory) -> None:
        self._lab = lab
        self._topology = lab.topology
        self._states: dict[str, _RouterState] = {}

    async def set_loss(self, percent: int, *routers: str, inward: bool = True, outward: bool = True) -> None:
        """Lose this share of UDP on these routers (all where none is named), and 3 % of TCP.

        Each direction loses on its own. A path between two homes crosses two routers.
        """
        directions = (["wan"] if inward else []) + (["lan"] if outward else [])
        rules = [
            f'iifname "{device}" meta l4proto {protocol} {_chance(share)} drop'
            for device in directions
            for protocol, share in (("udp", percent), ("tcp", min(percent, TCP_LOSS_PERCENT)))
            if share
        ]
        await self._each(routers or self._topology.routers, "fault-loss", rules)

    async def cut_udp(self, *routers: str) -> None:
        """Let no UDP pass these routers; TCP lives."""
        await self._each(routers, "fault-cut", ["meta l4proto udp drop"])

    async def restore_udp(self, *routers: str) -> None:
        """Undo `cut_udp`."""
        await self._each(routers, "fault-cut", [])

    async def cut_between(self, left: str, right: str) -> None:
        """Silently drop everything between two hosts' homes; each still reaches the server."""
        one, other = self._topology.home_of(left), self._topology.home_of(right)
        rules = [
            f"{_FAMILY_WORDS[family]} saddr {source} {_FAMILY_WORDS[family]} daddr {destination} drop"
            for family in (4, 6)
            for source, destination in (
                (one.prefix(family), other.prefix(family)),
                (other.prefix(family), one.prefix(family)),
            )
            if source and destination
        ]
        await self._each((one.core, other.core), "fault-cut", rules)

    async def restore_between(self, left: str, right: str) -> None:
        """Undo `cut_between`."""
        one, other = self._topology.home_of(left), self._topology.home_of(right)
        await self._each((one.core, other.core), "fault-cut", [])

    async def cut_family(self, family: int, *routers: str) -> None:
        """Let no UDP of an IP version pass these routers."""
        await self._each(routers, "fault-cut", [f"meta nfproto ipv{family} meta l4proto udp drop"])

    async def limit_size(self, size: int, *routers: str, udp_only: bool = False) -> None:
        """Silently drop IP packets longer than `size` bytes: a black hole. 0 ends it."""
        protocol = "meta l4proto udp " if udp_only else ""
        await self._each(routers, "fault-size", [f"{protocol}meta length > {size} drop"] if size else [])

    async def unplug(self, host: str, device: str = "eth0") -> None:
        """Take a host's device down; its addresses and routes go with it, as on a desktop."""
        batch = f"address flush dev {device}\nlink set {device} down\n"
        await self._lab.run(host, "ip", "-batch", "-", input=batch)

    async def plug(self, host: str, device: str = "eth0") -> None:
        """Bring a host's device up again, with its addresses and routes."""
        batch = addresses_of(self._topology.machines[host], device)
        await self._lab.run(host, "ip", "-batch", "-", input=batch)

    async def reboot(self, *routers: str) -> None:
        """Make routers (all where none is named) forget every flow and every mapping."""
        await asyncio.gather(*(self._forget(router) for router in routers or self._topology.routers))

    async def move_ports(self, router: str) -> None:
        """Reboot a router into giving public ports from another block.

        ValueError where the kind does not map endpoint-independently: its ports move anyway.
        """
        kind = self._topology.kind_of(router)
        if not kind.translates or not kind.maps_predictably:
            raise ValueError(f"{router} is {kind.name}: it has no lasting ports to move")
        state = self._state(router)
        first, last = MOVED_PORTS
        state.ports = (state.ports[0] + 1000, state.ports[1] + 1000) if state.ports else (first, last)
        await self._load(router)
        await self._forget(router)

    async def change_address(self, router: str) -> str:
        """Give a translating router another public address; returns it. Its flows are gone.

        ValueError where the router does not translate: then the hosts own the addresses.
        """
        if not self._topology.kind_of(router).translates:
            raise ValueError(f"{router} translates nothing: its hosts have public addresses")
        state = self._state(router)
        old = state.wan
        if old is None:
            raise ValueError(f"{router} has no IPv4 address to change")
        new = IPv4Interface(f"{old.ip + 1}/{old.network.prefixlen}")
        gateway = self._topology.machines[router].routes[0].via
        batch = f"address del {old} dev wan\naddress add {new} dev wan\nroute replace default via {gateway}\n"
        await self._lab.run(router, "ip", "-batch", "-", input=batch)
        state.wan = new
        await self._load(router)
        await self._forget(router)
        return str(new.ip)

    async def set_udp_timeout(self, router: str, seconds: int, stream_seconds: int) -> None:
        """How long a router remembers a UDP flow seen one way, and one that went both ways."""
        for name, value in (("udp_timeout", seconds), ("udp_timeout_stream", stream_seconds)):
            await self._lab.run(router, "sysctl", "-qw", f"net.netfilter.nf_conntrack_{name}={value}")
        self._state(router).stream_timeout_s = stream_seconds
        await self._load(router)

    async def delay(self, home: str, milliseconds: float, families: tuple[int, ...] = (4, 6)) -> None:
        """Hold every packet of these IP versions on a home's access line, each way. Once per home.

        LabUnavailable where the TUN device may not be opened.
        """
        if not os.access(TUN, os.R_OK | os.W_OK):
            raise LabUnavailable(
                f"delay needs to open {TUN}: run as root, or let this user read and write it"
            )
        line = self._home(home)
        prefixes = tuple(str(prefix) for prefix in line.prefixes if prefix.version in families)
        order = Delay(f"delay-{line.number}", f"to-{line.number}", prefixes, milliseconds / 1000)
        await self._lab.order(line.core, order, Done)

    async def freeze(self, machine: str = SERVER) -> None:
        """Stop a machine's worker where it stands: its sockets stay open and say nothing."""
        await self._lab.signal(machine, signal.SIGSTOP)

    async def thaw(self, machine: str = SERVER) -> None:
        """Undo `freeze`."""
        await self._lab.signal(machine, signal.SIGCONT)

    def _home(self, name: str) -> Home:
        for home in self._topology.homes:
            if home.name == name:
                return home
        raise KeyError(f"there is no home {name}")

    def _state(self, router: str) -> _RouterState:
        if router not in self._states:
            addresses = self._topology.machines[router].device("wan").addresses
            self._states[router] = _RouterState(
                next((IPv4Interface(each) for each in addresses if ":" not in each), None)
            )
        return self._states[router]

    async def _each(self, routers: tuple[str, ...], chain: str, rules: list[str]) -> None:
        script = f"flush chain inet faults {chain}\n"
        script += "".join(f"add rule inet faults {chain} {rule}\n" for rule in rules)
        await asyncio.gather(
            *(self._lab.run(router, "nft", "-f", "-", input=script) for router in dict.fromkeys(routers))
        )

    async def _load(self, router: str) -> None:
        state = self._state(router)
        rules = kind_rules(
            self._topology.kind_of(router),
            str(state.wan.ip) if state.wan else "",
            ports=state.ports,
            stream_timeout_s=state.stream_timeout_s,
        )
        await self._lab.run(router, "nft", "-f", "-", input=rules)

    async def _forget(self, router: str) -> None:
        script = "conntrack -F >/dev/null 2>&1\n"
        learned = forgetting(self._topology.kind_of(router))
        if learned:
            script += f"nft -f - <<'RULES'\n{learned}RULES\n"
        await self._lab.run(router, "sh", input=script)


def _chance(percent: int) -> str:
    # nft refuses to compare with 100, which nothing exceeds.
    return f"numgen random mod 100 < {percent}" if percent < 100 else ""
