"""What a recogniser of the tests hears: so much audio, and it tells the next utterance."""

from collections.abc import Iterator
from typing import NamedTuple

PARTIAL = 0.5  # seconds of audio after which all words but the last of an utterance are told
FINAL = 1.0  # and all of them


class Heard(NamedTuple):
    text: str
    is_final: bool
    number: int  # of the utterance, from 0


class Ears:
    """``hears`` are the utterances, one a second of audio. ``audio`` is what the latest connection brought."""

    def __init__(self, *hears: str) -> None:
        self.hears = list(hears)
        self.audio = bytearray()
        self.finals = 0  # that were told, on all connections
        self.pause = 0.0  # seconds of audio between two utterances
        self._rate = 16000
        self._at = 0.0  # seconds of audio of this connection
        self._begun = 0.0  # where in it the utterance under way begins
        self._is_partial_told = False

    def connected(self, rate: int) -> None:
        """A connection begins. The utterance that the last one left unfinished is heard from its beginning."""
        self.audio.clear()
        self._rate = rate
        self._at = self._begun = 0.0
        self._is_partial_told = False

    def hear(self, pcm: bytes) -> Iterator[Heard]:
        """L16 in; what is to be told now. Iterate while telling: what could not be told is not counted as told."""
        self.audio += pcm
        self._at = round(len(self.audio) / 2 / self._rate, 6)
        while (number := self.finals) < len(self.hears):
            text = self.hears[number]
            if not self._is_partial_told and self._at >= round(self._begun + PARTIAL, 6):
                yield Heard(text.rpartition(" ")[0], False, number)
                self._is_partial_told = True
            if self._at < round(self._begun + FINAL, 6):
                return
            yield self._final(text)
            self._next()

    def flush(self) -> Iterator[Heard]:
        """The utterance under way is told as a final now, if any of it was told."""
        if self._is_partial_told:
            yield self._final(self.hears[self.finals])
            self._next(self._at)

    def _final(self, text: str) -> Heard:
        return Heard(text, True, self.finals)

    def _next(self, begun: float | None = None) -> None:
        self.finals += 1
        self._begun = self._begun + FINAL + self.pause if begun is None else begun
        self._is_partial_told = False
