"""The guide's weather tool and an update, with jambonz-python-sdk: the Python of weather.js."""

import asyncio
import os
from typing import Any

import aiohttp
from jambonz_sdk.websocket import Session, create_endpoint

GEOCODING_URL = os.environ.get("GEOCODING_URL", "https://geocoding-api.open-meteo.com")
FORECAST_URL = os.environ.get("FORECAST_URL", "https://api.open-meteo.com")

WEATHER_TOOL = {
    "name": "get_weather",
    "description": "Get the current temperature and wind speed for a location.",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string", "description": 'City name, e.g. "Portland"'}},
        "required": ["location"],
    },
}


async def weather(location: str) -> str:
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{GEOCODING_URL}/v1/search", params={"name": location, "count": 1}) as response:
            place = (await response.json())["results"][0]
        where = {"latitude": place["latitude"], "longitude": place["longitude"]}
        wanted = {**where, "current": "temperature_2m,wind_speed_10m"}
        async with http.get(f"{FORECAST_URL}/v1/forecast", params=wanted) as response:
            now = (await response.json())["current"]
    return f"Temperature: {now['temperature_2m']}°C, Wind: {now['wind_speed_10m']} km/h"


async def new_call(session: Session) -> None:
    async def tool_call(evt: dict[str, Any]) -> None:
        if evt["name"] == "get_weather":
            result = await weather(evt["arguments"]["location"])
        else:
            result = f"Unknown tool: {evt['name']}"
        await session.tool_output(evt["tool_call_id"], result)
        await session.reply()

    async def agent_event(evt: dict[str, Any]) -> None:
        if evt["type"] == "turn_end":
            await session.update_agent({"type": "update_instructions", "instructions": "Answer in one word."})
        await session.reply()

    async def agent_complete(evt: dict[str, Any]) -> None:
        session.hangup()
        await session.reply()

    session.on("/tool-call", tool_call)
    session.on("/agent-event", agent_event)
    session.on("/agent-complete", agent_complete)
    session.agent(
        llm={
            "vendor": "openai",
            "model": "gpt-4.1-mini",
            "llmOptions": {
                "messages": [{"role": "system", "content": "You are a weather assistant."}],
                "tools": [WEATHER_TOOL],
            },
        },
        toolHook="/tool-call",
        eventHook="/agent-event",
        actionHook="/agent-complete",
    )
    await session.send()


async def main() -> None:
    port = int(os.environ.get("PORT", "3000"))
    make_service, _ = await create_endpoint(host="127.0.0.1", port=port)
    make_service(path="/").on("session:new", new_call)
    print(f"listening on port {port}")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
