"""Scenarios with names: what people ask about, and what once went wrong."""

from __future__ import annotations

from dataclasses import replace

from peerway.sim import (
    Block,
    Dial,
    HangUp,
    HostPlan,
    InterfacePlan,
    InternetPlan,
    LinkQuality,
    Partition,
    Pause,
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
from peerway.sim.homes import (
    CONE,
    FIREWALL,
    HOME,
    ONE_CARRIER,
    SYMMETRIC,
    TURNING_CARRIER,
    TWO_HOMES,
    TWO_SYMMETRIC,
)
from peerway.sim.plan import CARRIER_NETWORK
from peerway.sim.regressions import REGRESSIONS
from peerway.sim.scenario import NamedScenario

ASKED_ABOUT = (
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
        "reboot-and-renumber",
        "A home router restarts and has another address then.",
        Scenario(1, TWO_HOMES, (Dial("left"), Reboot("left-home", renumber=True), Transfer("right", 50_000))),
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
NAMED: dict[str, NamedScenario] = {named.name: named for named in (*ASKED_ABOUT, *REGRESSIONS)}
