"""ElevenLabs: each reply is a context on a socket that may hold several (``multi-stream-input``), so that audio which
still comes for a cancelled reply is told from the next one's.
"""

import asyncio
import contextlib
import itertools
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import quote, urlencode

from providers import sockets
from providers.base import Audio, ProviderError, Spoken, TtsEvent, TtsSpec
from providers.credentials import key_of
from providers.failures import failure, kind_of
from providers.options import query_value, snake_case
from providers.pcm import Stream
from providers.registry import Shared
from providers.sockets import Wire, decoded
from providers.tts import stream
from providers.tts.line import Lines
from providers.tts.wire_audio import decoded_audio
from providers.tts.words import Words, split

URL = "wss://api.elevenlabs.io"
MODEL = "eleven_flash_v2_5"
VOICE = "JBFqnCBsd6RMkjVDRZzb"
RATES = (8000, 16000, 24000)  # that it gives as PCM; others are made of the highest
# Seconds without text after which it closes a context, and a socket without any; this is the longest it allows. No
# keepalive: a message outside of a context once made it refuse the voice_settings of the next (close code 1008).
INACTIVITY = 180
# A context that is closed before its speech has begun may be thrown away unspoken, silently. So the end waits for the
# sound of the last piece, but not longer than this, in seconds: a piece may have none.
SOUND = 2.0
VOICE_SETTINGS = ("stability", "similarity_boost", "style", "use_speaker_boost", "speed")
OF_A_CONTEXT = ("voice_settings", "generation_config", "pronunciation_dictionary_locators")
# What it calls errors, where that says more than the words of :func:`providers.failures.kind_of`.
ERRORS = {
    "max_active_conversations": "rate-limited",
    "too_many_concurrent": "rate-limited",
    "simultaneous": "rate-limited",
    "system_busy": "rate-limited",
    "quota": "quota-exceeded",
    "api_key": "unauthorized",
    "api key": "unauthorized",
    "voice_settings": "bad-request",
    "not_found": "not-found",
    "does not exist": "not-found",
    "does_not_exist": "not-found",
    "new text input": "timeout",
}
CLOSED = "connection closed with code 1008"  # for whatever reason: the words behind it tell which


# To the wire ----------------------------------------------------------------------------------------------


def rate_for(rate: int) -> int:
    """The rate to ask for when ``rate`` is wanted."""
    return rate if rate in RATES else RATES[-1]


def to_url(spec: TtsSpec, rate: int) -> str:
    """Where to dial. Options that are neither of the voice nor of a context are parameters of the address."""
    options = {snake_case(name): value for name, value in spec.options.items()}
    model = spec.model or options.get("model_id") or options.get("model") or MODEL
    # Others answer a language with an error.
    language = {"language_code": spec.language.partition("-")[0]} if str(model).endswith("_v2_5") else {}
    elsewhere = {"model", *VOICE_SETTINGS, *OF_A_CONTEXT, "chunk_length_schedule"}
    parameters = {
        **language,
        "inactivity_timeout": INACTIVITY,
        # A piece is a clause or a sentence: it need not wait for more of them.
        "auto_mode": True,
        "sync_alignment": True,
        **{name: value for name, value in options.items() if name not in elsewhere},
        "model_id": model,
        "output_format": f"pcm_{rate}",
    }
    query = urlencode({name: query_value(value) for name, value in parameters.items() if value is not None})
    base = str(spec.credentials.get("url") or URL).rstrip("/")
    return f"{base}/v1/text-to-speech/{quote(spec.voice or VOICE, safe='')}/multi-stream-input?{query}"


def of_a_context(spec: TtsSpec) -> dict[str, Any]:
    """What the first message of every context says. The same on one socket: a change is refused."""
    options = {snake_case(name): value for name, value in spec.options.items()}
    settings = {snake_case(name): value for name, value in (options.get("voice_settings") or {}).items()}
    settings |= {name: options[name] for name in VOICE_SETTINGS if name in options}
    schedule = options.get("chunk_length_schedule")
    generation = options.get("generation_config") or (schedule and {"chunk_length_schedule": schedule})
    said = {
        "voice_settings": settings,
        "generation_config": generation,
        "pronunciation_dictionary_locators": options.get("pronunciation_dictionary_locators"),
    }
    return {name: value for name, value in said.items() if value}


# From the wire --------------------------------------------------------------------------------------------


def kind_of_error(word: str) -> str:
    word = word.lower()
    return next((kind for part, kind in ERRORS.items() if part in word), None) or kind_of(None, word)


def alignment(message: Mapping[str, Any], at: float) -> list[tuple[str, float]]:
    """The words of a message; its times count from its own first sample, which is ``at`` seconds into the reply."""
    told = message.get("alignment") or message.get("normalizedAlignment") or {}
    starts = [at + start / 1000 for start in told.get("charStartTimesMs") or ()]
    return split(told.get("chars") or (), starts)


class Context:
    """One reply. ``rate`` is the vendor's, ``wanted`` that of what comes out, in Hz."""

    is_apart = True

    def __init__(self, name: str, vendor: str, first: Mapping[str, Any], rate: int, wanted: int) -> None:
        self.vendor = vendor
        self.is_sounding = asyncio.Event()  # audio has come since the latest piece was sent
        self._name = name
        self._first = first
        self._rate = rate
        self._stream = Stream(rate, wanted)
        self._words = Words()
        self._given = 0  # characters
        self._ends: deque[int] = deque()  # of the pieces of which no word behind them was told yet, in characters
        self._cuts: deque[tuple[int, int]] = deque()  # (bytes of audio, the characters that end there)
        self._bytes = 0  # of audio, at the vendor's rate
        self._has_begun = self._has_ended = self._is_closed = False

    def piece(self, text: str) -> Iterable[str]:
        self._words.given(text)
        self._given += len(text)
        self._ends.append(self._given)
        self.is_sounding.clear()
        if not self._has_begun:
            self._has_begun = True
            yield self._message(text=" ", **self._first)
        yield self._message(text=text, flush=True)

    def end(self) -> Iterable[str]:
        self._has_ended = True
        return [self._message(close_context=True)]  # only this brings the mark of the end

    def cancel(self) -> Iterable[str]:
        return [self._message(close_context=True)] if self._has_begun and not self._has_ended else []

    def heard(self, message: str | bytes) -> Iterable[TtsEvent]:
        said = decoded(message, self.vendor)
        if said.get("error") or "message" in said:
            word, told = str(said.get("error") or ""), str(said.get("message") or "")
            kind = kind_of_error(f"{word} {told}")
            raise failure("tts", self.vendor, kind, f"error in the stream: {told or word}")
        if said.get("contextId", said.get("context_id")) != self._name:
            return
        yield from self._words_and_ends(said)
        if audio := decoded_audio(said.get("audio"), self.vendor):
            self.is_sounding.set()
            yield from self._sound(audio)
        if said.get("isFinal") or said.get("is_final"):
            yield from self._closed()

    def is_done(self) -> bool:
        return self._is_closed

    def _words_and_ends(self, message: Mapping[str, Any]) -> Iterable[TtsEvent]:
        for word in self._words.place(alignment(message, self._bytes / 2 / self._rate)):
            end = 0
            while self._ends and self._ends[0] < word.end:
                end = self._ends.popleft()
            if end:  # the first word of a piece: where it begins, the one before it has ended
                self._cuts.append((round(word.start * self._rate) * 2, end))
            yield word

    def _sound(self, audio: bytes) -> Iterable[TtsEvent]:
        while self._cuts and self._cuts[0][0] <= self._bytes + len(audio):
            at, end = self._cuts.popleft()
            before, audio = audio[: max(at - self._bytes, 0)], audio[max(at - self._bytes, 0) :]
            yield from self._audio(before)
            yield Spoken(end)
        yield from self._audio(audio)

    def _audio(self, audio: bytes) -> Iterable[TtsEvent]:
        self._bytes += len(audio)
        if pcm := self._stream.push(audio):
            yield Audio(pcm)

    def _closed(self) -> Iterable[TtsEvent]:
        if not self._has_ended or not self._bytes:
            what = "audio" if self._has_ended else "the context to stay open"
            raise failure("tts", self.vendor, "bad-stream", f"expected {what}, got the end of the context")
        self._is_closed = True
        if pcm := self._stream.flush():
            yield Audio(pcm)
        yield Spoken(self._given)

    def _message(self, **fields: Any) -> str:
        return json.dumps({**fields, "context_id": self._name})


# The vendor -----------------------------------------------------------------------------------------------


class ElevenLabsTts:
    """One voice, for one call."""

    def __init__(self, spec: TtsSpec) -> None:
        self._key = key_of("tts", spec.vendor, spec.credentials.get("apiKey"))
        self._spec = spec
        self._first = of_a_context(spec)
        self._names = (f"reply-{number}" for number in itertools.count(1))
        self._lines = Lines(self._dial, guess=rate_for(spec.rate))

    def ready(self) -> None:
        self._lines.ready()

    async def aclose(self) -> None:
        await self._lines.aclose()

    async def speak(self, text: AsyncIterator[str], rate: int) -> AsyncGenerator[TtsEvent, None]:
        asked = rate_for(rate)
        context = Context(next(self._names), self._spec.vendor, self._first, asked, rate)
        line = self._lines.at(asked)
        try:
            async with (
                aclosing(_until_it_sounds(text, context)) as pieces,
                aclosing(stream.speak(line, context, pieces)) as events,  # type: ignore[type-var]
            ):
                async for event in events:
                    yield event
        except ProviderError as exc:
            raise self._told(exc) from exc.__cause__

    async def _dial(self, rate: int) -> Wire:
        headers = {"xi-api-key": self._key}
        url = to_url(self._spec, rate)
        vendor, lookup = self._spec.vendor, self._spec.lookup
        return await sockets.dial("tts", vendor, url, headers=headers, secrets=[self._key], lookup=lookup)

    def _told(self, error: ProviderError) -> ProviderError:
        """It closes with 1008 for every reason there is; what it says besides tells which."""
        if not error.message.startswith(CLOSED):
            return error
        return failure("tts", self._spec.vendor, kind_of_error(error.message), error.message, secrets=[self._key])


async def _until_it_sounds(text: AsyncIterator[str], context: Context) -> AsyncGenerator[str, None]:
    """The pieces; ends when the last of them has begun to sound."""
    is_empty = True
    async for piece in text:
        is_empty = False
        yield piece
    if not is_empty:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SOUND):
                await context.is_sounding.wait()


TAKES_LOOKUP = True  # see providers.base.Lookup


def make_tts(spec: TtsSpec, shared: Shared) -> ElevenLabsTts:
    """Raises :class:`ProviderError` when there is no key."""
    return ElevenLabsTts(spec)
