"""What jambonz has said on its control socket, by msgid: a message passes once, however often it comes, and is answered
once. Pure.
"""

from dataclasses import dataclass
from typing import Any

KNOWN = 1000  # messages; when there are more, the oldest is forgotten, and its answer would be ignored
ANSWERS = 16  # answers (24 KiB at most) that are kept for who asks again

WANTS_VERBS = frozenset({"session:new", "session:redirect", "session:adulting", "verb:hook", "dial:confirm"})


@dataclass(slots=True)
class _Message:
    type: object
    is_answered: bool = False


class Asked:
    """Those of one call."""

    def __init__(self) -> None:
        self._messages: dict[str, _Message] = {}  # oldest first
        self._answers: dict[str, str] = {}  # as they were given; oldest first

    def add(self, msgid: str, type_: object) -> bool:
        """Is it new?"""
        if msgid in self._messages:
            return False
        self._messages[msgid] = _Message(type_)
        _bound(self._messages, KNOWN)
        return True

    def is_open(self, msgid: str) -> bool:
        """Was it asked, and not answered yet?"""
        message = self._messages.get(msgid)
        return message is not None and not message.is_answered

    def answer(self, msgid: str, text: str) -> None:
        """Of a message that is open."""
        self._messages[msgid].is_answered = True
        self._answers[msgid] = text
        _bound(self._answers, ANSWERS)

    def answer_to(self, msgid: str) -> str | None:
        """The one that was given."""
        return self._answers.get(msgid)

    def unanswered(self) -> list[str]:
        """Questions that wait for verbs."""
        return [
            id_ for id_, message in self._messages.items() if message.type in WANTS_VERBS and not message.is_answered
        ]


def _bound(known: dict[str, Any], most: int) -> None:
    while len(known) > most:
        del known[next(iter(known))]
