"""Gemini's ``:streamGenerateContent`` as it stands on the wire: server-sent events with CRLF, ended by nothing."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from providers.base import ToolCall
from tests.vendors.http import HttpVendor, Request
from tests.vendors.rows import Answer
from tests.vendors.script import Script


class GoogleServer(HttpVendor):
    """Says ``answer``; every delta of text is one piece, every call comes whole."""

    garbage = b"data: {not json\r\n\r\n"
    vendor_params: ClassVar[Mapping[str, Any]] = {
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "xMadeUp": {"camelCase": [1, None, "ü"]},
    }
    native: ClassVar[Any] = {"thoughtSignature": "c2lnbmVk+/=="}

    def __init__(self, script: Script | None = None) -> None:
        super().__init__(script)
        self.answer = Answer()

    # What is answered ------------------------------------------------------------------------------------

    def pieces(self, request: Request) -> list[bytes]:
        path, _, query = request.path.partition("?")
        assert (request.method, query) == ("POST", "alt=sse")
        assert path.startswith("/v1/models/") and path.endswith(":streamGenerateContent")
        said = [chunk([{"text": text}]) for text in self.answer.text]
        called = [chunk([_call(call)]) for call in self.answer.calls]
        return [*said, *called, chunk([{"text": ""}], finishReason="STOP")]

    def error(self, status: int, message: str) -> tuple[Mapping[str, str], bytes]:
        error = {"code": status, "message": message, "status": _STATUSES[status]}
        return {"vary": "X-Origin"}, json.dumps({"error": error}, indent=2).encode()

    def stream_error(self) -> bytes:
        return event(json.loads(self.error(500, "it broke")[1]))

    # What was asked --------------------------------------------------------------------------------------

    def conversation(self, body: dict[str, Any]) -> list[tuple[Any, ...]]:
        said: list[tuple[Any, ...]] = []
        for part in body.get("systemInstruction", {}).get("parts", ()):
            said.append(("system", part["text"]))
        roles = [content["role"] for content in body["contents"]]
        assert roles == ["user", "model"] * (len(roles) // 2) + ["user"]
        for content in body["contents"]:
            for part in content["parts"]:
                match part:
                    case {"text": text}:
                        said.append(("user" if content["role"] == "user" else "assistant", text))
                    case {"functionCall": {"id": id_, "name": name, "args": dict(given)}}:
                        said.append(("call", id_, name, given))
                    case {"functionResponse": {"id": id_, "name": str(), "response": {"output": str(text)}}}:
                        said.append(("result", id_, text))
        return said

    def tools(self, body: dict[str, Any]) -> list[tuple[str, str, Any]]:
        declared = [each for tool in body.get("tools", ()) for each in tool["functionDeclarations"]]
        return [(each["name"], each["description"], each["parametersJsonSchema"]) for each in declared]

    def options(self, body: dict[str, Any]) -> dict[str, Any]:
        config = body["generationConfig"]
        everywhere = {**body, **config}
        return {
            "maxTokens": config.get("maxOutputTokens"),
            "temperature": config.get("temperature"),
            "reasoningEffort": {0: None, 1024: "low"}[config["thinkingConfig"]["thinkingBudget"]],
            "vendorParams": {name: everywhere[name] for name in self.vendor_params if name in everywhere},
        }

    def natives(self, body: dict[str, Any]) -> list[Any]:
        parts = [part for content in body["contents"] for part in content["parts"]]
        return [{name: part[name] for name in self.native} for part in parts if "thoughtSignature" in part]


_STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}
_USAGE = {"promptTokenCount": 9, "candidatesTokenCount": 5, "totalTokenCount": 14}


def event(data: object) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False)}\r\n\r\n".encode()


def chunk(parts: list[dict[str, Any]], **more: Any) -> bytes:
    candidate = {"content": {"parts": parts, "role": "model"}, **more, "index": 0}
    about = {"usageMetadata": _USAGE, "modelVersion": "gemini-2.5-flash", "responseId": "r1"}
    return event({"candidates": [candidate], **about})


def _call(call: ToolCall) -> dict[str, Any]:
    given = {"id": call.id, "name": call.name, "args": json.loads(call.arguments)}
    return {"functionCall": given, **(call.native.content if call.native else {})}
