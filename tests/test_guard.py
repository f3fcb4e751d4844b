"""What the guard lets through, and how it fails. What it never lets through is in test_hostile_urls.py."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus

from agentd.call.vendors import vendors
from agentd.outbound import guard as guarding
from agentd.outbound.addresses import Address, Policy, Refused, place_of
from agentd.outbound.guard import (
    Blocked,
    Guard,
    NoAnswer,
    NotConnected,
    OutgoingFailed,
    TooLarge,
    TooSlow,
)
from agentd.outbound.guard_vendors import lookup_for
from config.metadata import apply_metadata
from config.server import Outgoing, Server
from config.verb import Agent
from providers import pools
from providers.base import ProviderError
from providers.registry import Shared
from tests import virtual_time
from tests.hostile import PUBLIC, PUBLIC_6
from tests.vendors.tls import server_side


def names(**found: str | Sequence[str]) -> Callable[[str, int], Any]:
    """A name service of these names: ``app=…`` is app.example."""
    table = {f"{name}.example": [each] if isinstance(each, str) else list(each) for name, each in found.items()}

    async def resolve(host: str, port: int) -> list[Address]:
        if host not in table:
            raise OSError(f"expected a known name, got {host}")
        return [ip_address(address) for address in table[host]]

    return resolve


class Web:
    """An HTTP server: ``answers`` gives the bytes for a path, ``None`` keeps silent."""

    def __init__(self, answers: Callable[[str], bytes | None], host: str = "127.0.0.1") -> None:
        self.answers = answers
        self.host = host
        self.port = 0
        self.connections = 0
        self.requests: list[str] = []  # whole heads
        self.names: list[str | None] = []  # that TLS was asked for

    @contextlib.asynccontextmanager
    async def up(self, tls: ssl.SSLContext | None = None) -> AsyncIterator["Web"]:
        if tls is not None:
            tls.sni_callback = lambda _, name, __: self.names.append(name)
        server = await asyncio.start_server(self._serve, self.host, 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await asyncio.sleep(1)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.requests.append(head)
                if (answer := self.answers(head.split()[1])) is not None:
                    writer.write(answer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def ok(body: bytes = b"hello", *headers: str, status: str = "200 OK") -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


def to(location: str) -> bytes:
    return ok(b"", f"Location: {location}", status="302 Found")


HERE = Outgoing(allow=["127.0.0.0/8"])


# The rules ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "url", "addresses"),
    [
        ({}, "https://app.example/hook?a=1#b", [PUBLIC]),
        ({}, "wss://APP.example/", [PUBLIC, PUBLIC_6]),
        ({}, "https://app.example:80/", [PUBLIC]),
        ({}, "https://my_app-1.xn--mnchen-3ya.example/%7Euser", ["64:ff9b::808:808"]),  # as IPv6 alone sees 8.8.8.8
        ({}, f"https://{PUBLIC}/", []),
        ({}, f"https://[{PUBLIC_6}]/", []),
        ({"plain": True}, "http://app.example/", [PUBLIC]),
        ({"ports": [8443]}, "https://app.example:8443/", [PUBLIC]),
        ({"allow": ["10.0.0.0/8"]}, "http://10.1.2.3:3000/", []),
        ({"allow": ["10.0.0.0/8"]}, "http://app.example:3000/", ["10.1.2.3", "10.1.2.4"]),
        ({"allow": ["127.0.0.1"]}, "ws://127.0.0.1:3000/", []),
        ({"allow": ["fd00::/8"]}, "http://[fd00::5]:3000/", []),
        ({"allow": ["App.example"]}, "http://app.EXAMPLE:3000/", ["192.168.0.7", "127.0.0.1"]),
        ({"allow": ["*.svc.example"]}, "http://a.b.svc.example:3000/", ["192.168.0.7"]),
        ({"allow": ["localhost"]}, "http://localhost:3000/", ["127.0.0.1", "::1"]),
    ],
)
def test_public_places_and_allowed_ones_may_be_asked(rules: dict[str, Any], url: str, addresses: list[str]) -> None:
    policy, place = Policy.of(Outgoing(**rules)), place_of(url)
    policy.judge(place)
    policy.judge_all(place, [ip_address(address) for address in addresses])


@pytest.mark.parametrize(
    ("rules", "url", "addresses", "why"),
    [
        ({}, "http://app.example/", [], "expected https or wss to app.example, got http or ws"),
        ({}, "https://app.example:22/", [], "expected a port of 80, 443 at app.example, got 22"),
        (
            {},
            "https://app.example/",
            [PUBLIC, "10.0.0.5"],
            "expected a public address behind app.example, got 10.0.0.5",
        ),
        ({}, "https://10.0.0.5/", [], "expected a public address, got 10.0.0.5"),
        ({}, "https://127.1/", [], "expected an IPv4 address as four decimal numbers, got '127.1'"),
        ({}, "https://[fe80::1%25eth0]/", [], "expected an IPv6 address without a zone, got '[fe80::1%25eth0]'"),
        ({}, "https://localhost/", [], "expected a public host, got localhost"),
        ({}, "gopher://app.example/", [], "expected https or wss, got gopher"),
        ({}, "https://u:secret@app.example/", [], "expected a URL without user and password, got one with"),
        ({"allow": ["10.0.0.0/8"]}, "http://app.example/", ["10.0.0.5", "10.0.0.5", PUBLIC], "got http or ws"),
        ({"allow": ["10.0.0.0/8"]}, "http://app.example/", ["10.0.0.5", "192.168.0.1"], "got 192.168.0.1"),
        ({"allow": ["10.0.0.0/8"]}, "https://[::ffff:10.0.0.5]/", [], "expected a public address, got ::ffff:a00:5"),
        ({"allow": ["*.svc.example"]}, "http://svc.example/", [], "got http or ws"),
        ({"allow": ["*.svc.example"]}, "http://evilsvc.example/", [], "got http or ws"),
        ({"allow": ["app.example"]}, "http://app.example.evil.example/", [], "got http or ws"),
        ({"allow": ["app.example"]}, "gopher://app.example/", [], "expected https or wss, got gopher"),
    ],
)
def test_a_refusal_says_which_rule_and_what_was_found(
    rules: dict[str, Any], url: str, addresses: list[str], why: str
) -> None:
    policy = Policy.of(Outgoing(**rules))
    with pytest.raises(Refused) as refused:
        place = place_of(url)
        policy.judge(place)
        policy.judge_all(place, [ip_address(address) for address in addresses])
    assert str(refused.value).endswith(why)


def test_a_refusal_tells_no_secret_of_the_url() -> None:
    for url in (
        "https://canary:canary@10.0.0.1/canary?key=canary#canary",
        "ftp://10.0.0.1/canary",
        "https://10.0.0.1/canary?canary",
        "https:/canary",
        "https://a b/canary",
    ):
        with pytest.raises(Blocked) as blocked:
            Guard(Outgoing()).check(url)
        assert "canary" not in str(blocked.value)


def test_what_the_files_name_word_for_word_may_go_anywhere() -> None:
    guard = Guard(Outgoing(), ["http://127.0.0.1:3000/tool"])
    guard.check("http://127.0.0.1:3000/tool")
    for other in ("http://127.0.0.1:3000/tool?", "http://127.0.0.1:3000/", "HTTP://127.0.0.1:3000/tool"):
        with pytest.raises(Blocked):
            guard.check(other)
    guard.trusting(["http://127.0.0.1:3000/"]).check("http://127.0.0.1:3000/")
    with pytest.raises(Blocked):
        guard.check("http://127.0.0.1:3000/")


def test_a_server_trusts_every_address_of_its_files() -> None:
    server = Server.parse(
        {
            "credentials": {"openai": {"apiKey": "k", "baseURL": "http://10.0.0.1/v1"}, "deepgram": {"host": 7}},
            "apps": {"desk": "ws://127.0.0.1:3000/"},
            "jambonz": {"url": "http://jambonz/api", "api_key": "k"},
            "outgoing": {"plain": True},
        }
    )
    agent = Agent.parse(
        {
            "toolHook": "http://127.0.0.1:3000/tool",
            "eventHook": {"url": "http://127.0.0.1:3000/event", "password": "p"},
            "mcpServers": [{"url": "http://mcp:8080/mcp"}],
            "toolFiller": {"type": "audio", "url": "http://files/wait.wav"},
            "llm": {"fallback": [{"vendor": "openai", "connectOptions": {"baseURL": "http://10.0.0.2/v1"}}]},
            "stt": {"options": {"host": "stt.internal"}},
            "languageConfig": {"de": {"tts": {"auth": {"url": "ws://10.0.0.3"}}}},
        }
    )
    guard = Guard.of(server).of_agent(agent)
    for address in (
        "http://10.0.0.1/v1",
        "7",
        "ws://127.0.0.1:3000/",
        "http://jambonz/api",
        "http://127.0.0.1:3000/tool",
        "http://127.0.0.1:3000/event",
        "http://mcp:8080/mcp",
        "http://files/wait.wav",
        "http://10.0.0.2/v1",
        "stt.internal",
        "ws://10.0.0.3",
    ):
        assert guard.trusts(address)
    guard.check("http://public.example/")


def test_what_the_file_of_one_agent_names_is_not_trusted_in_a_call_of_another() -> None:
    mine, other = (Agent.parse({"toolHook": f"http://127.0.0.1:3000/{name}"}) for name in ("mine", "other"))
    guard = Guard.of(Server()).of_agent(mine)
    guard.check("http://127.0.0.1:3000/mine")
    with pytest.raises(Blocked):
        guard.check(other.tool_hook.url if other.tool_hook else "")


# Requests -----------------------------------------------------------------------------------------------------------


def test_a_request_goes_to_the_address_that_was_checked_under_its_own_name() -> None:
    async def go() -> None:
        async with Web(lambda path: ok()).up() as web:
            guard = Guard(HERE, resolve=names(app=["127.0.0.9", "127.0.0.1"]))  # at the first nobody listens
            answer = await guard.request("POST", f"http://app.example:{web.port}/a?b=1", content=b"{}")
            assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"hello", "5")
            (head,) = web.requests
            assert head.startswith("POST /a?b=1 HTTP/1.1\r\n")
            assert f"host: app.example:{web.port}\r\n" in head.lower()
            await guard.aclose()

    virtual_time.run(go())


def test_tls_asks_for_the_name_and_checks_its_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = server_side(tmp_path)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    monkeypatch.setattr(pools, "tls", lambda: trusting)
    monkeypatch.setattr(guarding, "websocket_tls", lambda: trusting)

    async def resolve(host: str, port: int) -> list[Address]:
        return [ip_address("127.0.0.1")]

    async def go() -> None:
        async with Web(lambda path: ok()).up(there) as web:
            guard = Guard(HERE.model_copy(update={"allow": ["localhost", "other.example"]}), resolve=resolve)
            assert (await guard.request("GET", f"https://localhost:{web.port}/")).body == b"hello"
            with pytest.raises(NotConnected) as failed:
                await guard.request("GET", f"https://other.example:{web.port}/")
            assert failed.value.may_retry
            with pytest.raises(NotConnected):
                await guard.dial(f"wss://other.example:{web.port}/")
            assert web.names == ["localhost", "other.example", "other.example"]
            await guard.aclose()

    virtual_time.run(go(), leaks_ok=True)


def test_connections_are_kept_between_calls_and_cookies_are_not() -> None:
    async def go() -> None:
        async with Web(lambda path: ok(b"", "Set-Cookie: a=1")).up() as web:
            url, trusted = f"http://127.0.0.1:{web.port}/", f"http://127.0.0.1:{web.port}/ours"
            guard = Guard(HERE, [trusted])
            for call in (guard, guard.trusting(["http://x"]), guard.trusting([])):
                await call.request("GET", url)
            assert web.connections == 1
            await guard.request("GET", trusted)
            assert web.connections == 2
            assert not [head for head in web.requests if "cookie" in head.lower()]
            await guard.aclose()

    virtual_time.run(go())


def test_a_trusted_address_is_trusted_with_another_path_of_our_making() -> None:
    async def go() -> None:
        async with Web(lambda path: ok()).up() as web:
            here = f"http://127.0.0.1:{web.port}"
            guard = Guard(Outgoing(), [f"{here}/hook"])
            await guard.request("GET", f"{here}/hook?tool=t", named=f"{here}/hook")
            assert web.requests[0].startswith("GET /hook?tool=t ")
            for url, named in (
                (f"{here}/hook?tool=t", None),
                (f"{here}/hook?tool=t", f"{here}/other"),
                (f"http://127.0.0.1:{web.port + 1}/hook", f"{here}/hook"),
                (f"http://127.0.0.2:{web.port}/hook", f"{here}/hook"),
            ):
                with pytest.raises(Blocked):
                    await guard.request("GET", url, named=named)
            await guard.aclose()

    virtual_time.run(go())


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (ok(bytes(2000)), TooLarge),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + bytes(2000) + b"\r\n", TooLarge),
        (ok(b"x", "Content-Encoding: gzip"), NoAnswer),
        (b"what?\r\n\r\n", NoAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", TooSlow),
        (None, TooSlow),
    ],
)
def test_an_answer_that_is_no_use_is_an_error_that_may_not_be_retried(answer: bytes | None, failure: Any) -> None:
    async def go() -> None:
        async with Web(lambda path: answer).up() as web:
            guard = Guard(HERE)
            with pytest.raises(failure) as failed:
                await guard.request("GET", f"http://127.0.0.1:{web.port}/", limit=1000, seconds=2)
            assert isinstance(failed.value, OutgoingFailed) and not failed.value.may_retry
            assert asyncio.get_running_loop().time() <= 2
            await guard.aclose()

    virtual_time.run(go())


def test_a_host_that_is_not_there_may_be_asked_again() -> None:
    async def never(host: str, port: int) -> list[Address]:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def go() -> None:
        for resolve in (names(), names(app=()), names(app="127.0.0.1"), never):
            guard = Guard(HERE, resolve=resolve)
            asks = (
                guard.request("GET", "http://app.example:9/"),
                guard.dial("ws://app.example:9/"),
                guard.connect("app.example", 9, secure=False),
            )
            for ask in asks:
                with pytest.raises(NotConnected) as failed:
                    await ask
                assert failed.value.may_retry
            await guard.aclose()

    virtual_time.run(go(), limit=10)


def test_an_audio_file_may_be_three_redirects_away() -> None:
    async def go() -> None:
        answers = {"/0": ok(b"sound"), **{f"/{hops}": to(f"/{hops - 1}") for hops in range(1, 5)}}
        async with Web(lambda path: answers[path]).up() as web:
            guard, here = Guard(HERE), f"http://127.0.0.1:{web.port}"
            assert (await guard.request("GET", f"{here}/3")).status == 302
            assert (await guard.fetch(f"{here}/3")).body == b"sound"
            with pytest.raises(NoAnswer):
                await guard.fetch(f"{here}/4")
            await guard.aclose()

    virtual_time.run(go())


# Sockets and clients ------------------------------------------------------------------------------------------------


def test_a_websocket_is_dialled_where_it_was_checked() -> None:
    async def echo(socket: ServerConnection) -> None:
        request = socket.request
        assert request is not None
        await socket.send(f"{request.headers['Host']} {request.headers['X-Key']} {socket.subprotocol}")

    async def go() -> None:
        async with serve(echo, "127.0.0.1", 0, subprotocols=["a"]) as server:  # type: ignore[list-item]
            port = server.sockets[0].getsockname()[1]
            here = f"ws://127.0.0.1:{port}/"
            guard = Guard(HERE, resolve=names(app="127.0.0.1"))
            for asked, url in ((guard, f"ws://app.example:{port}/"), (Guard(Outgoing(), [here]), here)):
                socket = await asked.dial(url, subprotocols=["a"], headers={"X-Key": "k"})
                assert await socket.recv() == f"{url[5:-1]} k a"
                await socket.close()
            with pytest.raises(Blocked):
                await Guard(Outgoing()).dial(here)

    virtual_time.run(go())


def test_a_websocket_that_is_refused_or_sent_elsewhere_stays_refused() -> None:
    async def go() -> None:
        answers = {"/": ok(status="401 Unauthorized"), "/elsewhere": to("/")}
        async with Web(lambda path: answers[path]).up() as web:
            for path, status in (("/", 401), ("/elsewhere", 302)):
                with pytest.raises(InvalidStatus) as refused:
                    await Guard(HERE).dial(f"ws://127.0.0.1:{web.port}{path}")
                assert refused.value.response.status_code == status
            assert len(web.requests) == 2

    virtual_time.run(go())


def test_a_websocket_that_does_not_open_is_given_up() -> None:
    async def go() -> float:
        async with Web(lambda path: None).up() as web:
            with pytest.raises(TooSlow):
                await Guard(HERE).dial(f"ws://127.0.0.1:{web.port}/", seconds=3)
            return asyncio.get_running_loop().time()

    assert virtual_time.run(go()) == 3


def test_a_client_of_a_trusted_url_is_checked_everywhere_else() -> None:
    async def go() -> None:
        async with Web(lambda path: ok() if path == "/" else to("http://127.0.0.2:1/")).up() as web:
            here = f"http://127.0.0.1:{web.port}/"
            guard = Guard(Outgoing(), [here])
            async with guard.client(here, headers={"X-Key": "k"}, limits=httpx2.Limits(max_connections=1)) as http:
                assert (await http.get(here)).text == "hello"
                assert (await http.get(f"{here}elsewhere")).status_code == 302
                with pytest.raises(httpx2.ConnectError, match=r"expected a public address, got 127\.0\.0\.2"):
                    await http.get(f"{here}elsewhere", follow_redirects=True)
            with pytest.raises(Blocked):
                guard.client(f"{here}elsewhere")
            assert all("x-key: k" in head.lower() for head in web.requests)

    virtual_time.run(go())


# Vendors ------------------------------------------------------------------------------------------------------------

KEYS = {"apiKey": "k", "region": "eu-central-1", "accessKeyId": "k", "secretAccessKey": "k"}
OURS = "http://10.0.0.1/v1"


def of_call(vendor: str, url: str) -> dict[str, Any]:
    return {"vendor": vendor, "model": "m", "auth": KEYS, "connectOptions": {"baseURL": url}}


def test_an_address_of_the_files_is_dialled_as_always() -> None:
    guard = Guard(Outgoing(), [OURS])
    assert lookup_for(guard, "llm", "openai", of_call("openai", OURS)) is None
    assert lookup_for(guard, "llm", "aws", of_call("aws", OURS)) is None
    told = {"llmOptions": {"messages": [{"role": "user", "content": "http://10.0.0.1"}], "systemPrompt": "ws://x"}}
    assert lookup_for(guard, "llm", "aws", {"vendor": "aws", "model": "m", **told}) is None


def test_an_address_of_the_call_is_looked_up_by_the_guard() -> None:
    guard = Guard(Outgoing())
    for url in ("https://llm.example/v1", "https://llm.example:443/"):
        assert lookup_for(guard, "llm", "openai", of_call("openai", url)) == guard.lookup
    with pytest.raises(ProviderError) as refused:
        lookup_for(guard, "llm", "openai", of_call("openai", OURS))
    assert (refused.value.code, refused.value.retryable) == ("llm-address-refused", False)
    assert str(refused.value) == (
        "openai: expected a public address, got 10.0.0.1; an address that comes with a call must be public, or be "
        "named in the agent's file or in outgoing.allow"
    )
    with pytest.raises(ProviderError):
        lookup_for(guard, "stt", "elevenlabs", {"vendor": "elevenlabs", "options": {"host": 2130706433}})


def test_a_vendor_that_dials_by_itself_goes_only_where_the_operator_allows() -> None:
    with pytest.raises(ProviderError, match="SDK dials by itself"):
        lookup_for(Guard(Outgoing()), "llm", "aws", of_call("aws", "https://bedrock.example"))
    allowing = Guard(Outgoing(allow=["proxy.internal", "10.0.0.0/8"]))
    for url in ("http://proxy.internal:8080/", OURS):
        assert lookup_for(allowing, "llm", "aws", of_call("aws", url)) is None
    with pytest.raises(ProviderError):
        lookup_for(allowing, "llm", "aws", {**of_call("aws", OURS), "auth": {**KEYS, "region": "x.evil.example/#"}})


def test_a_call_goes_on_without_a_fallback_that_may_not_be_asked() -> None:
    file = Agent.parse({"stt": {"vendor": "scripted"}, "llm": {"vendor": "scripted"}, "tts": {"vendor": "scripted"}})
    metadata = {"llm": {"fallback": [of_call("openai", OURS), of_call("openai", "https://llm.example/v1")]}}

    async def go() -> list[str]:
        shared = Shared()
        agent, warnings = apply_metadata(file, metadata)
        assert warnings == []
        made = vendors(agent, Server(), shared, 16000, 8000, Guard(Outgoing()))
        await made.aclose()
        await shared.aclose()
        return [choice.key.strip() for choice in made.models]

    assert asyncio.run(go()) == ["scripted", "openai:m https://llm.example/v1"]
