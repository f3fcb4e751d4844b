"""The models of a call: deadlines, second tries, hedges and fallbacks. Nothing that was answered is asked for again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from agentd.call.models import Choice, Health, Models
from config.deadlines import Deadlines
from providers.base import LlmEvent, Message, Prompt, ProviderError, TextDelta, ToolCall, Working
from tests import virtual_time

HELLO = Prompt((Message("user", "hello"),))
OVERLOADED = ProviderError("x", "llm-server-error", retryable=True)
REFUSED = ProviderError("x", "llm-unauthorized")


class Model:
    """Answers each request with the next of ``answers``: a list of words, numbers (seconds to wait) and errors."""

    def __init__(self, name: str, *answers: list[Any]) -> None:
        self.name = name
        self.answers = list(answers)
        self.asked: list[float] = []  # when
        self.running = 0

    async def reply(self, prompt: Prompt) -> AsyncIterator[LlmEvent]:
        self.asked.append(asyncio.get_running_loop().time())
        self.running += 1
        try:
            for step in self.answers.pop(0):
                match step:
                    case str():
                        yield TextDelta(step)
                    case float():
                        await asyncio.sleep(step)
                    case Exception():
                        raise step
                    case _:
                        yield step
        finally:
            self.running -= 1


class Desk:
    """Models in order, and what they said, when, and what was told of their failures."""

    def __init__(self, *models: Model, health: Health | None = None, **deadlines: float) -> None:
        self.models = models
        self.told: list[tuple[str, str, str]] = []
        self.made = Models(
            [Choice(model) for model in models],
            Deadlines.model_validate(deadlines),
            health or Health(),
            lambda name, error, then: self.told.append((name, error.code, then)),
        )
        self.said: list[tuple[float, str]] = []

    async def ask(self) -> str:
        loop = asyncio.get_running_loop()
        async with aclosing(self.made.reply(HELLO)) as events:  # type: ignore[type-var]
            async for event in events:
                self.said.append((round(loop.time(), 6), getattr(event, "text", "") or getattr(event, "name", "")))
        assert not any(model.running for model in self.models), "a request that nobody reads goes on"
        return "".join(text for _, text in self.said)

    def fails(self) -> ProviderError:
        async def main() -> ProviderError:
            with pytest.raises(ProviderError) as caught:
                await self.ask()
            return caught.value

        return virtual_time.run(main())


def test_the_first_model_answers_and_nobody_else_is_asked() -> None:
    first, second = Model("a", ["Hello", " there."]), Model("b", ["No."])
    desk = Desk(first, second)
    assert virtual_time.run(desk.ask()) == "Hello there."
    assert (desk.told, second.asked, desk.made.name) == ([], [], "a")


def test_a_model_that_breaks_down_is_asked_once_more_and_then_the_next() -> None:
    first, second = Model("a", [OVERLOADED], [OVERLOADED]), Model("b", ["Yes."])
    desk = Desk(first, second)
    assert virtual_time.run(desk.ask()) == "Yes."
    assert (first.asked, second.asked) == ([0.0, 0.3], [0.3])
    assert desk.told == [("a", "llm-server-error", "a"), ("a", "llm-server-error", "b")]
    assert desk.made.name == "b"


def test_a_model_that_refuses_is_not_asked_again() -> None:
    first, second = Model("a", [REFUSED]), Model("b", ["Yes."])
    assert virtual_time.run(Desk(first, second).ask()) == "Yes."
    assert len(first.asked) == 1


def test_a_model_alone_that_refuses_is_the_end() -> None:
    desk = Desk(Model("a", [REFUSED]))
    assert desk.fails() is REFUSED
    assert desk.told == [("a", "llm-unauthorized", "")]


def test_without_a_first_token_in_time_the_next_model_answers() -> None:
    first, second = Model("a", [60.0, "Late."]), Model("b", ["Yes."])
    desk = Desk(first, second)
    assert virtual_time.run(desk.ask()) == "Yes."
    assert second.asked == [5.0]
    assert desk.told == [("a", "llm-timeout", "b")]


def test_a_model_that_stalls_within_its_answer_is_cut_off_and_nobody_repeats_it() -> None:
    first, second = Model("a", ["One", 0.5, " two", 60.0, " three."]), Model("b", ["One two three."])
    desk = Desk(first, second)
    error = desk.fails()
    assert (error.code, error.retryable) == ("llm-stalled", True)
    assert desk.said == [(0.0, "One"), (0.5, " two")]
    assert second.asked == []


def test_a_slow_model_is_no_stalled_one() -> None:
    words = [step for _ in range(20) for step in ("word ", 4.9)]
    desk = Desk(Model("a", words))
    assert virtual_time.run(desk.ask()) == "word " * 20


def test_a_model_that_thinks_or_writes_a_tools_arguments_is_no_silent_one() -> None:
    call = ToolCall("1", "look", "{}")
    desk = Desk(Model("a", [*[Working(), 4.0] * 5, "Well.", *[Working(), 4.0] * 5, call]))
    assert virtual_time.run(desk.ask()) == "Well.look"
    assert desk.told == []


def test_a_thought_that_breaks_off_was_not_said_and_is_asked_for_again() -> None:
    model = Model("a", [Working(), ProviderError("x", "llm-connection-lost", retryable=True)], ["Yes."])
    assert virtual_time.run(Desk(model).ask()) == "Yes."


def test_a_reader_that_takes_its_time_is_no_stalled_model() -> None:
    desk = Desk(Model("a", ["One ", "two ", "three."]))

    async def main() -> list[str]:
        said = []
        async with aclosing(desk.made.reply(HELLO)) as events:  # type: ignore[type-var]
            async for event in events:
                assert isinstance(event, TextDelta)
                said.append(event.text)
                await asyncio.sleep(60)
        return said

    assert virtual_time.run(main()) == ["One ", "two ", "three."]


@pytest.mark.parametrize(("asked", "waited"), [(1.0, 1.0), (0.0, 0.0), (30.0, 2.0), (None, 0.3)])
def test_a_busy_model_gets_the_time_that_it_asks_for_within_bounds(asked: float | None, waited: float) -> None:
    busy = ProviderError("x", "llm-rate-limited", retryable=True, retry_after=asked)
    model = Model("a", [busy], ["Yes."])
    assert virtual_time.run(Desk(model).ask()) == "Yes."
    assert model.asked == [0.0, waited]


def test_a_model_that_is_busy_for_long_is_left_for_the_next_at_once() -> None:
    busy = ProviderError("x", "llm-rate-limited", retryable=True, retry_after=30.0)
    first, second = Model("a", [busy]), Model("b", ["Yes."])
    assert virtual_time.run(Desk(first, second).ask()) == "Yes."
    assert second.asked == [0.0]


def test_a_lost_connection_is_no_reason_to_wait() -> None:
    model = Model("a", [ProviderError("x", "llm-connection-lost", retryable=True)], ["Yes."])
    assert virtual_time.run(Desk(model).ask()) == "Yes."
    assert model.asked == [0.0, 0.0]


def test_half_a_tool_call_was_not_said_and_is_asked_for_again() -> None:
    call = ToolCall("1", "look", "{}")
    model = Model("a", [ProviderError("x", "llm-connection-lost", retryable=True)], [call])
    assert virtual_time.run(Desk(model).ask()) == "look"


def test_a_model_that_has_failed_is_not_the_first_choice_for_a_while_in_any_call() -> None:
    first, second = Model("a", [REFUSED], ["Well again."]), Model("b", ["One."], ["Two."])
    health = Health()

    async def main() -> list[str]:
        answers = [await Desk(first, second, health=health).ask(), await Desk(first, second, health=health).ask()]
        await asyncio.sleep(30.0)
        return [*answers, await Desk(first, second, health=health).ask()]

    assert virtual_time.run(main()) == ["One.", "Two.", "Well again."]


def test_the_only_model_is_asked_even_if_it_has_failed() -> None:
    model, health = Model("a", [REFUSED], ["Yes."]), Health()
    Desk(model, health=health).fails()
    assert virtual_time.run(Desk(model, health=health).ask()) == "Yes."


# The hedge ------------------------------------------------------------------------------------------------


def test_a_hedge_asks_a_second_model_and_takes_whoever_speaks_first() -> None:
    first, second = Model("a", [4.0, "Slow."]), Model("b", [0.2, "Quick", 0.1, " one."])
    desk = Desk(first, second, hedge=1.0)
    assert virtual_time.run(desk.ask()) == "Quick one."
    assert (second.asked, desk.said[0][0], desk.made.name) == ([1.0], 1.2, "b")


def test_a_hedge_without_another_model_asks_the_same_once_more() -> None:
    model = Model("a", [4.0, "Slow."], ["Quick."])
    assert virtual_time.run(Desk(model, hedge=1.0).ask()) == "Quick."
    assert model.asked == [0.0, 1.0]


def test_the_first_request_may_still_win_against_its_hedge() -> None:
    first, second = Model("a", [1.5, "Mine."]), Model("b", [9.0, "Late."])
    assert virtual_time.run(Desk(first, second, hedge=1.0).ask()) == "Mine."


def test_a_quick_answer_costs_no_second_request() -> None:
    first, second = Model("a", [0.5, "Mine."]), Model("b", ["No."])
    assert virtual_time.run(Desk(first, second, hedge=1.0).ask()) == "Mine."
    assert second.asked == []


def test_a_hedge_that_fails_leaves_the_first_request_alone() -> None:
    first, second = Model("a", [3.0, "Mine."]), Model("b", [REFUSED])
    assert virtual_time.run(Desk(first, second, hedge=1.0).ask()) == "Mine."


def test_when_both_fail_the_next_one_is_asked() -> None:
    first, second = Model("a", [2.0, REFUSED]), Model("b", [2.0, REFUSED], [REFUSED], ["Third time."])
    third = Model("c", ["Yes."])
    assert virtual_time.run(Desk(first, second, third, hedge=1.0).ask()) == "Yes."


def test_when_neither_speaks_both_are_cut_off() -> None:
    first, second = Model("a", [60.0]), Model("b", [60.0], [60.0], [60.0])
    desk = Desk(first, second, hedge=1.0)
    assert desk.fails().code == "llm-timeout"


@pytest.mark.parametrize("hedge", [0.0, 1.0])
@pytest.mark.parametrize("after", [0.5, 1.5, 2.5])
def test_a_cancelled_reply_leaves_no_request_behind(hedge: float, after: float) -> None:
    first, second = Model("a", [2.0, "One", 60.0]), Model("b", [9.0, "Two"])
    desk = Desk(first, second, hedge=hedge)

    async def main() -> None:
        task = asyncio.create_task(desk.ask())
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (first.running, second.running) == (0, 0)

    virtual_time.run(main())
