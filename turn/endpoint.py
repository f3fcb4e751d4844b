"""The end of the caller's turn: what was said so far, and when it is time to answer.

The rule of `turnDetection: stt` for a vendor that only emits transcripts (verb-decisions, "Turn detection"):

- speech stopped and the words are final → the turn ends after ``silence`` seconds of quiet;
- speech stopped and no final comes → after ``no_final`` seconds the last partial becomes the transcript;
- words without any speech that our own detector heard (a quiet caller) → the same, counted from the last of them.

Where a pause was judged (the acoustic mode), its waiting time takes the place of ``silence``. Keys that were pressed
are words, too, and say that the caller is done: only words that were spoken before them are waited for.
"""

import math
from dataclasses import dataclass, field

from turn.finals import Final, Taken
from turn.latency import TurnClock


@dataclass(slots=True)
class Endpoint:
    """One caller turn in the making. ``now`` is loop time in seconds throughout."""

    silence: float = 0.5
    no_final: float = 1.5
    late_final: float = 5.0
    partial: str = ""
    confidence: float | None = None
    stopped_at: float | None = -math.inf  # when the voice ended; None while it is active
    finished_at: float | None = None  # when the last final came
    changed_at: float = 0.0  # when the caller last gave a sign of life
    words: list[str] = field(default_factory=list)
    pressed: list[str] = field(default_factory=list)  # keys behind words whose final is still to come
    judged: float | None = None  # what the acoustic mode makes of this pause, instead of ``silence``
    taken: Taken = field(init=False)  # what was dealt with before
    _is_detected: bool = False  # the words are of a voice that the detector heard

    def __post_init__(self) -> None:
        self.taken = Taken(self.late_final)

    @property
    def transcript(self) -> str:
        """Finals, what is still partial behind them, and the keys behind that."""
        if not self.pressed:
            return " ".join([*self.words, self.partial] if self.partial else self.words)
        return " ".join([*self.words, *([self.partial] if self.partial else []), *self.pressed])

    @property
    def is_voiced(self) -> bool:
        """Is the caller speaking right now?"""
        return self.stopped_at is None

    @property
    def is_final(self) -> bool:
        """Has the STT spoken since the voice ended?"""
        return (
            self.stopped_at is not None
            and self.finished_at is not None
            and self.finished_at >= self.stopped_at
            and not self.partial
        )

    @property
    def is_void(self) -> bool:
        """Has the STT said that there were no words in it?"""
        return self.is_final and not self.transcript

    def speech_started(self, now: float) -> None:
        if self.pressed and not self.partial:
            self._in_order()
        self.stopped_at = None
        self.judged = None
        self.changed_at = now
        self._is_detected = True
        self.taken.speech_started()

    def spoke_at(self, now: float) -> float:
        """When the caller last spoke, as far as the words tell: where the detector cannot tell a voice from noise."""
        return self.changed_at if self.partial else now

    def speech_stopped(self, at: float) -> None:
        self.stopped_at = at

    def changed(self, text: str, now: float) -> None:
        if self.taken.is_owed(now):
            return
        self.taken.changed()
        self.partial = self.taken.rest(text).strip()
        self.changed_at = now
        if self.partial:
            self._words_came(now)

    def finished(self, text: str, confidence: float | None, now: float, *, is_open: bool = False) -> Final | None:
        """What is new in it, if anything is; ``is_open`` as in :meth:`Taken.final`."""
        final = self.taken.final(text, now, is_open=is_open)
        if final is None:
            return None
        if final.text.strip():
            if final.is_correction:  # it stood before its own keys, and all that has come since the turn was taken
                self.words[:0] = [final.text.strip(), *self.taken.pressed]
            else:
                self.words.append(final.text.strip())
            self.confidence = confidence
            self._words_came(now)
        if self.pressed:
            self._in_order()
        self.partial = ""
        self.finished_at = self.changed_at = now
        return final

    def keys_came(self, text: str, at: float) -> None:
        """The last key was pressed at ``at``. Words that were on their way then were spoken before it."""
        is_owed = (
            self.partial or self.stopped_at is None or (not self.is_final and at < self.stopped_at + self.no_final)
        )
        if is_owed:
            self.pressed.append(text)
        else:
            self._in_order()
            self.words.append(text)
            self.stopped_at = self.finished_at = at
        self.changed_at = at
        self.judged = 0.0

    def settle(self, now: float) -> None:
        """Whatever was spoken before has been dealt with: no final is owed."""
        if self.stopped_at is not None:
            self.finished_at = now

    def due(self) -> float | None:
        """When the turn ends if nothing else happens; ``None`` while the caller is speaking."""
        if self.stopped_at is None:
            return None
        if self.is_void:
            return self.finished_at
        if self.is_final:
            assert self.finished_at is not None
            return max(self.stopped_at + self._pause, self.finished_at)
        return self.stopped_at + max(self.no_final, self._pause)

    def settled_at(self, quiet: float) -> float | None:
        """When the words will have stood unchanged, and the caller been quiet, for ``quiet`` seconds."""
        if self.stopped_at is None or not self.transcript:
            return None
        return max(self.stopped_at + quiet, self.changed_at if self.is_final else self.changed_at + quiet)

    @property
    def _pause(self) -> float:
        return self.silence if self.judged is None else self.judged

    def clock(self, now: float, free_at: float) -> TurnClock:
        """The instants of a turn that ends now. What the caller said before ``free_at``, over the agent's last words,
        was waiting for those to end, not for us.
        """
        stopped = now if self.stopped_at is None else max(self.stopped_at, free_at)
        return TurnClock(stopped=stopped, finished=self.finished_at if self.is_final else None, taken=now)

    def take(self, now: float) -> None:
        """The words so far are dealt with: whatever comes of them later is late."""
        self.taken.take(self.words, self.partial, now, tuple(self.pressed))
        self.clear()

    def reopen(self, transcript: str, confidence: float | None) -> None:
        """The caller goes on after the turn was taken but before anything of the answer was heard."""
        if transcript:
            self.words.insert(0, transcript)
            self.confidence = confidence if self.confidence is None else self.confidence

    def clear(self) -> None:
        """Forget the words; the voice itself goes on as it is."""
        self.words = []
        if self.pressed:
            self.pressed = []
        self.partial = ""
        self.confidence = None
        self.finished_at = None
        self.judged = None

    def _in_order(self) -> None:
        """The words before the keys have come, or will not."""
        self.words += self.pressed
        self.pressed = []

    def _words_came(self, now: float) -> None:
        if self.stopped_at is None:
            return
        self._is_detected = self._is_detected and now <= self.stopped_at + self.no_final
        if not self._is_detected:
            # A voice that the detector did not hear: for all we know it ended with its last word.
            self.stopped_at = now
