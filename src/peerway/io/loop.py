"""The event loop for whoever serves many: uvloop's where there is one, asyncio's own elsewhere.

With TLS, asyncio gives every connection 256 KiB to read into, used or not; uvloop touches only what is.
"""

from __future__ import annotations

import asyncio


def new_busy_loop() -> asyncio.AbstractEventLoop:
    """A new event loop, for `asyncio.Runner`."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
