"""What waits to be sent on one socket, and what waits to be answered on it."""

import asyncio
import contextlib
import json
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from agentd.outbound.channel import HookFailed
from config import payloads
from config.payloads import Payload

LIMIT = 200  # messages that wait to be sent


def _future() -> "asyncio.Future[Any]":
    return asyncio.get_running_loop().create_future()


@dataclass(eq=False, slots=True)
class Letter:
    """One message. ``sent`` is None once it has left, or says why it never will; cancelled, it is not sent at all."""

    msgid: str
    text: str
    is_event: bool = False
    sent: "asyncio.Future[HookFailed | None]" = field(default_factory=_future)

    @classmethod
    def of(cls, type_: str, call_sid: str, data: Payload, hook: str | None = None, *, is_event: bool = False) -> Self:
        """Raises :class:`HookFailed` for what is not JSON: JavaScript reads no NaN."""
        msgid = str(uuid.uuid4())
        try:
            text = json.dumps(payloads.message(type_, call_sid, msgid, data, hook), allow_nan=False)
        except (ValueError, TypeError, RecursionError):
            raise HookFailed("expected what can be sent as JSON, got something else") from None
        return cls(msgid, text, is_event)

    def settle(self, failed: HookFailed | None = None) -> None:
        if not self.sent.done():
            self.sent.set_result(failed)

    def has_left(self) -> bool:
        return self.sent.done() and not self.sent.cancelled() and self.sent.result() is None

    async def delivered(self, seconds: float) -> None:
        """Until it has left. Raises :class:`HookFailed`."""
        try:
            async with asyncio.timeout(seconds):
                failed = await self.sent
        except TimeoutError:
            raise too_late(seconds, self) from None
        _raise(failed)


class Sending:
    """Messages in their order. Full, it drops the oldest event; with no event in it, it refuses what comes."""

    def __init__(self) -> None:
        self.dropped = 0  # events
        self._letters: deque[Letter] = deque()
        self._filled = asyncio.Event()

    def put(self, letter: Letter) -> None:
        """Raises :class:`HookFailed` when there is no room."""
        if len(self._letters) >= LIMIT:
            self._make_room()
        if len(self._letters) >= LIMIT:
            raise HookFailed("too many messages wait for the application", may_retry=True)
        self._letters.append(letter)
        self._filled.set()

    def take(self) -> Letter | None:
        """The next message that is still wanted."""
        while self._letters:
            if not (letter := self._letters.popleft()).sent.done():
                return letter
        self._filled.clear()
        return None

    async def wait(self) -> None:
        """Until there is something to take."""
        await self._filled.wait()

    def close(self, why: str) -> None:
        """Nothing of it will be sent."""
        while (letter := self.take()) is not None:
            letter.settle(HookFailed(why, may_retry=True))

    def _make_room(self) -> None:
        self._letters = deque(letter for letter in self._letters if not letter.sent.done())
        oldest = next((letter for letter in self._letters if letter.is_event), None)
        if len(self._letters) >= LIMIT and oldest is not None:
            self._letters.remove(oldest)
            self.dropped += 1
            oldest.settle(HookFailed("too many messages wait for the application: the event was dropped"))


@dataclass(eq=False, slots=True)
class Question:
    """A message that is to be answered."""

    letter: Letter
    answer: "asyncio.Future[Any]" = field(default_factory=_future)

    async def wait(self, seconds: float) -> Any:
        """Until it is answered. Raises :class:`HookFailed`."""
        try:
            async with asyncio.timeout(seconds):
                _raise(await self.letter.sent)
                await self.answer
        except TimeoutError:
            raise too_late(seconds, self.letter) from None
        return self.result()

    def result(self) -> Any:
        """The answer that has come. Raises :class:`HookFailed`."""
        _raise(answer := self.answer.result())
        return answer


class Questions:
    """What was asked and is not answered yet, by the id that the answer will have. Who asks has a deadline, and by that
    their number has a bound.
    """

    def __init__(self) -> None:
        self._open: dict[str, Question] = {}

    @contextlib.contextmanager
    def ask(self, key: str, letter: Letter) -> Iterator[Question]:
        """The question, which is forgotten in the end. Raises :class:`HookFailed` for a key that is asked already."""
        if key in self._open:
            raise HookFailed("the application is being asked this already")
        self._open[key] = Question(letter)
        try:
            yield self._open[key]
        finally:
            del self._open[key]

    def answer(self, key: str | None, answer: Any) -> bool:
        """Was this asked, and not answered before?"""
        question = self._open.get(key or "")
        if question is None or question.answer.done():
            return False
        question.answer.set_result(answer)
        return True

    def fail(self, why: str, *, only_sent: bool = False) -> None:
        """No answer will come any more."""
        for key, question in self._open.items():
            if question.letter.has_left() or not only_sent:
                self.answer(key, HookFailed(why))


def _raise(failed: object) -> None:
    if isinstance(failed, HookFailed):
        raise HookFailed(str(failed), may_retry=failed.may_retry)


def too_late(seconds: float, letter: Letter) -> HookFailed:
    message = f"the application did not answer within {seconds:g} seconds"
    return HookFailed(message, may_retry=not letter.has_left())
