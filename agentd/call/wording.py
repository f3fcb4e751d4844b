"""Which words lie where in a reply's audio, for whoever watches the call: told a few at a time, as the voice does it.

    spoken {reply, words: [[seconds, text], …], until}    seconds into the reply's audio; each piece lasts until the
                                                          next one, the last until ``until`` where that is known

A vendor without word times gives whole sentences: a piece is then as long as the sound that it came with.
"""

from typing import Any, Protocol

FEW = 8  # words that wait for an entry: a vendor with word times sends far ahead of what is heard


class Tell(Protocol):
    """Takes the fields of an entry, but for the reply's number."""

    def __call__(self, **fields: Any) -> None: ...


def nobody(**fields: Any) -> None:
    """Where there is no log."""


class Wording:
    """That of one reply, as long as its voice says the same text."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._words: list[tuple[float, str]] = []
        self._told = 0  # characters of the text that are in an entry, or in ``_words``
        self._from = 0.0  # where the next piece begins at the earliest

    def word(self, text: str, end: int, start: float) -> None:
        """A word that ends with character ``end`` of the text so far begins ``start`` seconds into the audio."""
        if end <= self._told:
            return
        self._take(text, end, start)
        if len(self._words) >= FEW:
            self._flush()

    def span(self, text: str, end: int, until: float) -> None:
        """All audio of the text up to character ``end`` is there; it ends ``until`` seconds in."""
        if end > self._told:
            self._take(text, end, self._from)
        self._from = until
        if self._words:
            self._flush(until=round(until, 3))

    def _take(self, text: str, end: int, start: float) -> None:
        piece, self._told = text[self._told : end].strip(), end
        self._from = max(self._from, start)
        if piece:
            self._words.append((round(start, 3), piece))

    def _flush(self, **more: float) -> None:
        self._tell(words=self._words, **more)
        self._words = []
