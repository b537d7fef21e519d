"""Strangers at the core have both families, and attackers see and reach whatever goes through it."""

from collections import Counter
from dataclasses import replace

from peerway.core.machine import UdpAddress
from peerway.core.path.events import PathProven
from peerway.sim.attack.attacker import Attacker, Forgery, Strategy
from peerway.sim.attack.bad_peer import BadPeer
from peerway.sim.attack.manners import MANNERS
from peerway.sim.attack.strategies import HARMLESS
from peerway.sim.conversation import Conversation
from peerway.sim.homes import FIREWALL, TWO_HOMES
from peerway.sim.internet import Internet
from peerway.sim.network.host import Host
from peerway.sim.network.tap import Moment
from peerway.sim.nodes import STUN_PORT
from peerway.sim.plan import HostPlan, InterfacePlan, RelayPlan, RouterPlan

ONLY_IPV6 = replace(
    TWO_HOMES,
    routers=tuple(RouterPlan(f"{side}-home", nat6=FIREWALL) for side in ("left", "right")),
    hosts=tuple(HostPlan(side, (InterfacePlan(f"{side}-home", (6,)),)) for side in ("left", "right")),
    relays=(RelayPlan("relay.test", (4, 6)),),
)


def attacked(plan, strategies=HARMLESS):
    """Two who are connected, attacked all along, and the attacker."""
    internet = Internet(plan, seed=1)
    talk = Conversation(internet)
    attacker = Attacker(
        internet.world,
        internet.stranger("attacker"),
        internet.uplinks,
        strategies,
        targets=[talk.node_id("left")],
        watches=Moment.ARRIVED,
    )
    internet.world.run_for(3.0)
    talk.dial("left")
    internet.world.run_for(10.0)
    assert all(map(talk.is_direct, ("left", "right")))
    return internet, attacker


def test_strangers_have_an_address_of_each_family_that_nobody_else_has():
    internet = Internet(TWO_HOMES, seed=1)
    hosts = [internet.stranger("one"), internet.stranger("two"), *internet.relays.values()]
    ips = [address.ip for host in hosts for address in host.addresses]
    assert len(set(ips)) == len(ips)
    assert [":" in address.ip for address in hosts[0].addresses] == [False, True]


def test_an_attacker_reaches_who_has_ipv6_alone():
    _, attacker = attacked(ONLY_IPV6)
    assert all(attacker.sent[strategy.name] for strategy in HARMLESS if strategy.poured is None)


def test_an_attacker_sees_what_stun_servers_ask_and_answer():
    _, attacker = attacked(TWO_HOMES)
    seen = Counter((seen.source.port, seen.destination.port) for seen in attacker.view.packets)
    assert any(source == STUN_PORT for source, _ in seen)
    assert any(destination == STUN_PORT for _, destination in seen)


def test_what_does_not_leave_is_not_counted_and_costs_nothing():
    internet = Internet(TWO_HOMES, seed=1)
    mallory, victim = Host(internet.world, "mallory"), internet.stranger("victim")
    mallory.attach(internet.core, "6.0.0.2/24")

    def provoked(view, seen):
        yield from [Forgery(seen.source, UdpAddress("2001:db8::2", 2), b"")] * 50
        yield Forgery(seen.source, seen.destination, b"")

    strategies = (Strategy("many", provoked=provoked),)
    attacker = Attacker(internet.world, mallory, [victim.link()], strategies, per_s=10.0)
    victim.inject(UdpAddress("5.1.0.2", 1), UdpAddress("5.2.0.2", 2), b"")
    assert attacker.sent["many"] == mallory.packets_sent == 1


def test_a_guest_meets_who_has_ipv6_alone():
    internet = Internet(ONLY_IPV6, seed=1)
    talk = Conversation(internet)
    internet.world.run_for(3.0)
    guest = BadPeer(
        internet.world,
        internet.stranger("guest"),
        talk.ticket("left"),
        MANNERS["speaks in others' names"],
        talk.transports,
    )
    talk.admit("left", guest.machine.key.node_id)
    internet.world.run_for(10.0)
    proven = [event.remote for _, _, event in talk.node("left").events if isinstance(event, PathProven)]
    assert [remote.ip for remote in proven if isinstance(remote, UdpAddress)] == ["2001:db8:fffe:2::1"]
    assert guest.forged > 100
