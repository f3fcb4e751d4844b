"""Anthropic's messages as they stand on the wire: named server-sent events, with pings between them."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from providers.base import ToolCall
from tests.vendors.http import HttpVendor, Request
from tests.vendors.rows import Answer
from tests.vendors.script import Script


class AnthropicServer(HttpVendor):
    """Says ``answer``; every delta of text is one piece."""

    garbage = b"event: content_block_delta\ndata: {not json\n\n"
    vendor_params: ClassVar[Mapping[str, Any]] = {
        "cache_control": {"type": "ephemeral"},
        "x_made_up": {"camelCase": [1, None, "ü"]},
    }
    native: ClassVar[Any] = [
        {"type": "thinking", "thinking": "They ask for Oslo.", "signature": "c2lnbmVk+/=="},
        {"type": "redacted_thinking", "data": "c2VjcmV0"},
    ]

    def __init__(self, script: Script | None = None) -> None:
        super().__init__(script)
        self.answer = Answer()

    # What is answered ------------------------------------------------------------------------------------

    def pieces(self, request: Request) -> list[bytes]:
        assert (request.method, request.path) == ("POST", "/v1/messages")
        opening = event("message_start", message=_MESSAGE) + event("ping")
        said = [_delta(0, {"type": "text_delta", "text": text}) for text in self.answer.text]
        if said:
            opening += event("content_block_start", index=0, content_block={"type": "text", "text": ""})
            said.append(event("content_block_stop", index=0) + event("ping"))
        called: list[bytes] = []
        for at, call in enumerate(self.answer.calls):
            called += _called(1 + 3 * at, call)
        stop = {"stop_reason": "tool_use" if self.answer.calls else "end_turn", "stop_sequence": None}
        last = event("message_delta", delta=stop, usage={"output_tokens": 5}) + event("message_stop")
        first, *rest = [*said, *called, last]
        return [opening + first, *rest]

    def error(self, status: int, message: str) -> tuple[Mapping[str, str], bytes]:
        error = {"type": "error", "error": {"type": _ERRORS[status], "message": message}, "request_id": "req_1"}
        return {"request-id": "req_1"}, json.dumps(error).encode()

    def stream_error(self) -> bytes:
        return event("error", error={"type": "api_error", "message": "it broke"})

    # What was asked --------------------------------------------------------------------------------------

    def conversation(self, body: dict[str, Any]) -> list[tuple[Any, ...]]:
        said: list[tuple[Any, ...]] = [("system", body["system"])] if "system" in body else []
        roles = [message["role"] for message in body["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        for message in body["messages"]:
            for block in message["content"]:
                match block:
                    case {"type": "text", "text": text}:
                        said.append((message["role"], text))
                    case {"type": "tool_use", "id": id_, "name": name, "input": dict(given)}:
                        said.append(("call", id_, name, given))
                    case {"type": "tool_result", "tool_use_id": id_, "content": str(text)}:
                        said.append(("result", id_, text))
        return said

    def tools(self, body: dict[str, Any]) -> list[tuple[str, str, Any]]:
        return [(each["name"], each["description"], each["input_schema"]) for each in body.get("tools", ())]

    def options(self, body: dict[str, Any]) -> dict[str, Any]:
        return {
            "maxTokens": body["max_tokens"],
            "temperature": body.get("temperature"),
            "reasoningEffort": body.get("output_config", {}).get("effort"),
            "vendorParams": {name: body[name] for name in self.vendor_params if name in body},
        }

    def natives(self, body: dict[str, Any]) -> list[Any]:
        kept = [[block for block in each["content"] if "thinking" in block["type"]] for each in body["messages"]]
        return [each for each in kept if each]


_MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-6",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 9, "output_tokens": 1},
}
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    429: "rate_limit_error",
    500: "api_error",
}


def event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields}, ensure_ascii=False, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()


def _delta(index: int, delta: object) -> bytes:
    return event("content_block_delta", index=index, delta=delta)


def _called(index: int, call: ToolCall) -> list[bytes]:
    """Up to three blocks: thoughts in the clear, thoughts in secret, and the call itself in small pieces."""
    pieces: list[bytes] = []
    for at, block in enumerate(call.native.content if call.native else (), index):
        if block["type"] == "redacted_thinking":
            pieces.append(event("content_block_start", index=at, content_block=block))
        else:
            started = {"type": "thinking", "thinking": "", "signature": ""}
            text, signature = block["thinking"], block["signature"]
            pieces += [
                event("content_block_start", index=at, content_block=started),
                _delta(at, {"type": "thinking_delta", "thinking": text[:3]}),
                _delta(at, {"type": "thinking_delta", "thinking": text[3:]}),
                _delta(at, {"type": "signature_delta", "signature": signature}),
            ]
        pieces.append(event("content_block_stop", index=at))
    opened: dict[str, Any] = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
    arguments = "" if call.arguments == "{}" else call.arguments
    parts = ["", *(arguments[at : at + 5] for at in range(0, len(arguments), 5))]
    pieces.append(event("content_block_start", index=index + 2, content_block=opened))
    pieces += [_delta(index + 2, {"type": "input_json_delta", "partial_json": part}) for part in parts]
    return [*pieces, event("content_block_stop", index=index + 2)]
