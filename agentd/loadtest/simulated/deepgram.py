"""Deepgram's `/v1/listen`: an interim result while there is sound, and a final, with `speech_final`, a set time after
its end. What is heard are sentences from a list, one after the other.
"""

import asyncio
import json
from typing import Any

from agentd.loadtest.simulated import Delays
from agentd.loadtest.simulated.clock import Clock
from agentd.loadtest.websocket import BINARY, CLOSE, TEXT, ServerSocket, frame, masked

INTERIM = 0.4  # seconds of sound before the first words are told
QUIET = 4  # the high byte of a sample, or its complement: 1,024 of 32,768
SAMPLED = 16  # every so many samples one is looked at
SENTENCES = (
    "What time do you open on Sunday?",
    "I would like to book a table for two.",
    "Can you tell me more about that, please?",
    "Where exactly is your office?",
    "Please put me down for next Tuesday.",
    "How much is it for the whole family?",
)


def results(text: str, *, is_final: bool, from_finalize: bool = False) -> bytes:
    """A Results message as a frame."""
    parts = text.split()
    words = [
        {
            "word": part.strip(",.?!").lower(),
            "start": round(0.2 * at, 3),
            "end": round(0.2 * (at + 1), 3),
            "confidence": 0.98,
            "punctuated_word": part,
        }
        for at, part in enumerate(parts)
    ]
    message: dict[str, Any] = {
        "type": "Results",
        "channel_index": [0, 1],
        "duration": round(0.2 * len(parts), 3),
        "start": 0.0,
        "is_final": is_final,
        "speech_final": is_final and not from_finalize,
        "channel": {"alternatives": [{"transcript": text, "confidence": 0.98, "words": words}]},
        "metadata": {"request_id": "simulated", "model_info": {"name": "simulated"}, "model_uuid": "simulated"},
        "from_finalize": from_finalize,
    }
    return frame(json.dumps(message).encode(), TEXT)


HEARD = [(results(text.rpartition(" ")[0], is_final=False), results(text, is_final=True)) for text in SENTENCES]
NOTHING = results("", is_final=True, from_finalize=True)
GOODBYE = frame(json.dumps({"type": "Metadata", "request_id": "simulated", "channels": 1}).encode(), TEXT)


def is_loud(payload: bytes, mask: bytes) -> bool:
    """L16 under its mask; a few samples of the frame tell."""
    highs = masked(payload, mask)[1 :: 2 * SAMPLED]
    return any(QUIET <= high < 256 - QUIET for high in highs)


class Recogniser(ServerSocket):
    """One connection: one call."""

    def __init__(self, delays: Delays, clock: Clock) -> None:
        super().__init__()
        self._delay = delays.stt
        self._clock = clock
        self._heard = 0  # utterances
        self._began = self._loud_at = 0.0
        self._is_interim_told = True
        self._final: asyncio.TimerHandle | None = None
        self._rate = 8000

    def opened(self, query: dict[str, list[str]]) -> None:
        self._rate = int(query.get("sample_rate", ["8000"])[0])

    def message(self, payload: bytes, mask: bytes, opcode: int) -> None:
        if opcode == BINARY:
            if payload and is_loud(payload, mask):
                self._sound(len(payload) / 2 / self._rate)
            return
        match json.loads(masked(payload, mask)).get("type"):
            case "Finalize" if self._final is None:
                self.send(NOTHING)
            case "CloseStream":
                self.send(GOODBYE, frame((1000).to_bytes(2), CLOSE))
                self.transport.close()

    def closed(self) -> None:
        if self._final is not None:
            self._final.cancel()

    def _sound(self, seconds: float) -> None:
        now = self._loud_at = self._clock.now()
        if self._final is None:
            self._began, self._is_interim_told = now - seconds, False
            self._final = self._clock.at(now + self._delay, self._quiet)
        elif not self._is_interim_told and now >= self._began + INTERIM:
            self._is_interim_told = True
            self.send(HEARD[self._heard % len(HEARD)][0])

    def _quiet(self) -> None:
        """The sound may have gone on since this was appointed: a timer a stretch, not one a frame."""
        due = self._loud_at + self._delay
        if due > self._clock.now() + 0.0005:
            self._final = self._clock.at(due, self._quiet)
            return
        self._final = None
        self.send(HEARD[self._heard % len(HEARD)][1])
        self._heard += 1
