"""The simulated internet: the real machines, with addresses, links, NATs and time made up.

Here are the words that a scenario is written in. What is done with one stands in modules:
`run.run` runs it, `outlook.outlook` says how it must end, `shrink.shrink` makes it smaller,
`diagram.sequence_diagram` draws it, `draw.draw` invents one and `campaign.run_seeds` thousands.

Beneath are the parts of the world: `network` (virtual time and the trace, links, routers in a tree,
NATs, hosts), `transport` (what carries streams in QUIC's place), `attack` (who means harm), `watch`
(what must never happen) and `nodes` (whole nodes on hosts). Put your own together with them:
docs/how-to/simulate-a-network.md. NATs do here what the kernel's do: tests/lab/test_ground_truth.py
asks both the same questions. `population` says how the real internet would fare.
"""

from peerway.core.nat import Filtering, Mapping, PortAllocation
from peerway.sim.attack.hostile_relay import Mischief
from peerway.sim.network.behaviour import Hairpin, NatBehaviour, Pooling
from peerway.sim.network.link import Bursts, LinkQuality
from peerway.sim.plan import CORE, HostPlan, InterfacePlan, InternetPlan, RelayPlan, RouterPlan
from peerway.sim.scenario import (
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

__all__ = [
    "CORE",
    "Action",
    "Block",
    "Bursts",
    "Dial",
    "Filtering",
    "Guest",
    "Hairpin",
    "HangUp",
    "HostPlan",
    "InterfacePlan",
    "InternetPlan",
    "LinkQuality",
    "Mapping",
    "Mischief",
    "NatBehaviour",
    "Partition",
    "Pause",
    "Pooling",
    "PortAllocation",
    "Reboot",
    "RelayPlan",
    "Restart",
    "Roam",
    "RouterPlan",
    "Scenario",
    "Sleep",
    "Transfer",
    "Unplug",
]
