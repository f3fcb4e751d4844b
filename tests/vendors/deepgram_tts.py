"""Deepgram's Aura voices as they stand on the wire: text is gathered until a flush, the sound is binary."""

import asyncio
import contextlib
import json
from collections import deque
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tests.vendors.script import Script
from tests.vendors.voice import Voice
from tests.vendors.ws import WsVendor

FLUSHES, WINDOW = 20, 60.0  # so many, in so many seconds


class AuraServer(WsVendor):
    """Nothing is said before a flush. ``Clear`` forgets text and sound; what was sent before it is on its way."""

    def __init__(self, script: Script | None = None) -> None:
        super().__init__(script)
        self.excessive = 0  # flushes that were refused
        self._unsaid = 0  # texts

    def error(self, status: int, message: str) -> bytes:
        word = {401: "INVALID_AUTH", 429: "TOO_MANY_REQUESTS"}.get(status, "INTERNAL_SERVER_ERROR")
        return json.dumps({"err_code": word, "err_msg": message, "request_id": "4f5c1f0e"}).encode()

    def stream_error(self) -> str:
        return json.dumps({"type": "Error", "description": "it broke", "code": "INTERNAL_SERVER_ERROR"})

    async def talk(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        asked = parse_qs(urlsplit(socket.request.path).query)
        assert asked["encoding"] == ["linear16"] and asked["model"][0].startswith("aura")
        voice = Voice(int(asked["sample_rate"][0]), self.script)
        flushed: deque[float] = deque(maxlen=FLUSHES)
        texts: asyncio.Queue[str] = asyncio.Queue()
        self._unsaid = 0
        await self._tell(socket, "Metadata", request_id="4f5c1f0e", model_name=asked["model"][0])
        speaking = asyncio.create_task(self._speak(socket, voice, texts))
        text, now = "", asyncio.get_running_loop().time
        try:
            while True:
                match json.loads(await self.read(socket)):
                    case {"type": "Speak", "text": str(more)}:
                        text, self._unsaid = text + more, self._unsaid + 1
                    case {"type": "Flush"} if len(flushed) == FLUSHES and flushed[0] > now() - WINDOW:
                        self.excessive += 1
                        await self._tell(socket, "Warning", code="EXCESSIVE_FLUSH", description="too many flushes")
                    case {"type": "Flush"}:
                        flushed.append(now())
                        texts.put_nowait(text)
                        text = ""
                    case {"type": "Clear"}:
                        self.seen.left.set()
                        speaking.cancel()
                        text, texts = "", asyncio.Queue()
                        speaking = asyncio.create_task(self._speak(socket, voice, texts))
                        await self._tell(socket, "Cleared", sequence_id=0)
                    case {"type": "Close"}:
                        return
                    case other:
                        raise AssertionError(f"expected a message of Deepgram's, got {other}")
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)

    async def _speak(self, socket: ServerConnection, voice: Voice, texts: "asyncio.Queue[str]") -> None:
        number = 0
        with contextlib.suppress(ConnectionClosed, ConnectionResetError):
            while True:
                text = await texts.get()
                for said in voice.say(text):
                    await self.say(socket, said.pcm)
                self._unsaid = 0 if texts.empty() else self._unsaid
                await self._tell(socket, "Flushed", sequence_id=number)
                number += 1

    async def _tell(self, socket: ServerConnection, type_: str, **what: Any) -> None:
        await self.say(socket, json.dumps({"type": type_, **what}), is_piece=False)

    def _is_over(self) -> bool:
        return self._unsaid == 0
