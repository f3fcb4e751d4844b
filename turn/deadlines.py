"""When what is awaited is overdue: the settings in seconds, and the one deadline of the state that the call is in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """All times in seconds. The first group is the verb's, with its defaults; the second are the deadlines that
    keep a call alive whatever a vendor does.
    """

    greeting: bool = True
    greeting_interruptible: bool = True
    barge_in: bool = True
    tentative: bool = True  # speech holds the reply at once; else it plays until an interruption is predicted
    early: bool = False  # earlyGeneration; a vendor's own eager signal is always taken
    sticky: bool = False
    no_response: float = 12.0
    no_response_max: int | None = None  # prompts in a row; None or 0: no limit
    keys: bool = True  # what the caller presses is theirs to say: until …
    key_terminator: str = "#"  # … this key,
    key_pause: float = 2.0  # … a pause,
    keys_most: int = 0  # … or so many of them (0: as many as come)

    silence: float = 0.5  # quiet after the last final word that ends a turn
    early_silence: float = 0.2  # quiet behind words that do not change any more, before they are worth a speculation
    early_signal: bool = False  # the acoustic mode gives the early signal, not the silence
    speculations: int = 3  # a turn
    no_final: float = 1.5  # how long a final may be missing once the voice ended
    late_final: float = 5.0  # how long the words of a turn that was taken may come once more
    stuck_voice: float = 15.0  # voice without a new word: noise, or an STT that hears nothing
    think: float = 30.0  # from prompt (or the last tool round) to first audio
    stall: float = 10.0  # what is queued was played, the reply is not complete, nothing comes
    hold: float = 3.0  # held, and no more audio from the caller to decide on
    goodbye: float = 15.0  # behind what is queued


class Deadlines:
    """``at`` is the deadline of the current state, ``None`` where only the caller is awaited. Each method is named
    after what has just begun.
    """

    def __init__(self, settings: Settings) -> None:
        self.at: float | None = None
        self._settings = settings
        self._horizon = 0.0  # when the audio queued so far will have been played, if it is not held any longer
        self._held_at: float | None = None

    def listening(self, now: float, *, prompts: bool) -> None:
        """``prompts``: silence is answered with a no-response prompt."""
        self.at = now + self._settings.no_response if prompts and self._settings.no_response > 0 else None

    def thinking(self, now: float) -> None:
        self._horizon, self._held_at = now, None
        self.at = now + self._settings.think

    def tools(self, now: float) -> None:
        """A round of tools begins or ends: the answer to it is awaited like the first, behind what is queued."""
        self.at = max(self._horizon, now) + self._settings.think

    def audio(self, seconds: float, now: float) -> None:
        self._horizon = max(self._horizon, now if self._held_at is None else self._held_at) + seconds

    def speaking(self, now: float, *, tools: bool) -> None:
        """``tools``: more words come only once the tools that are running have returned."""
        patience = self._settings.think if tools else self._settings.stall
        self.at = max(self._horizon, now) + patience

    def held(self, now: float) -> None:
        self._held_at = now
        self.at = now + self._settings.hold

    def resumed(self, now: float) -> None:
        """What was queued will be played later by the time that it was held."""
        if self._held_at is not None:
            self._horizon += max(now - self._held_at, 0.0)
            self._held_at = None

    def goodbye(self, now: float) -> None:
        self.at = max(self._horizon, now) + self._settings.goodbye
