"""The guide's example applications with jambonz-python-sdk, each on a path of its own: the Python of examples.js.

What this SDK (0.4) is told of an agent comes to the handlers of its paths as hooks, each of which is replied to.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from jambonz_sdk.websocket import Session, create_endpoint

GEOCODING_URL = os.environ.get("GEOCODING_URL", "https://geocoding-api.open-meteo.com")
FORECAST_URL = os.environ.get("FORECAST_URL", "https://api.open-meteo.com")
MCP_URL = os.environ.get("MCP_URL", "https://livescoremcp.com/sse")

ENV_VARS = {
    "OPENAI_MODEL": {"type": "string", "description": "OpenAI model to use", "default": "gpt-4.1-mini"},
    "SYSTEM_PROMPT": {
        "type": "string",
        "description": "System prompt",
        "default": "You are a helpful voice AI assistant.",
    },
}
WEATHER_TOOL = {
    "name": "get_weather",
    "description": "Get the current temperature and wind speed for a location.",
    "parameters": {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": 'City name, e.g. "Portland"'},
            "scale": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["location"],
    },
}
SEARCH_TOOL = {
    "name": "web_search",
    "description": "Search the web for current information",
    "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
}

Event = dict[str, Any]


def openai(prompt: str, model: str = "gpt-4.1", **options: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": prompt}]
    return {"vendor": "openai", "model": model, "llmOptions": {"messages": messages, **options}}


async def agent(session: Session, **verb: Any) -> None:
    """Answer with an agent verb; once the agent is through, hang up."""

    async def complete(evt: Event) -> None:
        session.hangup()
        await session.reply()

    session.on("/agent-complete", complete)
    session.agent(actionHook="/agent-complete", **verb)
    await session.send()


async def talking(session: Session, prompt: str, **verb: Any) -> None:
    """The same on Deepgram, OpenAI and Cartesia."""
    ears, voice = {"vendor": "deepgram", "language": "en-US"}, {"vendor": "cartesia", "voice": "sonic-english"}
    await agent(session, llm=openai(prompt), stt=ears, tts=voice, **verb)


def update_once(session: Session, type_: str, update: dict[str, Any]) -> None:
    """Send the update at the first event of the type."""

    async def agent_event(evt: Event) -> None:
        if evt["type"] == type_ and not session.locals.get("is_updated"):
            session.locals["is_updated"] = True
            await session.update_agent(update)
        await session.reply()

    session.on("/agent-event", agent_event)


async def basic(session: Session) -> None:
    wanted = {name: variable["default"] for name, variable in ENV_VARS.items()} | session.data.get("env_vars", {})

    async def agent_event(evt: Event) -> None:
        if evt["type"] == "turn_end":
            print("turn_end", evt["transcript"], evt["response"], evt["interrupted"], evt["latency"])
        await session.reply()

    session.on("/agent-event", agent_event)
    await agent(
        session,
        llm=openai(wanted["SYSTEM_PROMPT"], wanted["OPENAI_MODEL"]),
        stt={"vendor": "deepgram", "language": "en-US"},
        tts={"vendor": "cartesia", "voice": "sonic-english"},
        turnDetection="krisp",
        earlyGeneration=True,
        bargeIn={"enable": True},
        eventHook="/agent-event",
    )


async def weather(location: str) -> str:
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{GEOCODING_URL}/v1/search", params={"name": location, "count": 1}) as response:
            place = (await response.json())["results"][0]
        where = {"latitude": place["latitude"], "longitude": place["longitude"]}
        wanted = {**where, "current": "temperature_2m,wind_speed_10m"}
        async with http.get(f"{FORECAST_URL}/v1/forecast", params=wanted) as response:
            now = (await response.json())["current"]
    return f"Temperature: {now['temperature_2m']}°C, Wind: {now['wind_speed_10m']} km/h"


async def using_tools(session: Session) -> None:
    async def tool_call(evt: Event) -> None:
        if evt["name"] == "get_weather":
            result = await weather(evt["arguments"]["location"])
        else:
            result = f"Unknown tool: {evt['name']}"
        await session.tool_output(evt["tool_call_id"], result)
        await session.reply()

    session.on("/tool-call", tool_call)
    llm = openai("You are a weather assistant.", "gpt-4.1-mini", tools=[WEATHER_TOOL])
    await agent(session, llm=llm, toolHook="/tool-call", eventHook="/agent-event")


async def using_mcp_server(session: Session) -> None:
    prompt = "You are a sports assistant. Use available tools to answer questions about live scores."
    await talking(session, prompt, mcpServers=[{"url": MCP_URL}])


async def crm_injection(session: Session) -> None:
    known = (
        "CRM context: Customer name: Sarah Mitchell. Account tier: Gold. "
        "Open support ticket: delayed delivery on the smart home hub."
    )
    update = {"type": "inject_context", "messages": [{"role": "user", "content": known}]}
    update_once(session, "turn_end", update)
    await talking(session, "You are a sales assistant.", eventHook="/agent-event")


async def persona_switch(session: Session) -> None:
    instructions = "You are now a billing support agent. Help the caller with invoice questions."
    update_once(session, "turn_end", {"type": "update_instructions", "instructions": instructions})
    await talking(session, "You are a receptionist.", eventHook="/agent-event")


async def supervisor_interrupt(session: Session) -> None:
    urgent = "URGENT: Tell the customer about the flash sale — 50% off all items for the next hour."
    update_once(session, "agent_response", {"type": "generate_reply", "interrupt": True, "user_input": urgent})
    await talking(session, "You are a sales assistant.", eventHook="/agent-event")


async def dynamic_tools(session: Session) -> None:
    async def tool_call(evt: Event) -> None:
        await session.tool_output(evt["tool_call_id"], {"results": [f"All about {evt['arguments']['query']}"]})
        await session.reply()

    session.on("/tool-call", tool_call)
    update_once(session, "turn_end", {"type": "update_tools", "tools": [SEARCH_TOOL]})
    prompt = "You are a helpful voice AI assistant."
    await talking(session, prompt, eventHook="/agent-event", toolHook="/tool-call")


EXAMPLES: dict[str, Callable[[Session], Awaitable[None]]] = {
    "/basic": basic,
    "/using-tools": using_tools,
    "/using-mcp-server": using_mcp_server,
    "/crm-injection": crm_injection,
    "/persona-switch": persona_switch,
    "/supervisor-interrupt": supervisor_interrupt,
    "/dynamic-tools": dynamic_tools,
}


async def main() -> None:
    port = int(os.environ.get("PORT", "3000"))
    make_service, _ = await create_endpoint(host="127.0.0.1", port=port, env_vars=ENV_VARS)
    for path, new_call in EXAMPLES.items():
        make_service(path=path).on("session:new", new_call)
    print(f"listening on port {port}")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
