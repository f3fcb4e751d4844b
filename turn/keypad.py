"""The caller's keys as words of theirs: collected until the terminator, a pause, or enough of them (the key `dtmf`)."""

from turn.deadlines import Settings

PRESSED = "The caller pressed {}."  # what the model is told
LIMIT = 64  # keys: more than any number has. One who goes on pressing is answered nevertheless


class Keypad:
    """The keys that belong together. ``at`` is when the pause will have been long enough, ``None`` while there are
    none.
    """

    def __init__(self, settings: Settings) -> None:
        self.at: float | None = None
        self.pressed_at = 0.0  # the last of them
        self.keys = ""
        self._terminator = settings.key_terminator
        self._pause = settings.key_pause
        self._most = min(settings.keys_most or LIMIT, LIMIT)

    def pressed(self, key: str, now: float) -> str:
        """One more key. Returns what all of them say if it was the last one, else nothing."""
        self.pressed_at = now
        if key == self._terminator:
            self.keys = self.keys or key  # alone it says itself
            return self.taken()
        self.keys += key
        self.at = now + self._pause
        return self.taken() if len(self.keys) >= self._most else ""

    def taken(self) -> str:
        """No more keys come: what they say."""
        said = PRESSED.format(self.keys)
        self.clear()
        return said

    def clear(self) -> None:
        self.keys, self.at = "", None
