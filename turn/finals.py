"""Words that were dealt with already: their final may come late, or twice, and is not answered again.

A recogniser keeps an order: the first final after a partial covers what the partial covered, and maybe more. So when
a turn was taken on a partial, the next final begins with that turn's words.
"""

import math
import re
from dataclasses import dataclass

_WORD = re.compile(r"[\w']+")


@dataclass(frozen=True, slots=True)
class Final:
    """New words, or with ``is_correction`` those that stand for the partial which the turn was taken with."""

    text: str
    is_correction: bool = False


@dataclass(slots=True)
class Taken:
    """What the caller's last turn (or remark) was taken with. Its words may come again for ``window`` seconds."""

    window: float
    settled: str = ""  # the finals
    partial: str = ""  # what stood behind them; its final is owed
    pressed: tuple[str, ...] = ()  # the keys behind that
    earlier: str = ""  # what that final will begin with: partials that turns before this one were taken with
    last: str = ""  # the last final, as it came, unless the caller gave a sign of life since
    spoke_since: bool = False  # the caller's voice was heard since: new words are to be expected
    _until: float = -math.inf  # (loop seconds)
    _last_until: float = -math.inf

    def take(self, finals: list[str], partial: str, now: float, pressed: tuple[str, ...] = ()) -> None:
        self.earlier = f"{self.earlier} {self.partial}".strip()
        self.settled, self.partial, self.pressed = " ".join(finals), partial, pressed
        self.spoke_since = False
        self._until = now + self.window

    def speech_started(self) -> None:
        self.spoke_since = True
        self.last = ""

    def changed(self) -> None:
        """New words are on their way."""
        self.last = ""

    def final(self, text: str, now: float, *, is_open: bool) -> Final | None:
        """What a final brings; ``None`` when all of it was dealt with before. ``is_open``: nothing of the answer was
        heard, so that the words which it answers can still be corrected.
        """
        if self.is_double(text, now):
            return None
        is_owed, correction, rest = self.is_owed(now), self.correction(text), self.rest(text)
        self.finished(text, now)
        if is_owed and is_open:
            return Final(correction, is_correction=True) if correction.strip() else None
        if text.strip() and (not rest or (is_owed and rest == text)):
            return None  # what was answered already must not be answered again, and is too late to correct
        return Final(rest)

    def finished(self, text: str, now: float) -> None:
        """A final came: none is owed any more."""
        self.partial = self.earlier = ""
        if text.strip():
            self.last, self._last_until = text, now + self.window

    def is_double(self, text: str, now: float) -> bool:
        """Did just this final come before?"""
        return bool(self.last) and now < self._last_until and same_words(text, self.last)

    def is_owed(self, now: float) -> bool:
        """Is what comes now the turn's own: its partials, and the final that is owed?"""
        return bool(self.partial) and not self.spoke_since and now < self._until

    def correction(self, text: str) -> str:
        """What the owed final makes of ``partial``; empty if that was right."""
        corrected = without(self.earlier, text)
        return "" if same_words(corrected, self.partial) else corrected

    def rest(self, text: str) -> str:
        """The words behind those that were taken, in case that the owed final covers new speech too."""
        return without(f"{self.earlier} {self.partial}", text)


def without(said: str, text: str) -> str:
    """``text`` less ``said`` at its beginning, or less as much of it as there is."""
    begin, all_ = words(said), words(text)
    known = min(len(begin), len(all_))
    if not known or all_[:known] != begin[:known]:
        return text
    parts = text.split()
    count = 0
    while count < known:
        count += len(words(parts.pop(0)))
    return " ".join(parts)


def same_words(one: str, other: str) -> bool:
    """Equal once case, spacing and punctuation are set aside."""
    return one == other or words(one) == words(other)


def words(text: str) -> list[str]:
    return _WORD.findall(text.casefold().replace("_", " "))
