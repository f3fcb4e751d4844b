"""A load test under way: so many calls for so long, one step after the other, and a look at both sides every second."""

import asyncio
import gc
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from agentd.loadtest.callers import Callers
from agentd.loadtest.events import Events
from agentd.loadtest.figures import Sample, Seen, Spread, Stretch
from agentd.loadtest.lateness import Lateness
from agentd.loadtest.phone import Phone, Target
from agentd.loadtest.report import Run
from agentd.loadtest.simulated.vendors import Vendors
from agentd.loadtest.talk import Turn
from agentd.loadtest.timing import clock
from agentd.loadtest.voice import Utterance
from agentd.loadtest.watch import Usage, usage

LOOK = 1.0  # seconds
SETTLE = 1.0  # seconds between the last call of a ramp and the first turn that counts: it has to be set up


@dataclass(frozen=True, slots=True)
class Steps:
    """``calls`` are how many at a time, one step after the other; ``ramp``: seconds to the calls of a step,
    ``seconds``: for how long they are measured.
    """

    calls: Sequence[int]
    ramp: float = 10.0
    seconds: float = 60.0


class LoadTest:
    """``run`` is filled in while it goes on. ``look`` is called after every look, with the stretch."""

    def __init__(
        self,
        run: Run,
        target: Target,
        voice: Sequence[Utterance],
        steps: Steps,
        *,
        pid: int | None = None,
        key: str | None = None,
        vendors: Vendors | None = None,
        look: Callable[["LoadTest"], None] = lambda test: None,
    ) -> None:
        self.run = run
        self.steps = steps
        self.stretch = Stretch(0, 0.0)  # the present one
        self.callers = Callers(target, voice, run.plan, ended=self._ended, over=self._over, began=self._up)
        self._vendors = vendors
        self._pid = pid
        self._look = look
        self._events = Events(target.url, key, self._latency)
        self._clock = clock()
        self._began = self._clock()
        self._is_measuring = False
        self._dialled = 0  # before the present stretch
        self._seen: tuple[float, float, Usage | None] = (0.0, 0.0, None)  # the last look: when, our CPU, theirs

    @property
    def now(self) -> float:
        """Seconds since it began."""
        return self._clock() - self._began

    async def go(self) -> None:
        """All steps. Cancelled, it leaves what was measured so far in the run."""
        gc.collect()
        gc.freeze()
        before = max((stretch.ended for stretch in self.run.stretches), default=0.0)  # another test of the same run
        self._began = self._clock() - before
        idle = usage(self._pid) if self._pid is not None else None
        doing = [asyncio.create_task(work) for work in (self.callers.metronome.run(), self._watch())]
        keeping: asyncio.Task[None] | None = None
        try:
            for calls in self.steps.calls:
                stretch = self._begin(calls, idle)
                await self.callers.ramp(calls, self.steps.ramp)
                keeping = keeping or asyncio.create_task(self.callers.keep())
                await asyncio.sleep(min(SETTLE, self.steps.seconds))
                self._measure(stretch)
                await asyncio.sleep(self.steps.seconds)
                self._end(stretch)
        finally:
            self._end(self.stretch)
            doing += [keeping] if keeping is not None else []
            for task in doing[1:]:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await self.callers.hang_up()
            doing[0].cancel()
            await asyncio.gather(*doing, self._events.aclose(), return_exceptions=True)
            if self._events.refusal or not self._events.came:
                why = self._events.refusal or "no event came of the calls that were watched"
                self.run.notes.append(f"Latency parts are the server's to tell, and are not shown: {why}")

    # Stretches -------------------------------------------------------------------------------------------

    def _begin(self, calls: int, idle: Usage | None) -> Stretch:
        """From now on refusals count; turns do when the calls are up."""
        self.stretch = stretch = Stretch(calls, self.now, idle_rss=None if idle is None else idle.rss)
        self.run.stretches.append(stretch)
        self._dialled = self.callers.dialled
        return stretch

    def _measure(self, stretch: Stretch) -> None:
        stretch.began = self.now
        self._is_measuring = True
        for late in self._lates():
            late.clear()
        self._seen = (0.0, 0.0, None)

    def _end(self, stretch: Stretch) -> None:
        if stretch.ended or stretch not in self.run.stretches:
            return
        stretch.ended = self.now
        stretch.dialled = self.callers.dialled - self._dialled
        for turn in self.callers.unfinished():
            self._ended(turn)
        for phone in self.callers.phones.values():
            stretch.unsent += phone.unsent
            phone.unsent = 0
        self._is_measuring = False
        late, *vendors = (_milliseconds(each) for each in self._lates())
        stretch.late = late
        stretch.vendors_late = vendors[0] if vendors else None

    def _lates(self) -> list[Lateness]:
        return [self.callers.metronome.late, *([self._vendors.late] if self._vendors is not None else [])]

    # What is told ----------------------------------------------------------------------------------------

    def _up(self, call_sid: str) -> None:
        self._events.began(call_sid)

    def _ended(self, turn: Turn) -> None:
        if self._is_measuring and turn.began - self._began >= self.stretch.began:
            self.stretch.turns.append(Seen.of(turn, self._began))

    def _over(self, phone: Phone) -> None:
        stretch, end = self.stretch, phone.end
        stretch.unsent += phone.unsent
        if end.is_ours and not end.is_refused:
            return
        if end.is_refused:
            stretch.refused += bool(end.status)
            stretch.unreached += not end.status
            why = f"HTTP {end.status}" if end.status else end.reason
        else:
            stretch.dropped += 1
            why = f"{end.code or ''} {end.reason}".strip()
        stretch.reasons[why] = stretch.reasons.get(why, 0) + 1

    def _latency(self, parts: Mapping[str, float]) -> None:
        if self._is_measuring:
            self.stretch.parts.append((self.now, dict(parts)))

    # Looking ---------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            if self._is_measuring:
                self._sample()
            self._look(self)

    def _sample(self) -> None:
        now, own = self._clock(), time.process_time()
        theirs = usage(self._pid) if self._pid is not None else None
        (then, own_then, theirs_then), self._seen = self._seen, (now, own, theirs)
        if not then:
            return
        seconds = now - then
        sample = Sample(now - self._began, self.callers.up, (own - own_then) / seconds)
        if theirs is not None and theirs_then is not None:
            sample = Sample(
                sample.at,
                sample.calls,
                sample.own,
                cpu=(theirs.cpu - theirs_then.cpu) / seconds,
                waited=(theirs.waited - theirs_then.waited) / seconds,
                rss=theirs.rss,
                files=theirs.files,
            )
        self.stretch.samples.append(sample)


def _milliseconds(late: Lateness) -> Spread | None:
    if not late.count:
        return None
    shares = {"p50": 0.5, "p99": 0.99, "most": 1.0}
    return {"count": late.count, **{name: round(late.quantile(share) * 1000, 1) for name, share in shares.items()}}
