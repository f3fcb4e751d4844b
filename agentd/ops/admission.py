"""Whether another call is taken. Measured figures go in with the time, and nothing here has a clock of its own.

    open ──average over a limit──> busy ──both averages below EASED of it──> open

What waits is weighed by how long it waited: a loop that stands still for a second, or one that is late by the limit
all the time, is busy; a single slow callback is not.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from config.server import Limits

log = logging.getLogger("agentd.admission")

WINDOW = 5.0  # seconds of the averages; what is missing of them at the start counts as idle
EASED = 0.8  # of a limit: a server at the limit would open and shut all the time
RETRY_AFTER = 5  # seconds: the averages are others by then

Reason = Literal["draining", "busy", "full"]
WORDS: dict[Reason, str] = {
    "draining": "expected a server that goes on, got one that is going down",
    "busy": "expected a server with time for another call, got one that is busy",
    "full": "expected a server with room for another call, got one with limits.calls of them",
}


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Up to ``until``. ``waited`` is how long what falls due waits, summed over its instants; ``cpu`` is in seconds."""

    until: float
    waited: float
    cpu: float


class Admission:
    """``refused`` counts by reason. ``calls`` are in progress, over ``sockets``: who lets them in counts both."""

    def __init__(self, limits: Limits) -> None:
        self.is_busy = False
        self.is_draining = False
        self.refused: Counter[str] = Counter()
        self.on_refused: Callable[[str], None] = lambda reason: None
        self.calls = 0
        self.sockets = 0
        self._limits = limits
        self._stretches: deque[_Stretch] = deque()  # of the last WINDOW seconds
        self._last: float | None = None

    def decide(self, lag: float, cpu: float, now: float) -> bool:
        """Is it too busy for another call? ``lag`` is how late the loop was just now, in seconds; ``cpu`` the share of
        a core that it has had since the last time.
        """
        elapsed = 0.0 if self._last is None else max(now - self._last, 0.0)
        self._last = now
        # What fell due while the loop stood still waited half of that on average.
        waited = lag * max(elapsed - lag, 0.0) + lag * min(lag, elapsed) / 2
        self._stretches.append(_Stretch(now, waited, cpu * elapsed))
        while self._stretches[0].until <= now - WINDOW:
            self._stretches.popleft()
        average_lag = sum(stretch.waited for stretch in self._stretches) / WINDOW
        average_cpu = min(sum(stretch.cpu for stretch in self._stretches) / WINDOW, 1.0)
        scale = EASED if self.is_busy else 1.0
        is_busy = average_lag * 1000 > self._limits.loop_lag_ms * scale or average_cpu > self._limits.cpu * scale
        if is_busy != self.is_busy:
            fields = {"lag_ms": round(average_lag * 1000, 1), "cpu": round(average_cpu, 2)}
            log.warning("busy: new calls are refused" if is_busy else "calls are taken again", extra=fields)
        self.is_busy = is_busy
        return is_busy

    def ask(self) -> Reason | None:
        """The same as :attr:`reason`, for a call that is then refused."""
        if (reason := self.reason) is not None:
            self.count_refused(reason)
        return reason

    def count_refused(self, reason: str) -> None:
        self.refused[reason] += 1
        self.on_refused(reason)

    @property
    def reason(self) -> Reason | None:
        """Why another call is not taken."""
        if self.is_draining:
            return "draining"
        if self.is_busy and self.calls:  # without any, whatever takes the time is none of them: refusing helps nobody
            return "busy"
        most = self._limits.calls
        return "full" if most is not None and self.calls >= most else None
