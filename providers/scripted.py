"""A call as a table: a recogniser, a model and a voice that do what their options say, on time. For tests and demos
of timing; vendor name ``scripted``. They read no clock but the event loop's, so they run under virtual time.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np

from providers.audio_feed import AudioFeed, Mark
from providers.base import (
    Audio,
    Eager,
    Final,
    Llm,
    LlmEvent,
    LlmSpec,
    Partial,
    Prompt,
    ProviderError,
    Resumed,
    Spoken,
    Stt,
    SttEvent,
    SttSpec,
    TextDelta,
    ToolCall,
    Tts,
    TtsEvent,
    TtsSpec,
    Word,
)
from providers.registry import Shared

KEPT = 100  # prompts
COUNT = 30000  # the scripted voice counts so far, and begins again


class Notebook:
    """What the scripted vendors of one server were given: ``shared.get("scripted", Notebook).prompts``."""

    def __init__(self) -> None:
        self.prompts: deque[Prompt] = deque(maxlen=KEPT)
        self.said: deque[tuple[str | None, str]] = deque(maxlen=KEPT)  # (voice, piece) of the synthesizers

    async def aclose(self) -> None:
        """Nothing to close."""


class ScriptedStt:
    """``finals``: one entry for each time the caller stops speaking. A text is recognised, ``None`` keeps the
    recogniser silent, ``{"error": code, "retryable": bool}`` fails, ``{"end": true}`` hangs up politely.
    ``delay``: seconds from there to the final; ``partials``: whether the words come as a partial when speech begins.

    An entry may also be a list of what is told one after the other: ``{"final": text}`` with ``confidence``,
    ``speech_final``, ``end_of_turn`` and ``language``, ``{"partial": text}``, ``{"eager": text}``, ``{"resumed":
    true}`` or ``{"error": code}``, each ``after`` so many seconds (the ``delay``).
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._finals = list(options.get("finals", []))
        self._delay = float(options.get("delay", 0.1))
        self._partials = bool(options.get("partials", False))

    async def listen(self, audio: AudioFeed) -> AsyncIterator[SttEvent]:
        async for item in audio:
            if item is Mark.SPEECH_STARTED and self._partials and self._finals and isinstance(self._finals[0], str):
                yield Partial(self._finals[0])
            if item is Mark.SPEECH_STOPPED:
                match self._finals.pop(0) if self._finals else "":
                    case str(final):
                        await asyncio.sleep(self._delay)
                        yield Final(final, 1.0 if final else None)
                    case list(steps):
                        for step in steps:
                            await asyncio.sleep(step.get("after", self._delay))
                            yield _told(step)
                    case {"error": _} as step:
                        yield _told(step)
                    case {"end": True}:
                        return
                    case _:
                        pass


def _told(step: Mapping[str, Any]) -> SttEvent:
    match step:
        case {"final": str(text)}:
            names = ("confidence", "speech_final", "end_of_turn", "language")
            return Final(text, **{name: step[name] for name in names if name in step})
        case {"partial": str(text)}:
            return Partial(text)
        case {"eager": str(text)}:
            return Eager(text)
        case {"resumed": True}:
            return Resumed()
        case _:
            raise ProviderError("scripted", str(step["error"]), retryable=bool(step.get("retryable", False)))


class ScriptedLlm:
    """``replies``: one entry a prompt, the last one repeated. A text is streamed word by word; ``{"tools": [{"name",
    "arguments"}], "text"}`` calls tools (``arguments`` as text are sent as they are); ``{"text", "error": code}``
    fails, ``{"text", "hang": true}`` never ends. ``first`` and ``token``: seconds to the first word and between words;
    an entry may have a ``first`` of its own. ``when``: entries for prompts in which a text occurs, ``{text: [entry]}``.
    """

    name = "scripted"

    def __init__(self, options: Mapping[str, Any], notebook: Notebook) -> None:
        options = {**options, **options.get("vendorParams", {})}
        self._notebook = notebook
        self._replies = list(options.get("replies", [])) or ["Yes."]
        self._first = float(options.get("first", 0.2))
        self._token = float(options.get("token", 0.0))
        self._when = {text: list(entries) for text, entries in options.get("when", {}).items()}
        self._calls = 0

    async def reply(self, prompt: Prompt) -> AsyncIterator[LlmEvent]:
        self._notebook.prompts.append(prompt)
        replies = self._entries(prompt)
        entry = replies.pop(0) if len(replies) > 1 else replies[0]
        script: Mapping[str, Any] = {"text": entry} if isinstance(entry, str) else entry
        await asyncio.sleep(float(script.get("first", self._first)))
        text = str(script.get("text", ""))
        for at, word in enumerate(text.split(" ") if text else []):
            if at and self._token:
                await asyncio.sleep(self._token)
            yield TextDelta(word if at == 0 else " " + word)
        if script.get("hang"):
            await asyncio.Event().wait()
        if "error" in script:
            raise ProviderError("scripted", str(script["error"]), retryable=bool(script.get("retryable", False)))
        for tool in script.get("tools", []):
            self._calls += 1
            arguments = tool.get("arguments", {})
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            yield ToolCall(f"call-{self._calls}", tool["name"], text)

    def _entries(self, prompt: Prompt) -> list[Any]:
        said = "\n".join(message.content for message in prompt.messages)
        return next((entries for text, entries in self._when.items() if text in said), self._replies)


class ScriptedTts:
    """``character``: seconds of audio a character; ``first``: seconds until a piece's audio comes; ``words``: whether
    word times are given; ``chunk``: seconds of audio an event; ``errors``: one entry a reply, ``None`` or the seconds
    of audio after which the voice fails. The sound counts: sample *n* of a reply is
    ``1 + n % 30000``, so that a listener can prove that none was lost or played twice. ``syllables``: it rises and
    falls like speech instead.
    """

    def __init__(self, options: Mapping[str, Any], notebook: Notebook, voice: str | None = None) -> None:
        self._notebook = notebook
        self._voice = voice
        self._sound = syllables if options.get("syllables") else lambda start, end, rate: counting(start, end)
        self._character = float(options.get("character", 0.05))
        self._first = float(options.get("first", 0.1))
        self._chunk = float(options.get("chunk", 0.1))
        self._words = bool(options.get("words", True))
        self._pace = float(options.get("pace", 0.0))
        self._errors = list(options.get("errors", []))

    async def speak(self, text: AsyncIterator[str], rate: int) -> AsyncIterator[TtsEvent]:
        characters = samples = 0
        step = int(self._chunk * rate)
        error = self._errors.pop(0) if self._errors else None
        async for piece in text:
            self._notebook.said.append((self._voice, piece))
            await asyncio.sleep(self._first)
            if error is not None and samples >= error * rate:
                raise ProviderError("scripted", "tts-lost")
            if self._words:
                for end, start in _words(piece):
                    yield Word(characters + end, samples / rate + start * self._character)
            characters += len(piece)
            whole = samples + int(len(piece) * self._character * rate)
            while samples < whole:
                until = min(samples + step, whole)
                if self._pace:
                    await asyncio.sleep(self._pace)
                yield Audio(self._sound(samples, until, rate))
                samples = until
                if error is not None and samples >= error * rate:
                    raise ProviderError("scripted", "tts-lost")
            yield Spoken(characters)


def counting(start: int, end: int) -> bytes:
    """Samples ``start`` to ``end`` of the scripted voice, L16."""
    return (1 + np.arange(start, end) % COUNT).astype("<i2").tobytes()


def syllables(start: int, end: int, rate: int) -> bytes:
    """A tone of 125 Hz whose level changes every 160 ms, by up to 30 dB and without a pattern."""
    at = np.arange(start, end)
    louder = 10 ** (-1.5 * ((at // int(0.16 * rate)) * 0.618034 % 1))
    return (12000 * louder * np.sign(np.sin(2 * np.pi * 125 * (at + 0.5) / rate))).astype("<i2").tobytes()


def _words(piece: str) -> list[tuple[int, int]]:
    """(end, start) of each word, in characters."""
    found, at = [], 0
    for word in piece.split():
        start = piece.index(word, at)
        at = start + len(word)
        found.append((at, start))
    return found


def make_stt(spec: SttSpec, shared: Shared) -> Stt:
    return ScriptedStt(spec.options)


def make_llm(spec: LlmSpec, shared: Shared) -> Llm:
    return ScriptedLlm(spec.options, shared.get("scripted", Notebook))


def make_tts(spec: TtsSpec, shared: Shared) -> Tts:
    return ScriptedTts(spec.options, shared.get("scripted", Notebook), spec.voice)
