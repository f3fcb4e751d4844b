"""What is Anthropic's own: what each model takes, thoughts, refusals. The rest is in the contract and in the turns."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from providers.base import LlmEvent, LlmSpec, Message, Native, Prompt, ProviderError, TextDelta, Tool, ToolCall, Working
from providers.llm.anthropic import AnthropicLlm, make_llm, to_provider_error
from providers.llm.anthropic_models import claude_of
from providers.llm.anthropic_wire import Answer, StreamError, to_wire
from providers.llm.turns import BEGINS, NO_RESULT
from providers.registry import Shared
from tests import virtual_time
from tests.vendors.anthropic import AnthropicServer, event
from tests.vendors.http import Request
from tests.vendors.script import Fault, Script

SPEC = LlmSpec("anthropic", "claude-sonnet-4-6", credentials={"apiKey": "sk-ant-0123456789"})
HELLO = Prompt((Message("user", "hello"),))
WEATHER = Tool("get_weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
OSLO = ToolCall("c1", "get_weather", '{"city": "Oslo"}')
THOUGHT = {"type": "thinking", "thinking": "Oslo.", "signature": "c2ln"}
ANSWER = [TextDelta("Hello"), TextDelta(" there,"), TextDelta(" café.")]


@asynccontextmanager
async def asking(server: AnthropicServer, **fields: Any) -> AsyncIterator[AnthropicLlm]:
    shared = Shared()
    try:
        async with server:
            yield make_llm(
                replace(SPEC, connect={"baseURL": server.url, **fields.pop("connect", {})}, **fields), shared
            )
    finally:
        await shared.aclose()


async def collect(llm: AnthropicLlm) -> list[LlmEvent]:
    return [each async for each in llm.reply(HELLO) if not isinstance(each, Working)]


def wire(*messages: Message, tools: tuple[Tool, ...] = (), model: str = "claude-sonnet-4-6", **options: Any) -> Any:
    return to_wire(Prompt(messages, tools), replace(SPEC, model=model, options=options))


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": [text(each) if isinstance(each, str) else each for each in blocks]}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {**user(*blocks), "role": "assistant"}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def use(id_: str = "c1", given: Any = None) -> dict[str, Any]:
    return {"type": "tool_use", "id": id_, "name": "get_weather", "input": given or {"city": "Oslo"}}


def result(said: str, id_: str = "c1") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id_, "content": said}


# What is asked ------------------------------------------------------------------------------------------------


def test_a_prompt_becomes_a_body() -> None:
    messages = (
        Message("system", "Be brief."),
        Message("assistant", "Acme, hello."),
        Message("user", "Oslo?"),
        Message("system", "It is late."),
        Message("assistant", "Let me see.", (OSLO,)),
        Message("tool", "", tool_call_id="c1"),
    )
    assert wire(*messages, tools=(WEATHER, Tool("hangup", "", {}))) == {
        "model": "claude-sonnet-4-6",
        "max_tokens": 1024,
        "stream": True,
        "system": "Be brief.\n\nIt is late.",
        "messages": [
            user(BEGINS),
            assistant("Acme, hello."),
            user("Oslo?"),
            assistant("Let me see.", use()),
            user(result(NO_RESULT)),
        ],
        "tools": [
            {"name": "get_weather", "description": "The weather.", "input_schema": WEATHER.parameters},
            {"name": "hangup", "input_schema": {"type": "object"}},
        ],
    }


def test_an_answer_in_words_after_calls_names_the_tools_and_forbids_them() -> None:
    asked = (*HELLO.messages, Message("assistant", "", (OSLO,)), Message("tool", "rain", tool_call_id="c1"))
    body = wire(*asked)
    assert body["tools"] == [{"name": "get_weather", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}
    assert body["messages"][1:] == [assistant(use()), user(result("rain"))]


def test_ids_and_arguments_that_anthropic_would_refuse_are_made_to_fit() -> None:
    odd = ToolCall("functions.get_weather:0", "get_weather", '{"ci')
    asked = (*HELLO.messages, Message("assistant", "", (odd,)), Message("tool", "no", tool_call_id=odd.id))
    id_ = "functions_get_weather_0"
    sent = wire(*asked, tools=(WEATHER,))["messages"]
    assert sent[1:] == [assistant(use(id_, {"_raw": '{"ci'})), user(result("no", id_))]


def test_thoughts_go_back_while_their_answer_is_in_progress_and_not_later() -> None:
    first = replace(OSLO, native=Native("anthropic", [THOUGHT]))
    second = replace(OSLO, id="c2", native=Native("anthropic", [{"type": "text"}, THOUGHT]))
    rounds = (
        Message("assistant", "One moment.", (first, replace(OSLO, id="c3"))),
        Message("tool", "rain", tool_call_id="c1"),
        Message("tool", "rain", tool_call_id="c3"),
        Message("assistant", "And again.", (second,)),
        Message("tool", "sun", tool_call_id="c2"),
    )
    sent = wire(*HELLO.messages, *rounds, tools=(WEATHER,))["messages"]
    assert sent[1] == assistant(THOUGHT, "One moment.", use(), use("c3"))
    assert sent[3] == assistant("And again.", THOUGHT, use("c2"))  # where it stood: the text came first
    rest = (Message("assistant", "Sunny."), Message("user", "Thanks."))
    later = wire(*HELLO.messages, *rounds, *rest, tools=(WEATHER,))["messages"]
    assert later[1] == assistant("One moment.", use(), use("c3"))
    assert later[3] == assistant("And again.", use("c2"))


@pytest.mark.parametrize(("model", "kept"), [("claude-sonnet-4-6", True), ("claude-haiku-5-5", False)])
def test_thoughts_that_are_bound_to_the_tools_do_not_go_back_without_them(model: str, kept: bool) -> None:
    call = replace(OSLO, native=Native("anthropic", [THOUGHT]))
    asked = (*HELLO.messages, Message("assistant", "", (call,)), Message("tool", "rain", tool_call_id="c1"))
    assert wire(*asked, model=model)["messages"][1] == assistant(*([THOUGHT] if kept else []), use())


def test_a_message_of_anthropics_own_goes_out_unchanged() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    native = Native("anthropic", {"role": "user", "content": [image]})
    plain = Native("anthropic", {"role": "user", "content": "Look."})
    asked = (Message("user", "Look.", native=native), Message("user", "…", native=plain))
    assert wire(*asked)["messages"] == [user(image, "Look.")]


def test_vendor_params_win() -> None:
    assert wire(*HELLO.messages, maxTokens=9, vendorParams={"max_tokens": 99, "top_k": 5}) == {
        "model": "claude-sonnet-4-6",
        "max_tokens": 99,
        "stream": True,
        "messages": [user("hello")],
        "top_k": 5,
    }


ADAPTIVE = {"type": "adaptive"}


@pytest.mark.parametrize(
    ("model", "effort", "fields"),
    [
        ("claude-haiku-4-5-20251001", None, {}),
        ("claude-haiku-4-5", "high", {}),
        ("claude-sonnet-4-20250514", "high", {}),
        ("claude-sonnet-4-6", None, {}),
        ("claude-sonnet-4-6", "minimal", {}),
        ("claude-sonnet-4-6", "low", {"thinking": ADAPTIVE, "output_config": {"effort": "low"}}),
        ("claude-opus-4-8", "high", {"thinking": ADAPTIVE, "output_config": {"effort": "high"}}),
        ("claude-sonnet-5", None, {"thinking": {"type": "disabled"}}),
        ("claude-opus-5", "minimal", {"thinking": {"type": "disabled"}}),
        ("claude-haiku-5-5", None, {"thinking": {"type": "disabled"}}),
        ("claude-haiku-5-5", "medium", {"thinking": ADAPTIVE, "output_config": {"effort": "medium"}}),
        ("claude-sonnet-5-5", None, {"thinking": {"type": "between_tools"}}),
        ("claude-opus-5-5", None, {"output_config": {"effort": "low"}}),
        ("claude-fable-5-1", "minimal", {"output_config": {"effort": "low"}}),
        ("claude-mythos-preview", None, {"output_config": {"effort": "low"}}),
        ("a-name-of-a-gateway", None, {}),
    ],
)
def test_each_model_is_told_how_much_to_think_as_it_wants_it(
    model: str, effort: str | None, fields: dict[str, Any]
) -> None:
    assert claude_of(model).thinking(effort) == fields


@pytest.mark.parametrize(
    ("model", "effort", "sent", "limit"),
    [
        ("claude-haiku-4-5", None, True, 1024),
        ("claude-sonnet-4-6", "low", False, 8192),
        ("claude-opus-4-7", None, False, 1024),
        ("claude-haiku-5-5", None, False, 1024),
        ("claude-opus-5-5", None, False, 8192),
        ("a-name-of-a-gateway", None, True, 1024),
    ],
)
def test_a_temperature_goes_where_it_is_taken_and_thoughts_have_room(
    model: str, effort: str | None, sent: bool, limit: int
) -> None:
    body = wire(*HELLO.messages, model=model, temperature=0.0, reasoningEffort=effort)
    assert (body.get("temperature"), body["max_tokens"]) == (0.0 if sent else None, limit)


def test_what_is_left_out_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    options = {"temperature": 0.5, "reasoningEffort": "high"}
    with caplog.at_level(logging.WARNING):
        for model in ("claude-haiku-4-5", "claude-opus-5-5"):
            make_llm(replace(SPEC, model=model, options=options), Shared())
    assert [record.message for record in caplog.records] == [
        "model takes no reasoning effort, left out",
        "model takes no temperature, left out",
    ]


# What is answered ---------------------------------------------------------------------------------------------


def answered(*events: bytes) -> list[LlmEvent]:
    answer = Answer()
    lines = [line[6:] for line in b"".join(events).splitlines() if line.startswith(b"data: ")]
    return [each for line in lines for each in answer.data(line) if not isinstance(each, Working)]


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
    begin = event("content_block_start", index=index, content_block=start)
    pieces = [event("content_block_delta", index=index, delta=delta) for delta in deltas]
    return b"".join([begin, *pieces, event("content_block_stop", index=index)])


def think(index: int, *, signature: str = "c2ln") -> bytes:
    pieces = [{"type": "thinking_delta", "thinking": each} for each in ("Os", "lo.")]
    signed = [{"type": "signature_delta", "signature": signature}] if signature else []
    return block(index, {"type": "thinking", "thinking": "", "signature": ""}, *pieces, *signed)


def speak(index: int, said: str) -> bytes:
    return block(index, {"type": "text", "text": ""}, {"type": "text_delta", "text": said})


def call(index: int, id_: str) -> bytes:
    return block(index, {"type": "tool_use", "id": id_, "name": "hangup", "input": {}})


def test_thoughts_are_not_told_but_kept_with_the_call_that_they_led_to() -> None:
    thought = Native("anthropic", [THOUGHT])
    after_speech = Native("anthropic", [{"type": "text"}, THOUGHT])
    assert answered(think(0), call(1, "a"), call(2, "b")) == [
        ToolCall("a", "hangup", "{}", thought),
        ToolCall("b", "hangup", "{}"),
    ]
    assert answered(think(0), speak(1, "Bye."), call(2, "a")) == [
        TextDelta("Bye."),
        ToolCall("a", "hangup", "{}", thought),
    ]
    assert answered(speak(0, "Bye."), think(1), call(2, "a")) == [
        TextDelta("Bye."),
        ToolCall("a", "hangup", "{}", after_speech),
    ]
    assert answered(think(0, signature=""), call(1, "a")) == [ToolCall("a", "hangup", "{}")]


def test_tools_that_run_at_anthropic_are_not_ours_to_call() -> None:
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    piece = {"type": "input_json_delta", "partial_json": '{"query": "x"}'}
    assert answered(block(0, search, piece), speak(1, "Found.")) == [TextDelta("Found.")]


class Ending(AnthropicServer):
    """Says ``text`` and stops for this reason."""

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__()
        self.events = [speak(0, text)] if text else []
        self.events.append(event("message_delta", delta={"stop_reason": reason}) + event("message_stop"))

    def pieces(self, request: Request) -> list[bytes]:
        return self.events


@pytest.mark.parametrize(
    ("reason", "code"),
    [("refusal", "llm-content-filtered"), ("model_context_window_exceeded", "llm-bad-request")],
)
def test_an_answer_that_was_withheld_is_an_error_unless_something_was_said(reason: str, code: str) -> None:
    async def test() -> None:
        async with asking(Ending(reason)) as llm:
            with pytest.raises(ProviderError) as caught:
                await collect(llm)
            assert (caught.value.code, caught.value.retryable) == (code, False)
        async with asking(Ending(reason, "I can")) as llm:
            assert await collect(llm) == [TextDelta("I can")]

    virtual_time.run(test())


def test_running_out_of_tokens_is_an_end_like_any_other() -> None:
    async def test() -> None:
        async with asking(Ending("max_tokens")) as llm:
            assert await collect(llm) == []

    virtual_time.run(test())


def test_an_answer_ends_with_its_last_event_whatever_the_connection_does() -> None:
    async def test() -> None:
        async with asking(AnthropicServer(Script(Fault.HANG, after=99))) as llm:
            assert await collect(llm) == ANSWER
            assert asyncio.get_running_loop().time() == 0.25

    virtual_time.run(test())


def test_a_page_in_place_of_a_stream_is_an_empty_one() -> None:
    async def test() -> None:
        server = Ending("end_turn")
        server.events = [b"<html>Welcome to the hotel.</html>"]
        server.content_type = "text/html"
        async with asking(server) as llm:
            with pytest.raises(ProviderError, match=r"empty one \(text/html\)") as caught:
                await collect(llm)
            assert caught.value.code == "llm-empty-stream"

    virtual_time.run(test())


# Errors and credentials ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("overloaded_error", "llm-rate-limited"),
        ("api_error", "llm-server-error"),
        ("permission_error", "llm-unauthorized"),
        ("billing_error", "llm-quota-exceeded"),
        ("invalid_request_error", "llm-bad-request"),
        ("timeout_error", "llm-timeout"),
        ("of_tomorrow", "llm-server-error"),
    ],
)
def test_errors_inside_a_stream_in_our_words(error: str, code: str) -> None:
    assert to_provider_error(StreamError({"type": error, "message": "no"}), "anthropic").code == code


def test_errors_of_the_connection_in_our_words() -> None:
    lost, late = httpx2.RemoteProtocolError("gone"), httpx2.ReadTimeout("late")
    assert to_provider_error(lost, "anthropic").code == "llm-connection-lost"
    assert to_provider_error(late, "anthropic").code == "llm-timeout"


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"model": None}, "llm-no-model", "such as claude-"),
        ({"credentials": {}}, "llm-no-credentials", "ANTHROPIC_API_KEY"),
        ({"connect": {"baseURL": "localhost:1"}}, "llm-bad-url", r"http\(s\)://"),
    ],
)
def test_what_is_missing_is_said_when_the_vendor_is_made(fields: dict[str, Any], code: str, message: str) -> None:
    with pytest.raises(ProviderError, match=message) as caught:
        make_llm(replace(SPEC, **fields), Shared())
    assert caught.value.code == code


def test_the_request_carries_our_key_and_headers_and_nothing_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-secret: of the operator")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "of the operator")

    async def test() -> None:
        server = AnthropicServer()
        async with server:
            shared = Shared()
            spec = replace(SPEC, connect={"baseURL": f"{server.url}/v1/", "headers": {"x-ours": "1"}})
            assert await collect(make_llm(spec, shared)) == ANSWER
            await shared.aclose()
        (headers,) = server.seen.headers
        assert headers["authorization"] == "Bearer sk-ant-0123456789"
        assert headers["x-ours"] == "1"
        assert "of the operator" not in headers.values()

    virtual_time.run(test())
