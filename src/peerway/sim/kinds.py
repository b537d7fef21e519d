"""What a host stands behind, in the lab's words for kinds of routers."""

from __future__ import annotations

from peerway.core.nat import Filtering, Mapping
from peerway.sim.network.behaviour import NatBehaviour
from peerway.sim.plan import InternetPlan

OPEN, FIREWALL, SAME_LAN, UDP_BLOCKED = "open", "firewall", "same-lan", "udp-blocked"
_FILTERS = {
    Filtering.ENDPOINT_INDEPENDENT: "eif",
    Filtering.ADDRESS_DEPENDENT: "adf",
    Filtering.ADDRESS_AND_PORT_DEPENDENT: "apdf",
}
_HARD = {Mapping.ADDRESS_DEPENDENT: "adm", Mapping.ADDRESS_AND_PORT_DEPENDENT: "edm"}


def kind_of(box: NatBehaviour) -> str:
    """The kind of a NAT or firewall."""
    if box.udp_blocked:
        return UDP_BLOCKED
    if not box.translates:
        return FIREWALL
    return _HARD.get(box.mapping) or f"eim-{_FILTERS[box.filtering]}"


def behind(plan: InternetPlan, host: str) -> str:
    """The kinds of all boxes from a host's first interface to the core, as "eim-apdf+edm"."""
    interface = plan.host(host).interfaces[0]
    routers = plan.way_up(interface.router)
    boxes = (router.nat4 if 4 in interface.families else router.nat6 for router in routers)
    return "+".join(kind_of(box) for box in boxes if box is not None) or OPEN


def pair_of_kinds(plan: InternetPlan, left: str, right: str) -> tuple[str, str]:
    """What each of two hosts stands behind; "same-lan" where they are neighbours."""
    if plan.host(left).interfaces[0].router == plan.host(right).interfaces[0].router:
        return SAME_LAN, SAME_LAN
    return behind(plan, left), behind(plan, right)
