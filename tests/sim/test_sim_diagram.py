"""Runs as Mermaid sequence diagrams, held to the part of its grammar that we use."""

import re
from dataclasses import replace

import pytest

from peerway.sim import Dial, Partition
from peerway.sim.diagram import MOST_LINES, Arrow, Flight, Note, render, sequence_diagram
from peerway.sim.draw import draw
from peerway.sim.named import NAMED

TEXT = r"[^;#\n]+"
GRAMMAR = (
    re.compile(rf"    participant (p\d+) as {TEXT}"),
    re.compile(rf"    (p\d+)(?:->>|-x)(p\d+): {TEXT}"),
    re.compile(rf"    Note over (p\d+)(?:,(p\d+))?: {TEXT}"),
)
PLAN = NAMED["hairpin"].scenario.plan


def lines_of(text):
    """The lines of a diagram, each of which Mermaid takes, on participants that are declared before."""
    assert text.endswith("\n")
    first, *lines = text.removesuffix("\n").split("\n")
    assert first == "sequenceDiagram"
    declared = set()
    for line in lines:
        participant, arrow, note = (pattern.fullmatch(line) for pattern in GRAMMAR)
        if participant:
            assert participant[1] not in declared
            declared.add(participant[1])
        else:
            found = arrow or note
            assert found, line
            assert {name for name in found.groups() if name} <= declared
    return lines


def test_participants_stand_in_the_order_of_the_way():
    names = ("core", "right-home", "carrier")
    steps = [Flight(Arrow("left", name, "probe", "lost"), 1.0, 1.0) for name in names]
    steps.append(Flight(Arrow("left", "relay1.test", "STUN"), 1.0, 1.0))
    assert [line.split(" as ")[1] for line in lines_of(render(PLAN, steps)) if "participant" in line] == [
        "left",
        "carrier",
        "core",
        "relay1.test",
        "right-home",
        "right",
    ]


def test_arrows_and_notes_say_what_happened_and_when():
    steps = [
        Note(3.0, None, 'Dial("left")'),
        Flight(Arrow("left", "right", "probe"), 3.1, 3.1),
        Flight(Arrow("right", "left", "QUIC"), 3.2, 3.5, 12),
        Flight(Arrow("right", "carrier", "probe", "filtered"), 3.6, 3.6, 2),
        Note(4.0, "right", "lost: 5.1.0.2; and # more"),
    ]
    assert lines_of(render(PLAN, steps)) == [
        "    participant p1 as left",
        "    participant p2 as carrier",
        "    participant p3 as right",
        '    Note over p1,p3: 3.000 Dial("left")',
        "    p1->>p3: 3.100 probe",
        "    p3->>p1: 3.200-3.500 QUIC x12",
        "    p3-xp2: 3.600 probe x2 lost: filtered",
        "    Note over p3: 4.000 lost: 5.1.0.2, and  more",
    ]


def test_of_what_is_too_long_the_middle_is_left_out():
    lines = lines_of(render(PLAN, [Note(float(number), "left", "so") for number in range(1000)]))
    told = lines[2:]
    assert len(told) == MOST_LINES + 1
    assert told[0] == "    Note over p1: 0.000 so"
    assert told[40] == "    Note over p1,p2: here 700 lines are left out"
    assert told[41] == "    Note over p1: 740.000 so"
    assert told[-1] == "    Note over p1: 999.000 so"


def test_two_homes_meet_by_the_relay_and_go_on_directly():
    text = sequence_diagram(NAMED["two-homes"].scenario)
    story = "\n".join(line.strip() for line in lines_of(text))
    at = 0
    for pattern in (
        r"p1 as left\nparticipant p2 as core\nparticipant p3 as relay1\.test\nparticipant p4 as right",
        r"p1->>p3: [\d.]+ STUN x2",
        r"Note over p1: [\d.]+ relay http://relay1\.test:3340 reached",
        r'Note over p1,p4: 3\.000 Dial\("left"\)',
        r"p1->>p3: [\d.]+ signal\np3->>p4: [\d.]+ signal\np1->>p3: [\d.]+ QUIC x2",
        r"Note over p1: [\d.]+ connected",
        r"p1-xp2: [\d.]+ probe lost: ttl",  # the first ping opens our own NAT only
        r"Note over p1: [\d.]+ data now travels via 5\.2\.0\.2:",
        r'Note over p1,p4: [\d.]+ Transfer\("left", 200000\)',
        r"p1->>p4: [\d.-]+ QUIC x\d+",
        r"Note over p4: [\d.]+ closed by the peer, code 0: as wanted",
    ):
        found = re.compile(pattern).search(story, at)
        assert found, pattern
        at = found.end()


def test_a_relay_that_has_not_the_receiver_shows_it():
    scenario = replace(NAMED["two-symmetric"].scenario, actions=(Dial("left"), Partition("right-home", 40.0)))
    text = sequence_diagram(scenario)
    assert re.search(r"p\d+-xp\d+: .* lost: its receiver is not here", text)


def test_a_violation_stands_at_the_end(monkeypatch):
    monkeypatch.setattr("peerway.sim.meeting.outlook", lambda plan, left, right: "relay")
    lines = lines_of(sequence_diagram(NAMED["two-homes"].scenario))
    violation = "VIOLATED: direct, though the oracle knows no way"
    assert re.fullmatch(rf"    Note over p1,p\d+: \d+\.\d{{3}} {violation}", lines[-1])


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_drawn_can_be_drawn_as_a_diagram(seed):
    assert len(lines_of(sequence_diagram(draw(seed)))) < MOST_LINES + 20


def test_the_same_scenario_gives_the_same_diagram():
    assert sequence_diagram(draw(3)) == sequence_diagram(draw(3))
