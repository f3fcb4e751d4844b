"""OpenAI's ``/v1/audio/speech`` as it stands on the wire: JSON in, bare samples out."""

import json
import struct
from collections.abc import Mapping

from providers.tts.openai import RATE
from tests.vendors.http import HttpVendor, Request
from tests.vendors.script import Script
from tests.vendors.voice import Voice


class OpenAiSpeechServer(HttpVendor):
    """A request does not say which reply it is of, so the sound goes on from one to the next. It begins anew at
    ``opening``; ``aside`` is a word by which the requests of a second reply at the same time are known. ``header``:
    what stands before the samples.
    """

    content_type = "audio/pcm"
    garbage = b""  # samples mean nothing: none of them is out of place

    def __init__(self, script: Script | None = None) -> None:
        super().__init__(script)
        self.header = b""
        self.opening = "Well, "
        self.aside = "fox"
        self._voices: dict[bool, Voice] = {}

    def pieces(self, request: Request) -> list[bytes]:
        asked = request.json()
        assert request.path == "/v1/audio/speech" and asked["response_format"] == "pcm"
        assert asked["model"] and asked["voice"] and 0 < len(asked["input"]) <= 4096
        header = [self.header] if self.header else []
        return header + [said.pcm for said in self._voice(asked["input"]).say(asked["input"])]

    def _voice(self, text: str) -> Voice:
        is_aside = self.aside in text
        if is_aside not in self._voices or text == self.opening:
            self._voices[is_aside] = Voice(RATE, self.script)
        return self._voices[is_aside]

    def error(self, status: int, message: str) -> tuple[Mapping[str, str], bytes]:
        error = {"message": message, "type": "error", "param": None, "code": None}
        return {}, json.dumps({"error": error}).encode()


def wav_header(rate: int, channels: int = 1, bits: int = 16) -> bytes:
    """As servers write it that do not know the size yet, with a chunk that nobody asked for."""
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)
    listed = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    return (
        b"RIFF" + struct.pack("<I", 0xFFFFFFFF) + b"WAVE"
        b"fmt " + struct.pack("<I", 16) + form + listed + b"data" + struct.pack("<I", 0xFFFFFFFF)
    )
