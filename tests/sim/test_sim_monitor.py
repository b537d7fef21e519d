"""What the monitor looks for it finds: each check is shown something that is wrong."""

import re
from dataclasses import replace

import pytest
from tests.sim.attack_story import RELAY, RIGHT_OUTSIDE, Story

from peerway.core.budget import ProbeBudget
from peerway.core.identity import NodeId
from peerway.core.link import LinkEstablished
from peerway.core.links import LinkEvent
from peerway.core.machine import RelayAddress, UdpAddress
from peerway.core.path.candidate import Candidate, CandidateKind
from peerway.core.path.events import LocalCandidates, PathKind, PathProven, PathSelected
from peerway.core.path.pair import Pair, PairState
from peerway.sim.attack.manners import Manners, strewn
from peerway.sim.attack.strategies import FALSE_MAPPING, POWERFUL
from peerway.sim.watch import limits, monitor
from peerway.sim.watch.harm import Harm, HarmLimits
from peerway.sim.watch.limits import LIMITS, exceeded
from peerway.sim.watch.orphans import orphans

NOWHERE = UdpAddress("198.51.200.66", 7)
STRANGER = NodeId(b"\x07" * 32)


def connected(story):
    story.world.run_until(2.0)
    story.dial()
    story.world.run_for(1.0)
    assert story.monitor.violations == []
    return story


def said(story, event, peer=None):
    """What the monitor reports when the left node says this of a link with its peer."""
    heard = story.left.listeners[0]
    heard(LinkEvent(1, peer or story.ids[1], event), story.world.now)
    return [violation.split(" ", 1)[1] for violation in story.monitor.violations]


def test_a_connection_with_somebody_else_is_reported():
    story = connected(Story())
    assert said(story, LinkEstablished()) == []
    assert said(story, LinkEstablished(), STRANGER) == [
        f"left: connected to {STRANGER.short}, whom it neither dialled nor admits"
    ]


def test_a_whole_node_that_lets_anybody_in_is_reported():
    story = Story()
    story.admitted.clear()
    story.world.run_until(2.0)
    story.dial()
    (report,) = story.monitor.violations
    assert report.endswith(f"right: connected to {story.ids[0].short}, whom it neither dialled nor admits")


@pytest.mark.parametrize("remote", [NOWHERE, RelayAddress(RELAY, b"\x01" * 32)])
def test_a_path_proven_to_somebody_else_is_reported(remote):
    story = connected(Story())
    kind = PathKind.DIRECT if remote == NOWHERE else PathKind.RELAY
    assert said(story, PathProven(remote, kind, 0.01)) == [
        f"left: proved a path to {remote}, where {story.ids[1].short} never was"
    ]


def test_a_path_selected_to_somebody_else_is_reported():
    story = connected(Story())
    assert said(story, PathSelected(None, None, None, 3.0, "no path works")) == []
    assert said(story, PathSelected(NOWHERE, PathKind.DIRECT, 0.01, 3.0, "")) == [
        f"left: selected a path to {NOWHERE}, where {story.ids[1].short} never was"
    ]


def test_where_the_peer_was_ever_seen_is_no_wrong_place():
    story = connected(Story())
    for place in (RIGHT_OUTSIDE, UdpAddress("10.2.0.2", 41641)):
        assert said(story, PathSelected(place, PathKind.DIRECT, 0.01, 3.0, "")) == []
    assert said(story, PathProven(RIGHT_OUTSIDE, PathKind.DIRECT, 0.01)) == []
    at_relay = RelayAddress(RELAY, story.ids[1].box_public())
    assert said(story, PathProven(at_relay, PathKind.RELAY, 0.01)) == []


def test_a_path_that_nothing_proved_is_reported_though_the_peer_was_there():
    story = connected(Story())
    inside = UdpAddress("10.2.0.2", 41641)
    assert said(story, PathProven(inside, PathKind.DIRECT, 0.01)) == [
        f"left: proved a path to {inside}, though no ping of full size was answered there"
    ]


def test_a_secret_that_serves_two_exchanges_is_reported():
    story = connected(Story())
    links = story.left.machine._links._table._links
    links[99] = links[1]
    story.monitor.look()
    left, right = story.ids
    assert [violation.split(" ", 1)[1] for violation in story.monitor.violations] == [
        f"left: a secret of {left.short} serves two exchanges",
        f"left: a secret of {right.short} serves two exchanges",
    ]


def test_a_path_whose_socket_or_candidate_is_gone_is_reported():
    story = connected(Story())
    agent = story.left.machine._links._table[1]._agent
    (socket,) = agent._sockets
    pair = agent._pairs[socket, RIGHT_OUTSIDE]
    assert list(orphans(story.left.machine)) == []
    closed = UdpAddress("0.0.0.0", 9)
    relays = {key: relay for key, relay in agent._pairs.items() if key[0] is None}
    agent._pairs, agent._candidates = {**relays, (socket, RIGHT_OUTSIDE): pair}, ()
    assert list(orphans(story.left.machine)) == []  # it works
    agent._pairs[closed, RIGHT_OUTSIDE] = pair
    pair.state = PairState.PROBING
    wrong = [
        f"a path to {RIGHT_OUTSIDE}, where the peer is not",
        f"a path from {closed}, a socket that is closed",
    ]
    assert list(orphans(story.left.machine)) == wrong
    story.monitor.look()
    assert [violation.split(" ", 2)[2] for violation in story.monitor.violations] == wrong


def test_a_relay_that_is_let_go_though_the_peer_is_met_there_is_reported():
    story = connected(Story())
    agent = story.left.machine._links._table[1]._agent
    agent._pairs = {key: pair for key, pair in agent._pairs.items() if key[0] is not None}
    wrong = f"no path by {RELAY}, where the peer is met"
    assert list(orphans(story.left.machine)) == [wrong]


def test_who_sends_by_a_socket_that_is_closed_is_reported():
    story = connected(Story())
    story.left.host.close_udp(story.left.machine.surroundings.sockets[0])
    story.world.run_for(10.0)
    report = story.monitor.violations[0].split(" ", 1)[1]
    assert re.fullmatch("left: tried [0-9]+ times to send by a socket that it does not have", report)


def test_an_address_in_whose_name_somebody_forged_is_still_a_wrong_place():
    story = connected(Story())
    mallory = story.stranger("mallory", 99)
    mallory.inject(NOWHERE, UdpAddress("192.0.2.1", 41641), b"\x05 in another's name")
    story.world.run_for(1.0)
    assert len(said(story, PathProven(NOWHERE, PathKind.DIRECT, 0.01))) == 1


def test_an_own_address_that_no_server_told_is_reported():
    story = connected(Story())
    true = Candidate(CandidateKind.REFLEXIVE, UdpAddress("198.51.100.1", 49152))
    host = Candidate(CandidateKind.HOST, NOWHERE)
    assert said(story, LocalCandidates((true, host), "")) == []
    false = Candidate(CandidateKind.REFLEXIVE, FALSE_MAPPING)
    assert said(story, LocalCandidates((true, false), "")) == [
        f"left: believes to be {FALSE_MAPPING}, which no server told"
    ]


@pytest.mark.parametrize(
    ("strategy", "report"),
    [
        ("stun answers as the server", f"left: believes to be {FALSE_MAPPING}, which no server told"),
        ("forwarding", "left: selected a path to 198.51.200.66:49152, where"),
    ],
)
def test_attacks_that_do_succeed_are_reported(strategy, report):
    story = Story([found for found in POWERFUL if found.name == strategy], "open", "open")
    story.world.run_until(2.0)
    story.dial()
    story.world.run_for(1.0)
    assert any(report in violation for violation in story.monitor.violations)


def test_a_monitor_changes_nothing(monkeypatch):
    def digest():
        story = Story()
        story.run()
        return story.world.trace_digest()

    watched = digest()
    monkeypatch.setattr(monitor.Monitor, "_sighted", lambda self, sighting: None)
    monkeypatch.setattr(monitor.Monitor, "_happened", lambda self, node, event: None)
    assert digest() == watched


# --- limits


def most_used():
    """For each limit the most that was in use, in a run in which there is something of everything."""
    story = Story((), "edm", "eim-eif")
    most = dict.fromkeys((limit.what for limit in LIMITS), -1)
    nodes = [story.left, story.right]

    def look(sighting=None):
        for node in nodes:
            for limit in LIMITS:
                most[limit.what] = max(most[limit.what], *limit.used(node.machine), -1)

    story.world.taps.append(look)
    for node in nodes:
        node.listeners.append(lambda event, now: look())
    story.world.run_until(2.0)
    link, right_link = story.dial()
    story.transfer(link, right_link, bytes(100_000))
    early = story.right.machine._links._table[right_link]
    early._early_probes.append((b"", None, NOWHERE))
    waiting = next(iter(story.left.machine._relays._keepers.values()))._client._outbox
    waiting.push(b"a frame")
    look()
    story.left.close(link)
    story.world.run_for(10.0)
    look()
    return most


def test_every_row_sees_what_it_is_about():
    assert [what for what, used in most_used().items() if used < 1] == []


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.what)
def test_a_limit_that_is_not_held_is_reported(limit, monkeypatch):
    story = connected(Story())
    low = replace(limit, most=limit.most, used=lambda node: iter((limit.most, limit.most + 1)))
    monkeypatch.setattr(limits, "LIMITS", (low,))
    report = f"{limit.what}: {limit.most + 1}, the limit is {limit.most}"
    assert exceeded(story.left.machine) == [report]
    story.monitor.look()
    assert [violation.split(" ", 1)[1] for violation in story.monitor.violations] == [
        f"left: {report}",
        f"right: {report}",
    ]


# --- harm


def test_who_never_spoke_may_get_a_little_and_no_more():
    harm = Harm(HarmLimits(packets=10, lasting_per_s=0.0))
    reports = [harm.sent(NOWHERE, 65, float(second)) for second in range(20)]
    assert reports[:10] == [[]] * 10
    assert reports[10] == [f"{NOWHERE} never spoke and got 11 packets, the limit is 10"]
    assert reports[11:] == [[]] * 9
    assert harm.worst() == (20, 1300)


def test_bytes_count_as_well_as_packets():
    harm = Harm(HarmLimits())
    reports = [report for second in range(20) for report in harm.sent(NOWHERE, 1200, float(second))]
    assert len(reports) == 1
    assert "bytes, the limit is" in reports[0]


def test_so_does_what_comes_within_a_second_to_all_ports_of_one_address():
    harm = Harm(HarmLimits())
    reports = []
    for number in range(200):
        reports += harm.sent(UdpAddress("198.51.200.66", 1 + number), 65, number / 1000)
    assert reports == ["198.51.200.66 never spoke and got 91 packets within a second, the limit is 90"]


def test_who_spoke_may_get_anything_and_who_was_named_a_little_more():
    harm = Harm(HarmLimits(packets=10, lasting_per_s=0.0))
    for second in range(30):
        harm.heard(NOWHERE, 65, float(second), forged=True)
        assert harm.sent(NOWHERE, 65, float(second)) == []
    harm.heard(NOWHERE, 65, 30.0, forged=False)
    assert [harm.sent(NOWHERE, 1200, 31.0) for _ in range(1000)] == [[]] * 1000
    assert harm.worst() == (0, 0)


@pytest.mark.parametrize("weakness", ["no budget", "large before answered"])
def test_a_node_that_can_be_turned_against_others_is_reported(weakness, monkeypatch):
    if weakness == "no budget":
        monkeypatch.setattr(ProbeBudget, "allows", lambda self, target, now: True)
    else:
        send = Pair._transmit
        monkeypatch.setattr(Pair, "_transmit", lambda self, size, now, ttl=None: send(self, 1200, now, ttl))
    story = Story()
    story.world.run_until(1.5)
    story.admit(Manners(strewn(["198.18.6.66"], range(1, 33)), each_s=0.1))
    story.world.run_for(20.0)
    assert any("right: 198.18.6.66" in violation for violation in story.monitor.violations)
