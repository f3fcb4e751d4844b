"""Embedded speech recognition: pocketsphinx in a process of its own. English, no key, no network.

Good at what the hints prepare it for, poor at everything else: for open conversation use a vendor.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from providers.audio_feed import AudioFeed, Mark
from providers.base import Final, Partial, ProviderError, SttEvent, SttSpec
from providers.registry import Shared
from providers.speech.frames import Kind
from providers.speech.process import SpeechProcess, Stream

RATES = (8000, 16000)
PRE_ROLL = 0.4  # seconds before the detector's onset that belong to the utterance


class Gate:
    """Which audio is speech: from a little before each SPEECH_STARTED to the SPEECH_STOPPED after it."""

    def __init__(self, rate: int) -> None:
        self._limit = int(PRE_ROLL * rate) * 2
        self._before: deque[bytes] = deque()
        self._size = 0
        self._is_open = False

    def take(self, item: bytes | Mark) -> list[tuple[Kind, bytes]]:
        """What to send for it."""
        if item is Mark.SPEECH_STOPPED:
            self._is_open = False
            return [(Kind.STOP, b"")]
        if item is Mark.SPEECH_STARTED:
            self._is_open = True
            before = b"".join(self._before)[-self._limit :]
            self._before.clear()
            self._size = 0
            return [(Kind.AUDIO, before)] if before else []
        if self._is_open:
            return [(Kind.AUDIO, item)]
        self._before.append(item)
        self._size += len(item)
        while self._size - len(self._before[0]) >= self._limit:
            self._size -= len(self._before.popleft())
        return []


class LocalStt:
    def __init__(self, spec: SttSpec, process: SpeechProcess) -> None:
        self._spec = spec
        self._process = process

    async def listen(self, audio: AudioFeed) -> AsyncIterator[SttEvent]:
        """One :class:`Final` for each SPEECH_STOPPED. Raises ``ProviderError``: ``stt-worker-died`` is retryable."""
        if audio.rate not in RATES:
            message = f"expected a feed of 8000 or 16000 Hz, got {audio.rate}"
            raise ProviderError("local", "stt-unsupported-rate", message)
        stream = await self._process.open()
        stream.send_json(Kind.OPEN, {"rate": audio.rate, "hints": self._spec.hints})
        feeding = asyncio.create_task(feed(audio, stream))
        try:
            while (frame := await stream.receive()).kind is not Kind.END:
                text = frame.payload.decode()
                # No confidence: pocketsphinx has none that is calibrated.
                yield Partial(text) if frame.kind is Kind.PARTIAL else Final(text)
        finally:
            feeding.cancel()
            await asyncio.wait([feeding])
            stream.close()


async def feed(audio: AudioFeed, stream: Stream) -> None:
    """Caller audio to the worker. When the pipe is full this waits, and the feed drops its oldest audio."""
    gate = Gate(audio.rate)
    async for item in audio:
        for kind, payload in gate.take(item):
            stream.send(kind, payload)
        await stream.flow()
    stream.send(Kind.END)


def speech_process(shared: Shared) -> SpeechProcess:
    """The one recogniser process of this server. Await its ``warm()`` before the first call."""
    return shared.get("speech-worker-stt", lambda: SpeechProcess("stt"))


def make_stt(spec: SttSpec, shared: Shared) -> LocalStt:
    return LocalStt(spec, speech_process(shared))
