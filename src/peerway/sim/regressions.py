"""Scenarios that once went wrong, each as small as it could be made.

A regression keeps its scenario, not only its seed: what is drawn for a seed changes. `peerway sim
run` prints a failure in the form in which it is written here (see `peerway.sim.written`).
"""

from __future__ import annotations

from dataclasses import replace

from peerway.sim import (
    Bursts,
    Dial,
    Guest,
    Hairpin,
    HangUp,
    HostPlan,
    InterfacePlan,
    InternetPlan,
    LinkQuality,
    Mapping,
    Mischief,
    NatBehaviour,
    Partition,
    Pause,
    PortAllocation,
    Reboot,
    RelayPlan,
    Roam,
    RouterPlan,
    Scenario,
    Sleep,
    Unplug,
)
from peerway.sim.homes import (
    EVER_NEW,
    HOME,
    ONE_CARRIER,
    RESTRICTED,
    SYMMETRIC,
    TWO_HOMES,
)
from peerway.sim.plan import CARRIER_NETWORK
from peerway.sim.scenario import NamedScenario

REGRESSIONS = (
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
        "closed-while-arriving",
        "A cable is pulled in the moment in which a packet has come by it.",
        Scenario(
            4004561,
            replace(
                TWO_HOMES,
                routers=(
                    RouterPlan("left-home", nat4=HOME, quality=LinkQuality(delay_s=0.002, reorder=0.1)),
                    RouterPlan(
                        "right-home",
                        nat4=HOME,
                        quality=LinkQuality(delay_s=0.009, jitter_s=0.03, loss=0.01),
                        inside="192.168.3",
                    ),
                    RouterPlan("elsewhere", nat4=HOME),
                ),
            ).with_host(
                HostPlan("right", (InterfacePlan("right-home"), InterfacePlan("elsewhere", name="wwan0")))
            ),
            (Dial("left"), Unplug("right", 1.0)),
        ),
    ),
    NamedScenario(
        "asleep-while-waiting",
        "Who waits for a dial sleeps until the relay gives up on it: found again once the relay is missed.",
        Scenario(1, TWO_HOMES, (Dial("left"), HangUp("left"), Sleep("left", 60.0), Dial("right"))),
    ),
    NamedScenario(
        "relay-among-many-addresses",
        "A relay comes back when the peer has as many addresses as there is room for.",
        Scenario(
            4037000,
            replace(
                TWO_HOMES,
                routers=(RouterPlan("left-home", nat4=EVER_NEW), RouterPlan("right-home", nat4=EVER_NEW)),
                hosts=(
                    HostPlan("left", (InterfacePlan("left-home"),), bridges=14),
                    HostPlan(
                        "right", (InterfacePlan("right-home"), InterfacePlan("right-home", name="wwan0"))
                    ),
                ),
            ),
            (Dial("left"), Partition("right-home", 4.0)),
        ),
    ),
    NamedScenario(
        "lost-after-an-outage",
        "What a relay held back in an outage is taken for a round trip, and then a packet is lost.",
        Scenario(
            4040633,
            replace(
                TWO_HOMES,
                routers=(
                    RouterPlan(
                        "left-home",
                        nat4=HOME,
                        quality=LinkQuality(delay_s=0.0039, loss=0.05, reorder=0.1),
                    ),
                    RouterPlan(
                        "right-home",
                        nat4=replace(HOME, block_ports=64),
                        quality=LinkQuality(delay_s=0.015674465454952453, jitter_s=0.005),
                    ),
                ),
            ),
            (Dial("right"), Partition("right", 15.0)),
        ),
    ),
    NamedScenario(
        "port-taken-by-another",
        "A router that keeps ports has another for the STUN server, where somebody else has ours.",
        Scenario(
            5005260,
            InternetPlan(
                (
                    RouterPlan("carrier", nat4=replace(HOME, hairpin=Hairpin.EXTERNAL_SOURCE)),
                    RouterPlan("right-home", uplink="carrier", quality=LinkQuality(mtu=1200)),
                    RouterPlan("right-mobile", nat4=replace(HOME, input_open=True)),
                ),
                (
                    HostPlan("left", (InterfacePlan("right-mobile"),), port=41641, bridges=14),
                    HostPlan(
                        "right",
                        (InterfacePlan("right-home"), InterfacePlan("right-mobile", name="wwan0")),
                        port=41641,
                    ),
                ),
            ),
            (Dial("right"), Roam("left", "carrier")),
        ),
    ),
    NamedScenario(
        "number-of-our-own-router",
        "The peer's private address is our own router's, who gives what it gives for that ever after.",
        Scenario(
            6021415,
            replace(
                TWO_HOMES,
                routers=(
                    RouterPlan("left-outer0", nat4=HOME),
                    RouterPlan(
                        "left-home",
                        uplink="left-outer0",
                        nat4=replace(HOME, hairpin=Hairpin.EXTERNAL_SOURCE),
                        inside="192.168.3",
                    ),
                    RouterPlan("right-home", nat4=HOME),
                ),
            ),
            (Dial("left"), Reboot("right-home", renumber=True)),
        ),
    ),
    NamedScenario(
        "memory-kept-alive",
        "A router that a host has not left remembers its old address, and an attacker's replays see to it.",
        Scenario(
            6022495,
            TWO_HOMES.with_host(HostPlan("left", (InterfacePlan("left-home"),), bridges=14)),
            (Dial("right"), Unplug("left", 50.0)),
            attacks=("late replays",),
        ),
    ),
    NamedScenario(
        "dial-kept-back",
        "Both dial, and a relay keeps the dial that gave way until all is over: it is answered in vain.",
        Scenario(
            7000029,
            InternetPlan(
                (RouterPlan("carrier"), RouterPlan("left-home", uplink="carrier")),
                (
                    HostPlan("left", (InterfacePlan("left-home"),)),
                    HostPlan("right", (InterfacePlan("left-home"), InterfacePlan("carrier", name="wwan0"))),
                ),
                relays=(RelayPlan("relay1.test", mischief=Mischief(lie=0.1, replay=0.1)),),
            ),
            (Dial("both"),),
            guests=(Guest("left", "names hundreds of networks"),),
        ),
    ),
    NamedScenario(
        "back-at-the-relay-late",
        "A line is back before its host tries the relay again, where it may be dialled only then.",
        Scenario(
            5009353,
            replace(
                TWO_HOMES,
                routers=(
                    RouterPlan("left-home", nat4=HOME, quality=LinkQuality(delay_s=0.001)),
                    RouterPlan("right-home", quality=LinkQuality(delay_s=0.04)),
                ),
            ),
            (Dial("right"), Partition("relay1.test", 40.0), Partition("right-home", 40.0)),
        ),
    ),
    NamedScenario(
        "outage-just-over",
        "A host with two ways out still doubts the second when the outage that took the first is over.",
        Scenario(
            9012146,
            InternetPlan(
                (
                    RouterPlan("left-home", quality=LinkQuality(delay_s=0.002, jitter_s=0.03)),
                    RouterPlan("right-home", quality=LinkQuality(delay_s=0.039)),
                    RouterPlan("elsewhere", nat4=NatBehaviour()),
                ),
                (
                    HostPlan("left", (InterfacePlan("left-home"), InterfacePlan("elsewhere", name="wwan0"))),
                    HostPlan("right", (InterfacePlan("right-home"),)),
                ),
            ),
            (Dial("right"), Partition("right-home", 1.0), Pause(1.0)),
        ),
    ),
    NamedScenario(
        "crowded-out",
        "A second way out, by a hard NAT, has a port for each server, and leaves room for that of the first.",
        Scenario(
            81271,
            InternetPlan(
                (
                    RouterPlan("left-home", nat4=HOME),
                    RouterPlan("right-home", nat4=HOME, quality=LinkQuality(delay_s=0.05)),
                    RouterPlan("right-mobile", nat4=SYMMETRIC, inside="10.2.0"),
                ),
                (
                    HostPlan("left", (InterfacePlan("left-home"),)),
                    HostPlan(
                        "right", (InterfacePlan("right-home"), InterfacePlan("right-mobile", name="wwan0"))
                    ),
                ),
                relays=tuple(RelayPlan(f"relay{number}.test") for number in (1, 2, 3)),
            ),
            (Dial("left"),),
        ),
    ),
    NamedScenario(
        "met-late",
        "Who is dialled is back after eleven seconds, when a carrier's NAT has forgotten our question.",
        Scenario(
            30001161,
            replace(
                ONE_CARRIER,
                routers=(
                    RouterPlan(
                        "carrier",
                        nat4=NatBehaviour(idle_s=10.0, hairpin=Hairpin.EXTERNAL_SOURCE),
                        inside=CARRIER_NETWORK,
                    ),
                    RouterPlan("left-home", uplink="carrier", nat4=NatBehaviour()),
                    RouterPlan("right-home", uplink="carrier", nat4=NatBehaviour()),
                ),
                down=("right-home",),
            ),
            (Partition("right-home", 5.0), Dial("left")),
        ),
    ),
    NamedScenario(
        "lost-twice",
        "After a loss a round begins with the likelier reach, and not before routers forgot the last pings.",
        Scenario(
            30004447,
            InternetPlan(
                (
                    RouterPlan(
                        "left-home",
                        nat4=NatBehaviour(input_open=True),
                        quality=LinkQuality(jitter_s=0.03),
                    ),
                    RouterPlan(
                        "right-home",
                        nat4=NatBehaviour(ports=PortAllocation.RANDOM),
                        quality=LinkQuality(delay_s=0.08),
                    ),
                ),
                (
                    HostPlan("left", (InterfacePlan("left-home"),)),
                    HostPlan("right", (InterfacePlan("right-home"),), bridges=14),
                ),
            ),
            (Dial("right"), Partition("left-home", 1.0), Reboot("right-home", under=76917)),
        ),
    ),
    NamedScenario(
        "by-the-relay-for-a-moment",
        "A path is doubted once an outage is over, and what is sent in that moment goes by the relay.",
        Scenario(
            31000755,
            InternetPlan(
                (
                    RouterPlan("carrier", quality=LinkQuality(delay_s=0.004)),
                    RouterPlan(
                        "left-outer0",
                        quality=LinkQuality(
                            delay_s=0.02230702670496066, jitter_s=0.005, reorder=0.1, reorder_s=0.2
                        ),
                    ),
                    RouterPlan("right-outer0", uplink="carrier", downward=LinkQuality(jitter_s=0.03)),
                    RouterPlan("right-home", uplink="right-outer0", nat4=NatBehaviour()),
                ),
                (
                    HostPlan(
                        "left",
                        (InterfacePlan("left-outer0", quality=LinkQuality(delay_s=0.003, jitter_s=0.01)),),
                    ),
                    HostPlan("right", (InterfacePlan("right-home"),)),
                ),
            ),
            (Dial("left"), Partition("carrier", 1.0), Partition("right-outer0", 1.0)),
        ),
    ),
    NamedScenario(
        "asked-too-early",
        "Relay and STUN server are back just before a dial: what was asked before is asked anew.",
        Scenario(
            20075181,
            replace(TWO_HOMES, down=("relay1.test",)),
            (Partition("relay1.test", 1.0), Dial("right")),
        ),
    ),
    NamedScenario(
        "port-back-while-idle",
        "A router forgets a port it gave; who gets it back says so, though nothing else is said.",
        Scenario(
            20070247,
            replace(
                TWO_HOMES,
                routers=(
                    RouterPlan("left-home", nat4=HOME, maps_ports=True),
                    RouterPlan("right-home", nat4=HOME, maps_ports=True),
                ),
            ),
            (Dial("left"), Reboot("right-home"), Pause(130.0)),
        ),
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
)
