"""A conversation for vendors that know users and assistants only: strictly in turn, begun and ended by a user."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from providers.base import Message, ToolCall

# Said where a vendor insists on words of a user, or of a tool, and there are none.
BEGINS = "(The call begins.)"
GOES_ON = "(Please go on.)"
NO_RESULT = "(no output)"


@dataclass(frozen=True, slots=True)
class Turn:
    """All that one side says until the other does. A user's begins with the results of every call of the assistant's
    turn before it, in the order of the calls, whatever order they came in; ``messages`` hold no blank text.
    """

    role: Literal["user", "assistant"]
    messages: tuple[Message, ...]
    results: tuple[tuple[ToolCall, Message], ...] = ()

    def calls(self) -> list[ToolCall]:
        return [call for message in self.messages for call in message.tool_calls]


def system_of(messages: Iterable[Message]) -> str:
    """What all system messages say, also those amidst the conversation, with a blank line between them."""
    return "\n\n".join(each.content.strip() for each in messages if each.role == "system" and each.content.strip())


def turns_of(messages: Iterable[Message], protocol: str) -> list[Turn]:
    """The conversation without its system messages. ``protocol``: whose ``native`` messages count as content.

    A result whose call is not in the turn before becomes words of the user, and a call without a result gets
    :data:`NO_RESULT`: vendors refuse the whole conversation otherwise, for the rest of the call.
    """
    turns: list[Turn] = []
    before: list[ToolCall] = []
    for role, said in _sides(each for each in messages if _says_something(each, protocol)):
        turn = Turn(role, tuple(said)) if role == "assistant" else _users(said, before)
        before = turn.calls()
        turns.append(turn)
    if not turns or turns[0].role == "assistant":
        turns.insert(0, Turn("user", (Message("user", BEGINS),)))
    if turns[-1].role == "assistant":  # newer models refuse to continue words of their own
        turns.append(_users([] if before else [Message("user", GOES_ON)], before))
    return turns


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The arguments as the object that vendors insist on. What the model wrote wrong is at least shown to it."""
    try:
        found = json.loads(call.arguments or "{}")
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"_raw": call.arguments}


def not_blank(text: str) -> str:
    return text if text.strip() else NO_RESULT


def _says_something(message: Message, protocol: str) -> bool:
    if message.role == "system":
        return False
    is_native = message.native is not None and message.native.protocol == protocol
    return is_native or message.role == "tool" or bool(message.tool_calls or message.content.strip())


def _sides(messages: Iterable[Message]) -> Iterator[tuple[Literal["user", "assistant"], list[Message]]]:
    side: Literal["user", "assistant"] = "user"
    said: list[Message] = []
    for message in messages:
        its: Literal["user", "assistant"] = "assistant" if message.role == "assistant" else "user"
        if said and its != side:
            yield side, said
            said = []
        side = its
        said.append(message)
    if said:
        yield side, said


def _users(said: list[Message], calls: list[ToolCall]) -> Turn:
    known = {call.id for call in calls}
    found = {each.tool_call_id: each for each in reversed(said) if each.role == "tool" and each.tool_call_id in known}
    words = [_told(each) for each in said if each.role != "tool" or each.tool_call_id not in known]
    missing = Message("tool", NO_RESULT)
    return Turn("user", tuple(words), tuple((call, found.get(call.id, missing)) for call in calls))


def _told(message: Message) -> Message:
    if message.role != "tool":
        return message
    return replace(message, role="user", content=f"(A tool returned: {not_blank(message.content)})")
