"""Token deltas become pieces that can be spoken: a first piece early, then whole sentences. The first piece is a
clause; for a voice that joins pieces into one flow of speech it may be a word.

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
# Words that are often the beginning of another: I'm, it's, let's.
OPEN = frozenset("i you we they he she it that there here what who where how let".split())
FIRST_WORDS = 2  # the first piece is at least this long, if it ends in a comma …
FIRST_MAX = 60  # … and is not kept waiting for one for more characters than this
MAX = 240  # a sentence longer than this is said in parts

# A word that is said the same whatever follows it: no number, no abbreviation, nothing that is spelt out.
_PLAIN = r"[^\W\d_]+(?:['’][^\W\d_]+)?,?"
_WORD = re.compile(r"\S+")
_SAID = re.compile(r"\w")  # a piece without it would be silence to a TTS, or an error
_SPACE = re.compile(r"\s*")
_CLOSE = re.compile(f"[{re.escape(ENDINGS + CLOSINGS)}]*")
_MARK = re.compile(f"[\n{re.escape(ENDINGS + WIDE)}]")
_FIRST_MARK = re.compile(f"[\n{re.escape(ENDINGS + WIDE + CLAUSES)}]")


class Splitter:
    """Feed deltas to :meth:`push`; :meth:`flush` gives the rest when the stream ends or stalls. ``first_words``: the
    first piece is so many words, where all of them are plain ones; 0: a clause.
    """

    def __init__(self, first_words: int = 0) -> None:
        self._opening = re.compile(rf"\s*(?:{_PLAIN}\s+){{{first_words}}}") if first_words else None
        self._guess: str | None = None  # handed over as a word, before what follows it is known
        self._buffer = ""
        self._seen = 0  # no piece ends before this character: each one is looked at once
        self._is_first = True

    def push(self, delta: str) -> list[str]:
        """The pieces that ``delta`` completes, in order."""
        if delta and not self._buffer:
            self._guess = None  # it was a word
        self._buffer += delta
        pieces = []
        while end := self._end():
            pieces.append(self._buffer[:end])
            self._buffer = self._buffer[end:]
            self._seen = 0
            self._is_first = False
        return pieces

    def guess(self) -> str:
        """What has come, if all of it is likely to be a plain word: models seldom cut the first one in two. Empty
        otherwise. Whether it was one shows with what follows: see :meth:`was_wrong`.
        """
        text = self._buffer
        word = text.strip().casefold()
        if not self._is_first or not re.fullmatch(rf"\s*{_PLAIN}", text) or word in OPEN or _is_abbreviation(word):
            return ""
        self._guess, self._buffer, self._seen, self._is_first = text, "", 0, False
        return text

    def was_wrong(self, delta: str) -> bool:
        """Does ``delta``, which comes next, go on with the word that was guessed?"""
        return self._guess is not None and not self._buffer and bool(re.match(r"[\w'’-]", delta))

    def take_back(self) -> None:
        """The guess was not said: it belongs to what comes."""
        if self._guess is not None:
            self._buffer, self._guess, self._is_first = self._guess, None, True

    def words(self) -> str:
        """The whole words so far, out of turn: the voice has nothing left to say. Empty when there are none."""
        end = self._buffer.rfind(" ") + 1
        if not _SAID.search(self._buffer, 0, end):
            return ""
        words, self._buffer, self._seen, self._is_first = self._buffer[:end], self._buffer[end:], 0, False
        return words

    def flush(self) -> str:
        """What is left, complete or not; empty when nothing is."""
        rest, self._buffer, self._seen = self._buffer, "", 0
        if rest.strip():
            self._is_first = False
        return rest

    def _end(self) -> int:
        """Where the first piece of the buffer ends, with the space behind it; 0 when none is complete yet."""
        text = self._buffer
        if self._is_first and (first := self._first_words()):
            return first
        mark = _FIRST_MARK if self._is_first else _MARK
        while found := mark.search(text, self._seen):
            at = found.start()
            if _SAID.search(text, 0, at):
                end = self._end_at(text, at)
                if end is None:
                    self._seen = at
                    break
                if end:
                    return end
            self._seen = at + 1
        else:
            self._seen = len(text)
        limit = FIRST_MAX if self._is_first else MAX
        return _last_word_end(text, limit) if len(text) > limit else 0

    def _first_words(self) -> int:
        """Where they end; 0 where there are none, or where how they are said hangs on what follows."""
        found = self._opening.match(self._buffer) if self._opening is not None else None
        if found is None or any(_is_abbreviation(word.rstrip(",")) for word in found.group().split()):
            return 0
        return found.end()

    def _end_at(self, text: str, at: int) -> int | None:
        """The end of the piece, if the mark at ``at`` ends one: behind closing quotes and the space that must follow.
        0 if it does not (``3.5``), ``None`` when what follows is not known yet.
        """
        char = text[at]
        if char in WIDE:
            return _past_space(text, at + 1)
        if char == "\n":
            return _past_space(text, at + 1) if text[at + 1 :].strip() else None
        end = _match_end(_CLOSE, text, at + 1)
        if end >= len(text):
            return None
        if not text[end].isspace() or (char == "." and _is_abbreviation(text[:at])):
            return 0
        if char in CLAUSES and len(_WORD.findall(text[:at])) < FIRST_WORDS:
            return 0
        return _past_space(text, end)


def _match_end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _past_space(text: str, at: int) -> int:
    return _match_end(_SPACE, text, at)


def _is_abbreviation(before: str) -> bool:
    """Is the full stop behind this one of an abbreviation, an initial, or a number that opens a list's line?"""
    words = before.split()
    word = words[-1].lstrip("\"'“‘([").casefold()
    if word.isdigit():
        return len(words) == 1
    return word in ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word not in "ai")


def _last_word_end(text: str, limit: int) -> int:
    """Behind the last clause, else the last word, that fits; an endless word is cut where a sentence would be."""
    head = text[:limit]
    at = max(head.rfind(mark + " ") for mark in CLAUSES)
    for end in (at + 2 if at > 0 else 0, head.rfind(" ") + 1, MAX if len(text) > MAX else 0):
        if end and _SAID.search(text, 0, end):
            return end
    return 0
