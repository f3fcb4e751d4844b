"""Does the caller want the floor, or are they only listening? (`bargeIn.strategy: interruptPrediction`)

Asked again whenever there is new evidence while the agent speaks: more words, a final, or the time that a ruling
names. It is an open rule of thumb in the place of Krisp's paid model: it knows the words that listeners use, not their
meaning, and hears no melody. With this strategy nothing is held tentatively, so waiting and ignoring both let the
agent speak on; what is ignored is settled until there are new words.

The words of a language are in ``words/<language>.txt``; English where there is no such file.
"""

import enum
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

# Seconds and words at the neutral threshold of 0.5; a higher one asks for more evidence before it cuts, a lower less.
LONG = 1.5  # a voice that lasts so long wants the floor, whatever it says
DEADLINE = 3.0  # a decision is made by then
WORDS = 3  # words with a content of their own that cut at once …
FINAL_WORDS = 1  # … and that do once the caller has finished: "Tuesday."
ECHO = 0.8  # likeness to our own audio from which a quieter sound is our own audio

QUIET = -6.0  # dB below the caller's usual level: an echo may be so loud, the caller seldom is so soft
FAR = -12.0  # dB: someone else in the room, a television; it takes more of them
FAR_WORDS = 2  # so many more words
FAR_TIME = 2.0  # so many times as long
PHRASE = 5  # words of the longest phrase in the lists

_WIDE = "\u2e80"  # from here on come the scripts that put no space between words …
_WIDE_WORD = 2  # … where a word has about so many characters
_BETWEEN = re.compile(r"[\s.,;:!?…\"“”„«»()\[\]¿¡–—\-。，、？！；؟،]+")
_DRAWN = re.compile(r"([^\W\d_])\1{2,}")  # "yeahhh"


class Verdict(enum.Enum):
    WAIT = enum.auto()  # not known yet
    IGNORE = enum.auto()  # the caller only listens, or it is not the caller
    INTERRUPT = enum.auto()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the caller's speech during the agent's.

    ``duration`` is seconds of speech so far; ``words`` its transcript, all of it so far; ``loudness_db`` relative to
    the caller's own usual level; ``echo`` how much the sound is like our own outgoing audio, 0 to 1. ``None`` is
    unknown.
    """

    duration: float
    words: str = ""
    is_final: bool = False
    language: str = "en"
    loudness_db: float | None = None
    echo: float | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """``again`` is the duration of the speech (seconds) at which the same words may be ruled otherwise."""

    verdict: Verdict
    why: str
    again: float | None = None


@dataclass(frozen=True, slots=True)
class Words:
    """What listeners and interrupters say in one language; phrases of normalised words with one space between."""

    backchannels: frozenset[str] = frozenset()
    fillers: frozenset[str] = frozenset()
    stops: frozenset[str] = frozenset()
    questions: frozenset[str] = frozenset()


class Kind(enum.Enum):
    """What a phrase is to a listener."""

    BACKCHANNEL = enum.auto()
    FILLER = enum.auto()
    STOP = enum.auto()
    QUESTION = enum.auto()
    CONTENT = enum.auto()


def judge(evidence: Evidence, threshold: float = 0.5) -> Ruling:
    """The verdict on what is known so far. ``threshold`` 0 (cut lightly) to 1 (cut only when it is very sure)."""
    loudness, more = evidence.loudness_db, threshold - 0.5
    if evidence.echo is not None and evidence.echo >= ECHO - 0.3 * more and (loudness is None or loudness <= QUIET):
        return Ruling(Verdict.IGNORE, "echo of the agent")
    is_far = loudness is not None and loudness <= FAR
    kinds = list(_kinds(evidence.words, words_of(evidence.language)))
    content = sum(kind is not Kind.BACKCHANNEL and kind is not Kind.FILLER for kind in kinds)
    if content and not is_far and (why := _asks(evidence.words, kinds)):
        return Ruling(Verdict.INTERRUPT, why)
    enough = max(WORDS + round(4 * more), 1) + FAR_WORDS * is_far
    if content >= enough:
        return Ruling(Verdict.INTERRUPT, f"{content} words")
    if evidence.is_final:
        return _final(len(kinds), content, max(FINAL_WORDS + round(4 * more), 1) + FAR_WORDS * is_far)
    return _by_time(evidence.duration, len(kinds), content, (LONG + 2 * more) * (FAR_TIME if is_far else 1.0), more)


def _asks(text: str, kinds: list[Kind]) -> str:
    """Why these words cut at once, however few they are; empty if they do not."""
    first = next((kind for kind in kinds if kind not in (Kind.BACKCHANNEL, Kind.FILLER)), Kind.CONTENT)
    if first is Kind.STOP:
        return "asked to stop"
    return "question" if first is Kind.QUESTION or re.search("[?？؟]", text) else ""


def _final(words: int, content: int, enough: int) -> Ruling:
    if content >= enough:
        return Ruling(Verdict.INTERRUPT, "said something of their own")
    if content:
        return Ruling(Verdict.IGNORE, "too few words")
    return Ruling(Verdict.IGNORE, "backchannel" if words else "no words")


def _by_time(duration: float, words: int, content: int, long: float, more: float) -> Ruling:
    """Too little was said to tell, and more may come."""
    deadline = max(DEADLINE + 2 * more, long)
    if words and not content:
        if duration >= deadline:
            return Ruling(Verdict.IGNORE, "only backchannels")
        return Ruling(Verdict.WAIT, "backchannel so far", deadline)
    if duration >= long:
        return Ruling(Verdict.INTERRUPT, "long speech" if words else "long speech without words")
    return Ruling(Verdict.WAIT, "few words so far" if words else "no words yet", long)


# Words ----------------------------------------------------------------------------------------------------


def _kinds(text: str, known: Words) -> Iterator[Kind]:
    """What is said, phrase by phrase, the longest phrase that is known first."""
    spoken = _spoken(text)
    at = 0
    while at < len(spoken):
        for size in range(min(PHRASE, len(spoken) - at), 0, -1):
            phrase = " ".join(spoken[at : at + size])
            kind = _kind(phrase, known)
            if kind is not Kind.CONTENT or size == 1:
                yield from [kind] * (math.ceil(len(phrase) / _WIDE_WORD) if phrase >= _WIDE else 1)
                at += size
                break


def _kind(phrase: str, known: Words) -> Kind:
    if phrase in known.stops:
        return Kind.STOP
    if phrase in known.backchannels:
        return Kind.BACKCHANNEL
    if phrase in known.fillers:
        return Kind.FILLER
    return Kind.QUESTION if phrase in known.questions else Kind.CONTENT


def _spoken(text: str) -> list[str]:
    """The words as the lists have them: "Yeahhh, uh-huh!" is "yeah", "uh", "huh"."""
    words = _BETWEEN.split(_DRAWN.sub(r"\1", text.replace("’", "'").casefold()))
    return [stripped for word in words if (stripped := word.strip("'"))]


@lru_cache(maxsize=64)
def words_of(language: str) -> Words:
    """The lists of a language by its primary tag (``en`` of ``en-US``)."""
    primary = re.split("[-_]", language.strip().lower())[0]
    folder = resources.files("turn") / "words"
    file = folder / f"{primary}.txt"
    is_known = re.fullmatch("[a-z]{2,3}", primary) and file.is_file()
    return parse((file if is_known else folder / "en.txt").read_text("utf-8"))


def parse(text: str) -> Words:
    """``[section]`` opens a list; phrases are separated by commas and lines; ``#`` begins a remark."""
    lists: dict[str, set[str]] = {}
    section = ""
    for line in text.splitlines():
        if heading := re.match(r"\[(\w+)\]", line):
            section = heading[1]
        elif section and not line.startswith("#"):
            lists.setdefault(section, set()).update(" ".join(_spoken(phrase)) for phrase in line.split(","))
    return Words(**{section: frozenset(phrases - {""}) for section, phrases in lists.items()})
