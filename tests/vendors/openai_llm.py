"""OpenAI's chat completions as they stand on the wire: chunks of server-sent events, ended by ``[DONE]``."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from providers.base import ToolCall
from tests.vendors.http import HttpVendor, Request
from tests.vendors.rows import Answer
from tests.vendors.script import Script


class OpenAiServer(HttpVendor):
    """Says ``answer``; every delta of text is one piece, and the first carries the chunk with the role."""

    vendor_params: ClassVar[Mapping[str, Any]] = {"x_made_up": {"camelCase": [1, None, "ü"]}}
    native: ClassVar[Any] = {
        "reasoning_content": "They ask for Oslo.",
        "reasoning_details": [{"type": "reasoning.encrypted", "data": "c2lnbmVk", "format": "openai-responses-v1"}],
    }

    def __init__(self, script: Script | None = None) -> None:
        super().__init__(script)
        self.answer = Answer()

    # What is answered ------------------------------------------------------------------------------------

    def pieces(self, request: Request) -> list[bytes]:
        usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
        finish = _chunk(finish="tool_calls" if self.answer.calls else "stop")
        opening = _chunk({"role": "assistant", "content": "", "refusal": None})
        said = [_chunk({"content": text}) for text in self.answer.text]
        called = [piece for index, call in enumerate(self.answer.calls) for piece in _called(index, call)]
        last = finish + _event({**_HEAD, "choices": [], "usage": usage}) + b"data: [DONE]\n\n"
        first, *rest = [*said, *called, last]
        return [opening + first, *rest]

    def error(self, status: int, message: str) -> tuple[Mapping[str, str], bytes]:
        kind, code = _ERRORS[status]
        error = {"message": message, "type": kind, "param": None, "code": code}
        return {"x-request-id": "req_1"}, json.dumps({"error": error}).encode()

    def stream_error(self) -> bytes:
        return _event(json.loads(self.error(500, "it broke")[1]))

    # What was asked --------------------------------------------------------------------------------------

    def conversation(self, body: dict[str, Any]) -> list[tuple[Any, ...]]:
        said: list[tuple[Any, ...]] = []
        for message in body["messages"]:
            if message["role"] == "tool":
                said.append(("result", message["tool_call_id"], message["content"]))
            elif message["content"]:
                said.append((message["role"], message["content"]))
            for call in message.get("tool_calls", ()):
                assert call["type"] == "function"
                function = call["function"]
                said.append(("call", call["id"], function["name"], json.loads(function["arguments"])))
        return said

    def tools(self, body: dict[str, Any]) -> list[tuple[str, str, Any]]:
        functions = [tool["function"] for tool in body.get("tools", ()) if tool["type"] == "function"]
        return [(each["name"], each["description"], each["parameters"]) for each in functions]

    def options(self, body: dict[str, Any]) -> dict[str, Any]:
        return {
            "model": body.get("model"),
            "maxTokens": body.get("max_completion_tokens") or body.get("max_tokens"),
            "temperature": body.get("temperature"),
            "reasoningEffort": body.get("reasoning_effort"),
            "vendorParams": {name: body[name] for name in self.vendor_params if name in body},
        }

    def natives(self, body: dict[str, Any]) -> list[Any]:
        kept = [{name: message[name] for name in self.native if name in message} for message in body["messages"]]
        return [each for each in kept if each]


_HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1790000000, "model": "gpt-4.1-mini"}
_ERRORS = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
}


def _event(data: object) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def _chunk(delta: Mapping[str, Any] | None = None, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
    return _event({**_HEAD, "choices": [choice], "usage": None})


def _called(index: int, call: ToolCall) -> list[bytes]:
    """The name comes first, then the arguments in small pieces; thoughts, at servers that have them, before both."""
    kept = call.native.content if call.native else {}
    thoughts = [_chunk({name: part}) for name, value in kept.items() for part in (value[:1], value[1:]) if part]
    function = {"name": call.name, "arguments": ""}
    head = _chunk({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]})
    parts = [call.arguments[at : at + 5] for at in range(0, len(call.arguments), 5)]
    pieces = [_chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]}) for part in parts]
    return [*thoughts, head, *pieces]
