r"""Token deltas become text that can be spoken: no thoughts, stage directions, markup or emoji (`speechCleanup`).

What is said is told as early as it can be decided, and each part of it knows the raw text that it came from: history
and `turn_end` keep the raw text, as far as its clean text was heard.

    think blocks        ``<think>``, ``<thinking>``, ``<reasoning>``: dropped, unclosed ones to the end
    stage directions    ``(smiles)``, ``[pause]``, ``*laughs*``: dropped where they are a whole line or sentence
    code                fenced blocks are dropped, ``code`` in a line loses its ticks
    emphasis, headings, bullets, quotes, rules, links, images' and links' addresses: the words stay
    "1. Wash hands"     as it is: the number is worth hearing; a keycap emoji leaves its digit for the same reason
    https://x.org/pay   loses the scheme
    | a | b |           "a, b"
    &amp; \*             "&", "*"
    everything else     as it is: "3 * 4", "a_b", "5 < 6", "*67", "AT&T", "#1", tags that are meant for the TTS
"""

import enum
import html
import re
from bisect import bisect_left, bisect_right
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

from turn.sentences import ABBREVIATIONS

DIRECTION = 200  # characters: what is longer is no stage direction; so much is held back at most
LINK = 200  # characters of a link's text; they wait for the bracket behind it …
ADDRESS = 1000  # … and of its address, which nobody waits for
ENTITY = 32
STEM_WORDS = 3  # the words of a stage direction that tell it from speech are the first ones
TAIL = 16  # clean characters that are kept to know where a sentence begins

_TAGS = tuple(f"<{slash}{name}>" for slash in ("", "/") for name in ("think", "thinking", "reasoning"))
_CLOSING_TAG = re.compile("</(?:think|thinking|reasoning)>", re.IGNORECASE)
_JOINERS = "\ufe0e\ufe0f\u20e3"  # variation selectors, the keycap
_EMOJI = (
    "\u231a\u231b\u23e9-\u23f3\u23f8-\u23fa\u25aa\u25ab\u25fb-\u25fe\u2600-\u27bf\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55"
    "\U0001f000-\U0001fbff\U000e0020-\U000e007f"
)
_EMOJIS = re.compile(f"[{_EMOJI}{_JOINERS}][{_EMOJI}{_JOINERS}\u200d]*")
# A word that begins as an address does, be it whole or as far as it is known.
_SCHEME = re.compile(r"\bhttps?://|\bh(?:t(?:t(?:p(?:s?(?::(?:/)?)?)?)?)?)?\Z")
_MARK = re.compile(rf"[\n<>*_`\[\](&~\\（【{_EMOJI}{_JOINERS}]")
_SPECIAL = re.compile(f"{_MARK.pattern}|{_SCHEME.pattern}")
_ROW_SPECIAL = re.compile(rf"[ \t]*\||[ \t]+\Z|{_SPECIAL.pattern}")
_BULLET = re.compile(r"(?:[-+*•>]|#{1,6})[ \t]+")
_RULE = re.compile(r"([-*_=])\1{2,}[ \t\r]*(?=\n|\Z)")
_LINE_MARKS = re.compile(r"(?:[-+*•>#_=]+[ \t\r]*)\Z")  # it may still become one of the two
_FENCE = re.compile(r"(?:`{3,}|~{3,})[^`\n]*")
_FENCE_END = re.compile(r"[ \t]*(?:`{3,}|~{3,})\s*\Z")
_SEPARATOR = re.compile(r"\|[ \t:|-]*")  # the second line of a table
_DIRECTION_MARK = re.compile(r"\*+|_+|[(\[（【]")
_CLOSINGS = {"(": ")", "[": "]", "（": "）", "【": "】"}
_BEHIND = re.compile(r"[.…。]?[ \t]*")
_LINK_END = re.compile(r"\]\((?:[^()\n]|\([^()\n]*\))*\)")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]+);")
_ENTITY_BEGUN = re.compile(r"&#?[a-zA-Z0-9]*\Z")
_NUMBERED = re.compile(r"(?:\A|\n)[ \t]*\d+\.\Z")
_OPENING = "([{\"'“‘«¿¡-–—*_~`（"


class Place(enum.Enum):
    """Where in the text we are.

    LINE -> TEXT or ROW -> LINE at a newline; LINE -> CODE -> LINE at fences; anywhere -> THOUGHT -> back again.
    """

    LINE = enum.auto()  # at the beginning of a line, but for spaces
    TEXT = enum.auto()
    ROW = enum.auto()  # in a line of a table
    CODE = enum.auto()  # in a fenced block
    THOUGHT = enum.auto()


class Step(NamedTuple):
    """The buffer up to ``end`` is decided: ``said`` stands for it. What ``closes`` belongs to the words before it."""

    end: int
    said: str = ""
    closes: bool = False
    is_block: bool = False  # nothing of it is said, and it had space on both sides: one of the two is enough


class Cleaner:
    """Feed deltas to :meth:`push`; :meth:`flush` gives the rest when a stream ends, and another may follow."""

    def __init__(self) -> None:
        self._buffer = ""  # raw text that is not decided yet
        self._place = Place.LINE
        self._back = Place.LINE  # where the thought began
        self._open = dict.fromkeys("*_`~<[", 0)  # marks whose end may come in this line
        self._skip = ""  # spaces to be dropped
        self._tail = ""  # the last clean characters
        self._before = ""  # the raw character before the buffer, where it was dropped
        self._is_over = False
        self._clean = 0  # characters given so far
        self._raw = 0  # characters decided so far
        # Clean character n + 1 … came from raw character m + 1 …, up to the next pair.
        self._runs: tuple[list[int], list[int]] = ([0], [0])
        # With n clean characters, m raw ones are complete: what closes, and what was dropped at the end.
        self._ends: tuple[list[int], list[int]] = ([], [])

    def push(self, delta: str) -> str:
        """What can be spoken now."""
        is_plain = not self._buffer and self._place is Place.TEXT and not self._skip and not _MARK.search(delta)
        if is_plain and ("h" not in delta or not _SCHEME.search(delta)):  # nearly always: one scan, no more
            if delta:
                self._pass(delta)
            return delta
        self._buffer += delta
        return self._work()

    def flush(self) -> str:
        """What is left to be spoken. What was dropped behind the last word belongs to it from now on."""
        self._is_over = True
        said = self._work()
        self._is_over = False
        self._place = Place.LINE
        self._forget_marks()
        self._skip = ""
        self._before = "\n"
        self._end(self._clean - (len(self._tail) - len(self._tail.rstrip())))
        return said

    def raw_prefix(self, clean_characters: int) -> int:
        """How many characters of the raw text are behind the first so many clean ones. Never less for more of them."""
        count = min(max(clean_characters, 0), self._clean)
        at = max(bisect_left(self._runs[0], count) - 1, 0)
        raw = self._runs[1][at] + count - self._runs[0][at] if count else 0
        if closed := bisect_right(self._ends[0], count):
            raw = max(raw, self._ends[1][closed - 1])
        return raw

    # Bookkeeping -----------------------------------------------------------------------------------------

    def _pass(self, text: str) -> None:
        self._clean += len(text)
        self._raw += len(text)
        self._tail = (self._tail + text)[-TAIL:]
        self._before = self._skip = ""

    def _take(self, raw: str, step: Step) -> None:
        """Book what ``step`` makes of ``raw``."""
        if raw == step.said:
            self._pass(raw)
            return
        self._raw += len(raw)
        if step.closes:
            self._end(self._clean)
        if step.said:
            self._start_run(self._raw - len(step.said))
            self._clean += len(step.said)
            self._tail = (self._tail + step.said)[-TAIL:]
            self._skip = ""
        self._start_run(self._raw)
        self._before = raw[-1:]
        if self._place is not Place.LINE:
            self._skip = self._skip.strip("\r\n")
        if step.is_block:
            if self._place is Place.LINE:
                self._skip = " \t\r\n"
            elif self._tail[-1:].isspace():
                self._skip = " \t"

    def _start_run(self, raw: int) -> None:
        clean_at, raw_at = self._runs
        if clean_at[-1] == self._clean:
            raw_at[-1] = raw
        else:
            clean_at.append(self._clean)
            raw_at.append(raw)

    def _end(self, clean: int) -> None:
        clean_at, raw_at = self._ends
        while clean_at and clean_at[-1] >= clean:
            clean_at.pop()
            raw_at.pop()
        clean_at.append(clean)
        raw_at.append(self._raw)

    def _forget_marks(self) -> None:
        for mark in self._open:
            self._open[mark] = 0

    # The scan --------------------------------------------------------------------------------------------

    def _work(self) -> str:
        """Decide as much of the buffer as can be decided."""
        said = []
        text, at = self._buffer, 0
        while at < len(text):
            step = self._step(text, at)
            if step is None:
                break
            self._take(text[at : step.end], step)
            said.append(step.said)
            at = step.end
        self._buffer = text[at:]
        return "".join(said)

    def _step(self, text: str, at: int) -> Step | None:
        """The next decision; ``None`` if it depends on what follows."""
        if self._place is Place.THOUGHT:
            return self._thought(text, at)
        if self._place is Place.CODE:
            return self._code(text, at)
        if self._skip and text[at] in self._skip:
            return Step(at + 1)
        if self._place is Place.LINE:
            if text[at].isspace():
                return Step(at + 1, text[at])
            if (step := self._line(text, at)) is None or step.end > at:
                return step
        found = (_ROW_SPECIAL if self._place is Place.ROW else _SPECIAL).search(text, at)
        if found is None or found.start() > at:
            end = found.start() if found else len(text)
            self._leave_line()
            return Step(end, text[at:end])
        return self._special(text, at)

    def _special(self, text: str, at: int) -> Step | None:
        if text[at] in "*_([（【" and ((step := self._direction(text, at)) is None or step.end > at):
            return step
        match text[at]:
            case "\n":
                self._place = Place.LINE
                self._forget_marks()
                return Step(at + 1, "\n")
            case "<":
                return self._tag(text, at)
            case ">":
                return self._closed_or_kept("<", text, at)
            case "*" | "_":
                return self._emphasis(text, at)
            case "(" | "（" | "【":
                return self._kept(text, at)
            case "[":
                return self._link(text, at)
            case "]":
                return self._link_end(text, at)
            case "`" | "~":
                return self._ticks(text, at)
            case "&":
                return self._entity(text, at)
            case "\\":
                return self._escape(text, at)
            case "h":
                return self._address(text, at)
            case "|" | " " | "\t":
                return self._cell(text, at)
            case _:
                return self._emoji(text, at)

    @property
    def _previous(self) -> str:
        """The raw character before this one."""
        return self._before or self._tail[-1:]

    def _leave_line(self) -> None:
        if self._place is Place.LINE:
            self._place = Place.TEXT

    def _kept(self, text: str, at: int, end: int = 0) -> Step:
        self._leave_line()
        end = end or at + 1
        return Step(end, text[at:end])

    def _closed_or_kept(self, mark: str, text: str, at: int) -> Step:
        if not self._open[mark]:
            return self._kept(text, at)
        self._open[mark] = 0
        return Step(at + 1, closes=True)

    # Thoughts and code -----------------------------------------------------------------------------------

    def _tag(self, text: str, at: int) -> Step | None:
        rest = text[at : at + 12].lower()
        for tag in _TAGS:
            if rest.startswith(tag):
                if tag[1] == "/":  # its block began in the prompt: nothing to do about what was said
                    return Step(at + len(tag), is_block=True)
                self._back, self._place = self._place, Place.THOUGHT
                return Step(at + len(tag))
        if any(tag.startswith(rest) for tag in (*_TAGS, "<http")):
            if not self._is_over:
                return None
            return Step(len(text)) if len(rest) > 1 else self._kept(text, at)
        if not rest.startswith("<http"):
            return self._kept(text, at)
        self._leave_line()
        self._open["<"] = 1
        return Step(at + 1)

    def _thought(self, text: str, at: int) -> Step | None:
        if closing := _CLOSING_TAG.search(text, at):
            self._place = self._back
            return Step(closing.end(), is_block=True)
        begun = text.rfind("<", at)
        if self._is_over or begun < 0 or not any(tag.startswith(text[begun:].lower()) for tag in _TAGS):
            return Step(len(text))
        return Step(begun) if begun > at else None

    def _code(self, text: str, at: int) -> Step | None:
        end = text.find("\n", at) + 1
        if not end:
            return Step(len(text)) if self._is_over else None
        if _FENCE_END.match(text[at:end]):
            self._place = Place.LINE
        return Step(end, is_block=True)

    def _ticks(self, text: str, at: int) -> Step | None:
        """Code, or text that is struck out."""
        mark, end = text[at], _run_end(text, at)
        if end == len(text) and not self._is_over:
            return None
        if self._place is Place.LINE and (fence := _FENCE.match(text, at)):
            if fence.end() == len(text):
                return Step(len(text)) if self._is_over else None
            if text[fence.end()] == "\n":
                self._place = Place.CODE
                return Step(fence.end() + 1)
        if mark == "`" or end - at == 2:
            if self._open[mark]:
                self._open[mark] = 0
                return Step(end, closes=True)
            if text[end : end + 1].strip() and not self._previous.isalnum():
                self._leave_line()
                self._open[mark] = 1
                return Step(end)
        return self._kept(text, at, end)

    # Lines -----------------------------------------------------------------------------------------------

    def _line(self, text: str, at: int) -> Step | None:
        """What only the beginning of a line can be; ends where it begins if it is none of that."""
        if rule := _RULE.match(text, at):
            if rule.end() == len(text) and not self._is_over:
                return None
            return Step(rule.end(), is_block=True)
        if bullet := _BULLET.match(text, at):
            if bullet.end() == len(text) and not self._is_over:
                return None
            self._place = Place.TEXT
            return Step(bullet.end())
        if _LINE_MARKS.match(text, at) and not self._is_over:
            return None
        return self._row(text, at) if text[at] == "|" else Step(at)

    def _row(self, text: str, at: int) -> Step | None:
        separator = _SEPARATOR.match(text, at)
        end = separator.end() if separator else at
        if end == len(text):
            return Step(end) if self._is_over else None
        if text[end] == "\n" and "-" in text[at:end]:
            return Step(end, is_block=True)
        self._place = Place.ROW
        return Step(at + 1 + _spaces(text, at + 1))

    def _cell(self, text: str, at: int) -> Step | None:
        """The space and the pipe behind a cell: a comma, unless it is the last one."""
        end = at + _spaces(text, at)
        if end < len(text):
            behind = end + 1 + _spaces(text, end + 1)
            if behind < len(text):
                return Step(behind, closes=True) if text[behind] in "\r\n" else Step(end + 1, ",")
        return Step(len(text), closes=True) if self._is_over else None

    # Stage directions ------------------------------------------------------------------------------------

    def _direction(self, text: str, at: int) -> Step | None:
        """Drops a line that is only a stage direction, and one that stands as a sentence among others; ends where it
        begins if this is none.
        """
        found = _DIRECTION_MARK.match(text, at)
        if found is None or len(found[0]) > 3 or not self._begins_sentence():
            return Step(at)
        mark, start = found[0], found.end()
        if start == len(text):
            return Step(at) if self._is_over else None
        closing = _CLOSINGS.get(mark, mark)
        end = text.find(closing, start, start + DIRECTION)
        is_whole = end >= 0
        content = text[start : end if is_whole else start + DIRECTION]
        is_line = self._place is Place.LINE
        if "\n" in content or not _may_be_direction(mark, content, is_whole, is_line):
            return Step(at)
        if not is_whole:
            return Step(at) if self._is_over or len(content) == DIRECTION else None
        end += len(closing)
        space = _BEHIND.match(text, end)
        behind = space.end() if space else end
        if behind == len(text) and not self._is_over:
            return None
        follows = text[behind : behind + 1]
        is_line = is_line and follows in ("", "\r", "\n")
        if follows and behind == end and mark not in "([（【" and not follows.isspace():
            return Step(at)  # an opening mark, or emphasis within a word
        if follows == "(" and mark == "[" and behind == end:
            return Step(at)  # a link
        return Step(behind, is_block=True) if _is_direction(mark, content, is_line, follows) else Step(at)

    def _begins_sentence(self) -> bool:
        if self._place is Place.LINE:
            return True
        before = self._tail.rstrip(" \t")
        if not before or before[-1] == "\n" or (before == self._tail and before[-1] not in "。！？"):
            return False  # behind a bullet, or within a word
        before = before.rstrip("\"'”’)]»")
        if not before.endswith((".", "!", "?", "…", ":", "。", "！", "？")):
            return False
        words = before[:-1].split()
        is_numbered = _NUMBERED.search(before) is not None
        return not is_numbered and not (before[-1] == "." and words and words[-1].casefold() in ABBREVIATIONS)

    # Marks in a line -------------------------------------------------------------------------------------

    def _emphasis(self, text: str, at: int) -> Step | None:
        mark, end = text[at], _run_end(text, at)
        if end == len(text) and not self._is_over:
            return None
        before, follows = self._previous, text[end : end + 1]
        if self._open[mark] and before.strip() and (mark == "*" or not follows.isalnum()):
            self._open[mark] = max(self._open[mark] - (end - at), 0)
            return Step(end, closes=True)
        if _opens(text[at:end], before, follows):
            self._leave_line()
            self._open[mark] += end - at
            return Step(end)
        return self._kept(text, at, end)

    def _link(self, text: str, at: int) -> Step | None:
        window = text[at : at + LINK]
        end = window.find("]")
        is_known = 0 <= end < len(window) - 1 or "\n" in window or len(window) == LINK
        if not is_known and not self._is_over:
            return None
        if end < 0 or "\n" in window[:end] or window[end + 1 : end + 2] != "(":
            return self._kept(text, at)
        self._leave_line()
        self._open["["] = 1
        return Step(at + 1)

    def _link_end(self, text: str, at: int) -> Step | None:
        if not self._open["["]:
            return self._kept(text, at)
        window = text[at : at + ADDRESS]
        end = len(window)
        if address := _LINK_END.match(window):
            end = address.end()
        elif "\n" in window:
            end = window.index("\n")
        elif end < ADDRESS and not self._is_over:
            return None
        self._open["["] = 0
        return Step(at + end, closes=True)

    def _entity(self, text: str, at: int) -> Step | None:
        window = text[at : at + ENTITY]
        found = _ENTITY.match(window)
        if found is None:
            is_begun = _ENTITY_BEGUN.match(window) and len(window) < ENTITY
            return None if is_begun and not self._is_over else self._kept(text, at)
        said = html.unescape(found[0])
        if said == found[0] or (len(said) > 1 and said.endswith(";")):  # ``&notit;`` is read as ``&not`` and the rest
            return self._kept(text, at)
        end = at + found.end()
        if _EMOJIS.fullmatch(said):
            return Step(end, is_block=True)
        self._leave_line()
        return Step(end, " " if said.isspace() else said)

    def _escape(self, text: str, at: int) -> Step | None:
        if at + 1 == len(text) and not self._is_over:
            return None
        if text[at + 1 : at + 2] not in tuple("\\`*_{}[]()<>#+-.!|~&"):
            return self._kept(text, at)
        self._leave_line()
        return Step(at + 2, text[at + 1])

    def _address(self, text: str, at: int) -> Step | None:
        rest = text[at : at + 8]
        is_word = self._previous.isalnum() or self._previous == "_"
        scheme = next((s for s in ("https://", "http://") if s.startswith(rest) or rest.startswith(s)), "")
        if is_word or not scheme or (len(rest) < len(scheme) and self._is_over):
            return self._kept(text, at)
        if len(rest) < len(scheme):
            return None
        self._leave_line()
        return Step(at + len(scheme))

    def _emoji(self, text: str, at: int) -> Step | None:
        found = _EMOJIS.match(text, at)
        end = found.end() if found else at + 1
        if end == len(text) and not self._is_over:
            return None  # what is joined to it is part of it
        return Step(end, is_block=True)


def _run_end(text: str, at: int) -> int:
    end = at + 1
    while end < len(text) and text[end] == text[at]:
        end += 1
    return end


def _spaces(text: str, at: int) -> int:
    end = at
    while end < len(text) and text[end] in " \t":
        end += 1
    return end - at


def _opens(mark: str, before: str, follows: str) -> bool:
    """Does the mark open emphasis? Not in "3 * 4", "a_b", "2**3", "*67", 'press "*"', "****1234"."""
    if not follows.strip() or follows in ".,;:!?)]}" or len(mark) > 3:
        return False
    if mark[0] == "_":
        return not before.strip() or before in _OPENING
    is_quoted = before in ('"', "'", "“", "‘") and follows in ('"', "'", "”", "’")
    return not (before.isalnum() or before in (")", "]", "}") or is_quoted or (mark == "*" and follows.isdigit()))


def _may_be_direction(mark: str, content: str, is_whole: bool, is_line: bool) -> bool:
    """What is known of the content does not speak against it yet. What this denies, more of it cannot allow."""
    first = next((char for char in content if char.isalnum()), "")
    if (first and not first.isalpha()) or (is_whole and not first):
        return False
    if mark[0] in "*_" and (content[:1].isspace() or any(char.isdigit() for char in content)):
        return False
    if is_line and mark in ("(", "[", "（", "【", "*"):
        return True
    is_small = bool(first) and not first.isupper()
    if is_small and (mark == "*" or (is_line and mark[0] == "*")):
        return True
    return not (is_whole or len(_words(content)) > STEM_WORDS) or _is_known(content)


def _is_direction(mark: str, content: str, is_line: bool, follows: str) -> bool:
    """Lines as jambonz has it: whatever stands in () or [], or in * if it is not called out. Bold lines are mostly
    headings, and a sentence in brackets is mostly meant to be heard: there the words decide.
    """
    ending = content.rstrip()[-1:]
    is_small = not next(char for char in content if char.isalnum()).isupper()
    if _is_known(content):
        return is_line or is_small or mark in "([（【" or not follows.islower()  # "*Pause* is the second button."
    if is_line:
        return mark in "([（【" or (
            ending not in "!?:" if mark == "*" else mark[0] == "*" and is_small and ending.isalnum()
        )
    # Emphasis at the beginning of a sentence would have a capital letter, and small ones behind it.
    return mark == "*" and is_small and not follows.islower() and not re.search("[.!?:]", content)


def _is_known(content: str) -> bool:
    """Does one of the first two words, in any language, say so?"""
    words = _words(content)[:STEM_WORDS]
    return any(_stems().match(" ".join(words[at:])) for at in (0, 1) if at < len(words))


def _words(content: str) -> list[str]:
    return re.findall(r"[^\W\d_][\w'’-]*", content.casefold())


@lru_cache(maxsize=1)
def _stems() -> re.Pattern[str]:
    text = (resources.files("turn") / "words" / "directions.txt").read_text("utf-8")
    listed = ",".join(line for line in text.splitlines() if not line.startswith("#")).split(",")
    stems = (" ".join(stem.split()) for stem in listed if stem.strip())
    return re.compile("|".join(re.escape(s[:-1]) if s.endswith("*") else rf"{re.escape(s)}\b" for s in stems))
