"""20 ms for many calls, spread evenly: one timer a millisecond for all of them, and how late it was."""

import asyncio
from collections.abc import Callable

from agentd.loadtest.lateness import Lateness
from agentd.loadtest.timing import clock
from agentd.loadtest.voice import FRAME

SLOTS = 20
SLOT = FRAME / SLOTS
BEHIND = 1.0  # seconds: after a longer stall the calls go on from now instead of hurrying

Tick = Callable[[float], None]


class Metronome:
    """``add`` a call; ``remove`` it when it is over."""

    def __init__(self) -> None:
        self.late = Lateness()  # of each slot that has calls
        self._slots: list[dict[int, Tick]] = [{} for _ in range(SLOTS)]
        self._where: dict[int, int] = {}
        self._now = clock()

    def add(self, call: int, tick: Tick) -> None:
        slot = min(range(SLOTS), key=lambda at: len(self._slots[at]))
        self._slots[slot][call] = tick
        self._where[call] = slot

    def remove(self, call: int) -> None:
        slot = self._where.pop(call, None)
        if slot is not None:
            del self._slots[slot][call]

    async def run(self) -> None:
        """Until cancelled."""
        due, at = self._now(), 0
        while True:
            due += SLOT
            at = (at + 1) % SLOTS
            wait = due - self._now()
            if wait > SLOT / 2:  # uvloop keeps whole milliseconds
                await asyncio.sleep(wait)
            elif wait < -BEHIND:
                due = self._now()
            if calls := self._slots[at]:
                now = self._now()
                self.late.add(now - due)
                for tick in list(calls.values()):
                    tick(now)
