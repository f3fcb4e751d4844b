"""Anthropic's messages: a prompt as the body of ``POST /v1/messages``, its events as words and tool calls."""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from providers.base import LlmEvent, LlmSpec, Message, Native, Prompt, TextDelta, Tool, ToolCall, Working
from providers.llm.access import model_of
from providers.llm.anthropic_models import claude_of
from providers.llm.sse import json_object
from providers.llm.turns import Turn, arguments_of, not_blank, system_of, turns_of

log = logging.getLogger("agentd.llm.anthropic")

PROTOCOL = "anthropic"
EXAMPLE = "claude-sonnet-4-6"
MAX_TOKENS = 1024  # Anthropic insists on a limit; this one is five minutes of speech
MAX_TOKENS_WITH_THOUGHTS = 8192  # thoughts count, and must leave room for the answer
Block = dict[str, Any]

_NOT_OF_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_SPEECH = {"type": "text"}  # in what is kept of an answer: here the model spoke


# To the wire ----------------------------------------------------------------------------------------------


def to_wire(prompt: Prompt, spec: LlmSpec) -> dict[str, Any]:
    """The JSON body for this prompt. ``vendorParams`` are further keys of it, go out as they are and win, such as
    ``{"cache_control": {"type": "ephemeral"}}`` or ``{"thinking": {"type": "adaptive"}}``.
    """
    model, options = model_of(spec, EXAMPLE), spec.options
    claude = claude_of(model)
    thinking = claude.thinking(options.get("reasoningEffort"))
    thinks = claude.thinks_always or thinking.get("thinking") == {"type": "adaptive"}
    turns = turns_of(prompt.messages, PROTOCOL)
    called = list(dict.fromkeys(call.name for turn in turns for call in turn.calls()))
    optional = {
        "system": system_of(prompt.messages),
        # While it thinks, a model takes no temperature but 1.
        "temperature": options.get("temperature") if claude.takes_temperature and not thinks else None,
        "tools": [_tool(tool) for tool in prompt.tools],
    }
    wire = {
        "model": model,
        "max_tokens": options.get("maxTokens") or (MAX_TOKENS_WITH_THOUGHTS if thinks else MAX_TOKENS),
        "messages": conversation(turns, thoughts=bool(prompt.tools) or not claude.binds_thoughts),
        "stream": True,
        **{name: value for name, value in optional.items() if value not in (None, "", [])},
        **thinking,
    }
    if called and not prompt.tools:
        # An answer in words is asked for. Calls in the history need tools, or the answer comes back empty; told as
        # text, the model would learn to speak such text to the caller.
        wire["tools"] = [{"name": name, "input_schema": {"type": "object"}} for name in called]
        wire["tool_choice"] = {"type": "none"}
    return {**wire, **(options.get("vendorParams") or {})}


def conversation(turns: list[Turn], *, thoughts: bool = True) -> list[dict[str, Any]]:
    """The messages. Thoughts are sent with the calls of the answer in progress only: later they are not needed, and
    newer models refuse them once anything before them has changed, as it does when speech was cut off.
    """
    begins = max(at for at, turn in enumerate(turns) if at == 0 or (turn.role == "user" and not turn.results))
    return [
        {"role": turn.role, "content": list(_blocks(turn, thoughts=thoughts and at > begins))}
        for at, turn in enumerate(turns)
    ]


def _blocks(turn: Turn, *, thoughts: bool) -> Iterator[Block]:
    for call, result in turn.results:
        if (native := _native(result)) is not None:
            yield from native
        else:
            yield {"type": "tool_result", "tool_use_id": _id(call), "content": not_blank(result.content)}
    for message in turn.messages:
        if (native := _native(message)) is not None:
            yield from native
        elif message.role == "assistant":
            yield from _said(message, thoughts=thoughts)
        else:
            yield {"type": "text", "text": message.content}


def _said(message: Message, *, thoughts: bool) -> Iterator[Block]:
    kept = [_thoughts(call) if thoughts else [] for call in message.tool_calls]
    first = kept[0] if kept else []
    spoke = first.index(_SPEECH) if _SPEECH in first else len(first)
    yield from first[:spoke]
    if message.content.strip():
        yield {"type": "text", "text": message.content}
    for call, its in zip(message.tool_calls, [first[spoke:], *kept[1:]], strict=False):
        yield from (each for each in its if each != _SPEECH)
        yield {"type": "tool_use", "id": _id(call), "name": call.name, "input": arguments_of(call)}


def _thoughts(call: ToolCall) -> list[Block]:
    return list(call.native.content) if call.native is not None and call.native.protocol == PROTOCOL else []


def _native(message: Message) -> list[Block] | None:
    if message.native is None or message.native.protocol != PROTOCOL:
        return None
    content = message.native.content["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _id(call: ToolCall) -> str:
    return _NOT_OF_AN_ID.sub("_", call.id)  # other vendors put dots and colons into theirs


def _tool(tool: Tool) -> Block:
    described = {"description": tool.description} if tool.description.strip() else {}
    return {"name": tool.name, **described, "input_schema": {"type": "object", **tool.parameters}}


# From the wire --------------------------------------------------------------------------------------------


class Answer:
    """One streamed answer: events in, ours out. ``stop`` is the stop_reason, ``None`` until it came."""

    def __init__(self) -> None:
        self.events = 0
        self.stop: str | None = None
        self.is_over = False  # message_stop came
        self.usage: Mapping[str, Any] = {}
        self._open: dict[int, Block] = {}  # by index
        self._kept: list[Block] = []  # thoughts since the last call, and where the model spoke

    def data(self, line: bytes) -> list[LlmEvent]:
        """One data line. A tool call comes whole, when its block stops. Raises :class:`StreamError`; what is no JSON
        object is skipped.
        """
        event = json_object(line)
        if event is None:
            log.warning("llm sent a line that is no JSON object, skipped", extra={"bytes": len(line)})
            return []
        self.events += 1
        match event:
            case {"type": "content_block_delta", "index": int(index), "delta": dict(delta)}:
                return self._delta(self._open.setdefault(index, {}), delta)
            case {"type": "content_block_start", "index": int(index), "content_block": dict(block)}:
                self._open[index] = block
                return self._delta({}, block) if block.get("type") == "text" else []
            case {"type": "content_block_stop", "index": int(index)}:
                return self._stopped(self._open.pop(index, {}))
            case {"type": "message_delta", "delta": dict(delta)}:
                self.stop = delta.get("stop_reason") or self.stop
                self._count(event.get("usage"))
            case {"type": "message_start", "message": dict(message)}:
                self._count(message.get("usage"))
            case {"type": "message_stop"}:
                self.is_over = True
            case {"type": "error"}:
                raise StreamError(event.get("error"))
        return []

    def _count(self, usage: Any) -> None:
        """The prompt is counted at the start, the answer at the end; either may tell both."""
        if isinstance(usage, dict):
            self.usage = {**self.usage, **{name: value for name, value in usage.items() if value is not None}}

    def _delta(self, block: Block, delta: Mapping[str, Any]) -> list[LlmEvent]:
        match delta:
            case {"text": str(text)}:
                return [TextDelta(text)] if text else []
            case {"partial_json": str(piece)}:
                block["json"] = block.get("json", "") + piece
            case {"thinking": str(piece)}:
                block["thinking"] = block.get("thinking", "") + piece
            case {"signature": str(piece)}:
                block["signature"] = block.get("signature", "") + piece
        return [Working()]

    def _stopped(self, block: Block) -> list[LlmEvent]:
        match block:
            case {"type": "text"} if _SPEECH not in self._kept:
                self._kept.append(_SPEECH)
            case {"type": "thinking", "signature": str(signature)} if signature:  # without one nobody takes it back
                self._kept.append(block)
            case {"type": "redacted_thinking"}:
                self._kept.append(block)
            case {"type": "tool_use", "id": str(id_), "name": str(name)}:
                arguments = block.get("json") or json.dumps(block.get("input") or {})
                return [ToolCall(id_, name, arguments, self._native())]
        return []

    def _native(self) -> Native | None:
        """The thoughts since the last call, for the call that they led to."""
        kept, self._kept = self._kept, []
        if kept and kept[-1] == _SPEECH:
            kept.pop()
        return Native(PROTOCOL, kept) if kept else None


class StreamError(Exception):
    """The vendor reported an error inside a stream that had begun with HTTP 200."""

    def __init__(self, error: Any) -> None:
        fields = error if isinstance(error, dict) else {}
        self.type = str(fields.get("type") or "")
        super().__init__(str(fields.get("message") or "no message"))
