"""What is Bedrock's own: its refusals of a conversation, its credentials, its threads. The rest is in the contract."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions as boto

from providers.base import LlmEvent, LlmSpec, Message, Native, Prompt, ProviderError, TextDelta, Tool, ToolCall, Working
from providers.llm import bedrock
from providers.llm.bedrock import BedrockLlm, Root, make_llm
from providers.llm.bedrock_stream import to_provider_error
from providers.llm.bedrock_wire import Answer, conversation, effort_fields, to_wire
from providers.llm.turns import BEGINS, GOES_ON, NO_RESULT
from providers.registry import Shared
from tests.vendors import tls
from tests.vendors.bedrock import BedrockServer, event
from tests.vendors.http import Request
from tests.vendors.script import Fault, Script

KEYS = {"region": "eu-west-1", "accessKeyId": "AKIAEXAMPLE", "secretAccessKey": "wJalr-example"}
SPEC = LlmSpec("aws", "us.amazon.nova-lite-v1:0", credentials=KEYS)
HELLO = Prompt((Message("user", "hello"),))
WEATHER = Tool("get_weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
OSLO = ToolCall("c1", "get_weather", '{"city": "Oslo"}')
ANSWER = [TextDelta("Hello"), TextDelta(" there,"), TextDelta(" café.")]


def run(test: Coroutine[Any, Any, None]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(10):
            await test

    asyncio.run(guarded())


@asynccontextmanager
async def asking(server: BedrockServer, spec: LlmSpec = SPEC) -> AsyncIterator[BedrockLlm]:
    shared = Shared()
    try:
        async with server:
            yield make_llm(replace(spec, connect={"baseURL": server.url}), shared)
    finally:
        await shared.aclose()


async def collect(llm: BedrockLlm) -> list[LlmEvent]:
    return [each async for each in llm.reply(HELLO) if not isinstance(each, Working)]


def user(*texts: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"text": text} for text in texts]}


def assistant(*texts: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"text": text} for text in texts]}


def told(*messages: Message, tools: tuple[Tool, ...] = ()) -> list[dict[str, Any]]:
    return conversation(Prompt(messages, tools))


# What is asked ------------------------------------------------------------------------------------------------


def test_messages_of_one_role_in_a_row_are_one() -> None:
    two = (Message("user", "Hi."), Message("system", "Be brief."), Message("user", "Are you there?"))
    assert told(*two) == [user("Hi.", "Are you there?")]


def test_a_call_that_begins_with_a_greeting_begins_with_a_user_all_the_same() -> None:
    greeting = Message("assistant", "Acme, good morning.")
    assert told(greeting, Message("user", "Hi.")) == [user(BEGINS), assistant("Acme, good morning."), user("Hi.")]


def test_a_conversation_ends_with_a_user() -> None:
    assert told() == [user(BEGINS)]
    assert told(Message("assistant", "Hello?")) == [user(BEGINS), assistant("Hello?"), user(GOES_ON)]


def test_blank_texts_are_not_sent() -> None:
    assert told(Message("user", " "), Message("user", "Hi."), Message("assistant", "")) == [user("Hi.")]
    assert "system" not in to_wire(Prompt((Message("system", " \n"), *HELLO.messages)), SPEC)


def test_the_results_of_a_turn_stand_in_one_message_before_any_words() -> None:
    messages = told(
        Message("user", "Oslo?"),
        Message("assistant", "", (OSLO, ToolCall("c2", "get_weather", "{}"))),
        Message("tool", "rain", tool_call_id="c1"),
        Message("user", "Quick!"),
        Message("tool", "", tool_call_id="c2"),
        tools=(WEATHER,),
    )
    results = [("c1", "rain"), ("c2", NO_RESULT)]
    blocks = [{"toolUseId": id_, "content": [{"text": text}], "status": "success"} for id_, text in results]
    assert messages[2] == {"role": "user", "content": [*({"toolResult": each} for each in blocks), {"text": "Quick!"}]}


def test_without_tools_the_calls_of_the_history_are_told_in_words() -> None:
    messages = (
        *HELLO.messages,
        Message("assistant", "Let me see.", (OSLO,)),
        Message("tool", "rain", tool_call_id="c1"),
    )
    assert told(*messages) == [
        user("hello"),
        assistant("Let me see.", '(I called get_weather with {"city": "Oslo"}.)'),
        user("(get_weather returned: rain)"),
    ]


def test_arguments_that_are_no_object_are_shown_as_they_are() -> None:
    blocks = told(*HELLO.messages, Message("assistant", "", (replace(OSLO, arguments='{"ci'),)), tools=(WEATHER,))[1]
    assert blocks["content"][0]["toolUse"]["input"] == {"_raw": '{"ci'}


def test_a_message_of_bedrocks_own_goes_out_unchanged() -> None:
    content = [{"text": "Look."}, {"cachePoint": {"type": "default"}}]
    native = Native("bedrock", {"role": "user", "content": content})
    assert told(Message("user", "Look.", native=native)) == [{"role": "user", "content": content}]


def test_vendor_params_are_merged_into_what_is_there() -> None:
    params = {"inferenceConfig": {"topP": 0.9}, "performanceConfig": {"latency": "optimized"}}
    wire = to_wire(HELLO, replace(SPEC, options={"maxTokens": 99, "vendorParams": params}))
    assert wire["inferenceConfig"] == {"maxTokens": 99, "topP": 0.9}
    assert wire["performanceConfig"] == {"latency": "optimized"}


@pytest.mark.parametrize(
    ("model", "effort", "fields"),
    [
        ("openai.gpt-oss-120b-1:0", "low", {"reasoning_effort": "low"}),
        (
            "eu.amazon.nova-2-lite-v1:0",
            "minimal",
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}},
        ),
        ("us.amazon.nova-2-lite-v1:0", "none", {"reasoningConfig": {"type": "disabled"}}),
        (
            "global.anthropic.claude-opus-4-6-v1",
            "high",
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        ),
        ("anthropic.claude-sonnet-5", "none", {"thinking": {"type": "disabled"}}),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "low", {}),
        ("anthropic.claude-sonnet-4-20250514-v1:0", "low", {}),
        ("us.amazon.nova-lite-v1:0", "low", {}),
        ("us.amazon.nova-2-lite-v1:0", None, {}),
    ],
)
def test_the_effort_is_told_as_the_models_family_wants_it(
    model: str, effort: str | None, fields: dict[str, Any]
) -> None:
    assert effort_fields(model, effort) == fields


# What is answered ---------------------------------------------------------------------------------------------


def test_thoughts_stay_with_the_first_call_after_them() -> None:
    answer = Answer()
    delta = {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Hm."}}}
    assert answer.event({"contentBlockDelta": delta}) == [Working()]
    for at in (1, 2):
        use = {"toolUseId": f"c{at}", "name": "hangup"}
        assert answer.event({"contentBlockStart": {"contentBlockIndex": at, "start": {"toolUse": use}}}) == []
    thought = Native("bedrock", [{"reasoningContent": {"reasoningText": {"text": "Hm."}}}])
    stops = [answer.event({"contentBlockStop": {"contentBlockIndex": at}}) for at in (1, 2)]
    assert stops == [[ToolCall("c1", "hangup", "{}", thought)], [ToolCall("c2", "hangup", "{}")]]


class Ending(BedrockServer):
    """Says nothing, and stops for this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    def pieces(self, request: Request) -> list[bytes]:
        return [event("messageStop", {"stopReason": self.reason}) + event("metadata", {"usage": {}})]


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("content_filtered", "llm-content-filtered"),
        ("guardrail_intervened", "llm-content-filtered"),
        ("malformed_tool_use", "llm-bad-stream"),
    ],
)
def test_an_answer_that_was_withheld_or_spoilt_is_an_error(reason: str, code: str) -> None:
    async def test() -> None:
        async with asking(Ending(reason)) as llm:
            with pytest.raises(ProviderError) as caught:
                await collect(llm)
            assert caught.value.code == code

    run(test())


# Errors -------------------------------------------------------------------------------------------------------


def client_error(code: str, status: int, kind: Callable[..., Exception] = boto.ClientError) -> Exception:
    response = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return kind(response, "ConverseStream")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (client_error("AccessDeniedException", 403), "llm-unauthorized"),
        (client_error("ExpiredTokenException", 403), "llm-unauthorized"),
        (client_error("ValidationException", 400), "llm-bad-request"),
        (client_error("ServiceQuotaExceededException", 400), "llm-quota-exceeded"),
        (client_error("ModelTimeoutException", 408), "llm-timeout"),
        (client_error("ModelErrorException", 424), "llm-server-error"),
        (client_error("ModelNotReadyException", 429), "llm-rate-limited"),
        (client_error("throttlingException", 400, boto.EventStreamError), "llm-rate-limited"),
        (client_error("modelStreamErrorException", 400, boto.EventStreamError), "llm-server-error"),
        (client_error("validationException", 400, boto.EventStreamError), "llm-bad-request"),
        (boto.NoCredentialsError(), "llm-no-credentials"),
        (boto.ProfileNotFound(profile="x"), "llm-no-credentials"),
        (boto.UnauthorizedSSOTokenError(), "llm-unauthorized"),
        (boto.ParamValidationError(report="Unknown parameter"), "llm-bad-request"),
        (boto.ConnectTimeoutError(endpoint_url="https://x"), "llm-timeout"),
        (boto.EndpointConnectionError(endpoint_url="https://x"), "llm-connection-lost"),
        (KeyError("toolUseId"), "llm-bad-stream"),
    ],
)
def test_botos_errors_in_our_words(error: Exception, code: str) -> None:
    assert to_provider_error(error, "aws").code == code


@pytest.mark.parametrize(
    ("spec", "code", "message"),
    [
        (replace(SPEC, model=None), "llm-no-model", "expected llm.model"),
        (replace(SPEC, credentials={}), "llm-no-region", "credentials.aws.region"),
        (replace(SPEC, credentials={"awsRegion": "x", "accessKeyId": "a"}), "llm-no-credentials", "secretAccessKey"),
        (replace(SPEC, credentials={**KEYS, "sessionToken": "é"}), "llm-bad-credentials", "plain ASCII"),
        (replace(SPEC, connect={"baseURL": "localhost:1"}), "llm-bad-url", r"http\(s\)://"),
    ],
)
def test_what_is_missing_is_said_when_the_vendor_is_made(
    spec: LlmSpec, code: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(ProviderError, match=message) as caught:
        make_llm(spec, Shared())
    assert caught.value.code == code


def test_without_credentials_boto3_looks_in_its_own_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCESS_KEY_ID": "AKIAENV", "SECRET_ACCESS_KEY": "s", "REGION": "us-west-2"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)

    async def test() -> None:
        server = BedrockServer()
        async with asking(server, replace(SPEC, credentials={})) as llm:
            assert await collect(llm) == ANSWER
            (headers,) = server.seen.headers
            assert "Credential=AKIAENV/" in headers["authorization"] and "/us-west-2/" in headers["authorization"]

    run(test())


# Threads and connections --------------------------------------------------------------------------------------


def test_each_account_has_one_client() -> None:
    async def test() -> None:
        server = BedrockServer()
        async with asking(server) as llm:
            root, account = llm._root, llm._account
            other = replace(account, access_key="AKIAOTHER")
            clients = [await asyncio.to_thread(root.client, each) for each in (account, account, other)]
            assert clients[0] is clients[1] is not clients[2]

    run(test())


def test_a_reply_that_waits_for_a_thread_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bedrock, "THREADS", 1)

    async def test() -> None:
        server = BedrockServer(Script(Fault.HANG, times=1))
        async with asking(server) as llm:
            hanging = asyncio.create_task(collect(llm))
            await server.seen.asked.wait()
            waiting = asyncio.create_task(collect(llm))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            hanging.cancel()
            await server.seen.left.wait()
            assert await collect(llm) == ANSWER
            assert len(server.seen.requests) == 2

    run(test())


def test_closing_the_server_ends_live_streams() -> None:
    async def test() -> None:
        server, shared = BedrockServer(Script(Fault.HANG, after=1)), Shared()
        async with server:
            events = make_llm(replace(SPEC, connect={"baseURL": server.url}), shared).reply(HELLO)
            assert await anext(events) == ANSWER[0]
            await shared.aclose()
            await server.seen.left.wait()
            with pytest.raises(ProviderError) as caught:
                await anext(events)
            assert caught.value.code == "llm-connection-lost"

    run(test())


def test_over_tls_a_connection_dialled_ahead_is_used_and_a_cancelled_one_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = tls.server_side(tmp_path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))

    async def test() -> None:
        server, shared = BedrockServer(Script(Fault.HANG, after=3)), Shared()
        listening = await asyncio.start_server(server._serve, "127.0.0.1", 0, ssl=context)
        url = f"https://localhost:{listening.sockets[0].getsockname()[1]}"
        llm = make_llm(replace(SPEC, connect={"baseURL": url}), shared)
        llm.ready()
        while not server.seen.connections:  # noqa: ASYNC110  # there is no event for it
            await asyncio.sleep(0)
        events = llm.reply(HELLO)
        assert [await anext(events) for _ in range(3)] == ANSWER
        assert server.seen.connections == 1
        assert isinstance(events, AsyncIterator)
        await events.aclose()  # type: ignore[attr-defined]
        await server.seen.left.wait()
        await shared.aclose()
        listening.close()

    run(test())


def test_the_wire_is_what_boto3_makes_of_it() -> None:
    async def test() -> None:
        server = BedrockServer()
        async with asking(server, replace(SPEC, options={"maxTokens": 9})) as llm:
            assert isinstance(llm._root, Root)
            await collect(llm)
            assert server.seen.paths == ["/model/us.amazon.nova-lite-v1%3A0/converse-stream"]
            assert json.dumps(server.seen.requests[0], sort_keys=True) == json.dumps(
                {"inferenceConfig": {"maxTokens": 9}, "messages": [user("hello")]}, sort_keys=True
            )

    run(test())
