"""Rime's ``/ws3`` as it stands on the wire: a buffer of text, flushed into one synthesis at a time."""

import asyncio
import base64
import contextlib
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tests.vendors.rows import CHARACTER
from tests.vendors.script import Script
from tests.vendors.voice import Voice
from tests.vendors.ws import WsVendor


class RimeServer(WsVendor):
    """Flushes that come while it speaks become one synthesis with one ``done``; a flush of nothing is nothing, and
    ``clear`` forgets only what was not flushed. Every event carries the latest context at the moment when its synthesis
    began. ``has_times``, ``has_contexts``: whether it tells word times, and names contexts. The sound counts anew where
    what stands before the dot of a context changes.
    """

    def __init__(self, script: Script | None = None) -> None:
        super().__init__(script)
        self.has_times = True
        self.has_contexts = True
        self.syntheses: list[str] = []  # their texts
        self._speaking = False

    def stream_error(self) -> str:
        return json.dumps({"type": "error", "message": "it broke"})

    async def talk(self, socket: ServerConnection) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.seen.paths[-1]).query).items()}
        assert query["audioFormat"] == "pcm" and query["segment"] == "never"
        flushed: asyncio.Queue[tuple[str, str | None]] = asyncio.Queue()
        speaking = asyncio.create_task(self._speak(socket, int(query["samplingRate"]), flushed))
        buffer = ""
        context: str | None = None
        try:
            while True:
                match json.loads(await self.read(socket)):
                    case {"text": str(text), **more}:
                        assert len(text) <= 500
                        buffer += text
                        context = str(more["contextId"]) if "contextId" in more else None
                    case {"operation": "flush"} if buffer:
                        flushed.put_nowait((buffer, context))
                        buffer = ""
                    case {"operation": "clear"}:
                        buffer = ""
                        self.seen.left.set()
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)

    async def _speak(
        self, socket: ServerConnection, rate: int, flushed: "asyncio.Queue[tuple[str, str | None]]"
    ) -> None:
        reply, voice = "", Voice(rate, self.script)
        with contextlib.suppress(ConnectionClosed, ConnectionResetError):
            while True:
                self._speaking = False
                text, context = await flushed.get()
                self._speaking = True
                while text:
                    if context is not None and reply != (reply := context.partition(".")[0]):
                        voice = Voice(rate, self.script)
                    await self._say(socket, voice, text, context)
                    text = ""
                    while not flushed.empty():  # meanwhile
                        more, context = flushed.get_nowait()
                        text += more

    async def _say(self, socket: ServerConnection, voice: Voice, text: str, context: str | None) -> None:
        self.syntheses.append(text)
        began = voice.characters * CHARACTER
        for said in voice.say(text):
            if said.words and self.has_times:
                words, starts, ends = zip(*said.words, strict=True)
                times = {"words": words, "start": [at - began for at in starts], "end": [at - began for at in ends]}
                await self._tell(socket, context, "timestamps", word_timestamps=times)
            await self._tell(socket, context, "chunk", data=base64.b64encode(said.pcm).decode())
        await self._tell(socket, context, "done")

    async def _tell(self, socket: ServerConnection, context: str | None, type_: str, **what: Any) -> None:
        name = context if self.has_contexts else None
        await self.say(socket, json.dumps({"type": type_, **what, "contextId": name}), is_piece=type_ == "chunk")

    def _is_over(self) -> bool:
        return not self._speaking
