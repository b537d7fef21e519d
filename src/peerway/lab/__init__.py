"""Real Linux NATs in network namespaces: what peerway is proven against.

A network is planned as a tree (`plan`) of kinds of router (`kinds`); hosts are at `places`. `layouts`
has the usual shapes, `building` gives them addresses and routes (`topology`). A `Laboratory` builds
one inside one `unshare` and hands out orders to one interpreter per machine; `faults` break
things in it, `matrix` and `scenarios` run nodes in it and say what came of it.
"""

from peerway.lab.kinds import KINDS, Kind
from peerway.lab.laboratory import Laboratory, LabUnavailable
from peerway.lab.places import PLACES, Place, expected

__all__ = ["KINDS", "PLACES", "Kind", "LabUnavailable", "Laboratory", "Place", "expected"]
