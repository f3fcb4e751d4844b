"""Whole calls: what the caller hears while a tool runs long."""

import asyncio
import io
import itertools
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile  # type: ignore[import-untyped, unused-ignore]

from agentd.call.call import Call as AgentCall
from agentd.call.outside import Outside
from agentd.jambonz import line
from agentd.prebuilt import PREBUILT, Prebuilt
from config import payloads
from providers.base import Message, Tool
from tests import virtual_time
from tests.jambonz import Call, voice
from tests.whole_call import House, Run, agent, runs, say, spoken

PHRASE = "One moment, please."
ANSWER = "It is 42."
STILL = "I am still looking."
VOICE = 0.1 + 0.02  # seconds from a text to its sound: the scripted voice, and the far side's next tick
URL = "https://example.com/hold.wav"


@pytest.fixture(autouse=True)
def slow_calculator(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(arguments: Mapping[str, Any]) -> Any:
        await asyncio.sleep(arguments["seconds"])
        return "forty-two"

    monkeypatch.setitem(PREBUILT, "calculator", Prebuilt(Tool("calculator", "", {}), slow))


def look(seconds: float, text: str = "") -> dict[str, Any]:
    return {"tools": [{"name": "calculator", "arguments": {"seconds": seconds}}], "text": text}


def house(*replies: Any, finals: list[Any] = ["hello"] * 3, still: Any = STILL, **verb: Any) -> House:
    """An agent whose tool takes as long as it is told; ``still`` is what the model says to a caller who waits."""
    verb = {"toolFiller": {"type": "backchannel"}, "tools": ["calculator"], "noResponseTimeout": 0, **verb}
    return House(agent(finals, [*replies, ANSWER], llm={"when": {"is still running": [still]}}, **verb))


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    virtual_time.run(scene(), limit=120)


def one_turn(house: House) -> Call:
    """A call of one turn, and what was heard of it."""
    calls: list[Call] = []

    async def scene() -> None:
        async with house.call() as call:
            calls.append(call)
            await house.turn(call)
            await call.play(0.5)

    play(scene)
    return calls[0]


def asked_at(house: House) -> float:
    """When the tool began, in the far side's time."""
    return float(house.entries("tool_call")[0]["at"])


def heard(call: Call) -> list[Run]:
    return runs(call.media.recording)


def assert_parts_add_up(house: House) -> None:
    for entry in house.entries("turn_end"):
        latency = entry["latency"]
        parts = sum(latency[name] for name in payloads.PARTS if name in latency)
        assert abs(parts - latency["total_ms"]) <= 1, latency


# A phrase ------------------------------------------------------------------------------------------------


def test_a_fast_tool_is_waited_for_in_silence() -> None:
    home = house(look(1.9))
    one_turn(home)
    assert home.said == [ANSWER]


def test_a_slow_tool_is_filled_with_a_phrase_after_the_delay() -> None:
    home = house(look(5))
    call = one_turn(home)
    assert call.heard()[0][0] == pytest.approx(asked_at(home) + 2 + VOICE)
    assert home.said == [PHRASE, f" {ANSWER}"]
    assert home.entries("turn_end")[0]["response"] == f"{PHRASE} {ANSWER}"


def test_what_was_said_is_in_history_behind_the_tool() -> None:
    home = house(look(5), ANSWER)

    async def scene() -> None:
        async with home.call() as call:
            await home.turn(call)
            await home.turn(call)

    play(scene)
    messages = home.prompts[-1].messages
    assert messages[-3:] == (
        Message("tool", "forty-two", tool_call_id="call-1"),
        Message("assistant", f"{PHRASE} {ANSWER}"),
        Message("user", "hello"),
    )


def test_a_phrase_is_finished_although_the_tool_has_returned() -> None:
    call = one_turn(house(look(2.3)))
    assert [(run.first, run.length) for run in heard(call)] == [(0, spoken(f"{PHRASE} {ANSWER}"))]


def test_the_phrase_waits_until_the_words_before_the_tool_were_heard() -> None:
    text = "Let me look that up for you and see whether I can find it."
    home = house(look(9, text))
    call = one_turn(home)
    (_, until), (since, _), *_ = call.heard()
    assert home.said == [text, f" {PHRASE}", f" {ANSWER}"]
    assert until > asked_at(home) + 2
    assert since - until == pytest.approx(VOICE, abs=0.021)


def test_a_long_wait_is_explained_once_in_words_of_the_model() -> None:
    home = house(look(19))
    call = one_turn(home)
    assert home.said == [PHRASE, f" {STILL}", f" {ANSWER}"]
    assert call.heard()[1][0] == pytest.approx(asked_at(home) + 10 + 0.2 + VOICE)  # 0.2: its first token
    asked = next(prompt for prompt in home.prompts if "still running" in prompt.messages[-1].content)
    assert [message.role for message in asked.messages] == ["user", "system"]
    assert asked.tools == ()
    assert "calculator" in asked.messages[-1].content and "19" not in asked.messages[-1].content


@pytest.mark.parametrize("still", [{"error": "overloaded"}, {"hang": True}, {"text": "Late.", "first": 4}, ""], ids=str)
def test_a_model_that_has_no_words_for_it_is_replaced(still: Any) -> None:
    home = house(look(19), still=still)
    one_turn(home)
    assert home.said == [PHRASE, " This is taking a little longer than usual, thank you for waiting.", f" {ANSWER}"]
    assert home.entries("turn_end")[0]["response"].endswith(ANSWER)


def test_an_explanation_that_comes_too_late_is_not_said() -> None:
    home = house(look(10.1))
    one_turn(home)
    assert home.said == [PHRASE, f" {ANSWER}"]


def test_every_round_of_tools_has_its_own_phrase() -> None:
    home = house(look(3), look(3), look(1))
    one_turn(home)
    assert home.said == [PHRASE, " Just a second.", f" {ANSWER}"]
    assert len(home.entries("tool_result")) == 3


def test_phrases_of_the_agents_own_are_said_in_turn() -> None:
    home = house(look(3), look(3), look(3), toolFiller={"type": "backchannel", "phrases": ["Hm.", "So."]})
    one_turn(home)
    assert home.said == ["Hm.", " So.", " Hm.", f" {ANSWER}"]


@pytest.mark.parametrize(("language", "phrase"), [("de-DE", "Einen Moment, bitte."), ("xx", PHRASE)])
def test_phrases_are_in_the_language_of_the_voice_and_english_where_there_are_none(language: str, phrase: str) -> None:
    any_ = agent(["hello"], [look(3), ANSWER], toolFiller={"type": "backchannel"}, tools=["calculator"])
    home = House(any_.model_copy(update={"tts": any_.tts.model_copy(update={"language": language})}))
    one_turn(home)
    assert home.said[0] == phrase


def test_a_style_is_asked_for_once_and_used_when_it_is_there() -> None:
    styled = '1. Hang on, mate!\n2. "Two ticks."\n'
    filler = {"type": "backchannel", "style": "like a sailor"}
    home = House(
        agent(
            ["hello"] * 2,
            [look(3), ANSWER, look(3), ANSWER],
            llm={"when": {"like a sailor": [styled]}},
            toolFiller=filler,
            tools=["calculator"],
            noResponseTimeout=0,
        )
    )

    async def scene() -> None:
        async with home.call() as call:
            await home.turn(call)
            await home.turn(call)

    play(scene)
    assert home.said == ["Hang on, mate!", f" {ANSWER}", "Two ticks.", f" {ANSWER}"]
    assert sum("like a sailor" in prompt.messages[0].content for prompt in home.prompts) == 1


def test_an_agent_that_does_not_speak_fills_nothing() -> None:
    home = house(look(5), speak=False)

    async def scene() -> None:
        async with home.call() as call:
            await say(call)
            await call.until(lambda: home.entries("turn_end"))

    play(scene)
    assert home.entries("turn_end")[0]["response"] == ANSWER
    assert home.said == []


@pytest.mark.parametrize("text", ["", "Let me see. "])
@pytest.mark.parametrize("seconds", [1, 2.05, 2.3, 5, 12])
def test_the_parts_of_the_latency_add_up(seconds: float, text: str) -> None:
    home = house(look(seconds, text))
    call = one_turn(home)
    assert_parts_add_up(home)
    latency = home.entries("turn_end")[0]["latency"]
    first = call.heard()[0][0]
    assert latency["total_ms"] == pytest.approx((first - 0.6) * 1000, abs=21)
    if not text:
        assert latency["tool_ms"] == min(seconds, 2) * 1000


def test_who_interrupts_a_phrase_is_answered_and_the_phrase_is_kept_as_far_as_it_was_heard() -> None:
    home = house(look(9), finals=["hello", "stop"])

    async def scene() -> None:
        async with home.call() as call:
            await say(call)
            await call.until(lambda: call.is_audible)
            await call.play(0.3)
            call.say(voice(0.8))
            await call.until(lambda: len(home.entries("turn_end")) == 2)
            await call.play(8)  # the tool returns meanwhile
        assert home.entries("turn_end")[0]["interrupted"]

    play(scene)
    first, second = home.entries("turn_end")
    assert (first["response"], second["response"]) == ("One moment,", ANSWER)
    assert home.said == [PHRASE, ANSWER]


def test_nothing_is_said_into_the_callers_words() -> None:
    home = house(look(6), finals=["hello", ""])

    async def scene() -> None:
        async with home.call() as call:
            await say(call)
            await call.until(lambda: home.entries("tool_call"))
            await call.play(1.8)
            call.say(voice(0.4))  # shorter than an interruption
            await call.until(lambda: home.entries("resume"))
            assert not call.heard()
            await call.until(lambda: home.entries("turn_end"))

    play(scene)
    assert home.said == [PHRASE, f" {ANSWER}"]


# A sound -------------------------------------------------------------------------------------------------

FIRST, LENGTH = 20_000, 4_000  # the sound counts as the scripted voice does, elsewhere


def wav(rate: int = 8000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.arange(FIRST + 1, FIRST + 1 + LENGTH).astype("<i2"), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> Callable[..., House]:
    """A house whose calls fetch this file, after so many seconds."""

    def build(*replies: Any, file: bytes | Exception = wav(), after: float = 0.0, **more: Any) -> House:  # noqa: B008
        async def fetch(url: str) -> bytes:
            assert url == URL
            await asyncio.sleep(after)
            if isinstance(file, Exception):
                raise file
            return file

        def with_fetch(*args: Any, outside: Outside, **options: Any) -> AgentCall:
            return AgentCall(*args, outside=replace(outside, fetch=fetch), **options)

        monkeypatch.setattr(line, "Call", with_fetch)
        return house(*replies, toolFiller={"type": "audio", "url": URL}, **more)

    return build


def test_a_sound_is_played_round_and_round_until_the_tool_returns(sound: Callable[..., House]) -> None:
    home = sound(look(5))
    call = one_turn(home)
    *loops, answer = heard(call)
    began, ended = asked_at(home) + 2, asked_at(home) + 5
    assert loops[0].start / 8000 == pytest.approx(began, abs=0.021)
    assert [run.first for run in loops] == [FIRST] * len(loops)
    assert [run.length for run in loops[:-1]] == [LENGTH] * (len(loops) - 1)
    assert all(b.start == a.start + LENGTH for a, b in itertools.pairwise(loops))  # without a seam
    end = (loops[-1].start + loops[-1].length) / 8000
    assert ended <= end <= ended + 0.18
    assert (answer.first, answer.length) == (0, spoken(ANSWER))


def test_a_sound_is_no_part_of_the_answer(sound: Callable[..., House]) -> None:
    home = sound(look(5))
    call = one_turn(home)
    (entry,) = home.entries("turn_end")
    assert (entry["response"], entry["latency"]["tool_ms"]) == (ANSWER, 5000)
    assert_parts_add_up(home)
    assert home.said == [ANSWER]
    assert not call.received("killAudio")
    assert (call.media.stuck, call.media.false_marks) == (0, 0)


def test_little_of_a_sound_waits_on_the_far_side(sound: Callable[..., House]) -> None:
    home = sound(look(6))

    async def scene() -> None:
        async with home.call() as call:
            await say(call)
            await call.until(lambda: home.entries("tool_call"))
            await call.play(1.9)
            most = 0
            while not home.entries("tool_result"):
                await call.play(0.02)
                most = max(most, call.media.ahead)
            assert 0 < most <= 0.16 * 8000

    play(scene)


def test_a_sound_begins_when_the_words_before_it_were_heard_and_goes_on_behind_a_cough(
    sound: Callable[..., House],
) -> None:
    text = "Let me look."
    home = sound(look(8, text))

    async def scene() -> None:
        async with home.call() as call:
            await say(call)
            await call.until(lambda: home.entries("tool_call"))
            await call.play(4)
            call.say(voice(0.4))
            await call.until(lambda: home.entries("hold"))
            await call.play(0.2)
            assert not call.is_audible
            await call.until(lambda: home.entries("resume"))
            await call.play(0.1)
            assert call.is_audible
            await call.until(lambda: home.entries("turn_end"))
        first, *loops, answer = heard(call)
        assert (first.length, answer.length) == (spoken(text), spoken(f" {ANSWER}"))
        assert {run.first for run in loops if run.length == LENGTH} == {FIRST}

    play(scene)
    assert home.entries("turn_end")[0]["response"] == f"{text} {ANSWER}"


@pytest.mark.parametrize("text", ["", "Let me look."])
def test_who_speaks_over_a_sound_ends_it(text: str, sound: Callable[..., House]) -> None:
    home = sound(look(12, text), finals=["hello", "stop"])

    async def scene() -> None:
        async with home.call() as call:
            await say(call)
            await call.until(lambda: home.entries("tool_call"))
            await call.play(4)
            call.say(voice(0.8))
            await call.until(lambda: home.entries("hold"))
            held = call.now
            await call.until(lambda: ANSWER in [entry["response"] for entry in home.entries("turn_end")])
            await call.play(8)
        *loops, answer = (run for run in heard(call) if run.start / 8000 > 2.5)
        assert (loops[-1].start + loops[-1].length) / 8000 <= held + 0.18
        assert answer.length == spoken(ANSWER)

    play(scene)
    assert len(home.entries("user_interruption")) == (1 if text else 0)  # a sound alone is nothing to be interrupted


def test_a_sound_that_comes_late_is_played_from_then_on(sound: Callable[..., House]) -> None:
    call = one_turn(sound(look(6), after=4))
    assert heard(call)[0].start / 8000 == pytest.approx(4, abs=0.021)


@pytest.mark.parametrize("file", [b"no sound", b"", OSError("down")], ids=str)
def test_a_sound_that_cannot_be_had_costs_nothing(
    file: bytes | Exception, sound: Callable[..., House], caplog: pytest.LogCaptureFixture
) -> None:
    home = sound(look(5), file=file)
    call = one_turn(home)
    assert [run.length for run in heard(call)] == [spoken(ANSWER)]
    (warning,) = (record.message for record in caplog.records if record.name == "agentd.call.filler")
    assert warning.startswith("tool filler cannot be ")


def test_who_hangs_up_during_a_sound_leaves_nothing_behind(sound: Callable[..., House]) -> None:
    home = sound(look(15))

    async def scene() -> None:
        async with home.call() as call:
            await say(call)
            await call.until(lambda: call.is_audible)
            call.hang_up()
            await call.play(1)
        assert len(home.node.calls) == 0

    play(scene)
