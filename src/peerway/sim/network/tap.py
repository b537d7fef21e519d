"""What an observer sees of packets: where, when, what is in one, and why it gets no further."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from peerway.core.machine import UdpAddress


class Moment(Enum):
    """Which end of its way over a link a packet is at. What was sent may never arrive."""

    SENT = "sent"
    ARRIVED = "arrived"


class Sighting(NamedTuple):
    """A UDP packet seen at `node`, an end of `link`, as it is put there or comes out.

    `origin` is the host it truly comes from, whatever `source` says, and `forged` whether `source`
    was false from the start: ground truth that no attacker may look at. A tuple, as it is made
    twice for each packet on each link.
    """

    at: float
    moment: Moment
    link: str
    node: str
    source: UdpAddress
    destination: UdpAddress
    data: bytes
    ttl: int
    origin: str
    forged: bool


@dataclass(frozen=True, slots=True)
class Loss:
    """A UDP packet of the host `origin` that gets no further, and why: `node` does not have it, or will not.

    `where` is that node, or the link to it.
    """

    at: float
    where: str
    node: str
    reason: str
    data: bytes
    origin: str


Tap = Callable[[Sighting], None]
LossTap = Callable[[Loss], None]
