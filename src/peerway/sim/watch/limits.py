"""The named limits of a node's queues and tables, each with a way to see how full it is.

An oracle that looks inside: it reads what machines keep to themselves, so that a limit that is
named and not held is found whatever the machines say. A table that is renamed breaks its row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from peerway.core import budget, flight, link, link_table, links
from peerway.core.link import Link
from peerway.core.machine import Composite, Leaf, Machine
from peerway.core.node import NodeMachine
from peerway.core.path import candidate, gather, pair, pairs
from peerway.core.path.agent import PathAgent
from peerway.core.relay import outbox
from peerway.core.signal import door, routes
from peerway.core.stun import client

REASONS_LIMIT = 40  # that one machine counts by


@dataclass(frozen=True, slots=True)
class Limit:
    """What is bounded, by how much, and the numbers it has now in a node: none may be larger."""

    what: str
    most: int
    used: Callable[[NodeMachine], Iterator[int]]


def _links(node: NodeMachine) -> Iterator[Link]:
    for _, found in node._links._table:
        yield found


def _agents(node: NodeMachine) -> Iterator[PathAgent]:
    for found in _links(node):
        if found._agent is not None:
            yield found._agent


def _pending_per_peer(node: NodeMachine) -> Iterator[int]:
    table = node._links._table
    yield from Counter(table[number].peer for number in table._pending).values()


def _outboxes(node: NodeMachine) -> Iterator[outbox.Outbox]:
    for keeper in node._relays._keepers.values():
        if keeper._client is not None:
            yield keeper._client._outbox


def _machines(machine: Machine) -> Iterator[Machine]:
    """The machine and all that are inside it."""
    yield machine
    if isinstance(machine, Composite):
        for child in machine._children.values():
            yield from _machines(child.machine)


def _one(used: Callable[[NodeMachine], int]) -> Callable[[NodeMachine], Iterator[int]]:
    return lambda node: iter((used(node),))


def _each_link(used: Callable[[Link], int]) -> Callable[[NodeMachine], Iterator[int]]:
    return lambda node: (used(found) for found in _links(node))


def _each_agent(used: Callable[[PathAgent], int]) -> Callable[[NodeMachine], Iterator[int]]:
    return lambda node: (used(found) for found in _agents(node))


LIMITS = (
    Limit("links", link_table.MAX_LINKS, _one(lambda node: len(node._links._table))),
    Limit("pending exchanges", link_table.MAX_PENDING, _one(lambda node: len(node._links._table._pending))),
    Limit(
        "pending exchanges of a source",
        link_table.MAX_PENDING_PER_SOURCE,
        lambda node: iter(Counter(node._links._table._pending.values()).values()),
    ),
    Limit("pending exchanges of a peer", link_table.MAX_PENDING_PER_PEER, _pending_per_peer),
    Limit("shared keys", door.MAX_SHARED_KEYS, _one(lambda node: len(node._links._door._shared))),
    Limit("sources of boxes", budget.MAX_SOURCES, _one(lambda node: len(node._links._door._budget._sources))),
    Limit(
        "places of peers' boxes",
        budget.MAX_SOURCES,
        _one(lambda node: len(node._links._door._budget._routes)),
    ),
    Limit("places of dials", budget.MAX_DIALLERS, _one(lambda node: len(node._links._dials._diallers))),
    Limit("networks probed", budget.MAX_NETWORKS, _one(lambda node: len(node.budget._networks))),
    Limit("addresses probed", budget.MAX_ADDRESSES, _one(lambda node: len(node.budget._addresses))),
    Limit("spent secrets", links.MAX_SPENT_SECRETS, _one(lambda node: len(node._links._spent))),
    Limit(
        "reasons of drops",
        REASONS_LIMIT,
        lambda node: (len(found.drops) for found in _machines(node) if isinstance(found, Leaf)),
    ),
    Limit("own candidates", candidate.MAX_CANDIDATES, _one(lambda node: len(node.surroundings.candidates))),
    Limit("STUN servers", gather.MAX_SERVERS, _one(lambda node: len(node._survey._gatherer._servers))),
    Limit("STUN queries", client.MAX_TRANSACTIONS, _one(lambda node: len(node._survey._gatherer._stun))),
    Limit("packets that wait for a relay", outbox.MAX_FRAMES, lambda node: map(len, _outboxes(node))),
    Limit("bytes that wait for a relay", outbox.MAX_BYTES, lambda node: (o._size for o in _outboxes(node))),
    Limit("routes of signals", routes.MAX_ROUTES, _each_link(lambda found: len(found.routes))),
    Limit("early probes", link.MAX_EARLY_PROBES, _each_link(lambda found: len(found._early_probes))),
    Limit("batches to resend", flight.KEPT_BATCHES, _each_link(lambda found: len(found._flight._kept))),
    Limit("pairs", pairs.MAX_PAIRS, _each_agent(lambda found: len(found._pairs))),
    Limit("peer's candidates", candidate.MAX_CANDIDATES, _each_agent(lambda found: len(found._candidates))),
    Limit(
        "peer-reflexive candidates",
        pairs.MAX_PEER_REFLEXIVE,
        _each_agent(lambda found: len(found._reflexive)),
    ),
    Limit(
        "unanswered pings of a pair",
        pair.MAX_OUTSTANDING,
        lambda node: (len(p._outstanding) for found in _agents(node) for p in found._pairs.values()),
    ),
)


def exceeded(node: NodeMachine) -> list[str]:
    """Which limits are not held now."""
    return [
        f"{limit.what}: {used}, the limit is {limit.most}"
        for limit in LIMITS
        for used in limit.used(node)
        if used > limit.most
    ]


def drops(machine: Machine) -> Counter[str]:
    """What the machine and those inside it have dropped, by reason."""
    total: Counter[str] = Counter()
    for found in _machines(machine):
        if isinstance(found, Leaf):
            total.update(found.drops)
    return total
