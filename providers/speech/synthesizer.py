"""The synthesizer in its process: espeak-ng through ctypes, one piece of text at a time.

espeak makes 8 s of speech in 6 ms, so pieces of different streams take turns whole. A CLOSE that is read meanwhile
aborts the synthesis in its callback.
"""

import atexit
import ctypes
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np
import soxr

from providers.speech.frames import WORD, Frame, Kind
from providers.speech.worker import Inbox, Send, failed

SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: espeak_Synth returns when all has gone through the callback
BUFFER_MS = 60
DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT
POS_CHARACTER = 1
CHARS_UTF8 = 1
RATE_PARAMETER, PITCH_PARAMETER = 1, 3
WORD_EVENT = 1
LONGEST_PATH = 150  # a data path of 165 characters fails, one of 155 works


class Event(ctypes.Structure):
    """``espeak_EVENT``. ``position`` counts characters from 1; ``sample`` those since the start of the piece."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


class Words:
    """espeak's word events as ever growing ends: "$1,234.50" makes ten overlapping ones and is one word here."""

    def __init__(self, text: str) -> None:
        self._ends = [match.end() for match in re.finditer(r"\S+", text)]
        self._said = 0

    def end(self, position: int, length: int) -> int | None:
        """The end of the word that this event belongs to; ``None`` when it adds nothing to what was said before."""
        last = position - 1 + length
        if length <= 0 or last <= self._said:
            return None
        self._said = next((end for end in self._ends if end >= last), last)
        return self._said


class Espeak:
    """The library. Its state is global: one object, one thread."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._library.espeak_Synth.argtypes = [
            *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint),
            *(ctypes.c_void_p, ctypes.c_void_p),
        ]
        data = short_path(espeakng_loader.get_data_path())
        self.rate: int = self._library.espeak_Initialize(SYNCHRONOUS, BUFFER_MS, data.encode(), DONT_EXIT)
        if self.rate <= 0:
            raise ImportError(f"espeak-ng does not start with its data in {data}")
        self._voice: str | None = None
        self._on_audio: Callable[[bytes, list[Event]], bool] | None = None
        self._callback = CALLBACK(self._called)  # kept: C holds only the pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def choose(self, voices: list[str], wpm: int, pitch: int) -> bool:
        """The first of the voices that there is. False: none of them."""
        if self._voice not in voices:
            self._voice = next((v for v in voices if self._library.espeak_SetVoiceByName(v.encode()) == 0), None)
        self._library.espeak_SetParameter(RATE_PARAMETER, wpm, 0)
        self._library.espeak_SetParameter(PITCH_PARAMETER, pitch, 0)
        return self._voice is not None

    def say(self, text: str, on_audio: Callable[[bytes, list[Event]], bool]) -> None:
        """Calls ``on_audio(pcm, events)`` until all is said or it returns False."""
        self._on_audio = on_audio
        data = text.encode()
        self._library.espeak_Synth(data, len(data) + 1, 0, POS_CHARACTER, 0, CHARS_UTF8, None, None)

    def _called(self, samples: Any, count: int, events: Any) -> int:
        found: list[Event] = []
        while events[len(found)].type:
            found.append(events[len(found)])
        pcm = ctypes.string_at(samples, count * 2) if samples and count > 0 else b""
        return 0 if self._on_audio is None or self._on_audio(pcm, found) else 1


def short_path(data: str) -> str:
    if len(data) <= LONGEST_PATH:
        return data
    folder = tempfile.mkdtemp(prefix="agentd-tts-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    link = Path(folder, "espeak-ng-data")
    link.symlink_to(data, target_is_directory=True)
    return str(link)


class Synthesizer:
    def __init__(self, send: Send, inbox: Inbox) -> None:
        self._send = send
        self._inbox = inbox
        self._espeak = Espeak()

    def handle(self, frame: Frame) -> None:
        if frame.kind is Kind.SAY and frame.stream not in self._inbox.closed:
            self._say(frame.stream, **json.loads(frame.payload))

    def has_work(self) -> bool:
        return False

    def step(self) -> None: ...

    def _say(self, stream: int, text: str, voices: list[str], rate: int, wpm: int, pitch: int) -> None:
        if not self._espeak.choose(voices, wpm, pitch):
            message = f"expected a voice of espeak-ng, for example en-us or en-us+f5; got {' or '.join(voices)}"
            self._send(failed(stream, "tts-unknown-voice", message))
            return
        # A NUL would end the text; other control characters have no sound. One for one: offsets stay true.
        text = re.sub(r"[\x00-\x1f\x7f]", " ", text)
        words = Words(text)
        resampler = soxr.ResampleStream(self._espeak.rate, rate, 1, dtype="int16", quality="HQ")

        def on_audio(pcm: bytes, events: list[Event]) -> bool:
            for event in events:
                if event.type == WORD_EVENT and (end := words.end(event.position, event.length)):
                    self._send(Frame(Kind.WORD, stream, WORD.pack(end, event.sample / self._espeak.rate)))
            self._audio(stream, resampler.resample_chunk(np.frombuffer(pcm, "<i2")))
            return not self.is_closed(stream)

        self._espeak.say(text, on_audio)
        if not self.is_closed(stream):
            self._audio(stream, resampler.resample_chunk(np.zeros(0, "<i2"), last=True))
            self._send(Frame(Kind.SPOKEN, stream))

    def is_closed(self, stream: int) -> bool:
        return self._inbox.is_over or stream in self._inbox.closed

    def _audio(self, stream: int, samples: Any) -> None:
        for chunk in chunks(samples.astype("<i2").tobytes()):
            self._send(Frame(Kind.AUDIO, stream, chunk))


def chunks(pcm: bytes, size: int = 3200) -> Iterator[bytes]:
    """At most 200 ms at 8 kHz, 33 ms at 48 kHz."""
    for start in range(0, len(pcm), size):
        yield pcm[start : start + size]


def make_engine(send: Send, inbox: Inbox) -> Synthesizer:
    return Synthesizer(send, inbox)
