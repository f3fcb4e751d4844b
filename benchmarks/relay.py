"""The floor: the least that has to be done between a caller and the vendors, and nothing else.

    python -m benchmarks.relay --port 8000 --stt URL --llm URL --tts URL

Audio in goes to the recogniser, its last word to the model, every token of the answer to the voice as it comes, and
all sound to the caller as it comes. No detector, no barge-in, no history, no pacing, no marks. The next thing that the
caller says ends the reply under way (`killAudio`), or nobody could tell the two answers apart.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import uuid
from typing import Any

import httpx2
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

HEARD = "model=relay&encoding=linear16&sample_rate={rate}&channels=1&interim_results=true&endpointing=300"
MODEL = {"model": "relay", "stream": True}
VOICE = {"model_id": "relay", "language": "en", "voice": {"mode": "id", "id": "relay"}, "max_buffer_delay_ms": 0}


class Relay:
    """One call."""

    def __init__(self, socket: ServerConnection, urls: argparse.Namespace, http: httpx2.AsyncClient) -> None:
        self._socket = socket
        self._urls = urls
        self._http = http
        self._rate = 8000
        self._context = ""  # of the reply that is heard; sound of an earlier one is thrown away
        self._replying: asyncio.Task[None] | None = None
        self._stt: ClientConnection
        self._tts: ClientConnection

    async def run(self) -> None:
        self._rate = int(json.loads(await self._socket.recv())["sampleRate"])
        stt = f"{self._urls.stt}/v1/listen?{HEARD.format(rate=self._rate)}"
        async with (
            connect(stt, compression=None, proxy=None) as self._stt,
            connect(f"{self._urls.tts}/tts/websocket", compression=None, proxy=None) as self._tts,
            asyncio.TaskGroup() as tasks,
        ):
            words, sound = tasks.create_task(self._words()), tasks.create_task(self._sound())
            try:
                async for message in self._socket:
                    if isinstance(message, bytes) and message:
                        await self._stt.send(message)
            finally:
                for task in (words, sound, self._replying):
                    if task is not None:
                        task.cancel()

    async def _words(self) -> None:
        async for message in self._stt:
            heard = json.loads(message)
            if heard["type"] != "Results" or not heard["is_final"]:
                continue
            text = heard["channel"]["alternatives"][0]["transcript"]
            if not text:
                continue
            if self._replying is not None and self._context:
                self._replying.cancel()
                await self._tts.send(json.dumps({"context_id": self._context, "cancel": True}))
                await self._socket.send('{"type":"killAudio"}')
            self._context = uuid.uuid4().hex
            self._replying = asyncio.create_task(self._reply(text, self._context))

    async def _reply(self, text: str, context: str) -> None:
        body = {**MODEL, "messages": [{"role": "user", "content": text}]}
        sound = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": self._rate}
        asked = {**VOICE, "output_format": sound, "context_id": context}
        async with self._http.stream("POST", f"{self._urls.llm}/v1/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {") and (token := _token(json.loads(line[6:]))):
                    await self._tts.send(json.dumps({**asked, "transcript": token, "continue": True}))
        await self._tts.send(json.dumps({**asked, "transcript": "", "continue": False}))

    async def _sound(self) -> None:
        async for message in self._tts:
            said = json.loads(message)
            if said["type"] == "chunk" and said["context_id"] == self._context:
                await self._socket.send(base64.b64decode(said["data"]))


def _token(chunk: Any) -> str:
    choices = chunk["choices"]
    return str(choices[0]["delta"].get("content") or "") if choices else ""


async def main(urls: argparse.Namespace) -> None:
    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=300, keepalive_expiry=120)

    async def call(socket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed, ExceptionGroup):
            await Relay(socket, urls, http).run()

    def answer(socket: ServerConnection, request: Request) -> Response | None:
        healthy = Response(200, "OK", Headers({"Content-Length": "0"}))
        return healthy if request.path == "/healthz" else None

    async with (
        httpx2.AsyncClient(limits=limits, timeout=None, trust_env=False) as http,
        serve(call, "127.0.0.1", urls.port, compression=None, process_request=answer) as server,
    ):
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    for role in ("stt", "llm", "tts"):
        parser.add_argument(f"--{role}", required=True)
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(parser.parse_args()))
