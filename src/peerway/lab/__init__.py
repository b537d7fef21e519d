"""Real Linux NATs in network namespaces: what peerway is proven against.

A topology is data (`topology`), made of kinds of router (`kinds`). A `Laboratory` builds it
inside one `unshare` and hands out orders to one interpreter per machine; `faults` break
things in it, `matrix` and `scenarios` run nodes in it and say what came of it.
"""

from peerway.lab.kinds import KINDS, Kind, expected
from peerway.lab.laboratory import Laboratory, LabUnavailable

__all__ = ["KINDS", "Kind", "LabUnavailable", "Laboratory", "expected"]
