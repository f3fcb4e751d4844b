"""The cascaded agent of cascade.js, with jambonz-python-sdk."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from jambonz_sdk.websocket import Session, create_endpoint

MODEL_URL = os.environ.get("MODEL_URL", "https://api.openai.com")


async def answer(messages: list[dict[str, str]]) -> AsyncIterator[str]:
    """The words of a streamed answer, as they come."""
    body = {"model": "gpt-4.1-mini", "stream": True, "messages": messages}
    headers = {"Authorization": f"Bearer {os.environ.get('MODEL_KEY', '')}"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{MODEL_URL}/v1/chat/completions", json=body, headers=headers) as response,
    ):
        async for line in response.content:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    if words := choice["delta"].get("content"):
                        yield words


async def new_call(session: Session) -> None:
    messages = [{"role": "system", "content": "You answer the phone. Be brief."}]
    speaking: list[asyncio.Task[None]] = []

    async def speak() -> None:
        async for words in answer(messages):
            await session.send_tts_tokens(words)
        await session.flush_tts_tokens()

    async def speech_detected(evt: dict[str, Any]) -> None:
        await session.reply()
        messages.append({"role": "user", "content": evt["speech"]["alternatives"][0]["transcript"]})
        speaking.append(asyncio.create_task(speak()))

    async def interrupted(evt: dict[str, Any]) -> None:
        for task in speaking:
            task.cancel()
        speaking.clear()

    async def spoken(evt: dict[str, Any]) -> None:
        messages.append({"role": "assistant", "content": evt["text"]})

    session.on("/speech-detected", speech_detected)
    session.on("tts:user_interruption", interrupted)
    session.on("tts:tts_spoken", spoken)
    barge_in = {
        "enable": True,
        "sticky": True,
        "minBargeinWordCount": 1,
        "actionHook": "/speech-detected",
        "input": ["speech"],
    }
    session.config(ttsStream={"enable": True}, trackTtsPlayout=True, bargeIn=barge_in)
    session.say(text="Hi there, how can I help you today?")
    await session.send()


async def main() -> None:
    port = int(os.environ.get("PORT", "3000"))
    make_service, _ = await create_endpoint(host="127.0.0.1", port=port)
    make_service(path="/").on("session:new", new_call)
    print(f"listening on port {port}")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
