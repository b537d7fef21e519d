"""Whatever outsiders and relays do, two nodes fare as if nobody did anything."""

import os
import random
import subprocess
import sys
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import pytest
from tests.sim.attack_story import Story

from peerway.core.machine import UdpAddress
from peerway.core.quic.qh3_transport import Qh3Transport
from peerway.sim.attack.attacker import FLOOD_WITHIN_S, Seen, View
from peerway.sim.attack.hostile_relay import Mischief
from peerway.sim.attack.strategies import (
    FLOOD_PACKETS,
    HARMLESS,
    OBSERVING,
    OFF_PATH,
    POWERFUL,
    late_replays_elsewhere,
)

ROOT = Path(__file__).parents[2]
SOURCES = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
HOMES = [("eim-apdf", "eim-eif"), ("open", "open")]
COUNTED_AS = {
    "garbage": "unknown: nobody waits for it",
    "garbage as the peer": "quic: no connection has this id",
    "answers to no question": "unknown transaction",
    "guessed probes": "probe: no exchange has this index",
    "guessed quic": "quic: no connection has this id",
    "hellos of nobody": "signal: hello of somebody we do not admit",
    "hellos in the peers name": "the box does not open",
    "floods": "quic: no connection has this id",
    "damaged copies": "probe: does not open",
    "late replays": "probe: replayed",
    "late replays as itself": "probe: replayed",
    "late replays elsewhere": "probe: no exchange has this index",
    "replays at once": "probe: replayed",
    "replays at once as itself": "probe: pong without a ping on its path",
    "reflections": "not a response",
    "stun answers as itself": "from another address",
}
EVERYTHING = Mischief(
    drop=0.05,
    delay=0.1,
    delay_s=0.5,
    reorder=0.1,
    lie=0.1,
    duplicate=0.2,
    alter=0.2,
    reflect=0.2,
    replay=0.2,
    deny=0.1,
)


@lru_cache(maxsize=8)
def in_peace(left, right):
    story = Story((), left, right)
    outcome = story.run()
    assert story.monitor.violations == []
    return outcome


def fares_as_in_peace(story, left, right):
    outcome = story.run()
    assert story.monitor.violations == []
    assert outcome == in_peace(left, right)
    return True


def test_in_peace_all_goes_well():
    outcome = in_peace(*HOMES[0])
    assert outcome.direct == (True, True, True)
    assert [len(data) for data in outcome.received] == [102_400, 102_000, 5_000]
    assert outcome.established == (2, 2)
    assert outcome.closed == ("0 ", "0 ")


def test_every_strategy_is_tried():
    assert COUNTED_AS.keys() == {strategy.name for strategy in HARMLESS}


@pytest.mark.parametrize("strategy", HARMLESS, ids=str)
def test_attackers_change_nothing_where_everything_arrives_and_is_counted(strategy):
    left, right = HOMES[1]
    story = Story((strategy,), left, right)
    assert fares_as_in_peace(story, left, right)
    assert story.attacker.sent[strategy.name] >= 10
    assert story.monitor.drops()[COUNTED_AS[strategy.name]] > 0


@pytest.mark.parametrize("strategy", OBSERVING, ids=str)
def test_observers_change_nothing_behind_nats(strategy):
    left, right = HOMES[0]
    assert fares_as_in_peace(Story((strategy,), left, right), left, right)


@pytest.mark.parametrize(("left", "right"), HOMES)
def test_all_attackers_together_change_nothing(left, right):
    assert fares_as_in_peace(Story(HARMLESS, left, right), left, right)


def test_all_attackers_together_change_nothing_for_quic_itself():
    left, right = HOMES[1]
    assert fares_as_in_peace(Story(HARMLESS, left, right, transports=Qh3Transport), left, right)


def test_a_hostile_relay_together_with_all_attackers_changes_nothing():
    left, right = HOMES[0]
    assert fares_as_in_peace(Story(HARMLESS, left, right, mischief=EVERYTHING), left, right)


def test_behind_a_hard_nat_who_is_slower_than_the_network_changes_nothing():
    left, right = "eim-eif", "edm"
    slower = [strategy for strategy in HARMLESS if strategy.name != "replays at once as itself"]
    assert fares_as_in_peace(Story(slower, left, right), left, right)


@pytest.mark.parametrize("strategy", POWERFUL, ids=str)
@pytest.mark.parametrize(("left", "right"), [("eim-eif", "edm"), ("open", "open")])
def test_who_is_quicker_than_the_network_may_cost_the_direct_path_and_no_more(strategy, left, right):
    outcome, peace = Story((strategy,), left, right).run(), in_peace(left, right)
    assert all(outcome.direct) is (right == "open")
    assert (outcome.received, outcome.established, outcome.closed) == (
        peace.received,
        peace.established,
        peace.closed,
    )


def test_attackers_keep_to_their_rate_and_stop():
    story = Story([strategy for strategy in OFF_PATH if strategy.poured is None])
    story.run()
    sent = sum(story.attacker.sent.values())
    assert 1800 < sent < 2600
    story.world.run_for(20.0)
    assert sum(story.attacker.sent.values()) == sent


def test_a_flood_is_hundreds_of_packets_within_a_second_now_and_then():
    story = Story([strategy for strategy in OFF_PATH if strategy.poured is not None])
    times = []
    story.world.taps.append(
        lambda sighting: times.append(sighting.at) if sighting.node == "mallory" else None
    )
    story.run()
    begun = [at for before, at in pairwise([0.0, *times]) if at > before + FLOOD_WITHIN_S]
    assert len(times) == len(begun) * FLOOD_PACKETS >= 2 * FLOOD_PACKETS
    for at in begun:
        assert sum(at <= sent <= at + FLOOD_WITHIN_S for sent in times) == FLOOD_PACKETS


def attacked_digest():
    story = Story(HARMLESS, mischief=EVERYTHING)
    story.run()
    return story.world.trace_digest()


def test_the_same_seed_gives_the_same_attack_in_any_process():
    digests = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": SOURCES}
        command = "from tests.sim.test_sim_attacks import attacked_digest; print(attacked_digest())"
        finished = subprocess.run(
            [sys.executable, "-c", command], env=environment, cwd=ROOT, capture_output=True, check=True
        )
        digests.add(finished.stdout)
    assert len(digests) == 1


def test_who_shuffles_what_was_seen_does_not_pass_on_what_he_was_sent():
    # that would be a path by way of him
    a, b, own = (UdpAddress(f"203.0.113.{number}", 5000) for number in (1, 2, 9))
    view = View([own], [], random.Random(1))
    for seen in (Seen(a, b, b"to b"), Seen(b, a, b"to a"), Seen(a, own, b"to him")):
        view.note(seen, remember=True)
    forgeries = [late_replays_elsewhere(view) for _ in range(200)]
    assert {forgery.destination for forgery in forgeries if forgery.data == b"to him"} == {own}
    assert {forgery.destination for forgery in forgeries if forgery.data == b"to b"} >= {a, b}
