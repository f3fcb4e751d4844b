"""What a synthesizer of the tests says: counting samples, every character ``CHARACTER`` seconds long."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from providers.scripted import counting
from tests.vendors.rows import CHARACTER
from tests.vendors.script import Fault, Script

CHUNK = 0.1  # seconds of audio in a message


class Said(NamedTuple):
    """A stretch of sound, with the words that begin in it: ``(word, start, end)``, in seconds of the reply."""

    pcm: bytes
    words: list[tuple[str, float, float]]


class Voice:
    """One reply. Its sound goes on over its pieces, at ``rate`` Hz."""

    def __init__(self, rate: int, script: Script) -> None:
        self.rate = rate
        self.characters = 0
        self._samples = 0
        self._carried = b""
        self._burst = script.burst
        self._is_odd = script.fault is Fault.ODD_BYTES

    @property
    def seconds(self) -> float:
        """How long it has spoken."""
        return self.characters * CHARACTER

    def say(self, text: str) -> Iterator[Said]:
        """The sound of a piece in stretches of :data:`CHUNK` seconds, or in one."""
        words = [
            (word.group(), (self.characters + word.start()) * CHARACTER, (self.characters + word.end()) * CHARACTER)
            for word in re.finditer(r"\S+", text)
        ]
        self.characters += len(text)
        whole = round(self.characters * CHARACTER * self.rate)
        step = whole if self._burst else int(CHUNK * self.rate)
        while self._samples < whole:
            until = min(self._samples + step, whole)
            pcm = self._carried + counting(self._samples, until)
            cut = len(pcm) - 1 if self._is_odd and until < whole and len(pcm) % 2 == 0 else len(pcm)
            begun = [word for word in words if word[1] * self.rate < until]
            words = words[len(begun) :]
            self._carried, self._samples = pcm[cut:], until
            yield Said(pcm[:cut], begun)
