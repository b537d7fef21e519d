"""What the demonstration shows for what the ends report: as lines, as a picture, as numbers."""

import pytest
from rich.console import Console

from peerway.demo.lines import Lines
from peerway.demo.picture import WIDTH, picture, sparkline
from peerway.demo.report import Connected, Dialling, Done, Happened, Moved, Progress, Ready, line, parse
from peerway.demo.stage import LEFT, NETWORK, RIGHT, Heard, Scene
from peerway.demo.story import Sample, Story

SCENE = Scene("two homes", "10.1.1.100", "11.1.0.2", "13.0.0.10", "11.2.0.2", "10.2.1.100")
SIZE = 200_000_000
TOLD = [
    Heard(LEFT, Dialling(100.0)),
    Heard(LEFT, Connected(100.084)),
    Heard(LEFT, Moved(100.07, "relay", "http://13.0.0.10:3340", "no direct path works")),
    Heard(RIGHT, Moved(100.075, "relay", "http://13.0.0.10:3340", "no direct path works")),
    Heard(RIGHT, Progress(100.1, 1_000_000)),
    Heard(RIGHT, Moved(100.15, "direct", "11.1.0.2:5", "the only direct path")),
    Heard(LEFT, Moved(100.156, "direct", "11.2.0.2:7", "the only direct path")),
    Heard(RIGHT, Progress(100.6, 51_000_000)),
    Heard(NETWORK, Happened(100.7, "the direct path is cut")),
    Heard(RIGHT, Progress(102.1, SIZE)),
    Heard(RIGHT, Done(102.1, SIZE, "ab" * 32)),
]
LAST = Heard(LEFT, Done(102.2, SIZE, "ab" * 32))


def story_of(*told):
    story = Story(SCENE, SIZE)
    for heard in told:
        story.hear(heard)
    return story


def shown(story):
    console = Console(width=WIDTH, color_system=None, force_terminal=True, legacy_windows=False)
    with console.capture() as capture:
        console.print(picture(story))
    return capture.get()


def test_times_count_from_the_dial_and_direct_means_both_ends():
    story = story_of(*TOLD)
    assert story.connected_ms == pytest.approx(84)
    assert story.direct_ms == pytest.approx(156)


def test_one_end_alone_is_not_direct():
    assert story_of(*TOLD[:6]).direct_ms is None


def test_speeds_are_between_reports_and_carry_the_path_they_were_measured_on():
    story = story_of(*TOLD)
    assert [sample.kind for sample in story.samples] == ["direct", "direct"]
    assert story.samples[0].speed == pytest.approx(100e6)
    assert story.average_speed == pytest.approx(99.5e6)


def test_checksums_are_compared_only_when_both_are_there():
    assert story_of(*TOLD).is_equal is None
    assert story_of(*TOLD, LAST).is_equal is True
    assert story_of(*TOLD, Heard(LEFT, Done(102.2, SIZE, "cd" * 32))).is_equal is False


def test_lines_tell_the_story_in_order():
    story = Story(SCENE, SIZE)
    lines = Lines(story)
    told = []
    for heard in [*TOLD, LAST]:
        story.hear(heard)
        told += lines.of(heard)
    assert told == [
        "       0 ms  left dials right",
        "      84 ms  connected",
        "      70 ms  data travels through the relay, http://13.0.0.10:3340 (no direct path works)",
        "     156 ms  data travels directly, 11.2.0.2:7 (the only direct path)",
        "     600 ms  51 of 200 MB, 800 Mb/s directly",
        "     700 ms  the direct path is cut",
        "    2100 ms  200 of 200 MB, 795 Mb/s directly",
        "    2200 ms  200 MB transferred, 796 Mb/s on average",
        "connected through the relay after 84 ms, direct after 156 ms",
        f"SHA-256 left  sent     {'ab' * 32}",
        f"SHA-256 right received {'ab' * 32}",
        "the same on both sides",
    ]


def test_the_picture_shows_both_homes_and_the_figures():
    text = shown(story_of(*TOLD, LAST))
    for words in ("10.1.1.100", "11.1.0.2", "13.0.0.10", "11.2.0.2", "10.2.1.100"):
        assert words in text
    assert "connected through the relay after 84 ms, direct after 156 ms" in text
    assert "the direct path is cut" in text
    assert "200 of 200 MB" in text
    assert "the same on both sides" in text
    assert max(map(len, text.splitlines())) == WIDTH


def test_marks_move_only_on_the_path_in_use():
    by_relay, direct = shown(story_of(*TOLD[:5])), shown(story_of(*TOLD))
    assert ["▶" in row for row in by_relay.splitlines()[6:8]] == [True, False]
    assert ["▶" in row for row in direct.splitlines()[6:8]] == [False, True]


def test_the_picture_of_nothing_yet_can_be_drawn():
    assert "the nodes start" in shown(story_of())


def test_a_sparkline_reaches_its_top_at_the_fastest_sample():
    assert sparkline([]).plain == ""
    assert sparkline([Sample(0, ""), Sample(50, ""), Sample(100, "")]).plain == "▁▅█"


@pytest.mark.parametrize("heard", [*TOLD, Heard(RIGHT, Ready("peerway1x"))])
def test_reports_survive_their_line(heard):
    assert parse(line(heard.report)) == heard.report


@pytest.mark.parametrize(
    "text", [b"Traceback (most recent call last):", b"{}", b"", b"\xff", b'{"type":"x"}']
)
def test_a_line_that_is_no_report_is_told_apart(text):
    assert parse(text) is None
