"""Deepgram's recognisers: nova on ``/v1/listen``, Flux on ``/v2/listen``."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection

from tests.vendors.ears import Ears, Heard
from tests.vendors.script import Script
from tests.vendors.ws import WsVendor

REQUEST = "4f5c1f0e-8d9b-4a7e-9d5e-2f6f0f1a2b3c"
MODEL = {"name": "general-nova-3", "version": "2025-04-17.21547", "arch": "nova-3"}


class DeepgramServer(WsVendor, Ears):
    """``spoken`` is the language that it hears where it was asked for ``multi``."""

    spoken = "es"

    def __init__(self, script: Script | None = None) -> None:
        WsVendor.__init__(self, script)
        Ears.__init__(self)
        self._segment = 0.0  # where the audio begins that no final covers yet

    def error(self, status: int, message: str) -> bytes:
        word = {401: "INVALID_AUTH", 429: "TOO_MANY_REQUESTS"}.get(status, "INTERNAL_SERVER_ERROR")
        return json.dumps({"err_code": word, "err_msg": message, "request_id": REQUEST}).encode()

    def stream_error(self) -> str:
        return json.dumps(
            {"type": "Error", "variant": "InternalError", "description": "it broke", "message": "it broke"}
        )

    async def talk(self, socket: ServerConnection) -> None:
        wanted = query(socket)
        self.connected(int(wanted["sample_rate"][0]))
        self._segment = 0.0
        while True:
            message = await self.read(socket)
            if isinstance(message, bytes):
                for heard in self.hear(message):
                    await self._results(socket, heard, speech_final=wanted["endpointing"] != ["false"])
                continue
            match json.loads(message)["type"]:
                case "Finalize":
                    found = list(self.flush())
                    for heard in found:
                        await self._results(socket, heard, from_finalize=True)
                    if not found:
                        nothing = self.results("", is_final=True, from_finalize=True)
                        await self.say(socket, nothing, is_piece=False)
                case "CloseStream":
                    for heard in self.flush():
                        await self._results(socket, heard)
                    await self.say(socket, self._metadata(), is_piece=False)
                    return

    async def _results(self, socket: ServerConnection, heard: Heard, **flags: bool) -> None:
        flags = flags if heard.is_final else {}
        await self.say(socket, self.results(heard.text, is_final=heard.is_final, **flags))

    def results(
        self, text: str, *, is_final: bool, speech_final: bool = False, from_finalize: bool = False, **more: Any
    ) -> str:
        """A Results message for the audio from the last final up to now."""
        start, end = self._segment, self._at
        if is_final:
            self._segment = end
        words = _words(text, start, end)
        heard: dict[str, Any] = {"transcript": text, "confidence": 0.98 if text else 0.0, "words": words}
        if query(self.socket).get("language") == ["multi"] and text:
            heard["languages"] = [self.spoken]
        return json.dumps(
            {
                "type": "Results",
                "channel_index": [0, 1],
                "duration": round(end - start, 3),
                "start": round(start, 3),
                "is_final": is_final,
                "speech_final": speech_final,
                "channel": {"alternatives": [heard]},
                "metadata": {"request_id": REQUEST, "model_info": MODEL, "model_uuid": REQUEST},
                "from_finalize": from_finalize,
                **more,
            }
        )

    def utterance_end(self) -> str:
        return json.dumps({"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": round(self._segment, 3)})

    def speech_started(self) -> str:
        return json.dumps({"type": "SpeechStarted", "channel": [0], "timestamp": round(self._at, 3)})

    def _metadata(self) -> str:
        return json.dumps(
            {
                "type": "Metadata",
                "transaction_key": "deprecated",
                "request_id": REQUEST,
                "sha256": "0" * 64,
                "created": "2026-11-20T12:00:00.000Z",
                "duration": self._at,
                "channels": 1,
                "models": [REQUEST],
                "model_info": {REQUEST: MODEL},
            }
        )

    def asked(self) -> dict[str, Any]:
        return asked(self)


class FluxServer(WsVendor, Ears):
    """``spoken`` is the language that ``flux-general-multi`` hears."""

    spoken = "es"

    def __init__(self, script: Script | None = None) -> None:
        WsVendor.__init__(self, script)
        Ears.__init__(self)
        self._sequence = 0

    error = DeepgramServer.error
    asked = DeepgramServer.asked

    def stream_error(self) -> str:
        return self._numbered({"type": "Error", "code": "INTERNAL_SERVER_ERROR", "description": "it broke"})

    async def talk(self, socket: ServerConnection) -> None:
        wanted = query(socket)
        self.connected(int(wanted["sample_rate"][0]))
        self._sequence = 0
        await self.say(socket, self._numbered({"type": "Connected", "request_id": REQUEST}), is_piece=False)
        while True:
            message = await self.read(socket)
            if not isinstance(message, bytes):
                return  # CloseStream is all that is ever said
            for heard in self.hear(message):
                if not heard.is_final:
                    await self.say(socket, self.turn_info("StartOfTurn", heard.text, heard.number))
                    update = self.turn_info("Update", heard.text, heard.number)
                    await self.say(socket, update, is_piece=False)
                    continue
                if "eager_eot_threshold" in wanted:
                    eager = self.turn_info("EagerEndOfTurn", heard.text, heard.number, confidence=0.45)
                    await self.say(socket, eager, is_piece=False)
                end = self.turn_info("EndOfTurn", heard.text, heard.number, confidence=0.8, trigger="model")
                await self.say(socket, end)

    def turn_info(self, event: str, text: str, turn: int, *, confidence: float = 0.1, **more: Any) -> str:
        words = [
            {"word": each["punctuated_word"], "confidence": each["confidence"]}
            for each in _words(text, self._begun, self._at)
        ]
        if self.socket is not None and query(self.socket)["model"] == ["flux-general-multi"]:
            more |= {"languages": [self.spoken]}
        return self._numbered(
            {
                "type": "TurnInfo",
                "request_id": REQUEST,
                "event": event,
                "turn_index": turn,
                "audio_window_start": round(self._begun, 3),
                "audio_window_end": round(self._at, 3),
                "transcript": text,
                "words": words,
                "end_of_turn_confidence": confidence,
                **more,
            }
        )

    def _numbered(self, message: dict[str, Any]) -> str:
        self._sequence += 1
        return json.dumps({**message, "sequence_id": self._sequence - 1})


def asked(vendor: WsVendor) -> dict[str, Any]:
    """What the latest connection asks for, in the words of the contract suite. Deepgram hears English by default."""
    wanted = parse_qs(urlsplit(vendor.seen.paths[-1]).query)
    return {
        "key": vendor.seen.headers[-1]["authorization"].removeprefix("Token "),
        "rate": int(wanted["sample_rate"][0]),
        "language": (wanted.get("language") or wanted.get("language_hint") or ["en"])[0],
        "hints": wanted.get("keyterm", []),
    }


def query(socket: ServerConnection | None) -> dict[str, list[str]]:
    """What a connection asks for in its URL."""
    assert socket is not None and socket.request is not None
    return parse_qs(urlsplit(socket.request.path).query)


def _words(text: str, start: float, end: float) -> Sequence[dict[str, Any]]:
    parts = text.split()
    each = (end - start) / max(len(parts), 1)
    return [
        {
            "word": part.strip(",.?!").lower(),
            "start": round(start + at * each, 3),
            "end": round(start + (at + 1) * each, 3),
            "confidence": 0.96 if at % 2 else 1.0,
            "punctuated_word": part,
        }
        for at, part in enumerate(parts)
    ]
