"""The demonstration as a picture for a terminal: two homes, their NATs, the relay, the path in use."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from peerway.demo.lines import megabits, megabytes, way
from peerway.demo.story import Sample, Story

BOX = 17  # characters, the frame included
GAP = 12
FOOT = GAP + 3  # from a NAT to the line that goes up to the relay
WIDTH = 3 * BOX + 2 * GAP
BARS = "▁▂▃▄▅▆▇█"
STYLES = {"relay": "bold yellow", "direct": "bold green"}
QUIET = "bright_black"
DASH = 6  # characters from one moving mark to the next


def picture(story: Story) -> RenderableType:
    """The picture of this moment."""
    return Group(*_map(story), Text(), *_figures(story))


def _map(story: Story) -> list[Text]:
    scene, frame = story.scene, STYLES.get(story.kind, QUIET)
    relay, direct = (STYLES[kind] if story.kind == kind else QUIET for kind in ("relay", "direct"))
    nat = "NAT" if scene.left_nat else "no NAT"
    hosts = _row(_box("left", scene.left), _box("relay, STUN", scene.relay), _box("right", scene.right))
    nats = _row(_box(nat, scene.left_nat), _links(story), _box(nat, scene.right_nat))
    upper = [
        Text.assemble((left, frame), (" " * GAP), (middle, relay), (" " * GAP), (right, frame))
        for left, middle, right in hosts
    ]
    stems = "│".center(BOX), _legs(), "│".center(BOX)
    styles = relay, relay, direct, direct
    lower = [
        Text.assemble((left, frame), (middle, style), (right, frame))
        for (left, middle, right), style in zip([stems, *nats], (relay, *styles), strict=True)
    ]
    return upper + lower


def _row(*columns: Sequence[str]) -> list[tuple[str, str, str]]:
    return [(left, middle, right) for left, middle, right in zip(*columns, strict=True)]


def _links(story: Story) -> list[str]:
    """What lies between the two NATs, a line for each line of their boxes."""
    between = 2 * GAP + BOX
    to_relay = _moving("━" * FOOT, story, "relay")
    return [
        _legs(),
        f"{to_relay}┛{' ' * (between - 2 * FOOT - 2)}┗{to_relay}",
        _moving("━" * between, story, "direct"),
        "direct".center(between),
    ]


def _legs() -> str:
    """The two lines that come down from the relay."""
    return f"{' ' * FOOT}│{' ' * (2 * GAP + BOX - 2 * FOOT - 2)}│{' ' * FOOT}"


def _moving(track: str, story: Story, kind: str) -> str:
    """The track with marks that move as data arrives, while it is the one in use."""
    if story.kind != kind:
        return track
    phase = len(story.samples) % DASH
    return "".join("▶" if index % DASH == phase else character for index, character in enumerate(track))


def _box(name: str, address: str) -> list[str]:
    edge = "─" * (BOX - 2)
    lines = [f"│ {text:{BOX - 4}.{BOX - 4}} │" for text in (name, address)]
    return [f"┌{edge}┐", *lines, f"└{edge}┘"]


def _figures(story: Story) -> list[Text]:
    lines = [
        Text(story.scene.explanation, style=QUIET),
        _timings(story),
        Text(story.happened),
        Text.assemble(_bar(story), f" {megabytes(story.received)} of {megabytes(story.size)} MB"),
        sparkline(list(story.samples)[-WIDTH + 14 :]).append(f"  {megabits(story.speed)} Mb/s"),
    ]
    lines += [Text(f"SHA-256 {end:5} {digest}", style=QUIET) for end, digest in sorted(story.digests.items())]
    if story.is_equal is not None:
        lines.append(
            Text("the same on both sides", "bold green")
            if story.is_equal
            else Text("NOT the same on both sides", "bold red")
        )
        lines.append(Text(f"{megabits(story.average_speed)} Mb/s on average"))
    return lines


def _timings(story: Story) -> Text:
    if story.connected_ms is None:
        return Text("left dials right" if story.dialled_at is not None else "the nodes start")
    text = (
        Text("connected ").append(way("relay"), STYLES["relay"]).append(f" after {story.connected_ms:.0f} ms")
    )
    if story.direct_ms is not None:
        text.append(", ").append("direct", STYLES["direct"]).append(f" after {story.direct_ms:.0f} ms")
    return text


def _bar(story: Story) -> Text:
    width = WIDTH - 18
    full = width * story.received // max(story.size, 1)
    return Text("█" * full, STYLES.get(story.kind, QUIET)).append("░" * (width - full), QUIET)


def sparkline(samples: Sequence[Sample]) -> Text:
    """A bar for each sample, in the colour of the path it was measured on."""
    most = max((sample.speed for sample in samples), default=0.0) or 1.0
    text = Text(no_wrap=True)
    for sample in samples:
        height = min(int(len(BARS) * sample.speed / most), len(BARS) - 1)
        text.append(BARS[height], STYLES.get(sample.kind, QUIET))
    return text
