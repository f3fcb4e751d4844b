"""The acoustic mode of turn detection: what the voice and the words say about the pause that the caller makes."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from providers.acoustic.base import EndOfTurnModel
from providers.acoustic.prosody import Hearing
from providers.base import ProviderError
from turn.completeness import VOICE, completeness, falling, sureness, waiting_time
from turn.events import Event, PauseJudged

log = logging.getLogger("agentd.call.pause")

MODEL_WEIGHT = 0.7  # of an acoustic model against the words; the built-in melody has turn.completeness' own, 0.25
RULE = "rule"
EARLY = 0.7  # of the threshold: the early signal is a lower threshold, crossed before the confirming one


class PauseJudge:
    """Judges each pause once by ear, and anew whenever the words change. ``threshold`` 0 to 1, 0.5 neutral; lower
    ends turns sooner. ``words`` are those of the caller's turn so far.
    """

    def __init__(
        self,
        engine: EndOfTurnModel | None,
        hearing: Hearing,
        words: Callable[[], str],
        tell: Callable[[Event], None],
        spawn: Callable[[Any, str], "asyncio.Task[None]"],
        *,
        threshold: float,
    ) -> None:
        self.name = engine.name if engine is not None else RULE  # who judged last
        self.language = "en-US"
        self._engine = engine
        self._hearing = hearing
        self._words = words
        self._tell = tell
        self._spawn = spawn
        self._threshold = threshold
        self._task: asyncio.Task[None] | None = None
        self._voice: tuple[float, float] | None = None  # how final the voice sounds, and how much that weighs

    def hear(self, frame: bytes) -> None:
        """Every frame of the caller's, 20 ms, L16 mono."""
        self._hearing.hear(frame)
        if self._engine is not None:
            self._engine.hear(frame)

    def speech_started(self) -> None:
        self._voice = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def speech_stopped(self) -> None:
        self.speech_started()
        self._task = self._spawn(self._listen(), "end-of-turn")

    def words_changed(self) -> None:
        if self._voice is not None:
            self._judge(*self._voice)

    def turn_taken(self) -> None:
        self.speech_started()
        self._hearing.reset()
        if self._engine is not None:
            self._engine.reset()

    async def _listen(self) -> None:
        self._voice, self.name = await self._asked() or ((falling(self._hearing.prosody()), VOICE), RULE)
        self._judge(*self._voice)

    async def _asked(self) -> tuple[tuple[float, float], str] | None:
        """What the engine says; ``None`` when there is none, or it fails."""
        if self._engine is None:
            return None
        try:
            return (await self._engine.judge(), MODEL_WEIGHT), self._engine.name
        except ProviderError as exc:
            log.warning("end-of-turn model failed, the rule decides", extra={"code": exc.code})
        except Exception:
            log.exception("end-of-turn model crashed, the rule decides")
        return None

    def _judge(self, voice: float, weight: float) -> None:
        complete = completeness(self._words(), self.language)
        silence = waiting_time(complete, voice, self._threshold, weight)
        is_early = sureness(complete, voice, weight) >= EARLY * self._threshold
        self._tell(PauseJudged(silence, is_early=is_early))
