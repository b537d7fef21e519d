"""How many files a process may have open: a server needs one for each of its clients.

Systems start programs with few (1,024 often, for the sake of `select`) and let them have more.
"""

from __future__ import annotations

import sys
from contextlib import suppress

if sys.platform != "win32":
    import resource


def have_all_descriptors() -> None:
    """Let this process have as many files open as it may; where that cannot be changed, nothing happens."""
    if sys.platform != "win32":
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):  # macOS has a lower limit of its own where this says none
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
