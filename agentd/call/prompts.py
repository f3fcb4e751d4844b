"""What the model was asked, for whoever looks into a turn: each prompt as what is new in it since the one before.

prompt {reply, turn, speculative, kept, messages, tools}    the first ``kept`` messages are those of the last prompt
"""

from agentd.call.records import messages_record
from agentd.ops.log import EventLog
from providers.base import Message
from turn.actions import Generate


class PromptLog:
    """That of one call. A conversation's prompts are mostly the same words again and again: each is kept once."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._last: tuple[Message, ...] = ()

    def prompted(self, action: Generate, messages: tuple[Message, ...], tools: list[str]) -> None:
        """A model is asked for the reply of ``action``."""
        kept = 0
        for before, now in zip(self._last, messages, strict=False):
            if before is not now and before != now:
                break
            kept += 1
        self._last = messages
        self._log.append(
            "prompt",
            reply=action.reply,
            turn=action.turn,
            speculative=action.speculative,
            kept=kept,
            messages=messages_record(messages[kept:]),
            tools=tools,
        )
