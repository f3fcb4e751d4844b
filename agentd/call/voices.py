"""The voices of a call in their order of preference, behind one :class:`providers.base.Tts`: deadlines, a second try
and the next voice. What was said is not said again: a voice that takes over begins where the sound broke off.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from agentd.call.watch import Overdue, Watch
from config.deadlines import Deadlines
from providers.base import Audio, ProviderError, Spoken, Tts, TtsEvent, Word

TRIES = 2  # of one voice, for one stretch of text that it cannot say
SECONDS_PER_CHARACTER = 0.065  # of a voice that has said nothing yet: about 15 characters a second

Tell = Callable[[str, ProviderError, str], None]
"""Called with the name of what failed, its error, and the name of what is tried next: empty for nothing."""

Used = Callable[[str, int], None]
"""Called with the name of a voice and the number of characters that it was given."""


@dataclass(frozen=True, slots=True)
class Voice:
    """``name`` is what logs and events call it; ``fixed`` the same voice for texts that are spoken word for word, where
    that is another object.
    """

    name: str
    tts: Tts
    fixed: Tts | None = None


class Script:
    """The text of one reply: pieces come in once, and may be read again from any character.

    A reader that is cancelled while it waits loses no piece.
    """

    def __init__(self, pieces: AsyncIterator[str]) -> None:
        self.text = ""  # given so far
        self._pieces = pieces
        self._next: asyncio.Task[str | None] | None = None

    async def read(self, start: int, was_given: Callable[[], None]) -> AsyncIterator[str]:
        """From a character on. ``was_given`` is called behind each piece."""
        at = start
        while True:
            if at < len(self.text):
                piece, at = self.text[at:], len(self.text)
                was_given()
                yield piece
            elif not await self.more():
                return

    async def aclose(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait([self._next])

    async def more(self) -> bool:
        """Wait for the next piece; is there one?"""
        if self._next is None:
            self._next = asyncio.ensure_future(_piece(self._pieces))
        piece = await asyncio.shield(self._next)
        if piece is None:
            return False
        self.text += piece
        self._next = None
        return True


class Said:
    """How far a reply has been said, from what the voices tell."""

    def __init__(self, rate: int) -> None:
        self.samples = 0
        self.ended = 0  # characters whose audio has all come
        self._rate = rate
        self._samples_then = 0  # when that was known
        self._words: list[tuple[float, int]] = []  # (start in seconds, end in characters) of those after it

    def add(self, event: TtsEvent) -> None:
        match event:
            case Audio(pcm):
                self.samples += len(pcm) // 2
            case Word(end, start):
                while self._words and self._words[-1][1] >= end:  # it broke off, and is said again
                    self._words.pop()
                self._words.append((start, end))
            case Spoken(end):
                self.ended, self._samples_then = end, self.samples
                self._words.clear()

    def where(self, text: str) -> int:
        """The character at which to go on: a word that broke off is said again, none before it."""
        if self.samples == self._samples_then:
            return self.ended
        now = self.samples / self._rate
        if self._words:
            begun = [end for start, end in self._words if start < now]
            return begun[-2] if len(begun) > 1 else self.ended
        spoken = self._samples_then / self._rate
        pace = spoken / self.ended if self.ended else SECONDS_PER_CHARACTER
        reached = min(self.ended + int((now - spoken) / pace), len(text))
        return reached if reached == len(text) else max(text.rfind(" ", 0, reached) + 1, self.ended)

    def is_behind(self, text: str) -> bool:
        """Is there text that a voice could say, and has not said?"""
        end = max([self.ended, *(end for _, end in self._words)])
        return any(char.isalnum() for char in text[end:])


class Voices:
    """One call's. The voice that took over stays: a caller who hears a second voice should not hear the first again."""

    def __init__(
        self, voices: Sequence[Voice], deadlines: Deadlines, tell: Tell, used: Used = lambda name, characters: None
    ) -> None:
        self._voices = list(voices)
        self._deadlines = deadlines
        self._tell = tell
        self._used = used
        self._is_fixed = False

    @property
    def name(self) -> str:
        """That of the voice that speaks now."""
        return self._voices[0].name

    @property
    def is_continuous(self) -> bool:
        """Does it join the pieces of a reply into one flow of speech? Then the first of them may be a word."""
        return bool(getattr(self._voices[0].tts, "is_continuous", False))

    def fixed(self) -> "Voices":
        """The same voices for a text that is spoken word for word. One that takes over does so in both."""
        same = copy.copy(self)
        same._is_fixed = True
        return same

    async def speak(self, text: AsyncIterator[str], rate: int) -> AsyncIterator[TtsEvent]:
        """As :meth:`providers.base.Tts.speak`. ``tts-timeout``: no audio in time, of a text that was given."""
        script, said, failures = Script(text), Said(rate), 0
        try:
            is_over = not await script.more()  # a voice is asked for nothing before there is something to say
            while not is_over:
                voice, before, start = self._voices[0], said.samples, said.where(script.text)
                try:
                    async with aclosing(self._attempt(voice, script, said, rate)) as events:  # type: ignore[type-var]
                        async for event in events:
                            said.add(event)
                            yield event
                    if said.samples > before or not said.is_behind(script.text):
                        return
                    raise ProviderError(_vendor(voice), "tts-silent", "expected audio, got none", retryable=True)
                except ProviderError as exc:
                    failures = 1 if said.where(script.text) > start else failures + 1
                    self._failed(voice, exc, is_spent=not exc.retryable or failures >= TRIES)
                    failures = failures if voice is self._voices[0] else 0
        finally:
            await script.aclose()

    def _failed(self, voice: Voice, error: ProviderError, *, is_spent: bool) -> None:
        """Leave the voice for the next one if it is spent. Raises the error when there is none."""
        if is_spent and voice is self._voices[0] and len(self._voices) > 1:
            del self._voices[0]
        is_last = is_spent and voice is self._voices[0]
        self._tell(voice.name, error, "" if is_last else self._voices[0].name)
        if is_last:
            raise error

    async def _attempt(self, voice: Voice, script: Script, said: Said, rate: int) -> AsyncIterator[TtsEvent]:
        """One voice, from where the reply broke off; its offsets become those of the reply."""
        start, began = said.where(script.text), said.samples / rate
        limit = self._deadlines.first_audio
        watch = Watch(limit)
        given = 0

        def was_given() -> None:
            nonlocal given
            given = len(script.text) - start
            watch.restart(limit)

        tts = (voice.fixed if self._is_fixed else None) or voice.tts
        events = tts.speak(script.read(start, was_given), rate)
        try:
            while True:
                event = await watch.step(events)
                if isinstance(event, Audio):
                    limit = self._deadlines.audio_gap
                event = _shifted(event, start, began)
                yield event
                watch.limit = limit if said.is_behind(script.text) else 0.0
        except StopAsyncIteration:
            return
        except Overdue:
            message = f"expected audio within {limit:g} s, got none"
            raise ProviderError(_vendor(voice), "tts-timeout", message, retryable=True) from None
        finally:
            watch.stop()
            if given and not getattr(tts, "is_hit", False):
                self._used(voice.name, given)
            if (close := getattr(events, "aclose", None)) is not None:
                await close()


def _shifted(event: TtsEvent, start: int, began: float) -> TtsEvent:
    match event:
        case Word(end, at):
            return Word(end + start, at + began)
        case Spoken(end):
            return Spoken(end + start)
        case _:
            return event


async def _piece(pieces: AsyncIterator[str]) -> str | None:
    return await anext(pieces, None)


def _vendor(voice: Voice) -> str:
    return voice.name.partition(":")[0]
