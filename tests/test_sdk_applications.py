"""The guide's applications as they are written, with jambonz's own SDKs, in processes of their own, in real time."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest

from config.commands import Update
from config.verb import Agent
from tests.application import Held, held
from tests.node import application
from tests.open_meteo import open_meteo

TURN = {
    "type": "turn_end",
    "transcript": "How is the weather in Oslo?",
    "response": "It is cold.",
    "interrupted": False,
    "latency": {"stt_ms": 320, "llm_ms": 890, "tts_ms": 210},
}
WEATHER = "Temperature: 7.3°C, Wind: 12.1 km/h"
WITHIN = 60.0  # seconds for a whole test: it fails rather than hangs


def real_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), WITHIN))

    return run


def call(id_: str, name: str = "get_weather", **arguments: Any) -> dict[str, Any]:
    return {"tool_call_id": id_, "name": name, "arguments": arguments}


async def tell(it: Held, type_: str = "turn_end") -> None:
    await it.socket.channel("/agent-event").event({**TURN, "type": type_})


async def complete(it: Held) -> None:
    """Every one of them hangs up in the end."""
    payload = {"completion_reason": "normal conversation end"}
    assert await it.socket.channel("/agent-complete").action(payload) == [{"verb": "hangup"}]


@real_time
async def test_the_weather_tool_works_as_the_guide_has_written_it() -> None:
    async with (
        open_meteo() as weather,
        application("examples.js", {"GEOCODING_URL": weather, "FORECAST_URL": weather}) as url,
        held(f"{url}using-tools") as it,
    ):
        (verb,) = it.verbs
        agent = Agent.model_validate(verb)
        assert [tool.name for tool in agent.llm.llm_options.tools] == ["get_weather"]
        assert (agent.tool_hook and agent.tool_hook.url) == "/tool-call"
        hook = it.socket.channel("/tool-call")
        assert await hook.tool_call(call("t1", location="São Paulo")) == WEATHER
        both = [hook.tool_call(call("t2", location="Oslo")), hook.tool_call(call("t3", location="Nowhere"))]
        found, lost = await asyncio.gather(*both)
        assert found == WEATHER
        assert lost.startswith("Error: Cannot read properties of undefined")
        assert await hook.tool_call(call("t4", "get_time")) == "Unknown tool: get_time"
        await tell(it)
        await complete(it)


@real_time
async def test_the_updates_of_the_guide_arrive_as_they_are() -> None:
    async with application("examples.js", {"MCP_URL": "http://127.0.0.1:9/sse"}) as url:
        async with held(f"{url}using-mcp-server") as it:
            agent = Agent.model_validate(it.verbs[0])
            assert [server.url for server in agent.mcp_servers] == ["http://127.0.0.1:9/sse"]
            await complete(it)
        updates = [await first_update(f"{url}{name}", event) for name, event in EXAMPLES]
        async with held(f"{url}dynamic-tools") as it:
            await tell(it)
            update = await it.next()
            assert isinstance(update, Update)
            updates.append(update.data)
            result = await it.socket.channel("/tool-call").tool_call(call("t1", "web_search", query="Oslo"))
            assert result == {"results": ["All about Oslo"]}
            await complete(it)
        assert [update["type"] for update in updates] == [
            "inject_context",
            "update_instructions",
            "generate_reply",
            "update_tools",
        ]
        assert updates[1]["instructions"].startswith("You are now a billing support agent.")
        assert updates[2]["interrupt"] is True


EXAMPLES = [
    ("crm-injection", "turn_end"),
    ("persona-switch", "turn_end"),
    ("supervisor-interrupt", "agent_response"),
]


async def first_update(url: str, event: str) -> dict[str, Any]:
    async with held(url) as it:
        Agent.model_validate(it.verbs[0])
        await tell(it, event)
        update = await it.next()
        assert isinstance(update, Update)
        await complete(it)
        return update.data


@real_time
async def test_an_application_in_python_works_like_one_in_node() -> None:
    pytest.importorskip("jambonz_sdk")
    async with (
        open_meteo() as weather,
        application("examples.py", {"GEOCODING_URL": weather, "FORECAST_URL": weather}) as url,
    ):
        async with held(f"{url}using-tools") as it:
            agent = Agent.model_validate(it.verbs[0])
            assert [tool.name for tool in agent.llm.llm_options.tools] == ["get_weather"]
            hook = it.socket.channel("/tool-call")
            assert await hook.tool_call(call("t1", location="Oslo")) == WEATHER
            assert await hook.tool_call(call("t2", "get_time")) == "Unknown tool: get_time"
            await complete(it)
            await it.socket.status({"call_status": "completed"})
        updates = [await first_update(f"{url}{name}", event) for name, event in EXAMPLES]
        assert [update["type"] for update in updates] == ["inject_context", "update_instructions", "generate_reply"]
