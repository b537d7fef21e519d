import asyncio
import gc
import os
import warnings


def open_files():
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def run(main, *, limit=30.0):
    """Run a coroutine, and fail when it leaves a task, a socket or a warning behind."""

    async def bounded():
        before = open_files()
        async with asyncio.timeout(limit):
            result = await main
        await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert left == []
        gc.collect()
        assert open_files() == before
        return result

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return asyncio.run(bounded(), debug=True)
