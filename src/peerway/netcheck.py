"""Reports of what a machine sits behind, as `Node.netcheck` gives them, and what to make of them.

report = await node.netcheck()
print(render(report))         # facts, a picture and a verdict, as `peerway netcheck` prints them
judge(report).difficulty      # OPEN, EASY, HARD, BLOCKED, UNKNOWN
json.dumps(record(report))    # what `peerway netcheck --json` prints
"""

from peerway.core.nat import PortAllocation
from peerway.core.netcheck.allocation import Allocation
from peerway.core.netcheck.findings import FilteringFinding, MappingFinding
from peerway.core.netcheck.lifetime import Lifetime
from peerway.core.netcheck.machine import NoServersError
from peerway.core.netcheck.record import record
from peerway.core.netcheck.report import RelayReport, Report
from peerway.core.netcheck.text import render
from peerway.core.netcheck.verdict import Difficulty, Verdict, judge

__all__ = [
    "Allocation",
    "Difficulty",
    "FilteringFinding",
    "Lifetime",
    "MappingFinding",
    "NoServersError",
    "PortAllocation",
    "RelayReport",
    "Report",
    "Verdict",
    "judge",
    "record",
    "render",
]
