"""Does the caller sound as if they were done? Asked of the words, of the voice, and of both as a time to wait.

The built-in engine of `turnDetection: krisp` where neither Krisp's model nor Smart Turn is at hand, and beside these
the reading of the words. All of it is a rule of thumb: it reads the end of the transcript, not its meaning.
What it cannot see: a German verb that is still to come, a list that goes on, irony.

The words of a language are in ``open_words/<language>.txt``; a language without a file is read by punctuation and
numerals alone.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from statistics import fmean, median

# How complete the words read, from 0 (the caller will go on) to 1 (nothing can be missing).
ANSWER = 1.0  # "yes", "goodbye": the whole turn
QUESTION = 0.95
SENTENCE = 0.9  # with a full stop from the recogniser
PLAIN = 0.8  # no punctuation (most partials), and no sign against it
ASKED_FOR = 0.75  # "who is it for": seldom the end, but this is a question
UNREAD = 0.6  # a language without a file, and no punctuation
DIGITS_MAY_END = 0.6  # as many digits as a phone number has
HALF = 0.25  # "I am calling about"
COMMA = 0.2
DICTATING = 0.15  # "five five five": three digits of more to come, or a spelled name
OPEN = 0.05  # "a table for the", "um"

PHONE_DIGITS = 10  # with fewer of them a number that is being dictated goes on
LONE_DIGITS = 4  # "42", "2026": a numeral of so many digits is just a number

SHORTEST = 0.25  # seconds of quiet when the turn is surely over …
LONGEST = 1.6  # … and when the caller surely goes on
NEUTRAL = 0.925  # as sure as the threshold asks for: half way
SLOPE = 1.8  # seconds that one unit of sureness is worth
VOICE = 0.25  # how much the built-in hearing weighs against the words

FRAME = 0.02  # seconds a frame of Prosody lasts
WINDOW = 0.6  # seconds of speech that the end of a phrase takes
LEAST_FRAMES = 10  # less speech than this has no melody to speak of

_PHRASE_WORDS = 5  # the longest phrase in the lists
_TRAILING = re.compile(r"[\s\"”)\]»]*$")
_NUMERAL = re.compile(r"\+?\(?\d[\d\-()]*$")
_SPELLED = re.compile(r"[^\W\d_](?:[-.][^\W\d_])+\.?$")  # J-O-H-N, J.O.H.N.


# The words ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Words:
    """What is known of one language. Phrases are in lower case, their words separated by one space."""

    open: frozenset[str] = frozenset()
    half: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    questions: frozenset[str] = frozenset()
    answers: frozenset[str] = frozenset()
    digits: frozenset[str] = frozenset()


def completeness(words: str, language: str) -> float:
    """How complete a transcript reads, 0 to 1. ``language`` is a tag such as ``en-US``; no words are 0."""
    text = _TRAILING.sub("", words.replace("’", "'"))
    known = words_of(language)
    spoken = _spoken(text)
    if not spoken:
        return 0.0
    if text.endswith(("...", "…", "-", "–", "—")):
        return OPEN
    if text.endswith((",", ":", ";", "，", "、", "；")):
        return COMMA
    if " ".join(spoken) in known.answers:
        return ANSWER
    if (dictated := _dictated(text, spoken, known)) is not None:
        return dictated
    asked = text.endswith(("?", "？", "؟"))
    asks = asked or any(" ".join(spoken[:size]) in known.questions for size in (1, 2))
    ending = _ending(spoken, known)
    if ending == OPEN or (ending == HALF and not asks):
        # A full stop is no evidence here: recognisers put one behind whatever they were given.
        return ending
    if ending == HALF:
        return ASKED_FOR
    if asked:
        return QUESTION
    if text.endswith((".", "!", "。", "！")):
        return SENTENCE
    if known == Words():
        return UNREAD
    return SENTENCE if asks else PLAIN


def _ending(spoken: list[str], known: Words) -> float:
    """What the longest phrase that is known of the end says of it."""
    for size in range(min(_PHRASE_WORDS, len(spoken)), 0, -1):
        phrase = " ".join(spoken[-size:])
        for list_of, value in ((known.closed, PLAIN), (known.open, OPEN), (known.half, HALF)):
            if phrase in list_of:
                return value
    return PLAIN


def _dictated(text: str, spoken: list[str], known: Words) -> float | None:
    """``None`` unless the end is digits or letters said one by one.

    "five five five", "555 12", "J O H"; but neither "for two", "42", "seven thirty" nor "two hundred".
    """
    tail = text.rstrip(".?!").split()
    digits = tokens = single = 0
    while tail and (count := _digits(tail[-1], known)):
        tail.pop()
        digits, tokens, single = digits + count, tokens + 1, single + (count == 1)
    if digits > LONE_DIGITS or tokens >= 3 or single >= 2:
        return DIGITS_MAY_END if digits >= PHONE_DIGITS else DICTATING
    letters = [len(word) == 1 and word.isalpha() for word in spoken[-2:]]
    if (len(letters) == 2 and all(letters)) or _SPELLED.search(text):
        return DICTATING
    return None


def _digits(token: str, known: Words) -> int:
    """How many digits a token of a number that is dictated stands for; 0: it is none."""
    token = token.strip(",.").casefold()
    if _NUMERAL.match(token):
        return sum(char.isdigit() for char in token)
    return int(token in known.digits)


def _spoken(text: str) -> list[str]:
    """The words in lower case without punctuation; an apostrophe at the end (``l'``) stays."""
    stripped = (word.strip('.,;:!?…"“”„«»()[]¿¡–—-。，、？！；').casefold() for word in text.split())
    return [word for word in stripped if word]


@lru_cache(maxsize=64)
def words_of(language: str) -> Words:
    """The lists of a language, by its primary tag; empty ones where there is no file."""
    primary = re.split("[-_]", language.strip().lower())[0]
    file = resources.files("turn") / "open_words" / f"{primary}.txt"
    return parse(file.read_text("utf-8")) if re.fullmatch("[a-z]{2,3}", primary) and file.is_file() else Words()


def parse(text: str) -> Words:
    """``[section] remark`` opens a list; phrases are separated by commas and lines; ``#`` begins a remark."""
    lists: dict[str, set[str]] = {}
    section = ""
    for line in text.splitlines():
        if heading := re.match(r"\[(\w+)\]", line):
            section = heading[1]
        elif not line.startswith("#"):
            lists.setdefault(section, set()).update(" ".join(phrase.casefold().split()) for phrase in line.split(","))
    lists.pop("", None)
    return Words(**{section: frozenset(phrases - {""}) for section, phrases in lists.items()})


# The voice ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prosody:
    """The end of the caller's speech up to its last loud frame, a value per 20 ms, oldest first.

    ``energy`` in dB, ``pitch`` in Hz or ``None`` where a frame has none.
    """

    energy: Sequence[float] = field(default=())
    pitch: Sequence[float | None] = field(default=())


def falling(voice: Prosody) -> float:
    """How much the voice falls over the last 0.6 s of speech: 0 it rises, 1 it sinks and fades; 0.5 nothing to hear.

    Statements end low and soft; a level or rising end holds the floor. Pitch counts more than energy.
    """
    frames = round(WINDOW / FRAME)
    energy, pitch = list(voice.energy)[-frames:], list(voice.pitch)[-frames:]
    if len(energy) < LEAST_FRAMES:
        return 0.5
    fade = _grade(fmean(energy[: len(energy) // 2]) - fmean(energy[-(len(energy) // 3) :]), low=-4.0, high=10.0)
    before = [hertz for hertz in pitch[: len(pitch) // 2] if hertz]
    after = [hertz for hertz in pitch[-(len(pitch) // 2) :] if hertz][-10:]
    if len(before) < 3 or len(after) < 3:
        return 0.5 + 0.4 * (fade - 0.5)
    sink = _grade(12 * math.log2(median(before) / median(after)), low=-3.0, high=5.0)
    return 0.6 * sink + 0.4 * fade


def _grade(value: float, low: float, high: float) -> float:
    return min(max((value - low) / (high - low), 0.0), 1.0)


# Both -----------------------------------------------------------------------------------------------------


def sureness(completeness: float, falling: float, voice: float = VOICE) -> float:
    """How sure it is that the turn is over, 0 to 1. ``voice`` is how much ``falling`` weighs against the words: give
    more of it to a model's probability than to the built-in hearing.
    """
    return (1 - voice) * completeness + voice * falling


def waiting_time(completeness: float, falling: float, threshold: float = 0.5, voice: float = VOICE) -> float:
    """Seconds to wait from the end of the voice: 0.25 (surely over) to 1.6 (surely not).

    Never longer for more complete words or a deeper fall, never shorter for a higher ``threshold``: as the guide has
    it, lower is more aggressive, and 0.5 is neutral. It is a waiting time for new speech; a final transcript that
    comes meanwhile changes ``completeness``, so ask again.
    """
    margin = sureness(completeness, falling, voice) - threshold
    return min(max(NEUTRAL - SLOPE * margin, SHORTEST), LONGEST)
