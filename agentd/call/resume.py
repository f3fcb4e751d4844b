"""A conversation whose worker was killed goes on: what its journal says becomes history again, and the agent speaks."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from agentd.call.history import History, Round
from agentd.call.records import Record, calls_of, messages_of, tools_of
from providers.base import Tool

INTERRUPTED = "The line was interrupted for a moment. Say so in a few words"
GO_ON = f"{INTERRUPTED} and go on where you left off. Do not greet the caller again."
ANSWER = f"{INTERRUPTED} and answer what the caller said last. Do not greet the caller again."
SAYING = "You were saying this, of which the caller has heard at most a part: "
LOST = "The result was lost: the line was interrupted. The call may have been made."


@dataclass(slots=True)
class Left:
    """What the journal leaves over: the turn that was not over, and the ``tools`` that the application gave last.
    ``has_begun``: the caller may have heard something.
    """

    has_begun: bool = False
    is_open: bool = False
    turn: int = 0
    said: str = ""
    answer: str = ""
    rounds: list[Round] = field(default_factory=list)
    tools: tuple[Tool, ...] | None = None

    def cue(self) -> str:
        """What the agent is to do now."""
        cue = ANSWER if self.is_open and self.said else GO_ON
        return f"{cue} {SAYING}{self.answer}" if self.is_open and self.answer else cue


def replayed(records: Sequence[Record], history: History) -> Left:
    """``history`` is that of the agent's verb; afterwards it is as it was, with the turn that was not over behind it.
    Raises ``KeyError``, ``TypeError`` or ``ValueError`` for what is no journal of a conversation.
    """
    left = Left()
    tell, history.tell = history.tell, lambda record: None  # it is written already
    try:
        for record in records:
            _replay(record, history, left)
    finally:
        history.tell = tell
    if left.is_open and (left.said or left.rounds):
        for round_ in left.rounds:
            for call in round_.calls:
                round_.results.setdefault(call.id, LOST)
        history.commit(left.said, "", left.rounds)
    return left


def _replay(record: Record, history: History, left: Left) -> None:
    match record:
        case {"kind": "began"}:
            left.has_begun = True
        case {"kind": "asked", "turn": int(turn), "said": str(said)}:
            if turn != left.turn or not left.is_open:
                left.rounds = []  # else the caller has added words: tools that ran stay run
            left.turn, left.said, left.answer, left.is_open = turn, said, "", True
        case {"kind": "tools", "calls": list(calls)}:
            left.rounds.append(Round(0, calls_of(calls)))
        case {"kind": "result", "id": str(id_), "result": str(result)}:
            history.result_came(id_, result)
            for round_ in left.rounds:
                if any(call.id == id_ for call in round_.calls):
                    round_.results[id_] = result
        case {"kind": "answered", "text": str(text)}:
            left.answer = text
        case {"kind": "turn", "messages": list(messages)}:
            left.is_open, left.said, left.answer, left.rounds = False, "", "", []
            history.take_turn(messages_of(messages))
        case {"kind": "remark" | "context", "messages": list(messages)}:
            history.inject(messages_of(messages))
        case {"kind": "summary", "messages": int(count), "text": str(text)}:
            history.summarized(count, text)
        case {"kind": "instructions", "text": str(text)}:
            history.system = text
        case {"kind": "offer", "tools": list(tools)}:
            left.tools = tools_of(tools)
