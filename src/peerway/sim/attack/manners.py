"""How admitted peers misbehave: what each does beyond the protocol, as data, and a table with names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerway.core.machine import UdpAddress

VICTIM = "198.18.6.66"  # of RFC 2544's networks, where nobody is
VICTIM_V6 = "2001:db8:6666::66"  # nor here
VICTIMS = (VICTIM, VICTIM_V6)
NETWORKS = [ip for n in range(1, 200) for ip in (f"198.18.{n}.6", f"2001:db8:66{n:02x}::6")]


@dataclass(frozen=True, slots=True)
class Manners:
    """What a peer does that it should not.

    `named`: the lists of candidates it names instead of its own, one after the other, each for
    `each_s` seconds; with each change it calls for a round of probing. `answers`: whether it answers
    pings; `pings`: whether it pings whoever pings it. `in_whose_name`: addresses not its own in whose
    name it sends, `forged_per_s` times a second, a ping and answers to pings that it did not get, and
    all of its signals as well. `dials_per_s`: how often it begins anew, without ending anything.
    """

    named: tuple[tuple[UdpAddress, ...], ...] = ()
    each_s: float = 1.0
    answers: bool = True
    pings: bool = True
    in_whose_name: tuple[UdpAddress, ...] = ()
    forged_per_s: float = 0.0
    dials_per_s: float = 0.0


def strewn(ips: Sequence[str], ports: Sequence[int], length: int = 16) -> tuple[tuple[UdpAddress, ...], ...]:
    """Lists of candidates, each of that `length`, that together name every port of every address."""
    every = [UdpAddress(ip, port) for port in ports for ip in ips]
    return tuple(tuple(every[start : start + length]) for start in range(0, len(every), length))


MANNERS = {
    "behaves": Manners(),
    "names hundreds of ports of one address": Manners(strewn(VICTIMS, range(1, 400)), each_s=0.2),
    "names hundreds of networks": Manners(strewn(NETWORKS, [53]), each_s=0.2),
    "names two addresses in turn": Manners(strewn(VICTIMS, [53, 54], 2), each_s=0.1),
    "names a hundred at once": Manners(strewn([VICTIM], range(1, 400), 100), each_s=0.2),
    "never answers": Manners(answers=False),
    "never pings": Manners(pings=False),
    "speaks in others' names": Manners(
        in_whose_name=tuple(UdpAddress(ip, 53) for ip in (*VICTIMS, "198.18.7.7")), forged_per_s=10.0
    ),
    "dials without end": Manners(dials_per_s=2.0),
}
