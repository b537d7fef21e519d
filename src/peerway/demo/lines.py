"""The demonstration as lines of text: for logs, pipes and terminals without colour."""

from __future__ import annotations

from collections.abc import Iterator

from peerway.demo.report import Connected, Dialling, Done, Happened, Moved, Progress
from peerway.demo.stage import LEFT, Heard
from peerway.demo.story import Story

PROGRESS_EVERY_MS = 500.0


class Lines:
    """Gives the lines that a report is worth, once the story has heard it."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._next_progress_ms = PROGRESS_EVERY_MS

    def of(self, heard: Heard) -> Iterator[str]:
        """The lines for this report."""
        story, report = self._story, heard.report
        if isinstance(report, Dialling):
            yield _stamped(0.0, "left dials right")
        elif isinstance(report, Connected) and story.connected_ms is not None:
            yield _stamped(story.connected_ms, "connected")
        elif isinstance(report, Moved) and heard.end == LEFT:
            ms = story.since_dial_ms(report.at)
            yield _stamped(ms, f"data travels {way(report.kind)}, {report.remote} ({report.reason})")
        elif isinstance(report, Happened):
            yield _stamped(story.since_dial_ms(report.at), report.what)
        elif isinstance(report, Progress) and story.elapsed_ms >= self._next_progress_ms:
            self._next_progress_ms = story.elapsed_ms + PROGRESS_EVERY_MS
            yield _stamped(story.elapsed_ms, progress(story))
        elif isinstance(report, Done) and story.is_equal is not None:
            yield from summary(story)


def way(kind: str) -> str:
    """How data travels, in words."""
    return {"relay": "through the relay", "direct": "directly"}.get(kind, "nowhere" if kind else "")


def progress(story: Story) -> str:
    """How far the transfer is, and how fast of late."""
    done = f"{megabytes(story.received)} of {megabytes(story.size)} MB"
    return f"{done}, {megabits(story.speed)} Mb/s {way(story.kind)}"


def summary(story: Story) -> Iterator[str]:
    """What the demonstration has shown."""
    connected = "never" if story.connected_ms is None else f"after {story.connected_ms:.0f} ms"
    direct = "never" if story.direct_ms is None else f"after {story.direct_ms:.0f} ms"
    yield _stamped(
        story.elapsed_ms,
        f"{megabytes(story.size)} MB transferred, {megabits(story.average_speed)} Mb/s on average",
    )
    yield f"connected through the relay {connected}, direct {direct}"
    for end, verb in (("left", "sent"), ("right", "received")):
        yield f"SHA-256 {end:5} {verb:8} {story.digests[end]}"
    yield "the same on both sides" if story.is_equal else "NOT the same on both sides"


def megabytes(count: float) -> str:
    """A number of bytes, in millions."""
    return f"{count / 1e6:.0f}"


def megabits(speed: float) -> str:
    """Bytes a second, in millions of bits."""
    return f"{8 * speed / 1e6:.0f}"


def _stamped(ms: float, text: str) -> str:
    return f"{ms:8.0f} ms  {text}"
