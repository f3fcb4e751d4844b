"""Rime on its ``/ws3`` socket: text and a flush for each piece, audio and word times until it is done."""

import asyncio
import itertools
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from providers import sockets
from providers.base import Audio, Spoken, TtsEvent, TtsSpec
from providers.credentials import key_of
from providers.failures import failure, kind_of
from providers.options import query_value, snake_case
from providers.pcm import Stream
from providers.registry import Shared
from providers.sockets import Wire, decoded
from providers.tts import stream
from providers.tts.line import Lines
from providers.tts.wire_audio import decoded_audio, portions
from providers.tts.words import Words

URL = "wss://users-ws.rime.ai"
PATH = "/ws3"
MODEL = "mistv3"
VOICE = "cove"
LONGEST = 500  # characters of one text; it takes 1000 of some models, 500 of others
# Pieces that it may have at once: one that it speaks, and one that it begins as soon as that is done. Of more than one
# that wait it makes a single one, and says only once that it is done.
AHEAD = 2
LANGUAGES = {  # all models know these codes; it takes BCP 47 of the newer ones only
    "ar": "ara",
    "de": "ger",
    "en": "eng",
    "es": "spa",
    "fr": "fra",
    "hi": "hin",
    "it": "ita",
    "ja": "jpn",
    "pt": "por",
}
NAMES = {"model": "modelId", "model_id": "modelId", "language": "lang"}  # of options, in snake case


# To the wire ----------------------------------------------------------------------------------------------


def to_url(spec: TtsSpec, rate: int) -> str:
    """Where to dial: everything that is to be said of the voice stands in the address."""
    language = spec.language.partition("-")[0].lower()
    options = {NAMES.get(snake_case(name), name): value for name, value in spec.options.items()}
    parameters = {
        "lang": LANGUAGES.get(language, language),
        "modelId": MODEL,
        **options,
        "speaker": spec.voice or options.get("speaker") or VOICE,
        **({"modelId": spec.model} if spec.model else {}),
        "audioFormat": "pcm",
        "samplingRate": rate,
        "segment": "never",  # only a flush makes it speak: its own search for sentences trips over 2.5 and Dr.
    }
    query = urlencode({name: query_value(value) for name, value in parameters.items() if value is not None})
    base = str(spec.credentials.get("url") or URL).rstrip("/")
    return f"{base}{'' if urlsplit(base).path else PATH}?{query}"


# From the wire --------------------------------------------------------------------------------------------


def kind_of_error(told: str) -> str:
    return "not-found" if "not found" in told.lower() else kind_of(None, told)


class Portion(NamedTuple):
    """A text that was sent. ``end``: characters of the reply's text up to its end."""

    context: str
    end: int


class Reply:
    """One reply. Rime has one context at a time: its name comes back with what it says, and tells which text it has
    got to. Cancelling takes the socket: a ``clear`` does not stop what has begun.
    """

    is_apart = False

    def __init__(self, name: str, vendor: str, rate: int) -> None:
        self.vendor = vendor
        self.room = asyncio.Semaphore(AHEAD)
        self._name = name
        self._rate = rate
        self._stream = Stream(rate, rate)
        self._words = Words()
        self._given = 0  # characters
        self._sent: deque[Portion] = deque()  # and not done
        self._samples = 0
        self._began = 0  # samples before those of the text that is being spoken
        self._count = 0
        self._has_ended = False

    def piece(self, text: str) -> Iterable[str]:
        self._count += 1
        self._words.given(text)
        self._given += len(text)
        context = f"{self._name}.{self._count}"
        self._sent.append(Portion(context, self._given))
        return [json.dumps({"text": text, "contextId": context}), json.dumps({"operation": "flush"})]

    def end(self) -> Iterable[str]:
        self._has_ended = True
        return ()

    def cancel(self) -> Iterable[str]:
        return [json.dumps({"operation": "clear"})]

    def heard(self, message: str | bytes) -> Iterable[TtsEvent]:
        said = decoded(message, self.vendor)
        kind = said.get("type")
        if kind == "error":
            told = str(said.get("message") or "no message")
            raise failure("tts", self.vendor, kind_of_error(told), f"error in the stream: {told}")
        at = self._at(said.get("contextId"))
        if kind not in ("chunk", "timestamps", "done") or at is None:
            return
        if at and kind != "done":  # it has got to a later text
            yield from self._settle(at) if self._samples > self._began else self._joined(at)
        match kind:
            case "chunk":
                yield from self._audio(self._stream.push(decoded_audio(said.get("data"), self.vendor)))
            case "timestamps":
                yield from self._words.place(self._times(said.get("word_timestamps") or {}))
            case "done":
                if self._samples == self._began:
                    raise failure("tts", self.vendor, "bad-stream", "expected audio, got the end of it")
                yield from self._settle(at + 1)

    def is_done(self) -> bool:
        return self._has_ended and not self._sent

    def _at(self, context: Any) -> int | None:
        """Which of the texts that were sent this is of; the first, where it says none. ``None``: none of them."""
        if context is None:
            return 0 if self._sent else None
        return next((at for at, portion in enumerate(self._sent) if portion.context == context), None)

    def _times(self, told: Mapping[str, Any]) -> list[tuple[str, float]]:
        """Words with their beginnings in the reply; Rime counts from the beginning of each text."""
        began = self._began / self._rate
        return [
            (word, began + start) for word, start in zip(told.get("words", ()), told.get("start", ()), strict=False)
        ]

    def _joined(self, count: int) -> Iterable[TtsEvent]:
        """So many texts are spoken together with the one behind them."""
        for _ in range(count):
            self._sent.popleft()
            self.room.release()
        return ()

    def _settle(self, count: int) -> Iterable[TtsEvent]:
        """So many texts have been spoken."""
        end = self._sent[count - 1].end
        self._joined(count)
        yield from self._audio(self._stream.flush())
        self._began = self._samples
        yield Spoken(end)

    def _audio(self, pcm: bytes) -> Iterable[TtsEvent]:
        self._samples += len(pcm) // 2
        if pcm:
            yield Audio(pcm)


# The vendor -----------------------------------------------------------------------------------------------


class RimeTts:
    """One voice, for one call."""

    def __init__(self, spec: TtsSpec) -> None:
        self._key = key_of("tts", spec.vendor, spec.credentials.get("apiKey"))
        self._spec = spec
        self._names = (f"reply-{number}" for number in itertools.count(1))
        # It hangs up after 30 idle seconds; a new one is dialled when a turn is near.
        self._lines = Lines(self._dial, guess=spec.rate)

    def ready(self) -> None:
        self._lines.ready()

    async def aclose(self) -> None:
        await self._lines.aclose()

    async def speak(self, text: AsyncIterator[str], rate: int) -> AsyncGenerator[TtsEvent, None]:
        reply = Reply(next(self._names), self._spec.vendor, rate)
        async with (
            aclosing(_as_there_is_room(text, reply.room)) as pieces,
            aclosing(stream.speak(self._lines.at(rate), reply, pieces)) as events,  # type: ignore[type-var]
        ):
            async for event in events:
                yield event

    async def _dial(self, rate: int) -> Wire:
        headers = {"Authorization": f"Bearer {self._key}"}
        url = to_url(self._spec, rate)
        vendor, lookup = self._spec.vendor, self._spec.lookup
        return await sockets.dial("tts", vendor, url, headers=headers, secrets=[self._key], lookup=lookup)


async def _as_there_is_room(text: AsyncIterator[str], room: asyncio.Semaphore) -> AsyncGenerator[str, None]:
    await room.acquire()
    async for piece in text:
        for portion in portions(piece, LONGEST):
            yield portion
            await room.acquire()


TAKES_LOOKUP = True  # see providers.base.Lookup


def make_tts(spec: TtsSpec, shared: Shared) -> RimeTts:
    """Raises :class:`ProviderError` when there is no key."""
    return RimeTts(spec)
