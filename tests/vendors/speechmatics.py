"""Speechmatics: the realtime recogniser on ``/v2``, Agent STT on ``/v2/agent``. It never hangs up: its client does."""

import json
from typing import Any

from websockets.asyncio.server import ServerConnection

from tests.vendors.ears import Ears, Heard
from tests.vendors.script import Script
from tests.vendors.ws import WsVendor

SESSION = "807670e9-14af-4fa2-9e8f-5d525c22156e"


class SpeechmaticsServer(WsVendor, Ears):
    """``refusal``: what StartRecognition is answered with, instead of RecognitionStarted."""

    def __init__(self, script: Script | None = None) -> None:
        WsVendor.__init__(self, script)
        Ears.__init__(self)
        self.refusal: dict[str, Any] | None = None
        self._number = 0  # of the message of audio
        self._start: dict[str, Any] = {}

    def stream_error(self) -> str:
        return json.dumps({"message": "Error", "type": "job_error", "reason": "it broke", "code": 4013})

    async def talk(self, socket: ServerConnection) -> None:
        self._start = json.loads(await self.read(socket))
        assert self._start["message"] == "StartRecognition"
        self.connected(self._start["audio_format"]["sample_rate"])
        self._number = 0
        info = {"message": "Info", "type": "recognition_quality", "reason": "telephony", "quality": "telephony"}
        await self.say(socket, json.dumps(info), is_piece=False)
        if self.refusal is not None:
            await self.say(socket, json.dumps(self.refusal), is_piece=False)
            return
        pack = {"word_delimiter": " ", "writing_direction": "left-to-right", "language_description": "English"}
        started = {"message": "RecognitionStarted", "id": SESSION, "language_pack_info": pack}
        await self.say(socket, json.dumps(started), is_piece=False)
        while True:
            message = await self.read(socket)
            if isinstance(message, bytes):
                self._number += 1
                added = {"message": "AudioAdded", "seq_no": self._number}
                await self.say(socket, json.dumps(added), is_piece=False)
                for heard in self.hear(message):
                    await self._tell(socket, heard)
                continue
            match said := json.loads(message):
                case {"message": "ForceEndOfUtterance"}:
                    assert said["timestamp"] == self._at
                    for heard in self.flush():
                        await self._tell(socket, heard, ends=False)
                    await self._end(socket)
                case {"message": "EndOfStream"}:
                    assert said["last_seq_no"] == self._number
                    for heard in self.flush():
                        await self._tell(socket, heard)
                    await self.say(socket, json.dumps({"message": "EndOfTranscript"}), is_piece=False)

    async def _tell(self, socket: ServerConnection, heard: Heard, *, ends: bool = True) -> None:
        for message in self.transcript(heard.text, is_final=heard.is_final):
            await self.say(socket, message)
        if heard.is_final and ends and self._ends_by_itself():
            await self._end(socket)

    def _ends_by_itself(self) -> bool:
        if self.is_agent():
            return bool(self._start["turn_config"] == {"turn_detection_mode": "vad"})
        config = self._start["transcription_config"].get("conversation_config", {})
        return bool(config.get("end_of_utterance_silence_trigger", 0) > 0)

    async def _end(self, socket: ServerConnection) -> None:
        name = "EndOfTurn" if self.is_agent() else "EndOfUtterance"
        ended = {"message": name, "metadata": {"start_time": self._at, "end_time": self._at}}
        await self.say(socket, json.dumps(ended), is_piece=False)

    def transcript(self, text: str, *, is_final: bool) -> list[str]:
        metadata = {"start_time": self._begun, "end_time": self._at}
        if self.is_agent():
            name = "AddSegment" if is_final else "AddPartialSegment"
            return [json.dumps({"message": name, "metadata": metadata, "segment": {"transcript": text}})]
        name = "AddTranscript" if is_final else "AddPartialTranscript"
        told = {"message": name, "format": "2.9", "metadata": {**metadata, "transcript": f"{text} "}}
        return [json.dumps({**told, "results": list(_results(text, self._begun, self._at))})]

    def is_agent(self) -> bool:
        return "/agent" in self.seen.paths[-1]

    def asked(self) -> dict[str, Any]:
        config = self._start["transcription_config"]
        return {
            "key": self.seen.headers[-1]["authorization"].removeprefix("Bearer "),
            "rate": self._start["audio_format"]["sample_rate"],
            "language": config["language"],
            "hints": [entry["content"] for entry in config.get("additional_vocab", [])],
        }


def _results(text: str, start: float, end: float) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for part in text.split():
        word = part.strip(".,?!")
        times = {"start_time": start, "end_time": end}
        said = {"content": word, "confidence": 0.96, "language": "en"}
        found.append({"type": "word", **times, "alternatives": [said]})
        if mark := part.removeprefix(word):
            told = {"content": mark, "confidence": 1.0, "language": "en"}
            found.append({"type": "punctuation", **times, "attaches_to": "previous", "alternatives": [told]})
    return found
