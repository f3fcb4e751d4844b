"""ElevenLabs' Scribe on ``/v1/speech-to-text/realtime``. It never hangs up: its client does."""

import base64
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection

from tests.vendors.ears import Ears, Heard
from tests.vendors.script import Script
from tests.vendors.ws import WsVendor

SESSION = "c1a5f0a0c4a94f3d8f7c1a1b6d1f0a55"
LEAST_COMMIT = 0.3  # seconds of audio


class ScribeServer(WsVendor, Ears):
    """``spoken`` is the language that it says it heard."""

    spoken = "es"

    def __init__(self, script: Script | None = None) -> None:
        WsVendor.__init__(self, script)
        Ears.__init__(self)
        self._committed = 0.0  # how much audio is, in seconds
        self._waiting: list[str] = []  # utterances that are over and wait for a commit of ours

    def error(self, status: int, message: str) -> bytes:
        return json.dumps({"detail": {"status": "refused", "message": message}}).encode()

    def stream_error(self) -> str:
        return json.dumps({"message_type": "transcriber_error", "error": "it broke"})

    async def talk(self, socket: ServerConnection) -> None:
        wanted = self.query()
        rate = int(wanted["audio_format"][0].removeprefix("pcm_"))
        self.connected(rate)
        self._committed = 0.0
        self._waiting.clear()
        config = {"model_id": wanted["model_id"][0], "sample_rate": rate, "audio_format": wanted["audio_format"][0]}
        hello = {"message_type": "session_started", "session_id": SESSION, "config": config}
        await self.say(socket, json.dumps(hello), is_piece=False)
        endpoints = wanted["commit_strategy"] == ["vad"]
        while True:
            said = json.loads(await self.read(socket))
            if said["message_type"] != "input_audio_chunk" or said["sample_rate"] != rate:
                told = {"message_type": "input_error", "error": "expected an input_audio_chunk"}
                await self.say(socket, json.dumps(told), is_piece=False)
                return
            for heard in self.hear(base64.b64decode(said["audio_base_64"], validate=True)):
                if heard.is_final and not endpoints:
                    self._waiting.append(heard.text)
                else:
                    await self._tell(socket, heard)
            if said["commit"]:
                await self._commit(socket)

    async def _commit(self, socket: ServerConnection) -> None:
        if (since := self._at - self._committed) < LEAST_COMMIT:
            why = f"Commit request ignored: only {since:.2f}s of uncommitted audio."
            ignored = {"message_type": "commit_throttled", "error": why}
            await self.say(socket, json.dumps(ignored), is_piece=False)
            return
        self._waiting += [heard.text for heard in self.flush()]
        text = " ".join(self._waiting)
        self._waiting.clear()
        await self._committed_now(socket, text)

    async def _committed_now(self, socket: ServerConnection, text: str) -> None:
        self._committed = self._at
        first, *more = self._transcripts(text)
        await self.say(socket, first, is_piece=bool(text))
        for message in more:
            await self.say(socket, message, is_piece=False)

    async def _tell(self, socket: ServerConnection, heard: Heard) -> None:
        if not heard.is_final:
            await self.say(socket, json.dumps({"message_type": "partial_transcript", "text": heard.text}))
            return
        await self._committed_now(socket, heard.text)

    def _transcripts(self, text: str) -> list[str]:
        """What a commit is answered with."""
        told: list[dict[str, Any]] = [{"message_type": "committed_transcript", "text": text}]
        if self.query().get("include_timestamps") == ["true"]:
            words = [
                {"text": word, "start": self._begun, "end": self._at, "type": "word", "logprob": -0.05}
                for word in text.split()
            ]
            timed = {"message_type": "committed_transcript_with_timestamps", "text": text, "words": words}
            told.append({**timed, "language_code": self.spoken})
        return [json.dumps(each) for each in told]

    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.seen.paths[-1]).query)

    def asked(self) -> dict[str, Any]:
        wanted = self.query()
        return {
            "key": self.seen.headers[-1]["xi-api-key"],
            "rate": int(wanted["audio_format"][0].removeprefix("pcm_")),
            "language": wanted["language_code"][0],
            "hints": wanted.get("keyterms", []),
        }
