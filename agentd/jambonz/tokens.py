"""Text that an application streams to be spoken (`tts:tokens`), and how much of it may wait. As jambonz has it: more
than 1,000 characters are refused until fewer than 200 wait; a second without more ends what was being said.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from agentd.call.voices import Voices
from providers.base import LlmEvent, Prompt, TextDelta, TtsEvent

HIGH = 1000  # characters that wait for the voice; more are refused …
LOW = 200  # … until fewer than these wait
IDLE = 1.0  # seconds without new text: what has come is all


class Waiting:
    """Characters that were accepted and that no voice has taken yet. ``resumed`` is called when there is room again."""

    def __init__(self, resumed: Callable[[], None]) -> None:
        self.characters = 0
        self.is_full = False
        self._resumed = resumed

    def takes(self, text: str) -> bool:
        """Is there room? What is longer than all of it fits when nothing else waits: else it never would."""
        if self.characters and self.characters + len(text) > HIGH:
            self.is_full = True
            return False
        self.characters += len(text)
        return True

    def gone(self, characters: int) -> None:
        """Taken by a voice, or thrown away."""
        self.characters -= characters
        if self.is_full and self.characters < LOW:
            self.is_full = False
            self._resumed()


class Tokens:
    """The text of one utterance, as it comes, until :meth:`end`. It is a model to the reply that speaks it, and stands
    before the reply's voice to see what that takes.
    """

    name = "application"

    def __init__(self, waiting: Waiting, voices: Voices) -> None:
        self._waiting = waiting
        self.voices = voices
        self._texts: deque[str] = deque()  # bounded by HIGH
        self._came = asyncio.Event()
        self._owed = 0  # characters that were accepted and not given to the voice
        self.is_whole = False

    def put(self, text: str) -> None:
        """Text for which :meth:`Waiting.takes` had room."""
        self._owed += len(text)
        self._texts.append(text)
        self._came.set()

    def end(self) -> None:
        """No more comes."""
        self.is_whole = True
        self._came.set()

    def drop(self) -> None:
        """Nothing more of it is said."""
        self.end()
        self._texts.clear()
        owed, self._owed = self._owed, 0
        self._waiting.gone(owed)

    async def reply(self, prompt: Prompt) -> AsyncIterator[LlmEvent]:
        """As :meth:`providers.base.Llm.reply`; whatever the prompt is."""
        while True:
            while self._texts:
                yield TextDelta(self._texts.popleft())
            if self.is_whole:
                return
            self._came.clear()
            try:
                async with asyncio.timeout(IDLE):
                    await self._came.wait()
            except TimeoutError:
                self.is_whole = True

    async def speak(self, text: AsyncIterator[str], rate: int) -> AsyncIterator[TtsEvent]:
        """As :meth:`providers.base.Tts.speak`."""
        async with aclosing(self.voices.speak(self._taken(text), rate)) as events:  # type: ignore[type-var]
            async for event in events:
                yield event

    async def _taken(self, text: AsyncIterator[str]) -> AsyncIterator[str]:
        async for piece in text:
            taken = min(len(piece), self._owed)
            self._owed -= taken
            self._waiting.gone(taken)
            yield piece
