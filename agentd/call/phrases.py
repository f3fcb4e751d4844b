"""What is said while a tool runs long: phrases by language, taken in turn, and the prompts for words of the model's."""

import re
from collections.abc import Sequence
from typing import NamedTuple

LONGEST = 80  # characters of a phrase that a model wrote
COUNT = 5  # phrases that it is asked for
SENTENCE = 200  # characters of the sentence for a long wait

_MARKER = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s*")
_QUOTES = "\"'“”„‘’«»` "


class Words(NamedTuple):
    """``phrases`` for a short wait; ``sentence`` for a long one, where the model has nothing to say."""

    phrases: tuple[str, ...]
    sentence: str


BUILT_IN = {
    "en": Words(
        ("One moment, please.", "Just a second.", "Let me check that.", "I'm looking that up.", "Bear with me."),
        "This is taking a little longer than usual, thank you for waiting.",
    ),
    "de": Words(
        (
            "Einen Moment, bitte.",
            "Ich sehe kurz nach.",
            "Augenblick, bitte.",
            "Das prüfe ich gerade.",
            "Gleich habe ich es.",
        ),
        "Das dauert gerade etwas länger, vielen Dank für Ihre Geduld.",
    ),
    "fr": Words(
        ("Un instant, s'il vous plaît.", "Je regarde tout de suite.", "Je vérifie cela.", "Encore une seconde."),
        "Cela prend un peu plus de temps que prévu, merci de patienter.",
    ),
    "es": Words(
        ("Un momento, por favor.", "Déjeme comprobarlo.", "Lo estoy mirando.", "Un segundo, por favor."),
        "Está tardando un poco más de lo normal, gracias por esperar.",
    ),
    "it": Words(
        ("Un momento, per favore.", "Controllo subito.", "Sto verificando.", "Ancora un attimo."),
        "Ci vuole un po' più del solito, grazie per la pazienza.",
    ),
    "nl": Words(
        ("Een moment, alstublieft.", "Ik kijk het even na.", "Ik zoek het voor u op.", "Nog heel even."),
        "Het duurt iets langer dan normaal, bedankt voor uw geduld.",
    ),
    "pt": Words(
        ("Um momento, por favor.", "Vou verificar.", "Estou a consultar.", "Só um segundo, por favor."),
        "Está a demorar um pouco mais do que o normal, obrigado por esperar.",
    ),
    "pl": Words(
        ("Chwileczkę, proszę.", "Już sprawdzam.", "Proszę o moment.", "Jeszcze sekunda."),
        "To trwa trochę dłużej niż zwykle, dziękuję za cierpliwość.",
    ),
}


def built_in(language: str) -> Words:
    """By the primary tag (``en`` of ``en-US``); English where there is nothing of its own."""
    return BUILT_IN.get(re.split("[-_]", language.strip().lower())[0], BUILT_IN["en"])


class Turns:
    """Phrases in turn: none twice in a row, unless it is the only one."""

    def __init__(self) -> None:
        self._next = 0
        self._last = ""

    def take(self, phrases: Sequence[str]) -> str:
        if phrases[self._next % len(phrases)] == self._last:  # they were exchanged meanwhile
            self._next += 1
        self._last = phrases[self._next % len(phrases)]
        self._next += 1
        return self._last


def style_cue(style: str, language: str) -> str:
    """Asks the model for phrases of its own."""
    return (
        f"Write {COUNT} different phrases of at most eight words that an agent on the telephone says while something "
        f"is being looked up. Language: {language}. Style: {style}. One phrase a line, and nothing else."
    )


def written(text: str) -> tuple[str, ...]:
    """The phrases in a model's answer, without numbers, bullets and quotes."""
    lines = (_MARKER.sub("", line).strip(_QUOTES) for line in text.splitlines())
    kept = [line for line in lines if len(line) <= LONGEST and any(char.isalpha() for char in line)]
    return tuple(dict.fromkeys(kept))[:COUNT]


def wait_cue(tools: Sequence[str]) -> str:
    """Asks the model for one sentence to a caller who waits. A tool's name may be anybody's: only letters of it."""
    names = ", ".join(dict.fromkeys(re.sub(r"[^\w-]+", "_", name)[:64] for name in tools))
    return (
        f"The tool {names} is still running. In one short sentence, tell the caller that this takes a little longer "
        "and what you are doing for them. Promise no result, ask nothing, and write nothing else."
    )


def sentence(text: str) -> str:
    """A model's sentence as it can be said: in one line, and no longer than a caller listens."""
    line = " ".join(text.split()).strip(_QUOTES)
    if len(line) <= SENTENCE:
        return line
    head = line[:SENTENCE]
    end = max(head.rfind(mark) for mark in (". ", "! ", "? ", "。"))
    return head[: end + 1] if end > 0 else head[: head.rfind(" ")]
