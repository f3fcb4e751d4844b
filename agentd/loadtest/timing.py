"""The clock that everything here goes by."""

import asyncio
import time
from collections.abc import Callable


def clock() -> Callable[[], float]:
    """Of the running loop, in seconds; where it counts whole milliseconds (uvloop), the finer one below it."""
    loop = asyncio.get_running_loop()
    return time.monotonic if type(loop).__module__.startswith("uvloop") else loop.time
