"""The OpenAI adapter, asked through the real SDK against a server on loopback that fails as told."""

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import openai
import pytest

from providers.base import LlmEvent, LlmSpec, Message, Native, Prompt, ProviderError, TextDelta, Tool, ToolCall, Working
from providers.failures import kind_of, redact
from providers.llm.openai import OpenAiLlm, make_llm, to_wire
from providers.llm.sse import DataLines
from providers.registry import Shared

KEY = "sk-proj-verysecret0123456789"
HELLO = Prompt((Message("user", "hello"),))
OPENAI = LlmSpec("openai", "gpt-4.1-mini", credentials={"apiKey": KEY})
WEATHER = Tool("get_weather", "The weather.", {"type": "object", "properties": {"location": {"type": "string"}}})


def run(test: Coroutine[Any, Any, None]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(5):
            await test

    asyncio.run(guarded())


# A vendor on loopback ---------------------------------------------------------------------------------------


class Vendor:
    """Answers each request with the next of ``answers``; ``connections`` and ``requests`` tell what it saw."""

    def __init__(self, *answers: Callable[["Vendor", asyncio.StreamWriter], Awaitable[None]]) -> None:
        self.answers = list(answers)
        self.connections = 0
        self.requests: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.asked = asyncio.Event()
        self.left = asyncio.Event()  # a client went away while an answer was hanging
        self.shared = Shared()
        self.url = ""

    def llm(self, **connect: Any) -> OpenAiLlm:
        return make_llm(
            LlmSpec("openai", "m", connect={"baseURL": self.url, **connect}, credentials={"apiKey": KEY}), self.shared
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                size = int(next(line for line in head.lower().splitlines() if "content-length" in line).split()[1])
                self.heads.append(head)
                self.asked.set()
                self.requests.append(json.loads(await reader.readexactly(size)))
                answer = self.answers.pop(0)
                await answer(self, writer)
                if answer is silence or getattr(answer, "hangs", False):
                    await reader.read()  # until the client closes
                    self.left.set()
                    return
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def vendor(*answers: Callable[[Vendor, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[Vendor]:
    made = Vendor(*answers)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield made
    finally:
        await made.shared.aclose()
        server.close()
        await server.wait_closed()


Act = Callable[[Vendor, asyncio.StreamWriter], Awaitable[None]]


def stream(*lines: str, end: str = "whole") -> Act:
    """An SSE answer; ``end``: whole, cut (the connection drops) or hang."""

    async def act(_: Vendor, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for line in lines:
            data = f"{line}\n\n".encode()
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        if end == "whole":
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        if end == "cut":
            writer.close()

    act.hangs = end == "hang"  # type: ignore[attr-defined]
    return act


def refuse(status: int, error: dict[str, Any]) -> Act:
    async def act(_: Vendor, writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"error": error}).encode()
        head = f"HTTP/1.1 {status} No\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return act


async def silence(_: Vendor, writer: asyncio.StreamWriter) -> None:
    """Takes the request and never answers."""


async def drop(_: Vendor, writer: asyncio.StreamWriter) -> None:
    """Takes the request and closes, as a server does whose keep-alive has just run out."""
    writer.close()


def delta(finish: str | None = None, **delta: Any) -> str:
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def call(index: int | None, id_: str | None, name: str | None, arguments: str) -> dict[str, Any]:
    piece: dict[str, Any] = {"index": index, "id": id_, "function": {"name": name, "arguments": arguments}}
    return {key: value for key, value in piece.items() if value is not None}


DONE = "data: [DONE]"
HI = [delta(role="assistant", content=""), delta(content="Hi"), delta(content=" there."), delta("stop"), DONE]


async def collect(llm: OpenAiLlm, prompt: Prompt = HELLO) -> list[LlmEvent]:
    return [event async for event in llm.reply(prompt) if not isinstance(event, Working)]


async def failure(llm: OpenAiLlm, heard: list[LlmEvent] | None = None) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        async for event in llm.reply(HELLO):
            if heard is not None and not isinstance(event, Working):
                heard.append(event)
    return caught.value


def events_of(*lines: str) -> list[LlmEvent]:
    """What the adapter makes of a stream."""
    got: list[LlmEvent] = []

    async def test() -> None:
        async with vendor(stream(*lines)) as there:
            got.extend(await collect(there.llm()))

    run(test())
    return got


# Answers ----------------------------------------------------------------------------------------------------


def test_words_come_as_they_are_streamed() -> None:
    assert events_of(*HI) == [TextDelta("Hi"), TextDelta(" there.")]


def test_a_stream_without_done_is_whole_when_it_has_a_finish_reason() -> None:
    assert events_of(*HI[:-1]) == [TextDelta("Hi"), TextDelta(" there.")]


def test_garbage_lines_comments_and_reasoning_are_not_spoken() -> None:
    lines = [": keep-alive", "event: message", "data: {not json", "data: 7", "data: {}", delta(reasoning_content="Hm")]
    assert events_of(*lines, *HI) == [TextDelta("Hi"), TextDelta(" there.")]


def test_a_tool_call_split_over_deltas_comes_whole() -> None:
    assert events_of(
        delta(tool_calls=[call(0, "c1", "get_weather", "")]),
        delta(tool_calls=[call(0, None, None, '{"loc')]),
        delta(tool_calls=[call(0, None, None, 'ation":"Oslo"}')]),
        delta("tool_calls"),
        DONE,
    ) == [ToolCall("c1", "get_weather", '{"location":"Oslo"}')]


def test_pieces_of_parallel_calls_are_told_apart_by_index() -> None:
    assert events_of(
        delta(content="Let me see. "),
        delta(tool_calls=[call(0, "a", "datetime", ""), call(1, "b", "get_weather", "{")]),
        delta(tool_calls=[call(1, None, None, "}"), call(0, None, None, "{}")]),
        delta("tool_calls"),
        DONE,
    ) == [TextDelta("Let me see. "), ToolCall("a", "datetime", "{}"), ToolCall("b", "get_weather", "{}")]


def test_without_an_index_the_position_in_the_chunk_counts() -> None:
    assert events_of(
        delta(tool_calls=[call(None, "a", "datetime", "{"), call(None, "b", "calculator", "{")]),
        delta(tool_calls=[call(None, None, None, "}"), call(None, None, None, "}")]),
        delta("tool_calls"),
    ) == [ToolCall("a", "datetime", "{}"), ToolCall("b", "calculator", "{}")]


def test_whole_calls_that_all_claim_index_0_stay_apart() -> None:
    assert events_of(
        delta(tool_calls=[call(0, "a", "datetime", "{}")]),
        delta(tool_calls=[call(0, "b", "calculator", '{"expression":"1+1"}')]),
        delta("tool_calls"),
    ) == [ToolCall("a", "datetime", "{}"), ToolCall("b", "calculator", '{"expression":"1+1"}')]


def test_a_missing_id_is_generated_and_missing_arguments_are_an_empty_object() -> None:
    first, second = events_of(
        delta(tool_calls=[{"function": {"name": "datetime"}}]),
        delta(tool_calls=[{"function": {"name": "get_weather", "arguments": {"location": "Oslo"}}}]),
        delta("tool_calls"),
    )
    assert isinstance(first, ToolCall) and isinstance(second, ToolCall)
    assert first.id.startswith("call_") and first.id != second.id
    assert [(c.name, c.arguments) for c in (first, second)] == [
        ("datetime", "{}"),
        ("get_weather", '{"location": "Oslo"}'),
    ]


def test_data_lines_may_be_cut_anywhere_and_end_in_either_way() -> None:
    whole = b'data: {"a":1}\r\n\r\ndata:{"b":2}\n\n: c\ndata: [DONE]'
    for at in range(len(whole)):
        lines = DataLines()
        assert [*lines.feed(whole[:at]), *lines.feed(whole[at:]), *lines.end()] == [b'{"a":1}', b'{"b":2}', b"[DONE]"]


# Errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error", "code", "retryable"),
    [
        (400, {"message": "tools: bad schema"}, "llm-bad-request", False),
        (403, {"message": "no"}, "llm-unauthorized", False),
        (404, {"message": "no such model"}, "llm-not-found", False),
        (429, {"message": "slow down"}, "llm-rate-limited", True),
        (429, {"message": "pay", "code": "insufficient_quota"}, "llm-quota-exceeded", False),
        (500, {"message": "oops"}, "llm-server-error", True),
    ],
)
def test_a_refusal_is_told_in_our_words(status: int, error: dict[str, Any], code: str, retryable: bool) -> None:
    async def test() -> None:
        async with vendor(refuse(status, error)) as there:
            failed = await failure(there.llm())
            assert (failed.vendor, failed.code, failed.retryable) == ("openai", code, retryable)
            assert failed.message == f"HTTP {status}: {error['message']}"
            assert isinstance(failed.__cause__, openai.APIStatusError)
            assert len(there.requests) == 1  # the caller decides about another try: it knows how long it may take

    run(test())


def test_a_key_that_the_vendor_echoes_is_in_no_message_and_no_traceback() -> None:
    async def test() -> None:
        echo = {"message": f"Incorrect API key provided: {KEY}. Also sk-other***wxyz."}
        async with vendor(refuse(401, echo)) as there:
            failed = await failure(there.llm())
            assert failed.code == "llm-unauthorized"
            assert failed.message == "HTTP 401: Incorrect API key provided: [redacted]. Also [redacted]"
            told = "".join(traceback.format_exception(failed))
            assert KEY not in told and "sk-other" not in told

    run(test())


def test_an_error_in_a_data_line_ends_the_reply_after_what_was_said() -> None:
    async def test() -> None:
        error = "data: " + json.dumps({"error": {"message": f"overloaded, key {KEY}", "code": 502}})
        async with vendor(stream(delta(content="Well"), error, DONE)) as there:
            heard: list[LlmEvent] = []
            failed = await failure(there.llm(), heard)
            assert heard == [TextDelta("Well")]
            assert (failed.code, failed.retryable) == ("llm-server-error", True)
            assert failed.message == "error in the stream: overloaded, key [redacted]"

    run(test())


def test_a_stream_cut_midway_is_a_lost_connection_and_yields_no_half_call() -> None:
    async def test() -> None:
        half = delta(tool_calls=[call(0, "c", "get_weather", '{"loc')])
        async with vendor(stream(delta(content="Well"), half, end="cut")) as there:
            heard: list[LlmEvent] = []
            failed = await failure(there.llm(), heard)
            assert heard == [TextDelta("Well")]
            assert (failed.code, failed.retryable) == ("llm-connection-lost", True)

    run(test())


def test_a_cut_after_the_finish_reason_harms_nobody() -> None:
    async def test() -> None:
        async with vendor(stream(*HI[:-1], end="cut")) as there:
            assert await collect(there.llm()) == [TextDelta("Hi"), TextDelta(" there.")]

    run(test())


def test_a_stream_that_ends_early_but_in_order_is_cut_all_the_same() -> None:
    async def test() -> None:
        async with vendor(stream(delta(content="Well"))) as there:
            assert (await failure(there.llm())).code == "llm-connection-lost"

    run(test())


def test_an_empty_stream_says_what_came_instead() -> None:
    async def test() -> None:
        async with vendor(stream()) as there:
            failed = await failure(there.llm())
            assert failed.code == "llm-empty-stream"
            assert failed.message == "expected a stream of chunks, got an empty one (text/event-stream)"

    run(test())


def test_an_answer_withheld_by_the_vendor_is_an_error_only_when_nothing_was_said() -> None:
    assert events_of(delta(content="Well"), delta("content_filter"), DONE) == [TextDelta("Well")]

    async def test() -> None:
        async with vendor(stream(delta("content_filter"), DONE)) as there:
            assert (await failure(there.llm())).code == "llm-content-filtered"

    run(test())


def test_nobody_listening_is_a_lost_connection() -> None:
    async def test() -> None:
        async with vendor() as there:
            there.url = "http://127.0.0.1:9/v1"
            failed = await failure(there.llm())
            assert (failed.code, failed.retryable) == ("llm-connection-lost", True)

    run(test())


def test_a_connection_closed_in_the_instant_of_its_reuse_is_tried_again_at_once() -> None:
    async def test() -> None:
        async with vendor(drop, stream(*HI)) as there:
            assert await collect(there.llm()) == [TextDelta("Hi"), TextDelta(" there.")]
            assert there.connections == 2

    run(test())


def test_a_failure_without_a_status_is_known_by_the_vendors_word() -> None:
    assert kind_of(None, "rate_limit_exceeded") == "rate-limited"
    assert kind_of(None, "invalid_request_error") == "bad-request"
    assert kind_of(None, "") == "server-error"


def test_redact_finds_keys_by_their_looks() -> None:
    assert redact("Bearer abc.def and gsk_1234567 but not task-force") == "[redacted] and [redacted] but not task-force"


# Cancelling and connections ---------------------------------------------------------------------------------


def test_cancelling_a_reply_that_waits_for_its_first_byte_is_seen_by_the_vendor() -> None:
    async def test() -> None:
        async with vendor(silence) as there:
            task = asyncio.create_task(collect(there.llm()))
            await there.asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await there.left.wait()

    run(test())


def test_cancelling_a_reply_midway_is_seen_by_the_vendor() -> None:
    async def test() -> None:
        async with vendor(stream(delta(content="Well"), end="hang")) as there:
            first = asyncio.Event()

            async def listen() -> None:
                async for _ in there.llm().reply(HELLO):
                    first.set()

            task = asyncio.create_task(listen())
            await first.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await there.left.wait()

    run(test())


def test_closing_the_iterator_is_seen_by_the_vendor() -> None:
    async def test() -> None:
        async with vendor(stream(delta(content="Well"), end="hang")) as there:
            async with aclosing(there.llm().reply(HELLO)) as events:  # type: ignore[type-var]
                async for _ in events:
                    break
            await there.left.wait()

    run(test())


def test_a_connection_serves_the_next_reply_of_another_call() -> None:
    async def test() -> None:
        async with vendor(stream(*HI), refuse(429, {"message": "slow"}), stream(*HI)) as there:
            await collect(there.llm())
            await failure(there.llm())
            await collect(there.llm())
            assert (there.connections, len(there.requests)) == (1, 3)

    run(test())


def test_a_server_that_keeps_the_stream_open_after_done_does_not_keep_the_caller_waiting() -> None:
    async def test() -> None:
        async with vendor(stream(*HI, end="hang")) as there:
            assert await collect(there.llm()) == [TextDelta("Hi"), TextDelta(" there.")]
            await there.left.wait()

    run(test())


# What is asked ----------------------------------------------------------------------------------------------


def test_to_wire_writes_the_whole_conversation() -> None:
    prompt = Prompt(
        (
            Message("system", "Be brief."),
            Message("user", "Weather in Oslo?"),
            Message("assistant", "", (ToolCall("c1", "get_weather", '{"location":"Oslo"}'),)),
            Message("tool", "rain", tool_call_id="c1"),
        ),
        (WEATHER, Tool("hangup", "End the call.", {})),
    )
    weather = {"name": "get_weather", "description": "The weather.", "parameters": dict(WEATHER.parameters)}
    hangup = {"name": "hangup", "description": "End the call.", "parameters": {"type": "object", "properties": {}}}
    asked = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"location":"Oslo"}'}}
    assert to_wire(prompt, OPENAI) == {
        "model": "gpt-4.1-mini",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather in Oslo?"},
            {"role": "assistant", "content": None, "tool_calls": [asked]},
            {"role": "tool", "content": "rain", "tool_call_id": "c1"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": weather}, {"type": "function", "function": hangup}],
    }


OPTIONS = {"maxTokens": 99, "temperature": 0, "reasoningEffort": "low", "vendorParams": {"top_k": 5}}


@pytest.mark.parametrize(
    ("connect", "limit"),
    [
        ({}, "max_completion_tokens"),
        ({"baseURL": "https://eu.api.openai.com/v1"}, "max_completion_tokens"),
        ({"baseURL": "https://acme.openai.azure.com/openai/v1/"}, "max_completion_tokens"),
        ({"baseURL": "http://127.0.0.1:11434/v1"}, "max_tokens"),
        ({"baseURL": "https://openai.com.example.org/v1"}, "max_tokens"),
    ],
)
def test_to_wire_names_the_options_as_the_server_does(connect: dict[str, str], limit: str) -> None:
    wire = to_wire(HELLO, LlmSpec("openai", "m", OPTIONS, connect))
    counted = wire.pop("stream_options", None)
    assert counted == ({"include_usage": True} if limit == "max_completion_tokens" else None)
    del wire["messages"], wire["stream"]
    assert wire == {"model": "m", limit: 99, "temperature": 0, "reasoning_effort": "low", "top_k": 5}


def test_vendor_params_reach_the_body_and_win_and_headers_go_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-environment")

    async def test() -> None:
        async with vendor(stream(*HI)) as there:
            spec = LlmSpec("openai", "m", {"temperature": 1, "vendorParams": {"temperature": 0.2, "keep_alive": "5m"}})
            connect = {"baseURL": there.url, "headers": {"X-Tenant": "acme"}}
            await collect(make_llm(LlmSpec("openai", "m", spec.options, connect, {"apiKey": KEY}), there.shared))
            asked, head = there.requests[0], there.heads[0].lower()
            assert (asked["temperature"], asked["keep_alive"], asked["stream"]) == (0.2, "5m", True)
            assert f"authorization: bearer {KEY}" in head and "x-tenant: acme" in head
            assert "org-of-the-environment" not in head

    run(test())


@pytest.mark.parametrize(
    ("spec", "code", "message"),
    [
        (LlmSpec("openai"), "llm-no-credentials", "credentials.openai.apiKey"),
        (LlmSpec("openai", credentials={"apiKey": " "}), "llm-no-credentials", "OPENAI_API_KEY"),
        (LlmSpec("openai", connect={"baseURL": "http://127.0.0.1:1/v1"}), "llm-no-model", "expected llm.model"),
        (LlmSpec("openai", "m", connect={"baseURL": "localhost:1"}), "llm-bad-url", "http(s)://"),
        (LlmSpec("openai", "m", connect={"baseURL": "http://here:port"}), "llm-bad-url", "here:port"),
        (LlmSpec("openai", credentials={"apiKey": "sk-\nx"}), "llm-bad-credentials", "plain ASCII"),
    ],
)
def test_what_is_missing_is_said_when_the_vendor_is_made(spec: LlmSpec, code: str, message: str) -> None:
    async def test() -> None:
        shared = Shared()
        with pytest.raises(ProviderError, match=message.replace("(", r"\(").replace(")", r"\)")) as caught:
            make_llm(spec, shared)
        await shared.aclose()
        assert caught.value.code == code

    run(test())


def test_a_server_of_ones_own_needs_no_key_and_names_itself() -> None:
    async def test() -> None:
        shared = Shared()
        names: Sequence[str] = [
            make_llm(LlmSpec("openai", "llama3", connect={"baseURL": "http://127.0.0.1:11434/v1"}), shared).name,
            make_llm(LlmSpec("openai", credentials={"apiKey": KEY}), shared).name,
        ]
        await shared.aclose()
        assert names == ["openai:llama3", "openai:gpt-4.1-mini"]

    run(test())


def test_warming_up_asks_nobody() -> None:
    async def test() -> None:
        async with vendor() as there:
            await there.llm().warm()
            assert there.connections == 0

    run(test())


# What servers want back -------------------------------------------------------------------------------------


def test_thoughts_of_an_answer_with_calls_are_kept_with_the_first_call() -> None:
    signature = {"google": {"thought_signature": "c2lnbmVk"}}
    first, second = events_of(
        delta(reasoning_content="They ask "),
        delta(reasoning_content="for Oslo."),
        delta(tool_calls=[{**call(0, "a", "get_weather", "{}"), "extra_content": signature}]),
        delta(tool_calls=[call(1, "b", "datetime", "{}")]),
        delta("tool_calls"),
    )
    kept = {"extra_content": signature, "reasoning_content": "They ask for Oslo."}
    assert first == ToolCall("a", "get_weather", "{}", Native("openai", kept))
    assert second == ToolCall("b", "datetime", "{}")


def test_pieces_of_one_detail_are_joined_and_details_kept_apart() -> None:
    def detail(**fields: Any) -> str:
        return delta(reasoning_details=[fields])

    (called,) = events_of(
        detail(type="reasoning.text", index=0, text="They ask "),
        detail(type="reasoning.text", index=0, text="for Oslo."),
        detail(type="reasoning.text", index=0, text=None, signature="c2ln"),
        detail(type="reasoning.text", index=1, text="Yes."),
        detail(type="reasoning.encrypted", index=2, data="AAAA"),
        detail(type="reasoning.encrypted", index=2, data="BBBB"),
        delta(tool_calls=[call(0, "a", "datetime", "{}")]),
        delta("tool_calls"),
    )
    assert isinstance(called, ToolCall) and called.native is not None
    assert called.native.content["reasoning_details"] == [
        {"type": "reasoning.text", "index": 0, "text": "They ask for Oslo.", "signature": "c2ln"},
        {"type": "reasoning.text", "index": 1, "text": "Yes."},
        {"type": "reasoning.encrypted", "index": 2, "data": "AAAA"},
        {"type": "reasoning.encrypted", "index": 2, "data": "BBBB"},
    ]


def test_what_was_kept_goes_back_where_it_came_from() -> None:
    kept = Native("openai", {"extra_content": {"x": 1}, "reasoning_content": "Hm."})
    calls = (ToolCall("a", "datetime", "{}", kept), ToolCall("b", "datetime", "{}", Native("google", "not ours")))
    own = Native("openai", {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": "zoe"})
    prompt = Prompt((Message("user", "Hi", native=own), Message("assistant", "", calls)))
    function = {"name": "datetime", "arguments": "{}"}
    assert to_wire(prompt, OPENAI)["messages"] == [
        own.content,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "a", "type": "function", "function": function, "extra_content": {"x": 1}},
                {"id": "b", "type": "function", "function": function},
            ],
            "reasoning_content": "Hm.",
        },
    ]
