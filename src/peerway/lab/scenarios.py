"""Named scenarios: a topology, and the story told in it (`stories`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from peerway.lab import stories
from peerway.lab.laboratory import LabError, Laboratory
from peerway.lab.layouts import (
    hub_and_spoke,
    junk_interfaces,
    pair,
    poisoned_in_a_row,
    same_numbers,
    three_firewalls,
    two_interfaces,
)
from peerway.lab.matrix import parse_cell
from peerway.lab.meeting import Meeting
from peerway.lab.stories import Step, Story
from peerway.lab.topology import SERVER, Topology


@dataclass(frozen=True, slots=True)
class Scenario:
    """A topology and the story told in it."""

    name: str
    explanation: str
    topology: Callable[[], Topology]
    story: Story


def scenario(name: str) -> Scenario:
    """A named scenario, or a cell ("LEFTxRIGHT") as one; CellError for anything else."""
    if name in SCENARIOS:
        return SCENARIOS[name]
    left, right = parse_cell(name)
    return Scenario(name, f"{left} dials {right}", lambda: pair(left, right), stories.cell_story(left, right))


def topology_of(name: str) -> Topology:
    """The topology of a named scenario or of a cell; CellError for anything else."""
    return scenario(name).topology()


async def run_scenario(name: str) -> AsyncIterator[Step]:
    """Tell the story, step by step; it ends early with a failed step where a node does not do its part.

    Close the iterator (`contextlib.aclosing`) when leaving it early. Raises `LabUnavailable`
    where there can be no lab, CellError for an unknown name.
    """
    told = scenario(name)
    async with Laboratory(told.topology()) as lab:
        meeting = Meeting(lab)
        await lab.start_workers(SERVER, *lab.topology.hosts)
        await meeting.serve()
        try:
            async for step in told.story(meeting):
                yield step
        except (LabError, TimeoutError) as error:
            yield Step(str(error) or "it took too long", False)


def _easy_pair() -> Topology:
    return pair("eim-apdf", "eim-apdf")


def _by_name(*scenarios: Scenario) -> dict[str, Scenario]:
    return {scenario.name: scenario for scenario in scenarios}


SCENARIOS: dict[str, Scenario] = _by_name(
    Scenario(
        "three-firewalls",
        "Three firewalls in a row on both sides: direct.",
        three_firewalls,
        stories.directly,
    ),
    Scenario("hub-spoke", "Spokes of every sort dial a public hub: direct.", hub_and_spoke, stories.spokes),
    Scenario(
        "spoke-dialled",
        "A public hub dials spokes of every sort: direct.",
        hub_and_spoke,
        stories.spokes_dialled,
    ),
    Scenario(
        "poisoned-pair",
        "Routers that an early probe spoils: direct, since first packets die on the way.",
        lambda: pair("poisoned", "poisoned"),
        stories.directly,
    ),
    Scenario(
        "junk-interfaces", "A dozen useless bridges on both hosts: direct.", junk_interfaces, stories.directly
    ),
    Scenario(
        "junk-on-lan",
        "The same on one network: they meet there.",
        lambda: junk_interfaces("same-lan"),
        stories.on_the_lan,
    ),
    Scenario(
        "poisoned-second-nat",
        "Two routers in a row, both of which an early probe spoils: direct in the second round of probing.",
        poisoned_in_a_row,
        stories.later_round,
    ),
    Scenario(
        "ipv6-literal",
        "No IPv4, and a relay whose URL names an IPv6 address: direct.",
        lambda: pair("v6-firewall", "v6-firewall"),
        stories.ipv6_literal,
    ),
    Scenario(
        "slow-ipv6",
        "IPv6 takes a detour: data takes IPv4.",
        lambda: pair("dual-stack", "dual-stack"),
        stories.slow_ipv6,
    ),
    Scenario(
        "ipv6-lost",
        "IPv6 breaks during a transfer: to IPv4, and back when it is mended.",
        lambda: pair("dual-stack", "dual-stack"),
        stories.ipv6_lost,
    ),
    Scenario(
        "same-numbers", "Both homes use the same private network: direct.", same_numbers, stories.directly
    ),
    Scenario(
        "two-interfaces",
        "The uplink in use goes away during a transfer: it goes on over the other.",
        two_interfaces,
        stories.survives(
            "the first uplink is gone", lambda meeting: meeting.faults.unplug("left"), seconds=8.0
        ),
    ),
    Scenario(
        "two-speeds",
        "Of two uplinks the system's favourite is slow: data takes the other.",
        two_interfaces,
        stories.two_speeds,
    ),
    Scenario(
        "quiet-connection",
        "Mappings live 10 s, and a few bytes go every 20 s for two minutes: direct throughout.",
        _easy_pair,
        stories.quiet,
    ),
    Scenario(
        "short-timeout",
        "Mappings die in silence: the path is rebuilt on demand.",
        _easy_pair,
        stories.short_timeout,
    ),
    Scenario(
        "cut-and-climb",
        "The direct path dies during a transfer: to the relay, and back up when it lives.",
        _easy_pair,
        stories.cut_and_climb,
    ),
    Scenario(
        "router-reboot",
        "Both routers forget every mapping during a transfer.",
        _easy_pair,
        stories.survives("both routers forget everything", lambda meeting: meeting.faults.reboot()),
    ),
    Scenario(
        "new-address",
        "The left router gets another public address during a transfer.",
        _easy_pair,
        stories.survives(
            "the left router has a new address", lambda meeting: meeting.faults.change_address("left-router")
        ),
    ),
    Scenario(
        "moved-ports",
        "The left router reboots into giving other public ports during a transfer.",
        _easy_pair,
        stories.survives(
            "the left router gives other ports", lambda meeting: meeting.faults.move_ports("left-router")
        ),
    ),
    Scenario(
        "relay-lost", "The relay dies under a direct connection, and returns.", _easy_pair, stories.relay_lost
    ),
    Scenario(
        "tls-only",
        "No UDP on either side: by a relay with TLS on port 443, its certificate pinned.",
        lambda: pair("udp-blocked", "udp-rejected"),
        stories.tls_only,
    ),
    Scenario(
        "black-hole", "Large packets start to vanish on the direct path.", _easy_pair, stories.black_hole
    ),
    Scenario("lossy-lines", "Both access lines lose 30 % of UDP each way.", _easy_pair, stories.lossy),
    Scenario("far-apart", "40 ms on each access line, each way: direct.", _easy_pair, stories.far_apart),
)
