"""Replies that the application asked for while somebody had the floor: they wait here, the urgent ones in front."""

from collections import deque

from turn.events import ReplyRequested

LIMIT = 32  # more are not taken: whoever asks so often is not listened to


class Requests:
    """At most ``LIMIT`` of them, in order."""

    def __init__(self) -> None:
        self._urgent: deque[ReplyRequested] = deque()
        self._others: deque[ReplyRequested] = deque()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._others)

    @property
    def is_urgent(self) -> bool:
        """Does one of them wait for nothing but the end of the caller's words?"""
        return bool(self._urgent)

    def add(self, request: ReplyRequested) -> None:
        if len(self) < LIMIT:
            (self._urgent if request.interrupt else self._others).append(request)

    def take(self) -> ReplyRequested | None:
        """The next one."""
        waiting = self._urgent or self._others
        return waiting.popleft() if waiting else None

    def clear(self) -> None:
        self._urgent.clear()
        self._others.clear()
