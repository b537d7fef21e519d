"""The time every machine is given: seconds that never go back and that go on while the system sleeps.

Linux's monotonic clock stops in suspend, and a NAT's mapping does not wait for us: hence
`CLOCK_BOOTTIME` where it exists.
"""

from __future__ import annotations

import time

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def now() -> float:
    """Seconds since an arbitrary moment: `CLOCK_BOOTTIME` where it exists, else the monotonic clock."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)
