"""What a node still holds though what it was for is gone, and what it let go though it may need it.

An oracle that looks inside, as `peerway.sim.watch.limits` does. What is left of connections that are
over is not looked for here but at the end of each (`SimNode.leftovers`).
"""

from __future__ import annotations

from collections.abc import Iterator

from peerway.core.link import Link
from peerway.core.machine import RelayAddress, UdpAddress
from peerway.core.node import NodeMachine
from peerway.core.path.agent import PathAgent
from peerway.core.path.pair import PairState


def orphans(node: NodeMachine) -> Iterator[str]:
    """Each of them, in words."""
    for _, link in node._links._table:
        if link._agent is not None:
            yield from _pairs(link._agent, node.surroundings.sockets)
            yield from _relays_let_go(link, link._agent, node)


def _relays_let_go(link: Link, agent: PathAgent, node: NodeMachine) -> Iterator[str]:
    """The peer is met there and it stands, so it must be ready for the moment when nothing else works."""
    ready = {remote.url for _, remote in agent._pairs if isinstance(remote, RelayAddress)}
    for url in dict.fromkeys(route.url for route in link.routes if isinstance(route, RelayAddress)):
        if url not in ready and node.relay_state(url)[0]:
            yield f"no path by {url}, where the peer is met"


def _pairs(agent: PathAgent, sockets: tuple[UdpAddress, ...]) -> Iterator[str]:
    named = {candidate.address for candidate in (*agent._candidates, *agent._reflexive)}
    for (local, remote), pair in agent._pairs.items():
        if local is None:
            continue
        if local not in sockets:
            yield f"a path from {local}, a socket that is closed"
        # what is proven works, whatever the peer says
        elif remote not in named and pair.state in (PairState.CLOSED, PairState.PROBING):
            yield f"a path to {remote}, where the peer is not"
