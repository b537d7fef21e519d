"""What the reports of both ends come to: when they connected, by which path data goes, how fast.

Times are milliseconds since the dial.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from peerway.demo.report import Connected, Dialling, Done, Happened, Moved, Progress
from peerway.demo.stage import LEFT, RIGHT, Heard, Scene

SAMPLES_KEPT = 600


@dataclass(frozen=True, slots=True)
class Sample:
    """The speed between two reports of progress, in bytes a second, and the path in use then."""

    speed: float
    kind: str


@dataclass(slots=True)
class Story:
    """The demonstration so far; `hear` takes it on."""

    scene: Scene
    size: int
    dialled_at: float | None = None
    connected_ms: float | None = None
    direct_ms: float | None = None
    received: int = 0
    elapsed_ms: float = 0.0
    happened: str = ""
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=SAMPLES_KEPT))
    digests: dict[str, str] = field(default_factory=dict)
    _paths: dict[str, Moved] = field(default_factory=dict)
    _first_progress: Progress | None = None
    _last_progress: Progress | None = None

    def hear(self, heard: Heard) -> None:
        """Take in what an end reported."""
        report = heard.report
        if isinstance(report, Dialling):
            self.dialled_at = report.at
        elif isinstance(report, Connected):
            self.connected_ms = self.since_dial_ms(report.at)
        elif isinstance(report, Moved):
            self._move(heard.end, report)
        elif isinstance(report, Progress):
            self._advance(report)
        elif isinstance(report, Happened):
            self.happened = report.what
        elif isinstance(report, Done):
            self.digests[heard.end] = report.sha256
            self.elapsed_ms = max(self.elapsed_ms, self.since_dial_ms(report.at))

    def since_dial_ms(self, at: float) -> float:
        """A time of a report as milliseconds since the dial."""
        return 0.0 if self.dialled_at is None else 1000 * (at - self.dialled_at)

    @property
    def path(self) -> Moved | None:
        """How the sender's data travels now."""
        return self._paths.get(LEFT)

    @property
    def kind(self) -> str:
        """The kind of that path: "relay", "direct", or "" while there is none."""
        return self.path.kind if self.path is not None else ""

    @property
    def speed(self) -> float:
        """Bytes a second of late."""
        return self.samples[-1].speed if self.samples else 0.0

    @property
    def average_speed(self) -> float:
        """Bytes a second over the whole transfer."""
        first, last = self._first_progress, self._last_progress
        if first is None or last is None or last.at <= first.at:
            return 0.0
        return (last.received - first.received) / (last.at - first.at)

    @property
    def is_equal(self) -> bool | None:
        """Whether both ends have the same checksum; None until both have one."""
        if len(self.digests) < 2:
            return None
        return self.digests[LEFT] == self.digests[RIGHT]

    def _move(self, end: str, moved: Moved) -> None:
        self._paths[end] = moved
        both = [self._paths[each].kind for each in (LEFT, RIGHT) if each in self._paths]
        if self.direct_ms is None and both == ["direct", "direct"]:
            self.direct_ms = self.since_dial_ms(max(path.at for path in self._paths.values()))

    def _advance(self, progress: Progress) -> None:
        last = self._last_progress
        if last is None:
            self._first_progress = progress
        elif progress.at > last.at:
            speed = (progress.received - last.received) / (progress.at - last.at)
            self.samples.append(Sample(speed, self.kind))
        self._last_progress = progress
        self.received = progress.received
        self.elapsed_ms = self.since_dial_ms(progress.at)
