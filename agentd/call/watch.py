"""A deadline for each step of a stream, at the price of a clock reading: one timer for the whole stream."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")


class Overdue(Exception):
    """What was awaited did not come in time."""


class Watch:
    """``limit``: seconds that one step may take; it may be changed between steps, 0 means for ever. A timer a step
    would be a cost per token; this one looks, when it fires, how long the step of that moment has been waiting.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None  # that waits
        self._since = 0.0
        self._is_overdue = False
        self._timer: asyncio.TimerHandle | None = None

    async def step(self, events: AsyncIterator[T]) -> T:
        """The next event. Raises :class:`Overdue`, or ``StopAsyncIteration`` at the end."""
        self._task = task = asyncio.current_task()
        assert task is not None
        self._since = self._loop.time()
        cancelling = task.cancelling()
        self._ensure()
        try:
            return await anext(events)
        except asyncio.CancelledError:
            if self._is_overdue and task.uncancel() <= cancelling:
                raise Overdue from None
            raise
        finally:
            self._task = None
            self._is_overdue = False

    def restart(self, limit: float) -> None:
        """What is awaited was only now asked for: its time runs from here, and the step may take ``limit``."""
        self.limit = limit
        self._since = self._loop.time()
        self._ensure()

    def stop(self) -> None:
        """The stream is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ensure(self) -> None:
        if self.limit and (self._timer is None or self._timer.when() > self._since + self.limit):
            self._arm(self._since + self.limit)

    def _arm(self, at: float) -> None:
        self.stop()
        self._timer = self._loop.call_at(at, self._look, at)

    def _look(self, at: float) -> None:
        self._timer = None
        if self._task is None or not self.limit:
            return  # nobody waits: the next step sets it again
        due = self._since + self.limit
        if max(at, self._loop.time()) < due:  # a timer may fire a clock tick early
            self._arm(due)
            return
        self._is_overdue = True
        self._task.cancel()
