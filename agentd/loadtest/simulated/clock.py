"""Something that is to be done at a set time, and how late that was."""

import asyncio
from collections.abc import Callable
from typing import Any

from agentd.loadtest.lateness import Lateness
from agentd.loadtest.timing import clock


class Clock:
    """uvloop keeps whole milliseconds: what comes early by less than one is not waited for. ``now()``: seconds."""

    def __init__(self) -> None:
        self.late = Lateness()
        self.now = clock()
        self._loop = asyncio.get_running_loop()

    def at(self, due: float, do: Callable[..., None], *arguments: Any) -> asyncio.TimerHandle:
        return self._loop.call_later(max(due - self.now(), 0.0), self._do, due, do, arguments)

    def _do(self, due: float, do: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self.late.add(self.now() - due)
        do(*arguments)
