"""Nodes meeting in a lab: the server, fresh nodes, dials, and the record of a run."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace

from peerway.lab.faults import Faults
from peerway.lab.laboratory import LabError, Laboratory
from peerway.lab.orders import (
    AwaitPath,
    Closed,
    CloseNode,
    Dial,
    Dialled,
    Opened,
    OpenNode,
    Serve,
    Served,
    Tell,
    Told,
    Transfer,
    Transferred,
    Way,
)
from peerway.lab.record import RunRecord
from peerway.lab.topology import SERVER, SERVER_NAME

PROBING_S = 3.0  # of probing without a direct path after the first byte: the outcome is `relay`
LOSSY_PROBING_S = 15.0  # where lines lose packets, so do probes
SETTLING_S = 12.0  # of two direct paths, the one not in use is measured every 5 s
DIAL_PATIENCE_S = 30.0
CLOSE_PATIENCE_S = 15.0
POLL_S = 0.25
COMPARED_BYTES = 16 * 1024  # sent each way in every run, and compared


@dataclass(frozen=True, slots=True)
class Met:
    """Two nodes that talk: who dialled whom, and the times of the dial, on the lab's clock."""

    dialler: str
    acceptor: str
    dialler_id: str
    acceptor_id: str
    begun: float
    first_byte: float


class Meeting:
    """What nodes do in one laboratory. `serve` first; host names are the topology's."""

    def __init__(self, lab: Laboratory) -> None:
        self.lab = lab
        self.faults = Faults(lab)
        self._served = Served("", ())

    async def serve(self, *, tls: bool = False, public_host: str = SERVER_NAME) -> Served:
        """Start (again) relay and STUN on the server machine; the relay's URL names `public_host`."""
        order = Serve(self.lab.topology.server_ips, public_host, tls)
        self._served = await self.lab.order(SERVER, order, Served)
        return self._served

    async def kill_server(self) -> None:
        """End relay and STUN as `kill -9` does; `serve` brings them back."""
        await self.lab.kill_worker(SERVER)

    async def open(self, host: str) -> Opened:
        """A fresh node on a host, its relay connected."""
        return await self.lab.order(host, OpenNode((self._served.url,), self._served.stun), Opened)

    async def close(self, host: str) -> Closed:
        """Close a host's node."""
        return await self.lab.order(host, CloseNode(), Closed, timeout_s=CLOSE_PATIENCE_S)

    async def meet(self, left: str, right: str) -> Met:
        """Fresh nodes on both hosts; left dials right and has one byte echoed."""
        caller, callee = await asyncio.gather(self.open(left), self.open(right))
        return await self.dial(left, caller, right, callee)

    async def dial(self, left: str, caller: Opened, right: str, callee: Opened) -> Met:
        """The node opened on `left` dials the one opened on `right`."""
        dialled = await self.lab.order(left, Dial(callee.ticket), Dialled, timeout_s=DIAL_PATIENCE_S)
        return Met(left, right, caller.node_id, callee.node_id, dialled.begun, dialled.first_byte)

    async def paths(
        self, met: Met, kind: str, patience_s: float, family: int | None = None
    ) -> tuple[Way, Way]:
        """The path of the dialler and of the acceptor, as soon as both are of that kind and IP version."""
        ends = ((met.dialler, met.acceptor_id), (met.acceptor, met.dialler_id))
        one, other = await asyncio.gather(
            *(
                self.lab.order(
                    host,
                    AwaitPath(peer, kind, patience_s, family),
                    Way,
                    timeout_s=patience_s + DIAL_PATIENCE_S,
                )
                for host, peer in ends
            )
        )
        return one, other

    async def transfer(
        self, met: Met, seconds: float, *, chunk: int = 10_000, pause_s: float = 0.02, limit: int = 0
    ) -> Transferred:
        """The dialler sends to the acceptor's echo and compares what comes back."""
        order = Transfer(met.acceptor_id, seconds, chunk, pause_s, limit)
        return await self.lab.order(met.dialler, order, Transferred, timeout_s=seconds + DIAL_PATIENCE_S)

    async def tell(self, met: Met) -> tuple[str, ...]:
        """What the dialler knows of its paths so far, a line each."""
        return (await self.lab.order(met.dialler, Tell(met.acceptor_id), Told)).lines

    async def both_told(self, met: Met, words: str, patience_s: float) -> bool:
        """Whether a line with these words is among what each of the two tells, before long."""
        ends = ((met.dialler, met.acceptor_id), (met.acceptor, met.dialler_id))
        until = asyncio.get_running_loop().time() + patience_s
        while asyncio.get_running_loop().time() < until:
            told = [(await self.lab.order(host, Tell(peer), Told)).lines for host, peer in ends]
            if all(any(words in line for line in lines) for lines in told):
                return True
            await asyncio.sleep(POLL_S)
        return False

    async def warm_up(self, left: str, right: str) -> None:
        """Meet once for nothing: the first meeting of an interpreter pays for imports and caches.

        What goes wrong will go wrong again in the runs, and be told there.
        """
        with contextlib.suppress(LabError, TimeoutError):
            await self.meet(left, right)
            await asyncio.gather(self.close(left), self.close(right))

    async def record(self, record: RunRecord, left: str, right: str) -> RunRecord:
        """Run once: routers forget, fresh nodes meet, bytes are compared. Fills in `record`.

        Never raises for what nodes do: that is an outcome, `failed`, with its reason.
        """
        try:
            topology = self.lab.topology
            routers = (*topology.routers_before(left), *topology.routers_before(right))
            await self.faults.reboot(*dict.fromkeys(routers))
            record = await self._run(record, await self.meet(left, right))
        except (LabError, TimeoutError) as error:
            record = replace(record, outcome="failed", reason=str(error) or "it took too long")
        try:
            closed = await asyncio.gather(self.close(left), self.close(right))
        except (LabError, TimeoutError) as error:
            await asyncio.gather(self.lab.kill_worker(left), self.lab.kill_worker(right))
            return replace(record, outcome="failed", reason=record.reason or f"closing: {error}")
        return replace(record, probes_sent=sum(end.probes_sent for end in closed))

    async def _run(self, record: RunRecord, met: Met) -> RunRecord:
        patience_s = LOSSY_PROBING_S if record.loss else PROBING_S
        ends = await self.paths(met, "direct", patience_s)
        direct = all(end.kind == "direct" for end in ends)
        settled = ends
        if record.expected_family and direct:
            settled = await self.paths(met, "direct", SETTLING_S, record.expected_family)
        families = {end.family for end in settled}
        transferred = await self.transfer(met, DIAL_PATIENCE_S, pause_s=0.0, limit=COMPARED_BYTES)
        promoted = max(end.since for end in ends) - met.begun
        return replace(
            record,
            outcome="direct" if direct else "relay",
            family=families.pop() if len(families) == 1 else None,
            first_byte_ms=_milliseconds(met.first_byte - met.begun),
            direct_ms=_milliseconds(max(promoted, 0.0)) if direct else None,
            bytes_ok=transferred.equal and transferred.size == COMPARED_BYTES,
        )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 2)
