"""Every hostile URL at every place where a call can name one: nobody connects anywhere."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import httpx2
import pytest

from agentd.call.isolation import isolate_with
from agentd.call.schema import Schema
from agentd.call.vendors import vendors
from agentd.errors import AgentdError
from agentd.outbound.addresses import Address
from agentd.outbound.channel import HookFailed
from agentd.outbound.guard import Blocked, Guard, OutgoingFailed
from agentd.outbound.mcp import McpTools
from agentd.outbound.webhook import Webhook
from config.metadata import apply_metadata
from config.server import Outgoing, Server
from config.verb import Agent
from providers.audio_feed import AudioFeed
from providers.base import Message, Prompt, ProviderError
from providers.registry import Shared
from tests import hostile, virtual_time

SCRIPTED = {"vendor": "scripted"}
FILE = Agent.parse({"stt": SCRIPTED, "llm": SCRIPTED, "tts": SCRIPTED})
KEYS = {"apiKey": "k", "region": "us-east-1", "accessKeyId": "k", "secretAccessKey": "k"}
FAILURES = (
    AgentdError,
    ProviderError,
    HookFailed,
    httpx2.HTTPError,
    httpx2.InvalidURL,
    OSError,
    LookupError,
    ValueError,
)


@dataclass(slots=True)
class World:
    """What the calls of one server share."""

    guard: Guard
    shared: Shared = field(default_factory=Shared)

    def agent(self, metadata: Mapping[str, Any]) -> Agent:
        return apply_metadata(FILE, metadata)[0]

    @contextlib.asynccontextmanager
    async def vendors(self, metadata: Mapping[str, Any]) -> Any:
        made = vendors(self.agent(metadata), Server(), self.shared, 16000, 8000, self.guard)
        made.ready()
        yield made
        await made.aclose()


Place = Callable[[World, str], Awaitable[Any]]


def websocket(url: str) -> str:
    return url.replace("http", "ws", 1).replace("HTTP", "WS", 1)


# Where a URL can come in -----------------------------------------------------------------------------------------


def hook(name: str, ask: Callable[[Webhook], Awaitable[Any]]) -> Place:
    async def place(world: World, url: str) -> None:
        agent = world.agent({name: url})
        wanted = getattr(agent, {"toolHook": "tool_hook", "eventHook": "event_hook", "actionHook": "action_hook"}[name])
        if wanted is not None:
            for method in ("POST", "GET"):
                with contextlib.suppress(HookFailed):
                    await ask(Webhook(world.guard, wanted.url, method=method))

    return place


async def mcp_server(world: World, url: str) -> None:
    for server in world.agent({"mcpServers": [{"url": url}]}).mcp_servers:
        tools = McpTools([server], world.guard)
        running = asyncio.create_task(tools.run())
        await tools.ready()
        running.cancel()
        await asyncio.wait([running])


async def tool_filler(world: World, url: str) -> None:
    filler = world.agent({"toolFiller": {"type": "audio", "url": url}}).tool_filler
    if filler is not None and filler.url is not None:
        await world.guard.fetch(filler.url)


def llm(vendor: str, spec: Callable[[str], Mapping[str, Any]]) -> Place:
    async def place(world: World, url: str) -> None:
        named = {"vendor": vendor, "model": "m", "auth": KEYS, **spec(url)}
        async with world.vendors({"llm": named}) as made:
            async for _ in made.models[0].llm.reply(Prompt((Message("user", "Hello."),))):
                pass

    return place


async def llm_fallback(world: World, url: str) -> None:
    second = {"vendor": "openai", "model": "m", "auth": KEYS, "connectOptions": {"baseURL": url}}
    async with world.vendors({"llm": {"vendor": "scripted", "fallback": [second]}}) as made:
        for choice in made.models:
            async for _ in choice.llm.reply(Prompt((Message("user", "Hello."),))):
                pass


def stt(vendor: str, spec: Callable[[str], Mapping[str, Any]]) -> Place:
    async def place(world: World, url: str) -> None:
        async with world.vendors({"stt": {"vendor": vendor, "auth": KEYS, **spec(url)}}) as made:
            feed = AudioFeed(16000)
            feed.close()
            async for _ in made.stts[0].stt.listen(feed):
                pass

    return place


async def hello() -> Any:
    yield "Hello."


def tts(vendor: str, spec: Callable[[str], Mapping[str, Any]], *, language: str = "") -> Place:
    async def place(world: World, url: str) -> None:
        named = {"vendor": vendor, "auth": {**KEYS, **spec(url)}}
        metadata = {"languageConfig": {language: {"tts": named}}} if language else {"tts": named}
        async with world.vendors(metadata) as made:
            for voice in (made.voice_for(language) if language else made.voices) or ():
                async for _ in voice.tts.speak(hello(), 8000):
                    pass

    return place


async def noise(world: World, url: str) -> None:
    wanted = world.agent({"noiseIsolation": {"mode": "krisp", "auth": {**KEYS, "apiUri": url}}}).noise_isolation
    if wanted is not None:
        isolate_with(Server(), world.shared)(wanted, 8000)


async def schema(world: World, url: str) -> None:
    Schema("t", {"type": "object", "properties": {"a": {"$ref": url}}, "$schema": url}).violation({"a": 1})


async def client(world: World, url: str) -> None:
    async with world.guard.client(url) as http:
        await http.get(url)


async def client_led_astray(world: World, url: str) -> None:
    async with world.guard.client("https://public.example/") as http:
        await http.get(url, follow_redirects=True)


async def host(world: World, url: str) -> None:
    at = url.partition("//")[2].partition("/")[0]
    name, _, port = at.rpartition(":")
    (await world.guard.connect(name, int(port))).close()


PLACES: dict[str, Place] = {
    "toolHook": hook("toolHook", lambda channel: channel.tool_call({"name": "t"})),
    "eventHook": hook("eventHook", lambda channel: channel.event({"type": "e"})),
    "actionHook": hook("actionHook", lambda channel: channel.action({"type": "a"})),
    "mcpServers": mcp_server,
    "toolFiller": tool_filler,
    "llm openai": llm("openai", lambda url: {"connectOptions": {"baseURL": url}}),
    "llm custom": llm("CUSTOM_LLM", lambda url: {"connectOptions": {"url": url}}),
    "llm anthropic": llm("anthropic", lambda url: {"connectOptions": {"baseURL": url}}),
    "llm google": llm("google", lambda url: {"connectOptions": {"baseURL": url}}),
    "llm aws": llm("aws", lambda url: {"connectOptions": {"baseURL": url}}),
    "llm auth": llm("openai", lambda url: {"auth": {**KEYS, "baseURL": url}}),
    "llm.fallback": llm_fallback,
    "stt deepgram": stt("deepgram", lambda url: {"deepgramOptions": {"deepgramSttUri": websocket(url)}}),
    "stt deepgram host": stt(
        "deepgram",
        lambda url: {"deepgramOptions": {"deepgramSttUri": url.partition("//")[2], "deepgramSttUseTls": False}},
    ),
    "stt flux": stt("deepgramflux", lambda url: {"auth": {**KEYS, "url": websocket(url)}}),
    "stt assemblyai": stt("assemblyai", lambda url: {"auth": {**KEYS, "url": websocket(url)}}),
    "stt elevenlabs": stt("elevenlabs", lambda url: {"options": {"host": websocket(url)}}),
    "stt speechmatics": stt("speechmatics", lambda url: {"speechmaticsOptions": {"host": websocket(url)}}),
    "tts cartesia": tts("cartesia", lambda url: {"url": websocket(url)}),
    "tts deepgram": tts("deepgram", lambda url: {"url": websocket(url)}),
    "tts elevenlabs": tts("elevenlabs", lambda url: {"url": websocket(url)}),
    "tts openai": tts("openai", lambda url: {"baseURL": url}),
    "tts rime": tts("rime", lambda url: {"url": websocket(url)}),
    "languageConfig": tts("rime", lambda url: {"url": websocket(url)}, language="de-DE"),
    "noiseIsolation": noise,
    "$ref": schema,
    "request": lambda world, url: world.guard.request("POST", url, content=b"{}"),
    "dial": lambda world, url: world.guard.dial(websocket(url)),
    "client": client,
    "client led astray": client_led_astray,
    "connect": host,
}
NEVER = ("noiseIsolation", "$ref")  # no address is asked there, whatever it is
THREADS = ("llm aws",)  # boto3 waits for an answer in real time


@pytest.fixture
def trap(monkeypatch: pytest.MonkeyPatch) -> Iterator[hostile.Trap]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")  # whoever obeys it connects
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", hostile.Resolver())
    trap = hostile.Trap()
    with trap.set():
        yield trap


async def visit(place: Place, rules: Outgoing, urls: list[str], trusted: tuple[str, ...] = ()) -> None:
    world = World(Guard(rules, trusted))
    for url in urls:
        with contextlib.suppress(*FAILURES):
            await place(world, url)
    await asyncio.sleep(30)  # what was begun beside comes to its end
    await world.shared.aclose()
    await world.guard.aclose()


@pytest.mark.parametrize("name", PLACES)
def test_no_hostile_url_is_asked(name: str, trap: hostile.Trap) -> None:
    rules = Outgoing(plain=True, ports=[trap.port])
    virtual_time.run(visit(PLACES[name], rules, trap.forms()))
    assert trap.connections == []


@pytest.mark.parametrize("name", [name for name in PLACES if name not in ("connect", "client led astray")])
def test_http_and_unusual_ports_are_for_the_operator_to_allow(name: str, trap: hostile.Trap) -> None:
    virtual_time.run(visit(PLACES[name], Outgoing(), [form.replace("PORT", str(trap.port)) for form in hostile.STRICT]))
    assert trap.connections == []


@pytest.mark.parametrize("name", [name for name in PLACES if name not in (*NEVER, *THREADS)])
def test_the_trap_would_notice(name: str, trap: hostile.Trap) -> None:
    """The same place with the host allowed: else the tests above would prove nothing."""
    url = f"http://127.0.0.1:{trap.port}/"
    virtual_time.run(visit(PLACES[name], Outgoing(allow=["127.0.0.1"]), [url]), leaks_ok=True)
    assert ("127.0.0.1", trap.port) in trap.connections


# What leads there by a detour --------------------------------------------------------------------------------------

DETOURS = (
    "http://127.0.0.1:PORT/",
    "http://2130706433:PORT/",
    "http://[::1]:PORT/",
    "http://[::ffff:127.0.0.1]:PORT/",
    "//127.0.0.1:PORT/",
    "http://user@127.0.0.1:PORT/",
    "http://127-0-0-1.nip.example:PORT/",
    "http://mixed.example:PORT/",
    "http://169.254.169.254/latest/meta-data/",
    "http://public.example\\@127.0.0.1:PORT/",
    "http://localhost:PORT/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:PORT/_",
    "http://127.0.0.1:PORT\t/",
)


async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, where: list[str]) -> None:
    """One answer: another redirect of this server's while the path counts down, then ``where``."""
    path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
    hops = int(path.strip("/") or 0)
    location = f"/{hops - 1}" if hops else where[0]
    writer.write(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("trusts", [True, False], ids=["trusted", "allowed"])
def test_a_redirect_leads_to_no_hostile_url(trap: hostile.Trap, trusts: bool) -> None:
    async def go() -> list[str]:
        where = [""]
        server = await asyncio.start_server(lambda r, w: redirect(r, w, where), "127.0.0.2", 0)
        port = server.sockets[0].getsockname()[1]
        url, ends = f"http://127.0.0.2:{port}/{0 if trusts else 2}", []
        rules = Outgoing(plain=True, ports=[trap.port, port], allow=[] if trusts else ["127.0.0.2/32"])
        guard = Guard(rules, [url] if trusts else [])
        del trap.connections[:]
        for form in DETOURS:
            where[0] = form.replace("PORT", str(trap.port))
            try:
                await guard.fetch(url)
            except (Blocked, OutgoingFailed) as exc:
                ends.append(type(exc).__name__)
            answer = await guard.request("GET", url)
            assert answer.status == 302
        await guard.aclose()
        server.close()
        await server.wait_closed()
        return ends

    ends = virtual_time.run(go())
    assert ends == ["Blocked"] * len(DETOURS)
    assert {where[0] for where in trap.connections} == {"127.0.0.2"}


class Rebinding:
    """A name that is public when it is looked up first, and ours whenever it is looked up again."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.asked += 1
        return [ip_address(hostile.PUBLIC if self.asked % 2 else self.address)]


@pytest.mark.parametrize("ask", ["request", "fetch", "dial", "client", "connect"])
def test_a_name_that_is_rebound_leads_nowhere_new(ask: str, trap: hostile.Trap) -> None:
    rounds = 100

    async def go() -> int:
        names = Rebinding("127.0.0.1")
        guard = Guard(Outgoing(plain=True, ports=[trap.port]), resolve=names)
        url = f"http://rebound.example:{trap.port}/"
        asks: dict[str, Callable[[], Awaitable[Any]]] = {
            "request": lambda: guard.request("GET", url),
            "fetch": lambda: guard.fetch(url),
            "dial": lambda: guard.dial(websocket(url)),
            "client": lambda: client(World(guard), url),
            "connect": lambda: guard.connect("rebound.example", trap.port),
        }
        for _ in range(rounds):
            with contextlib.suppress(Blocked, OutgoingFailed, httpx2.ConnectError):
                await asks[ask]()
        await guard.aclose()
        return names.asked

    assert virtual_time.run(go()) == rounds  # once each time
    assert trap.connections == [(hostile.PUBLIC, trap.port)] * (rounds // 2)
