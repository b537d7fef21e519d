"""From where else a STUN server can answer, and what it says of that (RFC 5780).

How a NAT filters is seen by having an answer come from where nobody asked: the server's other
port, its other address. Whoever has two addresses and two ports can do all of it, and says so with
OTHER-ADDRESS. With one address and two ports only the port can be changed; OTHER-ADDRESS is
forbidden then (RFC 5780 7.4), so a client learns of it by asking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from peerway.core.ip import parse_ip
from peerway.core.machine import UdpAddress
from peerway.core.stun.attributes import (
    Attribute,
    ChangedAddress,
    ChangeRequest,
    OtherAddress,
    ResponseOrigin,
    SourceAddress,
)

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Alternates:
    """The sockets that may answer what came to the socket `own`; None where there is no such socket."""

    own: UdpAddress
    other_port: UdpAddress | None = None
    other_ip: UdpAddress | None = None
    other_both: UdpAddress | None = None

    def wanted_by(self, change: ChangeRequest) -> UdpAddress | None:
        """The socket that a CHANGE-REQUEST asks for, None when there is none."""
        if change.change_ip:
            return self.other_both if change.change_port else self.other_ip
        return self.other_port if change.change_port else self.own

    def described(self, leaves_by: UdpAddress) -> tuple[Attribute, ...]:
        """What an answer that leaves by the socket `leaves_by` says of itself and of us."""
        return self._described(leaves_by, ResponseOrigin, OtherAddress)

    def described_classic(self, leaves_by: UdpAddress) -> tuple[Attribute, ...]:
        """The same in the words of RFC 3489."""
        return self._described(leaves_by, SourceAddress, ChangedAddress)

    def _described(
        self,
        leaves_by: UdpAddress,
        origin: type[ResponseOrigin] | type[SourceAddress],
        other: type[OtherAddress] | type[ChangedAddress],
    ) -> tuple[Attribute, ...]:
        if _is_unspecified(leaves_by.ip):
            return ()  # the system chooses the address, and we do not know which
        said: list[Attribute] = [origin(leaves_by)]
        if self.other_both is not None:
            said.append(other(self.other_both))
        return tuple(said)


def arrange(sockets: Sequence[UdpAddress]) -> dict[UdpAddress, Alternates]:
    """What each of a server's sockets can offer with the others; sockets that stand alone are left out.

    The first two addresses of a family are each other's alternates, and so are the first two ports.
    """
    found = {}
    for own in sockets:
        ip = _partner(own.ip, [s.ip for s in sockets if _pair_up(s.ip, own.ip)])
        port = _partner(own.port, [s.port for s in sockets])
        alternates = Alternates(
            own,
            _open(UdpAddress(own.ip, port), sockets) if port is not None else None,
            _open(UdpAddress(ip, own.port), sockets) if ip is not None else None,
            _open(UdpAddress(ip, port), sockets) if ip is not None and port is not None else None,
        )
        if alternates != Alternates(own):
            found[own] = alternates
    return found


def _partner(own: Value, candidates: Sequence[Value]) -> Value | None:
    """The other one of the first two different values, when `own` is one of them."""
    first_two = list(dict.fromkeys(candidates))[:2]
    others = [value for value in first_two if value != own]
    return others[0] if own in first_two and others else None


def _open(wanted: UdpAddress, sockets: Sequence[UdpAddress]) -> UdpAddress | None:
    return wanted if wanted in sockets else None


def _pair_up(one: str, other: str) -> bool:
    """Whether two addresses can stand in for each other: of one family, and neither is all of them."""
    return (":" in one) == (":" in other) and not (_is_unspecified(one) or _is_unspecified(other))


def _is_unspecified(ip: str) -> bool:
    return parse_ip(ip).is_unspecified
