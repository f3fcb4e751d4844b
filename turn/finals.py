"""The words of a turn that was taken already: their final may come late, or twice, and is not answered again.

A recogniser keeps an order: the first final after a partial covers what the partial covered, and maybe more. So when
a turn was taken on a partial, the next final begins with that turn's words.
"""

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Taken:
    """What the caller's last turn was taken with. It may come again until ``until`` (loop seconds)."""

    settled: str = ""  # the finals
    partial: str = ""  # what stood behind them; its final is owed
    last: str = ""  # the last of the finals alone
    until: float = -math.inf
    spoke_since: bool = False  # then new words are to be expected

    def is_late(self, text: str, now: float) -> bool:
        """Is this final the turn's own: the one that is owed, or one that came before?"""
        if self.spoke_since or now >= self.until:
            return False
        return bool(self.partial) or same_words(text, self.last) or same_words(text, self.settled)

    def is_owed(self, now: float) -> bool:
        """Do partials still belong to the turn that was taken?"""
        return bool(self.partial) and not self.spoke_since and now < self.until

    def rest(self, text: str) -> str:
        """The words behind those of the partial that was taken, in case that its final covers new speech too."""
        owed = words(self.partial)
        if not owed or words(text)[: len(owed)] != owed:
            return text
        parts = text.split()
        count = 0
        while count < len(owed):
            count += len(words(parts.pop(0)))
        return " ".join(parts)

    def finished(self) -> None:
        """A final came: none is owed any more."""
        self.partial = ""


def same_words(one: str, other: str) -> bool:
    """Equal once case, spacing and punctuation are set aside."""
    return words(one) == words(other)


def words(text: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "'" else " " for c in text.casefold()).split()
