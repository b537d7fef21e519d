"""What nodes on the real internet stand behind, as data, and pairs of nodes drawn from it.

A choice of this model, not a measurement: the shares of the kinds of NAT follow what was published
of homes and carriers, the rest is set to be plausible and written down in `ASSUMPTIONS`, which
whoever shows a result must show with it. A pair is two independent draws: strangers, who share
no router, and a relay that is near neither.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from peerway.core.nat import Filtering, Mapping, PortAllocation
from peerway.sim.draw import COMMON_PORT
from peerway.sim.network.behaviour import Hairpin, NatBehaviour
from peerway.sim.network.link import LinkQuality
from peerway.sim.plan import (
    CARRIER_NETWORK,
    CORE,
    HOME_NETWORK,
    HostPlan,
    InterfacePlan,
    InternetPlan,
    RelayPlan,
    RouterPlan,
)
from peerway.sim.scenario import SIDES, Dial, Scenario, Side

Boxes = tuple[NatBehaviour | None, ...]

HOME_IDLE_S = (30.0, 300.0)
CARRIER_IDLE_S = (10.0, 200.0)
LINUX_IDLE_S = 30.0  # nf_conntrack_udp_timeout; what was answered is kept longer
DISTANCE_S = (0.002, 0.06)  # from where access ends to the middle of the internet, one way
RELAY_DISTANCE_S = (0.01, 0.06)
HAIRPIN_SHARE = 1 / 3
POISONED_SHARE = 1 / 2  # of homes that keep ports
CARRIER_CONE_SHARE = 1 / 2  # of carriers' NATs that are endpoint-independent
CARRIER_BLOCKS = (512, 1024, 2048)
HOME_NETWORKS = (HOME_NETWORK, "192.168.0", "192.168.178", "10.0.0")
_INNER_LINK = LinkQuality(delay_s=0.001)
_FIREWALL = NatBehaviour(translates=False)


@dataclass(frozen=True, slots=True)
class Access:
    """The way from a node to its provider: `delay_s` one way, log-uniform; the others from 0 up to this."""

    delay_s: tuple[float, float]
    jitter_s: float
    loss: float


FIXED_LINE = Access((0.002, 0.025), jitter_s=0.005, loss=0.004)
RADIO = Access((0.01, 0.05), jitter_s=0.02, loss=0.02)
OFFICE = Access((0.001, 0.01), jitter_s=0.001, loss=0.001)


@dataclass(frozen=True, slots=True)
class NetworkClass:
    """What `share` of all nodes stand behind.

    `draw_boxes` draws the NATs and firewalls of one node, the outermost first. `ipv6`: the share that
    has it. `maps_ports`: the share whose router maps a port when asked to (UPnP, NAT-PMP, PCP).
    """

    name: str
    share: float
    explanation: str
    draw_boxes: Callable[[random.Random], Boxes]
    access: Access
    ipv6: float
    maps_ports: float = 0.0


@dataclass(frozen=True, slots=True)
class Aids:
    """What helps two to meet besides opening NATs; whatever is False nobody has."""

    ipv6: bool = True
    port_mapping: bool = True


ALL_AIDS = Aids()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One node as it was drawn: its class `network`, and the `quality` of its way to the core.

    `maps_ports`: its home router gives it a port when asked for one.
    """

    network: str
    boxes: Boxes
    quality: LinkQuality
    has_ipv6: bool
    maps_ports: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """Two strangers: `scenario` has the left one dial the right one, and nothing else."""

    left: Endpoint
    right: Endpoint
    scenario: Scenario


# --- what they stand behind


def _log_uniform(rng: random.Random, bounds: tuple[float, float]) -> float:
    return math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))


def _hairpin(rng: random.Random) -> Hairpin:
    return Hairpin.EXTERNAL_SOURCE if rng.random() < HAIRPIN_SHARE else Hairpin.NONE


def _public(rng: random.Random) -> Boxes:
    return (_FIREWALL if rng.random() < 1 / 2 else None,)


def _home(rng: random.Random) -> Boxes:
    idle_s, hairpin = _log_uniform(rng, HOME_IDLE_S), _hairpin(rng)
    if rng.random() < POISONED_SHARE:  # Linux, and then with its two timeouts
        return (NatBehaviour(idle_s=LINUX_IDLE_S, stream_idle_s=idle_s, hairpin=hairpin, input_open=True),)
    return (NatBehaviour(idle_s=idle_s, hairpin=hairpin),)


def _home_cone(rng: random.Random) -> Boxes:
    filtering = rng.choice((Filtering.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT))
    return (NatBehaviour(filtering=filtering, idle_s=_log_uniform(rng, HOME_IDLE_S), hairpin=_hairpin(rng)),)


def _hard(rng: random.Random, idle_s: tuple[float, float]) -> NatBehaviour:
    return NatBehaviour(
        mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT,
        ports=PortAllocation.RANDOM,
        idle_s=_log_uniform(rng, idle_s),
        hairpin=_hairpin(rng),
    )


def _home_hard(rng: random.Random) -> Boxes:
    return (_hard(rng, HOME_IDLE_S),)


def _carrier(rng: random.Random, hard_share: float) -> NatBehaviour:
    """A carrier's NAT, with the block of ports that this customer has."""
    size = rng.choice(CARRIER_BLOCKS)
    first = 1024 + size * rng.randrange((65536 - 1024) // size)
    nat = replace(_hard(rng, CARRIER_IDLE_S), block_ports=size, port_range=(first, first + size))
    if rng.random() < hard_share:
        return nat
    is_cone = rng.random() < CARRIER_CONE_SHARE
    filtering = Filtering.ENDPOINT_INDEPENDENT if is_cone else Filtering.ADDRESS_AND_PORT_DEPENDENT
    return replace(nat, mapping=Mapping.ENDPOINT_INDEPENDENT, filtering=filtering)


def _carrier_and_home(rng: random.Random) -> Boxes:
    shares = {_home: 45, _home_cone: 10, _home_hard: 2}
    inner = rng.choices(tuple(shares), tuple(shares.values()))[0]
    return (_carrier(rng, hard_share=0.11), *inner(rng))


def _cellular(rng: random.Random) -> Boxes:
    return (_carrier(rng, hard_share=0.40),)


def _enterprise(rng: random.Random) -> Boxes:
    return (_hard(rng, HOME_IDLE_S),)


def _no_udp(rng: random.Random) -> Boxes:
    return (NatBehaviour(udp_blocked=True),)


POPULATION = (
    NetworkClass(
        "public", 0.08, "its own public address, half of them behind a firewall", _public, OFFICE, ipv6=0.5
    ),
    NetworkClass(
        "home",
        0.45,
        "a router that keeps ports and lets in whom it sent to; half are poisoned by what comes too early",
        _home,
        FIXED_LINE,
        ipv6=0.4,
        maps_ports=0.35,
    ),
    NetworkClass(
        "home-cone", 0.10, "a full or a restricted cone, half each", _home_cone, FIXED_LINE, 0.4, 0.35
    ),
    NetworkClass("home-edm", 0.02, "a symmetric NAT", _home_hard, FIXED_LINE, ipv6=0.4, maps_ports=0.35),
    NetworkClass(
        "cgn",
        0.12,
        "a home router behind a carrier's NAT, 11 % of those symmetric",
        _carrier_and_home,
        FIXED_LINE,
        ipv6=0.6,
    ),
    NetworkClass("cellular", 0.15, "a mobile carrier's NAT, 40 % symmetric", _cellular, RADIO, ipv6=0.6),
    NetworkClass("enterprise", 0.05, "a symmetric NAT of an office or cloud", _enterprise, OFFICE, ipv6=0.1),
    NetworkClass("udp-blocked", 0.03, "nothing but TCP gets out", _no_udp, OFFICE, ipv6=0.1),
)

ASSUMPTIONS = (
    "The population is a model, not a measurement. Carriers' shares of symmetric NATs follow Richter et"
    " al. (IMC 2016), the share with IPv6 (44 % in all) APNIC's 42 % and Google's 50 % of 2026; the rest"
    " is set to be plausible.",
    "Two strangers: they share no router, so local networks and hairpins play no part.",
    "UDP timeouts are log-uniform, 30-300 s in homes and offices, 10-200 s at carriers; homes that are"
    " poisoned are Linux's, which has 30 s until there is an answer. A third of NATs hairpin. A carrier"
    " gives each customer a block of 512, 1024 or 2048 ports; half of the carriers' NATs that are not"
    " symmetric are full cones, the others are port-restricted.",
    "With IPv6 a node is behind a firewall that lets in whom it sent to. On IPv6-only mobile networks the"
    " node's IPv4 (464XLAT) is taken to be like any other carrier's NAT; hosts with no IPv4 at all are"
    " left out.",
    "Delays, one way: access 2-25 ms on a fixed line, 10-50 ms mobile, 1-10 ms elsewhere, and 2-60 ms to"
    " the middle of the internet, where the relay is another 10-60 ms away; all log-uniform. Jitter up to"
    " 5 ms (mobile 20 ms), loss up to 0.4 % (mobile 2 %) each way. No line is busy.",
    "The nodes run already and know the relay. 35 % of homes without a carrier's NAT have a router that"
    " gives a port when asked to. No ports are guessed.",
    "What the topology does not allow is watched for 3 s, what it allows for 200 s, on clean lines for 10 s.",
)


# --- drawing


def draw_pair(seed: int, aids: Aids = ALL_AIDS) -> Pair:
    """The pair of `seed`; with fewer `aids` it is the same one but for these."""
    ends = {side: _with(aids, draw_endpoint(random.Random(f"population/{seed}/{side}"))) for side in SIDES}
    relay_delay_s = _log_uniform(random.Random(f"population/{seed}/relay"), RELAY_DISTANCE_S)
    plan = InternetPlan(
        tuple(router for side in SIDES for router in _routers(side, ends[side], seed)),
        tuple(_host(side, ends[side]) for side in SIDES),
        (RelayPlan("relay1.test", (4, 6), quality=LinkQuality(relay_delay_s)),),
    )
    return Pair(ends["left"], ends["right"], Scenario(seed, plan, (Dial("left"),)))


def _with(aids: Aids, end: Endpoint) -> Endpoint:
    return replace(end, has_ipv6=end.has_ipv6 and aids.ipv6, maps_ports=end.maps_ports and aids.port_mapping)


def draw_endpoint(rng: random.Random) -> Endpoint:
    """One node of the population."""
    network = rng.choices(POPULATION, [network.share for network in POPULATION])[0]
    access = network.access
    quality = LinkQuality(
        delay_s=_log_uniform(rng, access.delay_s) + _log_uniform(rng, DISTANCE_S),
        jitter_s=rng.uniform(0.0, access.jitter_s),
        loss=rng.uniform(0.0, access.loss),
    )
    return Endpoint(
        network.name,
        network.draw_boxes(rng),
        quality,
        has_ipv6=rng.random() < network.ipv6,
        maps_ports=rng.random() < network.maps_ports,
    )


def _routers(side: Side, end: Endpoint, seed: int) -> list[RouterPlan]:
    """What an end is behind, the outermost first; the innermost has the firewall for IPv6."""
    rng = random.Random(f"population/{seed}/{side}/network")
    routers: list[RouterPlan] = []
    for depth, box in enumerate(end.boxes):
        is_innermost = depth == len(end.boxes) - 1
        guards = is_innermost and box is not None
        routers.append(
            RouterPlan(
                f"{side}-{'home' if is_innermost else 'carrier'}",
                routers[-1].name if routers else CORE,
                box,
                replace(_FIREWALL, udp_blocked=box.udp_blocked) if guards and box is not None else None,
                end.quality if depth == 0 else _INNER_LINK,
                inside=rng.choice(HOME_NETWORKS) if is_innermost else CARRIER_NETWORK,
                maps_ports=is_innermost and end.maps_ports,
            )
        )
    return routers


def _host(side: Side, end: Endpoint) -> HostPlan:
    families = (4, 6) if end.has_ipv6 else (4,)
    return HostPlan(side, (InterfacePlan(f"{side}-home", families),), COMMON_PORT)
