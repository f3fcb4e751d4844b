"""What is Google's own: how the SDK is used, thoughts and signatures, what is withheld. The rest is in the contract."""

import asyncio
import contextvars
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from google.genai import errors

from providers.base import (
    LlmEvent,
    LlmSpec,
    Message,
    Native,
    Prompt,
    ProviderError,
    TextDelta,
    Tool,
    ToolCall,
    Usage,
    Working,
)
from providers.llm.google import GoogleLlm, make_llm, to_provider_error
from providers.llm.google_wire import UNSIGNED, Answer, StreamError, thinking, to_wire
from providers.llm.turns import BEGINS, NO_RESULT
from providers.registry import Shared
from tests import virtual_time
from tests.vendors.google import GoogleServer, chunk, event
from tests.vendors.http import Request
from tests.vendors.script import Fault, Script

SPEC = LlmSpec("google", "gemini-2.5-flash", credentials={"apiKey": "AIza-0123456789"})
HELLO = Prompt((Message("user", "hello"),))
WEATHER = Tool("get_weather", "The weather.", {"type": "object", "properties": {"city": {"type": ["string", "null"]}}})
OSLO = ToolCall("c1", "get_weather", '{"city": "Oslo"}')
SIGNED = replace(OSLO, native=Native("google", {"thoughtSignature": "c2ln"}))
ANSWER = [TextDelta("Hello"), TextDelta(" there,"), TextDelta(" café.")]


@asynccontextmanager
async def asking(server: GoogleServer, path: str = "", **fields: Any) -> AsyncIterator[GoogleLlm]:
    shared = Shared()
    try:
        async with server:
            spec = replace(SPEC, connect={"baseURL": server.url + path, **fields.pop("connect", {})}, **fields)
            yield make_llm(spec, shared)
    finally:
        await shared.aclose()


async def collect(llm: GoogleLlm) -> list[LlmEvent]:
    return [each async for each in llm.reply(HELLO) if not isinstance(each, Working)]


def wire(*messages: Message, tools: tuple[Tool, ...] = (), model: str = "gemini-2.5-flash", **options: Any) -> Any:
    return to_wire(Prompt(messages, tools), replace(SPEC, model=model, options=options))


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "parts": [{"text": each} if isinstance(each, str) else each for each in parts]}


def model(*parts: Any) -> dict[str, Any]:
    return {**user(*parts), "role": "model"}


def call(id_: str = "c1", given: Any = None, **beside: str) -> dict[str, Any]:
    return {"functionCall": {"id": id_, "name": "get_weather", "args": given or {"city": "Oslo"}}, **beside}


def result(text: str, id_: str = "c1") -> dict[str, Any]:
    return {"functionResponse": {"id": id_, "name": "get_weather", "response": {"output": text}}}


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
    assert wire(*messages, tools=(WEATHER, Tool("hangup", "", {})), maxTokens=99, temperature=0.0) == {
        "systemInstruction": {"parts": [{"text": "Be brief.\n\nIt is late."}]},
        "contents": [
            user(BEGINS),
            model("Acme, hello."),
            user("Oslo?"),
            model("Let me see.", call()),
            user(result(NO_RESULT)),
        ],
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "get_weather",
                        "description": "The weather.",
                        "parametersJsonSchema": WEATHER.parameters,
                    },
                    {"name": "hangup", "parametersJsonSchema": {"type": "object"}},
                ]
            }
        ],
        "generationConfig": {"maxOutputTokens": 99, "temperature": 0.0, "thinkingConfig": {"thinkingBudget": 0}},
    }


def test_arguments_that_are_no_object_are_shown_as_they_are() -> None:
    asked = (*HELLO.messages, Message("assistant", "", (replace(OSLO, arguments='{"ci'),)))
    assert wire(*asked, tools=(WEATHER,))["contents"][1] == model(call(given={"_raw": '{"ci'}))


@pytest.mark.parametrize(
    ("name", "calls", "beside"),
    [
        ("gemini-3.8-flash", (SIGNED, replace(OSLO, id="c2")), [{"thoughtSignature": "c2ln"}, {}]),
        ("gemini-3.8-flash", (OSLO, replace(OSLO, id="c2")), [{"thoughtSignature": UNSIGNED}, {}]),
        ("gemini-2.5-flash", (OSLO, replace(OSLO, id="c2")), [{}, {}]),
        ("gemini-2.5-flash", (SIGNED,), [{"thoughtSignature": "c2ln"}]),
        ("gemini-flash-latest", (OSLO,), [{"thoughtSignature": UNSIGNED}]),
        ("gemma-4-26b", (OSLO,), [{}]),
    ],
)
def test_the_first_call_of_a_turn_is_signed_where_the_model_insists_on_it(
    name: str, calls: tuple[ToolCall, ...], beside: list[dict[str, str]]
) -> None:
    asked = (*HELLO.messages, Message("assistant", "", calls))
    parts = [call(each.id, **its) for each, its in zip(calls, beside, strict=True)]
    assert wire(*asked, tools=(WEATHER,), model=name)["contents"][1] == model(*parts)


def test_a_message_of_googles_own_goes_out_unchanged() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    native = Native("google", {"role": "user", "parts": [image]})
    assert wire(Message("user", "Look.", native=native))["contents"] == [user(image)]


def test_vendor_params_are_keys_of_the_body_or_of_its_generation_config() -> None:
    params = {
        "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
        "thinkingConfig": {"thinkingBudget": 512},
        "top_p": 0.9,
        "generationConfig": {"seed": 7},
    }
    assert wire(*HELLO.messages, temperature=0.5, vendorParams=params) == {
        "contents": [user("hello")],
        "safetySettings": params["safety_settings"],
        "generationConfig": {
            "temperature": 0.5,
            "thinkingConfig": {"thinkingBudget": 512},
            "topP": 0.9,
            "seed": 7,
        },
    }


@pytest.mark.parametrize(
    ("name", "effort", "config"),
    [
        ("gemini-2.5-flash", None, {"thinkingBudget": 0}),
        ("gemini-2.5-flash-lite", "minimal", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", None, {"thinkingBudget": 128}),
        ("gemini-2.5-pro", "high", {"thinkingBudget": 24576}),
        ("gemini-3-flash-preview", None, {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.1-flash-lite", "minimal", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.1-pro-preview", None, {"thinkingLevel": "LOW"}),
        ("gemini-3.8-flash", "minimal", {"thinkingLevel": "LOW"}),
        ("models/gemini-3.8-flash", "medium", {"thinkingLevel": "MEDIUM"}),
        ("gemini-2.0-flash", "high", None),
        ("gemma-4-26b", None, None),
    ],
)
def test_each_model_is_told_how_much_to_think_as_it_wants_it(
    name: str, effort: str | None, config: dict[str, Any] | None
) -> None:
    assert thinking(name, effort) == config


# What is answered ---------------------------------------------------------------------------------------------


class Saying(GoogleServer):
    """Answers with these chunks."""

    def __init__(self, *chunks: bytes) -> None:
        super().__init__()
        self.chunks = list(chunks)

    def pieces(self, request: Request) -> list[bytes]:
        return self.chunks


def run(server: GoogleServer) -> list[LlmEvent]:
    async def test() -> list[LlmEvent]:
        async with asking(server) as llm:
            return await collect(llm)

    return virtual_time.run(test())


def failure(server: GoogleServer) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        run(server)
    return caught.value


def test_thoughts_are_not_told() -> None:
    thought = {"text": "Hm.", "thought": True, "thoughtSignature": "c2ln"}
    assert run(Saying(chunk([thought]), chunk([thought, {"text": "Hi."}], finishReason="STOP"))) == [TextDelta("Hi.")]


def test_calls_keep_their_signature_and_get_an_id_where_google_sends_none() -> None:
    events = Answer().data(chunk([call("a", thoughtSignature="c2ln"), {"functionCall": {"name": "hangup"}}])[6:])
    first, second = (each for each in events if isinstance(each, ToolCall))
    assert first == ToolCall("a", "get_weather", '{"city": "Oslo"}', Native("google", {"thoughtSignature": "c2ln"}))
    assert replace(second, id="") == ToolCall("", "hangup", "{}")
    assert len(second.id) > 20


def test_keys_with_underscores_are_understood() -> None:
    part = {"function_call": {"id": "a", "name": "hangup"}, "thought_signature": "c2ln"}
    answer = Answer()
    data = json.dumps({"candidates": [{"content": {"parts": [part]}, "finish_reason": "STOP"}]}).encode()
    assert answer.data(data) == [ToolCall("a", "hangup", "{}", Native("google", {"thoughtSignature": "c2ln"}))]
    assert answer.finish == "STOP"


def test_a_finish_reason_with_every_chunk_does_not_end_the_answer() -> None:
    assert run(Saying(*(chunk([{"text": text}], finishReason="STOP") for text in "abc"))) == [
        TextDelta(text) for text in "abc"
    ]


def test_a_connection_that_stays_open_behind_the_answer_is_not_waited_for() -> None:
    async def test() -> None:
        async with asking(GoogleServer(Script(Fault.HANG, after=99))) as llm:
            assert await collect(llm) == ANSWER
            assert asyncio.get_running_loop().time() == 1.0

    virtual_time.run(test())


@pytest.mark.parametrize(
    ("finish", "code", "retryable"),
    [
        ("SAFETY", "llm-content-filtered", False),
        ("PROHIBITED_CONTENT", "llm-content-filtered", False),
        ("MALFORMED_FUNCTION_CALL", "llm-bad-stream", True),
        ("UNEXPECTED_TOOL_CALL", "llm-bad-stream", True),
    ],
)
def test_an_answer_that_was_withheld_or_spoilt_is_an_error_unless_something_was_said(
    finish: str, code: str, retryable: bool
) -> None:
    failed = failure(Saying(chunk([], finishReason=finish)))
    assert (failed.code, failed.retryable) == (code, retryable)
    assert run(Saying(chunk([{"text": "I"}]), chunk([], finishReason=finish))) == [TextDelta("I")]


def test_a_prompt_that_was_blocked_is_an_error() -> None:
    failed = failure(Saying(event({"promptFeedback": {"blockReason": "OTHER"}})))
    assert (failed.code, failed.retryable) == ("llm-content-filtered", False)


def test_running_out_of_tokens_is_an_end_like_any_other() -> None:
    assert run(Saying(chunk([], finishReason="MAX_TOKENS"))) == []


def test_an_error_in_plain_json_behind_the_stream_is_an_error_of_the_stream() -> None:
    told = json.dumps({"error": {"code": 503, "message": "too busy", "status": "UNAVAILABLE"}}, indent=2).encode()
    failed = failure(Saying(chunk([{"text": "I"}]), told))
    assert (failed.code, failed.message) == ("llm-server-error", "error in the stream: too busy")


def test_a_page_in_place_of_a_stream_is_an_empty_one() -> None:
    assert failure(Saying(b"<html>Welcome to the hotel.</html>")).code == "llm-empty-stream"


# Errors and credentials ---------------------------------------------------------------------------------------


def api_error(status: int, word: str, *details: dict[str, Any]) -> errors.APIError:
    return errors.APIError(status, {"error": {"code": status, "message": "no", "status": word, "details": [*details]}})


@pytest.mark.parametrize(
    ("error", "code", "wait"),
    [
        (api_error(400, "INVALID_ARGUMENT"), "llm-bad-request", None),
        (api_error(400, "INVALID_ARGUMENT", {"reason": "API_KEY_INVALID"}), "llm-unauthorized", None),
        (api_error(403, "PERMISSION_DENIED"), "llm-unauthorized", None),
        (api_error(404, "NOT_FOUND"), "llm-not-found", None),
        (api_error(429, "RESOURCE_EXHAUSTED", {"retryDelay": "34.4s"}), "llm-rate-limited", 34.4),
        (api_error(503, "UNAVAILABLE"), "llm-server-error", None),
        (StreamError({"code": 429, "details": [{"retryDelay": "2s"}]}), "llm-rate-limited", 2.0),
        (StreamError("odd"), "llm-server-error", None),
        (httpx2.ReadTimeout("late"), "llm-timeout", None),
        (httpx2.RemoteProtocolError("gone"), "llm-connection-lost", None),
        (ValueError("odd"), "llm-bad-stream", None),
    ],
)
def test_errors_in_our_words(error: Exception, code: str, wait: float | None) -> None:
    told = to_provider_error(error, "google")
    assert (told.code, told.retry_after) == (code, wait)


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"model": None}, "llm-no-model", "such as gemini-"),
        ({"credentials": {}}, "llm-no-credentials", "GOOGLE_API_KEY"),
        ({"connect": {"baseURL": "localhost:1"}}, "llm-bad-url", r"http\(s\)://"),
    ],
)
def test_what_is_missing_is_said_when_the_vendor_is_made(fields: dict[str, Any], code: str, message: str) -> None:
    with pytest.raises(ProviderError, match=message) as caught:
        make_llm(replace(SPEC, **fields), Shared())
    assert caught.value.code == code


# The SDK ------------------------------------------------------------------------------------------------------


def test_the_request_is_the_sdks_and_takes_nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "of the operator")
    monkeypatch.setenv("GOOGLE_API_KEY", "of the operator")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:9")

    async def test() -> None:
        server = GoogleServer()
        async with asking(server, connect={"headers": {"x-ours": "1"}}) as llm:
            assert await collect(llm) == ANSWER
        (headers,) = server.seen.headers
        assert server.seen.paths == ["/v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse"]
        assert (headers["x-goog-api-key"], headers["x-ours"]) == ("AIza-0123456789", "1")
        assert headers["user-agent"].startswith("google-genai-sdk/")
        assert "x-server-timeout" not in headers  # it would end long answers
        assert server.seen.requests == [to_wire(HELLO, SPEC)]

    virtual_time.run(test())


def test_a_version_in_the_address_is_the_one_that_is_asked() -> None:
    class Beta(GoogleServer):
        def pieces(self, request: Request) -> list[bytes]:
            assert request.path.startswith("/gate/v1beta/models/gemini-2.5-flash:")
            return [chunk([{"text": "Hi."}], finishReason="STOP")]

    async def test() -> None:
        async with asking(Beta(), "/gate/v1beta/") as llm:
            assert await collect(llm) == [TextDelta("Hi.")]

    virtual_time.run(test())


def test_each_key_and_address_has_one_client() -> None:
    shared = Shared()
    other = replace(SPEC, credentials={"apiKey": "AIza-other"})
    clients = [make_llm(spec, shared)._client for spec in (SPEC, replace(SPEC, model="gemini-3.8-flash"), other)]
    assert clients[0] is clients[1] is not clients[2]


def test_two_replies_of_one_context_and_task_are_left_one_by_one() -> None:
    async def test() -> None:
        server = GoogleServer(Script(Fault.HANG, after=1))
        async with asking(server) as llm:
            context = contextvars.copy_context()
            both: list[Any] = [llm.reply(HELLO), llm.reply(HELLO)]
            first = [asyncio.create_task(anext(each), context=context) for each in both]
            assert await asyncio.gather(*first) == ANSWER[:1] * 2
            async with aclosing(both[0]), aclosing(both[1]):
                server.script.fault = None
                third = llm.reply(HELLO)
                assert [await anext(third) for _ in ANSWER] == ANSWER
                await both[0].aclose()
                await server.seen.left.wait()
                server.seen.left.clear()
                assert [type(event) async for event in third] == [Usage]
                for _ in range(20):
                    await asyncio.sleep(0)
                assert not server.seen.left.is_set()  # the other is still listened to
            await server.seen.left.wait()

    virtual_time.run(test())
