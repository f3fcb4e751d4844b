"""Cartesia's voices as they stand on the wire: contexts on one websocket, sound as base64 in JSON."""

import asyncio
import base64
import contextlib
import json
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tests.vendors.voice import Voice
from tests.vendors.ws import WsVendor

Piece = dict[str, Any]


class CartesiaServer(WsVendor):
    """A context is said piece by piece. Cancelling halts what has not begun; the piece under way is said to its end."""

    async def talk(self, socket: ServerConnection) -> None:
        contexts: dict[str, asyncio.Queue[Piece]] = {}
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                asked = json.loads(await self.read(socket))
                name = asked["context_id"]
                if asked.get("cancel"):
                    assert asked == {"context_id": name, "cancel": True}
                    self._cancel(contexts[name])
                    continue
                assert (
                    asked["output_format"]["container"] == "raw" and asked["output_format"]["encoding"] == "pcm_s16le"
                )
                assert asked["voice"]["id"] and asked["model_id"] and asked["language"]
                if name not in contexts:
                    contexts[name] = asyncio.Queue()
                    self.unfinished.add(name)
                    tasks.add(asyncio.create_task(self._context(socket, name, contexts[name])))
                contexts[name].put_nowait(asked)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> "CartesiaServer":
        self.unfinished: set[str] = set()
        return await super().__aenter__()

    def _cancel(self, pieces: asyncio.Queue[Piece]) -> None:
        self.seen.left.set()
        while not pieces.empty():
            pieces.get_nowait()
        pieces.put_nowait({"transcript": "", "continue": False})

    async def _context(self, socket: ServerConnection, name: str, pieces: asyncio.Queue[Piece]) -> None:
        voice: Voice | None = None
        flush = 0
        with contextlib.suppress(ConnectionClosed, ConnectionResetError):
            while (piece := await pieces.get())["transcript"] or piece["continue"]:
                flush += 1
                voice = voice or Voice(piece["output_format"]["sample_rate"], self.script)
                for said in voice.say(piece["transcript"]):
                    if said.words and piece.get("add_timestamps"):
                        words, starts, ends = zip(*said.words, strict=True)
                        times = {"words": words, "start": starts, "end": ends}
                        await self._tell(socket, name, "timestamps", word_timestamps=times, flush_id=flush)
                    data = base64.b64encode(said.pcm).decode()
                    await self._tell(socket, name, "chunk", data=data, step_time=1.5, flush_id=flush)
                await self._tell(socket, name, "flush_done", flush_done=True, flush_id=flush)
            self.unfinished.discard(name)
            await self._tell(socket, name, "done", done=True, status_code=200)

    async def _tell(self, socket: ServerConnection, name: str, type_: str, **what: Any) -> None:
        self.latest = name
        message = {"type": type_, "context_id": name, "done": False, "status_code": 206, **what}
        await self.say(socket, json.dumps(message), is_piece=type_ == "chunk")

    def stream_error(self) -> str:
        told = {"title": "Internal error", "message": "it broke", "error_code": "internal", "status_code": 500}
        return json.dumps({"type": "error", "context_id": self.latest, "done": True, **told})

    def _is_over(self) -> bool:
        return not self.unfinished
