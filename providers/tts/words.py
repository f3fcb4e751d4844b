"""Where the words that a vendor speaks lie in the text that we gave it.

Vendors tell words with their times, or characters with theirs, and not always as they were written: without
punctuation, in other case, a number spelled out. What counts is letters and digits, in order. A word that is not
found stands for the next one of the text, until one that is found says how far the voice really is.
"""

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from providers.base import Word

WIDE = "\u2e80"  # from here on come the scripts that put no space between words: each character is one
LOOK = 4  # how many words ahead one is looked for; further on, another of the same spelling is likelier


class Words:
    """The text of one reply, and how far it has been said.

    ``place`` takes what the vendor says, in its order; ``split`` makes words of characters.
    """

    def __init__(self) -> None:
        self._text = ""
        self._folded = ""  # letters and digits of the text alone
        self._index: list[int] = []  # where each of them stands in the text
        self._starts: list[int] = []  # the places in ``_folded`` at which a word begins
        self._at = 0  # in ``_folded``: all before it has been said
        self._end = 0  # in the text: what the last Word said
        self._start = 0.0
        self._is_lost = False  # the last word was not found

    def given(self, piece: str) -> None:
        """The next piece of the text; call it before the vendor can speak it."""
        for at, char in enumerate(piece, len(self._text)):
            before = piece[at - len(self._text) - 1] if at > len(self._text) else self._text[-1:]
            folded = _fold(char)
            if folded and (not before.isalnum() or before >= WIDE or char >= WIDE):
                self._starts.append(len(self._folded))
            self._folded += folded
            self._index += [at] * len(folded)
        self._text += piece

    def place(self, words: Iterable[tuple[str, float]]) -> list[Word]:
        """Words, or parts of words, with the seconds at which they begin in the audio of this reply. Nothing comes for
        a word that says no more of the text than those before it.
        """
        placed = []
        for word, start in words:
            if not (folded := _fold(word)):
                continue
            if (found := self._find(folded)) is not None:
                self._at, self._is_lost = found + len(folded), False
                last = self._at - 1
            elif not self._is_lost and self._at < len(self._index):
                self._is_lost = True
                last = self._at
            else:
                continue
            self._start = max(self._start, start)
            if (end := self._word_end(self._index[last])) > self._end:
                self._end = end
                placed.append(Word(end, self._start))
        return placed

    def _find(self, word: str) -> int | None:
        if self._folded.startswith(word, self._at):
            return self._at
        first = max(bisect_right(self._starts, self._at) - 1, 0)
        ahead = self._starts[first : first + LOOK + 1]
        return next((start for start in ahead if self._folded.startswith(word, start)), None)

    def _word_end(self, at: int) -> int:
        """The end of the word around the character ``at``, with the punctuation that clings to it."""
        is_wide, end = self._text[at] >= WIDE, at + 1
        while end < len(self._text) and not (char := self._text[end]).isspace():
            if char.isalnum() and (is_wide or char >= WIDE):
                break
            end += 1
        return end


def split(characters: Sequence[str], starts: Sequence[float]) -> list[tuple[str, float]]:
    """Words, each with the time of its first character. The last one may be a part of a word: the rest of it, split
    off the next characters, is taken by :meth:`Words.place` as well.
    """
    words: list[tuple[str, float]] = []
    is_inside = False
    for character, start in zip(characters, starts, strict=False):
        if character.isspace():
            is_inside = False
        elif is_inside and character < WIDE:
            words[-1] = (words[-1][0] + character, words[-1][1])
        else:
            words.append((character, start))
            is_inside = character < WIDE
    return words


def _fold(text: str) -> str:
    """Letters and digits, without case and accents."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text)
    return "".join(char for char in text.casefold() if char.isalnum())
