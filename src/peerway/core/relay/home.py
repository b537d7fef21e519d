"""Which relay is home: the nearest, but not at every whim of a measurement.

A change of home costs others who look for us, so it must be worth something: the new relay has
to be nearer by 10 ms, and by a third. A relay that cannot be reached is left at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LEAST_GAIN_S = 0.010
LARGEST_SHARE = 2 / 3  # of the old round trip that the new one may have


@dataclass(frozen=True, slots=True)
class HomeChoice:
    """The relay to be at home at, None where none can be reached, and why."""

    url: str | None
    reason: str


def choose_home(round_trips: Mapping[str, float | None], current: str | None = None) -> HomeChoice:
    """Choose among relays by their round trips in seconds; None is one that cannot be reached now.

    Of equals the one that comes first is chosen.
    """
    measured = {url: seconds for url, seconds in round_trips.items() if seconds is not None}
    if not measured:
        return HomeChoice(None, "no relay can be reached")
    nearest = min(measured, key=lambda url: measured[url])
    if current is None or current == nearest:
        return HomeChoice(nearest, f"the nearest: {_milliseconds(measured[nearest])}")
    if current not in measured:
        return HomeChoice(nearest, f"the nearest that can be reached: {_milliseconds(measured[nearest])}")
    old, new = measured[current], measured[nearest]
    between = f"{_milliseconds(new)} against {_milliseconds(old)}"
    if old - new < LEAST_GAIN_S or new > LARGEST_SHARE * old:
        return HomeChoice(current, f"stays: another is no nearer than it is worth, {between}")
    return HomeChoice(nearest, f"nearer: {between}")


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"
