"""Google's Gemini: a prompt as the body of ``:streamGenerateContent``, its chunks as words and tool calls."""

import json
import logging
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from providers.base import LlmEvent, LlmSpec, Message, Native, Prompt, TextDelta, Tool, ToolCall, Working
from providers.llm.access import model_of
from providers.llm.sse import json_object
from providers.llm.turns import Turn, arguments_of, not_blank, system_of, turns_of

log = logging.getLogger("agentd.llm.google")

PROTOCOL = "google"
EXAMPLE = "gemini-2.5-flash"
Part = dict[str, Any]

# The keys of a body beside ``generationConfig``, which holds all others.
OF_THE_BODY = frozenset(
    "cachedContent contents continuationToken generationConfig labels safetySettings serviceTier store "
    "systemInstruction toolConfig tools".split()
)
UNSIGNED = "skip_thought_signature_validator"
"""Google's own word for a call that no thought of this model led to: of another vendor, or of the application."""

# Tokens of thoughts, as Google's OpenAI-compatible endpoint has them. Gemini 3 takes levels.
BUDGETS = {"low": 1024, "medium": 8192, "high": 24576}


# To the wire ----------------------------------------------------------------------------------------------


def to_wire(prompt: Prompt, spec: LlmSpec) -> dict[str, Any]:
    """The JSON body for this prompt.

    ``vendorParams`` may be keys of the body (``safetySettings``, ``toolConfig``, …) or of its ``generationConfig``
    (``topP``, ``thinkingConfig``, …), written like this or with underscores. What they hold goes out as it is and wins;
    only a ``generationConfig`` is laid over ours.
    """
    model, options = model_of(spec, EXAMPLE), spec.options
    limits = {
        "maxOutputTokens": options.get("maxTokens"),
        "temperature": options.get("temperature"),
        "thinkingConfig": thinking(model, options.get("reasoningEffort")),
    }
    system = system_of(prompt.messages)
    config = {name: value for name, value in limits.items() if value is not None}
    wire: dict[str, Any] = {"contents": conversation(prompt.messages, signed=_wants_signatures(model))}
    if system:
        wire["systemInstruction"] = {"parts": [{"text": system}]}
    if prompt.tools:
        wire["tools"] = [{"functionDeclarations": [_tool(tool) for tool in prompt.tools]}]
    for name, value in (options.get("vendorParams") or {}).items():
        key = _camel(name)
        if key == "generationConfig":
            config |= value
        elif key in OF_THE_BODY:
            wire[key] = value
        else:
            config[key] = value
    return wire | ({"generationConfig": config} if config else {})


def thinking(model: str, effort: str | None) -> dict[str, Any] | None:
    """The ``thinkingConfig`` for a `reasoningEffort`. Without one, and with "minimal": as few thoughts as the model
    can be brought to, because all of them think before the first word by default.

    From ai.google.dev, "Thinking": 2.5 takes budgets, of which only Pro cannot have 0; Gemini 3 takes levels, of which
    every model knows LOW and only some know MINIMAL; others do not think.
    """
    if "gemini-2.5" in model:
        least = 128 if "pro" in model else 0
        return {"thinkingBudget": BUDGETS.get(effort or "", least)}
    if re.search(r"gemini-(?:[3-9]|\d\d)", model) is None:
        return None
    least_level = "MINIMAL" if re.search(r"gemini-3(?:-flash|\.1-flash-lite)", model) else "LOW"
    return {"thinkingLevel": least_level if effort in (None, "minimal") else str(effort).upper()}


def conversation(messages: Iterable[Message], *, signed: bool = False) -> list[dict[str, Any]]:
    """The contents. ``signed``: the model refuses calls without a signature (Gemini 3 and later). It signs the first
    call of a turn only, and wants the signature on the part that it came with.
    """
    turns = turns_of(messages, PROTOCOL)
    return [
        {"role": "model" if turn.role == "assistant" else "user", "parts": list(_parts(turn, signed=signed))}
        for turn in turns
    ]


def _parts(turn: Turn, *, signed: bool) -> Iterator[Part]:
    for call, result in turn.results:
        if (native := _native(result)) is not None:
            yield from native
        else:
            response = {"output": not_blank(result.content)}
            yield {"functionResponse": {"id": call.id, "name": call.name, "response": response}}
    for message in turn.messages:
        if (native := _native(message)) is not None:
            yield from native
            continue
        if message.content.strip():
            yield {"text": message.content}
        for at, call in enumerate(message.tool_calls):
            beside = dict(call.native.content) if call.native and call.native.protocol == PROTOCOL else {}
            if signed and at == 0 and not beside:
                beside = {"thoughtSignature": UNSIGNED}
            yield {"functionCall": {"id": call.id, "name": call.name, "args": arguments_of(call)}, **beside}


def _native(message: Message) -> list[Part] | None:
    if message.native is None or message.native.protocol != PROTOCOL:
        return None
    return list(message.native.content["parts"])


def _tool(tool: Tool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description.strip() else {}
    # With ``parameters`` it would have to be Google's own dialect, which does not know all of JSON Schema.
    return {"name": tool.name, **described, "parametersJsonSchema": {"type": "object", **tool.parameters}}


def _wants_signatures(model: str) -> bool:
    return re.search(r"gemini-(?![12]\D)", model) is not None


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


# From the wire --------------------------------------------------------------------------------------------


class Answer:
    """One streamed answer: chunks in, events out. ``finish`` is the finishReason, or the reason why the prompt was
    blocked; ``None`` until it came. Some models send it with every chunk, so only the end of the stream is the end.
    """

    def __init__(self) -> None:
        self.chunks = 0
        self.finish: str | None = None
        self.is_blocked = False
        self.usage: Mapping[str, Any] = {}

    def data(self, line: bytes) -> list[LlmEvent]:
        """One data line. Raises :class:`StreamError`; what is no JSON object is skipped. Keys come with underscores
        from some gateways.
        """
        chunk = json_object(line)
        if chunk is None:
            log.warning("llm sent a line that is no JSON object, skipped", extra={"bytes": len(line)})
            return []
        if chunk.get("error"):
            raise StreamError(chunk["error"])
        self.chunks += 1
        usage = _get(chunk, "usageMetadata")
        self.usage = usage if isinstance(usage, dict) and usage else self.usage
        feedback = _get(chunk, "promptFeedback")
        if isinstance(feedback, dict) and _get(feedback, "blockReason"):
            self.finish, self.is_blocked = str(_get(feedback, "blockReason")), True
        candidates = chunk.get("candidates")
        first = candidates[0] if isinstance(candidates, list) and candidates else None
        return list(self._candidate(first)) if isinstance(first, dict) else []

    def _candidate(self, candidate: dict[str, Any]) -> Iterator[LlmEvent]:
        if reason := _get(candidate, "finishReason"):
            self.finish = str(reason)
        content = candidate.get("content")
        for part in (content.get("parts") or ()) if isinstance(content, dict) else ():
            call = _get(part, "functionCall")
            if isinstance(call, dict) and call.get("name"):
                yield _call(call, _get(part, "thoughtSignature"))
            elif part.get("text"):
                yield Working() if part.get("thought") else TextDelta(str(part["text"]))


def _call(call: dict[str, Any], signature: Any) -> ToolCall:
    native = Native(PROTOCOL, {"thoughtSignature": signature}) if signature else None
    id_ = str(call.get("id") or f"call_{uuid.uuid4().hex[:24]}")  # older models send none
    return ToolCall(id_, str(call["name"]), json.dumps(call.get("args") or {}, ensure_ascii=False), native)


def _get(fields: Mapping[str, Any], name: str) -> Any:
    if name in fields:
        return fields[name]
    return fields.get(re.sub(r"([A-Z])", r"_\1", name).lower())


class StreamError(Exception):
    """The vendor reported an error inside a stream that had begun with HTTP 200."""

    def __init__(self, error: Any) -> None:
        self.fields = error if isinstance(error, dict) else {}
        super().__init__(str(self.fields.get("message") or "no message"))
