"""How late the event loop is, what it costs, and who held it up.

A timer in the loop measures; a thread beside it looks whether the timer still comes. Where it does not, the thread
notes the stack of the loop's own thread, and says so in one line once the loop goes on.
"""

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

log = logging.getLogger("agentd.loop")

INTERVAL = 0.1  # seconds between two measurements
KEPT = 600  # of them: a minute
STALL = 0.25  # seconds
LINES = 10.0  # seconds between two lines about stalls
LONG = 5.0  # seconds: a stall without an end so far is reported now
DEPTH = 12  # frames of a stack, the innermost

Tell = Callable[[float, float, float], object]
"""Called with the lag in seconds, the share of a core since the last time, and the time."""


class Lag(NamedTuple):
    """Seconds, of the last minute."""

    p50: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class Stall:
    """``seconds`` are those so far where it ``is_over`` not yet. ``stack`` is from the outside in."""

    seconds: float
    stack: str
    is_over: bool


class StallWatch:
    """The rule: looks at when the timer came last, and asks for a stack once per stall."""

    def __init__(self, stall: float) -> None:
        self._stall = stall
        self._stuck: float | None = None  # the timer's time before the stall …
        self._stack = ""  # … and what stood on the stack
        self._is_told = False

    def look(self, now: float, last: float, lag: float, stack: Callable[[], str]) -> Stall | None:
        """``last`` is when the timer came last, ``lag`` the latest one as long as a stall. Returns what is to be
        reported, once per stall.
        """
        found = None
        if self._stuck is not None and last != self._stuck:
            if not self._is_told:
                found = Stall(lag, self._stack, is_over=True)
            self._stuck = None
        late = now - last - INTERVAL
        if self._stuck is None and late >= self._stall:
            self._stuck, self._stack, self._is_told = last, stack(), False
        elif self._stuck is not None and late >= LONG and not self._is_told:
            self._is_told = True
            found = Stall(late, self._stack, is_over=False)
        return found


class LoopMonitor:
    """That of one loop: :meth:`start` it there, :meth:`close` it at the end. ``tell`` gets every measurement."""

    def __init__(self, stall: float = STALL, tell: Tell | None = None) -> None:
        self.cpu = 0.0  # share of a core that the loop's thread has had since the last measurement …
        self.process_cpu = 0.0  # … and all of the process's, of the last second
        self.stalls = 0
        self._stall = stall
        self._tell = tell
        self._lags: deque[float] = deque(maxlen=KEPT)
        self._timer: asyncio.TimerHandle | None = None
        self._last = self._thread_time = self._longest = 0.0
        self._process = (0.0, 0.0)  # when its CPU time was looked at, and what it was
        self._ident = 0
        self._schedstat: int | None = None  # a descriptor
        self._is_over = threading.Event()
        self._watcher: threading.Thread | None = None
        self._next_line = 0.0
        self._not_said = 0  # stalls since the last line

    @property
    def lag(self) -> Lag:
        ordered = sorted(self._lags)
        if not ordered:
            return Lag(0.0, 0.0, 0.0)
        last = len(ordered) - 1
        return Lag(ordered[round(last * 0.5)], ordered[round(last * 0.99)], ordered[-1])

    @property
    def run_queue_wait(self) -> float | None:
        """Seconds that the loop's thread was ready to run while others ran in its place. ``None`` where the system
        does not say.
        """
        try:
            return None if self._schedstat is None else int(os.pread(self._schedstat, 100, 0).split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return None

    def start(self) -> None:
        self._ident = threading.get_ident()
        with contextlib.suppress(OSError):  # Linux only
            self._schedstat = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        self._thread_time = time.thread_time()
        self._last = time.monotonic()
        self._process = (self._last, time.process_time())
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._measure)
        self._is_over.clear()
        self._watcher = threading.Thread(target=self._watch, name="loop-monitor", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_over.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        if self._schedstat is not None:
            os.close(self._schedstat)
            self._schedstat = None

    def _measure(self) -> None:
        # Our own clock: that of uvloop stands still while callbacks run.
        now, thread_time = time.monotonic(), time.thread_time()
        elapsed = now - self._last
        lag = max(elapsed - INTERVAL, 0.0)
        self.cpu = (thread_time - self._thread_time) / elapsed if elapsed else 0.0
        self._last, self._thread_time = now, thread_time
        self._lags.append(lag)
        if lag >= self._stall:
            self._longest = lag
        since, before = self._process
        if now - since >= 1.0:
            self._process = (now, time.process_time())
            self.process_cpu = (self._process[1] - before) / (now - since)
        if self._tell is not None:
            self._tell(lag, self.cpu, now)
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._measure)

    # The thread ------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        watch = StallWatch(self._stall)
        waited = self.run_queue_wait
        while not self._is_over.wait(self._stall / 2):
            now = time.monotonic()
            stall = watch.look(now, self._last, self._longest, self._stack)
            if stall is not None:
                self._report(stall, now, waited)
            if now - self._last < INTERVAL:  # it runs: what it waits for the processor from now on is another stall's
                waited = self.run_queue_wait

    def _stack(self) -> str:
        return shown(sys._current_frames().get(self._ident))

    def _report(self, stall: Stall, now: float, waited: float | None) -> None:
        self.stalls += 1
        if now < self._next_line:
            self._not_said += 1
            return
        self._next_line = now + LINES
        fields: dict[str, Any] = {"ms": round(stall.seconds * 1000), "is_over": stall.is_over, "stack": stall.stack}
        if waited is not None and (wait := self.run_queue_wait) is not None:
            fields["waited_for_cpu_ms"] = round((wait - waited) * 1000)
        if self._not_said:
            fields["not_said"] = self._not_said
        self._not_said = 0
        log.warning("loop stalled", extra=fields)


def shown(frame: FrameType | None) -> str:
    """``module.py:12 function > …``, from the outside in. No line of source is read: that may block, too."""
    found: list[str] = []
    while frame is not None and len(found) < DEPTH:
        code = frame.f_code
        found.append(f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_qualname}")
        frame = frame.f_back
    return " > ".join(reversed(found))
