"""How much a connection is used, by which its paths are watched, and how long its peer is silent.

BUSY    something was sent just now
QUIET   nothing for a few seconds: paths are kept open, no more
IDLE    nothing for a minute: nothing at all is sent, and mappings may die
"""

from __future__ import annotations

from enum import Enum

BUSY_FOR_S = 2.0
IDLE_AFTER_S = 60.0
SILENCE_S = 30.0


class Level(Enum):
    """See the module's text."""

    BUSY = "busy"
    QUIET = "quiet"
    IDLE = "idle"


class Usage:
    """The use of one connection, which begins quiet."""

    def __init__(self, now: float) -> None:
        self.level = Level.QUIET
        self._used_at = now
        self._heard_at = now
        self._may_verify = True

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be sent."""
        return self.level is Level.IDLE

    def used(self, now: float) -> Level | None:
        """Something is sent: the level it had until now, None where that is no change."""
        self._used_at = now
        self._may_verify = True
        if self.level is Level.BUSY:
            return None
        before, self.level = self.level, Level.BUSY
        if before is Level.IDLE:
            self._heard_at = now
        return before

    def verified(self, now: float) -> Level | None:
        """The same, because somebody says that the peer is gone; that counts but once after each use."""
        if not self._may_verify:
            return None
        before = self.used(now)
        self._may_verify = False
        return before

    def heard(self, now: float) -> None:
        """The peer gave a sign of life."""
        self._heard_at = now

    def age(self, now: float) -> bool:
        """Time has passed; whether the level changed."""
        before = self.level
        if before is not Level.IDLE and now >= self._used_at + IDLE_AFTER_S:
            self.level = Level.IDLE
        elif before is Level.BUSY and now >= self._used_at + BUSY_FOR_S:
            self.level = Level.QUIET
        return self.level is not before

    def is_silent(self, now: float) -> bool:
        """Whether the peer has been silent for long though the connection is in use."""
        return not self.is_idle and now >= self._heard_at + SILENCE_S

    def deadline(self, now: float) -> float | None:
        """When to let it `age`, and look whether the peer `is_silent`; None while it is idle."""
        if self.is_idle:
            return None
        change = self._used_at + (BUSY_FOR_S if self.level is Level.BUSY else IDLE_AFTER_S)
        silence = self._heard_at + SILENCE_S
        return min(change, silence) if silence > now else change
