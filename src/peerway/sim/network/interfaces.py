"""A host's interfaces, and which of them a packet leaves by, as Linux decides it.

First the networks the host is on, the smallest first, then the default routes, the least metric
first. What is for a network the host is on goes to its neighbours there or nowhere. A socket may
be tied to an interface; then all that it sends leaves there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from peerway.core.machine import InterfaceAddress
from peerway.sim.network.link import Link

WILDCARDS = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Attachment:
    """An address of an interface, and its link: None where nothing is plugged in."""

    address: InterfaceAddress
    link: Link | None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a packet leaves: the source it gets, and the link.

    `is_near`: for a neighbour on the link. `is_own`: it does not leave, being for the host itself.
    """

    source_ip: str
    link: Link | None
    is_near: bool = False
    is_own: bool = False

    def leads_to(self, ip: str) -> bool:
        """Whether anybody may be there."""
        return self.link is not None and (not self.is_near or self.link.upper.knows(ip))


class Interfaces:
    """The addresses of a host, in the order they came."""

    def __init__(self) -> None:
        self._attachments: list[Attachment] = []
        self._exits: dict[tuple[str, str, str], Exit | None] = {}

    def __iter__(self) -> Iterator[Attachment]:
        return iter(self._attachments)

    def add(self, attachment: Attachment) -> None:
        """One more."""
        self._attachments.append(attachment)
        self._exits.clear()

    def remove(self, attachment: Attachment) -> None:
        """One less."""
        self._attachments.remove(attachment)
        self._exits.clear()

    def has(self, ip: str) -> bool:
        """Whether `ip` is an address of ours."""
        return any(attachment.address.ip == ip for attachment in self._attachments)

    def exit(self, ip: str, bound_ip: str = "", interface: str = "") -> Exit | None:
        """How a packet to `ip` leaves from a socket bound to `bound_ip` and tied to `interface`.

        None where no route leads there, or `bound_ip` is no address of ours.
        """
        key = (ip, bound_ip, interface)
        if key not in self._exits:
            self._exits[key] = self._find(ip, "" if bound_ip in WILDCARDS else bound_ip, interface)
        return self._exits[key]

    def _find(self, ip: str, bound_ip: str, interface: str) -> Exit | None:
        if bound_ip and not self.has(bound_ip):
            return None
        if self.has(ip):
            return Exit(bound_ip or ip, None, is_own=True)
        near = self._near(ip, interface)
        chosen = near or self._far(ip, interface)
        if chosen is None:
            return None
        return Exit(bound_ip or chosen.address.ip, chosen.link, is_near=near is not None)

    def _usable(self, ip: str, interface: str) -> Iterator[Attachment]:
        for attachment in self._attachments:
            address = attachment.address
            if (":" in address.ip) is (":" in ip) and interface in ("", address.interface):
                yield attachment

    def _near(self, ip: str, interface: str) -> Attachment | None:
        found = [attachment for attachment in self._usable(ip, interface) if _is_on(ip, attachment.address)]
        return max(found, key=lambda attachment: attachment.address.prefix_length, default=None)

    def _far(self, ip: str, interface: str) -> Attachment | None:
        routes = [
            (attachment.address.metric, attachment.address.interface, number, attachment)
            for number, attachment in enumerate(self._usable(ip, interface))
            if attachment.address.metric is not None
        ]
        return min(routes, key=lambda route: route[:3])[3] if routes else None


def _is_on(ip: str, address: InterfaceAddress) -> bool:
    (number, bits), (own, _) = _as_number(ip), _as_number(address.ip)
    rest = bits - address.prefix_length
    return number >> rest == own >> rest


@lru_cache(maxsize=4096)
def _as_number(ip: str) -> tuple[int, int]:
    parsed = ipaddress.ip_address(ip)
    return int(parsed), parsed.max_prefixlen
