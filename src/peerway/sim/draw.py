"""Draws scenarios: for each seed an internet and a course of events, as different as can be.

What is drawn covers what the world can do, the ordinary more often than the odd. Nothing is
drawn that would leave the oracle without a word: what only luck decides is rare.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from peerway.core.nat import Filtering, Mapping, PortAllocation
from peerway.sim.attack.hostile_relay import Mischief
from peerway.sim.attack.manners import MANNERS
from peerway.sim.attack.strategies import HARMLESS
from peerway.sim.network.behaviour import Hairpin, NatBehaviour, Pooling
from peerway.sim.network.host import LAN_QUALITY
from peerway.sim.network.link import Bursts, LinkQuality
from peerway.sim.plan import (
    CARRIER_NETWORK,
    CORE,
    HOME_NETWORK,
    RELAY_QUALITY,
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
    if plan.down:  # what is cut from the start comes back some time, and then they try once more
        later = rng.randrange(len(actions) + 1)
        actions[later:later] = [
            Partition(plan.down[0], rng.choice((1.0, 5.0, 40.0))),
            Dial(rng.choice(SIDES)),
        ]
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
        interfaces = [InterfacePlan(home, side_families, quality=_draw_lan(rng))]
        if rng.random() < 0.15:
            routers.append(_draw_mobile(rng, side, len(routers)))
            interfaces.append(InterfacePlan(routers[-1].name, rng.choice(((4,), (4, 6))), "wwan0"))
        port = COMMON_PORT if rng.random() < 0.5 else 0
        hosts.append(HostPlan(side, tuple(interfaces), port, bridges=14 if rng.random() < 0.1 else 0))
    elsewhere = RouterPlan("elsewhere", nat4=_draw_nat(rng), nat6=_draw_firewall(rng), inside="192.168.7")
    routers.append(_draw_outside(rng, elsewhere))
    numbers = range(1, 1 + rng.choices((1, 2), (70, 30))[0])
    relays = tuple(_draw_relay(rng, f"relay{number}.test", 6 in families) for number in numbers)
    down: tuple[str, ...] = ()
    if rng.random() < 0.03:
        down = (rng.choice([*(relay.name for relay in relays), *(router.name for router in routers)]),)
    return InternetPlan(tuple(routers), tuple(hosts), relays, down)


def _draw_relay(rng: random.Random, name: str, has_ipv6: bool) -> RelayPlan:
    return RelayPlan(
        name,
        (4, 6) if has_ipv6 or rng.random() < 0.5 else (4,),
        _draw_mischief(rng) if rng.random() < 0.06 else None,
        replace(RELAY_QUALITY, delay_s=rng.choice((0.02, 0.1))) if rng.random() < 0.2 else RELAY_QUALITY,
    )


def _draw_mobile(rng: random.Random, side: str, number: int) -> RouterPlan:
    """A second way out."""
    nat6 = _draw_firewall(rng) if rng.random() < 0.8 else None
    mobile = RouterPlan(f"{side}-mobile", CORE, _draw_nat(rng), nat6, inside=f"10.{number}.0")
    return _draw_outside(rng, mobile)


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
            _draw_firewall(rng, kind == "blocked") if rng.random() < 0.8 or box is None else None,
            _draw_quality(rng) if depth == 0 else LinkQuality(delay_s=0.001),
            inside=HOME_NETWORK if rng.random() < 0.6 else f"192.168.{rng.randrange(2, 6)}",
        )
        if depth and router.inside == routers[-1].inside:
            router = replace(router, inside="10.0.0")  # a router cannot have one network on both sides
        if not depth and rng.random() < 0.07:
            router = replace(router, downward=_draw_other_way(rng, router.quality))
        routers.append(_draw_outside(rng, router))
        uplink = router.name
    last = routers[-1]
    if last.translates and rng.random() < 0.08:
        routers[-1] = replace(last, maps_ports=True)
    return routers


def _draw_boxes(rng: random.Random, kind: str) -> list[NatBehaviour | None]:
    if kind == "open":
        return [None]
    if kind in ("firewall", "firewalls"):
        return [_draw_firewall(rng) for _ in range(3 if kind == "firewalls" else 1)]
    if kind == "blocked":
        return [replace(_draw_nat(rng), udp_blocked=True)]
    return [_draw_nat(rng) for _ in range(2 if kind == "double" else 1)]


def _draw_carrier(rng: random.Random) -> RouterPlan:
    hairpin = rng.choices(tuple(Hairpin), (57, 38, 5))[0]
    nat = replace(_draw_nat(rng), hairpin=hairpin, input_open=False)
    quality = LinkQuality(delay_s=0.004)
    carrier = RouterPlan("carrier", CORE, nat, _draw_firewall(rng), quality, inside=CARRIER_NETWORK)
    return _draw_outside(rng, carrier)


def _draw_outside(rng: random.Random, router: RouterPlan) -> RouterPlan:
    """The same, which has more than one address outside now and then."""
    if router.nat4 is None or not router.translates or rng.random() < 0.95:
        return router
    is_easy = router.nat4.mapping is Mapping.ENDPOINT_INDEPENDENT
    pooling = Pooling.ARBITRARY if rng.random() < (0.6 if is_easy else 0.1) else Pooling.PAIRED
    nat = replace(router.nat4, pooling=pooling)
    return replace(router, nat4=nat, outside_addresses=rng.choice((2, 4)))


def _draw_firewall(rng: random.Random, udp_blocked: bool = False) -> NatBehaviour:
    firewall = NatBehaviour(
        translates=False,
        filtering=rng.choices(tuple(Filtering), (8, 7, 85))[0],
        idle_s=rng.choices((30.0, 10.0, 60.0, 120.0), (70, 10, 10, 10))[0],
        inbound_refreshes=rng.random() < 0.9,
        udp_blocked=udp_blocked,
    )
    return _draw_oddity(rng, firewall) if rng.random() < 0.05 else firewall


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
        hairpin=rng.choices(tuple(Hairpin), (70, 27, 3))[0],
        input_open=rng.random() < 0.3,
    )
    if nat.input_open:  # what Linux does, and then with Linux's timeouts
        nat = replace(nat, idle_s=30.0, stream_idle_s=rng.choice((None, 120.0)))
    return _draw_oddity(rng, nat) if rng.random() < 0.3 else nat


def _draw_oddity(rng: random.Random, box: NatBehaviour) -> NatBehaviour:
    """The same with something that most do not have, and that makes a difference to this one."""
    oddities: list[Callable[[], NatBehaviour]] = [
        lambda: replace(box, stream_idle_s=120.0),
        lambda: replace(box, session_limit=rng.choice((30, 1000, 1000))),
        lambda: replace(box, host_session_limit=rng.choice((20, 200, 200))),
    ]
    if box.filtering is not Filtering.ADDRESS_AND_PORT_DEPENDENT:
        oddities.append(lambda: replace(box, memory_s=60.0))
    if box.translates:
        oddities += _port_oddities(rng, box)
    return rng.choice(oddities)()


def _port_oddities(rng: random.Random, nat: NatBehaviour) -> Iterator[Callable[[], NatBehaviour]]:
    yield lambda: replace(nat, lifetime_s=rng.choice((45.0, 300.0)))
    yield lambda: replace(nat, port_range=(20_000, 20_000 + rng.choice((512, 4096))))
    yield lambda: replace(nat, block_ports=rng.choice((64, 128, 512)))
    if nat.ports is PortAllocation.PRESERVING:
        yield lambda: replace(nat, overloads=False)
    else:
        yield lambda: replace(nat, keeps_parity=True)
    if nat.ports is PortAllocation.SEQUENTIAL:
        yield lambda: replace(nat, port_step=rng.choice((2, 4)))
        yield lambda: replace(nat, other_ports_per_s=5.0)


def _draw_other_way(rng: random.Random, quality: LinkQuality) -> LinkQuality:
    """A way with nothing in common with the way of `quality` but how wide the line is."""
    return replace(_draw_quality(rng), mtu=quality.mtu, tells_too_big=quality.tells_too_big)


def _draw_lan(rng: random.Random) -> LinkQuality:
    """Mostly a cable, else what a radio makes of it."""
    if rng.random() < 0.9:
        return LAN_QUALITY
    return LinkQuality(delay_s=0.003, jitter_s=0.01, loss=rng.choice((0.0, 0.01)))


def _draw_quality(rng: random.Random) -> LinkQuality:
    quality = LinkQuality(
        delay_s=10 ** rng.uniform(-3, -1.0),
        jitter_s=rng.choice((0.0, 0.0, 0.005, 0.03)),
        loss=rng.choices((0.0, 0.01, 0.05, 0.15), (70, 15, 10, 5))[0],
        rate=rng.choices((None, 50e6, 2e6), (80, 15, 5))[0],
    )
    if quality.rate is not None and rng.random() < 0.3:
        quality = replace(quality, queue_bytes=65_536)
    oddities: tuple[Callable[[], LinkQuality], ...] = (
        lambda: replace(quality, bursts=Bursts(0.01, 0.3, rng.choice((1.0, 0.5)))),
        lambda: replace(quality, reorder=0.1, reorder_s=rng.choice((0.05, 0.2))),
        lambda: replace(quality, duplicate=0.1),
        lambda: replace(quality, mtu=rng.choice((1500, 1280, 1200)), tells_too_big=rng.random() < 0.5),
    )
    return rng.choice(oddities)() if rng.random() < 0.2 else quality


def _draw_mischief(rng: random.Random) -> Mischief:
    deeds = ("drop", "delay", "reorder", "lie", "duplicate", "alter", "reflect", "replay", "deny")
    chances = {deed: rng.choice((0.02, 0.1)) for deed in rng.sample(deeds, rng.randint(1, 3))}
    return Mischief(**chances, **({"delay_s": rng.choice((2.0, 10.0))} if "delay" in chances else {}))


# --- what happens


def _draw_action(rng: random.Random, plan: InternetPlan) -> Action:
    side = rng.choice(SIDES)
    routers = [router.name for router in plan.routers if router.name != "elsewhere"]
    relays = [relay.name for relay in plan.relays]
    draws: list[tuple[int, Callable[[], Action]]] = [
        (10, lambda: Transfer(side, int(10 ** rng.uniform(3, 5.3)))),
        (10, lambda: Pause(rng.choice((5.0, 20.0, 70.0, 130.0)))),
        (12, lambda: Reboot(rng.choice(routers), rng.random() < 0.3)),
        (3, lambda: Reboot(rng.choice(routers), rng.random() < 0.1, int(10 ** rng.uniform(3, 5)))),
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
