"""What servers of chat completions want back with the calls that they asked for: thoughts, and signatures of them.

OpenAI itself has nothing of the kind. DeepSeek (`reasoning_content`) and Gemini (`extra_content` of a call) refuse a
conversation in which it is missing, and the models behind OpenRouter (`reasoning_details`) lose their thread.
"""

from collections.abc import Mapping
from typing import Any

from providers.base import Native, ToolCall

PROTOCOL = "openai"
OF_A_CALL = "extra_content"  # the rest belongs to the message that holds the calls
_TEXTS = ("text", "summary")  # what comes in pieces within a detail


class Thoughts:
    """The thoughts of one answer, put together from its deltas. They are not for the caller's ears."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._details: list[dict[str, Any]] = []

    def add(self, delta: Mapping[str, Any]) -> None:
        said, details = delta.get("reasoning_content"), delta.get("reasoning_details")
        if isinstance(said, str):
            self._said.append(said)
        for detail in details if isinstance(details, list) else ():
            if isinstance(detail, dict):
                self._detail(detail)

    def with_calls(self, calls: list[dict[str, Any]]) -> list[Native | None]:
        """What goes with each of these calls: the thoughts with the first, what a call has of its own with itself."""
        kept: list[dict[str, Any]] = [{OF_A_CALL: call[OF_A_CALL]} if call.get(OF_A_CALL) else {} for call in calls]
        if kept and self._said:
            kept[0]["reasoning_content"] = "".join(self._said)
        if kept and self._details:
            kept[0]["reasoning_details"] = self._details
        return [Native(PROTOCOL, content) if content else None for content in kept]

    def _detail(self, detail: dict[str, Any]) -> None:
        last = self._details[-1] if self._details else {}
        is_piece = any(name in detail or name in last for name in _TEXTS) and all(
            last.get(name) == detail.get(name) for name in ("type", "index")
        )
        if not is_piece:
            self._details.append(dict(detail))
            return
        for name, value in detail.items():
            is_more = name in _TEXTS and isinstance(value, str) and isinstance(last.get(name), str)
            if value is not None:
                last[name] = last[name] + value if is_more else value


def on_the_wire(calls: tuple[ToolCall, ...]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The calls of a message, and what stands beside them in it."""
    wire: list[dict[str, Any]] = []
    beside: dict[str, Any] = {}
    for call in calls:
        kept = call.native.content if call.native is not None and call.native.protocol == PROTOCOL else {}
        function = {"name": call.name, "arguments": call.arguments}
        own = {OF_A_CALL: kept[OF_A_CALL]} if OF_A_CALL in kept else {}
        wire.append({"id": call.id, "type": "function", "function": function, **own})
        beside |= {name: value for name, value in kept.items() if name != OF_A_CALL}
    return wire, beside
