"""What an observer sees of a packet on a link: where, when, and what is in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from peerway.core.machine import UdpAddress


class Moment(Enum):
    """Which end of its way over a link a packet is at. What was sent may never arrive."""

    SENT = "sent"
    ARRIVED = "arrived"


@dataclass(frozen=True, slots=True)
class Sighting:
    """A UDP packet seen at `node`, an end of `link`, as it is put there or comes out.

    `origin` is the host it truly comes from, whatever `source` says, and `forged` whether `source`
    was false from the start: ground truth that no attacker may look at.
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


Tap = Callable[[Sighting], None]
