"""Plans of small internets, and the kinds of routers in them: what scenarios with names are written on."""

from __future__ import annotations

from dataclasses import replace

from peerway.sim import (
    Filtering,
    Hairpin,
    HostPlan,
    InterfacePlan,
    InternetPlan,
    Mapping,
    NatBehaviour,
    PortAllocation,
    RouterPlan,
)
from peerway.sim.plan import CARRIER_NETWORK

HOME = NatBehaviour()
CONE = NatBehaviour(filtering=Filtering.ENDPOINT_INDEPENDENT)
SYMMETRIC = NatBehaviour(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, ports=PortAllocation.RANDOM)
RESTRICTED = NatBehaviour(filtering=Filtering.ADDRESS_DEPENDENT)
EVER_NEW = NatBehaviour(
    mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT,
    filtering=Filtering.ENDPOINT_INDEPENDENT,
    ports=PortAllocation.RANDOM,
)
FIREWALL = NatBehaviour(translates=False)

TWO_HOMES = InternetPlan(
    (RouterPlan("left-home", nat4=HOME), RouterPlan("right-home", nat4=HOME)),
    (
        HostPlan("left", (InterfacePlan("left-home"),)),
        HostPlan("right", (InterfacePlan("right-home"),)),
    ),
)
TWO_SYMMETRIC = replace(
    TWO_HOMES,
    routers=(RouterPlan("left-home", nat4=SYMMETRIC), RouterPlan("right-home", nat4=SYMMETRIC)),
)
ONE_CARRIER = replace(
    TWO_HOMES,
    routers=(
        RouterPlan("carrier", nat4=HOME, inside=CARRIER_NETWORK),
        RouterPlan("left-home", "carrier", HOME),
        RouterPlan("right-home", "carrier", HOME),
    ),
)
TURNING_CARRIER = ONE_CARRIER.with_router(
    RouterPlan("carrier", nat4=replace(HOME, hairpin=Hairpin.EXTERNAL_SOURCE), inside=CARRIER_NETWORK)
)
