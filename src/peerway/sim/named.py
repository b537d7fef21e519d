"""Scenarios with names: what people ask about, and what once went wrong.

A regression keeps its scenario, not only its seed: what is drawn for a seed changes. `peerway sim
run` prints a failure in the form in which it is written here (see `peerway.sim.written`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from peerway.sim import (
    Block,
    Bursts,
    Dial,
    Filtering,
    Guest,
    Hairpin,
    HangUp,
    HostPlan,
    InterfacePlan,
    InternetPlan,
    LinkQuality,
    Mapping,
    NatBehaviour,
    Partition,
    Pause,
    PortAllocation,
    Reboot,
    RelayPlan,
    Restart,
    Roam,
    RouterPlan,
    Scenario,
    Sleep,
    Transfer,
    Unplug,
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


@dataclass(frozen=True, slots=True)
class NamedScenario:
    """A scenario, and in one sentence what it is about."""

    name: str
    explanation: str
    scenario: Scenario


_ALL = (
    NamedScenario(
        "two-homes",
        "Two homes behind ordinary routers: through the relay at once, then directly.",
        Scenario(1, TWO_HOMES, (Dial("left"), Transfer("left", 200_000), Transfer("right", 200_000))),
    ),
    NamedScenario(
        "both-dial",
        "Both dial at the same moment, and one connection comes of it.",
        Scenario(1, TWO_HOMES, (Dial("both"), Transfer("right", 50_000))),
    ),
    NamedScenario(
        "one-lan",
        "Two hosts behind one symmetric NAT, and neither asks it for anything.",
        Scenario(
            1,
            InternetPlan(
                (RouterPlan("home", nat4=SYMMETRIC),),
                (HostPlan("left", (InterfacePlan("home"),)), HostPlan("right", (InterfacePlan("home"),))),
            ),
            (Dial("left"), Transfer("left", 50_000)),
        ),
    ),
    NamedScenario(
        "two-symmetric",
        "Two symmetric NATs: the relay carries everything.",
        Scenario(1, TWO_SYMMETRIC, (Dial("left"), Transfer("left", 100_000))),
    ),
    NamedScenario(
        "symmetric-with-ports",
        "Two symmetric NATs, one of which gives ports on request.",
        Scenario(
            1,
            TWO_SYMMETRIC.with_router(RouterPlan("right-home", nat4=SYMMETRIC, maps_ports=True)),
            (Dial("left"), Transfer("left", 50_000), HangUp("left")),
        ),
    ),
    NamedScenario(
        "symmetric-and-cone",
        "A symmetric NAT, and one that lets everybody in.",
        Scenario(
            1,
            TWO_SYMMETRIC.with_router(RouterPlan("right-home", nat4=CONE)),
            (Dial("left"), Transfer("left", 50_000)),
        ),
    ),
    NamedScenario(
        "hairpin",
        "Two homes behind one carrier, whose NAT turns packets round.",
        Scenario(1, TURNING_CARRIER, (Dial("left"), Transfer("right", 50_000))),
    ),
    NamedScenario(
        "no-hairpin",
        "Two homes behind one carrier, whose NAT does not turn packets round.",
        Scenario(1, ONE_CARRIER, (Dial("left"), Transfer("right", 50_000))),
    ),
    NamedScenario(
        "poisoned-outer-nat",
        "A NAT that remembers what it turned away, one hop further out than a first probe's TTL reaches.",
        Scenario(
            1,
            InternetPlan(
                (
                    RouterPlan("left-home", nat4=HOME),
                    RouterPlan("right-street", nat4=replace(HOME, input_open=True), inside=CARRIER_NETWORK),
                    RouterPlan("right-home", "right-street", HOME),
                ),
                TWO_HOMES.hosts,
            ),
            (Dial("right"),),
        ),
    ),
    NamedScenario(
        "ipv6",
        "Symmetric NATs for IPv4, and IPv6 behind firewalls.",
        Scenario(
            1,
            InternetPlan(
                (
                    RouterPlan("left-home", nat4=SYMMETRIC, nat6=FIREWALL),
                    RouterPlan("right-home", nat4=SYMMETRIC, nat6=FIREWALL),
                ),
                (
                    HostPlan("left", (InterfacePlan("left-home", (4, 6)),)),
                    HostPlan("right", (InterfacePlan("right-home", (4, 6)),)),
                ),
                (RelayPlan("relay1.test", (4, 6)),),
            ),
            (Dial("right"), Transfer("left", 50_000)),
        ),
    ),
    NamedScenario(
        "rough-lines",
        "Lines that lose, delay and reorder much.",
        Scenario(
            1,
            replace(
                TWO_HOMES,
                routers=(
                    RouterPlan("left-home", nat4=HOME, quality=LinkQuality(0.04, jitter_s=0.03, loss=0.1)),
                    RouterPlan("right-home", nat4=HOME, quality=LinkQuality(0.08, loss=0.05, reorder=0.1)),
                ),
            ),
            (Dial("left"), Transfer("left", 100_000), Transfer("right", 100_000)),
        ),
    ),
    NamedScenario(
        "relay-lost",
        "The relay is away for a while, and then carries what nothing else can.",
        Scenario(1, TWO_SYMMETRIC, (Dial("left"), Partition("relay1.test", 15.0), Transfer("left", 50_000))),
    ),
    NamedScenario(
        "relay-lost-unnoticed",
        "The relay is away for a while, and a direct path needs none.",
        Scenario(1, TWO_HOMES, (Dial("left"), Partition("relay1.test", 40.0), Transfer("left", 50_000))),
    ),
    NamedScenario(
        "one-relay-of-two",
        "One of two relays is away, and the other carries on.",
        Scenario(
            1,
            replace(TWO_SYMMETRIC, relays=(RelayPlan("relay1.test"), RelayPlan("relay2.test"))),
            (Dial("left"), Partition("relay1.test", 40.0), Transfer("right", 50_000)),
        ),
    ),
    NamedScenario(
        "roam",
        "A laptop goes to a café and comes home, and stays connected.",
        Scenario(
            1,
            replace(TWO_HOMES, routers=(*TWO_HOMES.routers, RouterPlan("café", nat4=CONE, inside="10.0.0"))),
            (
                Dial("left"),
                Roam("left", "café"),
                Transfer("left", 50_000),
                Roam("left", "left-home"),
                Transfer("right", 50_000),
            ),
        ),
    ),
    NamedScenario(
        "late-hello",
        "Both dial at once, and a bad line delays one hello until the other has been answered.",
        Scenario(
            502399,
            InternetPlan(
                (
                    RouterPlan("left-home", quality=LinkQuality(delay_s=0.04, loss=0.15)),
                    RouterPlan("right-mobile"),
                ),
                (
                    HostPlan("left", (InterfacePlan("left-home"),)),
                    HostPlan("right", (InterfacePlan("right-mobile"),)),
                ),
                relays=(RelayPlan("relay1.test"), RelayPlan("relay2.test")),
            ),
            (Dial("both"),),
        ),
    ),
    NamedScenario(
        "ever-new-ports",
        "Two NATs let everything in, and show a new port to each address: pings come to an end.",
        Scenario(
            802045,
            replace(
                TWO_HOMES,
                routers=(
                    RouterPlan("left-home", nat4=EVER_NEW, quality=LinkQuality(delay_s=0.02, loss=0.05)),
                    RouterPlan("right-home", nat4=EVER_NEW, quality=LinkQuality(delay_s=0.02)),
                ),
            ),
            (Dial("left"), Pause(130.0)),
        ),
    ),
    NamedScenario(
        "remembered-elsewhere",
        "A router that a host has not left goes on sending to the address it had there, until it forgets.",
        Scenario(
            2007296,
            replace(
                TWO_HOMES,
                routers=(
                    RouterPlan("left-home", nat4=replace(RESTRICTED, memory_s=60.0)),
                    RouterPlan(
                        "right-home",
                        nat4=NatBehaviour(mapping=Mapping.ADDRESS_DEPENDENT, ports=PortAllocation.RANDOM),
                    ),
                ),
            ),
            (Dial("right"), Unplug("left", 50.0)),
        ),
    ),
    NamedScenario(
        "goodbye-while-roaming",
        "A stranger is shown the door, and meanwhile the host has another address.",
        Scenario(
            3001452,
            InternetPlan(
                (
                    RouterPlan("right-outer0", quality=LinkQuality(bursts=Bursts(0.01, 0.3))),
                    RouterPlan("right-mobile"),
                ),
                (
                    HostPlan("left", (InterfacePlan("right-mobile"),)),
                    HostPlan(
                        "right",
                        (InterfacePlan("right-outer0"), InterfacePlan("right-mobile", name="wwan0")),
                    ),
                ),
            ),
            (Dial("left"), Roam("right", "right-mobile")),
            guests=(Guest("right", "dials without end"),),
        ),
    ),
    NamedScenario(
        "replay-after-replug",
        "A cable is pulled and plugged in again, and somebody sends what was sent before.",
        Scenario(
            3001542,
            InternetPlan(
                (
                    RouterPlan("carrier", nat4=HOME, quality=LinkQuality(delay_s=0.004)),
                    RouterPlan("right-mobile", nat4=HOME, inside="10.4.0"),
                    RouterPlan("elsewhere", nat4=HOME, inside="192.168.7"),
                ),
                (
                    HostPlan("left", (InterfacePlan("carrier"), InterfacePlan("elsewhere", name="wwan0"))),
                    HostPlan(
                        "right",
                        (
                            InterfacePlan("right-mobile", families=(4, 6)),
                            InterfacePlan("right-mobile", name="wwan0"),
                        ),
                    ),
                ),
                relays=(
                    RelayPlan("relay1.test", families=(4, 6)),
                    RelayPlan("relay2.test", families=(4, 6)),
                ),
            ),
            (Dial("left"), Unplug("right", 0.5)),
            attacks=("late replays",),
        ),
    ),
    NamedScenario(
        "reboot-unnoticed",
        "A router forgets the connections of somebody who waits: found again once the relay is missed.",
        Scenario(
            1, TWO_HOMES, (Dial("left"), HangUp("left"), Reboot("right-home", renumber=True), Dial("left"))
        ),
    ),
    NamedScenario(
        "reboot-and-renumber",
        "A home router restarts and has another address then.",
        Scenario(1, TWO_HOMES, (Dial("left"), Reboot("left-home", renumber=True), Transfer("right", 50_000))),
    ),
    NamedScenario(
        "reboot-under-load",
        "Home routers restart while much is sent, which costs nobody the direct path.",
        Scenario(
            1,
            TWO_HOMES,
            (Dial("left"), Reboot("right-home", under=80_000), Reboot("left-home", under=80_000)),
        ),
    ),
    NamedScenario(
        "long-partition",
        "A line is cut for so long that the connection ends, and begins anew.",
        Scenario(1, TWO_HOMES, (Dial("left"), Partition("right-home", 130.0), Transfer("left", 50_000))),
    ),
    NamedScenario(
        "udp-blocked",
        "A firewall begins to block UDP: the relay carries on within seconds, until there is a way again.",
        Scenario(1, TWO_HOMES, (Dial("left"), Block("right-home", 40.0), Transfer("left", 50_000))),
    ),
    NamedScenario(
        "restart",
        "A program is killed, begins anew with its key, and its peer takes it for the same.",
        Scenario(1, TWO_HOMES, (Dial("left"), Restart("right"), Transfer("right", 50_000))),
    ),
    NamedScenario(
        "lid-closed",
        "A laptop sleeps for half an hour, and has much to say when it wakes.",
        Scenario(1, TWO_HOMES, (Dial("right"), Sleep("left", 1800.0), Transfer("left", 50_000))),
    ),
    NamedScenario(
        "cable-pulled",
        "A host with a cable and a mobile phone loses the cable, and gets it back.",
        Scenario(
            1,
            replace(
                TWO_HOMES.with_host(
                    HostPlan("left", (InterfacePlan("left-home"), InterfacePlan("mobile", name="wwan0")))
                ),
                routers=(
                    *TWO_HOMES.routers,
                    RouterPlan("mobile", nat4=SYMMETRIC, inside=CARRIER_NETWORK, quality=LinkQuality(0.04)),
                ),
            ),
            (Dial("left"), Unplug("left", 10.0), Transfer("right", 50_000)),
        ),
    ),
    NamedScenario(
        "silence",
        "Nothing is said until nothing is sent and every mapping is gone; then there is much to say.",
        Scenario(1, TWO_HOMES, (Dial("left"), Pause(200.0), Transfer("right", 50_000), HangUp("right"))),
    ),
)
NAMED: dict[str, NamedScenario] = {named.name: named for named in _ALL}
