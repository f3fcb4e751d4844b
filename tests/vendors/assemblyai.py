"""AssemblyAI's streaming recogniser on ``/v3/ws``."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection

from tests.vendors.ears import Ears, Heard
from tests.vendors.script import Script
from tests.vendors.ws import WsVendor

SESSION = "0ad6f1c2-6f0e-4f0f-8c55-2f5b9a1f7f31"


class AssemblyAiServer(WsVendor, Ears):
    """``spoken`` is the language that it hears; ``formats``: each end of a turn is told again, formatted.
    ``lengths`` are those of the messages of audio, in seconds.
    """

    spoken = "es"

    def __init__(self, script: Script | None = None) -> None:
        WsVendor.__init__(self, script)
        Ears.__init__(self)
        self.formats = False
        self.lengths: list[float] = []
        self._order = 0  # of the turn, on the latest connection

    def stream_error(self) -> str:
        return json.dumps({"type": "Error", "error_code": 3005, "error": "Session Cancelled: it broke"})

    async def talk(self, socket: ServerConnection) -> None:
        wanted = self.query()
        rate = int(wanted["sample_rate"])
        self.connected(rate)
        self._order = 0
        await self.say(socket, json.dumps({"type": "Begin", "id": SESSION, "expires_at": 1795165000}), is_piece=False)
        while True:
            message = await self.read(socket)
            if isinstance(message, bytes):
                self.lengths.append(seconds := len(message) / 2 / rate)
                if not 0.05 <= seconds <= 1.0:
                    told = f"Input duration violation: {seconds * 1000:.0f} ms. Expected between 50 and 1000 ms"
                    await self.say(
                        socket, json.dumps({"type": "Error", "error_code": 3007, "error": told}), is_piece=False
                    )
                    await socket.close(3007, "See Error message for details")
                    return
                for heard in self.hear(message):
                    await self._turn(socket, heard)
                continue
            match json.loads(message)["type"]:
                case "ForceEndpoint":
                    for heard in self.flush():
                        await self._turn(socket, heard)
                case "Terminate":
                    for heard in self.flush():
                        await self._turn(socket, heard)
                    gone = {"type": "Termination", "audio_duration_seconds": int(self._at)}
                    await self.say(socket, json.dumps(gone), is_piece=False)
                    return

    async def _turn(self, socket: ServerConnection, heard: Heard) -> None:
        if not heard.is_final:
            await self.say(socket, self.turn(heard.text))
            return
        plain = heard.text.lower().strip(".,?!") if self.formats else heard.text
        await self.say(socket, self.turn(plain, ends=True, formatted=not self.formats))
        if self.formats:
            await self.say(socket, self.turn(heard.text, ends=True), is_piece=False)
        self._order += 1

    def turn(self, text: str, *, ends: bool = False, formatted: bool = True, **more: Any) -> str:
        parts = text.split()
        each = int((self._at - self._begun) * 1000 / max(len(parts), 1))
        words = [
            {
                "start": int(self._begun * 1000) + number * each,
                "end": int(self._begun * 1000) + (number + 1) * each,
                "text": part,
                "confidence": 0.94,
                "word_is_final": ends,
            }
            for number, part in enumerate(parts)
        ]
        if self.query().get("language_detection") == "true":
            more = {"language_code": self.spoken, "language_confidence": 0.98, **more}
        return json.dumps(
            {
                "type": "Turn",
                "turn_order": self._order,
                "turn_is_formatted": formatted and ends,
                "end_of_turn": ends,
                "transcript": text,
                "end_of_turn_confidence": 0.9 if ends else 0.1,
                "words": words,
                **more,
            }
        )

    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.seen.paths[-1]).query).items()}

    def asked(self) -> dict[str, Any]:
        wanted = self.query()
        return {
            "key": self.seen.headers[-1]["authorization"],
            "rate": int(wanted["sample_rate"]),
            "language": json.loads(wanted.get("language_codes", '["en"]'))[0],
            "hints": json.loads(wanted.get("keyterms_prompt", "[]")),
        }
