"""The models of a call in their order of preference, behind one :class:`providers.base.Llm`: deadlines, a second try,
a hedge, and the next model. Nothing is asked for twice that was answered: once a word has come, a failure is the
reply's end.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentd.call.watch import Overdue, Watch
from config.deadlines import Deadlines
from providers.base import Llm, LlmEvent, Prompt, ProviderError, Usage, Working

TRIES = 2  # of one model, unless `connectOptions.maxRetries` says otherwise
BACKOFF = 0.3  # seconds before the second, where the vendor names no time …
AT_ONCE = ("llm-connection-lost", "llm-bad-stream", "llm-empty-stream")  # … and the next request knows nothing of it
HOPELESS = ("llm-timeout", "llm-stalled")  # the caller has waited long enough for this one

Tell = Callable[[str, ProviderError, str], None]
"""Called with the name of what failed, its error, and the name of what is tried next: empty for nothing."""


class Health:
    """Which models have failed lately, for all calls of a server: a new call need not find it out again."""

    def __init__(self) -> None:
        self._failed: dict[str, float] = {}

    def failed(self, name: str, until: float) -> None:
        self._failed[name] = until

    def well(self, name: str) -> None:
        self._failed.pop(name, None)

    def is_well(self, name: str, now: float) -> bool:
        return self._failed.get(name, now) <= now

    async def aclose(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A model, how often it may be asked for one reply, and its server and account, which set it apart from another
    of the same name.
    """

    llm: Llm
    tries: int = TRIES
    where: str = ""

    @property
    def key(self) -> str:
        return f"{self.llm.name} {self.where}"


@dataclass(slots=True)
class Answered:
    """One request and what came of it. Times are the loop's; ``first``: when the model began to answer."""

    choice: Choice
    began: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    first: float | None = None
    usage: Usage | None = None


def _ignore(answered: Answered) -> None:
    pass


class Models:
    """``name`` is that of the model that answered last; before any has, of the first. ``answered`` is told of each
    answer that came to its end.
    """

    def __init__(
        self,
        choices: Sequence[Choice],
        deadlines: Deadlines,
        health: Health,
        tell: Tell,
        answered: Callable[[Answered], None] = _ignore,
    ) -> None:
        self.name = choices[0].llm.name
        self._choices = choices
        self._deadlines = deadlines
        self._health = health
        self._tell = tell
        self._answered = answered

    async def reply(self, prompt: Prompt) -> AsyncIterator[LlmEvent]:
        """As :meth:`providers.base.Llm.reply`. Two codes more: ``llm-timeout`` when no first token comes in time,
        ``llm-stalled`` when no next one does.
        """
        plan = self._plan()
        while True:
            choice = plan.pop(0)
            has_said = False
            asked = Answered(choice)
            answer = self._answer(asked, plan, prompt)
            try:
                async for event in answer:
                    if not isinstance(event, Working):
                        has_said = True
                        yield event
                    elif isinstance(event, Usage):
                        asked.usage = event
                self._answered(asked)
                return
            except ProviderError as exc:
                self._health.failed(choice.key, asyncio.get_running_loop().time() + self._deadlines.avoid)
                plan = [] if has_said else self._plan_after(exc, choice, plan)
                self._tell(choice.llm.name, exc, plan[0].llm.name if plan else "")
                if not plan:
                    raise
                if plan[0] is choice:
                    await asyncio.sleep(self._pause(exc))
            finally:
                await _aclose(answer)

    def _plan(self) -> list[Choice]:
        """Every model as often as it may be asked; those that have failed lately come last."""
        now = asyncio.get_running_loop().time()
        ordered = sorted(self._choices, key=lambda choice: not self._health.is_well(choice.key, now))
        return [choice for choice in ordered for _ in range(choice.tries)]

    def _plan_after(self, error: ProviderError, choice: Choice, plan: list[Choice]) -> list[Choice]:
        others = [other for other in plan if other is not choice]
        if not error.retryable or error.code in HOPELESS:
            return others
        too_long = error.retry_after is not None and error.retry_after > self._deadlines.retry_after
        return others if others and too_long else plan

    def _pause(self, error: ProviderError) -> float:
        if error.code in AT_ONCE:
            return 0.0
        return min(BACKOFF if error.retry_after is None else error.retry_after, self._deadlines.retry_after)

    async def _answer(self, asked: Answered, plan: list[Choice], prompt: Prompt) -> AsyncIterator[LlmEvent]:
        choice = asked.choice
        watch = Watch(self._deadlines.first_token)
        code, wanted = "llm-timeout", "a first token"
        events: AsyncIterator[LlmEvent] | None = None
        try:
            if self._deadlines.hedge:
                second = next((other for other in plan if other is not choice), choice)
                choice, events, first = await self._race(choice, second, prompt)
            else:
                events = choice.llm.reply(prompt)
                first = await watch.step(events)
            asked.choice, asked.first = choice, asyncio.get_running_loop().time()
            self.name = choice.llm.name
            self._health.well(choice.key)
            yield first
            code, wanted = "llm-stalled", "the next token"
            watch.limit = self._deadlines.token_gap
            while True:
                yield await watch.step(events)
        except StopAsyncIteration:
            return
        except Overdue:
            message = f"expected {wanted} within {watch.limit:g} s, got none"
            raise ProviderError(_vendor(choice.llm), code, message, retryable=True) from None
        finally:
            watch.stop()
            await _aclose(events)

    async def _race(
        self, first: Choice, second: Choice, prompt: Prompt
    ) -> tuple[Choice, AsyncIterator[LlmEvent], LlmEvent]:
        """Two requests, the second begun when the first has said nothing for the ``hedge``; the first word wins.

        Raises the first request's error when both have failed.
        """
        runners = [_Runner(first, prompt)]
        try:
            async with asyncio.timeout(self._deadlines.first_token or None):
                await asyncio.wait([runners[0].first], timeout=self._deadlines.hedge)
                if not runners[0].first.done():
                    runners.append(_Runner(second, prompt))
                while running := [runner.first for runner in runners if not runner.first.done()]:
                    if any(runner.has_won() for runner in runners):
                        break
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            winner = next((runner for runner in runners if runner.has_won()), runners[0])
            word = winner.first.result()
            runners.remove(winner)
            return winner.choice, winner.events, word
        except TimeoutError:
            raise Overdue from None
        finally:
            for runner in runners:
                await runner.aclose()


class _Runner:
    """One of two requests: its first word is awaited in a task of its own."""

    def __init__(self, choice: Choice, prompt: Prompt) -> None:
        self.choice = choice
        self.events = choice.llm.reply(prompt)
        self.first: asyncio.Task[LlmEvent] = asyncio.create_task(self._first(), name="llm-hedge")

    async def _first(self) -> LlmEvent:
        async for event in self.events:
            if not isinstance(event, Usage):  # of an answer without a word
                return event
        raise ProviderError(
            _vendor(self.choice.llm), "llm-empty-stream", "expected an answer, got none", retryable=True
        )

    def has_won(self) -> bool:
        return self.first.done() and not self.first.cancelled() and self.first.exception() is None

    async def aclose(self) -> None:
        self.first.cancel()
        await asyncio.wait([self.first])
        if not self.first.cancelled():
            self.first.exception()  # it lost: nobody asks why
        await _aclose(self.events)


async def _aclose(events: Any) -> None:
    """Generators have it, other iterators need not."""
    if (close := getattr(events, "aclose", None)) is not None:
        await close()


def _vendor(llm: Llm) -> str:
    return llm.name.partition(":")[0]
