"""ElevenLabs' ``multi-stream-input`` as it stands on the wire: contexts, audio and characters with their times."""

import asyncio
import base64
import contextlib
import json
import math
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tests.vendors.rows import CHARACTER
from tests.vendors.script import Script
from tests.vendors.voice import Voice
from tests.vendors.ws import WsVendor

CONTEXTS = 5  # that a socket may hold at once
CHANGED = "voice_settings field must be provided in the first message and then either be not provided or not change."


class ElevenLabsServer(WsVendor):
    """What was flushed is said to its end, also when the context is closed meanwhile; then comes ``isFinal``. What was
    not flushed is forgotten. ``settles``: seconds from a text to the moment from which closing its context no longer
    loses it. ``aligned``: the field in which the times stand, ``None`` for none.
    """

    def __init__(self, script: Script | None = None) -> None:
        super().__init__(script)
        self.settles = 0.0
        self.aligned: str | None = "alignment"
        self.unfinished: set[str] = set()

    def error(self, status: int, message: str) -> bytes:
        return json.dumps({"detail": {"status": "invalid_api_key", "message": message}}).encode()

    def stream_error(self) -> str:
        return json.dumps({"message": "it broke", "error": "internal_server_error", "code": 1011})

    async def talk(self, socket: ServerConnection) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.seen.paths[-1]).query).items()}
        rate = int(query["output_format"].removeprefix("pcm_"))
        contexts: dict[str, _Context] = {}
        settings: Any = ...
        try:
            while True:
                asked = json.loads(await self.read(socket))
                name = asked["context_id"]
                if name not in contexts:
                    assert asked["text"] == " ", "the first message of a context"
                    if settings not in (..., asked.get("voice_settings")):
                        await socket.close(1008, CHANGED)
                        return
                    settings = asked.get("voice_settings")
                    if sum(not context.task.done() for context in contexts.values()) >= CONTEXTS:
                        said = "Maximum simultaneous contexts per WebSocket connection exceeded (5)."
                        told = {"error": "max_active_conversations", "code": 1008, "message": said}
                        await socket.send(json.dumps(told))
                        await socket.close(1008, said)
                        return
                    contexts[name] = _Context(self, socket, name, rate)
                    continue
                assert not asked.get("text") or asked.get("flush"), "nobody flushes it later"
                if asked.get("close_context"):
                    if contexts[name].is_speaking:
                        self.seen.left.set()
                    contexts[name].close()
                elif asked["text"]:
                    contexts[name].texts.put_nowait(asked["text"])
        finally:
            for context in contexts.values():
                context.task.cancel()
            await asyncio.gather(*(context.task for context in contexts.values()), return_exceptions=True)

    def _is_over(self) -> bool:
        return not self.unfinished


class _Context:
    def __init__(self, vendor: ElevenLabsServer, socket: ServerConnection, name: str, rate: int) -> None:
        self.texts: asyncio.Queue[str | None] = asyncio.Queue()
        self.is_speaking = False
        self._vendor = vendor
        self._socket = socket
        self._name = name
        self._rate = rate
        self._is_settled = not vendor.settles
        vendor.unfinished.add(name)
        self.task = asyncio.create_task(self._hold())

    def close(self) -> None:
        if not self._is_settled:
            while not self.texts.empty():
                self.texts.get_nowait()
        self.texts.put_nowait(None)

    async def _hold(self) -> None:
        voice = Voice(self._rate, self._vendor.script)
        text, size = "", 0  # all that was given; bytes of sound
        with contextlib.suppress(ConnectionClosed, ConnectionResetError):
            while (piece := await self._next()) is not None:
                text += piece
                self.is_speaking = True
                for said in voice.say(piece):
                    times = self._times(text, size, size + len(said.pcm))
                    size += len(said.pcm)
                    aligned = {self._vendor.aligned: times} if self._vendor.aligned else {}
                    told = {"alignment": None, "normalizedAlignment": None, **aligned, "isFinal": None}
                    data = base64.b64encode(said.pcm).decode()
                    await self._vendor.say(self._socket, self._message(audio=data, **told))
                self.is_speaking = not self.texts.empty()
            self._vendor.unfinished.discard(self._name)
            await self._vendor.say(self._socket, self._message(isFinal=True), is_piece=False)

    async def _next(self) -> str | None:
        if self._is_settled:
            return await self.texts.get()
        await asyncio.sleep(self._vendor.settles)
        self._is_settled = True
        return await self.texts.get()

    def _times(self, text: str, start: int, end: int) -> dict[str, Any]:
        """The characters that begin in these bytes of the reply, their times counted from the first of them."""
        of_a_byte = 1 / 2 / self._rate
        first, last = (math.ceil(at * of_a_byte / CHARACTER - 1e-6) for at in (start, end))
        starts = [round(1000 * (at * CHARACTER - start * of_a_byte)) for at in range(first, min(last, len(text)))]
        return {
            "chars": list(text[first:last]),
            "charStartTimesMs": starts,
            "charDurationsMs": [round(1000 * CHARACTER)] * len(starts),
        }

    def _message(self, **fields: Any) -> str:
        return json.dumps({**fields, "contextId": self._name})
