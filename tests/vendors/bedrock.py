"""AWS Bedrock's ConverseStream as it stands on the wire: binary frames of an event stream, in HTTP chunks."""

import base64
import binascii
import json
import struct
from collections.abc import Mapping
from typing import Any, ClassVar

from providers.base import ToolCall
from tests.vendors.http import HttpVendor, Request
from tests.vendors.rows import Answer
from tests.vendors.script import Script


class BedrockServer(HttpVendor):
    """Says ``answer``; every delta of text is one piece."""

    content_type = "application/vnd.amazon.eventstream"
    vendor_params: ClassVar[Mapping[str, Any]] = {
        "additionalModelRequestFields": {"topK": 5, "nested": {"camelCase": [1, "ü"]}},
        "guardrailConfig": {"guardrailIdentifier": "gr-1", "guardrailVersion": "DRAFT"},
    }
    native: ClassVar[Any] = [
        {"reasoningContent": {"reasoningText": {"text": "They ask for Oslo.", "signature": "c2lnbmVk"}}},
        {"reasoningContent": {"redactedContent": base64.b64encode(b"\x00\xff secret").decode()}},
    ]

    def __init__(self, script: Script | None = None) -> None:
        super().__init__(script)
        self.answer = Answer()

    # What is answered ------------------------------------------------------------------------------------

    def pieces(self, request: Request) -> list[bytes]:
        assert request.path.startswith("/model/") and request.path.endswith("/converse-stream")
        opening = event("messageStart", {"role": "assistant"})
        said = [_delta(0, {"text": text}) for text in self.answer.text]
        if said:
            said.append(event("contentBlockStop", {"contentBlockIndex": 0}))
        called: list[bytes] = []
        at = 1
        for call in self.answer.calls:
            called += _called(at, call)
            at += 3
        stop = event("messageStop", {"stopReason": "tool_use" if self.answer.calls else "end_turn"})
        usage = {"inputTokens": 9, "outputTokens": 5, "totalTokens": 14}
        last = stop + event("metadata", {"usage": usage, "metrics": {"latencyMs": 7}})
        first, *rest = [*said, *called, last]
        return [opening + first, *rest]

    @property
    def garbage(self) -> bytes:  # type: ignore[override]
        return event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "x"}})[:-4] + b"\0\0\0\0"

    def error(self, status: int, message: str) -> tuple[Mapping[str, str], bytes]:
        return {"x-amzn-ErrorType": f"{_ERRORS[status]}:http://internal.amazon.com/coral/"}, _json({"message": message})

    def stream_error(self) -> bytes:
        return exception("internalServerException", "it broke")

    # What was asked --------------------------------------------------------------------------------------

    def conversation(self, body: dict[str, Any]) -> list[tuple[Any, ...]]:
        said: list[tuple[Any, ...]] = [("system", block["text"]) for block in body.get("system", ())]
        roles = [message["role"] for message in body["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2)
        for message in body["messages"]:
            for block in message["content"]:
                match block:
                    case {"text": text}:
                        said.append((message["role"], text))
                    case {"toolUse": call}:
                        said.append(("call", call["toolUseId"], call["name"], call["input"]))
                    case {"toolResult": {"toolUseId": id_, "content": [{"text": text}], "status": "success"}}:
                        said.append(("result", id_, text))
        return said

    def tools(self, body: dict[str, Any]) -> list[tuple[str, str, Any]]:
        specs = [tool["toolSpec"] for tool in body.get("toolConfig", {}).get("tools", ())]
        return [(each["name"], each["description"], each["inputSchema"]["json"]) for each in specs]

    def options(self, body: dict[str, Any]) -> dict[str, Any]:
        limits, further = body.get("inferenceConfig", {}), body.get("additionalModelRequestFields", {})
        return {
            "maxTokens": limits.get("maxTokens"),
            "temperature": limits.get("temperature"),
            "reasoningEffort": further.get("reasoningConfig", {}).get("maxReasoningEffort"),
            "vendorParams": {name: body[name] for name in self.vendor_params if name in body},
        }

    def natives(self, body: dict[str, Any]) -> list[Any]:
        kept = [[block for block in each["content"] if "reasoningContent" in block] for each in body["messages"]]
        return [each for each in kept if each]


_ERRORS = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    429: "ThrottlingException",
    500: "InternalServerException",
}


def _json(data: object) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """A message: lengths and their CRC, headers of type 7 (text), the payload, the CRC of all that."""
    head = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 12 + len(head) + len(payload) + 4, len(head))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + head + payload
    return message + struct.pack(">I", binascii.crc32(message))


def event(name: str, payload: object) -> bytes:
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, _json(payload))


def exception(name: str, message: str) -> bytes:
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, _json({"message": message}))


def _delta(index: int, delta: object) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})


def _called(index: int, call: ToolCall) -> list[bytes]:
    """Up to three blocks: thoughts in the clear, thoughts in secret, and the call itself in small pieces."""
    pieces: list[bytes] = []
    for at, block in enumerate(call.native.content if call.native else (), index):
        match block["reasoningContent"]:
            case {"reasoningText": {"text": text, "signature": signature}}:
                deltas = [{"text": text[:3]}, {"text": text[3:]}, {"signature": signature}]
            case redacted:
                deltas = [redacted]
        pieces += [_delta(at, {"reasoningContent": delta}) for delta in deltas]
        pieces.append(event("contentBlockStop", {"contentBlockIndex": at}))
    start = {"toolUse": {"toolUseId": call.id, "name": call.name}}
    pieces.append(event("contentBlockStart", {"contentBlockIndex": index + 2, "start": start}))
    arguments = "" if call.arguments == "{}" else call.arguments
    parts = [arguments[at : at + 5] for at in range(0, len(arguments), 5)]
    pieces += [_delta(index + 2, {"toolUse": {"input": part}}) for part in parts]
    return [*pieces, event("contentBlockStop", {"contentBlockIndex": index + 2})]
