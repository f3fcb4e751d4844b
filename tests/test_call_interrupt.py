"""Whole calls: who wants the floor, and who only listens (`bargeIn.strategy: interruptPrediction`)."""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests import virtual_time
from tests.jambonz import Call, quiet, voice
from tests.whole_call import House, agent, runs, spoken

TEXT = "This is the first sentence of a rather long story. Then comes another one. And here it ends, at last."
LENGTH = spoken(TEXT)
PREDICT: dict[str, Any] = {"bargeIn": {"strategy": "interruptPrediction"}, "noResponseTimeout": 0}


def house_of(said: Any, *, partials: bool = True, tts: Any = {}, **verb: Any) -> House:  # noqa: B006
    """The caller first says hello, then ``said`` over the answer."""
    finals = ["hello", *(said if isinstance(said, list) else [said])]
    return House(agent(finals, [TEXT, "Yes."], stt={"partials": partials}, tts=tts, **{**PREDICT, **verb}))


def echoing(call: Call, gain: float = 0.25, delay: int = 5) -> None:
    """The far side hears itself: the caller's audio has ours in it, ``delay`` frames later."""
    line = deque([bytes(320)] * delay)

    def mix(caller: bytes, played: bytes) -> bytes:
        line.append(played)
        echo = np.frombuffer(line.popleft(), "<i2") * gain
        return bytes(np.clip(np.frombuffer(caller, "<i2") + echo, -32768, 32767).astype("<i2"))

    call._mix = mix  # type: ignore[method-assign]


def over_the_answer(
    house: House, seconds: float = 0.6, turns: int = 1, also: Callable[[Call], None] = lambda call: None
) -> bytes:
    """What was played in a call whose caller speaks so long over the answer."""

    async def main() -> bytes:
        async with house.call() as call:
            also(call)
            await house.speaking(call, 0.8)
            call.say(voice(seconds))
            await call.until(lambda: len(house.entries("turn_end")) == turns)
            await call.play(2.0)
        return bytes(call.media.recording)

    return virtual_time.run(main())


@pytest.mark.parametrize("partials", [True, False])
@pytest.mark.parametrize("said", ["uh-huh", "Okay.", "yeah right", "mhm", ""])
def test_a_listener_does_not_interrupt(said: str, partials: bool) -> None:
    house = house_of(said, partials=partials)
    heard = runs(over_the_answer(house))
    assert [(run.first, run.length) for run in heard] == [(0, LENGTH)]  # not even held
    (entry,) = house.entries("turn_end")
    assert (entry["response"], entry["interrupted"]) == (TEXT, False)
    assert [e["transcript"] for e in house.entries("remark")] == ([said] if said else [])
    assert house.entries("user_interruption") == []


@pytest.mark.parametrize("partials", [True, False])
@pytest.mark.parametrize("said", ["stop", "Wait a moment.", "What time is it?", "no I meant the other one"])
def test_who_wants_the_floor_gets_it(said: str, partials: bool) -> None:
    house = house_of(said, partials=partials)
    over_the_answer(house, turns=2)
    cut, answer = house.entries("turn_end")
    assert cut["interrupted"] and TEXT.startswith(cut["response"]) and cut["response"] != TEXT
    assert (answer["transcript"], answer["response"]) == (said, "Yes.")
    assert len(house.entries("user_interruption")) == 1
    assert house.entries("remark") == []


def test_words_decide_before_the_speech_is_half_a_second_long() -> None:
    house = house_of("stop")

    async def main() -> None:
        async with house.call() as call:
            await house.speaking(call, 0.8)
            began = call.now
            call.say(voice(0.6))
            assert await call.until(lambda: call.received("killAudio")) - began <= 0.12

    virtual_time.run(main())


def test_words_that_come_when_the_voice_is_over_end_the_turn_as_soon_as_ever() -> None:
    house = house_of("stop", partials=False)

    async def main() -> None:
        async with house.call() as call:
            await house.speaking(call, 0.8)
            call.say(voice(0.6))
            await call.until(lambda: not call.is_speaking)
            stopped = call.now
            assert await call.until(lambda: len(house.entries("user_transcript")) == 2) - stopped <= 0.52

    virtual_time.run(main())


def test_a_long_speech_without_words_interrupts_and_what_was_cut_is_resumed() -> None:
    house = house_of([None])
    heard = runs(over_the_answer(house, seconds=1.7))
    assert len(house.entries("user_interruption")) == 1
    assert sum(run.length for run in heard) == LENGTH
    assert house.entries("turn_end")[0]["response"] == TEXT


def test_the_threshold_says_how_much_it_takes() -> None:
    def is_cut(threshold: float) -> bool:
        barge_in = {"strategy": "interruptPrediction", "threshold": threshold}
        house = house_of("tomorrow morning", bargeIn=barge_in)
        over_the_answer(house)
        return bool(house.entries("user_interruption"))

    assert [is_cut(threshold) for threshold in (0.2, 0.9)] == [True, False]


def test_the_words_are_read_in_the_callers_language() -> None:
    stopped = [{"after": 0.05, "final": "genau", "language": "de"}]
    house = house_of([stopped], partials=False)
    over_the_answer(house)
    assert house.entries("user_interruption") == []
    assert [entry["transcript"] for entry in house.entries("remark")] == ["genau"]


def test_before_the_answer_is_heard_more_words_still_join_the_turn() -> None:
    house = House(agent(["hello", "my friend"], ["Never.", "Yes."], llm={"first": 1.5}, **PREDICT))

    async def main() -> None:
        async with house.call() as call:
            call.say(voice(0.6) + quiet(1.0) + voice(0.6))
            await call.until(lambda: house.entries("turn_end"))

    virtual_time.run(main())
    (entry,) = house.entries("turn_end")
    assert (entry["transcript"], entry["response"]) == ("hello my friend", "Yes.")


def test_the_late_final_of_words_that_are_being_answered_is_no_interruption() -> None:
    house = House(agent(["I want the other one"], [TEXT], stt={"partials": True, "delay": 2.5}, **PREDICT))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)

    virtual_time.run(main())
    assert [entry["response"] for entry in house.entries("turn_end")] == [TEXT]
    assert house.entries("user_interruption") == []


def test_without_barge_in_nothing_is_predicted() -> None:
    house = house_of("stop", bargeIn={"enable": False, "strategy": "interruptPrediction"})
    over_the_answer(house, turns=2)
    first, second = house.entries("turn_end")
    assert (first["response"], second["transcript"]) == (TEXT, "stop")


@pytest.mark.parametrize("delay", [2, 5, 12])
@pytest.mark.parametrize("words", [True, False])
def test_our_own_echo_neither_interrupts_nor_is_answered(words: bool, delay: int) -> None:
    said: list[Any] = ["This is the first", "sentence of a rather", "long story."] * 9 if words else [None] * 30
    house = house_of(said, tts={"syllables": True})
    recording = over_the_answer(house, seconds=0.0, also=lambda call: echoing(call, delay=delay))
    assert len(house.entries("state")) > 0
    assert house.entries("user_interruption") == []
    assert [entry["response"] for entry in house.entries("turn_end")] == [TEXT]
    assert house.entries("remark") == []
    assert len(np.flatnonzero(np.frombuffer(recording, "<i2"))) == pytest.approx(LENGTH, rel=0.02)


def test_a_caller_who_speaks_over_the_echo_is_heard() -> None:
    house = house_of("stop", tts={"syllables": True})
    over_the_answer(house, turns=2, also=lambda call: echoing(call, gain=0.06))
    cut, answer = house.entries("turn_end")
    assert cut["interrupted"] and answer["transcript"] == "stop"
