"""Deepgram's Aura voices: text and a flush for each piece, raw audio, and where each piece ends."""

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from typing import Any

from deepgram import AsyncDeepgramClient

from providers.base import Audio, Spoken, TtsEvent, TtsSpec
from providers.deepgram_sdk import SdkSocket, client, secrets
from providers.failures import failure, kind_of
from providers.options import query_value, snake_case
from providers.pcm import Stream
from providers.registry import Shared
from providers.sockets import PlainWire, decoded
from providers.tts.line import Lines
from providers.tts.stream import speak

log = logging.getLogger("agentd.tts.deepgram")

FAMILY, VOICE = "aura-2", "thalia"
FLUSH = json.dumps({"type": "Flush"})
CLEAR = json.dumps({"type": "Clear"})

# Deepgram takes 20 flushes in 60 s on a connection; one more is refused, and its text never said. A socket that has had
# FRESH of them in that time is left, so that the next reply may have 13: one for each of its first pieces, and then
# one for every LONG, 2 * LONG, 4 * LONG … characters, which the voice says for longer than a model takes to write
# twice as many.
WINDOW = 60.0
FRESH = 8
PIECES = 8
LONG, LONGEST = 400, 1600  # characters


# To the wire ----------------------------------------------------------------------------------------------


def to_query(spec: TtsSpec, rate: int) -> dict[str, Any]:
    """What is asked for when the socket is dialled. The voice is a model's whole name (``aura-2-thalia-en``), or the
    voice's own (``thalia``). Options go out under their names in snake_case.
    """
    options = {snake_case(name): query_value(value) for name, value in spec.options.items() if value is not None}
    asked = spec.model or options.get("model", "")
    return {**options, "model": _model(asked, spec), "encoding": "linear16", "sample_rate": rate}


def _model(asked: str, spec: TtsSpec) -> str:
    for name in (spec.voice or "", asked):
        if name.count("-") >= 2:
            return name
    family = asked if asked.count("-") == 1 else FAMILY
    language = spec.language.partition("-")[0].lower() if spec.voice else "en"
    return f"{family}-{spec.voice or VOICE}-{language}"


# From the wire --------------------------------------------------------------------------------------------


class Reply:
    """The dialect of one reply."""

    is_apart = False  # the sound bears no name: what comes late could not be told from the next reply's

    def __init__(self, vendor: str, rate: int, secrets: Iterable[str] = ()) -> None:
        self.vendor = vendor
        self._secrets = tuple(secrets)
        self._pcm = Stream(rate, rate)
        self._characters = 0
        self._flushed = 0  # of the characters, those behind which a flush was sent
        self._flushes = 0
        self._ends: deque[int] = deque()  # what is said once the next flush is answered, in characters
        self._is_ended = False

    def piece(self, text: str) -> Iterable[str]:
        self._characters += len(text)
        said = [json.dumps({"type": "Speak", "text": text})]
        enough = 1 if self._flushes < PIECES else min(LONG << (self._flushes - PIECES), LONGEST)
        return said + self._flush() if self._characters - self._flushed >= enough else said

    def end(self) -> Iterable[str]:
        self._is_ended = True
        return self._flush() if self._characters > self._flushed else []

    def cancel(self) -> Iterable[str]:
        return [CLEAR]

    def is_done(self) -> bool:
        return self._is_ended and not self._ends

    def heard(self, message: str | bytes) -> Iterable[TtsEvent]:
        if isinstance(message, bytes):
            pcm = self._pcm.push(message)
            return [Audio(pcm)] if pcm else []
        told = decoded(message, self.vendor)
        match told.get("type"):
            case "Flushed" if self._ends:
                self._pcm.flush()
                return [Spoken(self._ends.popleft())]
            case "Warning" | "Error" as kind:
                self._complaint(kind, str(told.get("code") or ""), str(told.get("description") or "no description"))
        return []

    def _flush(self) -> list[str]:
        self._flushes += 1
        self._flushed = self._characters
        self._ends.append(self._characters)
        return [FLUSH]

    def _complaint(self, kind: str, code: str, said: str) -> None:
        if kind == "Error":
            message = f"error in the stream: {code}: {said}"
            raise failure("tts", self.vendor, kind_of(None, code), message, secrets=self._secrets)
        if "FLUSH" in code.upper():  # its answer will never come
            raise failure("tts", self.vendor, "rate-limited", f"{code}: {said}", secrets=self._secrets)
        log.warning("vendor warns", extra={"vendor": self.vendor, "code": code[:40]})


# The vendor -----------------------------------------------------------------------------------------------


class AuraSocket(SdkSocket):
    """Calls itself closed as long as it has had too many flushes for another reply."""

    def __init__(self, wire: PlainWire, context: AsyncExitStack) -> None:
        super().__init__(wire, context)
        self._flushes: deque[float] = deque(maxlen=FRESH)  # loop times
        self._now = asyncio.get_running_loop().time

    @property
    def is_open(self) -> bool:
        is_worn = len(self._flushes) == FRESH and self._flushes[0] > self._now() - WINDOW
        return super().is_open and not is_worn

    async def send(self, message: str | bytes) -> None:
        if message == FLUSH:
            self._flushes.append(self._now())
        await super().send(message)


class DeepgramTts:
    def __init__(self, spec: TtsSpec, sdk: AsyncDeepgramClient) -> None:
        self._spec = spec
        self._sdk = sdk
        self._secrets = secrets(spec.credentials)
        self._lines = Lines(self._dial, guess=spec.rate)

    def speak(self, text: AsyncIterator[str], rate: int) -> AsyncIterator[TtsEvent]:
        return speak(self._lines.at(rate), Reply(self._spec.vendor, rate, self._secrets), text)

    async def warm(self) -> None:
        """The SDK imports its voices when they are first asked for, which would hold the loop."""
        _ = self._sdk.speak.v1

    def ready(self) -> None:
        self._lines.ready()

    async def aclose(self) -> None:
        await self._lines.aclose()

    async def _dial(self, rate: int) -> PlainWire:
        asked = {"additional_query_parameters": to_query(self._spec, rate)}
        connect = self._sdk.speak.v1.connect(request_options=asked)
        return await AuraSocket.open(connect, "tts", self._spec.vendor, secrets=self._secrets, lookup=self._spec.lookup)


TAKES_LOOKUP = True  # see providers.base.Lookup


def make_tts(spec: TtsSpec, shared: Shared) -> DeepgramTts:
    """Raises :class:`ProviderError` when the key or a usable URL is missing."""
    return DeepgramTts(spec, client(shared, spec.vendor, "tts", spec.credentials))
