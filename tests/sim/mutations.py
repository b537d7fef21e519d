"""Ten mistakes that a tired programmer might make, and for each a scenario in which the simulator says so.

A mistake is data: the text of the source that it takes the place of, and what it puts there. It is
made while Python imports the file, in an interpreter of its own; on disk nothing changes.

    python -m tests.sim.mutations "a replay window forgotten"         what its scenario comes to
    python -m tests.sim.mutations "a replay window forgotten" 0 200   which drawn seeds notice it
    python -m tests.sim.mutations                                     all scenarios, with no mistake
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peerway.sim.scenario import Scenario

SOURCES = Path(__file__).parents[2] / "src"


class MutationError(Exception):
    """A mutation does not apply any more."""


@dataclass(frozen=True, slots=True)
class Change:
    """In `file`, below src, the text `old`, which stands there exactly once, becomes `new`."""

    file: str
    old: str
    new: str

    @property
    def module(self) -> str:
        """The module that the file is."""
        return self.file.removesuffix(".py").replace("/", ".")

    def applied(self, source: str) -> str:
        """The source with the change; `MutationError` where `old` is not there once."""
        if (count := source.count(self.old)) != 1:
            where = f"src/{self.file}:{_nearest(self.old, source)}"
            raise MutationError(f"its text is {count} times in {where}, not once:\n{self.old}")
        return source.replace(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Mutation:
    """The mistake `name`, made by `changes`.

    The scenario of that name in `scenarios()` must end with a violation that `violation`, a pattern,
    is found in.
    """

    name: str
    changes: tuple[Change, ...]
    violation: str


def check(mutation: Mutation) -> None:
    """Raise `MutationError` where it does not apply to the files as they are."""
    for change in mutation.changes:
        try:
            change.applied((SOURCES / change.file).read_text())
        except MutationError as error:
            raise MutationError(
                f'the mutation "{mutation.name}" of tests/sim/mutations.py no longer applies: {error}'
            ) from None


def _nearest(old: str, source: str) -> int:
    """The number of the line that is most like the first of `old`."""
    wanted = old.strip().splitlines()[0].strip()
    ratios = [SequenceMatcher(None, wanted, line.strip()).ratio() for line in source.splitlines()]
    return 1 + ratios.index(max(ratios))


MUTATIONS = (
    Mutation(
        "a replay window forgotten",
        (
            Change(
                "peerway/core/probe/message.py",
                "        if age >= REPLAY_WINDOW or self._seen >> age & 1 or counter == 0:\n",
                "        if counter == 0:\n",
            ),
        ),
        "answered a ping from .* again",
    ),
    Mutation(
        "a path proven by their ping alone",
        (
            Change(
                "peerway/core/path/pair.py",
                "not (self._answered_full and self._heard)",
                "not self._heard",
            ),
        ),
        "proved a path to .*, though no ping of full size was answered there",
    ),
    Mutation(
        "a path proven by our ping alone",
        (
            Change(
                "peerway/core/path/pair.py",
                "not (self._answered_full and self._heard)",
                "not self._answered_full",
            ),
        ),
        "proved a path to .*, though no ping of the peer came from there",
    ),
    Mutation(
        "a path proven by small pings",
        (
            Change(
                "peerway/core/path/pair.py",
                "        if sent.size >= FULL_SIZE:\n            self._answered_full = True\n",
                "        self._answered_full = True\n",
            ),
        ),
        "direct, though the oracle knows no way",
    ),
    Mutation(
        "a keepalive forgotten",
        (
            Change(
                "peerway/core/path/agent.py",
                "        if not self._usage.is_idle:\n            interval =",
                "        if is_busy:\n            interval =",
            ),
        ),
        "lost a direct path within 20 s without a word",
    ),
    Mutation(
        "the relay dropped once there is a direct path",
        (
            Change(
                "peerway/core/path/agent.py",
                "            self._events.extend(self._selection.update(",
                "            if selected is not None and isinstance(selected[1], UdpAddress):\n"
                "                for key in [key for key in self._pairs if key[0] is None]:\n"
                "                    self._remove(key)\n"
                "            self._events.extend(self._selection.update(",
            ),
        ),
        "no path by http://relay1.test:3340, where the peer is met",
    ),
    Mutation(
        "pairs leaked whose socket is closed",
        (
            Change(
                "peerway/core/path/agent.py",
                "if key[0] is not None and key[0] not in sockets]",
                "if key[0] is not None and not sockets]",
            ),
        ),
        "a path from .*, a socket that is closed",
    ),
    Mutation(
        "pairs leaked whose candidate is gone",
        (
            Change(
                "peerway/core/path/agent.py",
                "            if not (is_proven(pair) or self._is_named(key[1])):\n"
                "                self._remove(key)\n",
                "            pass\n",
            ),
        ),
        "a path to .*, where the peer is not",
    ),
    Mutation(
        "links leaked that are over",
        (
            Change(
                "peerway/core/links.py",
                "        elif isinstance(event, LinkEnded):\n            self._remove_link(number)\n",
                "        elif isinstance(event, LinkEnded):\n            self._table.settled(number)\n",
            ),
        ),
        "has not forgotten a connection that is over: 1 connections",
    ),
    Mutation(
        "first pings sent at full TTL",
        (
            Change(
                "peerway/core/path/pair.py",
                "self._transmit(0, now, ttl=ttl)",
                "self._transmit(0, now)",
            ),
        ),
        "not direct within 10 s, though that is possible",
    ),
    Mutation(
        "signals believed without their echo",
        (
            Change(
                "peerway/core/links.py",
                "            if signal.echo == link.secret or (",
                "            if signal.echo or (",
            ),
            Change(
                "peerway/core/signal/session.py",
                "        elif not hmac.compare_digest(signal.echo, self.secret):\n",
                "        elif not signal.echo:\n",
            ),
        ),
        "a secret of .* serves two exchanges",
    ),
    Mutation(
        "a secret used for every exchange with a peer",
        (
            Change(
                "peerway/core/signal/session.py",
                "        self.secret = rng.randbytes(SECRET_SIZE)\n",
                "        self.secret = shared\n",
            ),
        ),
        "a secret of .* serves two exchanges",
    ),
    Mutation(
        "the cap on a peer's candidates forgotten",
        (
            Change(
                "peerway/core/signal/message.py",
                "    if len(entries) > MAX_CANDIDATES:\n"
                '        raise WireError("signal: too many candidates", f"{len(entries)}")\n',
                "",
            ),
        ),
        "peer's candidates: .*, the limit is 16",
    ),
    Mutation(
        "the cap on one's own candidates forgotten",
        (
            Change(
                "peerway/core/path/gather.py",
                "        return tuple(unique[:MAX_CANDIDATES])\n",
                "        return tuple(unique)\n",
            ),
        ),
        "own candidates: .*, the limit is 16",
    ),
    Mutation(
        "STUN answers believed from anywhere",
        (
            Change(
                "peerway/core/stun/client.py",
                "        if datagram.remote != self.server and not from_origin:\n"
                '            return "from another address"\n',
                "",
            ),
        ),
        "believes to be 198.18.6.66:666, which no server told",
    ),
)
BY_NAME = {mutation.name: mutation for mutation in MUTATIONS}


def scenarios() -> dict[str, Scenario]:
    """The scenario that shows each mutation, by its name."""
    from peerway.sim import (
        Dial,
        Guest,
        HangUp,
        LinkQuality,
        NatBehaviour,
        Pause,
        RouterPlan,
        Scenario,
        Sleep,
    )
    from peerway.sim.homes import CONE, TWO_HOMES
    from peerway.sim.named import NAMED

    homes = Scenario(1, TWO_HOMES, (Dial("left"),))
    narrow = RouterPlan("left-home", nat4=NatBehaviour(), quality=LinkQuality(mtu=1200))
    both = ("left-home", "right-home")
    forgetful = tuple(RouterPlan(name, nat4=NatBehaviour(idle_s=10.0)) for name in both)
    poisonable = tuple(RouterPlan(name, nat4=NatBehaviour(input_open=True)) for name in both)
    welcoming = tuple(RouterPlan(name, nat4=CONE) for name in both)
    crowded = replace(NAMED["cable-pulled"].scenario.plan.host("left"), bridges=14)
    again = (Dial("left"), HangUp("left"), Dial("left"))
    return {
        "a replay window forgotten": replace(homes, attacks=("replays at once",)),
        "a path proven by their ping alone": homes,
        "a path proven by our ping alone": replace(homes, guests=(Guest("right", "never pings"),)),
        "a path proven by small pings": replace(homes, plan=TWO_HOMES.with_router(narrow)),
        "a keepalive forgotten": replace(
            homes, plan=replace(TWO_HOMES, routers=forgetful), actions=(Dial("left"), Pause(20.0))
        ),
        "the relay dropped once there is a direct path": homes,
        "pairs leaked whose socket is closed": NAMED["cable-pulled"].scenario,
        "pairs leaked whose candidate is gone": NAMED["roam"].scenario,
        "links leaked that are over": replace(homes, actions=(Dial("left"), HangUp("right"))),
        "first pings sent at full TTL": replace(homes, plan=replace(TWO_HOMES, routers=poisonable)),
        "signals believed without their echo": replace(homes, actions=(Dial("left"), Sleep("right", 60.0))),
        "a secret used for every exchange with a peer": replace(homes, actions=again),
        "the cap on a peer's candidates forgotten": replace(
            homes, guests=(Guest("right", "names a hundred at once"),)
        ),
        "the cap on one's own candidates forgotten": replace(
            homes, plan=NAMED["cable-pulled"].scenario.plan.with_host(crowded)
        ),
        "STUN answers believed from anywhere": replace(
            homes, plan=replace(TWO_HOMES, routers=welcoming), attacks=("stun answers as itself",)
        ),
    }


# --- in an interpreter of its own


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles the changed source, and neither reads nor writes any other bytecode."""

    changes: tuple[Change, ...] = ()

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        source = self.get_data(path).decode()
        for change in self.changes:
            source = change.applied(source)
        return compile(source, path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    """Finds the modules that a mutation changes."""

    def __init__(self, mutation: Mutation) -> None:
        self._changes: dict[str, tuple[Change, ...]] = {}
        for change in mutation.changes:
            self._changes[change.module] = (*self._changes.get(change.module, ()), change)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._changes:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None, fullname
        assert spec.origin is not None, fullname
        loader = _Loader(fullname, spec.origin)
        loader.changes = self._changes[fullname]
        return importlib.util.spec_from_file_location(fullname, spec.origin, loader=loader)


def apply(mutation: Mutation) -> None:
    """Make the mistake in what is imported from now on."""
    if any(name.partition(".")[0] == "peerway" for name in sys.modules):
        raise RuntimeError("peerway is imported already")
    sys.meta_path.insert(0, _Finder(mutation))


def violations_of(scenario: Scenario) -> str:
    """What went wrong in a run, or "": the cause where it was seen, and what came of it."""
    from peerway.sim.run import run

    return "; ".join(map(str, run(scenario).violations))


def main(arguments: list[str]) -> None:
    """See the module's text."""
    if not arguments:
        print(json.dumps({name: violations_of(scenario) for name, scenario in scenarios().items()}))
        return
    name, *seeds = arguments
    apply(BY_NAME[name])
    if not seeds:
        print(json.dumps(violations_of(scenarios()[name])))
        return
    from peerway.sim.draw import draw

    noticed = {seed: what for seed in range(*map(int, seeds)) if (what := violations_of(draw(seed)))}
    for seed, what in noticed.items():
        print(f"{seed}: {what}")
    print(f"{len(noticed)} seeds notice {name!r}")


if __name__ == "__main__":
    main(sys.argv[1:])
