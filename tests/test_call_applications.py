"""Whole calls with the guide's example applications, run unmodified on jambonz's SDKs, and with a real MCP server.
In real time: they are processes of their own.
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import wraps
from typing import Any

import pytest
import uvicorn

from config.payloads import GUIDE_EVENTS
from config.verb import Agent
from tests.control import SESSION, SID, Control
from tests.guide_examples import BASIC, ENV_VARS, EXAMPLES, MCP, PARTS, TOOLS, Example, Vendors, vendors
from tests.jambonz import Call, voice
from tests.node import application
from tests.open_meteo import open_meteo
from tests.tap import Tap
from tests.test_schemas import faults, published
from tests.vendors.rows import CHARACTER
from tests.whole_call import House, agent, runs

WITHIN = 60.0  # seconds for a whole test: it fails rather than hangs
LOCAL = {"allow": ["127.0.0.0/8"]}  # where the MCP servers are


def real_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), WITHIN))

    return run


# Calls ------------------------------------------------------------------------------------------------------


async def turn(house: House, call: Call) -> str:
    """The caller says something once the agent is quiet, and hears the whole answer; returns that."""

    def turns() -> list[dict[str, Any]]:
        return [turn for turn in house.entries("turn_end") if turn["cause"] == "caller"]

    before = len(turns())
    await call.until(lambda: [entry["state"] for entry in house.entries("state")][-1:] == ["listening"])
    call.say(voice(0.4))
    await call.until(lambda: len(turns()) > before)
    return str(turns()[-1]["response"])


async def play(example: Example, house: House, call: Call, given: Vendors) -> None:
    """The caller's part in the example, until its answer has been heard."""
    if example.update == "generate_reply":  # it comes while the greeting is spoken
        await call.until(lambda: len(house.entries("turn_end")) == 2)
        assert [turn["interrupted"] for turn in house.entries("turn_end")] == [True, False]
    else:
        if example.update:  # it comes once the greeting is spoken
            await call.until(lambda: house.entries("update"))
        await turn(house, call)
        (greeted, _) = house.entries("turn_end")
        assert greeted["response"] == (example.answer if example is BASIC else "Hello.")
    assert house.entries("turn_end")[-1]["response"] == example.answer
    assert [entry["update"] for entry in house.entries("update")] == [example.update] * bool(example.update)
    assert given.said.endswith(example.answer)
    heard = sum(run.length for run in runs(call.media.recording))
    assert heard >= round(len(example.answer) * CHARACTER * call.channel_rate)
    if example is BASIC:
        assert set(given.model.models) == {ENV_VARS["OPENAI_MODEL"]}


# The Node SDK compiles its schemas for each new call and answers nobody meanwhile: they begin one by one.
async def through_the_gateway(example: Example, url: str, begins: asyncio.Lock) -> None:
    """A call whose control socket is jambonz's: the application hears of it through us, and its agent runs here."""
    async with vendors(example) as given, Tap(url) as tap:
        server = {"apps": {"desk": tap.url}, "credentials": given.credentials, "outgoing": LOCAL}
        async with House(agent(), defaults=PARTS, **server) as at, AsyncExitStack() as stack:
            async with begins:
                jambonz = await stack.enter_async_context(Control(at.app, "desk"))
                (listen,) = await jambonz.ask("session:new", {**SESSION, "env_vars": ENV_VARS})
            async with at.call(agent=listen["url"].rpartition("/")[2]) as call:
                await play(example, at, call, given)
                call.hang_up()
            assert await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"]) == [{"verb": "hangup"}]
        assert tap.closed == [1000]
    was_told_well(example, tap)


async def alone(example: Example, url: str, begins: asyncio.Lock) -> None:
    """The same without jambonz's control socket: we dial the application."""
    async with vendors(example) as given, Tap(url) as tap:
        server = {"apps": {"desk": tap.url}, "credentials": given.credentials, "outgoing": LOCAL}
        async with House(Agent.parse({"app": "desk", **PARTS}), **server) as at, AsyncExitStack() as stack:
            async with begins:
                call = await stack.enter_async_context(at.call())
                await call.until(lambda: at.entries("state"))
            await play(example, at, call, given)
            call.hang_up()
    was_told_well(example, tap)


def was_told_well(example: Example, tap: Tap) -> None:
    """The application was told of the call, of its last turn and of its agent's end, in the shapes of the schemas."""

    def of(hook: str) -> list[dict[str, Any]]:
        return [message["data"] for message in tap.messages if message.get("hook") == hook]

    assert [(message, wrong) for message in tap.messages if (wrong := misfits(message))] == []
    assert [message["type"] for message in tap.messages].count("session:new") == 1
    if example is not MCP:  # it has no eventHook
        *_, last = [event["response"] for event in of("/agent-event") if event["type"] == "turn_end"]
        assert last == example.answer
    assert [done["completion_reason"] for done in of("/agent-complete")] == ["disconnect from remote end"]


def misfits(message: dict[str, Any]) -> list[str]:
    """What is wrong with it. Events and tool calls have the same data, whatever message brings them."""
    data = message["data"]
    match message:
        case {"type": "session:new"}:
            return faults("session-new", data)
        case {"type": "call:status"}:
            return faults("call-status", data)
        case {"hook": "/agent-event"}:
            return [] if data["type"] in GUIDE_EVENTS else faults("agent-turn", published(data))
        case {"hook": "/tool-call"}:
            return sorted(set(data) ^ {"tool_call_id", "name", "arguments"})
        case {"type": "verb:hook", "hook": "/agent-complete"}:
            return faults("base", data) + faults("llm", data)
    return ["expected none of this kind"]


@contextlib.contextmanager
def named(example: Example) -> Iterator[None]:
    """What fails in it says which example it is."""
    try:
        yield
    except Exception as exc:
        exc.add_note(f"in the example {example.path}")
        raise


@asynccontextmanager
async def scores() -> AsyncIterator[str]:
    """The URL of an MCP server in this process: one more costs as much time as all calls of a test."""
    from tests.mcp_server import application as served

    config = uvicorn.Config(served(), lifespan="off", log_config=None, timeout_graceful_shutdown=0)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]  # they are pytest's
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/sse"
        finally:
            server.should_exit = True
            await serving


@real_time
@pytest.mark.parametrize("name", ["examples.js", "examples.py"])
async def test_the_guides_examples_work_as_they_are_written_through_the_gateway_and_alone(name: str) -> None:
    begins = asyncio.Lock()

    async def one(call: Callable[[Example, str, asyncio.Lock], Coroutine[Any, Any, None]], example: Example) -> None:
        with named(example):
            await call(example, f"{url}{example.path}", begins)

    async with (
        open_meteo() as weather,
        scores() as mcp,
        application(name, {"GEOCODING_URL": weather, "FORECAST_URL": weather, "MCP_URL": mcp}) as url,
        asyncio.TaskGroup() as calls,
    ):
        for example in EXAMPLES:
            calls.create_task(one(through_the_gateway, example))
        for example in (TOOLS, MCP):
            calls.create_task(one(alone, example))


# An MCP server that dies ------------------------------------------------------------------------------------


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
    async with mcp_server() as server, vendors(MCP) as given:
        verb = {**PARTS, "greeting": False, "mcpServers": [{"url": f"http://127.0.0.1:{server.port}/sse"}]}
        house = House(Agent.parse(verb), credentials=given.credentials)
        async with house as at, at.call() as call:
            assert await turn(at, call) == "I found: 42."
            await server.kill()
            answer = await turn(at, call)
            assert answer.startswith("I found: Error: "), answer
            call.hang_up()
