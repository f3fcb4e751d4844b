"""What the synthetic callers say: a buzz that a voice detector takes for speech, or words by the embedded voice.

An utterance has no pause in it: a simulated recogniser, like a real one, would take that for its end.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agentd.caller import Voice
from providers.registry import Shared

FRAME = 0.02  # seconds
LOUD = 1000  # the peak of a frame that counts as sound; dithering and the tail of a vowel are below
SECONDS = (0.8, 1.0, 1.2, 0.9, 1.4, 1.1)  # of the buzzes, one after the other
# The first three formants in Hz: a, e, i, o, u.
VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))
VOWEL = 0.14  # seconds of each
SENTENCES = (
    "what time do you open on sunday",
    "i would like to book a table for two",
    "can you tell me more about that please",
    "where exactly is your office",
    "please put me down for next tuesday",
    "how much is it for the whole family",
)

Samples = np.ndarray[Any, np.dtype[np.int16]]


@dataclass(frozen=True, slots=True)
class Utterance:
    """Frames of 20 ms, L16 mono; each of them is loud."""

    frames: tuple[bytes, ...]

    @property
    def seconds(self) -> float:
        return len(self.frames) * FRAME


def utterance(pcm: bytes, rate: int) -> Utterance:
    """The loud frames of a recording."""
    size = 2 * round(rate * FRAME)
    frames = [pcm[at : at + size] for at in range(0, len(pcm) - size + 1, size)]
    return Utterance(tuple(frame for frame in frames if is_loud(frame)))


def is_loud(pcm: bytes) -> bool:
    samples = np.frombuffer(pcm, "<i2")
    return bool(len(samples)) and max(int(samples.max()), -int(samples.min())) >= LOUD


def buzzes(rate: int, count: int = len(SECONDS)) -> Iterator[Utterance]:
    """Utterances of different length, height and vowels."""
    for number in range(count):
        seconds = SECONDS[number % len(SECONDS)]
        yield utterance(buzz(seconds, rate, pitch=105 + 17 * (number % 5), first=number).tobytes(), rate)


def buzz(seconds: float, rate: int, pitch: float = 120.0, first: int = 0) -> Samples:
    """A voice without words: vocal cords at ``pitch`` Hz, which falls a little, through the formants of vowels."""
    time = np.arange(round(seconds * rate)) / rate
    height = pitch * (1.1 - 0.2 * time / seconds + 0.02 * np.sin(2 * math.pi * 5 * time))
    phase = 2 * math.pi * np.cumsum(height) / rate
    vowel = (np.floor(time / VOWEL).astype(int) + first) % len(VOWELS)
    formants = np.array(VOWELS)[vowel]
    sound = np.zeros(len(time))
    for harmonic in range(1, int(min(rate / 2, 3600) / (pitch * 1.1))):
        gains = 1 / (1 + ((harmonic * height[:, None] - formants) / 90) ** 2)
        sound += (gains @ np.array([1.0, 0.6, 0.3]) + 0.02) * np.sin(harmonic * phase)
    swell = 0.75 + 0.25 * np.sin(2 * math.pi * time / VOWEL)  # syllables
    sound *= swell / np.abs(sound).max()
    found: Samples = np.rint(sound * 12000).astype("<i2")
    return found


async def spoken(rate: int, sentences: Sequence[str] = SENTENCES) -> list[Utterance]:
    """The sentences by the embedded voice. Raises ``ImportError`` without the extra `local`."""
    import espeakng_loader  # noqa: F401  the worker would say it later, and in more words

    shared = Shared()
    try:
        voice = Voice(shared, rate)
        return [utterance(await voice.speech(text), rate) for text in sentences]
    finally:
        await shared.aclose()
