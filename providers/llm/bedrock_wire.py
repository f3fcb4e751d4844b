"""Bedrock's Converse: a prompt as the arguments of ``converse_stream``, its events as words and tool calls."""

import base64
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

from providers.base import LlmEvent, LlmSpec, Message, Native, Prompt, ProviderError, TextDelta, Tool, ToolCall, Working
from providers.llm.turns import BEGINS, GOES_ON, arguments_of, not_blank

log = logging.getLogger("agentd.llm.bedrock")

PROTOCOL = "bedrock"
Block = dict[str, Any]

_CLAUDE_WITH_EFFORT = re.compile(r"claude-[a-z]+-(?:4-[6-9]|[5-9])(?!\d)")


# To the wire ----------------------------------------------------------------------------------------------


def to_wire(prompt: Prompt, spec: LlmSpec) -> dict[str, Any]:
    """The arguments of ``converse_stream``. ``vendorParams`` are further ones; where both are objects, they are
    merged, so that ``{"inferenceConfig": {"topP": 0.9}}`` leaves maxTokens alone.
    """
    options = spec.options
    limits = {"maxTokens": options.get("maxTokens"), "temperature": options.get("temperature")}
    optional = {
        "system": [
            {"text": each.content} for each in prompt.messages if each.role == "system" and each.content.strip()
        ],
        "inferenceConfig": {name: value for name, value in limits.items() if value is not None},
        "toolConfig": {"tools": [_tool(tool) for tool in prompt.tools]} if prompt.tools else None,
        "additionalModelRequestFields": effort_fields(model_of(spec), options.get("reasoningEffort")),
    }
    wire: dict[str, Any] = {"modelId": model_of(spec), "messages": conversation(prompt)}
    wire |= {name: value for name, value in optional.items() if value}
    for name, value in (options.get("vendorParams") or {}).items():
        ours = wire.get(name)
        wire[name] = {**ours, **value} if isinstance(ours, dict) and isinstance(value, Mapping) else value
    return wire


def model_of(spec: LlmSpec) -> str:
    if not spec.model:
        raise ProviderError(spec.vendor, "llm-no-model", "expected llm.model, a model id of Bedrock's, got none")
    return spec.model


def effort_fields(model: str, effort: str | None) -> dict[str, Any]:
    """`reasoningEffort` as the model's family wants it. Converse itself has no such thing."""
    if effort is None:
        return {}
    if _CLAUDE_WITH_EFFORT.search(model):  # older ones take a budget of tokens, which must fit maxTokens
        if effort == "none":
            return {"thinking": {"type": "disabled"}}
        return {"thinking": {"type": "adaptive"}, "output_config": {"effort": _at_least_low(effort)}}
    if "amazon.nova-2" in model:
        if effort == "none":
            return {"reasoningConfig": {"type": "disabled"}}
        return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": _at_least_low(effort)}}
    if "openai." in model or "moonshot" in model:
        return {"reasoning_effort": effort}
    log.warning("model takes no reasoning effort, left out", extra={"model": model, "effort": effort})
    return {}


def _at_least_low(effort: str) -> str:
    return "low" if effort == "minimal" else effort


def conversation(prompt: Prompt) -> list[dict[str, Any]]:
    """The messages that are not the system's; several of one role in a row are one, tool results first."""
    names = {call.id: call.name for message in prompt.messages for call in message.tool_calls}
    messages: list[dict[str, Any]] = []
    for message in prompt.messages:
        # Without tools there must be no calls in the history either, and Converse has no other way to say "answer in
        # words": offered the tools again, the model may call them. So calls are told as text then.
        is_told = not prompt.tools and (message.tool_calls or message.role == "tool")
        blocks = list(_told(message, names) if is_told else _blocks(message))
        role = "assistant" if message.role == "assistant" else "user"
        if message.role == "system" or not blocks:
            continue
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        else:
            messages.append({"role": role, "content": blocks})
    for each in messages:
        if each["role"] == "user":
            each["content"].sort(key=lambda block: "toolResult" not in block)
    if not messages or messages[0]["role"] == "assistant":
        messages.insert(0, {"role": "user", "content": [{"text": BEGINS}]})
    if messages[-1]["role"] == "assistant":  # most models refuse to continue words of their own
        messages.append({"role": "user", "content": [{"text": GOES_ON}]})
    return messages


def _blocks(message: Message) -> Iterable[Block]:
    if message.native is not None and message.native.protocol == PROTOCOL:
        yield from map(_from_json, message.native.content["content"])
        return
    if message.role == "tool":
        result = {"toolUseId": message.tool_call_id, "content": [{"text": not_blank(message.content)}]}
        yield {"toolResult": {**result, "status": "success"}}
        return
    for call in message.tool_calls:
        if call.native is not None and call.native.protocol == PROTOCOL:
            yield from map(_from_json, call.native.content)
    if message.content.strip():
        yield {"text": message.content}
    for call in message.tool_calls:
        yield {"toolUse": {"toolUseId": call.id, "name": call.name, "input": arguments_of(call)}}


def _told(message: Message, names: Mapping[str, str]) -> Iterable[Block]:
    """What was done with tools, in words."""
    if message.role == "tool":
        name = names.get(message.tool_call_id or "", "the tool")
        yield {"text": f"({name} returned: {not_blank(message.content)})"}
        return
    if message.content.strip():
        yield {"text": message.content}
    for call in message.tool_calls:
        yield {"text": f"(I called {call.name} with {call.arguments}.)"}


def _tool(tool: Tool) -> Block:
    schema = dict(tool.parameters) or {"type": "object", "properties": {}}
    described = {"description": tool.description} if tool.description.strip() else {}
    return {"toolSpec": {"name": tool.name, **described, "inputSchema": {"json": schema}}}


# From the wire --------------------------------------------------------------------------------------------


class Answer:
    """One streamed answer: events in, ours out. ``stop`` is the stopReason, ``None`` until it came."""

    def __init__(self) -> None:
        self.stop: str | None = None
        self.is_over = False  # the usage came, and with it the last event
        self.usage: Mapping[str, Any] = {}
        self._calls: dict[int, dict[str, str]] = {}
        self._thoughts: dict[int, Block] = {}

    def event(self, event: Mapping[str, Any]) -> list[LlmEvent]:
        """One event of the stream. A tool call comes whole, when its block stops."""
        match event:
            case {"contentBlockDelta": {"delta": {"text": str(text)}}}:
                return [TextDelta(text)] if text else []
            case {"contentBlockDelta": {"contentBlockIndex": int(index), "delta": {"toolUse": {"input": str(piece)}}}}:
                if index in self._calls:
                    self._calls[index]["arguments"] += piece
                return [Working()]
            case {"contentBlockDelta": {"contentBlockIndex": int(index), "delta": {"reasoningContent": dict(piece)}}}:
                self._think(index, piece)
                return [Working()]
            case {"contentBlockStart": {"contentBlockIndex": int(index), "start": {"toolUse": dict(call)}}}:
                self._calls[index] = {"id": str(call["toolUseId"]), "name": str(call["name"]), "arguments": ""}
            case {"contentBlockStop": {"contentBlockIndex": int(index)}} if index in self._calls:
                call = self._calls.pop(index)
                return [ToolCall(call["id"], call["name"], call["arguments"] or "{}", self._native())]
            case {"messageStop": {"stopReason": str(reason)}}:
                self.stop = reason
            case {"metadata": dict(metadata)}:
                self.usage, self.is_over = metadata.get("usage") or {}, True
        return []

    def _think(self, index: int, piece: Mapping[str, Any]) -> None:
        if "redactedContent" in piece:
            redacted = base64.b64encode(piece["redactedContent"]).decode()
            self._thoughts[index] = {"reasoningContent": {"redactedContent": redacted}}
            return
        block = self._thoughts.setdefault(index, {"reasoningContent": {"reasoningText": {"text": ""}}})
        said = block["reasoningContent"]["reasoningText"]
        said["text"] += piece.get("text") or ""
        if piece.get("signature"):
            said["signature"] = said.get("signature", "") + piece["signature"]

    def _native(self) -> Native | None:
        """The thoughts so far, for the first call after them: their signatures cover what the model does next."""
        thoughts = [self._thoughts[index] for index in sorted(self._thoughts)]
        self._thoughts = {}
        return Native(PROTOCOL, thoughts) if thoughts else None


def _from_json(block: Block) -> Block:
    """A block of thoughts for boto3, which takes bytes where JSON, and so what we keep, has base64."""
    redacted = block.get("reasoningContent", {}).get("redactedContent")
    if isinstance(redacted, str):
        return {"reasoningContent": {"redactedContent": base64.b64decode(redacted)}}
    return block
