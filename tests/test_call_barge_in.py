"""Whole calls: the caller speaks over the agent."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from agentd.prebuilt import PREBUILT
from tests import virtual_time
from tests.jambonz import Call, voice
from tests.whole_call import House, Run, agent, runs, say, spoken

TEXT = "This is the first sentence of it. Then comes another one. And here it ends."
LENGTH = spoken(TEXT)  # 3.75 s


def pieces(recording: bytes | bytearray) -> list[tuple[int, int]]:
    return [(run.first, run.length) for run in runs(recording)]


def is_seamless(heard: list[Run]) -> bool:
    """Does each stretch go on where the one before it ended?"""
    return [run.first for run in heard] == [0, *(run.first + run.length for run in heard[:-1])]


async def interrupt(call: Call, seconds: float = 1.0) -> None:
    call.say(voice(seconds, call.sample_rate))
    await call.until(lambda: call.received("killAudio"))


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
@pytest.mark.parametrize(("frames", "odd"), [(1, False), (1, True), (2, False), (3, True), (5, False)])
def test_kill_audio_leaves_at_most_40_ms_after_the_500th_millisecond_of_speech(
    rate: int, frames: int, odd: bool
) -> None:
    house = House(agent(["hello", "stop"], [TEXT]))

    async def main() -> None:
        async with house.call(sample_rate=rate, frames_per_message=frames, odd_bytes=odd, playback_rate=8000) as call:
            arrivals: list[tuple[int, float]] = []  # (bytes so far, when)
            send = call.line.send

            def count(message: str | bytes) -> None:
                if isinstance(message, bytes):
                    arrivals.append(((arrivals[-1][0] if arrivals else 0) + len(message), call.now))
                send(message)

            call.line.send = count  # type: ignore[method-assign]
            await house.speaking(call, 1.0)
            spoken_from = round(call.now / 0.02) * rate // 50 * 2
            await interrupt(call)
            heard_at = next(at for size, at in arrivals if size >= spoken_from + rate)  # 500 ms are ``rate`` bytes
            assert heard_at <= call.now <= heard_at + 0.04

    virtual_time.run(main())


@pytest.mark.parametrize("seconds", [0.06, 0.1, 0.2, 0.3, 0.48])
def test_a_cough_holds_and_resumes_without_losing_or_repeating_a_sample(seconds: float) -> None:
    house = House(agent(["hello"], [TEXT]))

    async def main() -> None:
        async with house.call() as call:
            await house.speaking(call, 0.8)
            call.say(voice(seconds))
            await call.until(lambda: house.entries("turn_end"))
        heard = runs(call.media.recording)
        assert is_seamless(heard)
        assert sum(run.length for run in heard) == LENGTH
        assert len(heard) == 2  # it really was held
        assert not call.received("killAudio")
        assert [len(house.entries(name)) for name in ("hold", "resume", "user_interruption")] == [1, 1, 0]
        assert [(entry["response"], entry["interrupted"]) for entry in house.entries("turn_end")] == [(TEXT, False)]

    virtual_time.run(main())


@pytest.mark.parametrize("offset", range(0, 1000, 20))
def test_a_cough_at_any_moment_around_the_beginning_of_a_reply_loses_nothing(offset: int) -> None:
    text = "I am here."
    house = House(agent(["hello"], [text, "Never said."]))

    async def main() -> None:
        async with house.call() as call:
            await say(call, 0.6)
            await call.play(0.5 + offset / 1000)
            call.say(voice(0.3))
            await call.until(lambda: house.entries("turn_end"))
            await call.play(2.0)
        heard = runs(call.media.recording)
        assert is_seamless(heard)
        assert sum(run.length for run in heard) == spoken(text)
        assert not call.received("killAudio")
        assert [(entry["response"], entry["interrupted"]) for entry in house.entries("turn_end")] == [(text, False)]

    virtual_time.run(main())


@pytest.mark.parametrize("before", range(0, 800, 20))
def test_a_cough_at_any_moment_around_the_end_of_a_reply_loses_nothing(before: int) -> None:
    text = "I am here, still."
    house = House(agent(["hello"], [text, "Never said."]))

    async def main() -> None:
        async with house.call() as call:
            await house.speaking(call, len(text) * 0.05 + 0.2 - before / 1000)
            call.say(voice(0.3))
            await call.until(lambda: house.entries("turn_end"))
            await call.play(2.0)
        heard = runs(call.media.recording)
        assert is_seamless(heard)
        assert sum(run.length for run in heard) == spoken(text)
        assert not call.received("killAudio")
        assert [(entry["response"], entry["interrupted"]) for entry in house.entries("turn_end")] == [(text, False)]

    virtual_time.run(main())


def test_an_answer_that_arrives_while_the_caller_speaks_waits_for_the_end() -> None:
    house = House(agent(["hello"], ["I am here."], llm={"first": 0.5}))

    async def main() -> None:
        async with house.call() as call:
            await say(call)
            await call.until(lambda: house.entries("user_transcript"))
            await call.play(0.3)
            call.say(voice(0.4))
            await call.until(lambda: call.is_audible)
            assert house.entries("resume")
            await call.until(lambda: house.entries("turn_end"))
        assert pieces(call.media.recording) == [(0, spoken("I am here."))]

    virtual_time.run(main())


def test_two_coughs_lose_nothing() -> None:
    house = House(agent(["hello"], [TEXT]))

    async def main() -> None:
        async with house.call() as call:
            await house.speaking(call, 0.6)
            await say(call, 0.2)
            await call.play(0.5)
            await say(call, 0.2)
            await call.until(lambda: house.entries("turn_end"))
        heard = runs(call.media.recording)
        assert (len(heard), sum(run.length for run in heard), is_seamless(heard)) == (3, LENGTH, True)
        assert house.entries("turn_end")[0]["response"] == TEXT

    virtual_time.run(main())


@pytest.mark.parametrize("min_speech", [0.06, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("into", [0.1, 0.51, 1.33, 3.3])
def test_an_interruption_without_words_resumes_at_the_first_unheard_sample(min_speech: float, into: float) -> None:
    house = House(agent(["hello", ""], [TEXT], bargeIn={"minSpeechDuration": min_speech}))

    async def main() -> None:
        async with house.call() as call:
            await house.speaking(call, into)
            await interrupt(call, 0.8)
            await call.until(lambda: house.entries("turn_end"))
        heard = runs(call.media.recording)
        assert is_seamless(heard)
        assert sum(run.length for run in heard) == LENGTH
        assert len(call.received("killAudio")) == 1
        assert house.entries("turn_end")[0]["response"] == TEXT
        assert call.media.stuck == 0

    virtual_time.run(main())


def test_an_interruption_without_words_ends_a_sticky_agents_reply() -> None:
    house = House(agent(["hello", ""], [TEXT], bargeIn={"sticky": True}))

    async def main() -> None:
        async with house.call() as call:
            await house.speaking(call, 1.0)
            await interrupt(call)
            await call.until(lambda: house.entries("turn_end"))
            await call.play(3.0)
        assert len(runs(call.media.recording)) == 1
        assert [entry["interrupted"] for entry in house.entries("turn_end")] == [True]

    virtual_time.run(main())


def test_an_agent_that_cannot_be_interrupted_answers_afterwards() -> None:
    house = House(agent(["hello", "and you"], [TEXT, "Fine."], bargeIn={"enable": False}))

    async def main() -> None:
        async with house.call() as call:
            await house.speaking(call, 0.6)
            await say(call, 1.0)
            await call.until(lambda: len(house.entries("turn_end")) == 2)
        assert pieces(call.media.recording) == [(0, LENGTH), (0, spoken("Fine."))]
        assert not call.received("killAudio")
        assert [(entry["transcript"], entry["response"]) for entry in house.entries("turn_end")] == [
            ("hello", TEXT),
            ("and you", "Fine."),
        ]

    virtual_time.run(main())


@pytest.mark.parametrize("words", [True, False])
@pytest.mark.parametrize("min_speech", [0.1, 0.5])
@pytest.mark.parametrize("into", [0.02, 0.2, 0.46, 0.9, 1.7, 2.2, 3.0])
def test_the_heard_text_is_the_words_whose_audio_was_played(words: bool, min_speech: float, into: float) -> None:
    barge_in = {"minSpeechDuration": min_speech}
    house = House(agent(["hello", "stop"], [TEXT, "Yes."], tts={"words": words}, bargeIn=barge_in))

    async def main() -> None:
        async with house.call() as call:
            await house.speaking(call, into)
            await interrupt(call)
            await call.until(lambda: len(house.entries("turn_end")) == 2)
        first, second = runs(call.media.recording)
        interrupted, answered = house.entries("turn_end")
        characters = first.length / 8000 / 0.05
        assert interrupted["interrupted"]
        assert interrupted["response"] == (said_by_words if words else said_evenly)(characters)
        assert (answered["response"], second.first, second.length) == ("Yes.", 0, spoken("Yes."))
        assert house.prompts[-1].messages[-2].content == (interrupted["response"] or "hello")

    virtual_time.run(main())


def said_by_words(characters: float) -> str:
    """A word counts when half of the time from its beginning to the next word's was played."""
    starts = [0] + [at + 1 for at, char in enumerate(TEXT) if char == " "] + [len(TEXT)]
    ends = [end for begin, end in pairwise(starts) if characters >= (begin + end) / 2]
    return TEXT[: max(ends, default=0)].rstrip()


def said_evenly(characters: float) -> str:
    """Whole words of the part of the text that was played."""
    return TEXT[: max(TEXT.rfind(" ", 0, int(characters) + 1), 0)] if characters < len(TEXT) else TEXT


@pytest.mark.parametrize("first", [0.0, 0.1])
def test_kill_audio_is_followed_by_a_pause_and_the_next_reply_is_not_wiped(first: float) -> None:
    """The caller goes on just as the answer's first audio leaves: it is discarded unheard, the next one comes fast."""
    house = House(
        agent(["hello", "stop"], [TEXT, "Yes, and this is all of it."], llm={"first": 0.0}, tts={"first": first})
    )
    sent: list[tuple[float, str]] = []

    async def main() -> None:
        async with house.call() as call:
            receive = call.on_message

            def note(message: str | bytes) -> None:
                sent.append((call.now, "audio" if isinstance(message, bytes) else message))
                receive(message)

            call.on_message = note  # type: ignore[method-assign]
            await house.speaking(call, 1.0)
            await interrupt(call)
            await call.until(lambda: len(house.entries("turn_end")) == 2)
        killed = next(at for at, what in sent if "killAudio" in what)
        assert min(at for at, what in sent if what == "audio" and at >= killed) >= killed + 0.08
        assert pieces(call.media.recording)[-1] == (0, spoken("Yes, and this is all of it."))

    virtual_time.run(main())


STATES = ["greeting", "thinking", "speaking", "held", "interrupted", "endpointing", "tool running", "listening"]


@pytest.mark.parametrize("how", ["hang_up", "drop", "announce_shutdown"])
@pytest.mark.parametrize("state", STATES)
def test_who_hangs_up_leaves_nothing_behind(state: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(arguments: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setitem(PREBUILT, "calculator", replace(PREBUILT["calculator"], execute=never))
    call_it = {"tools": [{"name": "calculator", "arguments": {"expression": "1+1"}}]}
    replies: list[Any] = [call_it] if state == "tool running" else [TEXT]
    house = House(agent(["hello", "stop"], replies, greeting=state == "greeting", tools=["calculator"]))

    async def main() -> None:
        async with house.call() as call:
            match state:
                case "greeting":
                    await call.until(lambda: call.is_audible)
                case "thinking":
                    await call.until(lambda: house.logs)
                    await say(call)
                    await call.until(lambda: house.entries("user_transcript"))
                case "speaking":
                    await house.speaking(call)
                case "held":
                    await house.speaking(call)
                    call.say(voice(1.0))
                    await call.until(lambda: house.entries("hold"))
                case "interrupted":
                    await house.speaking(call)
                    await interrupt(call)
                case "endpointing":
                    await house.speaking(call)
                    await say(call, 0.7)
                    await call.play(0.35)
                case "tool running":
                    await say(call)
                    await call.until(lambda: house.entries("tool_call"))
                case _:
                    await house.turn(call)
            getattr(call, how)()
            await call.play(1.0)
        assert len(house.entries("turn_end")) == 1
        assert [entry["completion_reason"] for entry in house.entries("call_ended")] == ["disconnect from remote end"]
        assert house.logs[-1].entries[-1]["type"] == "call_ended"
        assert len(house.node.calls) == 0
        expected = 1 if state in ("interrupted", "endpointing") else 0
        assert len(house.entries("user_interruption")) == expected

    virtual_time.run(main())
