"""`bargeIn.strategy: interruptPrediction`: the evidence of whether a caller who speaks over the agent wants the floor.

The verdict is :mod:`turn.interruption`'s. It is asked for when the words change, and every 100 ms of speech until it
has been given: what is ignored is settled until there are new words.
"""

import enum
import math
from collections import deque
from collections.abc import Callable
from statistics import fmean

from agentd.call.ear import level_dbfs
from agentd.call.echo import Echo
from turn.events import Event, InterruptionPredicted
from turn.interruption import ECHO, Evidence, Verdict, judge

FRAME = 0.02  # seconds of the caller's frames, and of ours whose level is taken
EVERY = 5  # frames of speech
LAST = 5  # voiced frames before a speech that may belong to it
USUAL = 500  # voiced frames that the caller's usual level is taken of …
ENOUGH = 25  # … and without so many of them it is unknown


class Asked(enum.Enum):
    """What is to be found out."""

    NOTHING = enum.auto()  # the caller has not spoken since the turn was taken: what comes of it is no interruption
    OPEN = enum.auto()
    SETTLED = enum.auto()  # unless there are new words
    ECHO = enum.auto()  # settled, too: this is ourselves


class InterruptionJudge:
    """``is_speaking``: is the agent? ``rate`` is that of our audio, in Hz; ``now`` the loop's clock, in seconds."""

    def __init__(
        self,
        tell: Callable[[Event], None],
        is_speaking: Callable[[], bool],
        now: Callable[[], float],
        *,
        rate: int,
        threshold: float,
    ) -> None:
        self.language = "en"
        self._tell = tell
        self._is_speaking = is_speaking
        self._now = now
        self._step = round(rate * FRAME) * 2
        self._threshold = threshold
        self._echo = Echo(FRAME)
        self._sent: deque[tuple[float, float]] = deque()  # (when it plays, dBFS) of each of our frames to come
        self._usual: deque[float] = deque(maxlen=USUAL)
        self._levels: list[float] = []  # of the voiced frames of this speech, or before it
        self._frames = 0  # of this speech
        self._words = ""
        self._stopped_at: float | None = 0.0  # None while the caller is speaking
        self._asked = Asked.NOTHING

    def sent(self, at: float, pcm: bytes) -> None:
        """Our audio, any length; its first sample plays at ``at``."""
        while self._sent and self._sent[-1][0] >= at - FRAME / 2:
            self._sent.pop()  # it was cut: this plays in its place
        for number, begin in enumerate(range(0, len(pcm), self._step)):
            self._sent.append((at + number * FRAME, level_dbfs(pcm[begin : begin + self._step])))

    def hear(self, frame: bytes, voiced: bool) -> None:
        """Every frame of the caller's, 20 ms, L16 mono."""
        level, now = level_dbfs(frame), self._now()
        while self._sent and self._sent[0][0] <= now:
            self._echo.sent(self._sent.popleft()[1])
        # What came before there was anything to echo would only blur the comparison.
        self._echo.heard(level if self._echo.is_agent_audible else -math.inf)
        if voiced:
            self._levels.append(level)
            if not self._echo.is_agent_audible:
                self._usual.append(level)
        if self._stopped_at is not None:
            del self._levels[:-LAST]
            return
        self._frames += 1
        if self._asked is Asked.OPEN and self._frames % EVERY == 0:
            self._judge(is_final=False)

    def speech_started(self, spoken: float) -> None:
        self._frames = round(spoken / FRAME)
        del self._levels[: -self._frames]
        self._words, self._stopped_at, self._asked = "", None, Asked.OPEN

    def speech_stopped(self, quiet: float) -> None:
        self._stopped_at = self._now() - quiet

    def words_came(self, words: str, *, is_final: bool) -> bool:
        """Are they the caller's? What comes back of the agent's own voice is not. To be asked before the machine is
        told of them: the words of an interruption come behind it.
        """
        if self._asked is Asked.NOTHING:
            return True
        if self._asked is not Asked.ECHO or self._echo.is_agent_audible:
            self._asked, self._words = Asked.OPEN, words
            self._judge(is_final=is_final)
        return self._asked is not Asked.ECHO

    def turn_taken(self) -> None:
        self._asked = Asked.NOTHING

    def _judge(self, *, is_final: bool) -> None:
        echo = self._echo.likeness()
        evidence = Evidence(self._frames * FRAME, self._words, is_final, self.language, self._loudness(), echo)
        verdict = judge(evidence, self._threshold).verdict
        if verdict is Verdict.IGNORE and echo >= ECHO:
            self._asked = Asked.ECHO  # also when it comes back after our last word
        elif verdict is Verdict.IGNORE:
            self._asked = Asked.SETTLED
        elif verdict is Verdict.INTERRUPT and self._is_speaking():
            self._interrupt()

    def _interrupt(self) -> None:
        self._asked = Asked.SETTLED
        self._tell(InterruptionPredicted())

    def _loudness(self) -> float | None:
        if len(self._usual) < ENOUGH or not self._levels:
            return None
        return fmean(self._levels) - fmean(self._usual)
