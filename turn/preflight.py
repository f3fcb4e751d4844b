"""Early generation: one speculation at a time, its fate, and a budget so that it cannot double the bill.

A speculation prompts the model with what the caller has said so far. If the turn ends with the same words, its tokens
are released; if the caller goes on, or the words change, it is discarded (the guide, "Early Generation").
"""

from collections import deque

from turn.actions import Action, Discard, Preflighted
from turn.deadlines import Settings
from turn.endpoint import Endpoint
from turn.events import ReplyBegan, ReplyEvent, ReplyFailed
from turn.finals import same_words

WINDOW = 8  # outcomes that the hit rate is taken over
ENOUGH = 4  # outcomes before it counts
LEAST = 0.25  # the rate below which speculation rests
REST_MOST = 16  # turns


class Preflight:
    """``settings.speculations`` at most for one caller turn. When fewer than a quarter of the last ones were hits,
    turns are left alone: two at first, then twice as many each time, until the rate is better.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.per_turn = self.settings.speculations
        self.reply: int | None = None  # the speculation that is running
        self.transcript = ""  # of the last one
        self.has_words = False  # its first one has come
        self._begun = 0  # in this turn
        self._outcomes: deque[bool] = deque(maxlen=WINDOW)
        self._rest = 0  # turns that are still left alone
        self._next_rest = 2

    # When to begin ---------------------------------------------------------------------------------------

    def early_at(self, endpoint: Endpoint) -> float | None:
        """When the words so far will have stood long enough to be worth a speculation. Silence alone does not begin
        again what the vendor has called off.
        """
        is_on = self.settings.early and not self.settings.early_signal
        return (
            endpoint.settled_at(self.settings.early_silence) if is_on and self._is_news(endpoint.transcript) else None
        )

    def may_begin(self, transcript: str) -> bool:
        """Is it worth a prompt? Not again for the words that one is already running on."""
        if not transcript or self._rest or self._begun >= self.per_turn:
            return False
        return self.reply is None or self._is_news(transcript)

    def begin(self, reply: int, transcript: str) -> None:
        self._begun += 1
        self.reply, self.transcript, self.has_words = reply, transcript, False

    def _is_news(self, transcript: str) -> bool:
        return not same_words(transcript, self.transcript)

    # What becomes of it ----------------------------------------------------------------------------------

    def changed(self, transcript: str) -> list[Action]:
        """The caller's words so far: when they are others, it is a miss."""
        return self.miss() if self.reply is not None and self._is_news(transcript) else []

    def miss(self) -> list[Action]:
        """The words changed, or the caller goes on."""
        reply, self.reply = self.reply, None
        if reply is None:
            return []
        self._outcomes.append(False)
        return [Discard(reply)]

    def told(self, event: ReplyEvent) -> list[Action]:
        """Nobody but us hears of it before it is released. When it fails, the turn is prompted normally (the guide,
        "Error Recovery"), and not early again: that would be the same failing model.
        """
        if event.reply != self.reply:
            return []
        match event:
            case ReplyBegan():
                self.has_words = True
            case ReplyFailed(reply):
                self.reply, self._begun = None, self.per_turn
                return [Discard(reply)]
            case _:
                pass
        return []

    def settle(self, transcript: str) -> int | None:
        """The turn ended with these words: the reply to be released, or ``None``."""
        if self.reply is None or not same_words(transcript, self.transcript):
            return None
        reply, self.reply = self.reply, None
        self._outcomes.append(True)
        return reply

    # The budget ------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """The turn did not come about: its words are gone."""
        self._begun, self.transcript = 0, ""

    def turn_ended(self, *, is_released: bool) -> Preflighted | None:
        """What became of the turn's speculations. The next turn may speculate anew, unless too few were hits."""
        fate = self._fate(is_released=is_released)
        self.forget()
        if self._rest:
            self._rest -= 1
        elif len(self._outcomes) >= ENOUGH and sum(self._outcomes) < LEAST * len(self._outcomes):
            self._rest, self._next_rest = self._next_rest, min(self._next_rest * 2, REST_MOST)
            self._outcomes.clear()
        elif len(self._outcomes) >= ENOUGH:
            self._next_rest = 2
        return fate

    def _fate(self, *, is_released: bool) -> Preflighted | None:
        if is_released:
            return "hit" if self.has_words else "pending"
        return "miss" if self._begun else None
