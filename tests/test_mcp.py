"""MCP servers as tools: a real one in a process of its own; its faults in one loop, in virtual time."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import mcp.types as types
import pytest

from agentd.outbound import mcp_http, mcp_link, mcp_wire
from agentd.outbound.channel import HookFailed
from agentd.outbound.guard import Guard
from agentd.outbound.mcp import McpTools
from config.conversation import McpServer
from config.server import Outgoing
from providers.base import Tool
from tests import virtual_time
from tests.mcp_server import KEY, PAGED
from tests.vendors.canary import listening

ALL = ["/mcp", "/old/mcp", "/sse"]
NAMES = {"add", "echo", "weather_today", "slow", "ended", "fail", "big", "grow", "where", "die"}
BROKE = "the connection to the MCP server 127.0.0.1 broke; nobody knows whether the tool has run"


# The real server ------------------------------------------------------------------------------------------


class Running:
    """The server's process."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        """On the same port as before."""
        command = [sys.executable, "-m", "tests.mcp_server", str(self.port)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=os.getcwd()
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    running = Running()
    yield running
    running.stop()


@asynccontextmanager
async def tools_of(*servers: str | dict[str, Any], deadline: float = 5.0) -> AsyncIterator[McpTools]:
    """As a call uses them, by its own guard; nothing is left when it is over."""
    parsed = [McpServer.parse({"url": each} if isinstance(each, str) else each) for each in servers]
    guard = Guard(Outgoing(), [each.url for each in parsed])
    tools = McpTools(parsed, guard, deadline=deadline)
    running = asyncio.create_task(tools.run())
    try:
        await tools.ready()
        yield tools
    finally:
        running.cancel()
        await asyncio.wait([running])
        await guard.aclose()
    assert running.cancelled() or running.exception() is None


def run(main: Coroutine[Any, Any, None]) -> None:
    """In real time: that of the other process. Nothing may be left over."""

    async def whole() -> None:
        sockets = open_sockets()
        await main
        assert len(asyncio.all_tasks()) == 1
        await until(lambda: open_sockets() <= sockets)

    asyncio.run(whole())


def open_sockets() -> int:
    descriptors = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return sum(os.path.exists(each) and os.readlink(each).startswith("socket:") for each in descriptors)


async def until(is_so: Callable[[], bool]) -> None:
    """Another process is not to be awaited: look again."""
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110  # nobody here knows when
            await asyncio.sleep(0.01)


def names(tools: McpTools) -> set[str]:
    return {tool.name for tool in tools.tools}


async def refusal(tools: McpTools, name: str, **arguments: Any) -> str:
    with pytest.raises(HookFailed) as failed:
        await tools.call(name, arguments)
    return str(failed.value)


@pytest.mark.parametrize("path", ALL)
def test_tools_are_found_and_called_over_each_transport(server: Running, path: str) -> None:
    async def main() -> None:
        async with tools_of(server.url(path)) as tools:
            assert names(tools) >= NAMES
            add = next(tool for tool in tools.tools if tool.name == "add")
            assert add.description == "Add two numbers." and list(add.parameters["properties"]) == ["a", "b"]
            assert await tools.call("add", {"a": 1, "b": 2}) == "3"
            assert json.loads(await tools.call("weather_today", {})) == {"sky": "blue"}
            assert (await refusal(tools, "add", a="x")).startswith("Error executing tool add")
            assert await refusal(tools, "nothing") == "no MCP server has a tool 'nothing' any more"

    run(main())


@pytest.mark.parametrize("path", ALL)
def test_a_hung_call_is_answered_at_its_deadline_and_cancelled_at_the_server(server: Running, path: str) -> None:
    async def main() -> None:
        async with tools_of(server.url(path), deadline=1.0) as tools:
            late = await refusal(tools, "slow", label=f"late{path}")
            assert late == "the MCP server 127.0.0.1 did not answer within 1 seconds"
            hung = asyncio.create_task(tools.call("slow", {"label": f"hung{path}"}))
            await tools.call("echo", {"text": "the other one is under way"})
            hung.cancel()
            await asyncio.wait([hung])
            async with asyncio.timeout(10):  # that it is cancelled comes by a message of its own
                while not {f"late{path}", f"hung{path}"} <= set((await tools.call("ended", {})).split()):
                    pass

    run(main())


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
def test_10_megabytes_are_refused_and_the_next_call_works(server: Running, path: str) -> None:
    async def main() -> None:
        async with tools_of(server.url(path)) as tools:
            refused = await refusal(tools, "big", megabytes=10)
            assert refused in {
                "the MCP server 127.0.0.1 answered with more than 1048576 bytes",
                BROKE,
            }
            assert await tools.call("echo", {"text": "still there"}) == "still there"

    run(main())


@pytest.mark.parametrize("path", ALL)
def test_a_tool_that_appears_later_is_called_and_a_changed_one_is_not_believed(
    server: Running, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with tools_of(server.url(path)) as tools:
            before = next(tool for tool in tools.tools if tool.name == "echo")
            later = "later" + path.replace("/", "_")
            await tools.call("grow", {"name": later})
            await until(lambda: tools.has(later))
            assert await tools.call(later, {}) == f"{later} is here"
            assert next(tool for tool in tools.tools if tool.name == "echo") == before
        told = [record for record in caplog.records if record.message == "MCP tool changed, its first form stays"]
        assert [record.__dict__["tool"] for record in told] == ["echo"]

    run(main())


@pytest.mark.parametrize("path", ["/old/mcp", "/sse"])
@pytest.mark.parametrize("root", [{"uri": "file:///orders", "name": "Orders"}, {"url": "file:///orders"}])
def test_the_roots_are_told(server: Running, path: str, root: dict[str, str]) -> None:
    async def main() -> None:
        async with tools_of({"url": server.url(path), "roots": [root]}) as tools:
            assert await tools.call("where", {}) == f"{root.get('name')}=file:///orders"

    run(main())


def test_a_list_in_pages_is_read_to_its_end(server: Running) -> None:
    async def main() -> None:
        async with tools_of(server.url("/pages/mcp")) as tools:
            assert [tool.name for tool in tools.tools] == [f"page_{i}" for i in range(PAGED)]

    run(main())


def test_the_key_reaches_the_server_and_no_log(server: Running) -> None:
    async def main() -> None:
        locked = server.url("/locked/mcp")
        async with tools_of({"url": locked, "auth": {"apiKey": KEY}}) as tools:
            assert await tools.call("echo", {"text": "open"}) == "open"
            assert await refusal(tools, "fail") == "no such city, [redacted]"
        async with tools_of({"url": f"{locked}?key={KEY}", "auth": {"token": f"{KEY}x"}}, server.url("/mcp")) as tools:
            assert names(tools) >= NAMES  # those of the other one
        for path in ("/sse", "/mcp", "/gone", "/gone/sse"):
            async with tools_of(server.url(f"{path}?key={KEY}")) as tools:
                assert tools.has("big") != ("gone" in path)
                if tools.has("big"):
                    await refusal(tools, "big", megabytes=2)

    with listening(KEY) as telling:
        run(main())
    assert telling == []


def test_the_tools_of_a_killed_server_fail_at_once_and_work_again_when_it_is_back(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_link, "AWAY", 0.05)
    monkeypatch.setattr(mcp_link, "FIRST_PAUSE", 0.02)
    away = "the MCP server 127.0.0.1 is not reachable"

    async def main() -> None:
        async with tools_of(server.url("/mcp")) as new, tools_of(server.url("/sse")) as old:
            assert await refusal(new, "die") == BROKE
            assert [await refusal(each, "echo", text="?") for each in (new, old)] == [away, away]
            assert names(new) >= NAMES and names(old) >= NAMES
            server.stop()
            server.start()
            monkeypatch.setattr(mcp_link, "AWAY", 5.0)
            assert [await each.call("echo", {"text": "back"}) for each in (new, old)] == ["back", "back"]

    run(main())


# Faults, in one loop and in virtual time ------------------------------------------------------------------


BROKEN = object()  # as an answer: the connection is


class Events(bytes):
    """A body of server-sent events."""


class Stub:
    """A server of the oldest sort: JSON-RPC over single POSTs. ``answers`` says what comes for which method: a result,
    a body, a status, or nothing ever (``None``).
    """

    def __init__(self, *tools: Any, **answers: Any) -> None:
        self.asked: list[str] = []
        self.times: list[float] = []
        self.session = "1"
        self.hangs_up = False  # after every answer
        self.answers: dict[str, Any] = {"tools/list": {"tools": list(tools)}, "tools/call": called("done"), **answers}

    @asynccontextmanager
    async def listen(self, port: int = 0) -> AsyncIterator[str]:
        listener = await asyncio.start_server(self._serve, "127.0.0.1", port)
        try:
            yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/mcp"
        finally:
            listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.times.append(asyncio.get_running_loop().time())
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode().lower():
                fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                method = head.split(" ")[0].upper()
                message = json.loads(body) if method == "POST" else {"method": method}
                self.asked.append(message["method"])
                answer = self._find(message["method"])
                if answer is None:
                    await reader.read()  # until they hang up
                if answer is None or answer is BROKEN:
                    break
                await self._write(writer, answer, message.get("id"), fields.get("mcp-session-id"))
                if self.hangs_up:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _write(self, writer: asyncio.StreamWriter, answer: Any, id_: Any, session: str | None) -> None:
        if session not in (None, self.session):
            answer = 404
        status, body = (answer, b"") if isinstance(answer, int) else (200, answer)
        if isinstance(body, dict):
            body = json.dumps({"jsonrpc": "2.0", "id": id_, **body}).encode()
        kind = "text/event-stream" if isinstance(body, Events) else "application/json"
        writer.write(
            f"HTTP/1.1 {status} Told\r\nContent-Type: {kind}\r\nMcp-Session-Id: {self.session}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await writer.drain()

    def _find(self, method: str) -> Any:
        answer = self.answers[method] if method in self.answers else STANDARD.get(method, 202)
        if callable(answer):
            answer = answer()
        if isinstance(answer, dict) and "error" not in answer:
            return {"result": answer}
        return answer


STANDARD: dict[str, Any] = {
    "GET": 405,
    "DELETE": 200,
    "server/discover": {"error": {"code": -32601, "message": "no such method"}},
    "initialize": {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "stub", "version": "1"},
    },
}


def called(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}]}


def tool(name: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object", **schema}}


def now() -> float:
    return asyncio.get_running_loop().time()


@contextmanager
def warnings_of(caplog: pytest.LogCaptureFixture) -> Iterator[list[tuple[str, Any]]]:
    found: list[tuple[str, Any]] = []
    caplog.clear()
    yield found
    found += [
        (record.message, record.__dict__.get("reason") or record.__dict__.get("tools"))
        for record in caplog.records
        if record.levelno >= logging.WARNING
    ]


def test_an_absent_server_and_a_hung_one_cost_their_tools_and_3_seconds(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        good, hung = Stub(tool("look")), Stub(**{"server/discover": None})
        absent = "http://127.0.0.1:9/mcp"
        async with good.listen() as url, hung.listen() as silent, tools_of(silent, absent, url) as tools:
            assert now() == 3.0
            assert names(tools) == {"look"}
            assert await tools.call("look", {}) == "done"
            await tools.ready()
            assert now() == 3.0

    with warnings_of(caplog) as told:
        virtual_time.run(main())
    assert told == [
        ("MCP server not reached", "ConnectError"),
        ("MCP servers late, the call goes on without their tools", None),
    ]


def test_a_server_that_is_late_has_its_tools_later() -> None:
    async def main() -> None:
        stub = Stub(tool("look"))
        ready = asyncio.Event()
        slow = stub.listen()
        async with slow as url:
            find, stub._find = stub._find, lambda method: find(method) if ready.is_set() else 503  # type: ignore[method-assign]
            async with tools_of(url) as tools:
                assert (names(tools), now()) == (set(), 0.0)
                ready.set()
                await asyncio.sleep(0.6)
                assert names(tools) == {"look"}

    virtual_time.run(main())


def test_what_is_no_tool_is_left_out_and_the_rest_is_offered(caplog: pytest.LogCaptureFixture) -> None:
    listed = [
        tool("good"),
        "not even an object",
        {"name": "without a schema"},
        {"name": "other", "inputSchema": {"type": "string"}},
        tool("wrong", properties={"a": {"type": "no such type"}}),
        tool("huge", description="x" * 20_000),
        {**tool("rich"), "icons": 5, "outputSchema": {"type": 7}, "annotations": "none"},
    ]

    async def main() -> None:
        async with Stub(*listed).listen() as url, tools_of(url) as tools:
            assert [tool.name for tool in tools.tools] == ["good", "rich"]

    with warnings_of(caplog) as told:
        virtual_time.run(main())
    assert told == [
        ("MCP tools left out", 3),
        ("MCP tool left out", "its schema is no JSON Schema"),
        ("MCP tool left out", "expected at most 16384 characters, got 20037"),
    ]


@pytest.mark.parametrize(
    "listed",
    [
        lambda: {"tools": [tool(f"t{i}") for i in range(10_000)]},
        lambda: {"tools": [tool(f"t{i}") for i in range(30)], "nextCursor": "again"},
    ],
    ids=["ten thousand", "without an end"],
)
def test_a_list_too_long_is_cut(listed: Callable[[], Any]) -> None:
    async def main() -> None:
        stub = Stub(**{"tools/list": listed})
        async with stub.listen() as url, tools_of(url) as tools:
            assert len(tools.tools) in (30, 512)
            assert stub.asked.count("tools/list") <= 20

    virtual_time.run(main())


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"jsonrpc": "2.0"}', b"[" * 100_000, b'{"a": "' + b"x" * (10 << 20) + b'"}', b"\xff"]
)
def test_garbage_costs_the_tools_of_who_speaks_it(body: bytes) -> None:
    async def main() -> None:
        good, bad = Stub(tool("look")), Stub(**{"server/discover": body, "initialize": body, "GET": body})
        async with good.listen() as url, bad.listen() as garbage, tools_of(garbage, url) as tools:
            assert (names(tools), now()) == ({"look"}, 0.0)

    virtual_time.run(main())


def test_the_first_server_of_a_name_wins_and_names_are_those_that_models_take() -> None:
    async def main() -> None:
        first = Stub(tool("look"), tool("a.b"), tool("a b"), tool("a_b"), tool("x" * 90))
        second = Stub(tool("look"), tool("listen"), **{"tools/call": called("second")})
        async with first.listen() as one, second.listen() as two, tools_of(one, two) as tools:
            assert [each.name for each in tools.tools] == [
                "look",
                "a_b",
                "a_b_c8687a",
                "a_b_648fa9",
                "x" * 64,
                "listen",
            ]
            assert await tools.call("look", {}) == "done"
            assert await tools.call("listen", {}) == "second"
            assert tools.has("a_b") and not tools.has("a.b")

    virtual_time.run(main())


def test_a_request_that_was_sent_is_not_repeated() -> None:
    async def main() -> None:
        stub = Stub(tool("pay"), **{"tools/call": 500})
        async with stub.listen() as url, tools_of(url) as tools:
            assert await refusal(tools, "pay") == "the MCP server 127.0.0.1 answered: Server returned an error response"
            stub.answers["tools/call"] = BROKEN
            assert await refusal(tools, "pay") == BROKE
            assert stub.asked.count("tools/call") == 2

    virtual_time.run(main())


def test_a_request_that_found_no_connection_is_sent_once_the_server_is_back() -> None:
    async def main() -> None:
        stub = Stub(tool("look"))
        stub.hangs_up = True
        async with AsyncExitStack() as stack:
            async with stub.listen() as url:
                tools = await stack.enter_async_context(tools_of(url))
            call = asyncio.create_task(tools.call("look", {}))
            await asyncio.sleep(0.7)
            async with stub.listen(int(url.split(":")[2].removesuffix("/mcp"))):
                assert await call == "done"
                assert (stub.asked.count("tools/call"), now()) == (1, 1.0)

    virtual_time.run(main())


def test_a_call_does_not_wait_long_for_a_server_that_is_away() -> None:
    async def main() -> None:
        stub = Stub(tool("look"))
        stub.hangs_up = True
        async with AsyncExitStack() as stack:
            async with stub.listen() as url:
                tools = await stack.enter_async_context(tools_of(url))
            for until in (2.0, 4.0):
                assert await refusal(tools, "look") == "the MCP server 127.0.0.1 is not reachable"
                assert now() == until
            assert names(tools) == {"look"}

    virtual_time.run(main())


def test_a_server_that_has_forgotten_the_session_is_asked_again_in_a_new_one() -> None:
    async def main() -> None:
        stub = Stub(tool("look"))
        async with stub.listen() as url, tools_of(url) as tools:
            stub.session = "2"
            assert await tools.call("look", {}) == "done"
            assert (stub.asked.count("initialize"), stub.asked.count("tools/call"), now()) == (2, 2, 0.5)

    virtual_time.run(main())


def test_a_server_that_stays_away_is_asked_after_longer_and_longer_pauses() -> None:
    async def main() -> list[float]:
        stub = Stub(**{"server/discover": 503, "initialize": 503})
        async with stub.listen() as url, tools_of(url):
            stub.times.clear()
            starts: list[float] = []

            def discover() -> int:
                starts.append(now())
                return 503

            stub.answers["server/discover"] = discover
            await asyncio.sleep(40)
            return starts

    assert virtual_time.run(main()) == [0.5, 1.5, 3.5, 7.5, 15.5, 25.5, 35.5]


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_refuses_the_key_is_not_asked_again(status: int, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        stub = Stub(**{"server/discover": status, "initialize": status})
        async with stub.listen() as url, tools_of(url):
            await asyncio.sleep(60)
            assert len(stub.asked) == 2

    with warnings_of(caplog) as told:
        virtual_time.run(main())
    assert told == [("MCP server not used", f"HTTP {status}")]


def test_an_address_that_the_guard_blocks_is_never_asked(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        stub = Stub(tool("look"))
        async with stub.listen() as url:
            tools = McpTools([McpServer(url=url)], Guard(Outgoing()))
            await tools.run()  # it is over at once
            await tools.ready()
            assert (tools.tools, stub.times) == ((), [])

    with warnings_of(caplog) as told:
        virtual_time.run(main())
    assert [event for event, _ in told] == ["MCP server not used"]


@pytest.mark.parametrize(
    "wrong", [{"auth": {"apiKey": "schlüssel-42"}}, {"roots": [{"uri": "https://example.com/"}]}], ids=["auth", "roots"]
)
def test_what_cannot_be_told_to_a_server_costs_its_tools(
    wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with tools_of({"url": "http://127.0.0.1:9/", **wrong}) as tools:
            assert tools.tools == ()

    with warnings_of(caplog) as told:
        virtual_time.run(main())
    assert len(told) == 1 and told[0][0] == "MCP server not used" and "schl" not in str(told)


def test_the_end_of_a_call_waits_a_second_for_a_server_that_hangs_and_not_longer() -> None:
    async def main() -> None:
        stub = Stub(tool("look"), **{"DELETE": None, "tools/call": None})
        async with stub.listen() as url:
            async with tools_of(url, deadline=30) as tools:
                hung = asyncio.create_task(tools.call("look", {}))
                await asyncio.sleep(1)
                hung.cancel()
            assert now() == 1 + mcp_http.PARTING

    virtual_time.run(main())


def test_a_server_cannot_make_us_ask_it_without_end() -> None:
    async def main() -> None:
        stub = Stub(tool("look"), GET=Events(b"id: 1\nretry: 0\ndata:\n\n"))
        async with stub.listen() as url, tools_of(url):
            await asyncio.sleep(10)
            assert 2 <= stub.asked.count("GET") <= 11

    virtual_time.run(main())


def test_a_flood_of_events_is_read_slowly() -> None:
    async def main() -> None:
        message = {
            "jsonrpc": "2.0",
            "method": "notifications/tools/list_changed",
            "params": {"_meta": {"a": "b" * 2000}},
        }
        flood = b"data: %b\n\n" % json.dumps(message).encode() * 1000  # 2 MB
        stub = Stub(tool("look"), GET=Events(flood))
        async with stub.listen() as url, tools_of(url):
            await asyncio.sleep(10)
            assert stub.asked.count("tools/list") <= 12
            assert stub.asked.count("GET") == 1  # not read to its end yet

    virtual_time.run(main())


# Decisions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        ({}, {}),
        ({"apiKey": "k"}, {"Authorization": "Bearer k"}),
        ({"token": "t"}, {"Authorization": "Bearer t"}),
        ({"username": "u", "password": "p"}, {"Authorization": "Basic dTpw"}),
        ({"headers": {"X-Key": "k"}}, {"X-Key": "k"}),
        ({"headers": {"X-Key": "k"}, "apiKey": "a"}, {"X-Key": "k", "Authorization": "Bearer a"}),
    ],
)
def test_auth_is_a_header(auth: dict[str, Any], headers: dict[str, str]) -> None:
    assert mcp_wire.headers(auth) == headers


@pytest.mark.parametrize(
    ("url", "first"),
    [
        ("https://livescoremcp.com/sse", "sse"),
        ("https://livescoremcp.com/sse/?key=1", "sse"),
        ("https://mcp.tavily.com/mcp/?from=/sse", "http"),
        ("https://example.com/house", "http"),
    ],
)
def test_an_address_that_ends_in_sse_is_tried_by_sse_first(url: str, first: str) -> None:
    assert mcp_wire.kinds(url)[0] == first


TEXT = types.TextContent(type="text", text="red")
IMAGE = types.ImageContent(type="image", data="", mime_type="image/png")
FILE = types.EmbeddedResource(
    type="resource", resource=types.TextResourceContents.model_validate({"uri": "file:///a", "text": "blue"})
)


@pytest.mark.parametrize(
    ("content", "structured", "read"),
    [
        ([TEXT, FILE], {"colour": "red"}, "red\nblue"),
        ([TEXT, IMAGE], None, "red\n[image]"),
        ([IMAGE], None, "[image]"),
        ([], {"colour": "red"}, {"colour": "red"}),
        ([IMAGE], [1], [1]),
        ([], None, ""),
    ],
)
def test_a_result_is_its_text_or_its_structure(content: list[Any], structured: Any, read: Any) -> None:
    assert mcp_wire.text_of(types.CallToolResult(content=content, structured_content=structured)) == read


def test_tools_are_what_the_model_is_offered() -> None:
    async def main() -> tuple[Tool, ...]:
        async with Stub({**tool("look"), "description": "Look."}).listen() as url, tools_of(url) as tools:
            return tools.tools

    assert virtual_time.run(main()) == (Tool("look", "Look.", {"type": "object"}),)
