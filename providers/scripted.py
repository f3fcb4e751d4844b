"""A call as a table: a recogniser, a model and a voice that do what their options say, on time. For tests and demos
of timing; vendor name ``scripted``. They read no clock but the event loop's, so they run under virtual time.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from providers.audio_feed import AudioFeed, Mark
from providers.base import (
    Audio,
    Final,
    Llm,
    LlmEvent,
    LlmSpec,
    Partial,
    Prompt,
    ProviderError,
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


class ScriptedStt:
    """``finals``: one text for each time the caller stops speaking (``None``: the recogniser stays silent);
    ``delay``: seconds from there to the final; ``partials``: whether the words come as a partial when speech begins.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._finals = list(options.get("finals", []))
        self._delay = float(options.get("delay", 0.1))
        self._partials = bool(options.get("partials", False))

    async def listen(self, audio: AudioFeed) -> AsyncIterator[SttEvent]:
        async for item in audio:
            if item is Mark.SPEECH_STARTED and self._partials and self._finals and self._finals[0]:
                yield Partial(self._finals[0])
            if item is Mark.SPEECH_STOPPED:
                final = self._finals.pop(0) if self._finals else ""
                if final is not None:
                    await asyncio.sleep(self._delay)
                    yield Final(final, 1.0 if final else None)


class ScriptedLlm:
    """``replies``: one entry a prompt, the last one repeated. A text is streamed word by word; ``{"tools": [{"name",
    "arguments"}], "text"}`` calls tools; ``{"error": code}`` fails, ``{"hang": true}`` never answers. ``first`` and
    ``token``: seconds to the first word and between words.
    """

    name = "scripted"

    def __init__(self, options: Mapping[str, Any]) -> None:
        options = {**options, **options.get("vendorParams", {})}
        self._replies = list(options.get("replies", [])) or ["Yes."]
        self._first = float(options.get("first", 0.2))
        self._token = float(options.get("token", 0.0))
        self._calls = 0

    async def reply(self, prompt: Prompt) -> AsyncIterator[LlmEvent]:
        entry = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        script: Mapping[str, Any] = {"text": entry} if isinstance(entry, str) else entry
        await asyncio.sleep(self._first)
        if script.get("hang"):
            await asyncio.Event().wait()
        text = str(script.get("text", ""))
        for at, word in enumerate(text.split(" ") if text else []):
            if at and self._token:
                await asyncio.sleep(self._token)
            yield TextDelta(word if at == 0 else " " + word)
        if "error" in script:
            raise ProviderError("scripted", str(script["error"]), retryable=bool(script.get("retryable", False)))
        for tool in script.get("tools", []):
            self._calls += 1
            yield ToolCall(f"call-{self._calls}", tool["name"], json.dumps(tool.get("arguments", {})))


class ScriptedTts:
    """``character``: seconds of audio a character; ``first``: seconds until a piece's audio comes; ``words``: whether
    word times are given; ``chunk``: seconds of audio an event. The sound counts: sample *n* of a reply is
    ``1 + n % 30000``, so that a listener can prove that none was lost or played twice.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._character = float(options.get("character", 0.05))
        self._first = float(options.get("first", 0.1))
        self._chunk = float(options.get("chunk", 0.1))
        self._words = bool(options.get("words", True))
        self._error = options.get("error")

    async def speak(self, text: AsyncIterator[str], rate: int) -> AsyncIterator[TtsEvent]:
        characters = samples = 0
        step = int(self._chunk * rate)
        async for piece in text:
            await asyncio.sleep(self._first)
            if self._error:
                raise ProviderError("scripted", str(self._error))
            if self._words:
                for end, start in _words(piece):
                    yield Word(characters + end, samples / rate + start * self._character)
            characters += len(piece)
            whole = samples + int(len(piece) * self._character * rate)
            while samples < whole:
                until = min(samples + step, whole)
                yield Audio(counting(samples, until))
                samples = until
            yield Spoken(characters)


def counting(start: int, end: int) -> bytes:
    """Samples ``start`` to ``end`` of the scripted voice, L16."""
    return b"".join((1 + n % 30000).to_bytes(2, "little") for n in range(start, end))


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
    return ScriptedLlm(spec.options)


def make_tts(spec: TtsSpec, shared: Shared) -> Tts:
    return ScriptedTts(spec.options)
