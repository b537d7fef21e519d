"""The oracle for a whole internet: how two hosts must be able to meet, from the plan alone.

The two ways up meet at some router, and packets between the two turn round there; or higher up,
at a NAT that translates both and is willing to (a hairpin). Where they turn decides which boxes
lie between, and which address of a side means anything there:

- its own, when nothing below the turn translates it;
- what a third party at the core sees, when nothing above the turn translates it once more.

When each can be told of the other, `oracle.direct_possible` has the rest. A side with neither
address may still speak first, to one who hears everybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from peerway.core.nat import Filtering, Mapping, PortAllocation
from peerway.sim.network.behaviour import Hairpin, NatBehaviour, Pooling
from peerway.sim.network.link import HEADER_BYTES_V4, HEADER_BYTES_V6, LinkQuality
from peerway.sim.oracle import direct_possible
from peerway.sim.plan import CORE, InterfacePlan, InternetPlan

Outlook = Literal["direct", "unsure", "guessing", "relay"]

SURE_ROUND_TRIP = 0.4  # the share that must come back before anything is promised
FULL_SIZE = 1200  # bytes of the largest datagram, which a path must carry both ways
SURE_SESSIONS = 100  # a node tries more than one address, and asks more than one server
SURE_IDLE_S = 6.0  # mappings that die sooner may not outlive the pause between two pings
_BEST_FIRST: tuple[Outlook, ...] = ("direct", "unsure", "guessing", "relay")


@dataclass(frozen=True, slots=True)
class _Way:
    """The way up from a host: `links[i]` leads to `routers[i]`, whose box above itself is `boxes[i]`.

    The last router is the core. A link has a quality each way; None is one that is cut. `mapped`: the
    first router gives a port of its own on request, which a peer is told of; `remapped`: whoever does
    not ask for one has another towards each peer.
    """

    routers: tuple[str, ...]
    boxes: tuple[NatBehaviour | None, ...]
    links: tuple[tuple[LinkQuality, LinkQuality] | None, ...]
    mapped: bool = False
    remapped: bool = False

    def crossed(self, start: int, end: int) -> list[NatBehaviour]:
        """The boxes of the routers number `start` up to `end`, that one left out."""
        return [box for box in self.boxes[start:end] if box is not None]

    @property
    def sees_core(self) -> bool:
        """Whether a third party at the core can be asked what it sees."""
        return None not in self.links and not any(box.udp_blocked for box in self.crossed(0, len(self.boxes)))

    @property
    def tells_old_port(self) -> bool:
        """Whether who alone can tell the outermost port may go on seeing the one from before the request."""
        return self.remapped and any(box.translates for box in self.crossed(1, len(self.boxes)))


@dataclass(frozen=True, slots=True)
class _Turn:
    """Where packets between the two turn round: router number `left` of one way, `right` of the other.

    `hairpin` is the NAT that turns them, which then both have crossed; None for a mere router.
    """

    left: int
    right: int
    hairpin: NatBehaviour | None = None


def outlook(plan: InternetPlan, left: str, right: str) -> Outlook:
    """How two hosts of `plan` can meet now, by whichever of their interfaces and families is best."""
    return min(outlooks(plan, left, right).values(), key=_BEST_FIRST.index)


def outlooks(plan: InternetPlan, left: str, right: str) -> dict[int, Outlook]:
    """How they can meet by IPv4 alone and by IPv6 alone: the words of 4 and 6."""
    return {family: _outlook_by(family, plan, left, right) for family in (4, 6)}


def can_be_poisoned(plan: InternetPlan, left: str, right: str) -> bool:
    """Whether somebody who forges packets may cost two hosts the direct way that they have.

    A NAT with an open INPUT chain becomes as hard as can be towards whoever's name is used (see
    `network.nat`); that does no harm where IPv6 is left, or a peer who can be met by the hardest.
    """
    poisoned = replace(
        plan, routers=tuple(replace(router, nat4=_poisoned(router.nat4)) for router in plan.routers)
    )
    return outlook(plan, left, right) == "direct" != outlook(poisoned, left, right)


def relayed(plan: InternetPlan, left: str, right: str) -> bool:
    """Whether some relay can be reached by both."""
    return any(
        _reaches(plan, left, relay.families) and _reaches(plan, right, relay.families)
        for relay in plan.relays
        if relay.name not in plan.down
    )


def is_calm(plan: InternetPlan) -> bool:
    """Whether nothing but what is done to it disturbs a direct path.

    No line loses anything, and no mapping that is used ends.
    """
    lines = [interface.quality for host in plan.hosts for interface in host.interfaces]
    lines += [line for router in plan.routers for line in (router.quality, router.downward or router.quality)]
    if any(line.loss or line.bursts for line in lines):
        return False
    boxes = [router.nat4 for router in plan.routers if router.nat4 is not None]
    return all(box.lifetime_s is None for box in boxes)


def comes_back_the_same(plan: InternetPlan, router: str) -> bool:
    """Whether a direct path through `router` is what it was once that has forgotten all of it.

    It gives ports as Linux does, the inside's own, of its only address, to a single host, and does not
    mind who speaks first.
    """
    restarted = plan.router(router)
    within = {
        host.name
        for host in plan.hosts
        for interface in host.interfaces
        if any(above.name == router for above in plan.way_up(interface.router))
    }
    has_one_address = restarted.outside_addresses == 1
    return len(within) == 1 and has_one_address and all(map(_keeps_ports, (restarted.nat4, restarted.nat6)))


def _keeps_ports(box: NatBehaviour | None) -> bool:
    ordinary = NatBehaviour()
    return (
        box is None
        or replace(box, filtering=ordinary.filtering, translates=True, idle_s=ordinary.idle_s) == ordinary
    )


def _outlook_by(family: int, plan: InternetPlan, left: str, right: str) -> Outlook:
    found: list[Outlook] = ["relay"]
    for one, other in product(plan.host(left).interfaces, plan.host(right).interfaces):
        if family in one.families and family in other.families:
            ways = _way(plan, left, one, family), _way(plan, right, other, family)
            found.extend(_meet(*ways, turn, family) for turn in _turns(*ways))
    return min(found, key=_BEST_FIRST.index)


def _poisoned(box: NatBehaviour | None) -> NatBehaviour | None:
    if box is None or not box.input_open:
        return box
    return replace(
        box,
        mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT,
        filtering=Filtering.ADDRESS_AND_PORT_DEPENDENT,
        ports=PortAllocation.RANDOM,
    )


def _reaches(plan: InternetPlan, host: str, families: tuple[int, ...]) -> bool:
    # a byte stream leaves by the first interface of a family, whether that leads anywhere or not
    for family in families:
        first = next((i for i in plan.host(host).interfaces if family in i.families), None)
        if first is not None and all(map(_carries_something, _way(plan, host, first, family).links)):
            return True
    return False


def _carries_something(link: tuple[LinkQuality, LinkQuality] | None) -> bool:
    return link is not None and all(way.loss < 1 for way in link)


def _way(plan: InternetPlan, host: str, interface: InterfacePlan, family: int) -> _Way:
    above = tuple(plan.way_up(interface.router))
    qualities = [(host, (interface.quality, interface.quality))]
    qualities += [(router.name, (router.quality, router.downward or router.quality)) for router in above]
    boxes = [router.nat4 if family == 4 else router.nat6 for router in above]
    mapped = family == 4 and bool(above) and above[0].translates and above[0].maps_ports
    remapped = False
    if mapped and boxes[0] is not None:
        remapped = boxes[0].mapping is not Mapping.ENDPOINT_INDEPENDENT
        boxes[0] = replace(
            boxes[0], mapping=Mapping.ENDPOINT_INDEPENDENT, filtering=Filtering.ENDPOINT_INDEPENDENT
        )
    return _Way(
        (*(router.name for router in above), CORE),
        (*boxes, None),
        tuple(None if name in plan.down else quality for name, quality in qualities),
        mapped,
        remapped,
    )


def _turns(left: _Way, right: _Way) -> Iterator[_Turn]:
    low = next(router for router in left.routers if router in right.routers)
    one, other = left.routers.index(low), right.routers.index(low)
    yield _Turn(one, other)
    translating = [n for n in range(one, len(left.boxes)) if (box := left.boxes[n]) and box.translates]
    if translating:
        above = translating[-1] - one
        yield _Turn(one + above, other + above, left.boxes[translating[-1]])


def _meet(left: _Way, right: _Way, turn: _Turn, family: int) -> Outlook:
    links = left.links[: turn.left + 1] + right.links[: turn.right + 1]
    if not all(link is not None and _carries_full_size(link, family) for link in links):
        return "relay"
    if turn.hairpin is None:
        boxes = left.crossed(0, turn.left), right.crossed(0, turn.right)
        known = _is_known(left, turn.left), _is_known(right, turn.right)
    else:
        boxes = left.crossed(0, turn.left + 1), right.crossed(0, turn.right + 1)
        known = left.sees_core, right.sees_core
    outcome = _by_hairpin(turn.hairpin, _by_knowledge(boxes, known))
    is_moody = any(map(_is_moody, boxes)) or any(map(_is_poisonable_far_out, boxes))
    is_moody |= left.tells_old_port or right.tells_old_port
    if outcome == "direct" and (is_moody or _loses(links)):
        return "unsure"
    return outcome


def _is_known(way: _Way, turn: int) -> bool:
    """Whether the peer can be told of an address that leads to this side from the turn."""
    own = not any(box.translates for box in way.crossed(1 if way.mapped else 0, turn))
    seen = way.sees_core and not any(box.translates for box in way.crossed(turn, len(way.boxes)))
    return own or seen


def _by_knowledge(boxes: tuple[list[NatBehaviour], list[NatBehaviour]], known: tuple[bool, bool]) -> Outlook:
    left, right = boxes
    judged = direct_possible(left, right)
    if known == (True, True) or judged == "relay":
        return judged
    hearer = right if known == (False, True) else left
    if True in known and all(box.filtering is Filtering.ENDPOINT_INDEPENDENT for box in hearer):
        return "direct"
    return "relay"


def _by_hairpin(hairpin: NatBehaviour | None, judged: Outlook) -> Outlook:
    if hairpin is None or judged == "relay":
        return judged
    if hairpin.hairpin is Hairpin.NONE:
        return "relay"
    # an inside source is an address nobody was told of, which filters further in do not expect
    return judged if hairpin.hairpin is Hairpin.EXTERNAL_SOURCE else "unsure"


def _carries_full_size(link: tuple[LinkQuality, LinkQuality], family: int) -> bool:
    size = FULL_SIZE + (HEADER_BYTES_V6 if family == 6 else HEADER_BYTES_V4)
    return all((way.mtu is None or way.mtu >= size) and way.loss < 1 for way in link)


def _loses(links: tuple[tuple[LinkQuality, LinkQuality] | None, ...]) -> bool:
    """Whether so much is lost that luck decides."""
    share = 1.0
    for link in links:
        for way in link or ():
            share *= 1 - way.loss
            if way.bursts is not None:
                bad = way.bursts.begin / (way.bursts.begin + way.bursts.end)
                share *= 1 - bad * way.bursts.loss
    return share < SURE_ROUND_TRIP


def _is_poisonable_far_out(boxes: list[NatBehaviour]) -> bool:
    # the first packet of low TTL opens the router next to the host, and dies before any other
    return any(box.input_open for box in boxes[1:])


def _is_moody(boxes: list[NatBehaviour]) -> bool:
    """Whether luck, or others who use a box, decide what the boxes of a side do together."""
    is_hard = any(box.mapping is not Mapping.ENDPOINT_INDEPENDENT for box in boxes)
    roams = any(box.translates and box.pooling is Pooling.ARBITRARY for box in boxes)  # port by port
    return (is_hard and roams) or any(map(_is_moody_itself, boxes))


def _is_moody_itself(box: NatBehaviour) -> bool:
    limits = (box.session_limit, box.host_session_limit, box.block_ports or None)
    if any(limit is not None and limit < SURE_SESSIONS for limit in limits):
        return True
    if box.idle_s < SURE_IDLE_S:
        return True
    hard = box.mapping is not Mapping.ENDPOINT_INDEPENDENT
    return hard and box.ports is PortAllocation.PRESERVING
