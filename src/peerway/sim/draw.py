"""Draws scenarios: for each seed an internet and a course of events, as different as can be.

What is drawn covers what the world can do, the ordinary more often than the odd. Nothing is
drawn that would leave the oracle without a word: what only luck decides is rare.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from peerway.core.nat import Filtering, Mapping, PortAllocation
from peerway.sim.attack.hostile_relay import Mischief
from peerway.sim.attack.manners import MANNERS
from peerway.sim.attack.strategies import HARMLESS
from peerway.sim.network.behaviour import Hairpin, NatBehaviour, Pooling
from peerway.sim.network.link import Bursts, LinkQuality
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
from peerway.sim.scenario import (
    SIDES,
    Action,
    Block,
    Dial,
    Guest,
    HangUp,
    Partition,
    Pause,
    Reboot,
    Restart,
    Roam,
    Scenario,
    Sleep,
    Transfer,
    Unplug,
)

COMMON_PORT = 41641  # what every node prefers
_FIREWALL = NatBehaviour(translates=False)


def draw(seed: int) -> Scenario:
    """The scenario of `seed`."""
    rng = random.Random(f"scenario/{seed}")
    plan = _draw_plan(rng)
    actions: list[Action] = [Dial(rng.choices(("left", "right", "both"), (5, 3, 2))[0])]
    for _ in range(rng.choices((0, 1, 2, 3, 5), (40, 30, 16, 10, 4))[0]):
        actions.append(_draw_action(rng, plan))
    attacks: tuple[str, ...] = ()
    if rng.random() < 0.1:
        attacks = tuple(strategy.name for strategy in rng.sample(HARMLESS, rng.randint(1, 3)))
    guests: tuple[Guest, ...] = ()
    if rng.random() < 0.06:
        guests = (Guest(rng.choice(SIDES), rng.choice(tuple(MANNERS))),)
    return Scenario(seed, plan, tuple(actions), attacks, guests)


# --- the internet


def _draw_plan(rng: random.Random) -> InternetPlan:
    routers: list[RouterPlan] = []
    carrier = _draw_carrier(rng) if rng.random() < 0.2 else None
    if carrier is not None:
        routers.append(carrier)
    families = rng.choices(((4,), (4, 6), (6,)), (60, 30, 10))[0]
    hosts, home = [], ""
    shares_lan = rng.random() < 0.1
    for side in SIDES:
        if side == "left" or not shares_lan:
            uplink = carrier.name if carrier is not None and rng.random() < 0.8 else CORE
            routers += _draw_site(rng, side, uplink)
            home = routers[-1].name
        side_families = families if rng.random() < 0.9 else (4, 6)
        interfaces = [InterfacePlan(home, side_families)]
        if rng.random() < 0.15:
            routers.append(RouterPlan(f"{side}-mobile", CORE, _draw_nat(rng), inside=f"10.{len(routers)}.0"))
            interfaces.append(InterfacePlan(routers[-1].name, (4,), "wwan0"))
        port = COMMON_PORT if rng.random() < 0.5 else 0
        hosts.append(HostPlan(side, tuple(interfaces), port, bridges=14 if rng.random() < 0.1 else 0))
    routers.append(RouterPlan("elsewhere", nat4=_draw_nat(rng), nat6=_FIREWALL, inside="192.168.7"))
    relays = tuple(
        RelayPlan(
            f"relay{number}.test",
            (4, 6) if 6 in families or rng.random() < 0.5 else (4,),
            _draw_mischief(rng) if rng.random() < 0.06 else None,
        )
        for number in range(1, 1 + rng.choices((1, 2), (70, 30))[0])
    )
    return InternetPlan(tuple(routers), tuple(hosts), relays)


def _draw_site(rng: random.Random, name: str, uplink: str) -> list[RouterPlan]:
    """What one side is behind, the outermost first."""
    kinds = {"home": 60, "open": 8, "firewall": 10, "double": 10, "firewalls": 7, "blocked": 5}
    kind = rng.choices(tuple(kinds), tuple(kinds.values()))[0]
    boxes = _draw_boxes(rng, kind)
    routers: list[RouterPlan] = []
    for depth, box in enumerate(boxes):
        router = RouterPlan(
            f"{name}-{'home' if depth == len(boxes) - 1 else f'outer{depth}'}",
            uplink,
            box,
            replace(_FIREWALL, udp_blocked=kind == "blocked") if rng.random() < 0.8 or box is None else None,
            _draw_quality(rng) if depth == 0 else LinkQuality(delay_s=0.001),
            inside=HOME_NETWORK if rng.random() < 0.6 else f"192.168.{rng.randrange(2, 6)}",
        )
        if depth and router.inside == routers[-1].inside:
            router = replace(router, inside="10.0.0")  # a router cannot have one network on both sides
        routers.append(router)
        uplink = router.name
    return routers


def _draw_boxes(rng: random.Random, kind: str) -> list[NatBehaviour | None]:
    if kind == "open":
        return [None]
    if kind in ("firewall", "firewalls"):
        return [_FIREWALL] * (3 if kind == "firewalls" else 1)
    if kind == "blocked":
        return [replace(_draw_nat(rng), udp_blocked=True)]
    return [_draw_nat(rng) for _ in range(2 if kind == "double" else 1)]


def _draw_carrier(rng: random.Random) -> RouterPlan:
    hairpin = rng.choices((Hairpin.NONE, Hairpin.EXTERNAL_SOURCE), (60, 40))[0]
    nat = replace(_draw_nat(rng), hairpin=hairpin, input_open=False)
    return RouterPlan("carrier", CORE, nat, _FIREWALL, LinkQuality(delay_s=0.004), inside=CARRIER_NETWORK)


def _draw_nat(rng: random.Random) -> NatBehaviour:
    mapping = rng.choices(tuple(Mapping), (75, 10, 15))[0]
    easy = mapping is Mapping.ENDPOINT_INDEPENDENT
    ports = (PortAllocation.PRESERVING, PortAllocation.RANDOM, PortAllocation.SEQUENTIAL)
    nat = NatBehaviour(
        mapping=mapping,
        filtering=rng.choices(tuple(Filtering), (20, 20, 60))[0],
        ports=rng.choices(ports, (60, 25, 15) if easy else (2, 68, 30))[0],
        idle_s=rng.choices((30.0, 10.0, 60.0, 120.0), (60, 15, 15, 10))[0],
        inbound_refreshes=rng.random() < 0.7,
        hairpin=Hairpin.EXTERNAL_SOURCE if rng.random() < 0.3 else Hairpin.NONE,
        input_open=rng.random() < 0.3,
    )
    if nat.input_open:  # what Linux does, and then with Linux's timeouts
        nat = replace(nat, idle_s=30.0, stream_idle_s=rng.choice((None, 120.0)))
    return _draw_oddity(rng, nat) if rng.random() < 0.3 else nat


def _draw_oddity(rng: random.Random, nat: NatBehaviour) -> NatBehaviour:
    """The same with something that most NATs do not have."""
    oddities: tuple[Callable[[], NatBehaviour], ...] = (
        lambda: replace(nat, port_range=(20_000, 20_000 + rng.choice((512, 4096)))),
        lambda: replace(nat, keeps_parity=True),
        lambda: replace(nat, port_step=rng.choice((2, 4)), other_ports_per_s=rng.choice((0.0, 5.0))),
        lambda: replace(nat, block_ports=rng.choice((64, 512))),
        lambda: replace(nat, pooling=Pooling.ARBITRARY),
        lambda: replace(nat, overloads=False),
        lambda: replace(nat, stream_idle_s=120.0),
        lambda: replace(nat, memory_s=60.0),
        lambda: replace(nat, lifetime_s=rng.choice((45.0, 300.0))),
        lambda: replace(nat, session_limit=rng.choice((30, 1000))),
        lambda: replace(nat, host_session_limit=rng.choice((20, 200))),
    )
    return rng.choice(oddities)()


def _draw_quality(rng: random.Random) -> LinkQuality:
    quality = LinkQuality(
        delay_s=10 ** rng.uniform(-3, -1.0),
        jitter_s=rng.choice((0.0, 0.0, 0.005, 0.03)),
        loss=rng.choices((0.0, 0.01, 0.05, 0.15), (70, 15, 10, 5))[0],
        rate=rng.choices((None, 50e6, 2e6), (80, 15, 5))[0],
    )
    oddities: tuple[Callable[[], LinkQuality], ...] = (
        lambda: replace(quality, bursts=Bursts(begin=0.01, end=0.3)),
        lambda: replace(quality, reorder=0.1),
        lambda: replace(quality, duplicate=0.1),
        lambda: replace(quality, mtu=rng.choice((1500, 1280, 1200)), tells_too_big=rng.random() < 0.5),
    )
    return rng.choice(oddities)() if rng.random() < 0.2 else quality


def _draw_mischief(rng: random.Random) -> Mischief:
    deeds = ("drop", "delay", "reorder", "lie", "duplicate", "alter", "reflect", "replay", "deny")
    chances = {deed: rng.choice((0.02, 0.1)) for deed in rng.sample(deeds, rng.randint(1, 3))}
    return Mischief(**chances)


# --- what happens


def _draw_action(rng: random.Random, plan: InternetPlan) -> Action:
    side = rng.choice(SIDES)
    routers = [router.name for router in plan.routers if router.name != "elsewhere"]
    relays = [relay.name for relay in plan.relays]
    draws: list[tuple[int, Callable[[], Action]]] = [
        (10, lambda: Transfer(side, int(10 ** rng.uniform(3, 5.3)))),
        (10, lambda: Pause(rng.choice((5.0, 20.0, 70.0, 130.0)))),
        (15, lambda: Reboot(rng.choice(routers), rng.random() < 0.3)),
        (15, lambda: Roam(side, rng.choice([*routers, "elsewhere"]))),
        (10, lambda: Restart(side)),
        (8, lambda: Sleep(side, rng.choice((3.0, 15.0, 60.0, 600.0)))),
        (8, lambda: Unplug(side, rng.choice((0.5, 5.0, 50.0)))),
        (20, lambda: Partition(rng.choice([*routers, *relays, side]), rng.choice((1.0, 5.0, 15.0, 40.0)))),
        (5, lambda: HangUp(side)),
        (5, lambda: Dial(side)),
        (8, lambda: Block(rng.choice(routers), rng.choice((3.0, 15.0, 40.0)))),
    ]
    return rng.choices([make for _, make in draws], [weight for weight, _ in draws])[0]()
