"""What must be possible between two sides, from the boxes between each and the core alone.

A *path* is a pair of outside addresses that see each other. Each side knows its outside
address as a third party sees it, and tells the other; each sends to what it was told and
answers whatever it hears, at the address that it hears it from. Nobody guesses a port.

- Both sides endpoint-independent: what they were told is right, and sending opens any
  filter. Direct. (Poisoning is no bar: a first packet that dies on the way opens unseen.)
- One is not: its port towards the other is unknown, so it must be *heard first*. The other
  sends to the address it was told of, at a port that is wrong; where its filter looks at
  addresses only, or at nothing, that lets the unknown port in, and its answer goes right.
- Neither is: what each was told leads to a mapping that only the third party may use, so
  one side, `hearer`, must filter nothing. Its answer leaves from a port new to the other,
  `caller`, whose filter must not look at ports. And one of the two must keep its port when
  the other's changes, else each answer is sent from yet another: not both port-dependent.

What fails here can still be met by guessing ports, at a price; without UDP, only by a relay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from peerway.core.nat import Filtering, Mapping
from peerway.sim.network.nat import NatBehaviour

Outlook = Literal["direct", "guessing", "relay"]

_MAPPINGS = tuple(Mapping)  # from the easiest to the hardest
_FILTERINGS = tuple(Filtering)


def direct_possible(left: Sequence[NatBehaviour], right: Sequence[NatBehaviour]) -> Outlook:
    """How two hosts can meet; `left` and `right` are the NATs and firewalls each is behind, in any order."""
    if any(box.udp_blocked for box in (*left, *right)):
        return "relay"
    left_mapping, left_filtering = _together(left)
    right_mapping, right_filtering = _together(right)
    easy = Mapping.ENDPOINT_INDEPENDENT
    if left_mapping is easy and right_mapping is easy:
        possible = True
    elif left_mapping is easy:
        possible = not _sees_ports(left_filtering)
    elif right_mapping is easy:
        possible = not _sees_ports(right_filtering)
    else:
        one_keeps_its_port = Mapping.ADDRESS_DEPENDENT in (left_mapping, right_mapping)
        one_hears = Filtering.ENDPOINT_INDEPENDENT in (left_filtering, right_filtering)
        none_sees_ports = not _sees_ports(left_filtering) and not _sees_ports(right_filtering)
        possible = one_keeps_its_port and one_hears and none_sees_ports
    return "direct" if possible else "guessing"


def _sees_ports(filtering: Filtering) -> bool:
    return filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT


def _together(boxes: Sequence[NatBehaviour]) -> tuple[Mapping, Filtering]:
    """Several boxes in a row behave like one that has the worst of each."""
    mapping = max((_MAPPINGS.index(box.mapping) for box in boxes), default=0)
    filtering = max((_FILTERINGS.index(box.filtering) for box in boxes), default=0)
    return _MAPPINGS[mapping], _FILTERINGS[filtering]
