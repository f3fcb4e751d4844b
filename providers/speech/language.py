"""From hints to a small language model: which words the agent's callers say, and in which order.

Pure text. The model is ARPA with trigrams; counts are tempered (``count ** 0.7``), so that a hundred generated
sentences ("what is two plus three", …) do not drown the one that says "goodbye".
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from math import log10

TEMPER = 0.7  # of 0, 0.5, 0.7, 0.85 and 1 the best on the demo's sentences
BACKOFF = 0.1  # the share of a context's probability that is left to words not seen there

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
SIGNS = {"%": " percent ", "&": " and ", "+": " plus ", "=": " equals ", "×": " times ", "÷": " divided by "}

# The stock model was trained on broadcast and telephone speech and now and then hears these in nothing at all.
# Whole words only; a word is left out, not replaced.
PROFANE = frozenset(
    "ass asses asshole assholes bastard bastards bitch bitches bitching bullshit cock cocks cocksucker crap cunt cunts "
    "damn damned dick dicks dyke dykes fag faggot faggots fags fuck fucked fucker fuckers fuckin fucking fucks goddamn "
    "jerkoff motherfucker motherfuckers motherfucking nigger niggers piss pissed prick pricks pussies pussy shit shits "
    "shitted shitting shitty slut sluts tit tits twat whore whores".split()
)


def number_words(number: int) -> str:
    """The number as it is said: 42 is "forty two". From 0 to 999,999."""
    if number < 20:
        return ONES[number]
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = f" {number_words(number % size)}" if number % size else ""
            return f"{number_words(number // size)} {name}{rest}"
    return TENS[number // 10] + (f" {ONES[number % 10]}" if number % 10 else "")


def sentences(hints: Iterable[str], is_known: Callable[[str], bool]) -> tuple[str, ...]:
    """Hints as the caller says them: lower case, numerals spelled out, words that nobody can pronounce left out.

    A hint that comes twice counts twice.
    """
    said = []
    for hint in hints:
        for sentence in re.split(r"[.!?;:\n]+(?:\s+|$)", hint):
            text = sentence.lower().replace("’", "'")
            for sign, words in SIGNS.items():
                text = text.replace(sign, words)
            text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
            text = re.sub(r"\d{1,6}", lambda match: f" {number_words(int(match[0]))} ", text)
            known = [word for word in re.findall(r"[a-z][a-z']*", text) if is_known(word)]
            if known:
                said.append(" ".join(known))
    return tuple(said)


def arpa(said: Iterable[str]) -> str:
    """A trigram model with back-off, in the ARPA format. Needs at least one sentence."""
    orders: list[dict[tuple[str, ...], Counter[str]]] = [defaultdict(Counter) for _ in range(3)]
    for sentence in said:
        words = ["<s>", *sentence.split(), "</s>"]
        for position, word in enumerate(words):
            for before in range(min(3, position + 1)):
                orders[before][tuple(words[position - before : position])][word] += 1

    chance: dict[tuple[str, ...], float] = {}
    backoff: dict[tuple[str, ...], float] = {}
    for order in orders:
        for context, following in order.items():
            tempered = {word: count**TEMPER for word, count in following.items()}
            total = sum(tempered.values())
            for word, weight in tempered.items():
                chance[(*context, word)] = (1 - BACKOFF) * weight / total
            if context:
                unseen = 1 - sum(chance[(*context[1:], word)] for word in following)
                backoff[context] = BACKOFF / max(unseen, 1e-3)

    grams = [sorted(gram for gram in chance if len(gram) == length) for length in (1, 2, 3)]
    lines = ["\\data\\", *(f"ngram {length}={len(found)}" for length, found in enumerate(grams, 1))]
    for length, found in enumerate(grams, 1):
        lines += ["", f"\\{length}-grams:"]
        for gram in found:
            tail = f" {log10(backoff.get(gram, 1.0)):.4f}" if length < 3 else ""
            lines.append(f"{log10(chance[gram]):.4f} {' '.join(gram)}{tail}")
    return "\n".join([*lines, "", "\\end\\", ""])


def clean(text: str) -> str:
    """Without the words that a misrecognition must not put into a caller's mouth."""
    return " ".join(word for word in text.split() if word not in PROFANE)
