"""Early generation: one speculation at a time, its fate, and a budget so that it cannot double the bill.

A speculation prompts the model with what the caller has said so far. If the turn ends with the same words, its tokens
are released; if the caller goes on, or the words change, it is discarded (the guide, "Early Generation").
"""

from collections import deque
from dataclasses import dataclass, field

from turn.finals import same_words

WINDOW = 8  # outcomes that the hit rate is taken over
ENOUGH = 4  # outcomes before it counts
REST_MOST = 16  # turns


@dataclass(slots=True)
class Preflight:
    """``per_turn`` speculations at most for one caller turn. When fewer than ``least`` of the last ones were hits,
    turns are left alone: two at first, then twice as many each time, until the rate is better.
    """

    per_turn: int = 3
    least: float = 0.25
    reply: int | None = None  # the speculation that is running
    transcript: str = ""
    has_words: bool = False  # its first one has come
    _begun: int = 0  # in this turn
    _outcomes: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _rest: int = 0  # turns that are still left alone
    _next_rest: int = 2

    @property
    def was_tried(self) -> bool:
        """Was there a speculation in this turn?"""
        return self._begun > 0

    def may_begin(self, transcript: str) -> bool:
        """Is it worth a prompt? Not again for the words that one is already running on."""
        if not transcript or self._rest or self._begun >= self.per_turn:
            return False
        return self.reply is None or not same_words(transcript, self.transcript)

    def begin(self, reply: int, transcript: str) -> None:
        self._begun += 1
        self.reply, self.transcript, self.has_words = reply, transcript, False

    def discard(self) -> int | None:
        """A miss: the words changed, or the caller goes on. The reply to be discarded, if there is one."""
        reply, self.reply = self.reply, None
        if reply is not None:
            self._outcomes.append(False)
        return reply

    def fail(self) -> None:
        """The model could not answer it; the turn is prompted normally (the guide, "Error Recovery")."""
        self.reply = None

    def settle(self, transcript: str) -> int | None:
        """The turn ended with these words: the reply to be released, or ``None``. A miss must be discarded first."""
        if self.reply is None or not same_words(transcript, self.transcript):
            return None
        reply, self.reply = self.reply, None
        self._outcomes.append(True)
        return reply

    def turn_ended(self) -> None:
        """A new caller turn may speculate anew, unless too few were hits."""
        self._begun = 0
        if self._rest:
            self._rest -= 1
        elif len(self._outcomes) >= ENOUGH and sum(self._outcomes) < self.least * len(self._outcomes):
            self._rest, self._next_rest = self._next_rest, min(self._next_rest * 2, REST_MOST)
            self._outcomes.clear()
        elif len(self._outcomes) >= ENOUGH:
            self._next_rest = 2
