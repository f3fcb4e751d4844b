"""OpenAI's chat completions, and every server that speaks them: messages and tools out, words and tool calls in."""

import asyncio
import contextlib
import copy
import json
import logging
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import httpx2
import openai

from providers.base import LlmEvent, LlmSpec, Message, Prompt, ProviderError, TextDelta, Tool, ToolCall, Working
from providers.failures import failure, kind_of, retry_after, safe_cause
from providers.llm.openai_native import OF_A_CALL, PROTOCOL, Thoughts, on_the_wire
from providers.llm.sse import DataLines, json_object
from providers.llm.usage import of_openai
from providers.openai_server import OPENAI_URL, OpenAiServer, Root, is_openai, root
from providers.pools import timeout_of
from providers.registry import Shared

log = logging.getLogger("agentd.llm.openai")

DEFAULT_MODEL = "gpt-4.1-mini"
DRAIN_S = 0.25  # how long the end of the body may take after [DONE]; only a body read to its end frees the connection


# To the wire ----------------------------------------------------------------------------------------------


def to_wire(prompt: Prompt, spec: LlmSpec) -> dict[str, Any]:
    """The JSON body of ``POST /chat/completions`` for this prompt.

    ``maxTokens`` becomes ``max_completion_tokens`` at OpenAI and Azure, whose reasoning models refuse ``max_tokens``;
    elsewhere ``max_tokens``, because older Ollama, LM Studio and llama.cpp silently ignore the newer name. Who knows
    better says so in ``vendorParams``, which goes out as it is and wins. So does who wants tokens counted elsewhere
    (``stream_options: {include_usage: true}``): some servers refuse what they do not know.
    """
    options, is_theirs = spec.options, is_openai(base_url(spec))
    limit = "max_completion_tokens" if is_theirs else "max_tokens"
    optional = {
        limit: options.get("maxTokens"),
        "temperature": options.get("temperature"),
        "reasoning_effort": options.get("reasoningEffort"),
        "tools": [_tool(tool) for tool in prompt.tools] or None,
        "stream_options": {"include_usage": True} if is_theirs else None,
    }
    return {
        "model": model_of(spec),
        "messages": [_message(message) for message in prompt.messages],
        "stream": True,
        **{name: value for name, value in optional.items() if value is not None},
        **(options.get("vendorParams") or {}),
    }


def base_url(spec: LlmSpec) -> str:
    """Where the requests go: the agent's ``connectOptions.baseURL``, the server's credentials, or OpenAI."""
    return str(spec.connect.get("baseURL") or spec.credentials.get("baseURL") or OPENAI_URL).rstrip("/")


def model_of(spec: LlmSpec) -> str:
    if spec.model:
        return spec.model
    if not is_openai(base_url(spec)):
        raise ProviderError(spec.vendor, "llm-no-model", f"expected llm.model for {base_url(spec)}, got none")
    return DEFAULT_MODEL


def _message(message: Message) -> dict[str, Any]:
    if message.native is not None and message.native.protocol == PROTOCOL:
        return dict(message.native.content)
    wire: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        calls, beside = on_the_wire(message.tool_calls)
        wire |= {"content": message.content or None, "tool_calls": calls, **beside}
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _tool(tool: Tool) -> dict[str, Any]:
    parameters = dict(tool.parameters) or {"type": "object", "properties": {}}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


# From the wire --------------------------------------------------------------------------------------------


class ToolCalls:
    """Tool calls put together from their pieces.

    Pieces belong together by ``index``. Some servers send none: then the position in the chunk counts. Some send every
    parallel call whole and with index 0: a new id, or a second name where there is neither index nor id, opens a new
    call.
    """

    def __init__(self) -> None:
        self._open: dict[int, dict[str, Any]] = {}
        self._calls: list[dict[str, Any]] = []

    def add(self, piece: Mapping[str, Any], position: int) -> None:
        function = _mapping(piece.get("function"))
        given, id_, name = piece.get("index"), piece.get("id") or "", function.get("name") or ""
        index = given if isinstance(given, int) else position
        call = self._open.get(index)
        is_second = call is not None and given is None and not id_ and bool(name and call["name"])
        if call is None or (id_ and call["id"] and id_ != call["id"]) or is_second:
            call = self._open[index] = {"id": "", "name": "", "arguments": ""}
            self._calls.append(call)
        call["id"] = call["id"] or str(id_)
        call["name"] = call["name"] or str(name)
        call[OF_A_CALL] = piece.get(OF_A_CALL) or call.get(OF_A_CALL)
        arguments = function.get("arguments") or ""
        call["arguments"] += arguments if isinstance(arguments, str) else json.dumps(arguments)

    def take(self, thoughts: Thoughts) -> list[ToolCall]:
        """The calls so far, whole. A call without a name is dropped: nobody could answer it, and OpenAI refuses it in
        the history of the next request.
        """
        named = [call for call in self._calls if call["name"]]
        self._open, self._calls = {}, []
        return [
            ToolCall(call["id"] or f"call_{uuid.uuid4().hex[:24]}", call["name"], call["arguments"] or "{}", native)
            for call, native in zip(named, thoughts.with_calls(named), strict=True)
        ]


class Answer:
    """One streamed answer: chunks in, events out. ``finish`` is the vendor's finish_reason, ``None`` until it came."""

    def __init__(self) -> None:
        self.chunks = 0
        self.finish: str | None = None
        self.is_done = False  # [DONE] came
        self.usage: Mapping[str, Any] = {}
        self._calls = ToolCalls()
        self._thoughts = Thoughts()

    def data(self, line: bytes) -> list[LlmEvent]:
        """One data line. Raises :class:`StreamError` on ``{"error": …}``; what is no JSON object is skipped."""
        if line == b"[DONE]":
            self.is_done = True
            return list(self._calls.take(self._thoughts))
        if (chunk := json_object(line)) is None:
            log.warning("llm sent a line that is no JSON object, skipped", extra={"bytes": len(line)})
            return []
        if chunk.get("error"):
            raise StreamError(chunk["error"])
        self.chunks += 1
        self.usage = _mapping(chunk.get("usage")) or self.usage
        choices = chunk.get("choices")
        return self._choice(_mapping(choices[0])) if isinstance(choices, list) and choices else []

    def _choice(self, choice: Mapping[str, Any]) -> list[LlmEvent]:
        delta, is_working = _mapping(choice.get("delta")), False
        if "reasoning_content" in delta or "reasoning_details" in delta:
            self._thoughts.add(delta)
            is_working = True
        text = delta.get("content") or delta.get("refusal")
        events: list[LlmEvent] = [TextDelta(text)] if isinstance(text, str) and text else []
        for position, piece in enumerate(delta.get("tool_calls") or []):
            self._calls.add(_mapping(piece), position)
            is_working = True
        if choice.get("finish_reason"):
            self.finish = str(choice["finish_reason"])
            events += self._calls.take(self._thoughts)
        return events or ([Working()] if is_working else [])

    def is_whole(self) -> bool:
        return self.is_done or self.finish is not None


class StreamError(Exception):
    """The vendor reported an error inside a stream that had begun with HTTP 200."""

    def __init__(self, error: Any) -> None:
        fields = _mapping(error)
        self.status = fields.get("code") if isinstance(fields.get("code"), int) else None
        self.code = str(fields.get("code") or fields.get("type") or "")
        super().__init__(str(fields.get("message") or (error if isinstance(error, str) else "no message")))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


# Errors ---------------------------------------------------------------------------------------------------


def to_provider_error(exc: Exception, vendor: str, secrets: Iterable[str] = ()) -> ProviderError:
    """Any failure of a request or of its stream, in our words."""
    wait: float | None = None
    match exc:
        case openai.APIStatusError():
            kind, wait = kind_of(exc.status_code, str(exc.code or "")), retry_after(exc.response.headers)
            body = _mapping(exc.body)
            message = f"HTTP {exc.status_code}: {body.get('message') or exc.response.reason_phrase}"
        case StreamError():
            kind, message = kind_of(exc.status, exc.code), f"error in the stream: {exc}"
        case openai.APITimeoutError() | httpx2.TimeoutException():
            kind, message = "timeout", "expected an answer, got none in time"
        case openai.APIConnectionError() | httpx2.HTTPError() | httpx2.StreamError():
            kind, message = "connection-lost", f"connection lost ({type(exc.__cause__ or exc).__name__})"
        case _:
            kind, message = "bad-stream", str(exc)
    return failure("llm", vendor, kind, message, secrets=secrets, retry_after=wait)


# The vendor -----------------------------------------------------------------------------------------------


class OpenAiLlm:
    """One model at one server. Holds no state between replies, so a call may run several at once."""

    def __init__(self, spec: LlmSpec, root: Root) -> None:
        url, key = base_url(spec), str(spec.credentials.get("apiKey") or "").strip()
        headers = {str(name): str(value) for name, value in (spec.connect.get("headers") or {}).items()}
        if not key and not headers and is_openai(url):
            raise ProviderError(
                spec.vendor,
                "llm-no-credentials",
                f"expected credentials.{spec.vendor}.apiKey (often ${{OPENAI_API_KEY}}), got none; "
                "a server that needs no key is named by connectOptions.baseURL",
            )
        timeout = timeout_of(spec.connect)
        self._server = OpenAiServer(root, "llm", spec.vendor, url, key, headers=headers, timeout=timeout)
        self.name = f"{spec.vendor}:{model_of(spec)}"
        self._spec = spec
        self._secrets = (key, *(value for value in headers.values() if len(value) >= 8))

    async def reply(self, prompt: Prompt) -> AsyncIterator[LlmEvent]:
        """Stream one answer. Text comes as it arrives, tool calls whole, when the vendor says that it has finished.

        Raises :class:`ProviderError`: before the first event for what the vendor refuses; ``llm-connection-lost`` when
        the stream ends with neither finish_reason nor [DONE], ``llm-empty-stream`` when it holds no chunk at all,
        ``llm-content-filtered`` when the vendor withheld all of it. An answer that is whole and empty yields nothing.
        """
        answer, lines, said, kind = Answer(), DataLines(), False, ""
        try:
            async with contextlib.AsyncExitStack() as stack:
                response = await self._server.post(stack, "/chat/completions", to_wire(prompt, self._spec))
                kind = response.headers.get("content-type", "no content type")
                body = response.aiter_bytes()
                async for data in body:
                    for line in lines.feed(data):
                        for event in answer.data(line):
                            said = said or not isinstance(event, Working)
                            yield event
                    if answer.is_done:
                        await _drain(body)
                        break
                for line in lines.end():
                    for event in answer.data(line):
                        said = said or not isinstance(event, Working)
                        yield event
        except (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, StreamError, ValueError) as exc:
            if not answer.is_whole() or isinstance(exc, StreamError):
                raise self._translate(exc) from safe_cause(exc, self._secrets)
        if not answer.is_whole():
            raise self._cut(answer, kind)
        if answer.finish == "content_filter" and not said:
            raise ProviderError(self._spec.vendor, "llm-content-filtered", "the vendor withheld its answer")
        log.debug("llm answered", extra={"llm": self.name, "finish": answer.finish, "usage": dict(answer.usage)})
        for usage in of_openai(answer.usage):
            yield usage

    async def warm(self) -> None:
        """Pay for the first call of a process (schemas, platform probe: 83 ms) before a caller waits for it.

        Nothing leaves the process. Await it once, when the server starts.
        """
        warm = copy.copy(self)
        warm._server = self._server.canned(_canned)
        async with contextlib.aclosing(warm._server):
            async for _ in warm.reply(Prompt((Message("user", "hello"),), (Tool("t", "t", {}),))):
                pass

    def ready(self) -> None:
        """Have an open connection to the server."""
        self._server.ready()

    def _cut(self, answer: Answer, content_type: str) -> ProviderError:
        if not answer.chunks:
            message = f"expected a stream of chunks, got an empty one ({content_type})"
            return ProviderError(self._spec.vendor, "llm-empty-stream", message, retryable=True)
        message = f"expected finish_reason or [DONE], got the end of the stream after {answer.chunks} chunks"
        return ProviderError(self._spec.vendor, "llm-connection-lost", message, retryable=True)

    def _translate(self, exc: Exception) -> ProviderError:
        return to_provider_error(exc, self._spec.vendor, self._secrets)


async def _drain(body: AsyncIterator[bytes]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in body:
                pass


def _canned(request: httpx2.Request) -> httpx2.Response:
    chunk = {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}
    return httpx2.Response(200, text=f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n")


TAKES_LOOKUP = True  # see providers.base.Lookup


def make_llm(spec: LlmSpec, shared: Shared) -> OpenAiLlm:
    """Raises :class:`ProviderError` when the key, the model or a usable URL is missing."""
    return OpenAiLlm(spec, root(shared, spec.lookup))
