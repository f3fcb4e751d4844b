"""Mid-conversation updates: what the application asks of a call that is in progress (the guide).

Keys are the guide's own, snake_case here: ``{"type": "generate_reply", "user_input": …}``.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from config.check import Fault, check, show
from config.llm import Message, Tool
from config.parts import Part
from config.problems import dotted, nearest


def _whole(messages: list[Message]) -> list[Message]:
    """Every vendor refuses a prompt with an empty message, or with a tool call apart from its result: here it would
    do so for the rest of the call.
    """
    owed: list[str] = []
    for at, message in enumerate(messages):
        if not (message.text() or message.tool_calls or message.is_native()):
            raise ValueError(f"expected messages[{at}] to have a content, but it is empty")
        if message.role == "tool" and message.tool_call_id in owed:
            owed.remove(message.tool_call_id)
        elif message.role == "tool":
            raise ValueError(f"expected messages[{at}] to be the result of a tool call before it, but there is none")
        elif owed:
            raise ValueError(f"expected messages[{at}] to be the result of a tool call, got role {message.role}")
        for call in message.tool_calls:
            match call:
                case {"id": str(id_), "function": {"name": str(), "arguments": str()}}:
                    owed.append(id_)
                case _:
                    raise ValueError(f"expected messages[{at}].tool_calls of {{id, function: {{name, arguments}}}}")
    if owed:
        raise ValueError("expected the result of every tool call among the messages, but one is missing")
    return messages


def _named_once(tools: list[Tool]) -> list[Tool]:
    seen = set[str]()
    for tool in tools:
        if tool.name in seen:
            raise ValueError(f"expected each tool once, got {tool.name!r} twice")
        seen.add(tool.name)
    return tools


class _Update(Part):
    model_config = ConfigDict(alias_generator=None)


class UpdateInstructions(_Update):
    """Another system prompt from the next prompt on."""

    type: Literal["update_instructions"]
    instructions: str


class InjectContext(_Update):
    """More messages in the history."""

    type: Literal["inject_context"]
    messages: Annotated[
        list[Message], Field(min_length=1, description="a list of at least one message"), AfterValidator(_whole)
    ]


class UpdateTools(_Update):
    """Other tools of the application's from the next prompt on. None: an empty list."""

    type: Literal["update_tools"]
    tools: Annotated[list[Tool], AfterValidator(_named_once)]


class GenerateReply(_Update):
    """A reply that the caller did not ask for: to ``user_input``, and as ``instructions`` say, for this reply only.
    ``interrupt``: now.
    """

    type: Literal["generate_reply"]
    user_input: str | None = None
    instructions: str | None = None
    interrupt: bool = False


Update = UpdateInstructions | InjectContext | UpdateTools | GenerateReply

KINDS: Mapping[str, type[Update]] = {
    "update_instructions": UpdateInstructions,
    "inject_context": InjectContext,
    "update_tools": UpdateTools,
    "generate_reply": GenerateReply,
}


class UpdateError(Exception):
    """Not an update. ``faults`` has everything that is wrong, not just the first thing."""

    def __init__(self, faults: Sequence[Fault], kind: str = "update") -> None:
        self.faults = list(faults)
        told = [f"{where}: {fault}" if (where := dotted(fault.path)) else str(fault) for fault in self.faults]
        super().__init__(f"{kind}: {'; '.join(told)}")


def read(data: Any) -> Update:
    """The update that an application sent. Raises :class:`UpdateError`."""
    if not isinstance(data, Mapping):
        raise UpdateError([Fault((), "expected an object", show(data))])
    kind = data.get("type")
    if not isinstance(kind, str) or kind not in KINDS:
        *most, last = KINDS
        meant = nearest(kind, KINDS) if isinstance(kind, str) else None
        hint = f"did you mean {meant}?" if meant else ""
        raise UpdateError([Fault(("type",), f"expected {', '.join(most)} or {last}", show(kind), hint)])
    result = check(KINDS[kind], dict(data))
    if isinstance(result, list):
        raise UpdateError(result, kind)
    return result
