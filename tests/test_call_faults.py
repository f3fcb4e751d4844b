"""Whole calls with vendors and tools that fail: the call goes on, or ends cleanly with its reason."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import numpy as np
import pytest

from agentd.prebuilt import PREBUILT, Prebuilt
from providers import scripted
from providers.audio_feed import AudioFeed, Mark
from providers.base import Final, Message, ProviderError, SttEvent, Tool
from tests import virtual_time
from tests.jambonz import voice
from tests.whole_call import House, agent, runs, say, spoken

CALCULATE = {"tools": [{"name": "calculator", "arguments": {"expression": "1+1"}}]}


def responses(house: House) -> list[str]:
    return [entry["response"] for entry in house.entries("turn_end")]


def failures(house: House) -> list[str]:
    return [entry["code"] for entry in house.entries("turn_failed")]


def play(house: House, turns: int, within: float = 60.0) -> None:
    """A call in which the caller speaks so many times, each time until the turn is over."""

    async def main() -> None:
        async with house.call() as call:
            for turn in range(turns):
                await say(call)
                await call.until(lambda turn=turn: len(house.entries("turn_end")) > turn, within=within)  # type: ignore[misc]
            await call.play(1.0)

    virtual_time.run(main())


def ends(house: House, within: float = 60.0) -> dict[str, Any]:
    """A call in which the caller goes on speaking until the server ends it; its last entry."""

    async def main() -> None:
        async with house.call() as call:
            for _ in range(20):
                await say(call)
                await call.play(3.0)
                if call.closed:
                    break
            await call.until(lambda: call.closed, within=within)
            assert call.received("disconnect")

    virtual_time.run(main())
    (entry,) = house.entries("call_ended")
    return entry


# The model -----------------------------------------------------------------------------------------------


def test_a_model_that_hangs_costs_one_turn() -> None:
    house = House(agent(["hello", "again"], [{"hang": True}, "Here I am."], noResponseTimeout=0))
    play(house, 2)
    assert responses(house) == ["", "Here I am."]
    assert failures(house) == ["llm-timeout"]


def test_a_model_that_fails_with_tools_is_asked_once_more_without() -> None:
    house = House(agent(["hello"], [{"error": "tools are bad"}, "Without tools."], tools=["calculator"]))
    play(house, 1)
    assert responses(house) == ["Without tools."]
    assert [len(prompt.tools) for prompt in house.prompts] == [1, 0]


def test_a_model_that_fails_costs_one_turn_and_nobody_is_prompted_again() -> None:
    house = House(agent(["hello"], [{"error": "overloaded"}, "Fine."], noResponseTimeout=5))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)
            await call.play(20)
            assert len(house.prompts) == 1
            await house.turn(call)

    virtual_time.run(main())
    assert responses(house) == ["", "Fine."]
    assert failures(house) == ["overloaded"]


def test_of_a_model_that_fails_in_mid_sentence_the_whole_sentences_are_said() -> None:
    broken = {"text": "This is whole. This is not", "error": "reset"}
    house = House(agent(["hello", "again"], [broken, "Fine."]))
    play(house, 2)
    assert responses(house) == ["This is whole.", "Fine."]
    assert failures(house) == ["reset"]
    assert [message.content for message in house.prompts[-1].messages] == ["hello", "This is whole.", "again"]


def test_three_failed_turns_in_a_row_end_the_call() -> None:
    house = House(agent(["one", "two", "three", "four"], [{"error": "overloaded"}]))
    entry = ends(house)
    assert entry["completion_reason"] == "server error"
    assert entry["error"] == {"code": "overloaded", "message": "overloaded", "vendor": "scripted"}
    assert len(house.entries("turn_end")) == 3


def test_three_hanging_turns_in_a_row_end_the_call() -> None:
    house = House(agent(["one", "two", "three", "four"], [{"hang": True}], noResponseTimeout=0))

    async def main() -> None:
        async with house.call() as call:
            for turn in range(3):
                await say(call)
                await call.until(lambda turn=turn: call.closed or len(house.entries("turn_end")) > turn)  # type: ignore[misc]
            await call.until(lambda: call.closed)

    virtual_time.run(main())
    (entry,) = house.entries("call_ended")
    assert entry["completion_reason"] == "server error"
    message = "expected a first token within 5 s, got none"
    assert entry["error"] == {"code": "llm-timeout", "message": message, "vendor": "scripted"}


def test_an_empty_answer_is_asked_for_once_more() -> None:
    house = House(agent(["hello"], ["", "Yes."]))
    play(house, 1)
    assert responses(house) == ["Yes."]


def test_of_a_model_that_hangs_in_mid_sentence_what_was_heard_is_kept() -> None:
    house = House(agent(["hello"], [{"text": "This is whole. This is", "hang": True}]))
    play(house, 1)
    assert responses(house) == ["This is whole. This is"]
    assert failures(house) == ["llm-stalled"]


# The voice -----------------------------------------------------------------------------------------------


def test_a_voice_that_fails_before_any_audio_costs_one_turn() -> None:
    house = House(agent(["hello", "again"], ["One.", "Two."], tts={"errors": [0]}))
    play(house, 2)
    assert responses(house) == ["", "Two."]
    assert failures(house) == ["tts-lost"]


@pytest.mark.parametrize("words", [True, False])
def test_what_a_voice_said_before_it_failed_is_heard_and_kept(words: bool) -> None:
    text = "This is the first sentence. This is the second."
    house = House(agent(["hello", "again"], [text, "Two."], tts={"errors": [1.4], "words": words}))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)
            assert [run.length for run in runs(call.media.recording)] == [int(1.4 * 8000)]
            await house.turn(call)
            assert call.media.stuck == 0

    virtual_time.run(main())
    assert responses(house) == ["This is the first sentence.", "Two."]
    assert failures(house) == ["tts-lost"]


# The recogniser ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [{"error": "stt-connection-lost", "retryable": True}, {"end": True}], ids=str)
def test_a_lost_recogniser_is_dialled_again_and_hears_again_what_it_had_not_understood(fault: dict[str, Any]) -> None:
    house = House(agent([fault, "hello", "and again"], ["Yes.", "No."], noResponseTimeout=0))

    async def main() -> None:
        async with house.call() as call:
            await say(call)
            await call.until(lambda: responses(house) == ["Yes."])
            await house.turn(call)

    virtual_time.run(main())
    assert [entry["transcript"] for entry in house.entries("user_transcript")] == ["hello", "and again"]
    assert responses(house) == ["Yes.", "No."]


class Recorder:
    """A recogniser that keeps what it is given; its connection is lost when it has heard ``until`` seconds."""

    def __init__(self, until: list[float], finals_at: float = 0.0) -> None:
        self.until, self.finals_at = until, finals_at
        self.connections: list[bytes] = []

    async def listen(self, audio: AudioFeed) -> AsyncIterator[SttEvent]:
        self.connections.append(b"")
        async for item in audio:
            if isinstance(item, bytes):
                self.connections[-1] += item
            elif item is Mark.SPEECH_STOPPED and len(self.connections) > 1:
                yield Final("hello")
            heard = len(self.connections[-1]) / audio.rate / 2
            if self.finals_at and heard >= self.finals_at:
                self.finals_at = 0.0
                yield Final("before")
            if self.until and heard >= self.until[0]:
                self.until.pop(0)
                raise ProviderError("recorder", "stt-connection-lost", retryable=True)


@pytest.mark.parametrize(
    ("lost_at", "final_at", "again"), [(3.0, 0.0, 3.0), (12.0, 0.0, 5.0), (4.0, 3.0, 1.0)], ids=["all", "5 s", "since"]
)
def test_what_was_said_since_the_last_final_is_heard_again_and_nothing_is_doubled(
    monkeypatch: pytest.MonkeyPatch, lost_at: float, final_at: float, again: float
) -> None:
    stt = Recorder([lost_at], final_at)
    monkeypatch.setattr(scripted, "make_stt", lambda spec, shared: stt)
    house = House(agent(noResponseTimeout=0, turnDetection="stt"))

    async def main() -> None:
        async with house.call() as call:
            ramp = np.arange(20 * 8000) % 20000 + 2000  # every sample tells its place
            call.say(bytes(ramp.astype("<i2")))
            await call.play(14.0)

    virtual_time.run(main())
    first, second = stt.connections
    overlap = first[-round(again * 8000) * 2 :]
    assert second.startswith(overlap)
    following = np.frombuffer(second[len(overlap) :][:2], "<i2")[0]
    assert following == np.frombuffer(first[-2:], "<i2")[0] + 1


def test_a_recogniser_that_refuses_ends_the_call() -> None:
    house = House(agent([{"error": "stt-auth"}]))
    entry = ends(house)
    assert entry["completion_reason"] == "connection failure"
    assert entry["error"] == {"code": "stt-auth", "message": "stt-auth", "vendor": "scripted"}


def test_a_recogniser_that_is_lost_again_and_again_ends_the_call() -> None:
    house = House(agent([{"error": "stt-connection-lost", "retryable": True}] * 10))
    assert ends(house)["completion_reason"] == "connection failure"


def test_a_silent_recogniser_leaves_the_partial_to_be_answered() -> None:
    house = House(agent(["hello"], ["Yes."], stt={"partials": True, "delay": 100}))
    play(house, 1)
    assert [entry["transcript"] for entry in house.entries("turn_end")] == ["hello"]


# Tools ---------------------------------------------------------------------------------------------------


Execute = Callable[[Mapping[str, Any]], Awaitable[Any]]


@pytest.fixture
def calculator(monkeypatch: pytest.MonkeyPatch) -> Callable[[Execute], None]:
    """Put something else behind the tool `calculator`, which then takes any arguments."""

    def install(execute: Execute) -> None:
        monkeypatch.setitem(PREBUILT, "calculator", Prebuilt(Tool("calculator", "", {}), execute))

    return install


async def raises(arguments: Mapping[str, Any]) -> Any:
    raise ValueError("no such number")


async def never(arguments: Mapping[str, Any]) -> Any:
    await asyncio.Event().wait()


def calling(arguments: Any, name: str = "calculator") -> dict[str, Any]:
    return {"tools": [{"name": name, "arguments": arguments}]}


@pytest.mark.parametrize(
    ("execute", "call", "result"),
    [
        (raises, calling({}), "Error: the tool 'calculator' failed: no such number"),
        (never, calling({}), "Error: the tool 'calculator' did not answer within 20 seconds."),
        (raises, calling("[1]"), "Error: expected the arguments as a JSON object, got list."),
        (
            raises,
            calling("{oh no"),
            "Error: expected the arguments as a JSON object, got text that is not JSON (Expecting property name "
            "enclosed in double quotes: line 1 column 2 (char 1)).",
        ),
        (raises, calling({}, "nope"), "Error: there is no tool 'nope'; there are calculator."),
    ],
    ids=["raises", "times out", "a list", "not JSON", "unknown"],
)
def test_a_tool_that_fails_is_a_result_that_the_model_reads(
    execute: Execute, call: dict[str, Any], result: str, calculator: Callable[[Execute], None]
) -> None:
    calculator(execute)
    house = House(agent(["hello"], [call, "I could not."], tools=["calculator"]))
    play(house, 1)
    assert responses(house) == ["I could not."]
    assert house.prompts[-1].messages[-1] == Message("tool", result, tool_call_id="call-1")


def test_arguments_that_are_nested_too_deep_are_no_reason_to_end_the_call(
    calculator: Callable[[Execute], None],
) -> None:
    calculator(raises)
    house = House(agent(["hello"], [calling('{"a":' + "[" * 100_000), "I could not."], tools=["calculator"]))
    play(house, 1)
    assert responses(house) == ["I could not."]


def test_after_eight_rounds_of_tools_the_model_must_answer_in_words() -> None:
    house = House(agent(["hello"], [CALCULATE] * 8 + ["Enough."], tools=["calculator"]))
    play(house, 1)
    assert responses(house) == ["Enough."]
    assert [len(prompt.tools) for prompt in house.prompts] == [1] * 8 + [0]
    assert len(house.entries("turn_end")[0]["tool_calls"]) == 8


def test_tools_of_one_round_run_side_by_side_and_their_results_keep_the_calls_order(
    calculator: Callable[[Execute], None],
) -> None:
    async def slow(arguments: Mapping[str, Any]) -> Any:
        await asyncio.sleep(arguments["seconds"])
        return arguments["seconds"]

    calculator(slow)
    calls = [{"name": "calculator", "arguments": {"seconds": seconds}} for seconds in (3, 1, 2)]
    house = House(agent(["hello"], [{"tools": calls}, "Done."], tools=["calculator"]))
    play(house, 1)
    assert [message.content for message in house.prompts[-1].messages[-3:]] == ["3", "1", "2"]
    assert [entry["result"] for entry in house.entries("tool_result")] == ["1", "2", "3"]
    assert house.entries("turn_end")[0]["latency"]["tool_ms"] == 3000


@pytest.mark.parametrize("text", ["", "Let me see, this will take me a moment or two. "])
def test_the_result_of_a_tool_that_was_interrupted_gets_into_history(
    text: str, calculator: Callable[[Execute], None]
) -> None:
    async def slow(arguments: Mapping[str, Any]) -> Any:
        await asyncio.sleep(4)
        return "forty-two"

    calculator(slow)
    house = House(agent(["hello", "stop", "and"], [{**CALCULATE, "text": text}, "Yes."], tools=["calculator"]))

    async def main() -> None:
        async with house.call() as call:
            await say(call)
            await call.until(lambda: house.entries("tool_call"))
            await call.play(0.5)
            call.say(voice(0.8))
            await call.until(lambda: "Yes." in responses(house))
            await call.until(lambda: house.entries("tool_result"))
            await house.turn(call)

    virtual_time.run(main())
    assert len(house.entries("tool_call")) == 1  # it ran once, although its turn was taken up anew
    messages = house.prompts[-1].messages
    (called,) = [at for at, message in enumerate(messages) if message.tool_calls]
    assert messages[called + 1] == Message("tool", "forty-two", tool_call_id="call-1")


# Silence -------------------------------------------------------------------------------------------------


def test_a_silent_caller_is_asked_and_at_last_let_go() -> None:
    house = House(agent([], ["Hello?"], noResponseTimeout=5, noResponseMaxPrompts=2))

    async def main() -> None:
        async with house.call() as call:
            call.say(voice(0.6))  # a cough without words starts the wait
            await call.until(lambda: call.closed)

    virtual_time.run(main())
    assert [(entry["cause"], entry["response"]) for entry in house.entries("turn_end")] == [
        ("no_response", "Hello?")
    ] * 2
    assert house.entries("call_ended")[0]["completion_reason"] == "no_response"
    assert "has not responded" in house.prompts[0].messages[-1].content


def test_a_greeting_is_said_word_for_word() -> None:
    house = House(agent(["hello"], ["Yes."], greeting="Welcome to Dr. No's office! How may I help?"))

    async def main() -> None:
        async with house.call() as call:
            await call.until(lambda: house.entries("turn_end"))
            assert [run.length for run in runs(call.media.recording)] == [
                spoken(house.entries("turn_end")[0]["response"])
            ]
            await house.turn(call)

    virtual_time.run(main())
    assert responses(house) == ["Welcome to Dr. No's office! How may I help?", "Yes."]
    assert len(house.prompts) == 1
    assert house.prompts[0].messages[0].content == "Welcome to Dr. No's office! How may I help?"
