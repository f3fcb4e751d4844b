"""Embedded speech synthesis: espeak-ng in a process of its own. Understandable, instant, no key, no network."""

from collections.abc import AsyncIterator

from providers.base import Audio, Spoken, TtsEvent, TtsSpec, Word
from providers.registry import Shared
from providers.speech.frames import WORD, Kind
from providers.speech.process import SpeechProcess
from providers.tts.wire_audio import portions

RATE_WPM = 160  # options: rate (80 to 450 words a minute), pitch (0 to 100)
PITCH = 50
# espeak makes a whole piece at once and the worker waits for nobody: this bounds what is kept here, to about a minute
# of speech (1 MB at 8 kHz, 6 MB at 48 kHz). The next piece is asked for when all of this one has been taken.
LONGEST_PIECE = 1000
# What espeak puts between sentences and clauses of one text (measured: 0.35, 0.3 and 0.17 s). It leaves it out at
# the end of a text, so between two pieces it is ours to add.
PAUSES = {".": 0.35, "!": 0.35, "?": 0.35, "…": 0.35, ";": 0.3, ":": 0.3, ",": 0.17}
CLOSING = " \t\n\"')]}”’"  # may stand behind the sign that makes the pause


class LocalTts:
    def __init__(self, spec: TtsSpec, process: SpeechProcess) -> None:
        language = spec.language.lower()
        self._process = process
        self._how = {
            "voices": [spec.voice] if spec.voice else [language, language.partition("-")[0]],
            "wpm": int(spec.options.get("rate", RATE_WPM)),
            "pitch": int(spec.options.get("pitch", PITCH)),
        }

    async def speak(self, text: AsyncIterator[str], rate: int) -> AsyncIterator[TtsEvent]:
        """Raises ``ProviderError``: ``tts-worker-died`` is retryable, ``tts-unknown-voice`` is not."""
        stream = await self._process.open()
        said = 0  # characters of all pieces
        samples = 0  # yielded
        pause = 0.0
        try:
            async for whole in text:
                for piece in portions(whole, LONGEST_PIECE):
                    if piece.strip():
                        silence = bytes(2 * int(pause * rate))
                        samples += len(silence) // 2
                        if silence:
                            yield Audio(silence)
                        began = samples / rate
                        stream.send_json(Kind.SAY, {"text": piece, "rate": rate, **self._how})
                        while (frame := await stream.receive()).kind is not Kind.SPOKEN:
                            if frame.kind is Kind.WORD:
                                end, start = WORD.unpack(frame.payload)
                                yield Word(said + end, began + start)
                            else:
                                samples += len(frame.payload) // 2
                                yield Audio(frame.payload)
                        pause = PAUSES.get(piece.rstrip(CLOSING)[-1:], 0.0)
                    said += len(piece)
                yield Spoken(said)
        finally:
            stream.close()


def speech_process(shared: Shared) -> SpeechProcess:
    """The one synthesizer process of this server. Await its ``warm()`` before the first call."""
    return shared.get("speech-worker-tts", lambda: SpeechProcess("tts"))


def make_tts(spec: TtsSpec, shared: Shared) -> LocalTts:
    return LocalTts(spec, speech_process(shared))
