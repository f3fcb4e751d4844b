"""The conversation as the model sees it. One writer, and of the agent's words only what was heard.

Invariant: no tool call without its result directly behind it, whatever was interrupted when (a vendor answers a
history that breaks it with 400, for the rest of the call).
"""

from dataclasses import dataclass, field

from providers.base import Message, ToolCall

NOT_YET = "The result is not there yet: the caller interrupted."


@dataclass(slots=True)
class Round:
    """The model asked for tools after ``text_end`` characters of its answer; results by call id as they come."""

    text_end: int
    calls: tuple[ToolCall, ...]
    results: dict[str, str] = field(default_factory=dict)


class History:
    """``system`` is the agent's prompt, ``messages`` what the application put before the conversation."""

    def __init__(self, system: str, messages: tuple[Message, ...] = ()) -> None:
        self.system = system
        self.messages: list[Message] = list(messages)

    def prompt(self, said: str, rounds: list[Round], text: str, cue: str = "") -> tuple[Message, ...]:
        """Everything so far, then the caller's words, then this answer's own tool rounds. ``cue`` is a system
        message for this prompt only.
        """
        system = [Message("system", self.system)] if self.system else []
        cued = [Message("system", cue)] if cue else []
        return (*system, *self.messages, *_caller(said), *cued, *_rounds(rounds, text))

    def commit(self, said: str, text: str, rounds: list[Round]) -> None:
        """A turn is over; ``text`` is what was heard of the answer."""
        self.messages += _caller(said)
        self.messages += _rounds(rounds, text)
        rest = text[rounds[-1].text_end :] if rounds else text
        if rest.strip():
            self.messages.append(Message("assistant", rest.strip()))

    def remark(self, said: str) -> None:
        """The caller said something in passing."""
        self.messages += _caller(said)

    def result_came(self, call_id: str, result: str) -> None:
        """The result of a tool call whose turn is over."""
        for at, message in enumerate(self.messages):
            if message.tool_call_id == call_id and message.content == NOT_YET:
                self.messages[at] = Message("tool", result, tool_call_id=call_id)


def _caller(said: str) -> list[Message]:
    return [Message("user", said)] if said else []


def _rounds(rounds: list[Round], text: str) -> list[Message]:
    messages: list[Message] = []
    start = 0
    for round_ in rounds:
        said = text[start : round_.text_end].strip()
        messages.append(Message("assistant", said, tool_calls=round_.calls))
        messages += [
            Message("tool", round_.results.get(call.id, NOT_YET), tool_call_id=call.id) for call in round_.calls
        ]
        start = round_.text_end
    return messages
