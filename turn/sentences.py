"""Token deltas become pieces that can be spoken: a first piece early, then whole sentences.

The pieces joined together are the deltas joined together, to the character: the playout ledger counts on it.
"""

import re

ENDINGS = ".!?…"
CLOSINGS = "\"'”’)]"
CLAUSES = ",;:–—"
WIDE = "。！？；，"  # scripts that put no space behind a sentence

# A full stop behind these ends no sentence.
ABBREVIATIONS = frozenset(
    """mr mrs ms dr prof sr jr st no vs etc e.g i.e a.m p.m approx inc ltd co dept est fig gen hon rev u.s""".split()
)
FIRST_WORDS = 2  # the first piece is at least this long, if it ends in a comma …
FIRST_MAX = 60  # … and is not kept waiting for one for more characters than this
MAX = 240  # a sentence longer than this is said in parts

_WORD = re.compile(r"\S+")


class Splitter:
    """Feed deltas to :meth:`push`; :meth:`flush` gives the rest when the stream ends or stalls."""

    def __init__(self) -> None:
        self._buffer = ""
        self._is_first = True

    def push(self, delta: str) -> list[str]:
        """The pieces that ``delta`` completes, in order."""
        self._buffer += delta
        pieces = []
        while end := self._end():
            pieces.append(self._buffer[:end])
            self._buffer = self._buffer[end:]
            self._is_first = False
        return pieces

    def flush(self) -> str:
        """What is left, complete or not; empty when nothing is."""
        rest, self._buffer = self._buffer, ""
        if rest.strip():
            self._is_first = False
        return rest

    def _end(self) -> int:
        """Where the first piece of the buffer ends, with the space behind it; 0 when none is complete yet."""
        text = self._buffer
        for at, char in enumerate(text):
            if not text[:at].strip():
                continue
            if char in WIDE or (char == "\n" and text[at + 1 :].strip()):
                return _past_space(text, at + 1)
            if char in ENDINGS and (end := _closed(text, at)) and not _is_abbreviation(text[:at], char):
                return end
            is_early = self._is_first and char in CLAUSES and len(_WORD.findall(text[:at])) >= FIRST_WORDS
            if is_early and (end := _closed(text, at)):
                return end
        limit = FIRST_MAX if self._is_first else MAX
        return _last_word_end(text, limit) if len(text) > limit else 0


def _closed(text: str, at: int) -> int:
    """The end of a piece whose last mark stands at ``at``: behind closing quotes and the space that must follow.
    0 when no space follows (``3.5``) or when what follows is not known yet.
    """
    end = at + 1
    while end < len(text) and text[end] in ENDINGS + CLOSINGS:
        end += 1
    if end >= len(text) or not text[end].isspace():
        return 0
    return _past_space(text, end)


def _past_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _is_abbreviation(before: str, mark: str) -> bool:
    if mark != ".":
        return False
    word = before.rsplit(None, 1)[-1].lstrip("\"'“‘([").casefold()
    return word in ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word not in "ai")


def _last_word_end(text: str, limit: int) -> int:
    """Behind the last clause, else the last word, that fits; 0 for one endless word (it is cut by the flush)."""
    head = text[:limit]
    at = max(head.rfind(mark + " ") for mark in CLAUSES)
    return (at + 2) if at > 0 else head.rfind(" ") + 1
