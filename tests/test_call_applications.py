"""Whole calls with the guide's applications as they are written, with jambonz's SDKs, and with a real MCP server.
In real time: they are processes of their own.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

import pytest

from benchmarks.added_latency import row
from providers.base import ToolCall
from tests.control import SID, Control
from tests.jambonz import Call, voice
from tests.node import application
from tests.open_meteo import open_meteo
from tests.vendors.http import Request
from tests.vendors.openai_llm import OpenAiServer
from tests.vendors.rows import Answer
from tests.vendors.script import Script
from tests.whole_call import House, agent

WEATHER = "I found: Temperature: 7.3°C, Wind: 12.1 km/h."
WITHIN = 60.0  # seconds for a whole test: it fails rather than hangs
BRISK = {"character": 0.01}  # seconds of sound for each character: nobody listens


def real_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), WITHIN))

    return run


class Model(OpenAiServer):
    """Greets; asks a tool for whatever the caller says, when it is offered; then reads the result out."""

    def __init__(self, tool: str, **arguments: Any) -> None:
        super().__init__()
        self._tool = tool
        self._arguments = json.dumps(arguments)
        self.offered: list[list[str]] = []  # names of tools, prompt by prompt
        self.prompts: list[Any] = []
        self.others: dict[str, Any] = {}  # credentials of other vendors

    def pieces(self, request: Request) -> list[bytes]:
        body = request.json()
        last = body["messages"][-1]
        names = [tool["function"]["name"] for tool in body.get("tools", ())]
        self.offered.append(names)
        self.prompts.append(body)
        if last["role"] == "tool":
            self.answer = Answer((f"I found: {last['content']}.",))
        elif last["role"] == "user" and self._tool in names:
            self.answer = Answer((), (ToolCall(f"call_{len(self.offered)}", self._tool, self._arguments),))
        else:
            self.answer = Answer(("Hello.",))
        return super().pieces(request)

    @property
    def account(self) -> dict[str, Any]:
        return {"openai": {"apiKey": "sk-test", "baseURL": f"{self.url}/v1"}, **self.others}


async def turn(house: House, call: Call) -> dict[str, Any]:
    """The caller says something once the agent is quiet, and hears the whole answer."""

    def turns() -> list[dict[str, Any]]:
        return [turn for turn in house.entries("turn_end") if turn["cause"] == "caller"]

    before = len(turns())
    await call.until(lambda: [entry["state"] for entry in house.entries("state")][-1:] == ["listening"])
    call.say(voice(0.4))
    await call.until(lambda: len(turns()) > before)
    return turns()[-1]


@real_time
@pytest.mark.parametrize("name", ["weather.js", "weather.py"])
async def test_the_guides_weather_tool_works_as_it_is_written_with_jambonz_in_front_and_without(name: str) -> None:
    async with (
        open_meteo() as weather,
        application(name, {"GEOCODING_URL": weather, "FORECAST_URL": weather}) as url,
    ):
        await asyncio.gather(weather_alone(url), weather_through_the_gateway(url))


async def weather_alone(url: str) -> None:
    async with (
        Model("get_weather", location="Oslo") as model,
        House(
            agent(["How is the weather in Oslo?"], tts=BRISK, app="desk"), apps={"desk": url}, credentials=model.account
        ) as at,
        at.call() as call,
    ):
        told = await turn(at, call)
        call.hang_up()
    assert told["response"] == WEATHER
    assert [tool["name"] for tool in told["tool_calls"]] == ["get_weather"]


async def weather_through_the_gateway(url: str) -> None:
    async with (
        Model("get_weather", location="Oslo") as model,
        through_the_gateway(url, model, ["How is the weather in Oslo?"]) as (at, call),
    ):
        assert (await turn(at, call))["response"] == WEATHER


class McpServer:
    """tests/mcp_server.py in a process."""

    def __init__(self) -> None:
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "tests/mcp_server.py",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        self.port = int(await self._process.stdout.readline())

    async def kill(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def mcp_server() -> AsyncIterator[McpServer]:
    server = McpServer()
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


@real_time
async def test_an_mcp_server_that_is_killed_costs_its_tools_and_the_next_turn_is_answered() -> None:
    model = Model("add", a=2, b=40)
    async with (
        mcp_server() as server,
        model,
        House(mcp_agent(f"http://127.0.0.1:{server.port}/sse"), credentials=model.account) as at,
        at.call() as call,
    ):
        assert (await turn(at, call))["response"] == "I found: 42."
        await server.kill()
        answer = (await turn(at, call))["response"]
        assert answer.startswith("I found: Error: "), answer
        call.hang_up()


def mcp_agent(url: str, **verb: Any) -> Any:
    made = agent(["one", "two", "three"], tts=BRISK, greeting=False, mcpServers=[{"url": url}], **verb).given()
    made["llm"] = {"vendor": "openai", "model": "gpt-4.1"}
    return type(agent()).parse(made)


# Through the gateway --------------------------------------------------------------------------------------


@asynccontextmanager
async def through_the_gateway(url: str, model: Model, finals: list[str]) -> AsyncIterator[tuple[House, Call]]:
    """A call whose control socket is jambonz's: the application hears of it through us, and its agent runs here."""
    made = agent(finals, tts=BRISK).given()
    defaults = {"stt": made["stt"], "tts": made["tts"], "llm": {"vendor": "openai"}}
    servers = {"apps": {"desk": url}, "credentials": model.account, "outgoing": {"allow": ["127.0.0.0/8"]}}
    async with House(agent(), defaults=defaults, **servers) as at, Control(at.app, "desk") as jambonz:
        (listen,) = await jambonz.ask("session:new")
        async with at.call(agent=listen["url"].rpartition("/")[2]) as call:
            yield at, call
            call.hang_up()
        assert await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"]) == [{"verb": "hangup"}]


# The guide's examples of updates: what the application does at the first event, and what the model is told then.
UPDATES: list[tuple[str, str]] = [
    ("crm-injection", "CRM context: Customer name: Sarah Mitchell."),
    ("persona-switch", "You are now a billing support agent."),
    ("supervisor-interrupt", "URGENT: Tell the customer about the flash sale"),
    ("dynamic-tools", "web_search"),
]


@real_time
async def test_the_guides_mcp_example_and_its_updates_work_as_they_are_written() -> None:
    async with (
        mcp_server() as server,
        application("updates.js", {"MCP_URL": f"http://127.0.0.1:{server.port}/sse"}) as url,
    ):
        calls = [
            mcp_alone(f"{url}using-mcp-server"),
            mcp_through_the_gateway(f"{url}using-mcp-server"),
            *(told_of(f"{url}{name}", words) for name, words in UPDATES),
        ]
        two = asyncio.Semaphore(2)  # the Node SDK takes more than a second for each, and answers nobody meanwhile

        async def in_turn(call: Coroutine[Any, Any, None]) -> None:
            async with two:
                await call

        await asyncio.gather(*map(in_turn, calls))


@asynccontextmanager
async def vendors(model: Model) -> AsyncIterator[None]:
    """The recogniser and the voice that the examples name; the model gets their accounts as well as its own."""
    async with (
        model,
        row("stt", "deepgram").server(Script()) as ears,
        row("tts", "cartesia").server(Script()) as mouth,
    ):
        ears.hears, ears.pause = ["hello there"] * 20, 1.0
        model.others = {
            "deepgram": dict(row("stt", "deepgram").spec(ears.url).credentials),
            "cartesia": dict(row("tts", "cartesia").spec(mouth.url).credentials),
        }
        yield


async def mcp_alone(url: str) -> None:
    model = Model("add", a=2, b=40)
    async with vendors(model):
        here = {"allow": ["127.0.0.0/8"]}  # its MCP server is on this machine
        house = House(agent(app="desk"), apps={"desk": url}, credentials=model.account, outgoing=here)
        async with house as at, at.call() as call:
            assert (await turn(at, call))["response"] == "I found: 42."
            call.hang_up()
    assert model.offered[-1].count("add") == 1


async def mcp_through_the_gateway(url: str) -> None:
    model = Model("add", a=2, b=40)
    async with vendors(model), through_the_gateway(url, model, []) as (at, call):
        assert (await turn(at, call))["response"] == "I found: 42."


async def told_of(url: str, words: str) -> None:
    model = Model("no such tool")
    async with vendors(model), through_the_gateway(url, model, []) as (at, call):
        async with asyncio.timeout(WITHIN):
            while words not in json.dumps(model.prompts):
                await turn(at, call)
