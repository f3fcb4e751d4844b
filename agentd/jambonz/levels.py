"""How loud the two sides of a call are, as entries of its log, while somebody looks at its timeline. Nobody: no cost.

sound {from, step, caller: [dBFS, …], agent: [dBFS, …]}    one level for each ``step`` seconds since ``from``, in
                                                           whole dBFS; silence is -99
"""

import math

import numpy as np

from agentd.call.ear import dbfs
from agentd.jambonz.taps import SLACK, HeardFlow, Tap
from agentd.ops.log import EventLog
from turn.playout import Playhead

STEP = 0.1  # seconds of one level
TOLD = 5  # levels of one entry
SILENCE = -99  # dBFS


class Levels:
    """A :class:`agentd.jambonz.taps.Tap` of one call. ``rate`` and ``channels`` are those of the caller's audio as it
    comes, ``playback_rate`` that of ours, both in Hz. It listens until :attr:`until`, in the log's seconds.
    """

    def __init__(self, taps: list[Tap], log: EventLog, *, rate: int, channels: int, playback_rate: int) -> None:
        self.until = 0.0
        self._taps = taps
        self._log = log
        self._channels = channels
        self._caller = _Side(rate)
        self._agent = _Side(playback_rate)
        self._heard = HeardFlow()
        self._sent = Playhead(playback_rate)
        self._told = 0  # the first step that no entry has

    def watch(self, seconds: float) -> None:
        """Go on for so long, at least."""
        now = self._log.now()
        if self not in self._taps:
            self._heard, self._sent = HeardFlow(now), Playhead(self._agent.rate)
            self._told = math.ceil(now / STEP)
            self._caller.forget(self._told)
            self._agent.forget(self._told)
            self._taps.append(self)
        self.until = max(self.until, now + seconds)

    def heard(self, data: bytes) -> None:
        samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2")[:: self._channels]
        now = self._log.now()
        self._heard.until = min(self._heard.until, now + SLACK)  # what was held up on its way comes all at once
        self._caller.add(self._heard.add(len(samples) / self._caller.rate, now), samples)
        # The caller's audio is the clock: what of ours plays before it ends has been sent by now.
        whole = int(self._heard.until / STEP + 1e-6)
        if whole >= self._told + TOLD:
            self._tell(whole)
            if now > self.until:
                self._taps.remove(self)

    def sent(self, pcm: bytes) -> None:
        samples = np.frombuffer(pcm, "<i2")
        self._agent.add(self._sent.sent(0, len(samples), 0, self._log.now()), samples)

    def killed(self) -> None:
        now = self._log.now()
        self._sent.cut(now)
        self._agent.cut(math.ceil(now / STEP))

    def _tell(self, whole: int) -> None:
        first = max(self._told, whole - 2 * TOLD)  # behind a gap in the caller's audio only what is new
        steps = range(first, whole)
        self._told = whole
        entry = {"from": round(first * STEP, 1), "step": STEP}
        self._log.append("sound", **entry, caller=self._caller.levels(steps), agent=self._agent.levels(steps))
        self._caller.forget(whole)
        self._agent.forget(whole)


class _Side:
    """The energy of each step: the sum of its samples' squares. Audio that crosses into the next step counts there by
    its samples.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._energy: dict[int, float] = {}

    def add(self, start: float, samples: "np.ndarray[tuple[int], np.dtype[np.int16]]") -> None:
        size = round(self.rate * STEP)
        at = round(start * self.rate)
        while len(samples):
            step, within = divmod(at, size)
            part = samples[: size - within].astype(np.float32)
            self._energy[step] = self._energy.get(step, 0.0) + float(part @ part)
            samples, at = samples[len(part) :], at + len(part)

    def levels(self, steps: range) -> list[int]:
        size = self.rate * STEP
        return [round(max(SILENCE, dbfs(self._energy.get(step, 0.0) / size))) for step in steps]

    def forget(self, before: int) -> None:
        for step in [step for step in self._energy if step < before]:
            del self._energy[step]

    def cut(self, behind: int) -> None:
        for step in [step for step in self._energy if step >= behind]:
            del self._energy[step]
