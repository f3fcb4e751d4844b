"""What agentd adds to a tool: from the last byte of the model's tool call to the prompt that brings the result back,
less the time that the tool itself took. A real server process; the model and the tools are in a process of their own.

    python -m benchmarks.tool_round_trip [--calls 10]

Three ways to a tool: a toolHook by webhook (signed), an application socket, an MCP server (Streamable HTTP). The tool
takes 20 ms. The model is asked by text, so that no speech is in the way: each turn is one `generate_reply`.

    trip       what `turn_end` calls rtt_ms, less the tool's own time
    whole      what lies around that, too: the model's tool call has left → the tool has the request (to tool), and the
               tool's answer has left → the model has the next prompt (back)
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import httpx2
import uvicorn
import uvloop
from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from uvicorn.protocols.http.h11_impl import H11Protocol
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from agentd.jambonz.listen import Node
from agentd.server import Server
from benchmarks.added_latency import quantile
from config.files import Config
from config.server import Server as ServerConfig
from config.verb import Agent
from providers.base import ToolCall
from tests.vendors.http import Request
from tests.vendors.openai_llm import OpenAiServer
from tests.vendors.rows import Answer

TOOL_S = 0.02  # what the tool takes
REST_S = 0.05  # between two turns
TURNS = 20  # of a call: its history is sent with every prompt
WAYS = ("webhook", "socket", "mcp")
TOOL = {"name": "look_up", "parameters": {"type": "object", "properties": {"order": {"type": "string"}}}}

Times = Sequence[tuple[str, float]]


class Trip(NamedTuple):
    """Seconds."""

    tool: float  # what the tool itself took, reading and writing included
    to_tool: float
    back: float

    @property
    def whole(self) -> float:
        return self.to_tool + self.back


# The model and the tools ------------------------------------------------------------------------------------


class Model(OpenAiServer):
    """Asks for the tool, and then says what came of it. The calls have ids of their own."""

    calls = 0

    def pieces(self, request: Request) -> list[bytes]:
        if request.json()["messages"][-1]["role"] == "tool":
            self.answer = Answer(("Done.",))
        else:
            self.calls += 1
            self.answer = Answer((), (ToolCall(f"call_{self.calls}", "look_up", '{"order": "17"}'),))
        return super().pieces(request)


class Tools:
    """The tool by each way. On the clock of all processes it notes when the bytes of a request have come and when each
    write of the answer was done: what a server needs to read and to write is its own.
    """

    def __init__(self) -> None:
        self.times: list[tuple[str, float]] = []
        self.arrived = 0.0

    async def work(self) -> str:
        self.times.append(("asked", self.arrived))
        await asyncio.sleep(TOOL_S)
        return "on its way"

    def left(self) -> None:
        self.times.append(("said", time.monotonic()))

    async def hook(self, request: HttpRequest) -> JSONResponse:
        await request.body()
        return JSONResponse({"result": await self.work()})

    async def application(self, socket: ServerConnection) -> None:
        async for text in socket:
            message = json.loads(text)
            match message["type"]:
                case "session:new":
                    await socket.send(json.dumps({"type": "ack", "msgid": message["msgid"], "data": []}))
                case "agent:tool-call":
                    asked, output = message["data"]["tool_call_id"], {"result": await self.work()}
                    answer = {"type": "command", "command": "llm:tool-output", "tool_call_id": asked, "data": output}
                    self.left()
                    await socket.send(json.dumps(answer))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Mapping[str, str]]:
        """The addresses of both servers."""
        mcp = MCPServer("benchmark", log_level="ERROR")

        @mcp.tool()
        async def look_up(order: str) -> str:
            """Look up an order."""
            return await self.work()

        routes = [Route("/tool", self.hook, methods=["POST"]), Mount("/", mcp.streamable_http_app())]
        app = Starlette(routes=routes, lifespan=lambda app: mcp.session_manager.run())
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, http=noting_http(self)))
        with closing(socket.create_server(("127.0.0.1", 0))) as listening:
            task = asyncio.create_task(server.serve([listening]))
            how: dict[str, Any] = {"compression": None, "create_connection": noting_socket(self)}
            async with serve(
                self.application, "127.0.0.1", 0, subprotocols=[Subprotocol("ws.jambonz.org")], **how
            ) as ws:
                port = next(iter(ws.sockets)).getsockname()[1]
                yield {"http": f"http://127.0.0.1:{listening.getsockname()[1]}", "ws": f"ws://127.0.0.1:{port}/"}
            server.should_exit = True
            await task


def noting_http(tools: Tools) -> type[H11Protocol]:
    class Noting(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            write = self.transport.write

            def noted(data: bytes) -> None:
                write(data)
                tools.left()

            self.transport = Written(self.transport, noted)  # type: ignore[assignment]

        def data_received(self, data: bytes) -> None:
            tools.arrived = time.monotonic()
            super().data_received(data)

    return Noting


class Written:
    """A transport with another ``write``."""

    def __init__(self, transport: Any, write: Any) -> None:
        self._transport = transport
        self.write = write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def noting_socket(tools: Tools) -> type[ServerConnection]:
    class Noting(ServerConnection):
        def data_received(self, data: bytes) -> None:
            tools.arrived = time.monotonic()
            super().data_received(data)

    return Noting


def serve_tools(pipe: Connection) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            model, tools = await stack.enter_async_context(Model()), Tools()
            pipe.send((model.url, dict(await stack.enter_async_context(tools.serving()))))
            while await loop.run_in_executor(None, pipe.recv) is not None:
                pipe.send((list(model.seen.times), list(tools.times)))
                model.seen.times.clear()
                tools.times.clear()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


# The server -------------------------------------------------------------------------------------------------


def configuration(way: str, model: str, urls: Mapping[str, str]) -> Config:
    ways: Mapping[str, Mapping[str, Any]] = {
        "webhook": {"toolHook": f"{urls['http']}/tool"},
        "socket": {"toolHook": "/tool", "app": "application"},
        "mcp": {"mcpServers": [{"url": f"{urls['http']}/mcp"}]},
    }
    options = {} if way == "mcp" else {"tools": [TOOL]}
    agent = Agent.parse(
        {
            **ways[way],
            "stt": {"vendor": "scripted"},
            "llm": {
                "vendor": "openai",
                "model": "gpt-4.1-mini",
                "auth": {"apiKey": "sk-benchmark"},
                "connectOptions": {"baseURL": f"{model}/v1"},
                "llmOptions": options,
            },
            "tts": {"vendor": "scripted"},
            "greeting": False,
            "speak": False,
            "noResponseTimeout": 0,
        }
    )
    server = {
        "speech_cache": False,
        "apps": {"application": urls["ws"]},
        "hooks": {"secret": "whsec"},
    }
    return Config(ServerConfig.model_validate(server), {"demo": agent})


def serve_agentd(pipe: Connection, way: str, model: str, urls: Mapping[str, str]) -> None:
    async def main() -> None:
        node = Node(configuration(way, model, urls), detector_for=lambda rate: lambda frame: False)
        server = Server(node, "127.0.0.1", 0)
        serving = asyncio.create_task(server.serve())
        await server.up()
        pipe.send(server.port)
        await serving

    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


# Measuring --------------------------------------------------------------------------------------------------


async def talk(port: int, calls: int) -> list[float]:
    """Silent calls, one after the other, each of which is told to reply :data:`TURNS` times by REST. Returns the round
    trips of the tool as agentd tells them, in seconds.
    """
    trips: list[float] = []
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        for number in range(calls):
            trips += await one_call(client, f"ws://127.0.0.1:{port}/listen/demo", f"bench-{number}")
    return trips


async def one_call(client: httpx2.AsyncClient, url: str, call_sid: str) -> list[float]:
    update = {"agent_update": {"type": "generate_reply", "user_input": "Where is my order?"}}
    async with connect(url, compression=None) as socket:
        first = {"sampleRate": 8000, "mixType": "mono", "callSid": call_sid, "accountSid": "benchmark"}
        await socket.send(json.dumps(first))
        await asyncio.sleep(1.0)  # MCP servers are asked for their tools, the application is told of the call
        for _ in range(TURNS):
            (await client.put(f"/v1/Accounts/benchmark/Calls/{call_sid}", json=update)).raise_for_status()
            await asyncio.sleep(TOOL_S + REST_S)
        events = asyncio.create_task(client.get(f"/v1/calls/{call_sid}/events?types=tool_result"))
        await asyncio.sleep(REST_S)
    told = (line.removeprefix("data: ") for line in (await events).text.splitlines() if line.startswith("data: {"))
    return [result["rtt_ms"] / 1000 for result in map(json.loads, told) if result.get("type") == "tool_result"]


def trips(model: Times, tools: Times) -> list[Trip]:
    found = []
    starts = [at for what, at in tools if what == "asked"]
    for asked, until in zip(starts, [*starts[1:], float("inf")], strict=True):
        called = max((at for what, at in model if what == "said" and at <= asked), default=None)
        prompted = min((at for what, at in model if what == "asked" and at >= asked + TOOL_S / 2), default=None)
        if called is None or prompted is None or prompted > until:
            continue
        said = max((at for what, at in tools if what == "said" and asked + TOOL_S / 2 <= at <= prompted), default=None)
        if said is not None:
            found.append(Trip(said - asked, asked - called, prompted - said))
    return found


def shown(values: Sequence[float]) -> str:
    return f"p50 {quantile(values, 0.5):5.2f} p99 {quantile(values, 0.99):5.2f}" if values else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    tools = context.Process(target=serve_tools, args=(theirs,), daemon=True)
    tools.start()
    try:
        model, urls = pipe.recv()
        for way in WAYS:
            ours, child = context.Pipe()
            server = context.Process(target=serve_agentd, args=(child, way, model, urls), daemon=True)
            server.start()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                told = runner.run(talk(ours.recv(), args.calls))
            server.terminate()
            server.join()
            pipe.send("next")
            found = trips(*pipe.recv())
            own = [rtt - trip.tool for rtt, trip in zip(told, found, strict=True)] if len(told) == len(found) else []
            parts = (quantile([getattr(trip, name) for trip in found], 0.5) for name in ("to_tool", "back"))
            print(
                f"{way:<8} {len(found):4} times, added ms: trip {shown(own)}  whole {shown([t.whole for t in found])}"
                "  (to tool {:.2f}, back {:.2f})".format(*parts),
                flush=True,
            )
        pipe.send(None)
    finally:
        tools.terminate()


if __name__ == "__main__":
    main()
