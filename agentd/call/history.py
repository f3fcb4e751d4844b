"""The conversation as the model sees it. One writer, and of the agent's words only what was heard.

Invariant: no tool call without its result directly behind it, whatever was interrupted when (a vendor answers a
history that breaks it with 400, for the rest of the call).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agentd.call.records import Record, calls_record, messages_record, tools_record
from providers.base import Message, Tool, ToolCall

NOT_YET = "The result is not there yet: the caller interrupted."


@dataclass(slots=True)
class Round:
    """The model asked for tools after ``text_end`` characters of its answer; results by call id as they come."""

    text_end: int
    calls: tuple[ToolCall, ...]
    results: dict[str, str] = field(default_factory=dict)


class History:
    """``system`` is the agent's prompt, ``messages`` what the application put before the conversation. ``tell`` gets
    every change as a record (agentd.call.records) by a plain call.
    """

    def __init__(self, system: str, messages: tuple[Message, ...] = ()) -> None:
        self.tell: Callable[[Record], None] = lambda record: None
        self._system = system
        self.summary = ""  # of what was dropped
        self.messages: list[Message] = list(messages)
        self._turns: list[int] = []  # where each turn begins in them

    @property
    def system(self) -> str:
        return self._system

    @system.setter
    def system(self, text: str) -> None:
        self._system = text
        self.tell({"kind": "instructions", "text": text})

    def prompt(
        self, said: str, rounds: list[Round], text: str, cue: str = "", before: Sequence[Message] = ()
    ) -> tuple[Message, ...]:
        """Everything so far, then the caller's words, then this answer's own tool rounds. ``cue`` is a system
        message for this prompt only; ``before`` is a turn that is not over yet.
        """
        system = [Message("system", self._instructions())] if self._instructions() else []
        cued = [Message("system", cue)] if cue else []
        return (*system, *self.messages, *before, *_caller(said), *cued, *_rounds(rounds, text))

    def commit(self, said: str, text: str, rounds: list[Round]) -> None:
        """A turn is over; ``text`` is what was heard of the answer."""
        self.take_turn(turn_messages(said, text, rounds))

    def take_turn(self, messages: Sequence[Message]) -> None:
        """The messages of a turn that is over."""
        self._turns.append(len(self.messages))
        self.messages += messages
        self.tell({"kind": "turn", "messages": messages_record(messages)})

    def remark(self, said: str) -> None:
        """The caller said something in passing."""
        self.messages += _caller(said)
        self.tell({"kind": "remark", "messages": messages_record(_caller(said))})

    def inject(self, messages: Sequence[Message]) -> None:
        """The application adds to what was said. It stands behind the turns that are over and before the one in
        progress, so that it comes between no tool call and its result; the next tool round of that one has it, too.
        """
        self.messages += messages
        self.tell({"kind": "context", "messages": messages_record(messages)})

    def older(self, turns: int) -> list[Message]:
        """What lies before the last so many turns. It ends where a turn begins, so no tool call loses its result."""
        return self.messages[: self._turns[-turns]] if len(self._turns) >= turns else []

    @property
    def turns(self) -> int:
        """How many are kept in full."""
        return len(self._turns)

    def summarized(self, messages: int, summary: str) -> None:
        """The first so many messages are dropped for their summary (with that of those before them)."""
        self.summary = summary
        del self.messages[:messages]
        self._turns = [at - messages for at in self._turns if at >= messages]
        self.tell({"kind": "summary", "messages": messages, "text": summary})

    def _instructions(self) -> str:
        if not self.summary:
            return self.system
        return f"{self.system}\n\n# Conversation context\n\n{self.summary}".strip()

    # A turn in progress: nothing of it is in the messages yet, but it is told -------------------------------

    def asked(self, turn: int, said: str) -> None:
        """It begins, or the caller has added words to it."""
        self.tell({"kind": "asked", "turn": turn, "said": said})

    def tools_called(self, calls: Sequence[ToolCall]) -> None:
        self.tell({"kind": "tools", "calls": calls_record(calls)})

    def answered(self, text: str) -> None:
        """The model has said all."""
        self.tell({"kind": "answered", "text": text})

    def offered(self, tools: Sequence[Tool]) -> None:
        """The application has other tools from now on."""
        self.tell({"kind": "offer", "tools": tools_record(tools)})

    def result_came(self, call_id: str, result: str) -> None:
        """The result of a tool call; where its turn is over, it is put in its place."""
        self.tell({"kind": "result", "id": call_id, "result": result})
        for at, message in enumerate(self.messages):
            if message.tool_call_id == call_id and message.content == NOT_YET:
                self.messages[at] = Message("tool", result, tool_call_id=call_id)


def turn_messages(said: str, text: str, rounds: list[Round]) -> list[Message]:
    """A whole turn: the caller's words, the tool rounds, the answer."""
    rest = (text[rounds[-1].text_end :] if rounds else text).strip()
    answer = [Message("assistant", rest)] if rest else []
    return [*_caller(said), *_rounds(rounds, text), *answer]


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
